//! Getting a room's key to those who are to read it: find their devices, have sessions with them, send it.

use std::collections::BTreeSet;

use ruma::RoomId;
use serde_json::json;

use super::recipients::Refusal;
use super::{Audience, EncryptError, Share, Shared, is_shared};
use crate::account::MEGOLM;
use crate::devices::Device;
use crate::machine::Machine;
use crate::request::{Place, Purpose};
use crate::signed_json::Object;
use crate::store::{Held, Table};

/// Whether an event can be encrypted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everybody who can have the key has it.
    Ready,
    /// Requests are open: answer what [`Machine::requests`] gives, then ask again.
    Waiting,
}

impl Share {
    fn shared(&self, device: &Device) -> Option<&Shared> {
        self.shared.get(&device.user_id)?.get(&device.device_id)
    }

    /// Every device that has the key, or may have it.
    fn holders(&self) -> impl Iterator<Item = (Place, &Shared)> {
        let all = self.shared.iter().chain(&self.sent);
        all.flat_map(|(user_id, devices)| {
            devices.iter().map(move |(device_id, shared)| ((user_id.clone(), device_id.clone()), shared))
        })
    }
}

impl Machine {
    /// Takes the next step to get a room's key to its audience.
    pub fn prepare(&mut self, audience: &Audience) -> Result<Held<Readiness>, EncryptError> {
        let readiness = self.prepare_session(audience)?;
        Ok(self.hold(readiness))
    }

    pub(crate) fn prepare_session(&mut self, audience: &Audience) -> Result<Readiness, EncryptError> {
        let settings = self.room_settings(&audience.room_id).ok_or(EncryptError::NotEncrypted)?;
        if settings.algorithm != MEGOLM {
            return Err(EncryptError::UnknownAlgorithm);
        }
        if !self.know_devices(audience) {
            return Ok(Readiness::Waiting);
        }
        let (recipients, refused) = self.recipients(audience);
        if self.is_session_worn(audience) || self.has_left(audience, &recipients) {
            self.drop_session(&audience.room_id);
        }
        if !self.outbound.sessions.contains_key(&audience.room_id) {
            self.make_session(audience);
        }
        self.refuse(&audience.room_id, &refused);
        let missing = self.without_key(&audience.room_id, &recipients);
        let without_session = |device: &&Device| !self.olm.has_session(device.curve25519);
        let unreachable: Vec<Device> = missing.iter().filter(without_session).cloned().collect();
        if !unreachable.is_empty() && self.claim(&unreachable) {
            return Ok(Readiness::Waiting);
        }
        self.refuse_unreachable(&unreachable);
        self.send_key(&audience.room_id, &missing);
        let is_sharing =
            |purpose: &Purpose| matches!(purpose, Purpose::Share { room_id, .. } if *room_id == audience.room_id);
        Ok(if self.is_pending(is_sharing) { Readiness::Waiting } else { Readiness::Ready })
    }

    /// Whether the devices of everybody are known as far as they can be; if not, they are asked for.
    fn know_devices(&mut self, audience: &Audience) -> bool {
        for user_id in &audience.members {
            self.track(user_id);
        }
        let own = self.user_id.clone();
        audience.members.iter().chain([&own]).all(|user_id| self.is_user_settled(user_id))
    }

    /// Whether somebody has the key who is not to read what comes.
    fn has_left(&self, audience: &Audience, recipients: &[Device]) -> bool {
        let Some(share) = self.outbound.shares.get(&audience.room_id) else { return false };
        let allowed: BTreeSet<_> = recipients
            .iter()
            .map(|device| (&device.user_id, &device.device_id, device.curve25519.to_bytes()))
            .collect();
        let mut holders = share.holders();
        holders.any(|((user_id, device_id), shared)| {
            !allowed.contains(&(&user_id, &device_id, shared.device_key.to_bytes()))
        })
    }

    /// The recipients that have no key, and to which none is on its way.
    fn without_key(&self, room_id: &RoomId, recipients: &[Device]) -> Vec<Device> {
        let Some(share) = self.outbound.shares.get(room_id) else { return Vec::new() };
        let mut under_way = BTreeSet::new();
        for purpose in self.pending.values() {
            if let Purpose::Share { room_id: other, recipients, .. } = purpose
                && other == room_id
            {
                under_way.extend(recipients.iter());
            }
        }
        let is_missing = |device: &&Device| {
            share.shared(device).is_none() && !under_way.contains(&(device.user_id.clone(), device.device_id.clone()))
        };
        recipients.iter().filter(is_missing).cloned().collect()
    }

