//! What a batch has to know before it can decide and write: read in a handful of statements for all submissions.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use rules::change::{Change, Placement, Position, Standing, StateEntry};
use ruma::{EventId, OwnedEventId};

use crate::{
    Result, StorageError,
    commit::Submission,
    database::{Shared, Transaction},
    dialect::{db, list, number_list, parsed},
    names::encode,
};

/// The counters in the one row that every commit updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: Position,
    pub(super) event_nid: i64,
    pub(super) name_nid: i64,
}

/// A row of `rooms`, as far as commits change it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) version: String,
    pub(super) revision: i64,
    pub(super) position: Position,
    pub(super) forward_extremities: String,
    pub(super) changed: bool,
}

impl Room {
    /// A room that becomes known.
    pub(super) fn new(version: String) -> Self {
        let forward_extremities = "[]".to_owned();
        Self { version, revision: 1, position: 0, forward_extremities, changed: true }
    }

    /// Whether this event is all of the room's head.
    pub(super) fn ends_with(&self, event_id: &EventId) -> bool {
        let extremities: Vec<(OwnedEventId, i64)> = serde_json::from_str(&self.forward_extremities).unwrap_or_default();
        matches!(extremities.as_slice(), [(last, _)] if last == event_id)
    }
}

/// What is known of an event that is stored, or will be by this batch.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) nid: i64,
    pub(super) standing: i16,
    pub(super) order: Option<i64>,
    pub(super) depth: i64,
    /// Its index among the events that this batch inserts.
    pub(super) inserting: Option<usize>,
}

/// What identifies a request of a client: user, device, scope, transaction id.
pub(super) type ClientTransaction = (String, String, String, String);

/// Everything that a batch has to know.
pub(super) struct Facts {
    pub(super) head: Head,
    /// Encoded names and their numbers.
    pub(super) names: HashMap<String, i64>,
    pub(super) rooms: HashMap<i64, Room>,
    /// The least order of each timeline that something is backfilled into; at most 0.
    pub(super) least_orders: HashMap<i64, i64>,
    pub(super) events: HashMap<OwnedEventId, Known>,
    pub(super) done: HashMap<ClientTransaction, OwnedEventId>,
}

/// The standing as it is stored.
pub(crate) fn standing_code(standing: &Standing) -> i16 {
    match standing {
        Standing::Accepted => 0,
        Standing::SoftFailed(_) => 1,
        Standing::Rejected(_) => 2,
        Standing::Outlier => OUTLIER,
    }
}

/// The stored standing of an outlier.
pub(super) const OUTLIER: i16 = 3;
/// The stored standing of an accepted event.
pub(super) const ACCEPTED: i16 = 0;

impl Facts {
    pub(super) async fn load(
        shared: &Shared,
        transaction: &mut Transaction,
        submissions: &[Submission],
    ) -> Result<Self> {
        let wanted = Wanted::by(submissions);
        let names = load_names(shared, transaction, &wanted.names).await?;
        let Stored { head, rooms, events, done } = Stored::load(transaction, &wanted, &names).await?;
        let head = head.ok_or_else(|| StorageError::corrupt("log_head", "position", "", &"there is no row"))?;
        let mut least_orders = HashMap::new();
        for nid in wanted.backfilled.iter().filter_map(|room_id| names.get(room_id).copied()) {
            least_orders.insert(nid, load_least_order(transaction, nid).await?.min(0));
        }
        Ok(Self { head, names, rooms, least_orders, events, done })
    }
}

/// What the submissions mention. Names are encoded.
#[derive(Default)]
struct Wanted<'a> {
    names: BTreeSet<String>,
    rooms: BTreeSet<String>,
    backfilled: BTreeSet<String>,
    events: BTreeSet<&'a OwnedEventId>,
    transactions: BTreeSet<&'a str>,
}

impl<'a> Wanted<'a> {
    fn by(submissions: &'a [Submission]) -> Self {
        let mut wanted = Self::default();
        for submission in submissions {
            if let Some(guard) = &submission.room {
                wanted.room(guard.room_id.as_str());
            }
            submission.changes.iter().for_each(|change| wanted.change(change));
        }
        wanted
    }

    fn room(&mut self, room_id: &str) {
        self.names.insert(encode(room_id).into_owned());
        self.rooms.insert(encode(room_id).into_owned());
    }

