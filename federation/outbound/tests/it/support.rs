//! A world to turn by hand, a wire that answers what the test says, and servers with keys.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use outbound::{CallLimits, Federation, FederationOptions, Transport, TransportError};
use rules::{
    Pdu,
    event::{Draft, ServerKey, build},
    world::{Chance, Clock, World},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, RoomVersionId, ServerName, UserId,
    events::TimelineEventType, room_version_rules::RoomVersionRules, serde::Base64, server_name,
};
use serde_json::{Value, json};
use storage::{Durability, Options, Storage};

/// Where every test's clock begins.
pub(crate) const START_MS: u64 = 1_700_000_000_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The same bytes in every run.
struct TestChance(AtomicU64);

impl Chance for TestChance {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let count = self.0.fetch_add(1, Ordering::SeqCst);
            *byte = (count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
}

pub(crate) fn world() -> (World, Arc<TestClock>) {
    let clock = Arc::new(TestClock(AtomicU64::new(START_MS)));
    let world = World { clock: Arc::clone(&clock) as Arc<dyn Clock>, chance: Arc::new(TestChance(AtomicU64::new(7))) };
    (world, clock)
}

pub(crate) type Answer = Result<http::Response<Bytes>, TransportError>;
type Handler = Box<dyn FnMut(&ServerName, &http::Request<Bytes>) -> Answer + Send>;

/// What was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) destination: OwnedServerName,
    pub(crate) method: http::Method,
    pub(crate) target: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Sent {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Whether a server never answers.
type IsHole = fn(&ServerName) -> bool;

/// Answers what the test says, and remembers what it was asked.
pub(crate) struct Wire {
    handler: Mutex<Handler>,
    sent: Mutex<Vec<Sent>>,
    holes: Mutex<Option<IsHole>>,
}

impl Wire {
    pub(crate) fn new(handler: impl FnMut(&ServerName, &http::Request<Bytes>) -> Answer + Send + 'static) -> Arc<Self> {
        Arc::new(Self { handler: Mutex::new(Box::new(handler)), sent: Mutex::default(), holes: Mutex::default() })
    }

    /// Nobody answers.
    pub(crate) fn dead() -> Arc<Self> {
        Self::new(|_, _| Err(unreachable()))
    }

    pub(crate) fn set(&self, handler: impl FnMut(&ServerName, &http::Request<Bytes>) -> Answer + Send + 'static) {
        *self.handler.lock().unwrap() = Box::new(handler);
    }

    /// From now on these servers take what they are sent and never answer.
    pub(crate) fn swallow(&self, is_hole: fn(&ServerName) -> bool) {
        *self.holes.lock().unwrap() = Some(is_hole);
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

impl Transport for Wire {
    fn send<'a>(
        &'a self,
        destination: &'a ServerName,
        request: http::Request<Bytes>,
        _: CallLimits,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            self.sent.lock().unwrap().push(Sent {
                destination: destination.to_owned(),
                method: request.method().clone(),
                target: request.uri().to_string(),
                headers: request.headers().clone(),
                body: request.body().clone(),
            });
            let is_hole = self.holes.lock().unwrap().is_some_and(|is_hole| is_hole(destination));
            if is_hole {
                std::future::pending::<()>().await;
            }
            // As on a real wire, others get on meanwhile.
            tokio::task::yield_now().await;
            let mut handler = self.handler.lock().unwrap();
            handler(destination, &request)
        })
    }
}

pub(crate) fn unreachable() -> TransportError {
    TransportError::Unreachable("nobody answers".to_owned())
}

pub(crate) fn ok(body: &impl serde::Serialize) -> Answer {
    status(200, body)
}

#[expect(clippy::unnecessary_wraps, reason = "it is an answer, as the failures of the wire are")]
pub(crate) fn status(status: u16, body: &impl serde::Serialize) -> Answer {
    let body = Bytes::from(serde_json::to_vec(body).unwrap());
    Ok(http::Response::builder().status(status).body(body).unwrap())
}

pub(crate) fn error(status_code: u16, errcode: &str) -> Answer {
    status(status_code, &json!({ "errcode": errcode, "error": "no" }))
}

pub(crate) async fn memory(server_name: &ServerName) -> Storage {
    let options = Options {
        url: "sqlite::memory:".to_owned(),
        durability: Durability::Relaxed,
        read_connections: 1,
        server_name: server_name.to_owned(),
    };
    Storage::open(&options).await.unwrap()
}

/// A key whose bytes follow from `seed`.
pub(crate) fn key(server_name: &ServerName, name: &str, seed: u8) -> ServerKey {
    let seed = std::array::from_fn(|index| seed.wrapping_add(index as u8).wrapping_mul(7));
    ServerKey::from_seed(server_name.to_owned(), name, &seed).unwrap()
}

pub(crate) fn here() -> &'static ServerName {
    server_name!("here.test")
}

