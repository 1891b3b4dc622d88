//! Spaces: which rooms they have, by our own knowledge and by that of other servers.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#spaces>

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use outbound::HierarchyAnswer;
use rules::RoomSnapshot;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName,
    events::{StateEventType, space::child::HierarchySpaceChildEvent},
    room::{RoomSummary, RoomType},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::summary::MAX_SERVERS_ASKED;
use crate::{Engine, Result};

/// How many rooms of one space are considered. Larger ones are made by programs, or to harm.
pub(crate) const MAX_CHILDREN: usize = 2_000;
/// How many servers are named for one child.
const MAX_VIA: usize = 10;
/// The longest `order`, in characters.
const MAX_ORDER_CHARS: usize = 50;

/// A room of a space.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) room_id: OwnedRoomId,
    /// Servers that may be in it.
    pub(crate) via: Vec<OwnedServerName>,
    pub(crate) suggested: bool,
    order: Option<String>,
    sent_ms: u64,
    /// The event, stripped, with its time.
    pub(crate) event: Raw<HierarchySpaceChildEvent>,
}

/// What another server says of a room.
pub(crate) struct RemoteSpace {
    pub(crate) summary: RoomSummary,
    pub(crate) children: Vec<Child>,
    /// Of those children that this server knows and may tell us of.
    pub(crate) summaries: HashMap<OwnedRoomId, Arc<RoomSummary>>,
    /// Those children of which, by what it says, no other server would tell us either.
    pub(crate) inaccessible: HashSet<OwnedRoomId>,
}

#[derive(Deserialize, Serialize)]
struct ChildEvent {
    content: serde_json::Map<String, serde_json::Value>,
    origin_server_ts: u64,
    sender: OwnedUserId,
    state_key: OwnedRoomId,
    #[serde(rename = "type")]
    event_type: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    children_state: Vec<Box<RawValue>>,
}

impl Engine {
    /// The rooms of a room of ours that is a space, in the order in which they are shown.
    pub(crate) async fn children_of(&self, room: &RoomSnapshot, suggested_only: bool) -> Result<Vec<Child>> {
        if self.summary_of(room).await?.room_type != Some(RoomType::Space) {
            return Ok(Vec::new());
        }
        let events = room.state().filter(|((event_type, _), _)| *event_type == StateEventType::SpaceChild);
        let event_ids: Vec<_> = events.map(|(_, value)| value.event_id.clone()).take(MAX_CHILDREN).collect();
        let events = self.storage().events(&event_ids).await?;
        Ok(in_order(events.iter().filter_map(|event| child(&event.pdu.json)), suggested_only))
    }

    /// What the first of the servers that knows the room says of it. Kept for a while.
    pub(crate) async fn remote_space(
        &self,
        room_id: &RoomId,
        servers: &[OwnedServerName],
        suggested_only: bool,
    ) -> Result<Option<Arc<RemoteSpace>>> {
        let key = (room_id.to_owned(), suggested_only);
        if let Some(space) = self.inner.rooms.remote_spaces.get(&key) {
            return Ok(Some(space));
        }
        for server in servers.iter().filter(|server| *server != self.server_name()).take(MAX_SERVERS_ASKED) {
            if let Some(space) = self.ask_for_space(server, room_id, suggested_only).await {
                let space = Arc::new(space);
                self.inner.rooms.remote_spaces.insert(key, space.clone());
                return Ok(Some(space));
            }
        }
        Ok(None)
    }

    async fn ask_for_space(&self, server: &ServerName, room_id: &RoomId, suggested_only: bool) -> Option<RemoteSpace> {
        let answer = self.federation().hierarchy(server, room_id, suggested_only).await;
        let answer = answer.inspect_err(|error| {
            tracing::debug!(destination = %server, room.id = %room_id, %error, "no description of a room");
        });
        read_answer(&answer.ok()?, room_id, suggested_only)
    }
}

