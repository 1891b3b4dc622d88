//! How verifications meet the machine: messages come and go, and what was verified is believed.

use ruma::{EventId, OwnedDeviceId, RoomId, TransactionId, UserId};
use serde_json::Value;

use super::flow::{Flow, Outcome, Parties, Step};
use super::messages;
use super::sas::Keys;
use super::{FLOWS_MAX, FUTURE_MAX_MS, FlowId, TIMEOUT_MS};
use crate::devices::LocalTrust;
use crate::machine::Machine;
use crate::request::{Place, Purpose, RequestBody, RoomEvent};
use crate::signed_json::{Object, text, text_in};
use crate::store::Held;

/// Messages that may not be answered with a cancellation: that would go on without end, or they begin something.
const NEVER_UNKNOWN: [&str; 3] = ["m.key.verification.cancel", "m.key.verification.done", "m.key.verification.request"];

impl Machine {
    /// Takes in a message of a verification that came to this device.
    pub(crate) fn receive_verification(&mut self, sender: &UserId, event_type: &str, content: &Object) {
        let Some(id) = text(content, "transaction_id") else { return };
        let flow_id = FlowId { user_id: sender.to_owned(), id: id.to_owned() };
        let now = self.world.clock.now_ms();
        if event_type == "m.key.verification.request" {
            let timestamp = content.get("timestamp").and_then(Value::as_u64).unwrap_or_default();
            if timestamp.saturating_add(TIMEOUT_MS) >= now && timestamp <= now + FUTURE_MAX_MS {
                self.receive_offer(&flow_id, None, content, Step::Requested);
            }
        } else if self.verifications.flows.get(&flow_id).is_some_and(|flow| flow.room_id.is_none()) {
            self.receive_in_flow(&flow_id, event_type, content);
        } else if event_type == "m.key.verification.start" {
            self.receive_offer(&flow_id, None, content, Step::StartOffered { start: content.clone() });
        } else if !NEVER_UNKNOWN.contains(&event_type) {
            // Known devices only: nobody can make us write to everywhere.
            let flow = Flow::new(flow_id, None, Step::Asked, now);
            self.send_verification(&flow, "m.key.verification.cancel", messages::cancel("m.unknown_transaction").1);
        }
    }

    /// Takes in an event of a verification in a room, as it was decrypted (or came, in a room that is not encrypted).
    pub fn receive_room_verification(
        &mut self,
        room_id: &RoomId,
        sender: &UserId,
        event_id: &EventId,
        event_type: &str,
        content: &Object,
    ) -> Held<()> {
        let is_request =
            event_type == "m.room.message" && text(content, "msgtype") == Some("m.key.verification.request");
        // Our own events come back to us; our other devices' are not part of a flow of this one.
        if *sender != *self.user_id {
            if is_request && text(content, "to") == Some(self.user_id.as_str()) {
                let flow_id = FlowId { user_id: sender.to_owned(), id: event_id.to_string() };
                self.receive_offer(&flow_id, Some(room_id), content, Step::Requested);
            } else if let Some(id) = text_in(content, "m.relates_to", "event_id") {
                let flow_id = FlowId { user_id: sender.to_owned(), id: id.to_owned() };
                if self.verifications.flows.get(&flow_id).is_some_and(|flow| flow.room_id.as_deref() == Some(room_id)) {
                    self.receive_in_flow(&flow_id, event_type, content);
                }
            }
        }
        self.hold(())
    }

    /// Somebody wants to verify.
    fn receive_offer(&mut self, flow_id: &FlowId, room_id: Option<&RoomId>, content: &Object, step: Step) {
        let device_id = text(content, "from_device").map(OwnedDeviceId::from);
        let is_own = flow_id.user_id == self.user_id && device_id.as_ref() == Some(&self.device_id);
        let is_known = self.verifications.flows.contains_key(flow_id);
        if device_id.is_none() || is_own || is_known || self.verifications.flows.len() >= FLOWS_MAX {
            return;
        }
        let can_sas =
            messages::offers(content, "methods", messages::SAS) || text(content, "method") == Some(messages::SAS);
        if !can_sas {
            return;
        }
        self.track(&flow_id.user_id);
        let mut flow = Flow::new(flow_id.clone(), room_id.map(ToOwned::to_owned), step, self.world.clock.now_ms());
        flow.device_id = device_id;
        self.verifications.flows.insert(flow_id.clone(), flow);
        self.notice_flow(flow_id);
    }

    fn receive_in_flow(&mut self, flow_id: &FlowId, event_type: &str, content: &Object) {
        self.drive(flow_id, |flow, parties| flow.receive(parties, event_type, content));
        self.dismiss_others(flow_id, event_type);
    }

    /// One of the devices that were asked accepted: the others need not ask their user any more.
    fn dismiss_others(&mut self, flow_id: &FlowId, event_type: &str) {
        let Some(flow) = self.verifications.flows.get_mut(flow_id) else { return };
        if event_type != "m.key.verification.ready" || flow.room_id.is_some() {
            return;
        }
        let others: Vec<_> =
            std::mem::take(&mut flow.asked).into_iter().filter(|id| Some(id) != flow.device_id.as_ref()).collect();
        let (event_type, mut content) = messages::cancel("m.accepted");
        flow.tie(&mut content);
        let others: Vec<_> = others.into_iter().map(|id| ((flow_id.user_id.clone(), id), content.clone())).collect();
        self.send_to_devices(event_type, &others, |_| Purpose::ToDevice);
    }