    fn change(&mut self, change: &'a Change) {
        self.names.extend(names_of(change).iter().map(|name| encode(name).into_owned()));
        match change {
            Change::Room { room_id, .. } | Change::State { room_id, .. } => self.room(room_id.as_str()),
            Change::CompleteState(complete) => self.room(complete.room_id.as_str()),
            Change::Rejudged { event_id, .. } => drop(self.events.insert(event_id)),
            Change::ForwardExtremities { room_id, event_ids } => {
                self.room(room_id.as_str());
                self.events.extend(event_ids);
            }
            Change::Event(new) => {
                self.room(new.pdu.room_id.as_str());
                self.events.insert(&new.pdu.event_id);
                if new.placement != Placement::None {
                    self.events.extend(&new.pdu.prev_events);
                }
                if new.placement == Placement::Backfilled {
                    self.backfilled.insert(encode(new.pdu.room_id.as_str()).into_owned());
                }
            }
            Change::TransactionId { transaction_id, .. } => {
                self.transactions.insert(transaction_id);
            }
            _ => {}
        }
    }
}

/// The names that a change needs numbers for.
pub(super) fn names_of(change: &Change) -> Vec<Cow<'_, str>> {
    match change {
        Change::Room { room_id, .. }
        | Change::ForwardExtremities { room_id, .. }
        | Change::Sticky { room_id, .. }
        | Change::PartialState { room_id, .. }
        | Change::EnteredWhole { room_id } => vec![room_id.as_str().into()],
        Change::Rejudged { state_before, .. } => {
            state_before.iter().flat_map(|reference| keys_of(&reference.delta)).collect()
        }
        Change::Event(new) => {
            let pdu = &new.pdu;
            let mut names =
                vec![pdu.room_id.as_str().into(), pdu.sender.as_str().into(), pdu.event_type.to_string().into()];
            names.extend(pdu.state_key.as_deref().map(Cow::Borrowed));
            names.extend(new.state_before.iter().flat_map(|reference| keys_of(&reference.delta)));
            names
        }
        Change::State { room_id, entries } | Change::InitialState { room_id, entries } => {
            std::iter::once(room_id.as_str().into()).chain(keys_of(entries)).collect()
        }
        Change::CompleteState(complete) => {
            let since = complete.since.iter().flat_map(|(_, entries)| keys_of(entries));
            let keys = keys_of(&complete.before).chain(since).chain(keys_of(&complete.corrected));
            std::iter::once(complete.room_id.as_str().into()).chain(keys).collect()
        }
        Change::HistoricState { room_id, event_type, state_key, .. } => {
            vec![room_id.as_str().into(), event_type.to_string().into(), state_key.into()]
        }
        Change::RoomServer { room_id, server, .. } => vec![room_id.as_str().into(), server.as_str().into()],
        Change::Recipient { server } => vec![server.as_str().into()],
        Change::Membership { user_id, room_id, sender, .. } => {
            vec![user_id.as_str().into(), room_id.as_str().into(), sender.as_str().into()]
        }
        Change::Receipt { room_id, user_id, .. } | Change::Read { room_id, user_id, .. } => {
            vec![room_id.as_str().into(), user_id.as_str().into()]
        }
        Change::Notification { room_id, sender, notified, .. } => {
            let users = notified.iter().map(|notified| notified.user_id.as_str().into());
            [room_id.as_str().into(), sender.as_str().into()].into_iter().chain(users).collect()
        }
        Change::ThreadSubscription { user_id, room_id, .. } => vec![user_id.as_str().into(), room_id.as_str().into()],
        Change::AccountData { user_id, room_id, .. } => {
            let room_id = room_id.as_ref().map(|room_id| room_id.as_str().into());
            std::iter::once(user_id.as_str().into()).chain(room_id).collect()
        }
        Change::DeviceList { user_id, viewer, servers, .. } => {
            let users = std::iter::once(user_id).chain(viewer).map(|user_id| user_id.as_str().into());
            users.chain(servers.iter().map(|server| server.as_str().into())).collect()
        }
        Change::ToDevice { user_id, .. } => vec![user_id.as_str().into()],
        Change::Edu { servers, .. } | Change::Resend { servers, .. } => {
            servers.iter().map(|server| server.as_str().into()).collect()
        }
        Change::Redaction { .. }
        | Change::AwaitedRedaction { .. }
        | Change::TransactionId { .. }
        | Change::DeviceKeys { .. }
        | Change::LogOut { .. }
        | Change::CrossSigningKey { .. }
        | Change::KeySignature { .. }
        | Change::ToDeviceId { .. } => Vec::new(),
    }
}

fn keys_of(entries: &[StateEntry]) -> impl Iterator<Item = Cow<'_, str>> {
    entries.iter().flat_map(|entry| [entry.event_type.to_string().into(), Cow::Borrowed(entry.state_key.as_str())])
}

/// The counters. They stay as they are in a transaction that began to commit.
pub(super) async fn load_head(transaction: &mut Transaction) -> Result<Head> {
    const SQL: &str = "SELECT position, event_nid, name_nid FROM log_head";
    let (position, event_nid, name_nid) =
        db!(transaction.connection(), |connection| sqlx::query_as(SQL).fetch_one(connection).await)?;
    Ok(Head { position, event_nid, name_nid })
}

