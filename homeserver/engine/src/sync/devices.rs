//! What concerns devices, for all kinds of sync: whose devices changed, messages to the device, and how many one-time
//! keys it has left.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync-1>,
//! <https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync>

use keyserver::{DeviceListChanges, RoomsSince};
use rules::change::Position;
use ruma::{
    OwnedRoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::{KeyCounts, MembershipRecord, ToDeviceRecord};

use crate::{Engine, EngineError, Requester, Result};

/// How many messages to a device one answer holds at most.
pub(crate) const TO_DEVICE_MAX: usize = 100;
/// The algorithm whose count clients want to hear even when it is zero, to know that they are to upload keys.
const SIGNED_CURVE25519: &str = "signed_curve25519";

/// Some messages to a device.
pub(crate) struct ToDevicePage {
    /// In order.
    pub(crate) messages: Vec<ToDeviceRecord>,
    /// Up to where all of them are told with this page: what the next page begins after, and what is acknowledged by
    /// asking for it.
    pub(crate) until: Position,
}

/// A message as the device gets it.
#[derive(Serialize)]
struct Message<'a> {
    sender: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
}

impl ToDevicePage {
    /// The messages as the device gets them.
    pub(crate) fn events<T>(&self) -> Result<Vec<Raw<T>>> {
        let message = |record: &ToDeviceRecord| {
            let ToDeviceRecord { sender, event_type, content, .. } = record;
            let json = to_raw_value(&Message { sender: sender.as_str(), event_type, content });
            json.map(Raw::from_json).map_err(EngineError::internal)
        };
        self.messages.iter().map(message).collect()
    }
}

impl Engine {
    /// Whose devices the clients of a user are to look at again, and whose they need not know any more, by what
    /// happened with `since < position <= now`. A client that starts anew is told nothing: it asks for what it needs.
    pub(crate) async fn device_lists_since(
        &self,
        user_id: &UserId,
        since: Position,
        now: Position,
    ) -> Result<DeviceListChanges> {
        if since >= now {
            return Ok(DeviceListChanges::default());
        }
        let rooms = match self.recent(user_id, since, now).await? {
            Some(recent) => {
                let rooms = recent.rooms.into_iter().filter(|(_, parts)| parts.timeline).map(|(room_id, _)| room_id);
                let changed = self.inner.sync.users.joined_among(user_id, rooms.collect());
                if changed.is_empty() && !recent.device_lists {
                    return Ok(DeviceListChanges::default());
                }
                RoomsSince { changed: changed.into_iter().collect(), ..RoomsSince::default() }
            }
            None => self.rooms_since(user_id, since, now).await?,
        };
        Ok(self.key_server().device_list_changes(user_id, since, now, &rooms).await?)
    }

    /// Up to `limit` of the messages that wait for a device with `after < position <= now`, in order. None is deleted
    /// by this: see [`Engine::acknowledge_to_device`].
    pub(crate) async fn to_device_since(
        &self,
        requester: &Requester,
        after: Position,
        now: Position,
        limit: usize,
    ) -> Result<ToDevicePage> {
        let Requester { user_id, device_id, .. } = requester;
        let messages = self.storage().to_device(user_id, device_id, after, now, limit).await?;
        let is_last = messages.len() < limit;
        let until = messages.last().filter(|_| !is_last).map_or(now, |last| last.position);
        Ok(ToDevicePage { messages, until: until.max(after) })
    }

    /// Deletes the messages to a device up to a position: by asking for what comes after, it says that it has them.
    pub(crate) async fn acknowledge_to_device(&self, requester: &Requester, until: Position) -> Result<()> {
        let Requester { user_id, device_id, .. } = requester;
        Ok(self.storage().acknowledge_to_device(user_id, device_id, until).await?)
    }

    /// How many one-time keys of each algorithm a device has left, and which fallback keys were not used yet.
    pub(crate) async fn key_counts(&self, requester: &Requester) -> Result<KeyCounts> {
        let mut counts = self.storage().key_counts(&requester.user_id, &requester.device_id).await?;
        counts.one_time_keys.entry(SIGNED_CURVE25519.to_owned()).or_insert(0);
        Ok(counts)
    }

    async fn rooms_since(&self, user_id: &UserId, since: Position, now: Position) -> Result<RoomsSince> {
        let mut rooms = RoomsSince::default();
        let mut kept = Vec::new();
        for record in self.storage().memberships(user_id).await? {
            if record.position <= since {
                kept.extend(Some(record).filter(is_joined).map(|record| record.room_id));
                continue;
            }
            let was_in = self.was_joined(user_id, &record.room_id, since).await?;
            match (was_in, is_joined(&record)) {
                (false, true) => rooms.joined.push(record.room_id),
                (true, false) => rooms.left.push(record.room_id),
                // Perhaps something of their own, as their name, or out and in again.
                (true, true) => kept.push(record.room_id),
                (false, false) => {}
            }
        }
        let complete = self.storage().rooms_completed(since, now).await?;
        rooms.completed.extend(kept.iter().filter(|room_id| complete.contains(room_id)).cloned());
        rooms.changed.extend(self.storage().rooms_changed(&kept, since, now).await?);
        Ok(rooms)
    }

    async fn was_joined(&self, user_id: &UserId, room_id: &OwnedRoomId, position: Position) -> Result<bool> {
        let member = StateEventType::RoomMember;
        let entry = self.storage().state_entry_at(room_id, &member, user_id.as_str(), position).await?;
        Ok(entry.is_some_and(|entry| entry.membership == Some(MembershipState::Join)))
    }
}

fn is_joined(record: &MembershipRecord) -> bool {
    record.membership == MembershipState::Join
}
