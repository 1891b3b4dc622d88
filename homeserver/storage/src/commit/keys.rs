//! What a batch writes of devices: their keys, messages to them, and what other servers are to be sent of both.

use std::collections::BTreeMap;

use rules::change::{Change, Position};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId};

use crate::{
    LogEntry, LogKind, Result,
    commit::apply::Applying,
    database::Transaction,
    devices::remove_devices,
    dialect::db,
    insert::{Insert, Script, Value, row},
};

static DEVICE_KEYS: Insert = Insert::new(
    "device_keys (user_id, device_id, display_name, json)",
    "ON CONFLICT (user_id, device_id) DO UPDATE SET display_name = excluded.display_name, json = excluded.json",
);
static CROSS_SIGNING_KEYS: Insert = Insert::new(
    "cross_signing_keys (user_id, usage, json)",
    "ON CONFLICT (user_id, usage) DO UPDATE SET json = excluded.json",
);
static SIGNATURES: Insert = Insert::new(
    "key_signatures (target_user_id, target_id, signer, key_id, signature)",
    "ON CONFLICT (target_user_id, target_id, signer, key_id) DO UPDATE SET signature = excluded.signature",
);
static DEVICE_LISTS: Insert = Insert::new("device_list_log (position, user_nid, device_id, viewer_nid)", "");
static TO_DEVICE: Insert = Insert::new("to_device (user_id, device_id, position, sender, type, content)", "");
static TO_DEVICE_IDS: Insert = Insert::new("to_device_ids (sender, message_id, ts)", "ON CONFLICT DO NOTHING");
static EDUS: Insert = Insert::new("outbound_edus (position, type, content)", "");

/// A row that is set or goes, by its key.
type Rows = BTreeMap<(String, String), Option<Vec<Value>>>;

/// The rows of one batch.
#[derive(Default)]
pub(super) struct KeyWrites {
    /// By user and device.
    device_keys: Rows,
    /// By user.
    logged_out: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    /// By user and usage.
    cross_signing_keys: Rows,
    /// By target user, target, signer and key.
    signatures: BTreeMap<(String, String, String, String), Vec<Value>>,
    device_lists: Vec<Vec<Value>>,
    to_device: Vec<Vec<Value>>,
    to_device_ids: Vec<Vec<Value>>,
    edus: Vec<Vec<Value>>,
}

impl Applying<'_> {
    /// Notes what a change about devices writes.
    pub(super) fn keys(&mut self, change: &Change) {
        match change {
            Change::DeviceKeys { user_id, device_id, keys, display_name } => {
                let key = (user_id.to_string(), device_id.to_string());
                let row = keys
                    .as_ref()
                    .map(|keys| row![user_id.as_str(), device_id.as_str(), display_name.clone(), keys.get()]);
                self.key_writes().device_keys.insert(key, row);
            }
            Change::LogOut { user_id, device_id } => {
                self.key_writes().logged_out.entry(user_id.clone()).or_default().push(device_id.clone());
            }
            Change::CrossSigningKey { user_id, usage, key } => {
                let row = key.as_ref().map(|key| row![user_id.as_str(), usage.as_str(), key.get()]);
                self.key_writes().cross_signing_keys.insert((user_id.to_string(), usage.clone()), row);
            }
            Change::KeySignature { target_user_id, target_id, signer, key_id, signature } => {
                let key = (target_user_id.to_string(), target_id.clone(), signer.to_string(), key_id.clone());
                let row = row![
                    target_user_id.as_str(),
                    target_id.as_str(),
                    signer.as_str(),
                    key_id.as_str(),
                    signature.as_str()
                ];
                self.key_writes().signatures.insert(key, row);
            }
            Change::DeviceList { user_id, device_id, viewer, servers } => {
                let (user_nid, viewer_nid) =
                    (self.name(user_id.as_str()), viewer.as_ref().map(|id| self.name(id.as_str())));
                let concerned = viewer.as_ref().unwrap_or(user_id);
                let position = self.device_entry(LogKind::DeviceList, Some(concerned.clone()), servers);
                let device_id = device_id.as_ref().map(ToString::to_string);
                self.key_writes().device_lists.push(row![position, user_nid, device_id, viewer_nid]);
            }
            Change::ToDevice { user_id, device_id, sender, event_type, content } => {
                let position = self.device_entry(LogKind::ToDevice, Some(user_id.clone()), &[]);
                let (user_id, device_id) = (user_id.as_str(), device_id.as_str());
                let row = row![user_id, device_id, position, sender.as_str(), event_type.as_str(), content.get()];
                self.key_writes().to_device.push(row);
            }
            Change::ToDeviceId { sender, message_id, ts } => {
                self.key_writes().to_device_ids.push(row![sender.as_str(), message_id.as_str(), i64::from(ts.0)]);
            }
            Change::Edu { servers, edu_type, content } => {
                let position = self.device_entry(LogKind::Edu, None, servers);
                self.key_writes().edus.push(row![position, edu_type.as_str(), content.get()]);
            }
            _ => {}
        }
    }

    /// Adds an entry to the log that is of no room, for these servers.
    fn device_entry(&mut self, kind: LogKind, user_id: Option<OwnedUserId>, servers: &[OwnedServerName]) -> Position {
        let position = self.next_position();
        for server in servers {
            let server_nid = self.name(server.as_str());
            self.recipients().push(row![server_nid, position]);
        }
        self.log(LogEntry {
            position,
            kind,
            room_id: None,
            user_id,
            event_id: None,
            outbound: !servers.is_empty(),
            membership: None,
        });
        position
    }
}