async fn load_names(
    shared: &Shared,
    transaction: &mut Transaction,
    wanted: &BTreeSet<String>,
) -> Result<HashMap<String, i64>> {
    const SQL: &str = "SELECT name, name_nid FROM names WHERE name IN (SELECT value FROM json_each($1))";
    let mut names = HashMap::with_capacity(wanted.len());
    let mut missing = Vec::new();
    for name in wanted {
        match shared.names.get(name) {
            Some(nid) => drop(names.insert(name.clone(), nid)),
            None => missing.push(name.as_str()),
        }
    }
    if !missing.is_empty() {
        let missing = list(missing);
        let rows: Vec<(String, i64)> =
            db!(transaction.connection(), |connection| sqlx::query_as(SQL).bind(missing).fetch_all(connection).await)?;
        names.extend(rows);
    }
    Ok(names)
}

/// The counters, rooms, events and what was done, each by another statement, all in one question.
const STORED: &str = "SELECT 3, position, event_nid, name_nid, CAST(NULL AS BIGINT), CAST(NULL AS TEXT),
        CAST(NULL AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS TEXT)
    FROM log_head
    UNION ALL SELECT 0, room_nid, revision, position, NULL, version, forward_extremities, NULL, NULL, NULL
    FROM rooms WHERE room_nid IN (SELECT CAST(value AS BIGINT) FROM json_each($1))
    UNION ALL SELECT 1, event_nid, CAST(standing AS BIGINT), timeline_order, depth, event_id, NULL, NULL, NULL, NULL
    FROM events WHERE event_id IN (SELECT value FROM json_each($2))
    UNION ALL SELECT 2, NULL, NULL, NULL, NULL, event_id, user_id, device_id, scope, transaction_id
    FROM client_transactions WHERE transaction_id IN (SELECT value FROM json_each($3))";

/// Which statement it is of, four numbers, and five texts.
type StoredRow = (
    i32,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

#[derive(Default)]
struct Stored {
    head: Option<Head>,
    rooms: HashMap<i64, Room>,
    events: HashMap<OwnedEventId, Known>,
    done: HashMap<ClientTransaction, OwnedEventId>,
}

impl Stored {
    async fn load(transaction: &mut Transaction, wanted: &Wanted<'_>, names: &HashMap<String, i64>) -> Result<Self> {
        let mut stored = Self::default();
        let rooms: Vec<i64> = wanted.rooms.iter().filter_map(|room_id| names.get(room_id).copied()).collect();
        let rooms = number_list(rooms);
        let events = list(wanted.events.iter().map(|event_id| event_id.as_str()));
        let transactions = list(wanted.transactions.iter().copied());
        let rows: Vec<StoredRow> = db!(transaction.connection(), |connection| {
            sqlx::query_as(STORED).bind(rooms).bind(events).bind(transactions).fetch_all(connection).await
        })?;
        for row in rows {
            stored.add(row)?;
        }
        Ok(stored)
    }

    fn add(&mut self, row: StoredRow) -> Result<()> {
        match row {
            (0, Some(nid), Some(revision), Some(position), _, Some(version), Some(forward_extremities), ..) => {
                let room = Room { version, revision, position, forward_extremities, changed: false };
                self.rooms.insert(nid, room);
            }
            (1, Some(nid), Some(standing), order, Some(depth), Some(event_id), ..) => {
                let event_id = parsed(&event_id, "events", "event_id")?;
                let standing = i16::try_from(standing)
                    .map_err(|error| StorageError::corrupt("events", "standing", standing.to_string(), &error))?;
                self.events.insert(event_id, Known { nid, standing, order, depth, inserting: None });
            }
            (2, _, _, _, _, Some(event_id), Some(user_id), Some(device_id), Some(scope), Some(transaction_id)) => {
                let event_id = parsed(&event_id, "client_transactions", "event_id")?;
                self.done.insert((user_id, device_id, scope, transaction_id), event_id);
            }
            (3, Some(position), Some(event_nid), Some(name_nid), ..) => {
                self.head = Some(Head { position, event_nid, name_nid });
            }
            _ => return Err(StorageError::corrupt("rooms", "revision", "NULL", &"a value is missing")),
        }
        Ok(())
    }
}

async fn load_least_order(transaction: &mut Transaction, room_nid: i64) -> Result<i64> {
    const SQL: &str =
        "SELECT COALESCE(MIN(timeline_order), 0) FROM events WHERE room_nid = $1 AND timeline_order IS NOT NULL";
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query_scalar(SQL).bind(room_nid).fetch_one(connection).await
    })?)
}
