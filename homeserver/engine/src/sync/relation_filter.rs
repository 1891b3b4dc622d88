//! The part of a filter that is about relations, which ruma does not read.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#filtering>; `rel_types` and `not_rel_types` are
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3874>.

use std::collections::{BTreeMap, HashSet};

use rules::Pdu;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Deserialize;

use crate::{Engine, Result, rooms::SeenEvent};

/// Which events are wanted, by how they relate to others, and others to them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RelationFilter {
    /// Only events that an event of one of these users relates to.
    pub related_by_senders: Option<Vec<OwnedUserId>>,
    /// Only events that another one relates to in one of these ways.
    pub related_by_rel_types: Option<Vec<String>>,
    /// Only events that relate to another one in one of these ways.
    #[serde(rename = "org.matrix.msc3874.rel_types", alias = "rel_types")]
    pub rel_types: Option<Vec<String>>,
    /// No events that relate to another one in one of these ways.
    #[serde(rename = "org.matrix.msc3874.not_rel_types", alias = "not_rel_types")]
    pub not_rel_types: Vec<String>,
}

impl RelationFilter {
    /// Whether an event relates to another one, or does not, as is wanted.
    pub(crate) fn allows(&self, pdu: &Pdu) -> bool {
        if self.rel_types.is_none() && self.not_rel_types.is_empty() {
            return true;
        }
        let relation = pdu.relation();
        let is_of = |types: &Vec<String>| relation.as_ref().is_some_and(|relation| types.contains(&relation.rel_type));
        self.rel_types.as_ref().is_none_or(is_of) && !is_of(&self.not_rel_types)
    }

    /// Whether it matters what relates to an event.
    pub(crate) fn asks_for_children(&self) -> bool {
        self.related_by_senders.is_some() || self.related_by_rel_types.is_some()
    }
}

impl Engine {
    /// Keeps those of some events that others relate to as is wanted.
    pub(crate) async fn retain_related(
        &self,
        filter: &RelationFilter,
        mut events: Vec<SeenEvent>,
    ) -> Result<Vec<SeenEvent>> {
        if !filter.asks_for_children() || events.is_empty() {
            return Ok(events);
        }
        let mut by_room: BTreeMap<OwnedRoomId, Vec<OwnedEventId>> = BTreeMap::new();
        for seen in &events {
            let pdu = &seen.event.pdu;
            by_room.entry(pdu.room_id.clone()).or_default().push(pdu.event_id.clone());
        }
        let mut related: HashSet<OwnedEventId> = HashSet::new();
        for (room_id, event_ids) in by_room {
            for count in self.storage().relation_counts(&room_id, &event_ids, i64::MAX, true).await? {
                let by_sender = filter.related_by_senders.as_ref().is_none_or(|users| users.contains(&count.sender));
                let by_type = filter.related_by_rel_types.as_ref().is_none_or(|types| types.contains(&count.rel_type));
                if by_sender && by_type {
                    related.insert(count.target_id);
                }
            }
        }
        events.retain(|seen| related.contains(&seen.event.pdu.event_id));
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_apart_by_what_they_relate_to() {
        let pdu = |content: serde_json::Value| {
            let json = json!({
                "room_id": "!room:test", "sender": "@a:test", "type": "m.room.message", "content": content,
                "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
            });
            Pdu::from_json("$event".try_into().unwrap(), json.to_string().into(), false).unwrap()
        };
        let threaded = pdu(json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": "$root" } }));
        let plain = pdu(json!({ "body": "plain" }));
        for (filter, of_thread, of_plain) in [
            (json!({}), true, true),
            (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), true, false),
            (json!({ "rel_types": ["m.reference"] }), false, false),
            (json!({ "org.matrix.msc3874.not_rel_types": ["m.thread", "m.reference"] }), false, true),
        ] {
            let read: RelationFilter = serde_json::from_value(filter.clone()).unwrap();
            assert_eq!((read.allows(&threaded), read.allows(&plain)), (of_thread, of_plain), "{filter}");
        }
    }
}