impl KeyWrites {
    /// Deletes what is gone.
    pub(super) async fn forget(&self, transaction: &mut Transaction) -> Result<()> {
        const GONE: &str = "DELETE FROM cross_signing_keys WHERE user_id = $1 AND usage = $2";
        for ((user_id, device_id), row) in &self.device_keys {
            if row.is_none() {
                forget_device(transaction, user_id, device_id).await?;
            }
        }
        for (user_id, device_ids) in &self.logged_out {
            remove_devices(transaction, user_id, device_ids).await?;
        }
        for ((user_id, usage), row) in &self.cross_signing_keys {
            if row.is_none() {
                db!(transaction.connection(), |connection| {
                    sqlx::query(GONE).bind(user_id).bind(usage).execute(connection).await.map(drop)
                })?;
            }
        }
        Ok(())
    }

    /// What is new.
    pub(super) fn new_rows(&mut self, script: &mut Script) {
        let cross_signing_keys = std::mem::take(&mut self.cross_signing_keys).into_values().flatten();
        script.insert(&CROSS_SIGNING_KEYS, cross_signing_keys);
        script.insert(&DEVICE_KEYS, std::mem::take(&mut self.device_keys).into_values().flatten());
        script.insert(&SIGNATURES, std::mem::take(&mut self.signatures).into_values());
        script.insert(&TO_DEVICE, std::mem::take(&mut self.to_device));
        script.insert(&TO_DEVICE_IDS, std::mem::take(&mut self.to_device_ids));
        script.insert(&EDUS, std::mem::take(&mut self.edus));
        script.insert(&DEVICE_LISTS, std::mem::take(&mut self.device_lists));
    }
}

/// Deletes everything that is kept for a device but its row and its tokens, and what it signed: nobody can look up any
/// more with which key.
pub(crate) async fn forget_device(transaction: &mut Transaction, user_id: &str, device_id: &str) -> Result<()> {
    const OF_DEVICE: [&str; 7] = [
        "DELETE FROM device_keys WHERE user_id = $1 AND device_id = $2",
        "DELETE FROM one_time_keys WHERE user_id = $1 AND device_id = $2",
        "DELETE FROM fallback_keys WHERE user_id = $1 AND device_id = $2",
        "DELETE FROM key_signatures WHERE target_user_id = $1 AND target_id = $2",
        "DELETE FROM key_signatures WHERE target_user_id = $1 AND signer = $1 AND key_id = 'ed25519:' || $2",
        "DELETE FROM to_device WHERE user_id = $1 AND device_id = $2",
        "DELETE FROM dehydrated_devices WHERE user_id = $1 AND device_id = $2",
    ];
    transaction.changes_key_counts(user_id, device_id);
    for sql in OF_DEVICE {
        db!(transaction.connection(), |connection| {
            sqlx::query(sql).bind(user_id).bind(device_id).execute(connection).await.map(drop)
        })?;
    }
    Ok(())
}
