//! The stage: a server named `test` that nobody answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use engine::{
    CreateRoomCommand, Engine, InitialState, MessagesPage, MessagesQuery, NewDevice, PasswordHashing, RegisterCommand,
    Registration, Requester, SendCommand, Services, Settings, SyncQuery,
};
use futures_util::future::BoxFuture;
use outbound::{CallLimits, Federation, FederationOptions, Sender, SenderOptions, Transport, TransportError};
use rules::{
    event::ServerKey,
    world::{Chance, Clock, World},
};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, ServerName,
    api::{OutgoingResponseExt, client::filter::FilterDefinition},
    events::TimelineEventType,
    owned_server_name,
};
use serde_json::{Value, json, value::RawValue};
use storage::{Direction, Durability, Options, Storage, TimelineRange};

/// Nobody may wait longer for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that moves when it is told to, and by a millisecond with each look.
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct TestChance(Mutex<Dice>);

impl Chance for TestChance {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock().unwrap();
        bytes.fill_with(|| u8::try_from(dice.below(256)).unwrap());
    }
}

/// The network, which is down.
struct Silence;

impl Transport for Silence {
    fn send<'a>(
        &'a self,
        _destination: &'a ServerName,
        _request: http::Request<Bytes>,
        _limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async { Err(TransportError::Unreachable("the network is down".to_owned())) })
    }
}

/// The server under test.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<TestClock>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let name = owned_server_name!("test");
        let clock = Arc::new(TestClock(AtomicU64::new(1_790_000_000_000)));
        let world = World { clock: clock.clone(), chance: Arc::new(TestChance(Mutex::new(Dice::new(42)))) };
        let options = Options {
            url: "sqlite::memory:".to_owned(),
            durability: Durability::Relaxed,
            read_connections: 2,
            server_name: name.clone(),
        };
        let storage = Storage::open(&options).await.unwrap();
        let mut seed = [0; 32];
        world.chance.fill(&mut seed);
        let federation = Federation::new(FederationOptions {
            key: Arc::new(ServerKey::from_seed(name.clone(), "test", &seed).unwrap()),
            storage: storage.clone(),
            transport: Arc::new(Silence),
            world: world.clone(),
            notaries: Vec::new(),
        });
        let sender = Sender::new(federation.clone(), SenderOptions::default());
        let settings = Settings {
            services: Services::default(),
            server_name: name,
            registration: Registration::Open,
            default_room_version: RoomVersionId::V12,
            access_token_lifetime_ms: 3_600_000,
            password_hashing: PasswordHashing::Cheap,
            federation_device_names: true,
            partial_state_joins: true,
            presence: true,
            accounts: engine::AccountSettings::default(),
            server_notices_user: None,
            media: engine::MediaSettings::in_folder(std::path::Path::new("no-media-here")),
            lists_rooms_to_servers: true,
        };
        Self { engine: Engine::start(settings, storage, federation, sender, world), clock }
    }

    pub(crate) async fn user(&self, localpart: &str) -> Requester {
        let command = RegisterCommand {
            user_id: self.engine.registration_check(Some(localpart)).await.unwrap(),
            password: Some("correct horse battery staple".to_owned()),
            device: NewDevice::default(),
            registration_token: None,
            guest_access_token: None,
            addresses: Vec::new(),
            inhibit_login: false,
        };
        let session = self.engine.register(command).await.unwrap().session.unwrap();
        Requester { user_id: session.user_id, device_id: session.device_id }
    }

    /// A room that everybody may join, with the given history visibility.
    pub(crate) async fn room(&self, creator: &Requester, history_visibility: &str) -> OwnedRoomId {
        self.room_with(creator, |command| {
            command.initial_state = vec![
                initial_state("m.room.history_visibility", &json!({"history_visibility": history_visibility})),
                initial_state("m.room.join_rules", &json!({"join_rule": "public"})),
            ];
        })
        .await
    }

    pub(crate) async fn room_with(
        &self,
        creator: &Requester,
        change: impl FnOnce(&mut CreateRoomCommand),
    ) -> OwnedRoomId {
        let mut command = CreateRoomCommand {
            version: None,
            preset: None,
            published: false,
            alias_localpart: None,
            service: None,
            name: None,
            topic: None,
            invite: Vec::new(),
            initial_state: Vec::new(),
            creation_content: std::collections::BTreeMap::default(),
            power_level_content_override: None,
            is_direct: false,
        };
        change(&mut command);
        self.engine.create_room(creator, command).await.unwrap()
    }

    pub(crate) async fn join(&self, user: &Requester, room_id: &RoomId) {
        self.engine.join(user, room_id, &[], None).await.unwrap();
    }

    pub(crate) async fn leave(&self, user: &Requester, room_id: &RoomId) {
        self.engine.leave(user, room_id, None).await.unwrap();
    }

    pub(crate) async fn send(&self, user: &Requester, room_id: &RoomId, body: &str) -> OwnedEventId {
        send(&self.engine, user, room_id, body).await
    }

    pub(crate) async fn set_state(
        &self,
        user: &Requester,
        room_id: &RoomId,
        event_type: &str,
        content: &Value,
    ) -> OwnedEventId {
        let content = raw(content);
        self.engine.set_state(user, room_id, event_type.into(), "", &content).await.unwrap()
    }

    /// One sync that does not wait, as JSON.
    pub(crate) async fn sync(&self, user: &Requester, since: Option<&str>) -> Value {
        self.sync_with(user, since, &json!({})).await
    }

    pub(crate) async fn sync_with(&self, user: &Requester, since: Option<&str>, filter: &Value) -> Value {
        sync(&self.engine, user, query(since, filter)).await
    }

    pub(crate) async fn page(&self, user: &Requester, query: MessagesQuery) -> MessagesPage {
        self.engine.messages(user, query).await.unwrap()
    }

    /// The ids of all events of a room's timeline, oldest first.
    pub(crate) async fn timeline(&self, room_id: &RoomId) -> Vec<String> {
        let range = TimelineRange { after: None, until: None, direction: Direction::Forward, limit: 100_000 };
        let events = self.engine.storage().timeline(room_id, range).await.unwrap();
        events.iter().map(|event| event.pdu.event_id.to_string()).collect()
    }
}

