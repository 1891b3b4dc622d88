//! A fresh database per test, and events made by hand.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use homeserver_storage::{CommitError, Committed, Durability, Options, RoomGuard, Storage, StoredEvent, Submission};
use rules::{
    Change, Pdu,
    change::{NewEvent, Placement, Standing, StateEntry, StateReference},
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    events::{StateEventType, room::member::MembershipState},
    owned_room_id, owned_server_name,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Where the tests' own PostgreSQL is, if there is one.
const POSTGRES: &str = "NUDGE_TEST_POSTGRES_URL";

static DATABASES: AtomicU64 = AtomicU64::new(0);

/// One database, and a storage on it.
pub(crate) struct Stage {
    pub(crate) storage: Storage,
    options: Options,
    /// Kept as long as the database in it.
    directory: TempDir,
}

/// Runs a test on SQLite, and on PostgreSQL where there is one.
pub(crate) async fn on_each_database(test: impl AsyncFn(Stage)) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("nudge.db").display());
    test(Stage::open(url, directory).await).await;
    if let Ok(cluster) = std::env::var(POSTGRES) {
        let database = PostgresDatabase::create(&cluster).await;
        test(Stage::open(database.url.clone(), tempfile::tempdir().unwrap()).await).await;
        database.drop().await;
    }
}

/// A database of a cluster.
pub(crate) struct PostgresDatabase {
    cluster: String,
    name: String,
    pub(crate) url: String,
}

impl PostgresDatabase {
    /// `None` where there is no cluster.
    pub(crate) async fn create_if_possible() -> Option<Self> {
        Some(Self::create(&std::env::var(POSTGRES).ok()?).await)
    }

    async fn create(cluster: &str) -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("nudge_test_{}_{number}", std::process::id());
        let (server, _) = cluster.rsplit_once('/').expect("the URL names a database");
        let database = Self { cluster: cluster.to_owned(), url: format!("{server}/{name}"), name };
        database.on_cluster(format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    pub(crate) async fn drop(self) {
        self.on_cluster(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }

    async fn on_cluster(&self, sql: String) {
        let mut connection = PgConnection::connect(&self.cluster).await.unwrap();
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

impl Stage {
    async fn open(url: String, directory: TempDir) -> Self {
        let options = options(&url);
        let storage = Storage::open(&options).await.unwrap();
        Self { storage, options, directory }
    }

    /// Closes the storage without a word, as a crash of the process would, and opens it again.
    pub(crate) async fn reopen(self) -> Self {
        let Self { storage, options, directory } = self;
        drop(storage);
        Self { storage: Storage::open(&options).await.unwrap(), options, directory }
    }

    /// Another storage on the same database, which remembers nothing.
    pub(crate) async fn another(&self) -> Storage {
        Storage::open(&self.options).await.unwrap()
    }

    /// Runs a statement behind the storage's back.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.options.url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(&self.options.url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = PgConnection::connect(&self.options.url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
    }

    /// Reads lines of text behind the storage's back.
    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.options.url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(&self.options.url).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
        } else {
            let mut connection = PgConnection::connect(&self.options.url).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
        }
    }

    /// Commits changes that were decided against the room as it is.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Committed {
        let revision = self.storage.room(&room()).await.unwrap().map_or(0, |room| room.revision);
        let guard = Some(RoomGuard { room_id: room(), revision, follows: None });
        self.storage.commit(Submission { room: guard, changes }).await.unwrap()
    }

    /// Commits changes that were decided about no room.
    pub(crate) async fn commit_unguarded(&self, changes: Vec<Change>) -> Result<Committed, CommitError> {
        self.storage.commit(Submission { room: None, changes }).await
    }

    /// Devices go.
    pub(crate) async fn log_out(&self, user_id: &UserId, device_ids: &[&str]) {
        let user_id = || user_id.to_owned();
        let gone = |device_id: &&str| Change::LogOut { user_id: user_id(), device_id: (*device_id).into() };
        self.commit_unguarded(device_ids.iter().map(gone).collect()).await.unwrap();
    }

    /// The room with its creator `@alice:here`.
    pub(crate) async fn create_room(&self) -> Committed {
        let create = state_event("$create", "m.room.create", "", json!({ "room_version": "11" }));
        let join = member("$alice_joins", "@alice:here", "join", &["$create"]);
        self.commit(vec![
            Change::Room { room_id: room(), version: RoomVersionId::V11 },
            live(&create),
            set_state(&[&create]),
            live(&join),
            set_state(&[&join]),
            server("here", true),
            membership("@alice:here", "join", "$alice_joins"),
            extremities(&["$alice_joins"]),
        ])
        .await
    }

    /// Adds a live message at the end of the timeline, and returns its position.
    pub(crate) async fn send(&self, id: &str, after: &str) -> i64 {
        let event = message(id, after);
        self.commit(vec![live(&event), extremities(&[id])]).await.position
    }

    pub(crate) async fn stored(&self, id: &str) -> Option<Arc<StoredEvent>> {
        self.storage.event(<&EventId>::try_from(id).unwrap()).await.unwrap()
    }

    /// The state after an order, as `type key=event`.
    pub(crate) async fn state_at(&self, order: i64) -> Vec<String> {
        entries(self.storage.state_at(&room(), order).await.unwrap())
    }

