//! Taking in what a sync brings, and the answers to requests.

use std::collections::BTreeMap;

use ruma::{OneTimeKeyAlgorithm, OwnedUserId, UInt, UserId};
use serde_json::Value;

use crate::machine::Machine;
use crate::notice::{Notice, ToDevice};
use crate::olm::{OlmContent, OlmError, OlmPayload};
use crate::request::{Answer, AnswerError, Purpose, RequestId};
use crate::signed_json::{Object, text};
use crate::store::{Held, Table};

/// Events to devices that mean something only when they came encrypted.
const ENCRYPTED_ONLY: [&str; 5] =
    ["m.room_key", "m.forwarded_room_key", "m.room_key_bundle", "m.secret.send", "m.dummy"];

/// The parts of a sync that are the machine's business.
#[derive(Clone, Debug, Default)]
pub struct SyncParts {
    /// `to_device.events`, in their order.
    pub to_device: Vec<Object>,
    /// `device_lists.changed`
    pub changed: Vec<OwnedUserId>,
    /// `device_lists.left`
    pub left: Vec<OwnedUserId>,
    /// `device_one_time_keys_count`; `None` when this kind of sync did not say.
    pub one_time_key_counts: Option<BTreeMap<OneTimeKeyAlgorithm, UInt>>,
    /// `device_unused_fallback_key_types`; `None` when the server did not say.
    pub unused_fallback_key_types: Option<Vec<OneTimeKeyAlgorithm>>,
    /// `next_batch`: kept in the same batch as what the sync changed, so that nothing is lost or taken in twice.
    pub next_batch: Option<String>,
}

impl Machine {
    /// Takes in a sync. Gives what the owner may want to know.
    pub fn receive_sync(&mut self, parts: &SyncParts) -> Held<Vec<Notice>> {
        for user_id in &parts.changed {
            self.mark_outdated(user_id);
        }
        for user_id in &parts.left {
            self.mark_left(user_id);
        }
        self.receive_counts(parts.one_time_key_counts.as_ref(), parts.unused_fallback_key_types.as_deref());
        for event in &parts.to_device {
            self.receive_to_device(event);
        }
        if parts.next_batch.is_some() && parts.next_batch != self.account.sync_token {
            self.account.sync_token.clone_from(&parts.next_batch);
            self.touch(Table::Account, "");
        }
        self.notices_held()
    }

    /// Notices since the last time. They come with answers too, so that asking for them is worth it after those.
    pub fn notices(&mut self) -> Held<Vec<Notice>> {
        self.notices_held()
    }

    fn notices_held(&mut self) -> Held<Vec<Notice>> {
        let notices = std::mem::take(&mut self.notices);
        self.hold(notices)
    }

    fn receive_to_device(&mut self, event: &Object) {
        let sender = text(event, "sender").and_then(|sender| OwnedUserId::try_from(sender).ok());
        let content = event.get("content").and_then(Value::as_object);
        let (Some(sender), Some(event_type), Some(content)) = (sender, text(event, "type"), content) else { return };
        match event_type {
            "m.room.encrypted" => match serde_json::from_value::<OlmContent>(Value::Object(content.clone())) {
                Ok(content) => self.receive_olm(&sender, &content),
                Err(_) => self.refuse_olm(&sender, OlmError::Malformed),
            },
            "m.room_key.withheld" => self.receive_withheld(&sender, content),
            "m.room_key_request" => self.receive_key_request(&sender, content),
            "m.secret.request" => self.receive_secret_request(&sender, content),
            _ if event_type.starts_with("m.key.verification.") => {
                self.receive_verification(&sender, event_type, content);
            }
            _ if ENCRYPTED_ONLY.contains(&event_type) => {}
            _ => self.pass_on(sender, event_type, content.clone(), None),
        }
    }

    fn receive_olm(&mut self, sender: &UserId, content: &OlmContent) {
        match self.decrypt_olm(sender, content) {
            Ok(payload) => {
                // What its sender's devices are decides what it is worth.
                self.track(&payload.sender);
                self.receive_payload(&payload);
            }
            Err(reason) => self.refuse_olm(sender, reason),
        }
    }

