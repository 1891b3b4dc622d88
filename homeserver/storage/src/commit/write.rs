//! The rows of one batch, and writing them: a few statements of many rows each.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use rules::{Pdu, change::Position};
use ruma::{OwnedEventId, OwnedRoomId, events::room::member::MembershipState};

use crate::{
    LogEntry, Result, StoredEvent,
    commit::{
        complete_state::{CompletedRoom, RejudgedEvent, enter_whole, note_known_early},
        facts::{Facts, Room},
        historic_state::HistoricState,
        keys::KeyWrites,
    },
    database::Transaction,
    dialect::{db, event_id_list, without_nul},
    insert::{Insert, Script, Value, row},
    notifications::UnreadChange,
};

static NAMES: Insert = Insert::new("names (name_nid, name)", "");
static EVENTS: Insert = Insert::new(
    "events (event_nid, event_id, room_nid, type_nid, state_key_nid, sender_nid, depth, origin_server_ts, standing,
        reason, timeline_order, state_base, json)",
    "",
);
static AUTH_EVENTS: Insert = Insert::new("event_auth (event_nid, auth_event_id)", "ON CONFLICT DO NOTHING");
static STATE_DELTAS: Insert = Insert::new(
    "event_state_delta (event_nid, type_nid, state_key_nid, event_id, membership)",
    "ON CONFLICT DO NOTHING",
);
static MISSING: Insert =
    Insert::new("backward_extremities (room_nid, missing_event_id, event_nid, depth)", "ON CONFLICT DO NOTHING");
static AWAITED_REDACTIONS: Insert = Insert::new("awaited_redactions (event_id, redacted_by)", "ON CONFLICT DO NOTHING");
static RELATIONS: Insert = Insert::new(
    "relations (room_nid, target_id, timeline_order, event_id, rel_type, type_nid, sender_nid, annotation_key)",
    "ON CONFLICT DO NOTHING",
);
static STICKY: Insert =
    Insert::new("sticky_events (position, room_nid, event_id, until_ts)", "ON CONFLICT (position) DO NOTHING");
static SEARCH_TEXTS: Insert =
    Insert::new("search_texts (event_nid, room_nid, field, ts, text)", "ON CONFLICT DO NOTHING");
static ROOMS: Insert = Insert::new(
    "rooms (room_nid, version, revision, position, forward_extremities)",
    "ON CONFLICT (room_nid) DO UPDATE SET revision = excluded.revision, position = excluded.position,
        forward_extremities = excluded.forward_extremities",
);
static STATE: Insert = Insert::new(
    "room_state (room_nid, type_nid, state_key_nid, since, until, event_id, membership)",
    "ON CONFLICT (room_nid, type_nid, state_key_nid, since) DO UPDATE SET until = excluded.until,
        event_id = excluded.event_id, membership = excluded.membership",
);
static ENTERED: Insert = Insert::new(
    "user_directory_rooms (room_nid, user_nid)",
    "ON CONFLICT (room_nid) DO UPDATE SET user_nid = excluded.user_nid",
);
static PARTIAL: Insert = Insert::new(
    "partial_states (room_nid, event_id, position, entered_by, servers, unverified, retry_at_ts)",
    "ON CONFLICT (room_nid) DO UPDATE SET event_id = excluded.event_id, position = excluded.position,
        entered_by = excluded.entered_by, servers = excluded.servers, unverified = excluded.unverified, failures = 0,
        retry_at_ts = 0",
);
static SERVERS: Insert = Insert::new("room_servers (room_nid, server_nid, since)", "ON CONFLICT DO NOTHING");
static RECIPIENTS: Insert = Insert::new("log_recipients (server_nid, position)", "ON CONFLICT DO NOTHING");
static MEMBERSHIPS: Insert = Insert::new(
    "memberships (user_nid, room_nid, membership, event_id, sender_nid, position, stripped_state, forgotten)",
    "ON CONFLICT (user_nid, room_nid) DO UPDATE SET membership = excluded.membership, event_id = excluded.event_id,
        sender_nid = excluded.sender_nid, position = excluded.position, stripped_state = excluded.stripped_state,
        forgotten = excluded.forgotten",
);
static RECEIPTS: Insert = Insert::new(
    "receipts (room_nid, user_nid, receipt_type, thread_id, event_id, ts, position)",
    "ON CONFLICT (room_nid, user_nid, receipt_type, thread_id) DO UPDATE SET event_id = excluded.event_id,
        ts = excluded.ts, position = excluded.position",
);
static NOTIFIED_EVENTS: Insert = Insert::new(
    "notified_events (position, room_nid, event_id, sender_nid, thread_id, ts, actions, everyone, everyone_highlight, is_call)",
    "ON CONFLICT (position) DO NOTHING",
);
static NOTIFIED: Insert =
    Insert::new("notified (position, user_nid, highlight, actions)", "ON CONFLICT (position, user_nid) DO NOTHING");
