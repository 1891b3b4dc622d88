//! Which servers are in a room: those that have joined members, and those that were said to have some when we entered it
//! without knowing its members.

use std::collections::BTreeSet;

use ruma::UserId;

use super::Report;
use crate::{Result, database::Transaction, dialect::db, names::decode};

const INVARIANT: &str = "the servers in a room are those of its joined members";

pub(super) async fn check(snapshot: &mut Transaction, report: &mut Report) -> Result<()> {
    const ROOMS: &str = "SELECT r.room_nid, n.name FROM rooms r JOIN names n ON n.name_nid = r.room_nid";
    const MEMBERS: &str = "SELECT k.name FROM room_state s JOIN names k ON k.name_nid = s.state_key_nid
        WHERE s.room_nid = $1 AND s.until IS NULL AND s.membership = 'join'";
    const SERVERS: &str = "SELECT n.name FROM room_servers s JOIN names n ON n.name_nid = s.server_nid
        WHERE s.room_nid = $1 AND s.until IS NULL";
    // Of which not all members are known.
    const NAMED: &str = "SELECT servers FROM partial_states WHERE room_nid = $1";
    let rooms: Vec<(i64, String)> =
        db!(snapshot.connection(), |connection| sqlx::query_as(ROOMS).fetch_all(connection).await)?;
    for (room_nid, room) in rooms {
        let members: Vec<String> = db!(snapshot.connection(), |connection| {
            sqlx::query_scalar(MEMBERS).bind(room_nid).fetch_all(connection).await
        })?;
        let servers: Vec<String> = db!(snapshot.connection(), |connection| {
            sqlx::query_scalar(SERVERS).bind(room_nid).fetch_all(connection).await
        })?;
        let servers: BTreeSet<String> = servers.into_iter().map(decode).collect();
        let mut joined: BTreeSet<String> = members.into_iter().filter_map(|user| server_of(&decode(user))).collect();
        let named: Option<String> = db!(snapshot.connection(), |connection| {
            sqlx::query_scalar(NAMED).bind(room_nid).fetch_optional(connection).await
        })?;
        joined.extend(named.and_then(|named| serde_json::from_str::<Vec<String>>(&named).ok()).into_iter().flatten());
        let room = decode(room);
        report.extend(INVARIANT, joined.difference(&servers).map(|server| format!("{server} not noted in {room}")));
        report.extend(INVARIANT, servers.difference(&joined).map(|server| format!("{server} not joined to {room}")));
    }
    Ok(())
}

fn server_of(user_id: &str) -> Option<String> {
    Some(UserId::parse(user_id).ok()?.server_name().to_string())
}
