//! Verifying another device, or another user, by comparing emoji.
//! <https://spec.matrix.org/v1.19/client-server-api/#key-verification-framework>
//!
//! Flows live in memory: one that a restart interrupts is cancelled by its other side in time.

mod emoji;
mod flow;
mod messages;
mod receive;
mod sas;

pub use emoji::Emoji;

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::notice::Notice;
use crate::store::Held;

use flow::{Flow, Step};

/// How long a verification may take, and how long a request is good: the spec's ten minutes.
const TIMEOUT_MS: u64 = 10 * 60 * 1000;

/// How long after its beginning a flow that ended can still be looked at.
const FORGOTTEN_MS: u64 = 2 * TIMEOUT_MS;

/// How far a request's time may lie in the future.
const FUTURE_MAX_MS: u64 = 5 * 60 * 1000;

/// Most flows at a time: requests come from anybody.
const FLOWS_MAX: usize = 100;

/// Names a flow: who is at the other end, and the transaction id, or the id of the event that began it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    /// The other user.
    pub user_id: OwnedUserId,
    /// The transaction id, or the event id of the request in a room.
    pub id: String,
}

/// Where a verification is.
#[expect(clippy::large_enum_variant, reason = "it is looked at and dropped")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// We asked, and wait for an answer.
    Asked,
    /// The other asked: accept or cancel.
    Offered,
    /// Both want to: either may start.
    Ready,
    /// Keys are being exchanged.
    Exchanging,
    /// Compare with what the other sees, then confirm or say that it differs.
    Compare {
        /// Seven emoji.
        emoji: [Emoji; 7],
        /// The same as three numbers.
        decimals: (u16, u16, u16),
        /// Whether our user has confirmed, and the other's confirmation is waited for.
        is_confirmed: bool,
    },
    /// Both confirmed: the other is verified.
    Done,
    /// It ended without.
    Cancelled {
        /// The spec's code.
        code: String,
        /// Whether this device ended it.
        by_us: bool,
    },
}

/// A verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Which.
    pub flow_id: FlowId,
    /// The other device, once it is known.
    pub device_id: Option<OwnedDeviceId>,
    /// The room it takes place in; otherwise between devices.
    pub room_id: Option<OwnedRoomId>,
    /// Where it is.
    pub stage: Stage,
}

/// The flows.
#[derive(Default)]
pub(crate) struct Verifications {
    flows: BTreeMap<FlowId, Flow>,
}

impl Machine {
    /// A verification, as long as it is remembered.
    pub fn verification(&self, flow_id: &FlowId) -> Option<Verification> {
        let flow = self.verifications.flows.get(flow_id)?;
        Some(Verification {
            flow_id: flow_id.clone(),
            device_id: flow.device_id.clone(),
            room_id: flow.room_id.clone(),
            stage: flow.stage(),
        })
    }

    /// Asks the given devices of a user (with none given: all that are known) to verify each other. The first that
    /// accepts gets the flow.
    pub fn request_verification(&mut self, user_id: &UserId, devices: &[OwnedDeviceId]) -> Option<Held<FlowId>> {
        let known = self.users.devices(user_id).map(|device| device.device_id.clone());
        let is_other = |id: &OwnedDeviceId| *user_id != *self.user_id || *id != self.device_id;
        let asked: Vec<_> = known.filter(|id| is_other(id) && (devices.is_empty() || devices.contains(id))).collect();
        if asked.is_empty() {
            return None;
        }
        let now = self.world.clock.now_ms();
        let flow_id = FlowId { user_id: user_id.to_owned(), id: self.world.random_string(32) };
        let mut flow = Flow::new(flow_id.clone(), None, Step::Asked, now);
        flow.asked = asked;
        let content = messages::request(&self.device_id, now);
        self.send_verification(&flow, "m.key.verification.request", content);
        self.verifications.flows.insert(flow_id.clone(), flow);
        Some(self.hold(flow_id))
    }

    /// Asks a user in a room to verify each other. The flow has an id only when the request was sent: a notice tells.
    pub fn request_verification_in_room(&mut self, room_id: &RoomId, user_id: &UserId) -> Held<()> {
        self.track(&user_id.to_owned());
        let now = self.world.clock.now_ms();
        let transaction_id = self.world.random_string(32);
        let flow_id = FlowId { user_id: user_id.to_owned(), id: transaction_id.clone() };
        let flow = Flow::new(flow_id.clone(), Some(room_id.to_owned()), Step::Asked, now);
        let mut content = messages::request(&self.device_id, now);
        content.remove("timestamp");
        content.insert("msgtype".into(), json!("m.key.verification.request"));
        content.insert("to".into(), json!(user_id));
        content.insert("body".into(), Value::String(format!("{} asks you to verify each other.", self.user_id)));
        self.ask_room_request(room_id, &transaction_id, content);
        self.verifications.flows.insert(flow_id, flow);
        self.hold(())
    }

    /// Accepts what the other offered.
    pub fn accept_verification(&mut self, flow_id: &FlowId) -> Held<()> {
        self.drive(flow_id, Flow::accept);
        self.hold(())
    }

    /// Starts the exchange of keys, when the flow is ready.
    pub fn start_sas(&mut self, flow_id: &FlowId) -> Held<()> {
        self.drive(flow_id, Flow::start);
        self.hold(())
    }

    /// The user says that both devices show the same.
    pub fn confirm_sas(&mut self, flow_id: &FlowId) -> Held<()> {
        self.drive(flow_id, Flow::confirm);
        self.hold(())
    }

    /// The user says that the devices show different things.
    pub fn mismatch_sas(&mut self, flow_id: &FlowId) -> Held<()> {
        self.cancel(flow_id, "m.mismatched_sas");
        self.hold(())
    }

    /// The user does not want to go on.
    pub fn cancel_verification(&mut self, flow_id: &FlowId) -> Held<()> {
        self.cancel(flow_id, "m.user");
        self.hold(())
    }

    /// Takes for verified, by other means than a flow, that a device has the keys that we know.
    pub fn verify_device(&mut self, user_id: &UserId, device_id: &ruma::DeviceId) -> Held<bool> {
        let is_known = self.set_trust(user_id, device_id, crate::LocalTrust::Verified);
        self.hold(is_known)
    }

    /// Gives a device no keys any more, or again. Sessions that it can read are changed when the rooms are next prepared.
    pub fn set_blacklisted(
        &mut self,
        user_id: &UserId,
        device_id: &ruma::DeviceId,
        is_blacklisted: bool,
    ) -> Held<bool> {
        let trust = if is_blacklisted { crate::LocalTrust::Blacklisted } else { crate::LocalTrust::Unset };
        let is_known = self.set_trust(user_id, device_id, trust);
        self.hold(is_known)
    }

    /// Ends flows that took too long, and forgets those that ended long ago.
    pub(crate) fn expire_verifications(&mut self) {
        let now = self.world.clock.now_ms();
        self.verifications
            .flows
            .retain(|_, flow| !flow.has_ended() || now.saturating_sub(flow.begun_at_ms) <= FORGOTTEN_MS);
        let is_late = |flow: &Flow| !flow.has_ended() && now.saturating_sub(flow.begun_at_ms) > TIMEOUT_MS;
        let flows = self.verifications.flows.iter();
        let late: Vec<_> = flows.filter(|(_, flow)| is_late(flow)).map(|(flow_id, _)| flow_id.clone()).collect();
        for flow_id in late {
            self.cancel(&flow_id, "m.timeout");
        }
    }

    fn notice_flow(&mut self, flow_id: &FlowId) {
        self.notices.push(Notice::Verification { flow_id: flow_id.clone() });
    }
}