static READ_UP_TO: Insert = Insert::new(
    "read_up_to (user_nid, room_nid, thread_id, position, changed)",
    "ON CONFLICT (user_nid, room_nid, thread_id) DO UPDATE SET position = excluded.position,
        changed = excluded.changed WHERE excluded.position > read_up_to.position",
);
static ACCOUNT_DATA: Insert = Insert::new(
    "account_data (user_nid, room_nid, type, content, position)",
    "ON CONFLICT (user_nid, room_nid, type) DO UPDATE SET content = excluded.content, position = excluded.position",
);
static THREAD_SUBSCRIPTIONS: Insert = Insert::new(
    "thread_subscriptions (user_nid, room_nid, thread_root, subscribed, automatic, position)",
    "ON CONFLICT (user_nid, room_nid, thread_root) DO UPDATE SET subscribed = excluded.subscribed,
        automatic = excluded.automatic, position = excluded.position",
);
static TRANSACTIONS: Insert =
    Insert::new("client_transactions (transaction_id, user_id, device_id, scope, event_id, ts)", "");
static LOG: Insert = Insert::new("log (position, kind, room_nid, user_nid, event_id, outbound, membership)", "");

/// Nobody misses any more what has arrived.
const FOUND: &str = "DELETE FROM backward_extremities WHERE missing_event_id IN (SELECT value FROM json_each(?))";
const HEAD: &str = "UPDATE log_head SET position = ?, event_nid = ?, name_nid = ?";

/// An event to be inserted.
pub(super) struct EventRow {
    pub(super) nid: i64,
    pub(super) pdu: Arc<Pdu>,
    /// Of the room, the type and the sender.
    pub(super) names: [i64; 3],
    pub(super) state_key_nid: Option<i64>,
    pub(super) standing: i16,
    pub(super) reason: Option<String>,
    pub(super) order: Option<i64>,
    pub(super) state_base: Option<Position>,
}

/// A stored event that gets another standing.
pub(super) struct Upgrade {
    pub(super) nid: i64,
    pub(super) standing: i16,
    pub(super) reason: Option<String>,
    pub(super) order: Option<i64>,
    pub(super) state_base: Option<Position>,
    /// The event, which may have won a signature.
    pub(super) pdu: Arc<Pdu>,
    /// Whether it was stored with a state before it, which the new one replaces.
    pub(super) had_state: bool,
}

/// A stored event that loses its content.
pub(super) struct RedactionRow {
    pub(super) event_id: OwnedEventId,
    pub(super) redacted_by: OwnedEventId,
    pub(super) json: Box<str>,
}

/// A server that enters or leaves a room.
pub(super) struct ServerRow {
    pub(super) room_nid: i64,
    pub(super) server_nid: i64,
    pub(super) position: Position,
    pub(super) present: bool,
}

/// One key of one room's state: room, event type, state key.
pub(super) type StateKeyNids = (i64, i64, i64);

