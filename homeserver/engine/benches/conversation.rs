//! What a message and a `/sync` cost, on SQLite with an fsync before each answer: one message after the other, and 32 at
//! once in 8 rooms; in rooms of 10 and of 10,000 members; sync with nothing new, with one message new, and from nothing.
//!
//! `cargo bench -p homeserver-engine`. A message in the large room may cost 1.5 times what it costs in the small one.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::{BoxFuture, join_all};
use homeserver_engine::{
    CreateRoomCommand, Engine, List, PasswordHashing, Registration, Requester, RoomDetails, SendCommand, Services,
    Settings, SlidingQuery, SyncQuery,
};
use outbound::{CallLimits, Federation, FederationOptions, Sender, SenderOptions, Transport, TransportError};
use rules::{
    event::ServerKey,
    room::create::Preset,
    world::{Chance, Clock, World},
};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, RoomId, RoomVersionId, ServerName, UserId, api::client::filter::FilterDefinition,
    events::TimelineEventType, owned_server_name,
};
use serde_json::value::RawValue;
use storage::{Durability, Options, Storage};
use tokio::runtime::Runtime;

struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "a benchmark runs in real time")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

struct SystemChance;

impl Chance for SystemChance {
    #[expect(clippy::disallowed_methods, reason = "a benchmark needs no seed")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::Rng::fill_bytes(&mut rand::rng(), bytes);
    }
}

/// The network, which is down: the rooms of the benchmark have no other servers.
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

struct House {
    engine: Engine,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = format!("sqlite:{}", folder.path().join("nudge.db").display());
        let engine = runtime.block_on(start(url));
        Self { engine, runtime, _folder: folder }
    }

    fn room(&self, members: usize) -> (Requester, OwnedRoomId) {
        let creator = user(0);
        let command = CreateRoomCommand {
            version: None,
            preset: Some(Preset::PublicChat),
            published: false,
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
        let room_id = self.runtime.block_on(async {
            let room_id = self.engine.create_room(&creator, command).await.expect("the room is allowed");
            for number in 1..members {
                self.engine.join(&user(number), &room_id, &[], None).await.expect("the room is public");
            }
            room_id
        });
        (creator, room_id)
    }

    fn say(&self, who: &Requester, room_id: &RoomId) {
        self.runtime.block_on(say(&self.engine, who, room_id));
    }

    fn sync(&self, who: &Requester, since: Option<String>) -> String {
        let query = SyncQuery {
            since,
            filter: FilterDefinition::default(),
            full_state: false,
            timeout_ms: 0,
            use_state_after: false,
            ..SyncQuery::default()
        };
        self.runtime.block_on(self.engine.sync(who, &query)).expect("a sync works").response.next_batch
    }

    fn slide(&self, who: &Requester, pos: Option<String>) -> String {
        let details = RoomDetails { required_state: Vec::new(), timeline_limit: 1 };
        // Clients that were open for a while look at all their rooms.
        let list = List { ranges: vec![(0, 9_999)], details, ..List::default() };
        let query = SlidingQuery { pos, lists: [("all".to_owned(), list)].into(), ..SlidingQuery::default() };
        self.runtime.block_on(self.engine.sliding_sync(who, &query)).expect("a sync works").pos
    }
}

impl House {
    /// How long something takes after a message, so many times.
    fn after_a_message(&self, rounds: u64, who: &Requester, room_id: &RoomId, mut what: impl FnMut()) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..rounds {
            self.say(who, room_id);
            let started = Instant::now();
            what();
            spent += started.elapsed();
        }
        spent
    }
}

async fn start(url: String) -> Engine {
    let server_name = owned_server_name!("bench.test");
    let world = World { clock: Arc::new(WallClock), chance: Arc::new(SystemChance) };
    let durability = Durability::Full;
    let options = Options { url, durability, read_connections: 4, server_name: server_name.clone() };
    let storage = Storage::open(&options).await.expect("a new database can be made");
    let mut seed = [0; 32];
    world.chance.fill(&mut seed);
    let federation = Federation::new(FederationOptions {
        key: Arc::new(ServerKey::from_seed(server_name.clone(), "bench", &seed).expect("the seed is random")),
        storage: storage.clone(),
        transport: Arc::new(Silence),
        world: world.clone(),
        notaries: Vec::new(),
    });
    let settings = Settings {
        services: Services::default(),
        server_name,
        registration: Registration::Open,
        default_room_version: RoomVersionId::V12,
        access_token_lifetime_ms: 3_600_000,
        password_hashing: PasswordHashing::Cheap,
        federation_device_names: true,
        partial_state_joins: true,
        presence: true,
        accounts: homeserver_engine::AccountSettings::default(),
        server_notices_user: None,
        media: homeserver_engine::MediaSettings::in_folder(std::path::Path::new("no-media-here")),
        lists_rooms_to_servers: true,
    };
    let sender = Sender::new(federation.clone(), SenderOptions::default());
    Engine::start(settings, storage, federation, sender, world)
}

