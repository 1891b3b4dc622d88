//! What stands in a transaction.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>

mod device_lists;

use std::{collections::BTreeMap, sync::Arc};

use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName, UInt, events::receipt::ReceiptType};
use serde_json::value::RawValue;
use storage::{OutboundItem, ReceiptRecord};

use super::EduJson;

/// Events in one transaction; set by the specification.
pub(super) const EVENTS_MAX: usize = 50;
/// Receipts, changes of devices and messages to devices in one transaction. Each takes an EDU in the worst case, of
/// which the specification allows 100.
pub(super) const EDUS_MAX: usize = 50;
/// Ephemeral EDUs in one transaction: the rest of the 100.
pub(super) const EPHEMERAL_MAX: usize = 50;

/// The body of a transaction.
pub(super) fn content(
    origin: &ServerName,
    origin_server_ts: u64,
    items: &[OutboundItem],
    ephemeral: &[Arc<EduJson>],
    device_names: bool,
) -> CanonicalJsonObject {
    let receipts = items.iter().filter_map(|item| match item {
        OutboundItem::Receipt(_, receipt) => Some(receipt),
        _ => None,
    });
    let mut edus = receipt_edus(receipts);
    edus.extend(items.iter().filter_map(|item| match item {
        OutboundItem::DeviceList(_, update) => {
            edu("m.device_list_update", &device_lists::content(update, device_names)?)
        }
        OutboundItem::Edu(_, outbound) => edu(&outbound.edu_type, &outbound.content),
        OutboundItem::Event(..) | OutboundItem::Receipt(..) => None,
    }));
    edus.extend(ephemeral.iter().filter_map(|ephemeral| edu(&ephemeral.edu_type, &ephemeral.content)));
    object([
        ("origin", string(origin.as_str())),
        ("origin_server_ts", integer(origin_server_ts)),
        ("pdus", CanonicalJsonValue::Array(items.iter().filter_map(pdu).collect())),
        ("edus", CanonicalJsonValue::Array(edus)),
    ])
}

fn pdu(item: &OutboundItem) -> Option<CanonicalJsonValue> {
    let OutboundItem::Event(_, pdu) = item else { return None };
    match serde_json::from_str::<CanonicalJsonObject>(&pdu.json) {
        Ok(object) => Some(CanonicalJsonValue::Object(object)),
        Err(error) => {
            tracing::error!(event_id = %pdu.event_id, %error, "a stored event is not canonical JSON and is not sent");
            None
        }
    }
}

fn edu(edu_type: &str, content: &RawValue) -> Option<CanonicalJsonValue> {
    match serde_json::from_str::<CanonicalJsonValue>(content.get()) {
        Ok(content) => Some(edu_object(edu_type, content)),
        Err(error) => {
            tracing::error!(edu_type, %error, "an EDU is not canonical JSON and is not sent");
            None
        }
    }
}

/// As few as possible: one, unless somebody has read in several threads of a room, for which one has no place.
fn receipt_edus<'a>(receipts: impl Iterator<Item = &'a ReceiptRecord>) -> Vec<CanonicalJsonValue> {
    let mut edus: Vec<BTreeMap<String, CanonicalJsonObject>> = Vec::new();
    for receipt in receipts.filter(|receipt| receipt.receipt_type == ReceiptType::Read) {
        let (room_id, user_id) = (receipt.room_id.as_str(), receipt.user_id.as_str());
        let has_place = |edu: &BTreeMap<String, CanonicalJsonObject>| {
            edu.get(room_id).is_none_or(|readers| !readers.contains_key(user_id))
        };
        let index = edus.iter().position(has_place).unwrap_or_else(|| {
            edus.push(BTreeMap::new());
            edus.len() - 1
        });
        edus[index].entry(room_id.to_owned()).or_default().insert(user_id.to_owned(), reader(receipt));
    }
    edus.into_iter().map(receipt_edu).collect()
}

fn receipt_edu(rooms: BTreeMap<String, CanonicalJsonObject>) -> CanonicalJsonValue {
    let rooms = rooms.into_iter().map(|(room_id, readers)| {
        (room_id, CanonicalJsonValue::Object(object([("m.read", CanonicalJsonValue::Object(readers))])))
    });
    edu_object("m.receipt", CanonicalJsonValue::Object(rooms.collect()))
}

fn reader(receipt: &ReceiptRecord) -> CanonicalJsonValue {
    let mut data = object([("ts", CanonicalJsonValue::Integer(receipt.ts.0.into()))]);
    if let Some(thread_id) = &receipt.thread_id {
        data.insert("thread_id".to_owned(), string(thread_id));
    }
    CanonicalJsonValue::Object(object([
        ("data", CanonicalJsonValue::Object(data)),
        ("event_ids", CanonicalJsonValue::Array(vec![string(receipt.event_id.as_str())])),
    ]))
}

fn edu_object(edu_type: &str, content: CanonicalJsonValue) -> CanonicalJsonValue {
    CanonicalJsonValue::Object(object([("edu_type", string(edu_type)), ("content", content)]))
}

fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonObject {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn string(text: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(text.to_owned())
}

fn integer(value: u64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(UInt::new_saturating(value).into())
}
