//! Whatever a client asks and whenever, it is told each event once, in order.

use std::{collections::BTreeMap, sync::Arc};

use engine::{Engine, MessagesQuery, Requester};
use ruma::{EventId, OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::stage::{Dice, Stage, ids, page_ids, query, send, sync, token};

/// A client that keeps what it is told, and fills the gaps that it is told of.
struct Client {
    engine: Engine,
    user: Requester,
    /// Which event types it wants; `None` for all.
    types: Option<Vec<&'static str>>,
    since: Option<String>,
    told: BTreeMap<OwnedRoomId, Vec<String>>,
    dice: Dice,
}

impl Client {
    fn new(engine: &Engine, user: &Requester, types: Option<Vec<&'static str>>, seed: u64) -> Self {
        let (engine, user) = (engine.clone(), user.clone());
        Self { engine, user, types, since: None, told: BTreeMap::new(), dice: Dice::new(seed) }
    }

    fn events_filter(&mut self, limit: usize) -> Value {
        let mut filter = json!({"limit": self.dice.below(limit)});
        if let Some(types) = &self.types {
            filter["types"] = json!(types);
        }
        filter
    }

    async fn sync(&mut self, timeout_ms: u64) -> Value {
        let filter = json!({"room": {"timeline": self.events_filter(8)}});
        let mut asked = query(self.since.as_deref(), &filter);
        asked.timeout_ms = timeout_ms;
        asked.use_state_after = self.dice.percent(50);
        let answer = sync(&self.engine, &self.user, asked).await;
        for section in ["join", "leave"] {
            let rooms = answer["rooms"][section].as_object().cloned().unwrap_or_default();
            for (room_id, room) in rooms {
                self.take(&room_id.try_into().unwrap(), &room["timeline"]).await;
            }
        }
        self.since = Some(token(&answer));
        answer
    }

    async fn take(&mut self, room_id: &OwnedRoomId, timeline: &Value) {
        let mut events = Vec::new();
        if timeline["limited"] == json!(true) {
            let prev_batch = timeline["prev_batch"].as_str().unwrap();
            events = self.before(room_id, prev_batch).await;
        }
        events.extend(ids(&timeline["events"]));
        self.told.entry(room_id.clone()).or_default().extend(events);
    }

    /// What was between the last sync and a token, oldest first.
    async fn before(&mut self, room_id: &RoomId, prev_batch: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut from = Some(prev_batch.to_owned());
        while from.is_some() {
            let mut filter = self.events_filter(10);
            let limit = usize::try_from(filter["limit"].take().as_u64().unwrap()).unwrap() + 1;
            filter.as_object_mut().unwrap().remove("limit");
            let asked = MessagesQuery {
                room_id: room_id.to_owned(),
                from: from.take(),
                to: self.since.clone(),
                forward: false,
                limit,
                filter: serde_json::from_value(filter).unwrap(),
            };
            let page = self.engine.messages(&self.user, asked).await.unwrap();
            found.extend(page_ids(&page));
            from = page.end;
        }
        found.reverse();
        found
    }
}

async fn wanted(stage: &Stage, room_id: &RoomId, types: Option<&[&str]>) -> Vec<String> {
    let mut wanted = Vec::new();
    for event_id in stage.timeline(room_id).await {
        let parsed = <&EventId>::try_from(event_id.as_str()).unwrap();
        let event = stage.engine.storage().event(parsed).await.unwrap().unwrap();
        let event_type = event.pdu.event_type.to_string();
        if types.is_none_or(|types| types.contains(&event_type.as_str())) {
            wanted.push(event_id);
        }
    }
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_15_r_19_every_event_once_while_others_send() {
    const MESSAGES: usize = 40;
    let stage = Arc::new(Stage::new().await);
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol"] {
        users.push(stage.user(name).await);
    }
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let room_id = stage.room(&users[0], "shared").await;
        for user in &users[1..] {
            stage.join(user, &room_id).await;
        }
        rooms.push(room_id);
    }
    let mut senders = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let (stage, user, rooms) = (stage.clone(), user.clone(), rooms.clone());
        senders.push(tokio::spawn(async move {
            let mut dice = Dice::new(number as u64);
            for message in 0..MESSAGES {
                let room_id = &rooms[dice.below(rooms.len())];
                if number == 0 && dice.percent(20) {
                    stage.set_state(&user, room_id, "m.room.topic", &json!({"topic": message.to_string()})).await;
                } else {
                    send(&stage.engine, &user, room_id, &message.to_string()).await;
                }
            }
        }));
    }
    let kinds = [None, Some(vec!["m.room.message"]), Some(vec!["m.room.topic", "m.room.create"])];
    let mut clients = Vec::new();
    for seed in 0..6_usize {
        let types = kinds[seed % kinds.len()].clone();
        let mut client = Client::new(&stage.engine, &users[seed % users.len()], types, seed as u64);
        clients.push(tokio::spawn(async move {
            let mut quiet = 0;
            while quiet < 3 {
                let answer = client.sync(300).await;
                quiet = if answer["rooms"].is_null() { quiet + 1 } else { 0 };
            }
            client
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    for client in clients {
        let mut client = client.await.unwrap();
        client.sync(0).await;
        for room_id in &rooms {
            let expected = wanted(&stage, room_id, client.types.as_deref()).await;
            let told = client.told.remove(room_id).unwrap_or_default();
            assert_eq!(told, expected, "{:?} {:?}", client.user.user_id, client.types);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_15_from_any_token_on_the_rest_is_told() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    let mut tokens = Vec::new();
    let mut dice = Dice::new(7);
    for number in 0..60 {
        if dice.percent(30) {
            let known = stage.timeline(&room_id).await.len();
            tokens.push((token(&stage.sync(&alice, None).await), known));
        }
        if dice.percent(30) {
            stage.set_state(&alice, &room_id, "m.room.name", &json!({"name": number.to_string()})).await;
        } else {
            stage.send(&alice, &room_id, &number.to_string()).await;
        }
    }
    let all = stage.timeline(&room_id).await;
    for (seed, (since, known)) in tokens.into_iter().enumerate() {
        let mut client = Client::new(&stage.engine, &alice, None, seed as u64);
        client.since = Some(since);
        client.sync(0).await;
        assert_eq!(client.told.remove(&room_id).unwrap_or_default(), all[known..]);
        assert!(client.sync(0).await["rooms"].is_null());
    }
}

/// A user who comes and goes sees just what happened while they were there, and each event once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_129_r_15_who_comes_and_goes_is_told_what_happened_meanwhile() {
    for seed in 0..4 {
        let stage = Stage::new().await;
        let (alice, carol) = (stage.user("alice").await, stage.user("carol").await);
        let room_id = stage.room(&alice, "joined").await;
        let mut dice = Dice::new(seed);
        let mut client = Client::new(&stage.engine, &carol, None, seed);
        client.sync(0).await;
        let mut joined = false;
        let mut expected = Vec::new();
        let mut known = stage.timeline(&room_id).await.len();
        for number in 0..80 {
            let was_joined = joined;
            match dice.below(10) {
                0 if joined => {
                    stage.leave(&carol, &room_id).await;
                    joined = false;
                }
                0 | 1 if !joined => {
                    stage.join(&carol, &room_id).await;
                    joined = true;
                }
                2 => drop(stage.set_state(&alice, &room_id, "m.room.topic", &json!({"topic": number})).await),
                3 | 4 => {
                    client.sync(0).await;
                }
                _ => drop(stage.send(&alice, &room_id, &number.to_string()).await),
            }
            let timeline = stage.timeline(&room_id).await;
            if was_joined || joined {
                expected.extend_from_slice(&timeline[known..]);
            }
            known = timeline.len();
        }
        client.sync(0).await;
        assert_eq!(client.told.remove(&room_id).unwrap_or_default(), expected, "seed {seed}");
    }
}
