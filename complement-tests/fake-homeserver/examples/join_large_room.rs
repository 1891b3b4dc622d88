//! What it takes to join a large room of other servers: `join_large_room MEMBERS FOLDER [whole]`.
//!
//! Tells the time until our user can talk, the time until all members are known, and what the process, which holds the
//! other servers too, takes in memory beyond what these took before. With `whole`, all members come with the answer to the
//! join. The database is a new one in the folder, with full durability.

use std::{
    env, fs,
    path::Path,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{
    AccountSettings, Engine, MediaSettings, NewDevice, PasswordHashing, RegisterCommand, Registration, Requester,
    SendCommand, Services, Settings,
};
use fake_homeserver::{FakeHomeserver, Network, Room, RoomSettings, WallClock};
use outbound::{Federation, FederationOptions, Sender, SenderOptions};
use rules::{
    event::ServerKey,
    world::{Chance, World},
};
use ruma::{RoomVersionId, ServerName, events::TimelineEventType, owned_server_name};
use serde_json::{json, value::to_raw_value};
use storage::{Durability, Options, Storage};

/// Over how many servers the members are spread.
const SERVERS: usize = 50;
/// How often it is looked whether all is known.
const POLL: Duration = Duration::from_millis(20);

/// Chance that is none: nobody is to be kept out.
struct Counting;

impl Chance for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        use std::sync::atomic::{AtomicU8, Ordering};
        static NEXT: AtomicU8 = AtomicU8::new(1);
        for byte in bytes {
            *byte = NEXT.fetch_add(7, Ordering::Relaxed);
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (Some(members), Some(folder)) = (arguments.first().and_then(|text| text.parse().ok()), arguments.get(1)) else {
        eprintln!("usage: join_large_room MEMBERS FOLDER [whole]");
        process::exit(2);
    };
    let whole = arguments.get(2).is_some_and(|text| text == "whole");
    let network = Network::new(Arc::new(WallClock));
    let (remote, room) = large_room(&network, members);
    if !whole {
        remote.omit_members();
    }
    let engine = start(&network, Path::new(folder)).await;
    let alice = register(&engine).await;

    let resident_before = resident_mb("VmRSS");
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    let begun = Instant::now();
    engine.join(&alice, &room.id, &[remote.name().to_owned()], None).await.expect("the room is public");
    let command = SendCommand {
        room_id: room.id.clone(),
        event_type: TimelineEventType::RoomMessage,
        content: to_raw_value(&json!({"msgtype": "m.text", "body": "hello"})).expect("a JSON value can be written"),
        transaction_id: None,
    };
    engine.send(&alice, command).await.expect("a member may talk");
    let talks = begun.elapsed();
    while engine.storage().partial_state(&room.id).await.expect("the database is readable").is_some() {
        tokio::time::sleep(POLL).await;
    }
    let complete = begun.elapsed();
    let known = engine.joined_members(&alice, &room.id).await.expect("alice is in the room").len();
    println!(
        "{known} members: talks after {:.2} s, all known after {:.2} s, peak {} MB above {resident_before} MB",
        talks.as_secs_f64(),
        complete.as_secs_f64(),
        resident_mb("VmHWM").saturating_sub(resident_before),
    );
    engine.stop();
}

/// A room with many members of several servers, all of which the first serves.
fn large_room(network: &Network, members: usize) -> (FakeHomeserver, Room) {
    let hosts: Vec<FakeHomeserver> =
        (0..SERVERS).map(|number| network.add_fake(&format!("s{number}.example"))).collect();
    let remote = hosts[0].clone();
    let creator = remote.user("creator");
    let room = Room::create(&remote, &creator, &RoomSettings::default());
    for (number, host) in hosts.iter().enumerate() {
        let users = (number..members.saturating_sub(1)).step_by(SERVERS).map(|user| host.user(&format!("u{user}")));
        room.let_in(host, users);
    }
    room.send_message(&remote, &creator, "welcome");
    (remote, room)
}

async fn start(network: &Network, folder: &Path) -> Engine {
    let name = owned_server_name!("here.example");
    let url = format!("sqlite:{}", folder.join("nudge.db").display());
    let options = Options { url, durability: Durability::Full, read_connections: 4, server_name: name.clone() };
    let storage = Storage::open(&options).await.expect("the database opens");
    let world = World { clock: Arc::new(WallClock), chance: Arc::new(Counting) };
    let federation = federation(&name, &storage, network, &world);
    let sender = Sender::new(federation.clone(), SenderOptions::default());
    let settings = Settings {
        services: Services::default(),
        server_name: name,
        registration: Registration::Open,
        default_room_version: RoomVersionId::V11,
        access_token_lifetime_ms: 3_600_000,
        password_hashing: PasswordHashing::Cheap,
        federation_device_names: true,
        partial_state_joins: true,
        presence: false,
        accounts: AccountSettings::default(),
        server_notices_user: None,
        media: MediaSettings::in_folder(&folder.join("media")),
        lists_rooms_to_servers: false,
    };
    let engine = Engine::start(settings, storage, federation, sender, world);
    engine.start_completing();
    engine
}

fn federation(name: &ServerName, storage: &Storage, network: &Network, world: &World) -> Federation {
    let key = ServerKey::from_seed(name.to_owned(), "bench", b"a key for a server that measures")
        .expect("the name and the seed are of a key");
    Federation::new(FederationOptions {
        key: Arc::new(key),
        storage: storage.clone(),
        transport: Arc::new(network.clone()),
        world: world.clone(),
        notaries: Vec::new(),
    })
}

async fn register(engine: &Engine) -> Requester {
    let user_id = engine.registration_check(Some("alice")).await.expect("the name is free");
    let command = RegisterCommand {
        user_id,
        password: Some("correct horse battery staple".to_owned()),
        device: NewDevice::default(),
        registration_token: None,
        guest_access_token: None,
        addresses: Vec::new(),
        inhibit_login: false,
    };
    let session =
        engine.register(command).await.expect("registration is open").session.expect("a session was asked for");
    Requester { user_id: session.user_id, device_id: session.device_id }
}

/// A line of `/proc/self/status`, in megabytes.
fn resident_mb(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells of its processes");
    let line = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).expect("the line is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") / 1024
}
