//! The graph of events: every event is read once, and what it says is compared with what the tables say of it.

use std::collections::{HashMap, HashSet};

use rules::Pdu;

use super::Report;
use crate::{
    Result,
    database::Transaction,
    dialect::{db, is_storable, list, number_list, parsed},
    names::decode,
};

/// How many events are in memory at a time: at up to 64 KiB each, 64 MB at the very worst.
const CHUNK: i64 = 1000;

const READABLE: &str = "an event can be read";
const COLUMNS: &str = "an event's columns say what its JSON says";
const MEMBERSHIP: &str = "a membership in the room state is what the event says";
const PREVIOUS: &str = "a missing prev_event is a backward extremity";
const MISSED: &str = "a backward extremity is missing";
const AUTH: &str = "the auth events of an accepted event are stored";
const EXTREMITY_STORED: &str = "a forward extremity is a stored, accepted event";
const EXTREMITY_LAST: &str = "no event that came after a forward extremity follows upon it";
const EXTREMITY_SOME: &str = "a room with a timeline has a forward extremity";

/// Number, id, JSON, standing, order, depth; room, type, state key, sender; whether it is the current value of a key of
/// the room state, and its membership there.
type Row =
    (i64, String, String, i16, Option<i64>, i64, String, String, Option<String>, String, Option<i64>, Option<String>);

/// An event with what the tables say of it.
struct Checked {
    nid: i64,
    /// Whether others build upon it: accepted, with a place in the timeline.
    builds: bool,
    /// The same, but not as history that was read backwards. That may show that what was taken for a fork was built
    /// upon by others, which changes nothing about the head of the room.
    builds_live: bool,
    accepted: bool,
    pdu: Pdu,
}

pub(super) async fn check(snapshot: &mut Transaction, report: &mut Report) -> Result<()> {
    let extremities = check_extremities(snapshot, report).await?;
    check_missed(snapshot, report).await?;
    let mut after = 0;
    loop {
        let rows = chunk(snapshot, after).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.0;
        let events: Vec<Checked> = rows.into_iter().filter_map(|row| read(row, report)).collect();
        check_chunk(snapshot, &events, &extremities, report).await?;
    }
}

async fn chunk(snapshot: &mut Transaction, after: i64) -> Result<Vec<Row>> {
    const SQL: &str = "SELECT e.event_nid, e.event_id, e.json, e.standing, e.timeline_order, e.depth,
            r.name, t.name, k.name, u.name, s.since, s.membership
        FROM events e JOIN names r ON r.name_nid = e.room_nid JOIN names t ON t.name_nid = e.type_nid
            JOIN names u ON u.name_nid = e.sender_nid LEFT JOIN names k ON k.name_nid = e.state_key_nid
            LEFT JOIN room_state s ON s.room_nid = e.room_nid AND s.type_nid = e.type_nid
                AND s.state_key_nid = e.state_key_nid AND s.until IS NULL AND s.event_id = e.event_id
        WHERE e.event_nid > $1 ORDER BY e.event_nid LIMIT +$2";
    Ok(db!(snapshot.connection(), |connection| {
        sqlx::query_as(SQL).bind(after).bind(CHUNK).fetch_all(connection).await
    })?)
}

/// Reads an event, and compares it with its row.
fn read(row: Row, report: &mut Report) -> Option<Checked> {
    let (nid, event_id, json, standing, order, depth, room, event_type, state_key, sender, since, membership) = row;
    let id = parsed(&event_id, "events", "event_id").ok();
    let Some(pdu) = id.and_then(|id| Pdu::from_json(id, json.into(), standing == 2).ok()) else {
        report.add(READABLE, event_id);
        return None;
    };
    let same = pdu.room_id.as_str() == decode(room)
        && pdu.event_type.to_string() == decode(event_type)
        && pdu.state_key == state_key.map(decode)
        && pdu.sender.as_str() == decode(sender)
        && pdu.depth as i64 == depth;
    if !same {
        report.add(COLUMNS, event_id.as_str());
    }
    let says = pdu.membership().map(|(_, membership)| membership.to_string());
    if since.is_some() && says != membership {
        report.add(MEMBERSHIP, event_id);
    }
    let accepted = standing == 0;
    let builds_live = accepted && order.is_some_and(|order| order > 0);
    Some(Checked { nid, builds: order.is_some(), builds_live, accepted, pdu })
}