    fn refuse_olm(&mut self, sender: &UserId, reason: OlmError) {
        if reason != OlmError::Duplicate {
            self.notices.push(Notice::OlmRefused { sender: sender.to_owned(), reason });
        }
    }

    fn receive_payload(&mut self, payload: &OlmPayload) {
        match payload.event_type.as_str() {
            "m.room_key" => self.receive_room_key(payload),
            "m.forwarded_room_key" => self.receive_forwarded_key(payload),
            "m.secret.send" => self.receive_secret(payload),
            "m.dummy" => {}
            // Without the keys of its device nobody can tell whose word it is.
            "m.room_key_bundle" if !payload.has_device_keys => {}
            event_type if event_type.starts_with("m.key.verification.") => {
                self.receive_verification(&payload.sender, event_type, &payload.content);
            }
            event_type => {
                let sender_key = Some(payload.sender_key.to_base64());
                self.pass_on(payload.sender.clone(), event_type, payload.content.clone(), sender_key);
            }
        }
    }

    fn pass_on(&mut self, sender: OwnedUserId, event_type: &str, content: Object, sender_key: Option<String>) {
        let event_type = event_type.to_owned();
        self.notices.push(Notice::ToDevice(ToDevice { sender, event_type, content, sender_key }));
    }

    /// Takes in the answer to a request.
    pub fn answer(&mut self, id: &RequestId, answer: &Answer) -> Result<Held<()>, AnswerError> {
        let purpose = self.pending.remove(id).ok_or(AnswerError::UnknownRequest)?;
        match (purpose, answer) {
            (Purpose::KeysUpload, Answer::KeysUpload(response)) => self.receive_upload(response),
            (Purpose::KeysQuery(asked), Answer::KeysQuery(response)) => self.receive_query(&asked, response),
            (Purpose::KeysClaim(asked), Answer::KeysClaim(response)) => self.receive_claim(&asked, response),
            (Purpose::Share { room_id, session_id, recipients }, Answer::Done) => {
                self.receive_shared(&room_id, &session_id, &recipients);
            }
            (Purpose::SignaturesUpload, Answer::SignaturesUpload(response)) => {
                if !response.failures.is_empty() {
                    self.notices.push(Notice::SignaturesRefused);
                }
            }
            (Purpose::SigningKeysUpload, Answer::Done) => self.receive_signing_keys_uploaded(),
            (Purpose::VerificationRequest(transaction_id), Answer::RoomEvent(event_id)) => {
                self.receive_request_sent(&transaction_id, event_id);
            }
            (Purpose::RoomEvent, Answer::RoomEvent(_)) | (Purpose::ToDevice, Answer::Done) => {}
            (Purpose::BackupCreate, Answer::BackupCreate(response)) => self.receive_backup_created(&response.version),
            (Purpose::BackupKeys(keys), Answer::Done) => self.receive_backed_up(&keys),
            (purpose, _) => {
                self.pending.insert(id.clone(), purpose);
                return Err(AnswerError::OtherEndpoint);
            }
        }
        Ok(self.hold(()))
    }

    /// Takes in that a request was given up: refused for good, or tried long enough. What is still wanted is asked for
    /// again, where that makes sense later.
    pub fn give_up(&mut self, id: &RequestId) -> Result<Held<()>, AnswerError> {
        match self.pending.remove(id).ok_or(AnswerError::UnknownRequest)? {
            Purpose::KeysQuery(asked) => asked.keys().for_each(|user_id| self.postpone(user_id)),
            Purpose::KeysClaim(asked) => self.postpone_claim(&asked),
            Purpose::SigningKeysUpload => self.receive_signing_keys_refused(),
            Purpose::BackupCreate => self.receive_backup_refused(),
            Purpose::BackupKeys(_) => self.postpone_backup(),
            Purpose::SignaturesUpload => self.notices.push(Notice::SignaturesRefused),
            Purpose::VerificationRequest(transaction_id) => self.forget_verification(&transaction_id),
            // Keys are uploaded again when requests are next asked for, room keys sent when the room is next prepared.
            // Other messages to devices are lost, as they can be on their way: their flows time out or ask again.
            Purpose::KeysUpload | Purpose::Share { .. } | Purpose::ToDevice | Purpose::RoomEvent => {}
        }
        Ok(self.hold(()))
    }
}
