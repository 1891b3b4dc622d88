//! What is not part of a room's history: read receipts and who is typing.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#receipts>,
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::collections::BTreeMap;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UserId,
    events::{AnySyncEphemeralRoomEvent, receipt::ReceiptType},
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::to_raw_value;
use storage::ReceiptRecord;

use crate::{EngineError, Result};

#[derive(Serialize)]
struct Ephemeral<Content> {
    #[serde(rename = "type")]
    event_type: &'static str,
    content: Content,
}

#[derive(Serialize)]
struct Typing<'a> {
    user_ids: &'a [OwnedUserId],
}

#[derive(Serialize)]
struct Receipt {
    ts: MilliSecondsSinceUnixEpoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
}

/// Receipts as they stand in an `m.receipt` event: by event, type and user.
type Receipts = BTreeMap<OwnedEventId, BTreeMap<ReceiptType, BTreeMap<OwnedUserId, Receipt>>>;

/// Who is typing, as an event.
pub(crate) fn typing(user_ids: &[OwnedUserId]) -> Result<Raw<AnySyncEphemeralRoomEvent>> {
    event("m.typing", Typing { user_ids })
}

/// Receipts as events, one for each thread: a user may have the same event as the latest of the room and of a thread.
/// Private receipts are left out unless they are the user's own.
pub(crate) fn receipts(records: Vec<ReceiptRecord>, user_id: &UserId) -> Result<Vec<Raw<AnySyncEphemeralRoomEvent>>> {
    let mut by_thread: BTreeMap<Option<String>, Receipts> = BTreeMap::new();
    for record in records {
        if record.receipt_type != ReceiptType::Read && record.user_id != user_id {
            continue;
        }
        let receipts = by_thread.entry(record.thread_id.clone()).or_default();
        let by_user = receipts.entry(record.event_id).or_default().entry(record.receipt_type).or_default();
        by_user.insert(record.user_id, Receipt { ts: record.ts, thread_id: record.thread_id });
    }
    by_thread.into_values().map(|receipts| event("m.receipt", receipts)).collect()
}

/// The same as one event, for clients that take only one. Where a user has the same event as the latest of the room
/// and of a thread, that of the room stays: it covers the other.
pub(crate) fn one_receipt_event(
    records: Vec<ReceiptRecord>,
    user_id: &UserId,
) -> Result<Option<Raw<AnySyncEphemeralRoomEvent>>> {
    let mut receipts = Receipts::new();
    let is_shown = |record: &ReceiptRecord| record.receipt_type == ReceiptType::Read || record.user_id == user_id;
    for record in records.into_iter().filter(is_shown) {
        let by_user = receipts.entry(record.event_id).or_default().entry(record.receipt_type).or_default();
        let receipt = Receipt { ts: record.ts, thread_id: record.thread_id };
        if receipt.thread_id.is_none() || !by_user.contains_key(&record.user_id) {
            by_user.insert(record.user_id, receipt);
        }
    }
    if receipts.is_empty() { Ok(None) } else { event("m.receipt", receipts).map(Some) }
}

fn event(event_type: &'static str, content: impl Serialize) -> Result<Raw<AnySyncEphemeralRoomEvent>> {
    to_raw_value(&Ephemeral { event_type, content }).map(Raw::from_json).map_err(EngineError::internal)
}

#[cfg(test)]
mod tests {
    use ruma::{UInt, owned_event_id, owned_room_id, owned_user_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    fn record(user_id: &str, receipt_type: ReceiptType, thread_id: Option<&str>) -> ReceiptRecord {
        ReceiptRecord {
            room_id: owned_room_id!("!room:test"),
            user_id: user_id.try_into().unwrap(),
            receipt_type,
            thread_id: thread_id.map(ToOwned::to_owned),
            event_id: owned_event_id!("$read"),
            ts: MilliSecondsSinceUnixEpoch(UInt::from(7_u32)),
            position: 1,
        }
    }

    fn shown(records: Vec<ReceiptRecord>) -> Vec<Value> {
        let events = receipts(records, user_id!("@me:test")).unwrap();
        events.iter().map(|event| serde_json::from_str(event.json().get()).unwrap()).collect()
    }

    #[test]
    fn receipts_of_one_thread_are_one_event() {
        let read = |user| record(user, ReceiptType::Read, None);
        assert_eq!(
            shown(vec![read("@a:test"), read("@b:test")]),
            [json!({"type": "m.receipt", "content": {"$read": {"m.read": {
                "@a:test": {"ts": 7}, "@b:test": {"ts": 7},
            }}}})],
        );
        let threaded = shown(vec![read("@a:test"), record("@a:test", ReceiptType::Read, Some("main"))]);
        assert_eq!(threaded.len(), 2);
        assert_eq!(threaded[1]["content"]["$read"]["m.read"]["@a:test"], json!({"ts": 7, "thread_id": "main"}));
        assert!(shown(vec![]).is_empty());
        // As one event.
        let both = vec![record("@a:test", ReceiptType::Read, Some("main")), read("@a:test"), read("@b:test")];
        let one = one_receipt_event(both, user_id!("@me:test")).unwrap().unwrap();
        let one: Value = serde_json::from_str(one.json().get()).unwrap();
        assert_eq!(one["content"]["$read"]["m.read"], json!({"@a:test": {"ts": 7}, "@b:test": {"ts": 7}}));
        assert!(one_receipt_event(vec![], user_id!("@me:test")).unwrap().is_none());
    }

    #[test]
    fn private_receipts_are_for_their_owner_only() {
        let private = |user| record(user, ReceiptType::ReadPrivate, None);
        assert!(shown(vec![private("@other:test")]).is_empty());
        assert_eq!(
            shown(vec![private("@me:test"), private("@other:test")])[0]["content"]["$read"]["m.read.private"],
            json!({"@me:test": {"ts": 7}}),
        );
    }

    #[test]
    fn typing_lists_users() {
        let event = typing(&[owned_user_id!("@a:test")]).unwrap();
        let event: Value = serde_json::from_str(event.json().get()).unwrap();
        assert_eq!(event, json!({"type": "m.typing", "content": {"user_ids": ["@a:test"]}}));
    }
}
