//! What is sent to a service beside events: receipts, who is typing and who is there, and what its users' devices need
//! for encryption.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#pushing-ephemeral-data>

use std::collections::{BTreeMap, BTreeSet};

use rules::change::Position;
use ruma::{
    DeviceId, MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedUserId, RoomId, UserId, events::receipt::ReceiptType,
};
use serde::Serialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use storage::{LogEntry, LogKind, ReceiptRecord};

use super::{queue::Worker, transaction::Contents};
use crate::{EngineError, Result, sync::presence_event};

/// How many messages to devices of one user are read for one log entry: there is one.
const TO_DEVICE_PER_ENTRY: usize = 1;
/// Of how many of the service's users a transaction says what their devices have left of one-time keys.
const KEY_COUNT_USERS_MAX: usize = 100;
/// And of how many devices.
const KEY_COUNT_DEVICES_MAX: usize = 200;
/// How many rooms and users one transaction tells of who is typing and who is there.
const PASSING_MAX: usize = 200;

#[derive(Serialize)]
struct Ephemeral<'a, Content> {
    #[serde(rename = "type")]
    event_type: &'static str,
    room_id: &'a RoomId,
    content: Content,
}

#[derive(Serialize)]
struct ToDevice<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    sender: &'a UserId,
    content: &'a RawValue,
    #[serde(rename = "to_user_id")]
    user_id: &'a UserId,
    #[serde(rename = "to_device_id")]
    device_id: &'a DeviceId,
}

impl Worker {
    pub(super) async fn add_receipt(&mut self, entry: &LogEntry, contents: &mut Contents) -> Result<()> {
        let (Some(room_id), Some(user_id)) = (&entry.room_id, &entry.user_id) else { return Ok(()) };
        let is_own = self.service.covers_user(user_id);
        if !is_own && !self.interest.in_room(&self.engine, room_id, entry.position).await? {
            return Ok(());
        }
        let records = self.engine.storage().receipts_since(room_id, entry.position - 1, entry.position).await?;
        for record in records.iter().filter(|record| is_own || record.receipt_type == ReceiptType::Read) {
            contents.add_ephemeral(receipt(room_id, record)?);
        }
        Ok(())
    }

    pub(super) async fn add_to_device(
        &mut self,
        entry: &LogEntry,
        contents: &mut Contents,
        to_devices: &mut Vec<(OwnedUserId, OwnedDeviceId, Position)>,
    ) -> Result<()> {
        // What a service has taken is gone from the device: of people whom it merely hears it takes nothing.
        let Some(user_id) = entry.user_id.as_ref().filter(|user_id| self.service.owns_user(user_id)) else {
            return Ok(());
        };
        let (after, until) = (entry.position - 1, entry.position);
        let waiting = self.engine.storage().to_devices_of(user_id, after, until, TO_DEVICE_PER_ENTRY).await?;
        for (device_id, message) in waiting {
            let event = ToDevice {
                event_type: &message.event_type,
                sender: &message.sender,
                content: &message.content,
                user_id,
                device_id: &device_id,
            };
            contents.add_to_device(to_raw_value(&event).map_err(EngineError::internal)?);
            to_devices.retain(|(user, device, _)| user != user_id || *device != device_id);
            to_devices.push((user_id.clone(), device_id, message.position));
        }
        Ok(())
    }

    /// What the devices have left of one-time keys, of those of the service's users that the transaction is about.
    pub(super) async fn add_key_counts(
        &mut self,
        entries: &[LogEntry],
        contents: &mut Contents,
        to_devices: &[(OwnedUserId, OwnedDeviceId, Position)],
    ) -> Result<()> {
        let mut users: BTreeSet<OwnedUserId> = to_devices.iter().map(|(user_id, ..)| user_id.clone()).collect();
        users.insert(self.service.sender().to_owned());
        for entry in entries.iter().filter(|entry| entry.kind == LogKind::Event) {
            let Some(room_id) = &entry.room_id else { continue };
            let members = self.interest.members(&self.engine, room_id, entry.position).await?;
            let left = KEY_COUNT_USERS_MAX.saturating_sub(users.len());
            users.extend(members.iter().filter(|user_id| self.service.owns_user(user_id)).take(left).cloned());
        }
        let users: Vec<OwnedUserId> = users.into_iter().collect();
        let devices = self.engine.storage().device_ids(&users).await?;
        for (user_id, device_id) in devices.into_iter().take(KEY_COUNT_DEVICES_MAX) {
            if self.engine.storage().device_keys_of(&user_id, &device_id).await?.is_none() {
                continue;
            }
            let counts = self.engine.storage().key_counts(&user_id, &device_id).await?;
            let left = contents.one_time_keys.entry(user_id.clone()).or_default();
            left.insert(device_id.clone(), counts.one_time_keys);
            let unused = contents.fallback_keys.entry(user_id).or_default();
            unused.insert(device_id, counts.unused_fallback_algorithms);
        }
        Ok(())
    }

    /// Adds who is typing and who is there, as far as that changed.
    pub(super) async fn with_passing(&mut self, mut contents: Contents, position: Position) -> Result<Contents> {
        if self.service.registration().receives_ephemeral {
            self.add_typing(position, &mut contents).await?;
            self.add_presence(position, &mut contents).await?;
        }
        Ok(contents)
    }

    async fn add_typing(&mut self, position: Position, contents: &mut Contents) -> Result<()> {
        let typing = &self.engine.inner.rooms.typing;
        let (count, now_ms) = (typing.count(), self.engine.world().clock.now_ms());
        let changed =
            if count == self.typing_heard { Vec::new() } else { typing.changed_since(self.typing_heard, now_ms) };
        self.typing_heard = count;
        let mut told = 0;
        for (room_id, user_ids) in changed {
            if told == PASSING_MAX {
                break;
            }
            if self.interest.in_room(&self.engine, &room_id, position).await? {
                let event =
                    Ephemeral { event_type: "m.typing", room_id: &room_id, content: json!({ "user_ids": user_ids }) };
                contents.add_ephemeral(to_raw_value(&event).map_err(EngineError::internal)?);
                told += 1;
            }
        }
        Ok(())
    }

    async fn add_presence(&mut self, position: Position, contents: &mut Contents) -> Result<()> {
        let (count, changed) = self.engine.inner.services.presences_since(self.presences_heard);
        self.presences_heard = count;
        let mut told = 0;
        for user_id in changed {
            if told == PASSING_MAX {
                break;
            }
            if !self.is_known(&user_id, position).await? {
                continue;
            }
            if let Some(presence) = self.engine.known_presence(&user_id) {
                let now_ms = self.engine.world().clock.now_ms();
                contents.add_ephemeral(presence_event(&user_id, presence, now_ms)?);
                told += 1;
            }
        }
        Ok(())
    }
}

fn receipt(room_id: &RoomId, record: &ReceiptRecord) -> Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Read<'a> {
        ts: MilliSecondsSinceUnixEpoch,
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_id: Option<&'a str>,
    }
    let read = Read { ts: record.ts, thread_id: record.thread_id.as_deref() };
    let by_user = BTreeMap::from([(&record.user_id, read)]);
    let by_type = BTreeMap::from([(record.receipt_type.as_str(), by_user)]);
    let content = BTreeMap::from([(&record.event_id, by_type)]);
    to_raw_value(&Ephemeral { event_type: "m.receipt", room_id, content }).map_err(EngineError::internal)
}