/// One value of one key of a room's state.
pub(super) struct StateRow {
    pub(super) key: StateKeyNids,
    pub(super) since: i64,
    pub(super) until: Option<i64>,
    pub(super) event_id: Option<OwnedEventId>,
    pub(super) membership: Option<MembershipState>,
}

impl StateRow {
    fn values(&self) -> Vec<Value> {
        let (room_nid, type_nid, state_key_nid) = self.key;
        let event_id = self.event_id.as_ref().map(ToString::to_string);
        let membership = self.membership.as_ref().map(|membership| without_nul(membership.as_str()));
        row![room_nid, type_nid, state_key_nid, self.since, self.until, event_id, membership]
    }

    pub(super) async fn insert(rows: &[Self], transaction: &mut Transaction) -> Result<()> {
        Ok(STATE.run(transaction, rows.iter().map(Self::values).collect()).await?)
    }
}

/// The state that a batch sets, in order.
#[derive(Default)]
pub(super) struct StateWrites {
    pub(super) rows: Vec<StateRow>,
    /// The last row of each key.
    last: HashMap<StateKeyNids, usize>,
    /// Where stored values end: keys, and from when on they have another value.
    ends: Vec<(StateKeyNids, i64)>,
}

impl StateWrites {
    /// Sets a value.
    pub(super) fn set(&mut self, row: StateRow) {
        match self.last.get(&row.key).map(|index| &mut self.rows[*index]) {
            Some(last) if last.since == row.since => return *last = row,
            Some(last) => last.until = Some(row.since),
            None => self.ends.push((row.key, row.since)),
        }
        self.begin(row);
    }

    /// Sets the first value of a key.
    pub(super) fn begin(&mut self, row: StateRow) {
        self.last.insert(row.key, self.rows.len());
        self.rows.push(row);
    }

    /// Ends the stored values that are followed by others.
    async fn end(&self, transaction: &mut Transaction) -> Result<()> {
        const END: &str = "UPDATE room_state SET until = $1
            WHERE room_nid = $2 AND type_nid = $3 AND state_key_nid = $4 AND until IS NULL";
        for ((room_nid, type_nid, state_key_nid), until) in &self.ends {
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(END).bind(until).bind(room_nid).bind(type_nid).bind(state_key_nid);
                query.execute(connection).await.map(drop)
            })?;
        }
        Ok(())
    }
}

/// An entry of the log, with the numbers of its names.
pub(super) struct LogRow {
    pub(super) room_nid: Option<i64>,
    pub(super) user_nid: Option<i64>,
    pub(super) entry: LogEntry,
}

