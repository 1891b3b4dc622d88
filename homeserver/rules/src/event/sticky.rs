//! Events that are delivered to whoever is in the room for a while, however much happens after them.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use serde_json::Value;

use crate::Pdu;

/// The field of an event that says that it is sticky.
pub const FIELD: &str = "msc4354_sticky";
/// For how long an event is sticky at most: an hour, in milliseconds.
pub const DURATION_MAX_MS: u32 = 3_600_000;
/// The part of the field that says for how long.
const DURATION: &str = "duration_ms";

/// For how long the field says that its event is sticky. Others may write anything there.
pub(crate) fn read(field: &Value) -> Option<u32> {
    let duration_ms = field.get(DURATION)?.as_u64()?;
    Some(u32::try_from(duration_ms).unwrap_or(u32::MAX).min(DURATION_MAX_MS)).filter(|duration_ms| *duration_ms > 0)
}

/// The field of an event of ours.
pub(crate) fn field(duration_ms: u32) -> CanonicalJsonValue {
    let duration = CanonicalJsonValue::Integer(duration_ms.min(DURATION_MAX_MS).into());
    CanonicalJsonValue::Object(CanonicalJsonObject::from([(DURATION.to_owned(), duration)]))
}

impl Pdu {
    /// Until when the event is sticky, in milliseconds since the epoch, if it is at all. Whose clock is ahead gains
    /// nothing: it counts from `received_ms` at the latest.
    pub fn sticky_until_ms(&self, received_ms: u64) -> Option<u64> {
        let sent_ms = u64::from(self.origin_server_ts.0);
        Some(sent_ms.min(received_ms).saturating_add(self.sticky_duration_ms?.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_makes_an_event_sticky() {
        for (value, expected) in [
            (json!({ "duration_ms": 60_000 }), Some(60_000)),
            (json!({ "duration_ms": 99_000_000_000_u64 }), Some(DURATION_MAX_MS)),
            (json!({ "duration_ms": 0 }), None),
            (json!({ "duration_ms": -1 }), None),
            (json!({ "duration_ms": 1.5 }), None),
            (json!({ "duration_ms": "60000" }), None),
            (json!({}), None),
            (json!([60_000]), None),
            (json!(null), None),
        ] {
            assert_eq!(read(&value), expected, "{value}");
        }
    }
}
