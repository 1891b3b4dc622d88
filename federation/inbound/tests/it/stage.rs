//! The stage: a server named `test`, a clock to be turned by hand, and a network of fakes.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::{
    CreateRoomCommand, Engine, InitialState, PasswordHashing, RegisterCommand, Registration, Requester, SendCommand,
    Services, Settings, SyncQuery,
};
use fake_homeserver::{FakeHomeserver, Network, Response, Room, RoomSettings, body_of};
use outbound::{Federation, FederationOptions, Sender, SenderOptions};
use rules::{
    Pdu,
    change::Standing,
    event::ServerKey,
    world::{Chance, Clock, World},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName,
    UserId,
    api::client::filter::FilterDefinition,
    events::{StateEventType, TimelineEventType},
    owned_server_name,
};
use serde_json::{Value, json, value::RawValue};
use storage::{Durability, Options, Storage};

/// Nobody may wait longer for what must not block.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The `via` of joins by the fake that most tests have.
pub(crate) fn via(server: &FakeHomeserver) -> Vec<OwnedServerName> {
    vec![server.name().to_owned()]
}

pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        // Each look takes a millisecond, so that no two events are of the same time.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

struct TestChance(Mutex<u64>);

impl Chance for TestChance {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for byte in bytes {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (*state >> 56) as u8;
        }
    }
}

/// The server under test, and what is around it.
pub(crate) struct Stage {
    pub(crate) name: OwnedServerName,
    pub(crate) network: Network,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) engine: Engine,
    pub(crate) remote: FakeHomeserver,
    media: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with_options(inbound::Options::default()).await
    }

    pub(crate) async fn with_options(options: inbound::Options) -> Self {
        let name = owned_server_name!("test");
        let clock = Arc::new(TestClock(AtomicU64::new(1_790_000_000_000)));
        let network = Network::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let media = tempfile::tempdir().unwrap();
        let engine = start_engine(&name, &network, Arc::clone(&clock) as Arc<dyn Clock>, media.path()).await;
        network.add_router(&name, inbound::router(engine.clone(), options));
        let remote = network.add_fake("remote");
        Self { name, network, clock, engine, remote, media }
    }

    /// Another engine on the same database, as after a restart; the old one is as good as dead.
    pub(crate) fn restart(&mut self) {
        let storage = self.engine.storage().clone();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        self.engine = start_engine_on(storage, &self.name, &self.network, clock, self.media.path());
        self.network.add_router(&self.name, inbound::router(self.engine.clone(), inbound::Options::default()));
    }

    /// A user of the server under test.
    pub(crate) async fn user(&self, localpart: &str) -> Requester {
        let user_id = self.engine.registration_check(Some(localpart)).await.unwrap();
        let command = RegisterCommand {
            user_id,
            password: Some("correct horse battery staple".to_owned()),
            device: engine::NewDevice::default(),
            registration_token: None,
            guest_access_token: None,
            addresses: Vec::new(),
            inhibit_login: false,
        };
        let session = self.engine.register(command).await.unwrap().session.unwrap();
        Requester { user_id: session.user_id, device_id: session.device_id }
    }

    /// A room of the server under test.
    pub(crate) async fn local_room(
        &self,
        creator: &Requester,
        change: impl FnOnce(&mut CreateRoomCommand),
    ) -> OwnedRoomId {
        let mut command = CreateRoomCommand {
            version: Some(RoomVersionId::V11),
            preset: None,
            published: true,
            alias_localpart: None,
            service: None,
            name: None,
            topic: None,
            invite: Vec::new(),
            initial_state: Vec::new(),
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: None,
            is_direct: false,
        };
        change(&mut command);
        self.engine.create_room(creator, command).await.unwrap()
    }

    /// A public room of the remote server which a local user has joined, and the two users' ids.
    pub(crate) async fn joined_room(&self, user: &Requester) -> Room {
        self.joined_room_with(user, &RoomSettings::default()).await
    }

    pub(crate) async fn joined_room_with(&self, user: &Requester, settings: &RoomSettings) -> Room {
        let room = Room::create(&self.remote, &self.remote.user("rita"), settings);
        self.join(user, &room.id).await.unwrap();
        room
    }

    /// Joins a room by the remote server.
    pub(crate) async fn join(&self, user: &Requester, room_id: &RoomId) -> engine::Result<()> {
        self.engine.join(user, room_id, &via(&self.remote), None).await
    }

    /// Sends a message of a local user.
    pub(crate) async fn send(&self, user: &Requester, room_id: &RoomId, body: &str) -> OwnedEventId {
        let command = SendCommand {
            room_id: room_id.to_owned(),
            event_type: TimelineEventType::RoomMessage,
            content: raw_json(&json!({"msgtype": "m.text", "body": body})),
            transaction_id: None,
        };
        self.engine.send(user, command).await.unwrap()
    }

    /// Has the remote server send PDUs, and reads what became of them.
    pub(crate) async fn receive(&self, pdus: &[&Pdu]) -> Value {
        let response = self.remote.send_pdus(&self.name, pdus).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        body_of(&response)["pdus"].clone()
    }

    /// The same for PDUs that may be anything.
    pub(crate) async fn receive_raw(&self, pdus: &[Box<RawValue>]) -> Value {
        let response = self.remote.send_transaction(&self.name, pdus, &[]).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        body_of(&response)["pdus"].clone()
    }

    /// What the server makes of an event now.
    pub(crate) async fn verdict(&self, event_id: &EventId) -> Verdict {
        match self.engine.storage().event(event_id).await.unwrap() {
            None => Verdict::Unknown,
            Some(event) => match &event.standing {
                Standing::Rejected(_) => Verdict::Rejected,
                Standing::SoftFailed(_) => Verdict::SoftFailed,
                Standing::Outlier => Verdict::Outlier,
                Standing::Accepted => Verdict::Accepted,
            },
        }
    }

    /// The JSON that is stored for an event.
    pub(crate) async fn stored(&self, event_id: &EventId) -> Value {
        let event = self.engine.storage().event(event_id).await.unwrap().expect("the event is stored");
        serde_json::from_str(&event.pdu.json).unwrap()
    }

    /// Whether a user can see an event.
    pub(crate) async fn sees(&self, user: &Requester, room_id: &RoomId, event_id: &EventId) -> bool {
        self.engine.event(user, room_id, event_id).await.is_ok()
    }

    /// The event that currently stands for a key of the room state.
    pub(crate) async fn current(&self, room_id: &RoomId, event_type: &str, state_key: &str) -> Option<OwnedEventId> {
        let state = self.engine.storage().current_state(room_id).await.unwrap();
        let key = StateEventType::from(event_type);
        let entry = state.into_iter().find(|entry| entry.event_type == key && entry.state_key == state_key);
        entry.and_then(|entry| entry.event_id)
    }

    /// The membership of a user in the current state of a room, as the server sees it.
    pub(crate) async fn membership(&self, room_id: &RoomId, user_id: &UserId) -> Option<String> {
        let state = self.engine.storage().current_state(room_id).await.unwrap();
        let entry = state
            .into_iter()
            .find(|entry| entry.event_type == StateEventType::RoomMember && entry.state_key == user_id.as_str());
        entry.and_then(|entry| entry.membership).map(|membership| membership.to_string())
    }

    /// What is written down, for telling whether a request has left anything behind.
    pub(crate) fn log_head(&self) -> i64 {
        self.engine.storage().head()
    }

    /// Everything that a user's client gets to see, as one JSON text.
    pub(crate) async fn sync(&self, user: &Requester) -> Value {
        self.filtered_sync(user, FilterDefinition::default()).await
    }

    /// The same, with the rooms that the user has left.
    pub(crate) async fn sync_with_left(&self, user: &Requester) -> Value {
        let mut filter = FilterDefinition::default();
        filter.room.include_leave = true;
        self.filtered_sync(user, filter).await
    }

    pub(crate) async fn filtered_sync(&self, user: &Requester, filter: FilterDefinition) -> Value {
        self.sync_by(user, SyncQuery { filter, full_state: true, ..SyncQuery::default() }).await
    }

    pub(crate) async fn sync_by(&self, user: &Requester, query: SyncQuery) -> Value {
        let response = self.engine.sync(user, &query).await.unwrap().response;
        use ruma::api::OutgoingResponseExt as _;
        let response = response.try_into_http_response::<Vec<u8>>().unwrap();
        serde_json::from_slice(response.body()).unwrap()
    }

    /// Delivers what is waiting for a server.
    pub(crate) async fn flush(&self, server: &ServerName) {
        while let outbound::FlushOutcome::Sent { more: true } = self.engine.sender().flush(server).await.unwrap() {}
    }
}

