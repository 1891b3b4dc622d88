//! Several devices at one server, with a clock that is turned by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use machine::{
    Audience, DecryptError, Decrypted, EncryptError, Held, Machine, MemoryStore, Notice, Readiness, RequestBody, Store,
    StoreKey,
};
use rules::world::{Chance, Clock, World};
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};

use crate::server::{Object, Place, Server};

/// More rounds than any exchange takes: one that does not come to rest is a loop.
const ROUNDS_MAX: usize = 50;

/// A clock turned by hand.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers that differ, which is all that is needed here.
struct Counted(AtomicU64);

impl Chance for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            *byte = (mixed ^ (mixed >> 27)) as u8;
        }
    }
}

pub(crate) fn world() -> (World, Arc<HandClock>) {
    let clock = Arc::new(HandClock(AtomicU64::new(1_700_000_000_000)));
    (World { clock: clock.clone(), chance: Arc::new(Counted(AtomicU64::new(1))) }, clock)
}

/// A device with its store.
pub(crate) struct Client {
    pub(crate) machine: Machine,
    pub(crate) store: MemoryStore,
    pub(crate) place: Place,
    pub(crate) notices: Vec<Notice>,
}

impl Client {
    pub(crate) fn keep<T>(&mut self, held: Held<T>) -> T {
        held.store_in(&mut self.store).unwrap()
    }
}

/// Everybody.
pub(crate) struct Party {
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) clock: Arc<HandClock>,
    world: World,
    events: u64,
}

pub(crate) fn key() -> StoreKey {
    StoreKey::from_secret([9; 32])
}

pub(crate) fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:example.org")).unwrap()
}

pub(crate) fn room() -> OwnedRoomId {
    OwnedRoomId::try_from("!room:example.org").unwrap()
}

impl Party {
    /// One device for each name; `name/device` for a device with an id of its own.
    pub(crate) fn new(names: &[&str]) -> Self {
        let (world, clock) = world();
        let mut party = Self { server: Server::default(), clients: Vec::new(), clock, world, events: 0 };
        for name in names {
            party.add(name);
        }
        party.pump();
        party
    }

    pub(crate) fn add(&mut self, name: &str) -> usize {
        let (name, device) = name.split_once('/').unwrap_or((name, "PHONE"));
        let place: Place = (user(name), device.into());
        let mut store = MemoryStore::default();
        let machine = Machine::new(self.world.clone(), &place.0, &place.1, &key()).store_in(&mut store).unwrap();
        let mut client = Client { machine, store, place: place.clone(), notices: Vec::new() };
        let content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        let held = client.machine.set_room_encryption(&room(), content.as_object().unwrap());
        assert!(client.keep(held));
        self.server.inboxes.insert(place, std::collections::VecDeque::new());
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Sends what one device wants to send. Returns whether that was anything.
    pub(crate) fn send_requests(&mut self, who: usize) -> bool {
        let client = &mut self.clients[who];
        let held = client.machine.requests();
        let requests = client.keep(held);
        for request in &requests {
            let answer = self.server.handle(&client.place, request);
            let held = client.machine.answer(&request.id, &answer).unwrap();
            client.keep(held);
        }
        !requests.is_empty()
    }

    pub(crate) fn sync(&mut self, who: usize) -> bool {
        let client = &mut self.clients[who];
        let (parts, has_news) = self.server.sync(&client.place);
        let held = client.machine.receive_sync(&parts);
        let notices = client.keep(held);
        client.notices.extend(notices);
        has_news
    }

    /// Until nobody has anything to say.
    pub(crate) fn pump(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_busy = false;
            for who in 0..self.clients.len() {
                is_busy |= self.sync(who);
                is_busy |= self.send_requests(who);
            }
            if !is_busy {
                self.collect();
                return;
            }
        }
        panic!("the exchange does not come to rest");
    }

    /// Notices that came with answers.
    fn collect(&mut self) {
        for client in &mut self.clients {
            let held = client.machine.notices();
            let notices = client.keep(held);
            client.notices.extend(notices);
        }
    }

    pub(crate) fn audience(&self) -> Audience {
        Audience {
            room_id: room(),
            members: self.clients.iter().map(|client| client.place.0.clone()).collect::<BTreeSet<_>>(),
            history_visibility: "shared".to_owned(),
            only_verified: false,
        }
    }

    /// Encrypts a message for everybody.
    pub(crate) fn send(&mut self, who: usize, body: &str) -> Object {
        let audience = self.audience();
        self.send_to(who, &audience, body)
    }

    pub(crate) fn send_to(&mut self, who: usize, audience: &Audience, body: &str) -> Object {
        for _ in 0..ROUNDS_MAX {
            let client = &mut self.clients[who];
            let held = client.machine.prepare(audience).unwrap();
            if client.keep(held) == Readiness::Ready {
                let content = self.encrypt(who, audience, body).unwrap();
                self.pump();
                return self.event(who, &content);
            }
            self.send_requests(who);
            self.sync(who);
        }
        panic!("the room never becomes ready");
    }

    pub(crate) fn encrypt(&mut self, who: usize, audience: &Audience, body: &str) -> Result<Object, EncryptError> {
        let client = &mut self.clients[who];
        let content = json!({ "msgtype": "m.text", "body": body });
        let held = client.machine.encrypt(audience, "m.room.message", content.as_object().unwrap())?;
        Ok(client.keep(held))
    }

    pub(crate) fn event(&mut self, who: usize, content: &Object) -> Object {
        self.events += 1;
        let event = json!({
            "type": "m.room.encrypted",
            "event_id": format!("$message{}", self.events),
            "sender": self.clients[who].place.0,
            "origin_server_ts": 1_700_000_000_000_u64 + self.events,
            "content": content,
        });
        event.as_object().unwrap().clone()
    }

    pub(crate) fn decrypt(&mut self, who: usize, event: &Object) -> Result<Decrypted, DecryptError> {
        let client = &mut self.clients[who];
        let held = client.machine.decrypt(&room(), event)?;
        Ok(client.keep(held))
    }

    /// What a device reads in an event.
    pub(crate) fn read(&mut self, who: usize, event: &Object) -> Option<String> {
        let decrypted = self.decrypt(who, event).ok()?;
        decrypted.content.get("body").and_then(Value::as_str).map(str::to_owned)
    }

    /// Kills a device and starts it anew from its store.
    pub(crate) fn restart(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.machine = Machine::load(self.world.clone(), &client.store.records().unwrap(), &key()).unwrap();
    }

    /// Makes the identity of a user, with this device.
    pub(crate) fn bootstrap(&mut self, who: usize) {
        let client = &mut self.clients[who];
        let held = client.machine.bootstrap_cross_signing();
        client.keep(held);
        self.pump();
    }

    /// Lets a device know of everybody's devices, as it would before sending.
    pub(crate) fn meet(&mut self, who: usize) {
        let event = self.send(who, "hello");
        assert!(event.contains_key("content"));
    }
}

/// Whether a request asks for something, for tests that look at requests.
pub(crate) fn is_upload(body: &RequestBody) -> bool {
    matches!(body, RequestBody::KeysUpload(_))
}