pub(crate) async fn send(engine: &Engine, user: &Requester, room_id: &RoomId, body: &str) -> OwnedEventId {
    let command = SendCommand {
        room_id: room_id.to_owned(),
        event_type: TimelineEventType::RoomMessage,
        content: raw(&json!({"msgtype": "m.text", "body": body})),
        transaction_id: None,
    };
    engine.send(user, command).await.unwrap()
}

pub(crate) fn query(since: Option<&str>, filter: &Value) -> SyncQuery {
    SyncQuery {
        since: since.map(ToOwned::to_owned),
        filter: serde_json::from_value::<FilterDefinition>(filter.clone()).unwrap(),
        full_state: false,
        timeout_ms: 0,
        use_state_after: false,
        ..SyncQuery::default()
    }
}

/// A sync, as the JSON that a client gets.
pub(crate) async fn sync(engine: &Engine, user: &Requester, query: SyncQuery) -> Value {
    let response = tokio::time::timeout(PATIENCE, engine.sync(user, &query)).await.expect("sync answers in time");
    let response = response.unwrap().response.try_into_http_response::<Vec<u8>>().unwrap();
    serde_json::from_slice(response.body()).unwrap()
}

/// A page backwards.
pub(crate) fn backwards(room_id: &RoomId, from: Option<&str>, limit: usize) -> MessagesQuery {
    MessagesQuery {
        room_id: room_id.to_owned(),
        from: from.map(ToOwned::to_owned),
        to: None,
        forward: false,
        limit,
        filter: ruma::api::client::filter::RoomEventFilter::default(),
    }
}

pub(crate) fn initial_state(event_type: &str, content: &Value) -> InitialState {
    InitialState { event_type: event_type.into(), state_key: String::new(), content: raw(content) }
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

pub(crate) fn token(sync: &Value) -> String {
    sync["next_batch"].as_str().unwrap().to_owned()
}

/// An answer of `/sync` to a device without keys that tells of nothing, up to where this one goes.
pub(crate) fn nothing(sync: &Value) -> Value {
    json!({
        "next_batch": token(sync),
        "device_one_time_keys_count": {"signed_curve25519": 0},
        "device_unused_fallback_key_types": [],
    })
}

/// One field of each event of a list.
pub(crate) fn fields(events: &Value, field: &str) -> Vec<String> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().map(|event| event[field].as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) fn ids(events: &Value) -> Vec<String> {
    fields(events, "event_id")
}

pub(crate) fn page_ids(page: &MessagesPage) -> Vec<String> {
    let id = |event: &engine::ClientEvent| {
        let event: Value = serde_json::from_str(event.get()).unwrap();
        event["event_id"].as_str().unwrap().to_owned()
    };
    page.chunk.iter().map(id).collect()
}