    fn send_key(&mut self, room_id: &RoomId, devices: &[Device]) {
        let Some(outbound) = self.outbound.sessions.get(room_id) else { return };
        let (session_id, index) = (outbound.session.session_id(), outbound.session.message_index());
        let key = json!({
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session_id,
            "session_key": outbound.session.session_key().to_base64(),
            "chain_index": index,
            "shared_history": is_shared(&outbound.history_visibility),
        });
        let serde_json::Value::Object(key) = key else { return };
        let mut messages = Vec::new();
        for device in devices {
            let Some(encrypted) = self.encrypt_for_device(device, "m.room_key", &key) else { continue };
            let place = (device.user_id.clone(), device.device_id.clone());
            let shared = Shared { device_key: device.curve25519, index };
            let share = self.outbound.shares.entry(room_id.to_owned()).or_default();
            // Noted before it is sent: should the process die in between, the device counts as one that has the key.
            share.sent.entry(place.0.clone()).or_default().insert(place.1.clone(), shared);
            messages.push((place, encrypted));
        }
        if messages.is_empty() {
            return;
        }
        self.touch(Table::Shares, room_id.as_str());
        let purpose =
            |recipients| Purpose::Share { room_id: room_id.to_owned(), session_id: session_id.clone(), recipients };
        self.send_to_devices("m.room.encrypted", &messages, purpose);
    }

    /// The server took a room's key for these devices.
    pub(crate) fn receive_shared(&mut self, room_id: &RoomId, session_id: &str, recipients: &BTreeSet<Place>) {
        let is_current =
            self.outbound.sessions.get(room_id).is_some_and(|known| known.session.session_id() == session_id);
        let Some(share) = self.outbound.shares.get_mut(room_id).filter(|_| is_current) else { return };
        for (user_id, device_id) in recipients {
            if let Some(shared) = share.sent.get_mut(user_id).and_then(|devices| devices.remove(device_id)) {
                share.shared.entry(user_id.clone()).or_default().insert(device_id.clone(), shared);
            }
        }
        share.sent.retain(|_, devices| !devices.is_empty());
        self.touch(Table::Shares, room_id.as_str());
    }

    /// Tells devices once for each session why they get no key.
    fn refuse(&mut self, room_id: &RoomId, refused: &[(Device, Refusal)]) {
        let Some(outbound) = self.outbound.sessions.get(room_id) else { return };
        let session_id = outbound.session.session_id();
        let mut messages = Vec::new();
        for (device, refusal) in refused {
            if self.note_refusal(room_id, device) {
                let mut content = self.withheld_content(refusal.code());
                content.insert("room_id".into(), json!(room_id));
                content.insert("session_id".into(), json!(session_id));
                messages.push(((device.user_id.clone(), device.device_id.clone()), content));
            }
        }
        self.send_to_devices("m.room_key.withheld", &messages, |_| Purpose::ToDevice);
    }

    /// Whether a device was not told yet that it gets no key of the room's session.
    fn note_refusal(&mut self, room_id: &RoomId, device: &Device) -> bool {
        let share = self.outbound.shares.entry(room_id.to_owned()).or_default();
        let is_new = share.withheld.entry(device.user_id.clone()).or_default().insert(device.device_id.clone());
        if is_new {
            self.touch(Table::Shares, room_id.as_str());
        }
        is_new
    }

    /// Tells devices with which no session can be made that they miss keys; once, until there is a session.
    fn refuse_unreachable(&mut self, devices: &[Device]) {
        let mut messages = Vec::new();
        for device in devices {
            if self.olm.note_unreachable(device) {
                let content = self.withheld_content(("m.no_olm", "No one-time key of the device is to be had."));
                messages.push(((device.user_id.clone(), device.device_id.clone()), content));
            }
        }
        self.send_to_devices("m.room_key.withheld", &messages, |_| Purpose::ToDevice);
    }

    fn withheld_content(&self, (code, reason): (&str, &str)) -> Object {
        let mut content = Object::new();
        content.insert("algorithm".into(), json!(MEGOLM));
        content.insert("code".into(), json!(code));
        content.insert("reason".into(), json!(reason));
        content.insert("sender_key".into(), json!(self.curve25519_key()));
        content
    }
}