/// Everything that a batch writes.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) names: Vec<(i64, String)>,
    pub(super) events: Vec<EventRow>,
    pub(super) upgrades: Vec<Upgrade>,
    pub(super) auth_events: Vec<Vec<Value>>,
    pub(super) state_deltas: Vec<Vec<Value>>,
    /// Events that nobody misses any more.
    pub(super) arrived: Vec<OwnedEventId>,
    /// Missing events, by room and by the number of the event that names them; with its depth.
    pub(super) missing: BTreeMap<(i64, OwnedEventId, i64), i64>,
    pub(super) state: StateWrites,
    pub(super) historic: Vec<HistoricState>,
    pub(super) partial: Vec<Vec<Value>>,
    /// Rooms that were entered without their members, and when.
    pub(super) entered_in_part: Vec<(i64, Position)>,
    pub(super) complete: Vec<CompletedRoom>,
    pub(super) rejudged: Vec<RejudgedEvent>,
    /// Rooms of which all members are known because they were entered anew, and since when.
    pub(super) entered_whole: Vec<(i64, Position)>,
    /// Rooms that became known with all of their members.
    pub(super) entered: BTreeSet<i64>,
    pub(super) servers: Vec<ServerRow>,
    pub(super) recipients: Vec<Vec<Value>>,
    pub(super) memberships: BTreeMap<(i64, i64), Vec<Value>>,
    pub(super) receipts: BTreeMap<(i64, i64, String, String), Vec<Value>>,
    pub(super) notified_events: Vec<Vec<Value>>,
    pub(super) notified: Vec<Vec<Value>>,
    /// Up to where somebody has read, and when they came there.
    pub(super) read_up_to: BTreeMap<(i64, i64, String), (Position, Position)>,
    pub(super) account_data: BTreeMap<(i64, i64, String), Vec<Value>>,
    pub(super) thread_subscriptions: BTreeMap<(i64, i64, String), Vec<Value>>,
    pub(super) redactions: Vec<RedactionRow>,
    pub(super) awaited_redactions: Vec<Vec<Value>>,
    pub(super) relations: Vec<Vec<Value>>,
    /// The rooms of those of them that are no annotations.
    pub(super) related_rooms: BTreeSet<OwnedRoomId>,
    pub(super) search_texts: Vec<Vec<Value>>,
    pub(super) sticky: Vec<Vec<Value>>,
    /// The rooms of those, and until when they are sticky.
    pub(super) sticky_rooms: Vec<(OwnedRoomId, OwnedEventId, u64)>,
    pub(super) transactions: Vec<Vec<Value>>,
    pub(super) log: Vec<LogRow>,
    pub(super) keys: KeyWrites,
    /// The rooms whose state changes, and from which position on, for readers.
    pub(super) state_changes: BTreeSet<(Position, OwnedRoomId)>,
    /// What changes of what users have not read, likewise.
    pub(super) unread_changes: Vec<(Position, UnreadChange)>,
    /// How many rows it inserted, of all but a few kinds.
    pub(super) inserted_rows: usize,
    /// New live events, for the cache.
    pub(super) live: Vec<Arc<StoredEvent>>,
    /// Stored events that change, for the cache.
    pub(super) altered: Vec<OwnedEventId>,
}

impl Writes {
    /// Writes everything but what [`Writes::live`] and [`Writes::altered`] are for.
    pub(super) async fn write(&mut self, facts: &Facts, transaction: &mut Transaction) -> Result<()> {
        for room in std::mem::take(&mut self.complete) {
            room.write(transaction).await?;
        }
        self.state.end(transaction).await?;
        self.keys.forget(transaction).await?;
        for upgrade in self.upgrades.iter().filter(|upgrade| upgrade.had_state) {
            upgrade.forget_state(transaction).await?;
        }
        for rejudged in &self.rejudged {
            rejudged.forget_state(transaction).await?;
        }
        for (room_nid, position) in &self.entered_whole {
            enter_whole(*room_nid, *position, transaction).await?;
        }
        let script = self.new_rows(facts);
        self.inserted_rows = script.rows();
        if self.is_all_new() {
            return transaction.run_last(script).await;
        }
        script.run(transaction).await?;
        for (room_nid, position) in &self.entered_in_part {
            note_known_early(*room_nid, *position, transaction).await?;
        }
        for upgrade in &self.upgrades {
            upgrade.write(transaction).await?;
        }
        for rejudged in &self.rejudged {
            rejudged.write(transaction).await?;
        }
        for historic in &self.historic {
            historic.write(transaction).await?;
        }
        self.write_servers(transaction).await?;
        for redaction in &self.redactions {
            redaction.write(transaction).await?;
        }
        Ok(())
    }

    /// Whether nothing is to be written after the new rows.
    fn is_all_new(&self) -> bool {
        self.entered_in_part.is_empty()
            && self.upgrades.is_empty()
            && self.rejudged.is_empty()
            && self.historic.is_empty()
            && self.servers.is_empty()
            && self.redactions.is_empty()
    }