    pub(crate) async fn assert_sound(&self) {
        let violations = self.storage.fsck().await.unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

pub(crate) fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        durability: Durability::Relaxed,
        read_connections: 2,
        server_name: owned_server_name!("here"),
    }
}

pub(crate) fn room() -> OwnedRoomId {
    owned_room_id!("!room:here")
}

pub(crate) fn event_id(id: &str) -> OwnedEventId {
    id.try_into().unwrap()
}

pub(crate) fn event_ids(ids: &[&str]) -> Vec<OwnedEventId> {
    ids.iter().map(|id| event_id(id)).collect()
}

pub(crate) fn user(id: &str) -> OwnedUserId {
    id.try_into().unwrap()
}

/// An event of the room with the fields that matter to a test; the rest is filled in.
pub(crate) fn event(id: &str, fields: Value) -> Arc<Pdu> {
    let event = json!({
        "room_id": room(), "sender": "@alice:here", "type": "m.room.message", "content": {}, "depth": 5,
        "origin_server_ts": 1_700_000_000_000_u64, "prev_events": [], "auth_events": [],
    });
    let (Value::Object(mut event), Value::Object(fields)) = (event, fields) else { panic!("fields are an object") };
    event.extend(fields);
    let json = Value::Object(event).to_string();
    Arc::new(Pdu::from_json(event_id(id), json.into(), false).unwrap())
}

pub(crate) fn message(id: &str, after: &str) -> Arc<Pdu> {
    event(id, json!({ "prev_events": [after], "auth_events": ["$create"], "content": { "body": id } }))
}

pub(crate) fn state_event(id: &str, event_type: &str, state_key: &str, content: Value) -> Arc<Pdu> {
    let mut fields = json!({ "type": event_type, "state_key": state_key });
    fields["content"] = content;
    event(id, fields)
}

pub(crate) fn member(id: &str, user_id: &str, membership: &str, after: &[&str]) -> Arc<Pdu> {
    event(
        id,
        json!({
            "type": "m.room.member", "state_key": user_id, "sender": user_id, "prev_events": after,
            "auth_events": ["$create"], "content": { "membership": membership },
        }),
    )
}

pub(crate) fn live(pdu: &Arc<Pdu>) -> Change {
    stored_as(pdu, Standing::Accepted, Placement::Live)
}

pub(crate) fn backfilled(pdu: &Arc<Pdu>) -> Change {
    stored_as(pdu, Standing::Accepted, Placement::Backfilled)
}

pub(crate) fn outlier(pdu: &Arc<Pdu>) -> Change {
    stored_as(pdu, Standing::Outlier, Placement::None)
}

pub(crate) fn stored_as(pdu: &Arc<Pdu>, standing: Standing, placement: Placement) -> Change {
    new_event(pdu, standing, placement, None)
}

pub(crate) fn new_event(
    pdu: &Arc<Pdu>,
    standing: Standing,
    placement: Placement,
    state_before: Option<StateReference>,
) -> Change {
    let outbound = placement == Placement::Live && pdu.sender.server_name() == "here";
    Change::Event(Box::new(NewEvent { pdu: Arc::clone(pdu), standing, placement, state_before, outbound }))
}

pub(crate) fn set_state(events: &[&Arc<Pdu>]) -> Change {
    Change::State { room_id: room(), entries: events.iter().map(|event| entry(event)).collect() }
}

pub(crate) fn initial_state(events: &[&Arc<Pdu>]) -> Change {
    Change::InitialState { room_id: room(), entries: events.iter().map(|event| entry(event)).collect() }
}

pub(crate) fn entry(event: &Pdu) -> StateEntry {
    let (event_type, state_key) = event.state_key_pair().unwrap();
    let membership = event.membership().map(|(_, membership)| membership);
    StateEntry { event_type, state_key, event_id: Some(event.event_id.clone()), membership }
}

pub(crate) fn no_value(event_type: &str, state_key: &str) -> StateEntry {
    let event_type = StateEventType::from(event_type);
    StateEntry { event_type, state_key: state_key.to_owned(), event_id: None, membership: None }
}

pub(crate) fn extremities(ids: &[&str]) -> Change {
    Change::ForwardExtremities { room_id: room(), event_ids: event_ids(ids) }
}

pub(crate) fn server(name: &str, present: bool) -> Change {
    Change::RoomServer { room_id: room(), server: name.try_into().unwrap(), present }
}

pub(crate) fn membership(user_id: &str, membership: &str, event: &str) -> Change {
    Change::Membership {
        user_id: user(user_id),
        room_id: room(),
        membership: MembershipState::from(membership),
        event_id: event_id(event),
        sender: user(user_id),
        stripped_state: None,
    }
}

/// Entries as `type key=event`, sorted.
pub(crate) fn entries(entries: Vec<StateEntry>) -> Vec<String> {
    let line = |entry: StateEntry| {
        let value = entry.event_id.map_or_else(|| "nothing".to_owned(), |event_id| event_id.to_string());
        format!("{} {}={value}", entry.event_type, entry.state_key)
    };
    let mut lines: Vec<String> = entries.into_iter().map(line).collect();
    lines.sort();
    lines
}