fn user(number: usize) -> Requester {
    let user_id = UserId::parse(format!("@user{number}:bench.test")).expect("it is a user id");
    Requester { user_id, device_id: "BENCH".into() }
}

async fn say(engine: &Engine, who: &Requester, room_id: &RoomId) {
    let content = r#"{"body":"A message of ordinary length, as people send them to each other.","msgtype":"m.text"}"#;
    let command = SendCommand {
        room_id: room_id.to_owned(),
        event_type: TimelineEventType::RoomMessage,
        content: RawValue::from_string(content.to_owned()).expect("it is JSON"),
        transaction_id: Some(engine.world().random_string(12)),
    };
    black_box(engine.send(who, command).await.expect("a member may send"));
}

fn messages(criterion: &mut Criterion) {
    let house = House::new();
    let mut group = criterion.benchmark_group("message");
    for members in [10, 10_000] {
        let (creator, room_id) = house.room(members);
        group.bench_function(format!("one after the other, {members} members"), |bencher| {
            bencher.iter(|| house.say(&creator, &room_id));
        });
    }
    let rooms: Vec<_> = (0..8).map(|_| house.room(2)).collect();
    group.throughput(Throughput::Elements(32));
    group.bench_function("32 at once in 8 rooms", |bencher| {
        bencher.iter_custom(|rounds| {
            let started = Instant::now();
            for _ in 0..rounds {
                let sends = (0..32).map(|index| {
                    let (creator, room_id) = &rooms[index % rooms.len()];
                    say(&house.engine, creator, room_id)
                });
                house.runtime.block_on(join_all(sends));
            }
            started.elapsed()
        });
    });
    group.finish();
}

fn syncs(criterion: &mut Criterion) {
    let house = House::new();
    let mut room = None;
    for _ in 0..50 {
        let (creator, room_id) = house.room(4);
        for _ in 0..30 {
            house.say(&creator, &room_id);
        }
        room = Some(room_id);
    }
    let (reader, room_id) = (user(0), room.expect("there are rooms"));
    let mut group = criterion.benchmark_group("sync");
    group.bench_function("from nothing, 50 rooms", |bencher| bencher.iter(|| house.sync(&reader, None)));
    let since = house.sync(&reader, None);
    group.bench_function("nothing new, 50 rooms", |bencher| bencher.iter(|| house.sync(&reader, Some(since.clone()))));
    group.bench_function("one message new, 50 rooms", |bencher| {
        let mut since = house.sync(&reader, None);
        bencher.iter_custom(|rounds| {
            house.after_a_message(rounds, &reader, &room_id, || since = house.sync(&reader, Some(since.clone())))
        });
    });
    group.finish();
}

/// The same for an account in 20 rooms and for one in 2,000, in both kinds of sync: it may make no difference.
fn accounts_in_many_rooms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("account in many rooms");
    for rooms in [20, 2_000] {
        let house = House::new();
        for _ in 0..rooms {
            house.room(1);
        }
        let reader = user(0);
        let since = house.sync(&reader, None);
        group.bench_function(format!("nothing new, {rooms} rooms"), |bencher| {
            bencher.iter(|| house.sync(&reader, Some(since.clone())));
        });
        // From sample to sample: only the last few positions are good.
        let mut pos = house.slide(&reader, None);
        group.bench_function(format!("nothing new, sliding, {rooms} rooms"), |bencher| {
            bencher.iter(|| pos = house.slide(&reader, Some(pos.clone())));
        });
        let (_, room_id) = house.room(2);
        group.bench_function(format!("one message new, {rooms} rooms"), |bencher| {
            let mut since = house.sync(&reader, None);
            bencher.iter_custom(|rounds| {
                house.after_a_message(rounds, &reader, &room_id, || since = house.sync(&reader, Some(since.clone())))
            });
        });
        group.bench_function(format!("one message new, sliding, {rooms} rooms"), |bencher| {
            let mut pos = house.slide(&reader, None);
            bencher.iter_custom(|rounds| {
                house.after_a_message(rounds, &reader, &room_id, || pos = house.slide(&reader, Some(pos.clone())))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(5));
    targets = messages, syncs, accounts_in_many_rooms
}
criterion_main!(benches);
