//! What one event costs: making a message in rooms of 10 and 10,000 members, and resolving 1,000 conflicted events.
//!
//! `cargo bench -p homeserver-rules`. A message must cost the same in both rooms.

use std::{
    collections::{HashMap, HashSet},
    hint::black_box,
    sync::Arc,
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use homeserver_rules::{
    Pdu, RoomSnapshot,
    event::{ServerKey, read_pdu},
    room::{
        EventsById, StateMap,
        create::{NewRoom, Preset, first_events},
        resolve::{Branch, resolve},
        send::{Circumstances, Intent, accept, entry_of, make},
    },
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomVersionId, UInt,
    events::TimelineEventType, owned_room_id, owned_server_name, owned_user_id,
};
use serde_json::{Value, json};

struct Room {
    snapshot: RoomSnapshot,
    events: EventsById,
    key: ServerKey,
    time: u64,
}

impl Room {
    fn with_members(version: &RoomVersionId, members: usize) -> Self {
        let seed: [u8; 32] = std::array::from_fn(|index| index as u8);
        let new_room = NewRoom {
            version: version.clone(),
            creator: owned_user_id!("@alice:bench.test"),
            preset: Preset::PublicChat,
            alias: None,
            name: None,
            topic: None,
            initial_state: Vec::new(),
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: None,
            invite: Vec::new(),
            member_content: CanonicalJsonObject::new(),
        };
        let rules = version.rules().expect("the version is known");
        let mut room = Self {
            snapshot: RoomSnapshot::empty(owned_room_id!("!room:bench.test"), version.clone(), rules.clone()),
            events: EventsById::new(),
            key: ServerKey::from_seed(owned_server_name!("bench.test"), "bench", &seed).expect("the seed varies"),
            time: 1_000,
        };
        for intent in first_events(&new_room, &rules).expect("the room is plain") {
            room.send(intent);
        }
        for index in 1..members {
            let content = json!({ "membership": "join", "displayname": format!("Member {index}") });
            room.send(intent(&member(index), "m.room.member", Some(member(index).as_str()), &content));
        }
        room
    }

    fn make(&self, intent: Intent) -> Arc<Pdu> {
        let circumstances = Circumstances {
            key: &self.key,
            now: MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.time)),
            id_seed: self.time.to_string(),
            events: &self.events,
        };
        make(&self.snapshot, intent, &circumstances).expect("the event is allowed")
    }

    fn send(&mut self, intent: Intent) -> Arc<Pdu> {
        self.time += 1;
        let pdu = self.make(intent);
        self.snapshot.room_id.clone_from(&pdu.room_id);
        self.events.insert(pdu.event_id.clone(), pdu.clone());
        self.snapshot = accept(&self.snapshot, &pdu, &self.events).room.expect("an accepted event leads to a room");
        pdu
    }
}

fn member(index: usize) -> OwnedUserId {
    if index == 0 {
        return owned_user_id!("@alice:bench.test");
    }
    format!("@member{index}:bench.test").try_into().expect("it is a user id")
}

fn intent(sender: &OwnedUserId, event_type: &str, state_key: Option<&str>, content: &Value) -> Intent {
    Intent {
        sender: sender.clone(),
        event_type: TimelineEventType::from(event_type),
        state_key: state_key.map(ToOwned::to_owned),
        content: serde_json::from_value(content.clone()).expect("it is canonical JSON"),
        redacts: None,
        sticky_duration_ms: None,
        origin_server_ts: None,
    }
}

fn messages(criterion: &mut Criterion) {
    let body = "The kettle is on, and there is cake as well, if you hurry.";
    let content =
        json!({ "msgtype": "m.text", "body": body, "format": "org.matrix.custom.html", "formatted_body": body });
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        for members in [10, 10_000] {
            let room = Room::with_members(&version, members);
            let message = intent(&member(members / 2), "m.room.message", None, &content);
            let name = |what: &str| format!("{what}, version {version}, {members} members");
            criterion.bench_function(&name("build, hash, sign, authorise a message"), |bencher| {
                bencher.iter_batched(|| message.clone(), |message| room.make(message), BatchSize::SmallInput);
            });
            let pdu = room.make(message.clone());
            criterion.bench_function(&name("work out what a message changes"), |bencher| {
                bencher.iter(|| accept(&room.snapshot, black_box(&pdu), &room.events));
            });
            criterion.bench_function(&name("read a message"), |bencher| {
                bencher.iter(|| read_pdu(black_box(&pdu.json), &room.snapshot.rules));
            });
        }
    }
}

fn auth_chain(events: &EventsById, state: &StateMap) -> HashSet<OwnedEventId> {
    let mut chain = HashSet::new();
    let mut queue: Vec<OwnedEventId> = state.values().cloned().collect();
    while let Some(event_id) = queue.pop() {
        let named = events[&event_id].auth_events.clone();
        if chain.insert(event_id) {
            queue.extend(named);
        }
    }
    chain
}

/// Two branches on which 500 members each were renamed, in a room of as many as that and more.
fn conflict(room: &mut Room, conflicted: usize) -> Vec<StateMap> {
    let before = room.snapshot.clone();
    let branches = ["left", "right"].map(|name| {
        room.snapshot = before.clone();
        for index in 1..=conflicted / 2 {
            let content = json!({ "membership": "join", "displayname": format!("{name} {index}") });
            room.send(intent(&member(index), "m.room.member", Some(member(index).as_str()), &content));
        }
        room.snapshot.state_map()
    });
    room.snapshot = before;
    branches.into()
}

fn resolution(criterion: &mut Criterion) {
    const CONFLICTED: usize = 1_000;
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        for members in [1_000, 10_000] {
            let mut room = Room::with_members(&version, members);
            let states = conflict(&mut room, CONFLICTED);
            let branches = || -> Vec<Branch> {
                let branch =
                    |state: &StateMap| Branch { state: state.clone(), auth_chain: auth_chain(&room.events, state) };
                states.iter().map(branch).collect()
            };
            let name = format!("resolve {CONFLICTED} conflicted events, version {version}, {members} members");
            criterion.bench_function(&name, |bencher| {
                let resolve = |branches| resolve(&room.snapshot.rules, branches, &room.events).expect("it resolves");
                bencher.iter_batched(branches, resolve, BatchSize::LargeInput);
            });
        }
    }
}

/// Loading a room: applying its whole state to an empty snapshot.
fn loading(criterion: &mut Criterion) {
    let room = Room::with_members(&RoomVersionId::V12, 10_000);
    let current: HashMap<_, _> = room.snapshot.state_map();
    let entries: Vec<_> = current.values().filter_map(|event_id| entry_of(&room.events[event_id])).collect();
    criterion.bench_function("load a room of 10000 members", |bencher| {
        bencher.iter(|| {
            let RoomSnapshot { room_id, version, rules, .. } = room.snapshot.clone();
            let mut empty = RoomSnapshot::empty(room_id, version, rules);
            empty.apply(black_box(&entries));
            empty
        });
    });
}

criterion_group! {
    name = pipeline;
    config = Criterion::default().sample_size(20);
    targets = messages, resolution, loading
}
criterion_main!(pipeline);