/// What of an answer is about the room and its children.
fn read_answer(answer: &HierarchyAnswer, room_id: &RoomId, suggested_only: bool) -> Option<RemoteSpace> {
    let summary: RoomSummary = serde_json::from_str(answer.room.get()).ok()?;
    if summary.room_id != room_id {
        return None;
    }
    let listed: Listed = serde_json::from_str(answer.room.get()).ok()?;
    let events = listed.children_state.iter().take(MAX_CHILDREN);
    let is_space = summary.room_type == Some(RoomType::Space);
    let children = in_order(events.filter(|_| is_space).filter_map(|event| child(event.get())), suggested_only);
    let told = answer.children.iter().take(MAX_CHILDREN);
    let told = told.filter_map(|child| serde_json::from_str::<RoomSummary>(child.get()).ok());
    let named: HashSet<&OwnedRoomId> = children.iter().map(|child| &child.room_id).collect();
    let told = told.filter(|summary| named.contains(&summary.room_id));
    let summaries = told.map(|summary| (summary.room_id.clone(), Arc::new(summary))).collect();
    let closed: HashSet<&str> =
        answer.inaccessible_children.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let inaccessible = named.iter().filter(|room_id| closed.contains(room_id.as_str())).map(|id| (*id).clone());
    let inaccessible = inaccessible.collect();
    Some(RemoteSpace { summary, children, summaries, inaccessible })
}

/// A room of a space, if the event names one and a server to find it by.
fn child(json: &str) -> Option<Child> {
    let event: ChildEvent = serde_json::from_str(json).ok()?;
    let via = event.content.get("via")?.as_array()?;
    let via: Vec<OwnedServerName> =
        via.iter().filter_map(|server| server.as_str()?.try_into().ok()).take(MAX_VIA).collect();
    if event.event_type != "m.space.child" || via.is_empty() {
        return None;
    }
    let order = event.content.get("order").and_then(|order| order.as_str()).filter(|order| is_order(order));
    Some(Child {
        room_id: event.state_key.clone(),
        via,
        suggested: event.content.get("suggested").and_then(serde_json::Value::as_bool).unwrap_or_default(),
        order: order.map(ToOwned::to_owned),
        sent_ms: event.origin_server_ts,
        event: Raw::from_json(to_raw_value(&event).ok()?),
    })
}

fn is_order(order: &str) -> bool {
    order.len() <= MAX_ORDER_CHARS && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// Those with an order first, by it; the others by age.
/// <https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space>
fn in_order(children: impl Iterator<Item = Child>, suggested_only: bool) -> Vec<Child> {
    let mut children: Vec<Child> = children.filter(|child| child.suggested || !suggested_only).collect();
    children.sort_by(|a, b| {
        let key = |child: &Child| (child.order.is_none(), child.order.clone(), child.sent_ms, child.room_id.clone());
        key(a).cmp(&key(b))
    });
    children
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(room_id: &str, sent_ms: u64, content: &Value) -> String {
        json!({"type": "m.space.child", "state_key": room_id, "sender": "@a:test", "origin_server_ts": sent_ms, "content": content, "depth": 1})
            .to_string()
    }

    #[test]
    fn children_stand_in_the_order_of_the_specification() {
        let events = [
            event("!d:test", 1, &json!({"via": ["test"]})),
            event("!c:test", 1, &json!({"via": ["test"]})),
            event("!b:test", 9, &json!({"via": ["test"], "order": "b"})),
            event("!a:test", 9, &json!({"via": ["test"], "order": "a", "suggested": true})),
            event("!late:test", 5, &json!({"via": ["test"], "order": "\u{1}"})),
            event("!no_via:test", 5, &json!({"via": []})),
            event("!removed:test", 5, &json!({})),
            event("not a room", 5, &json!({"via": ["test"]})),
        ];
        let children = in_order(events.iter().filter_map(|event| child(event)), false);
        let ids: Vec<_> = children.iter().map(|child| child.room_id.as_str()).collect();
        assert_eq!(ids, ["!a:test", "!b:test", "!c:test", "!d:test", "!late:test"]);
        assert!(!children[0].event.json().get().contains("depth"));
        let suggested = in_order(events.iter().filter_map(|event| child(event)), true);
        assert_eq!(suggested.len(), 1);
    }
}