async fn check_chunk(
    snapshot: &mut Transaction,
    events: &[Checked],
    extremities: &HashSet<String>,
    report: &mut Report,
) -> Result<()> {
    let named = events.iter().flat_map(|event| event.pdu.prev_events.iter().chain(&event.pdu.auth_events));
    let standings = standings(snapshot, list(named.map(|event_id| event_id.as_str()))).await?;
    let missing = backward_extremities(snapshot, number_list(events.iter().map(|event| event.nid))).await?;
    for Checked { nid, builds, builds_live, accepted, pdu } in events {
        for prev in pdu.prev_events.iter().filter(|_| *builds).map(|prev| prev.as_str()) {
            if *builds_live && extremities.contains(prev) {
                report.add(EXTREMITY_LAST, format!("{} upon {prev}", pdu.event_id));
            }
            let here = standings.get(prev).is_some_and(|standing| *standing != 3);
            if !here && is_storable(prev) && !missing.contains(&(*nid, prev.to_owned())) {
                report.add(PREVIOUS, format!("{prev}, before {}", pdu.event_id));
            }
        }
        for auth in pdu.auth_events.iter().filter(|_| *accepted).map(|auth| auth.as_str()) {
            if !standings.contains_key(auth) {
                report.add(AUTH, format!("{auth}, of {}", pdu.event_id));
            }
        }
    }
    Ok(())
}

async fn standings(snapshot: &mut Transaction, event_ids: String) -> Result<HashMap<String, i16>> {
    const SQL: &str = "SELECT event_id, standing FROM events WHERE event_id IN (SELECT value FROM json_each($1))";
    let rows: Vec<(String, i16)> =
        db!(snapshot.connection(), |connection| { sqlx::query_as(SQL).bind(event_ids).fetch_all(connection).await })?;
    Ok(rows.into_iter().collect())
}

async fn backward_extremities(snapshot: &mut Transaction, event_nids: String) -> Result<HashSet<(i64, String)>> {
    const SQL: &str = "SELECT event_nid, missing_event_id FROM backward_extremities
        WHERE event_nid IN (SELECT CAST(value AS BIGINT) FROM json_each($1))";
    let rows: Vec<(i64, String)> =
        db!(snapshot.connection(), |connection| { sqlx::query_as(SQL).bind(event_nids).fetch_all(connection).await })?;
    Ok(rows.into_iter().collect())
}

/// What is said to be missing must not be here.
async fn check_missed(snapshot: &mut Transaction, report: &mut Report) -> Result<()> {
    const SQL: &str = "SELECT b.missing_event_id FROM backward_extremities b
        WHERE EXISTS (SELECT 1 FROM events e WHERE e.event_id = b.missing_event_id AND e.standing <> 3)
        OR NOT EXISTS (SELECT 1 FROM events e WHERE e.event_nid = b.event_nid)";
    let details: Vec<String> =
        db!(snapshot.connection(), |connection| sqlx::query_scalar(SQL).fetch_all(connection).await)?;
    report.extend(MISSED, details);
    Ok(())
}

/// Checks the forward extremities of all rooms, and returns them.
async fn check_extremities(snapshot: &mut Transaction, report: &mut Report) -> Result<HashSet<String>> {
    const SQL: &str = "SELECT n.name, r.forward_extremities, EXISTS
            (SELECT 1 FROM events e WHERE e.room_nid = r.room_nid AND e.timeline_order > 0)
        FROM rooms r JOIN names n ON n.name_nid = r.room_nid";
    let rows: Vec<(String, String, bool)> =
        db!(snapshot.connection(), |connection| sqlx::query_as(SQL).fetch_all(connection).await)?;
    let mut all = HashSet::new();
    for (room, json, has_timeline) in rows {
        let extremities: Vec<(String, u64)> = serde_json::from_str(&json).unwrap_or_default();
        if extremities.is_empty() && has_timeline {
            report.add(EXTREMITY_SOME, decode(room));
        }
        all.extend(extremities.into_iter().map(|(event_id, _)| event_id));
    }
    let standings = standings(snapshot, list(all.iter().map(String::as_str))).await?;
    let unfit = all.iter().filter(|event_id| standings.get(*event_id) != Some(&0));
    report.extend(EXTREMITY_STORED, unfit.cloned());
    Ok(all)
}
