//! What each server made of each event, for people who look for the cause of a finding.

use std::collections::{BTreeMap, BTreeSet};

use rules::{Pdu, change::Standing};
use ruma::OwnedEventId;
use storage::{StateSpan, StoredEvent};

use super::RoomFacts;
use crate::{Failure, universe::Universe};

/// How many characters of an event id tell it from the others of a universe.
const SHORT_ID: usize = 7;

/// One line for each event of a room.
pub(super) async fn lines(universe: &Universe, room: usize, facts: &[RoomFacts]) -> Result<Vec<String>, Failure> {
    let mut by_depth: BTreeMap<(u64, OwnedEventId), String> = BTreeMap::new();
    for event_id in known_ids(facts) {
        let mut standings = String::new();
        let mut known: Option<std::sync::Arc<StoredEvent>> = None;
        for server in &universe.servers {
            let stored = server.storage().event(&event_id).await?;
            standings.push_str(&format!("{:<12}", stored.as_deref().map_or_else(|| "-".to_owned(), standing)));
            known = known.or(stored);
        }
        let Some(known) = known else { continue };
        by_depth.insert((known.pdu.depth, event_id), format!("{standings} {}", description(&known.pdu)));
    }
    let names: String = universe.servers.iter().map(|server| format!("{:<12}", server.name())).collect();
    let head = format!("room {}: {:<SHORT_ID$} depth {names}", room + 1, "event");
    let rows =
        by_depth.into_iter().map(|((depth, id), text)| format!("room {}: {} {depth:>5} {text}", room + 1, short(&id)));
    Ok(std::iter::once(head).chain(rows).chain(stays(universe, room, facts)).collect())
}

/// What each server thinks of the users' memberships, by its own order; and what the clients of its users were told.
fn stays(universe: &Universe, room: usize, facts: &[RoomFacts]) -> Vec<String> {
    let mut lines = Vec::new();
    for facts in facts {
        for user in &universe.users {
            let (name, user_id) = (universe.servers[facts.server].name(), &user.requester.user_id);
            let spans: Vec<String> = facts.memberships[user_id].iter().map(span).collect();
            lines.push(format!("room {}: {name} has {user_id} as {}", room + 1, spans.join(", ")));
            let own = user.client.rooms.get(&universe.rooms[room]).filter(|_| user.server == facts.server);
            for stay in own.into_iter().flat_map(|seen| &seen.stays) {
                let order = |id| facts.orders.get(id).map_or("?".to_owned(), ToString::to_string);
                let orders: Vec<String> = stay.events.iter().map(order).collect();
                lines.push(format!("    told until {} (over: {}): {}", stay.until, stay.over, orders.join(" ")));
            }
        }
    }
    lines
}

fn span(span: &StateSpan) -> String {
    let since = if span.since < -1_000_000 { "ever".to_owned() } else { span.since.to_string() };
    let membership = span.membership.as_ref().map_or("nothing", |membership| membership.as_str());
    format!("{membership} since {since} {}", span.event_id.as_ref().map(short).unwrap_or_default())
}

fn known_ids(facts: &[RoomFacts]) -> BTreeSet<OwnedEventId> {
    let mut ids = BTreeSet::new();
    for event in facts.iter().flat_map(|facts| &facts.timeline) {
        ids.insert(event.pdu.event_id.clone());
        ids.extend(event.pdu.prev_events.iter().cloned());
        ids.extend(event.pdu.auth_events.iter().cloned());
    }
    ids
}

fn standing(event: &StoredEvent) -> String {
    let order = event.order.map(|order| order.to_string()).unwrap_or_default();
    let state = if event.state_before.is_some() { "+" } else { "" };
    match &event.standing {
        Standing::Accepted => format!("ok{state} {order}"),
        Standing::SoftFailed(_) => format!("soft{state} {order}"),
        Standing::Rejected(_) => format!("REJECT{state} {order}"),
        Standing::Outlier => format!("outlier{state} {order}"),
    }
}

fn description(pdu: &Pdu) -> String {
    let key = pdu.state_key.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default();
    let membership = pdu.membership().map(|(_, membership)| format!(" {membership}")).unwrap_or_default();
    let ids = |ids: &[OwnedEventId]| ids.iter().map(short).collect::<Vec<_>>().join(" ");
    format!(
        "{} {}{key}{membership} prev [{}] auth [{}]",
        pdu.sender,
        pdu.event_type,
        ids(&pdu.prev_events),
        ids(&pdu.auth_events)
    )
}

fn short(event_id: &OwnedEventId) -> String {
    event_id.as_str().chars().skip(1).take(SHORT_ID).collect()
}
