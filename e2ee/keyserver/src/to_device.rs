//! Messages from device to device: kept for each device until it says that it has them.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>,
//! <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>

use std::collections::{BTreeMap, BTreeSet};

use rules::Change;
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{KeyError, KeyServer, Result};

/// How many messages wait for one device. A device that has not asked for so many will hardly ever.
const WAITING_MAX: usize = 10_000;
/// The largest content, in bytes: as large as events may be. Keys and what verifies devices have some 2,000.
const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// The longest id of a message that another server may choose, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 255;
/// The longest type, in bytes.
const TYPE_BYTES_MAX: usize = 255;
/// Random characters of the id of a message for another server.
const MESSAGE_ID_CHARS: usize = 32;
/// How long ids of messages are kept: a server that was away for a week will hardly repeat what it sent before.
const IDS_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Stands for all devices of a user.
const ALL_DEVICES: &str = "*";

/// Contents by user and device.
pub type Messages = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;

/// The content of `m.direct_to_device`.
#[derive(Debug, Deserialize, Serialize)]
pub struct DirectToDeviceContent {
    /// Who sent the messages.
    pub sender: OwnedUserId,
    /// Their type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What the sending server calls them.
    pub message_id: String,
    /// The contents.
    pub messages: Messages,
}

impl KeyServer {
    /// Queues messages of a local user, each set of a type and transaction id of a device once.
    pub async fn send_to_device(
        &self,
        sender: &UserId,
        device_id: &str,
        transaction_id: &str,
        event_type: &str,
        messages: Messages,
    ) -> Result<()> {
        check_type(event_type)?;
        if messages.values().flat_map(BTreeMap::values).any(|content| is_too_large(content)) {
            return Err(KeyError::TooLarge(format!("A message must not be larger than {CONTENT_BYTES_MAX} bytes")));
        }
        let (scope, message_id) = (format!("{sender} {device_id}"), format!("{event_type} {transaction_id}"));
        if self.storage.is_to_device_id_known(&scope, &message_id).await? {
            return Ok(());
        }
        let (local, remote): (Messages, Messages) =
            messages.into_iter().partition(|(user_id, _)| self.is_local(user_id));
        let mut changes = self.deliveries(sender, event_type, local).await?;
        let mut by_server: BTreeMap<OwnedServerName, Messages> = BTreeMap::new();
        for (user_id, devices) in remote {
            by_server.entry(user_id.server_name().to_owned()).or_default().insert(user_id, devices);
        }
        for (server, messages) in by_server {
            let content = DirectToDeviceContent {
                sender: sender.to_owned(),
                event_type: event_type.to_owned(),
                message_id: self.world.random_string(MESSAGE_ID_CHARS),
                messages,
            };
            let content = to_raw_value(&content).map_err(|error| KeyError::bad_json(error.to_string()))?;
            check_canonical(&content)?;
            changes.push(Change::Edu { servers: vec![server], edu_type: "m.direct_to_device".to_owned(), content });
        }
        changes.push(Change::ToDeviceId { sender: scope, message_id, ts: self.world.clock.now() });
        self.commit(changes).await
    }

    /// Queues messages of another server's user, each set once.
    pub async fn receive_to_device(&self, origin: &ServerName, content: DirectToDeviceContent) -> Result<()> {
        let DirectToDeviceContent { sender, event_type, message_id, mut messages } = content;
        let is_id = (1..=MESSAGE_ID_BYTES_MAX).contains(&message_id.len()) && !message_id.contains('\0');
        if sender.server_name() != origin || !is_id {
            return Err(KeyError::InvalidParam("Not a message of that server's users".to_owned()));
        }
        check_type(&event_type)?;
        if self.storage.is_to_device_id_known(origin.as_str(), &message_id).await? {
            return Ok(());
        }
        messages.retain(|user_id, _| self.is_local(user_id));
        for devices in messages.values_mut() {
            devices.retain(|_, content| !is_too_large(content));
        }
        let mut changes = self.deliveries(&sender, &event_type, messages).await?;
        let ts = self.world.clock.now();
        changes.push(Change::ToDeviceId { sender: origin.to_string(), message_id, ts });
        self.commit(changes).await
    }

    /// Forgets the ids of messages that nobody will send again.
    pub async fn forget_old_message_ids(&self) -> Result<()> {
        let before_ts = self.world.clock.now_ms().saturating_sub(IDS_KEPT_MS);
        Ok(self.storage.prune_to_device_ids(before_ts).await?)
    }

    /// One message for each device that there is.
    async fn deliveries(&self, sender: &UserId, event_type: &str, messages: Messages) -> Result<Vec<Change>> {
        let users: Vec<OwnedUserId> = messages.keys().cloned().collect();
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let full: BTreeSet<(OwnedUserId, OwnedDeviceId)> =
            self.storage.full_to_device_queues(&users, WAITING_MAX).await?.into_iter().collect();
        let mut changes = Vec::new();
        for device in self.storage.device_ids(&users).await? {
            let of_user = messages.get(&device.0);
            let content = of_user.and_then(|devices| devices.get(device.1.as_str()).or(devices.get(ALL_DEVICES)));
            let Some(content) = content else { continue };
            if full.contains(&device) {
                metrics::counter!("to_device_messages_dropped_total").increment(1);
                continue;
            }
            let (user_id, device_id) = device;
            let (sender, event_type) = (sender.to_owned(), event_type.to_owned());
            changes.push(Change::ToDevice { user_id, device_id, sender, event_type, content: content.clone() });
        }
        Ok(changes)
    }
}

fn check_type(event_type: &str) -> Result<()> {
    if (1..=TYPE_BYTES_MAX).contains(&event_type.len()) && !event_type.contains('\0') {
        return Ok(());
    }
    Err(KeyError::InvalidParam(format!("The type of a message must have 1 to {TYPE_BYTES_MAX} bytes")))
}

fn is_too_large(content: &RawValue) -> bool {
    content.get().len() > CONTENT_BYTES_MAX
}

/// What cannot be signed cannot be sent to another server.
fn check_canonical(content: &RawValue) -> Result<()> {
    let read = serde_json::from_str::<ruma::CanonicalJsonValue>(content.get());
    read.map(drop).map_err(|error| KeyError::bad_json(format!("The message cannot be sent to another server: {error}")))
}
