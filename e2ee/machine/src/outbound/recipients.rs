//! Who gets the key of a room, and who is told that they do not.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId};

use crate::devices::{Device, LocalTrust};
use crate::machine::Machine;

/// Who is to read what is sent to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The users who are to read it: those joined, and those invited where the history is visible to them.
    pub members: BTreeSet<OwnedUserId>,
    /// The room's `history_visibility`; when it changes, so does the session.
    pub history_visibility: String,
    /// Whether only verified devices get the key.
    pub only_verified: bool,
}

/// Why a device gets no key, in the spec's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Blacklisted,
    Unverified,
}

impl Refusal {
    pub(crate) fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::Blacklisted => ("m.blacklisted", "The sender has blocked you."),
            Self::Unverified => ("m.unverified", "The sender does not share keys with unverified devices."),
        }
    }
}

impl Machine {
    /// The devices that get the key, and those that are refused it.
    pub(crate) fn recipients(&self, audience: &Audience) -> (Vec<Device>, Vec<(Device, Refusal)>) {
        let own = [&self.user_id].into_iter().filter(|own| !audience.members.contains(*own));
        let (mut recipients, mut refused) = (Vec::new(), Vec::new());
        for user_id in audience.members.iter().chain(own) {
            for device in self.users.devices(user_id) {
                let is_this = *user_id == self.user_id && device.device_id == self.device_id;
                if is_this || !device.can_megolm() {
                    continue;
                }
                match self.refusal(device, audience) {
                    None => recipients.push(device.clone()),
                    Some(refusal) => refused.push((device.clone(), refusal)),
                }
            }
        }
        (recipients, refused)
    }

    fn refusal(&self, device: &Device, audience: &Audience) -> Option<Refusal> {
        if device.local_trust == LocalTrust::Blacklisted {
            return Some(Refusal::Blacklisted);
        }
        (audience.only_verified && !self.is_verified(device)).then_some(Refusal::Unverified)
    }
}
