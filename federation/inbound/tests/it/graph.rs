//! Graphs that are too wide, too deep, or never end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use fake_homeserver::{Room, RoomSettings, json as reply, object_of, text_of};
use rules::{Pdu, event::read_pdu};
use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, Verdict};

/// How many requests one hostile event may cost us.
const REQUESTS_MAX: usize = 300;

fn made_up_id(number: u64) -> OwnedEventId {
    format!("${number:043}").try_into().unwrap()
}

fn message(stage: &Stage, room: &fake_homeserver::Room, prev_events: Vec<OwnedEventId>) -> Pdu {
    let content = json!({"msgtype": "m.text", "body": "x"});
    let mut draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.message", None, content);
    draft.prev_events = prev_events;
    stage.remote.build(draft, &room.rules)
}

/// The same event with a list of its own choice, which an honest builder would refuse to make.
fn with_list(stage: &Stage, room: &fake_homeserver::Room, field: &str, ids: &[OwnedEventId]) -> String {
    let mut object = object_of(&message(stage, room, room.extremities()));
    object.insert(field.to_owned(), serde_json::from_value(json!(ids)).unwrap());
    text_of(&stage.remote.seal(object, &room.rules))
}

#[tokio::test]
async fn s_053_more_than_20_prev_events_or_10_auth_events_are_refused() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let ids = |count: u64| -> Vec<OwnedEventId> { (0..count).map(made_up_id).collect() };
    let before = stage.network.recorded().len();
    let head = stage.log_head();
    for (field, count) in [("prev_events", 21), ("prev_events", 1_000), ("auth_events", 11), ("auth_events", 1_000)] {
        let text = with_list(&stage, &room, field, &ids(count));
        stage.receive_raw(&[fake_homeserver::raw(text)]).await;
        assert_eq!(stage.log_head(), head, "{count} {field}");
    }
    // Four transactions came in; nothing went out to look for what they name.
    assert_eq!(stage.network.recorded().len(), before + 4);
}

#[tokio::test]
async fn s_053_unknown_ancestors_without_end_are_given_up() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, quiet) = (stage.joined_room(&alice).await, stage.joined_room(&alice).await);
    let numbers = Arc::new(AtomicU64::new(1_000));
    // Whatever is asked for is an event with twenty more ancestors that nobody has heard of.
    let (remote, hostile) = (stage.remote.clone(), room.clone());
    let next = move || {
        let ids = (0..20).map(|_| made_up_id(numbers.fetch_add(1, Ordering::Relaxed))).collect();
        let content = json!({"msgtype": "m.text", "body": "x"});
        let mut draft = hostile.draft(&remote, &remote.user("rita"), "m.room.message", None, content);
        draft.prev_events = ids;
        serde_json::from_str::<Value>(&remote.build(draft, &hostile.rules).json).unwrap()
    };
    stage.remote.on_request(move |request| {
        let path = request.uri().path();
        if path.contains("get_missing_events") {
            return Some(reply(200, &json!({"events": (0..20).map(|_| next()).collect::<Vec<_>>()})));
        }
        let list = path.contains("/backfill/") || path.contains("/event/");
        list.then(|| reply(200, &json!({"origin": "remote", "origin_server_ts": 1, "pdus": [next()]})))
    });
    let tip = message(&stage, &room, (0..20).map(made_up_id).collect());
    let before = stage.network.recorded_to(stage.remote.name(), "").len();
    tokio::time::timeout(PATIENCE, stage.receive(&[&tip])).await.expect("it ends");
    let requests = stage.network.recorded_to(stage.remote.name(), "").len() - before;
    assert!(requests <= REQUESTS_MAX, "{requests} requests");
    assert!(!stage.sees(&alice, &room.id, &tip.event_id).await || requests <= REQUESTS_MAX);
    let honest = quiet.send_message(&stage.remote, &stage.remote.user("rita"), "elsewhere");
    stage.receive(&[&honest]).await;
    assert!(stage.sees(&alice, &quiet.id, &honest.event_id).await);
    // The room itself goes on as well.
    stage.remote.behave();
    let own = stage.send(&alice, &room.id, "still here").await;
    assert!(stage.sees(&alice, &room.id, &own).await);
}

#[tokio::test]
async fn s_053_answers_that_only_name_each_other_end() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let first = message(&stage, &room, vec![made_up_id(1)]);
    let second = message(&stage, &room, vec![first.event_id.clone(), made_up_id(2)]);
    let tip = message(&stage, &room, vec![second.event_id.clone(), first.event_id.clone()]);
    // Always the same two, in whatever is asked for.
    let both = json!([
        serde_json::from_str::<Value>(&first.json).unwrap(),
        serde_json::from_str::<Value>(&second.json).unwrap()
    ]);
    let answer = json!({"events": both, "pdus": both, "auth_chain": both, "origin": "remote", "origin_server_ts": 1});
    stage.remote.on_request(move |request| {
        let path = request.uri().path();
        let asked =
            ["get_missing_events", "/backfill/", "/event/", "/event_auth/"].iter().any(|part| path.contains(part));
        asked.then(|| reply(200, &answer))
    });
    let before = stage.network.recorded_to(stage.remote.name(), "").len();
    tokio::time::timeout(PATIENCE, stage.receive(&[&tip])).await.expect("it ends");
    let requests = stage.network.recorded_to(stage.remote.name(), "").len() - before;
    assert!(requests <= REQUESTS_MAX, "{requests} requests");
}

