//! What devices cost, on SQLite with an fsync before each answer: claims of one-time keys, one after the other and many at
//! once; a question for the keys of 1,000 users; a message to 1,000 devices.
//!
//! `cargo bench -p e2ee-keyserver`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use keyserver::{KeyServer, Messages, Viewer};
use rules::{
    Change,
    world::{Chance, Clock, World},
};
use ruma::{OwnedDeviceId, OwnedUserId, UserId, owned_server_name};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use storage::{Durability, KeyClaim, NewOneTimeKey, NewSession, Options, Storage, Submission};
use tokio::runtime::Runtime;

const ALGORITHM: &str = "signed_curve25519";
const USERS: usize = 1_000;
/// How many one-time keys a device gets at a time.
const BATCH: u64 = 500;

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

/// A key server whose users have one device each.
struct House {
    server: KeyServer,
    storage: Storage,
    runtime: Runtime,
    next_key: u64,
    _folder: tempfile::TempDir,
}

impl House {
    fn new(users: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = format!("sqlite:{}", folder.path().join("nudge.db").display());
        let server_name = owned_server_name!("bench.test");
        let durability = Durability::Full;
        let options = Options { url, durability, read_connections: 4, server_name: server_name.clone() };
        let storage = runtime.block_on(Storage::open(&options)).expect("a new database can be made");
        let world = World { clock: Arc::new(WallClock), chance: Arc::new(SystemChance) };
        let server = KeyServer::new(storage.clone(), world, server_name);
        runtime.block_on(async {
            for number in 0..users {
                log_in(&storage, number).await;
            }
            let changes = (0..users).flat_map(keys_of).collect();
            storage.commit(Submission { room: None, changes }).await.expect("keys can be stored");
        });
        Self { server, storage, runtime, next_key: 0, _folder: folder }
    }

    /// How long so many claims take; the keys are uploaded beside.
    fn claims(&mut self, rounds: u64, at_once: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = 0;
        for _ in 0..rounds {
            if left < at_once {
                self.add_keys();
                left += BATCH;
            }
            left -= at_once;
            let started = Instant::now();
            self.runtime.block_on(join_all((0..at_once).map(|_| async {
                let found = self.server.claim(vec![claim(0)]).await.expect("keys can be claimed");
                assert!(!found.is_empty(), "there are keys");
                black_box(found);
            })));
            spent += started.elapsed();
        }
        spent
    }

    fn add_keys(&mut self) {
        let key = |number: u64| NewOneTimeKey {
            algorithm: ALGORITHM.to_owned(),
            key_id: format!("{number:012}"),
            key: raw(
                &json!({ "key": format!("A{number:042}"), "signatures": { "@user0:bench.test": { "ed25519:D": "s".repeat(86) } } }),
            ),
        };
        let keys: Vec<_> = (self.next_key..self.next_key + BATCH).map(key).collect();
        self.next_key += BATCH;
        let (user_id, device_id) = device(0);
        let added = self.storage.add_one_time_keys(&user_id, &device_id, &keys, &[], usize::MAX);
        self.runtime.block_on(added).expect("keys can be stored");
    }
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).expect("it is JSON")
}

fn device(number: usize) -> (OwnedUserId, OwnedDeviceId) {
    (UserId::parse(format!("@user{number}:bench.test")).expect("it is a user id"), "DEVICE".into())
}

fn claim(number: usize) -> KeyClaim {
    let (user_id, device_id) = device(number);
    KeyClaim { user_id, device_id, algorithm: ALGORITHM.to_owned() }
}

async fn log_in(storage: &Storage, number: usize) {
    let (user_id, device_id) = device(number);
    let mut access_token_hash = [0; 32];
    access_token_hash[..8].copy_from_slice(&number.to_be_bytes());
    let session = NewSession {
        user_id,
        device_id,
        display_name: Some("Phone".to_owned()),
        access_token_hash,
        access_token_expires_ts: None,
        refresh_token_hash: None,
        now_ts: 1,
    };
    storage.create_session(session).await.expect("a device can be made");
}

/// Of a device, and the three of cross-signing, as large as real ones.
fn keys_of(number: usize) -> Vec<Change> {
    let (user_id, device_id) = device(number);
    let signature = "s".repeat(86);
    let keys = raw(&json!({
        "user_id": user_id, "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { "ed25519:DEVICE": "e".repeat(43), "curve25519:DEVICE": "c".repeat(43) },
        "signatures": { user_id.as_str(): { "ed25519:DEVICE": signature } },
    }));
    let mut changes =
        vec![Change::DeviceKeys { user_id: user_id.clone(), device_id, keys: Some(keys), display_name: None }];
    for usage in ["master", "self_signing", "user_signing"] {
        let public = format!("{usage:x<43}");
        let key = raw(&json!({
            "user_id": user_id, "usage": [usage], "keys": { format!("ed25519:{public}"): public },
            "signatures": { user_id.as_str(): { "ed25519:master": signature } },
        }));
        changes.push(Change::CrossSigningKey { user_id: user_id.clone(), usage: usage.to_owned(), key: Some(key) });
    }
    changes
}

fn claims(criterion: &mut Criterion) {
    let mut house = House::new(1);
    let mut group = criterion.benchmark_group("claim");
    for at_once in [1, 32] {
        group.throughput(Throughput::Elements(at_once));
        group.bench_function(format!("{at_once} at once"), |bencher| {
            bencher.iter_custom(|rounds| house.claims(rounds, at_once));
        });
    }
    group.finish();
}

fn queries(criterion: &mut Criterion) {
    let house = House::new(USERS);
    let asked = (0..USERS).map(|number| (device(number).0, Vec::new())).collect();
    let viewer = device(0).0;
    criterion.bench_function("query for 1,000 users", |bencher| {
        bencher.iter(|| {
            let found =
                house.runtime.block_on(house.server.query(&asked, Viewer::User(&viewer))).expect("keys are there");
            assert_eq!(found.device_keys.len(), USERS);
            black_box(found)
        });
    });
}

fn messages(criterion: &mut Criterion) {
    let house = House::new(USERS);
    let (sender, device_id) = device(0);
    // As large as an encrypted room key.
    let content = raw(&json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": "c".repeat(1_000) }));
    let to = |number| (device(number).0, [("DEVICE".to_owned(), content.clone())].into());
    let mut sent = 0_u64;
    let mut group = criterion.benchmark_group("message");
    group.throughput(Throughput::Elements(USERS as u64));
    group.bench_function("to 1,000 devices", |bencher| {
        bencher.iter_batched(
            || (0..USERS).map(to).collect::<Messages>(),
            |messages| {
                sent += 1;
                let id = sent.to_string();
                let sending =
                    house.server.send_to_device(&sender, device_id.as_str(), &id, "m.room.encrypted", messages);
                house.runtime.block_on(sending).expect("a message can be sent");
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(5));
    targets = claims, queries, messages
}
criterion_main!(benches);
