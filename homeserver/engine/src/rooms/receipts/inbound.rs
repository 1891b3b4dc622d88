//! Read receipts that other servers send for their users.

use std::collections::BTreeMap;

use rules::{Change, RoomSnapshot};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, ServerName,
    events::receipt::ReceiptType,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::MAIN_THREAD;
use crate::{Engine, Result};

/// How many receipts of one message are taken. Servers gather those of some seconds into one.
const RECEIPTS_MAX: usize = 1_000;
/// How many of the events that one receipt names are looked at; there is one in practice.
const EVENTS_PER_RECEIPT_MAX: usize = 10;

/// The longest event id, in bytes.
const ID_BYTES_MAX: usize = 255;

/// One level of the content: by room, by type, by user. Each is read by itself, so that junk spoils only itself.
type Level = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct Receipt {
    data: Data,
    event_ids: Vec<OwnedEventId>,
}

#[derive(Deserialize)]
struct Data {
    ts: MilliSecondsSinceUnixEpoch,
    thread_id: Option<String>,
}

impl Engine {
    /// Receipts of another server's users, each taken by itself.
    pub(crate) async fn receive_receipts(&self, origin: &ServerName, content: &RawValue) {
        let mut left = RECEIPTS_MAX;
        for (room_id, by_type) in level(content) {
            let Ok(room_id) = OwnedRoomId::try_from(room_id) else { continue };
            let Some(by_user) = level(&by_type).remove("m.read") else { continue };
            let receipts: Vec<_> = level(&by_user).into_iter().take(left).filter_map(read).collect();
            left -= receipts.len();
            if let Err(error) = self.receive_room_receipts(origin, &room_id, receipts).await {
                tracing::warn!(room.id = %room_id, %origin, %error, "receipts dropped");
            }
        }
    }

    async fn receive_room_receipts(
        &self,
        origin: &ServerName,
        room_id: &OwnedRoomId,
        receipts: Vec<(OwnedUserId, Receipt)>,
    ) -> Result<()> {
        let Some(room) = self.resident_room(room_id).await? else { return Ok(()) };
        if !self.acl_allows(&room, origin).await? {
            return Ok(());
        }
        let _lock = self.inner.sync.receipts.lock(&format!("{room_id} {origin}")).await;
        let mut changes = Vec::new();
        for (user_id, receipt) in receipts {
            if user_id.server_name() == origin && room.may_have_joined(&user_id) {
                changes.extend(self.inbound_change(&room, user_id, receipt).await?);
            }
        }
        self.commit_markers(changes).await
    }

    async fn inbound_change(
        &self,
        room: &RoomSnapshot,
        user_id: OwnedUserId,
        receipt: Receipt,
    ) -> Result<Option<Change>> {
        let Receipt { data: Data { ts, thread_id }, mut event_ids } = receipt;
        if !thread_id.as_deref().is_none_or(is_thread_id) {
            return Ok(None);
        }
        event_ids.truncate(EVENTS_PER_RECEIPT_MAX);
        let events = self.storage().events(&event_ids).await?;
        let known = events.into_iter().filter(|event| event.pdu.room_id == room.room_id && event.order.is_some());
        let Some(event) = known.max_by_key(|event| event.order) else { return Ok(None) };
        self.receipt_change(&event, &user_id, ReceiptType::Read, thread_id, ts).await
    }
}

fn level(json: &RawValue) -> Level {
    serde_json::from_str(json.get()).unwrap_or_default()
}

fn read((user_id, receipt): (String, Box<RawValue>)) -> Option<(OwnedUserId, Receipt)> {
    Some((user_id.try_into().ok()?, serde_json::from_str(receipt.get()).ok()?))
}

fn is_thread_id(text: &str) -> bool {
    text == MAIN_THREAD || text.len() <= ID_BYTES_MAX && <&EventId>::try_from(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_071_junk_is_no_thread() {
        assert!(is_thread_id("main") && is_thread_id("$root") && is_thread_id("$root:test"));
        for junk in ["", "Main", "root", "!room:test", &format!("${}", "x".repeat(300))] {
            assert!(!is_thread_id(junk), "{junk}");
        }
    }
}
