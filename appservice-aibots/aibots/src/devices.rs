//! The devices by which bots read encrypted rooms: each bot has one, cross-signed by itself, driven by `e2ee/machine`.
//!
//! A device logs in as the service's user and syncs by itself for what is sent to devices. So it works with every
//! homeserver that has `m.login.application_service`, whatever it puts into transactions.

mod backup;
mod device;
mod requests;
mod sync;
mod verification;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::Verdict;
use ruma::RoomId;

pub(crate) use self::device::DeviceFailure;
pub(crate) use self::sync::run;

use self::device::Device;
use crate::conversation::event::{Event, Object};
use crate::conversation::room::Room;
use crate::service::Service;

/// What came of reading an encrypted event.
pub(crate) enum Opened {
    Yes(Box<Event>),
    /// The key may still come.
    NotYet,
    Never,
}

/// The devices that are ready, by their user.
#[derive(Default)]
pub(crate) struct Devices {
    ready: std::sync::RwLock<BTreeMap<String, Arc<Device>>>,
}

impl Devices {
    fn add(&self, user_id: &str, device: Arc<Device>) {
        self.ready.write().expect("nobody panics with it").insert(user_id.to_owned(), device);
    }

    fn remove(&self, user_id: &str) {
        self.ready.write().expect("nobody panics with it").remove(user_id);
    }

    fn of(&self, user_id: &str) -> Option<Arc<Device>> {
        self.ready.read().expect("nobody panics with it").get(user_id).cloned()
    }

    /// Reads an encrypted event as one of these users.
    pub(crate) async fn open(&self, users: &[String], object: &Object, event: Event) -> Opened {
        self.open_if(users, object, event, |verdict| !matches!(verdict, Verdict::NotAuthentic | Verdict::Blacklisted))
            .await
    }

    /// The same, for what is told as history: also what is read with a key that proves nothing of who has said it, as keys
    /// from a backup do.
    pub(crate) async fn open_history(&self, users: &[String], object: &Object, event: Event) -> Opened {
        self.open_if(users, object, event, |verdict| verdict != Verdict::Blacklisted).await
    }

    async fn open_if(
        &self,
        users: &[String],
        object: &Object,
        event: Event,
        is_believed: impl Fn(Verdict) -> bool,
    ) -> Opened {
        let Ok(room_id) = <&RoomId>::try_from(event.room_id.as_str()) else { return Opened::Never };
        let mut outcome = Opened::Never;
        for user_id in users {
            // At the start devices take a moment.
            let Some(device) = self.of(user_id) else {
                outcome = Opened::NotYet;
                continue;
            };
            match device.decrypt(room_id, object).await {
                // Whatever was not made by a device of its sender is nobody's word.
                Ok(Some(decrypted)) if !is_believed(decrypted.verdict) => {
                    tracing::debug!(event.id = event.event_id, "an event is not known to be its sender's");
                }
                Ok(Some(decrypted)) => {
                    return Opened::Yes(Box::new(event.decrypted(decrypted.event_type, decrypted.content)));
                }
                Ok(None) => outcome = Opened::NotYet,
                Err(error) => tracing::debug!(%error, event.id = event.event_id, "an event does not decrypt"),
            }
        }
        outcome
    }

    /// Takes in an event of a verification that one of these users is asked for.
    pub(crate) async fn verify(&self, service: &Service, users: &[String], event: &Event) {
        for user_id in users {
            let Some(device) = self.of(user_id) else { continue };
            match device.receive_in_room(service, event).await {
                Ok(true) => service.keys.notify_waiters(),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, user.id = user_id, "a verification cannot be taken in"),
            }
        }
    }

    /// Whether a user has spoken in a room encrypted before: then it is encrypted for ever.
    pub(crate) async fn knows_as_encrypted(&self, user_id: &str, room_id: &str) -> bool {
        match self.of(user_id) {
            Some(device) => device.knows_as_encrypted(room_id).await,
            None => false,
        }
    }

    /// Encrypts what a user says in a room.
    pub(crate) async fn seal(
        &self,
        user_id: &str,
        room_id: &str,
        room: &Room,
        content: &Object,
    ) -> Result<Object, DeviceFailure> {
        let device = self.of(user_id).ok_or(DeviceFailure::NotReady)?;
        device.encrypt(room_id, room, "m.room.message", content).await
    }
}