/// Our side, with the given wire.
pub(crate) struct Bench {
    pub(crate) federation: Federation,
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) world: World,
    pub(crate) key: Arc<ServerKey>,
    pub(crate) wire: Arc<Wire>,
    notaries: Vec<OwnedServerName>,
}

impl Bench {
    pub(crate) async fn new(wire: Arc<Wire>) -> Self {
        Self::with_notaries(wire, Vec::new()).await
    }

    pub(crate) async fn with_notaries(wire: Arc<Wire>, notaries: Vec<OwnedServerName>) -> Self {
        let (world, clock) = world();
        let (storage, key) = (memory(here()).await, Arc::new(key(here(), "own", 1)));
        let federation = federation(&key, &storage, &wire, &world, &notaries);
        Self { federation, storage, clock, world, key, wire, notaries }
    }

    /// As after a restart: only what is stored remains.
    pub(crate) fn restarted(&self) -> Federation {
        federation(&self.key, &self.storage, &self.wire, &self.world, &self.notaries)
    }

    /// The same with another key.
    pub(crate) fn restarted_with(&self, key: ServerKey) -> Federation {
        federation(&Arc::new(key), &self.storage, &self.wire, &self.world, &self.notaries)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

fn federation(
    key: &Arc<ServerKey>,
    storage: &Storage,
    wire: &Arc<Wire>,
    world: &World,
    notaries: &[OwnedServerName],
) -> Federation {
    Federation::new(FederationOptions {
        key: Arc::clone(key),
        storage: storage.clone(),
        transport: Arc::clone(wire) as Arc<dyn Transport>,
        world: world.clone(),
        notaries: notaries.to_vec(),
    })
}

pub(crate) fn base64(bytes: &[u8; 32]) -> String {
    Base64::<ruma::serde::base64::Standard, _>::new(bytes).encode()
}

/// What a server says about its keys: signed with the first, which is in use; the others were until the time given.
pub(crate) fn statement(current: &ServerKey, valid_until_ms: u64, old: &[(&ServerKey, u64)]) -> CanonicalJsonObject {
    let old: BTreeMap<_, _> = old
        .iter()
        .map(|(key, expired_ms)| {
            (key.key_id().to_string(), json!({ "key": base64(&key.public_key()), "expired_ts": expired_ms }))
        })
        .collect();
    let mut verify_keys = BTreeMap::new();
    verify_keys.insert(current.key_id().to_string(), json!({ "key": base64(&current.public_key()) }));
    let mut object = object(json!({
        "server_name": current.server_name(),
        "valid_until_ts": valid_until_ms,
        "verify_keys": verify_keys,
        "old_verify_keys": old,
    }));
    current.sign_json(&mut object).unwrap();
    object
}

pub(crate) fn value(object: &CanonicalJsonObject) -> Value {
    serde_json::to_value(object).unwrap()
}

pub(crate) fn object(value: Value) -> CanonicalJsonObject {
    match CanonicalJsonValue::try_from(value).unwrap() {
        CanonicalJsonValue::Object(object) => object,
        other => panic!("not an object: {other:?}"),
    }
}

pub(crate) fn rules(version: &RoomVersionId) -> RoomVersionRules {
    version.rules().unwrap()
}

/// A message of a user of the key's server.
pub(crate) fn event(key: &ServerKey, version: &RoomVersionId, origin_server_ts: u64, body: &str) -> Pdu {
    let draft = Draft {
        room_id: Some("!room:here.test".try_into().unwrap()),
        sender: UserId::parse(format!("@user:{}", key.server_name())).unwrap(),
        event_type: TimelineEventType::RoomMessage,
        state_key: None,
        content: object(json!({ "msgtype": "m.text", "body": body })),
        redacts: None,
        prev_events: vec![],
        auth_events: vec![],
        depth: 5,
        origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(ruma::UInt::new_saturating(origin_server_ts)),
        legacy: None,
    };
    build(draft, &rules(version), key).unwrap()
}

pub(crate) fn event_object(pdu: &Pdu) -> CanonicalJsonObject {
    serde_json::from_str(&pdu.json).unwrap()
}