    /// What nearly every batch writes, and all that most write.
    fn new_rows(&mut self, facts: &Facts) -> Script {
        let mut script = Script::default();
        let names = std::mem::take(&mut self.names).into_iter().map(|(nid, name)| row![nid, name]);
        script.insert(&NAMES, names);
        self.new_events(&mut script);
        script.insert(&ROOMS, changed_rooms(facts));
        script.insert(&STATE, self.state.rows.iter().map(StateRow::values));
        script.insert(&ENTERED, std::mem::take(&mut self.entered).into_iter().map(|room_nid| row![room_nid, 0]));
        script.insert(&PARTIAL, std::mem::take(&mut self.partial));
        script.insert(&RECIPIENTS, std::mem::take(&mut self.recipients));
        script.insert(&MEMBERSHIPS, std::mem::take(&mut self.memberships).into_values());
        script.insert(&RECEIPTS, std::mem::take(&mut self.receipts).into_values());
        script.insert(&NOTIFIED_EVENTS, std::mem::take(&mut self.notified_events));
        script.insert(&NOTIFIED, std::mem::take(&mut self.notified));
        let read = std::mem::take(&mut self.read_up_to).into_iter();
        let read = read.map(|((user, room, thread), (position, changed))| row![user, room, thread, position, changed]);
        script.insert(&READ_UP_TO, read);
        script.insert(&ACCOUNT_DATA, std::mem::take(&mut self.account_data).into_values());
        script.insert(&THREAD_SUBSCRIPTIONS, std::mem::take(&mut self.thread_subscriptions).into_values());
        script.insert(&TRANSACTIONS, std::mem::take(&mut self.transactions));
        self.keys.new_rows(&mut script);
        script.insert(&LOG, self.log.iter().map(log_values));
        let head = facts.head;
        script.add(HEAD, row![head.position, head.event_nid, head.name_nid]);
        script
    }

    fn new_events(&mut self, script: &mut Script) {
        script.insert(&EVENTS, self.events.iter().map(event_values));
        script.insert(&AUTH_EVENTS, std::mem::take(&mut self.auth_events));
        script.insert(&STATE_DELTAS, std::mem::take(&mut self.state_deltas));
        if !self.arrived.is_empty() {
            script.add(FOUND, row![event_id_list(&self.arrived)]);
        }
        let missing = std::mem::take(&mut self.missing).into_iter();
        let missing = missing.map(|((room_nid, missing, nid), depth)| row![room_nid, missing.as_str(), nid, depth]);
        script.insert(&MISSING, missing);
        script.insert(&AWAITED_REDACTIONS, std::mem::take(&mut self.awaited_redactions));
        script.insert(&RELATIONS, std::mem::take(&mut self.relations));
        script.insert(&SEARCH_TEXTS, std::mem::take(&mut self.search_texts));
        script.insert(&STICKY, std::mem::take(&mut self.sticky));
    }

    async fn write_servers(&mut self, transaction: &mut Transaction) -> Result<()> {
        const LEAVES: &str =
            "UPDATE room_servers SET until = $1 WHERE room_nid = $2 AND server_nid = $3 AND until IS NULL";
        let mut enter = Vec::new();
        for server in std::mem::take(&mut self.servers) {
            if server.present {
                enter.push(row![server.room_nid, server.server_nid, server.position]);
                continue;
            }
            SERVERS.run(transaction, std::mem::take(&mut enter)).await?;
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(LEAVES).bind(server.position).bind(server.room_nid).bind(server.server_nid);
                query.execute(connection).await.map(drop)
            })?;
        }
        Ok(SERVERS.run(transaction, enter).await?)
    }
}

impl Upgrade {
    async fn forget_state(&self, transaction: &mut Transaction) -> Result<()> {
        const SQL: &str = "DELETE FROM event_state_delta WHERE event_nid = $1";
        Ok(db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(self.nid).execute(connection).await.map(drop)
        })?)
    }

    async fn write(&self, transaction: &mut Transaction) -> Result<()> {
        const SQL: &str = "UPDATE events SET standing = $2, reason = $3, timeline_order = $4, state_base = $5,
            json = CASE WHEN redacted_by IS NULL THEN $6 ELSE json END WHERE event_nid = $1";
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(self.nid).bind(self.standing).bind(&self.reason);
            let query = query.bind(self.order).bind(self.state_base).bind(&*self.pdu.json);
            query.execute(connection).await.map(drop)
        })?;
        Ok(())
    }
}