    /// Lets a flow take a step, sends what it says, and believes what it verified.
    pub(super) fn drive(&mut self, flow_id: &FlowId, step: impl FnOnce(&mut Flow, &Parties<'_>) -> Outcome) {
        let Some(mut flow) = self.verifications.flows.remove(flow_id) else { return };
        let parties = self.parties(&flow);
        let outcome = step(&mut flow, &parties);
        let out = outcome.unwrap_or_else(|code| {
            flow.step = Step::Cancelled { code: code.to_owned(), by_us: true };
            vec![messages::cancel(code)]
        });
        for (event_type, content) in out {
            self.send_verification(&flow, event_type, content);
        }
        if matches!(flow.step, Step::Done) {
            self.believe(&mut flow);
        }
        self.verifications.flows.insert(flow_id.clone(), flow);
        self.notice_flow(flow_id);
    }

    pub(super) fn cancel(&mut self, flow_id: &FlowId, code: &'static str) {
        if self.verifications.flows.get(flow_id).is_some_and(|flow| !flow.has_ended()) {
            self.drive(flow_id, |_, _| Err(code));
        }
    }

    /// The keys on both sides. A master key of ours is vouched for only when it is certain that it is ours.
    fn parties(&self, flow: &Flow) -> Parties<'_> {
        let mut our_keys = Keys::from([(self.signing_key_id(), self.ed25519_key())]);
        if let Some(own) = self.users.identity(&self.user_id).filter(|_| self.is_identity_verified(&self.user_id)) {
            our_keys.insert(format!("ed25519:{}", own.master.to_base64()), own.master.to_base64());
        }
        let mut their_keys = Keys::new();
        let user_id = &flow.id.user_id;
        if let Some(device) = flow.device_id.as_ref().and_then(|id| self.users.device(user_id, id)) {
            their_keys.insert(format!("ed25519:{}", device.device_id), device.ed25519.to_base64());
        }
        if let Some(identity) = self.users.identity(user_id) {
            their_keys.insert(format!("ed25519:{}", identity.master.to_base64()), identity.master.to_base64());
        }
        Parties { user_id: &self.user_id, device_id: &self.device_id, our_keys, their_keys }
    }

    /// What the codes vouched for is verified from now on.
    fn believe(&mut self, flow: &mut Flow) {
        let verified = std::mem::take(&mut flow.verified);
        let user_id = &flow.id.user_id;
        let master = self.users.identity(user_id).map(|identity| format!("ed25519:{}", identity.master.to_base64()));
        if master.is_some_and(|master| verified.contains(&master)) {
            self.verify_identity(user_id);
        }
        let device_id = flow.device_id.clone().filter(|id| verified.contains(&format!("ed25519:{id}")));
        let Some(device_id) = device_id else { return };
        self.set_trust(user_id, &device_id, LocalTrust::Verified);
        if *user_id == self.user_id {
            self.sign_own_device(&device_id);
        }
    }

    /// Sends a message of a flow, to its device or into its room.
    pub(super) fn send_verification(&mut self, flow: &Flow, event_type: &str, mut content: Object) {
        flow.tie(&mut content);
        if let Some(room_id) = &flow.room_id {
            let transaction_id = self.world.random_string(32);
            self.ask_room_event(Purpose::RoomEvent, room_id, event_type, &transaction_id, content);
            return;
        }
        let user_id = &flow.id.user_id;
        let devices: Vec<OwnedDeviceId> = match &flow.device_id {
            Some(device_id) => vec![device_id.clone()],
            None if !flow.asked.is_empty() => flow.asked.clone(),
            None => self.users.devices(user_id).map(|device| device.device_id.clone()).collect(),
        };
        let messages: Vec<(Place, Object)> =
            devices.into_iter().map(|device_id| ((user_id.clone(), device_id), content.clone())).collect();
        self.send_to_devices(event_type, &messages, |_| Purpose::ToDevice);
    }

    pub(super) fn ask_room_request(&mut self, room_id: &RoomId, transaction_id: &str, content: Object) {
        let purpose = Purpose::VerificationRequest(transaction_id.to_owned());
        self.ask_room_event(purpose, room_id, "m.room.message", transaction_id, content);
    }

    fn ask_room_event(
        &mut self,
        purpose: Purpose,
        room_id: &RoomId,
        event_type: &str,
        transaction_id: &str,
        content: Object,
    ) {
        let event = RoomEvent {
            room_id: room_id.to_owned(),
            event_type: event_type.to_owned(),
            content,
            transaction_id: <&TransactionId>::from(transaction_id).to_owned(),
        };
        self.ask(purpose, RequestBody::RoomEvent(event));
    }

    /// The request in a room was sent: its event is what the flow is called.
    pub(crate) fn receive_request_sent(&mut self, transaction_id: &str, event_id: &EventId) {
        let place = self.verifications.flows.keys().find(|flow_id| flow_id.id == transaction_id).cloned();
        let Some(mut flow) = place.and_then(|flow_id| self.verifications.flows.remove(&flow_id)) else { return };
        flow.id.id = event_id.to_string();
        let flow_id = flow.id.clone();
        self.verifications.flows.insert(flow_id.clone(), flow);
        self.notice_flow(&flow_id);
    }

    /// The request in a room could not be sent.
    pub(crate) fn forget_verification(&mut self, transaction_id: &str) {
        self.verifications.flows.retain(|flow_id, _| flow_id.id != transaction_id);
    }
}
