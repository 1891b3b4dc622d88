//! Whether a redaction takes effect, and what it leaves.
//!
//! Spec: <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>,
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use ruma::{canonical_json::redact_in_place, room_version_rules::RoomVersionRules};

use super::authorise::PowerLevels;
use crate::{Change, Pdu, event::read_json};

/// Whether the redaction may take effect on its target: it is of the same room, and its sender has the power, or is on
/// the server of the target's sender.
pub fn takes_effect(redaction: &Pdu, target: &Pdu, levels: &PowerLevels) -> bool {
    redaction.room_id == target.room_id
        && (redaction.sender.server_name() == target.sender.server_name() || levels.may_redact(&redaction.sender))
}

/// Whether one of our users may ask for the redaction: of their own events, or with the power. Whose an event is that we
/// lack, nobody knows.
pub fn may_ask(sender: &ruma::UserId, target: Option<&Pdu>, levels: &PowerLevels) -> bool {
    target.is_some_and(|target| target.sender == sender) || levels.may_redact(sender)
}

/// The redacted form of an event, as canonical JSON.
pub fn redacted_json(target: &Pdu, rules: &RoomVersionRules) -> Option<Box<str>> {
    let mut object = read_json(&target.json).ok()?;
    redact_in_place(&mut object, &rules.redaction, None).ok()?;
    serde_json::to_string(&object).ok().map(Into::into)
}

/// The change that makes a redaction take effect.
pub fn change(redaction: &Pdu, target: &Pdu, rules: &RoomVersionRules) -> Option<Change> {
    Some(Change::Redaction {
        event_id: target.event_id.clone(),
        redacted_by: redaction.event_id.clone(),
        json: redacted_json(target, rules)?,
    })
}