/// What the server has made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Unknown,
    Rejected,
    SoftFailed,
    Outlier,
    Accepted,
}

async fn start_engine(name: &ServerName, network: &Network, clock: Arc<dyn Clock>, media: &Path) -> Engine {
    let options = Options {
        url: "sqlite::memory:".to_owned(),
        durability: Durability::Relaxed,
        read_connections: 1,
        server_name: name.to_owned(),
    };
    start_engine_on(Storage::open(&options).await.unwrap(), name, network, clock, media)
}

fn start_engine_on(
    storage: Storage,
    name: &ServerName,
    network: &Network,
    clock: Arc<dyn Clock>,
    media: &Path,
) -> Engine {
    let world = World { clock, chance: Arc::new(TestChance(Mutex::new(42))) };
    let mut seed = [0; 32];
    world.chance.fill(&mut seed);
    let key = ServerKey::from_seed(name.to_owned(), "test", &seed).unwrap();
    let federation = Federation::new(FederationOptions {
        key: Arc::new(key),
        storage: storage.clone(),
        transport: Arc::new(network.clone()),
        world: world.clone(),
        notaries: Vec::new(),
    });
    let sender = Sender::new(federation.clone(), SenderOptions::default());
    let settings = Settings {
        services: Services::default(),
        server_name: name.to_owned(),
        registration: Registration::Open,
        default_room_version: RoomVersionId::V11,
        access_token_lifetime_ms: 3_600_000,
        password_hashing: PasswordHashing::Cheap,
        federation_device_names: true,
        partial_state_joins: true,
        presence: true,
        accounts: engine::AccountSettings {
            guests: true,
            identity_servers: vec![owned_server_name!("identity")],
            ..engine::AccountSettings::default()
        },
        server_notices_user: None,
        media: engine::MediaSettings::in_folder(media),
        lists_rooms_to_servers: true,
    };
    let engine = Engine::start(settings, storage, federation, sender, world);
    engine.start_completing();
    engine
}

/// A value as raw JSON.
pub(crate) fn raw_json(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// One event for the state that a room begins with.
pub(crate) fn initial_state(event_type: &str, content: &Value) -> InitialState {
    InitialState { event_type: event_type.into(), state_key: String::new(), content: raw_json(content) }
}

/// The `errcode` of a refusal.
pub(crate) fn errcode(response: &Response) -> String {
    body_of(response)["errcode"].as_str().unwrap_or_default().to_owned()
}

/// A path segment.
pub(crate) fn encode(text: impl AsRef<str>) -> String {
    text.as_ref().replace('%', "%25").replace('/', "%2F").replace('#', "%23").replace('?', "%3F").replace('+', "%2B")
}
