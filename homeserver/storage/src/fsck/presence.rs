//! Which servers are in a room: those that have joined members.

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
        let joined: BTreeSet<String> = members.into_iter().filter_map(|user| server_of(&decode(user))).collect();
        let room = decode(room);
        report.extend(INVARIANT, joined.difference(&servers).map(|server| format!("{server} not noted in {room}")));
        report.extend(INVARIANT, servers.difference(&joined).map(|server| format!("{server} not joined to {room}")));
    }
    Ok(())
}

fn server_of(user_id: &str) -> Option<String> {
    Some(UserId::parse(user_id).ok()?.server_name().to_string())
}