impl RedactionRow {
    async fn write(&self, transaction: &mut Transaction) -> Result<()> {
        const SQL: &str = "UPDATE events SET json = $2, redacted_by = COALESCE(redacted_by, $3) WHERE event_id = $1";
        const COME: &str = "DELETE FROM awaited_redactions WHERE event_id = $1";
        const UNRELATED: &str = "DELETE FROM relations
            WHERE room_nid = (SELECT room_nid FROM events WHERE event_id = $1)
            AND timeline_order = (SELECT timeline_order FROM events WHERE event_id = $1)";
        const UNSEARCHED: &str =
            "DELETE FROM search_texts WHERE event_nid = (SELECT event_nid FROM events WHERE event_id = $1)";
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(self.event_id.as_str()).bind(&*self.json);
            query.bind(self.redacted_by.as_str()).execute(connection).await.map(drop)
        })?;
        for done in [COME, UNRELATED, UNSEARCHED] {
            db!(transaction.connection(), |connection| {
                sqlx::query(done).bind(self.event_id.as_str()).execute(connection).await.map(drop)
            })?;
        }
        self.withdraw_notification(transaction).await
    }

    /// Nobody is notified any more of what is no longer to be read.
    async fn withdraw_notification(&self, transaction: &mut Transaction) -> Result<()> {
        const NOTED: &str = "INSERT INTO withdrawn_notifications (room_nid, changed)
            SELECT n.room_nid, (SELECT position FROM log_head) FROM notified_events n
                WHERE n.position = (SELECT timeline_order FROM events WHERE event_id = $1)
            ON CONFLICT (room_nid) DO UPDATE SET changed = excluded.changed";
        const PEOPLE: &str = "DELETE FROM notified
            WHERE position = (SELECT timeline_order FROM events WHERE event_id = $1)";
        const EVENT: &str = "DELETE FROM notified_events
            WHERE position = (SELECT timeline_order FROM events WHERE event_id = $1)";
        for sql in [NOTED, PEOPLE, EVENT] {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(self.event_id.as_str()).execute(connection).await.map(drop)
            })?;
        }
        Ok(())
    }
}

fn changed_rooms(facts: &Facts) -> Vec<Vec<Value>> {
    let changed: BTreeMap<_, _> = facts.rooms.iter().filter(|(_, room)| room.changed).collect();
    let row = |(nid, room): (&i64, &Room)| {
        let (version, extremities) = (room.version.as_str(), room.forward_extremities.as_str());
        row![*nid, version, room.revision, room.position, extremities]
    };
    changed.into_iter().map(row).collect()
}

fn event_values(event: &EventRow) -> Vec<Value> {
    let (pdu, [room_nid, type_nid, sender_nid]) = (&event.pdu, event.names);
    row![
        event.nid,
        pdu.event_id.as_str(),
        room_nid,
        type_nid,
        event.state_key_nid,
        sender_nid,
        pdu.depth as i64,
        i64::from(pdu.origin_server_ts.0),
        i64::from(event.standing),
        event.reason.clone(),
        event.order,
        event.state_base,
        &*pdu.json
    ]
}

fn log_values(row: &LogRow) -> Vec<Value> {
    let entry = &row.entry;
    let event_id = entry.event_id.as_ref().map(ToString::to_string);
    let membership = entry.membership.as_ref().map(|membership| without_nul(membership.as_str()));
    row![entry.position, entry.kind.code(), row.room_nid, row.user_nid, event_id, entry.outbound, membership]
}