#[tokio::test]
async fn a_gap_is_filled() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let missed: Vec<_> = (0..5).map(|number| room.send_message(&stage.remote, &rita, &number.to_string())).collect();
    let tip = room.send_message(&stage.remote, &rita, "tip");
    let outcome = stage.receive(&[&tip]).await;
    assert_eq!(outcome[tip.event_id.as_str()], json!({}));
    for pdu in missed.iter().chain([&tip]) {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted, "{}", pdu.json);
        assert!(stage.sees(&alice, &room.id, &pdu.event_id).await);
    }
}

#[tokio::test]
async fn s_055_our_events_name_few_of_many_ends() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let start = room.extremities();
    let ends: Vec<Pdu> = (0..60)
        .map(|number| {
            let content = json!({"msgtype": "m.text", "body": number.to_string()});
            let mut draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.message", None, content);
            draft.prev_events.clone_from(&start);
            stage.remote.build(draft, &room.rules)
        })
        .collect();
    for chunk in ends.chunks(30) {
        stage.receive(&chunk.iter().collect::<Vec<_>>()).await;
    }
    assert_eq!(stage.verdict(&ends[59].event_id).await, Verdict::Accepted);
    let own = stage.send(&alice, &room.id, "next").await;
    let named = stage.stored(&own).await["prev_events"].as_array().unwrap().len();
    assert!((1..=20).contains(&named), "{named}");
    let (own, _) = read_pdu(&stage.stored(&own).await.to_string(), &room.rules).unwrap();
    assert!(own.depth > ends[0].depth);
}

#[tokio::test]
async fn s_054_a_long_auth_chain_costs_by_its_length() {
    const RENAMINGS: usize = 400;
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = fake_homeserver::Room::create(
        &stage.remote,
        &stage.remote.user("rita"),
        &fake_homeserver::RoomSettings::default(),
    );
    let rita = stage.remote.user("rita");
    // Each names the one before among those that authorise it.
    for number in 0..RENAMINGS {
        let content = json!({"membership": "join", "displayname": number.to_string()});
        room.send_state(&stage.remote, &rita, "m.room.member", rita.as_str(), content);
    }
    stage.join(&alice, &room.id).await.unwrap();
    let last = room.state_event("m.room.member", rita.as_str()).unwrap();
    let chain = stage.engine.storage().auth_chain(std::slice::from_ref(&last.event_id)).await.unwrap();
    assert!(chain.len() >= RENAMINGS, "{}", chain.len());
    // What is kept of the chain are its steps, not every pair of ancestor and descendant.
    let mut named = 0;
    for event in stage.engine.storage().events(&chain).await.unwrap() {
        assert!(event.pdu.auth_events.len() <= 10);
        named += event.pdu.auth_events.len();
    }
    assert!(named <= 5 * chain.len(), "{named} names in {} events", chain.len());
    // A fork makes us look at the chains of both branches.
    let (past, state) = (room.extremities(), room.state());
    for branch in ["one", "other"] {
        let content = json!({"topic": branch});
        let draft = room.draft_after(&stage.remote, &past, &state, (&rita, "m.room.topic", Some(""), content));
        let pdu = stage.remote.build(draft, &room.rules);
        tokio::time::timeout(PATIENCE, stage.receive(&[&pdu])).await.expect("it ends");
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted);
    }
}

#[tokio::test]
async fn what_builds_on_an_event_of_another_room_takes_nothing_from_there() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (rita, mallory) = (stage.remote.user("rita"), stage.remote.user("mallory"));
    let settings = RoomSettings::of_version(RoomVersionId::V12);
    let room = Room::create(&stage.remote, &rita, &settings);
    room.send_state(&stage.remote, &mallory, "m.room.member", mallory.as_str(), json!({"membership": "join"}));
    let topic = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "ours"})).event_id.clone();
    let elsewhere = Room::create(&stage.remote, &mallory, &settings);
    for room in [&room, &elsewhere] {
        stage.join(&alice, &room.id).await.unwrap();
    }
    let stray = elsewhere.send_state(&stage.remote, &mallory, "m.room.topic", "", json!({"topic": "theirs"}));
    stage.receive(&[&stray]).await;
    assert_eq!(stage.verdict(&stray.event_id).await, Verdict::Accepted);

    for with_head in [true, false] {
        let text = json!({"msgtype": "m.text", "body": "nothing to see"});
        let mut draft = room.draft(&stage.remote, &mallory, "m.room.message", None, text);
        draft.prev_events.retain(|_| with_head);
        draft.prev_events.push(stray.event_id.clone());
        let message = room.send(&stage.remote, draft);
        stage.receive(&[&message]).await;
        assert_eq!(stage.current(&room.id, "m.room.topic", "").await.as_ref(), Some(&topic));
    }
    stage.send(&alice, &room.id, "go on").await;
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await, Some(topic));
}
