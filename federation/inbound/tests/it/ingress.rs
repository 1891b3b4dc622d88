//! The same bad events by every way in: the verdict must not depend on the way.

use fake_homeserver::{Response, Room, RoomSettings, object_of, text_of};
use rules::{Pdu, event::read_pdu};
use ruma::{OwnedEventId, api::client::filter::RoomEventFilter, events::StateEventType};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, Verdict};

/// What must become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It leaves no trace.
    Dropped,
    /// It may be kept, but as rejected.
    Rejected,
    /// It is kept without its content.
    Redacted,
    /// It is kept as it is: there is nothing wrong with it.
    Kept,
}

/// One bad event.
struct Bad {
    name: &'static str,
    text: String,
    event_id: OwnedEventId,
    fate: Fate,
}

/// The word that gives an event away.
const MARK: &str = "poison";

fn good_topic(stage: &Stage, room: &Room) -> Pdu {
    let content = json!({"topic": MARK, "n": 7});
    let draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.topic", Some(""), content);
    stage.remote.build(draft, &room.rules)
}

fn bad_events(stage: &Stage, room: &Room) -> Vec<Bad> {
    let good = good_topic(stage, room);
    let sealed = |field: &str, value: Value| {
        let mut object = object_of(&good);
        object.insert(field.to_owned(), serde_json::from_value(value).unwrap());
        text_of(&stage.remote.seal(object, &room.rules))
    };
    let unsealed = |field: &str, value: Value| {
        let mut object = object_of(&good);
        object.insert(field.to_owned(), serde_json::from_value(value).unwrap());
        text_of(&object)
    };
    let prev = good.prev_events[0].clone();
    let signature = json!({"remote": {"ed25519:fake": "A".repeat(86)}});
    let long = json!({"topic": MARK, "x": "x".repeat(70_000)});
    let cases = [
        ("unsigned", unsealed("signatures", json!({})), Fate::Dropped),
        ("wrongly signed", unsealed("signatures", signature), Fate::Dropped),
        ("altered outside of its content", unsealed("origin_server_ts", json!(1)), Fate::Dropped),
        ("altered content", unsealed("content", json!({"topic": MARK, "more": 1})), Fate::Redacted),
        ("float", good.json.replace("\"n\":7", "\"n\":7.5"), Fate::Dropped),
        ("key twice", good.json.replace("\"n\":7", "\"n\":7,\"n\":7"), Fate::Dropped),
        ("negative depth", sealed("depth", json!(-1)), Fate::Dropped),
        ("pairs as references", sealed("prev_events", json!([[prev, {"sha256": "x"}]])), Fate::Dropped),
        ("of another room", sealed("room_id", json!("!other:remote")), Fate::Dropped),
        ("from our user", sealed("sender", json!("@alice:test")), Fate::Dropped),
        ("too large", sealed("content", long), Fate::Dropped),
        ("type not a string", sealed("type", json!(7)), Fate::Dropped),
        ("from nobody in the room", sealed("sender", json!("@ghost:remote")), Fate::Rejected),
        ("authorised by nothing", sealed("auth_events", json!([])), Fate::Rejected),
    ];
    let cases = cases.into_iter().chain([("good", good.json.to_string(), Fate::Kept)]);
    let made_up = |number: usize| -> OwnedEventId { format!("${number:043}").try_into().unwrap() };
    cases
        .enumerate()
        .map(|(number, (name, text, fate))| {
            let event_id = lenient_id(&text, room).unwrap_or_else(|| made_up(number));
            Bad { name, text, event_id, fate }
        })
        .collect()
}

/// The id that a server would work out that is not too particular.
fn lenient_id(text: &str, room: &Room) -> Option<OwnedEventId> {
    if let Ok((pdu, _)) = read_pdu(text, &room.rules) {
        return Some(pdu.event_id);
    }
    let object = serde_json::from_str(text).ok()?;
    let hash = ruma::signatures::reference_hash(&object, &room.rules).ok()?;
    format!("${hash}").try_into().ok()
}

/// A body with the event as it stands, in each list that an endpoint may have.
fn body_with(bad: &str, others: &[Value]) -> Response {
    let others: Vec<String> = others.iter().map(Value::to_string).collect();
    let list = format!("[{}]", [&[bad.to_owned()], &others[..]].concat().join(","));
    let body = format!(
        r#"{{"origin":"remote","origin_server_ts":1,"events":{list},"pdus":{list},"state":{list},"auth_chain":{list}}}"#
    );
    http::Response::builder().status(200).body(body.into()).unwrap()
}

async fn expect_fate(stage: &Stage, alice: &engine::Requester, room: &Room, bad: &Bad, way: &str) {
    let why = format!("{} by {way}", bad.name);
    let verdict = stage.verdict(&bad.event_id).await;
    match bad.fate {
        Fate::Dropped => assert_eq!(verdict, Verdict::Unknown, "{why}"),
        Fate::Rejected => assert!([Verdict::Unknown, Verdict::Rejected].contains(&verdict), "{why}: {verdict:?}"),
        Fate::Redacted => {
            if verdict != Verdict::Unknown {
                assert!(!stage.stored(&bad.event_id).await.to_string().contains(MARK), "{why}");
            }
        }
        Fate::Kept => return assert!([Verdict::Accepted, Verdict::Outlier].contains(&verdict), "{why}: {verdict:?}"),
    }
    let topic = stage.current(&room.id, "m.room.topic", "").await;
    assert!(
        topic.is_none() || (bad.fate == Fate::Redacted && topic.as_ref() == Some(&bad.event_id)),
        "{why}: {topic:?}"
    );
    assert!(!stage.sync(alice).await.to_string().contains(MARK), "{why}");
}

#[tokio::test]
async fn s_006_by_transaction() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    for bad in bad_events(&stage, &room) {
        stage.receive_raw(&[fake_homeserver::raw(bad.text.clone())]).await;
        expect_fate(&stage, &alice, &room, &bad, "transaction").await;
        if bad.fate == Fate::Redacted {
            assert_eq!(stage.verdict(&bad.event_id).await, Verdict::Accepted);
            break;
        }
    }
    // The redacted one is state now, so what comes after it gets a room of its own.
    let room = stage.joined_room(&alice).await;
    for bad in bad_events(&stage, &room).into_iter().filter(|bad| bad.fate != Fate::Redacted) {
        stage.receive_raw(&[fake_homeserver::raw(bad.text.clone())]).await;
        expect_fate(&stage, &alice, &room, &bad, "transaction").await;
    }
}

/// A message that names the bad event as what came before it.
fn tip_after(stage: &Stage, room: &Room, bad: &Bad) -> Pdu {
    let content = json!({"msgtype": "m.text", "body": "tip"});
    let mut draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.message", None, content);
    draft.prev_events = vec![bad.event_id.clone()];
    draft.depth += 1;
    stage.remote.build(draft, &room.rules)
}

#[tokio::test]
async fn s_006_by_get_missing_events() {
    let count = {
        let stage = Stage::new().await;
        let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
        bad_events(&stage, &room).len()
    };
    for index in 0..count {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room = stage.joined_room(&alice).await;
        let bad = bad_events(&stage, &room).swap_remove(index);
        let tip = tip_after(&stage, &room, &bad);
        let text = bad.text.clone();
        stage.remote.on("/_matrix/federation/v1/get_missing_events", move |_| body_with(&text, &[]));
        for path in ["/_matrix/federation/v1/event", "/_matrix/federation/v1/state", "/_matrix/federation/v1/backfill"]
        {
            stage.remote.on(path, |_| fake_homeserver::json(404, &json!({"errcode": "M_NOT_FOUND"})));
        }
        tokio::time::timeout(PATIENCE, stage.receive(&[&tip])).await.expect("it ends");
        assert!(!stage.network.recorded_to(stage.remote.name(), "get_missing_events").is_empty());
        expect_fate(&stage, &alice, &room, &bad, "get_missing_events").await;
    }
}

#[tokio::test]
async fn s_006_by_event_and_state() {
    let count = {
        let stage = Stage::new().await;
        let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
        bad_events(&stage, &room).len()
    };
    for index in 0..count {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room = stage.joined_room(&alice).await;
        let bad = bad_events(&stage, &room).swap_remove(index);
        // The state before the tip's parent has the bad event in it, and the parent itself is nowhere to be had.
        let gap = good_message(&stage, &room);
        let mut draft = room.draft(
            &stage.remote,
            &stage.remote.user("rita"),
            "m.room.message",
            None,
            json!({"msgtype": "m.text", "body": "tip"}),
        );
        draft.prev_events = vec![gap.event_id.clone()];
        draft.depth += 1;
        let tip = stage.remote.build(draft, &room.rules);
        let mut state = room.state();
        state.insert((StateEventType::RoomTopic, String::new()), bad.event_id.clone());
        room.keep(gap, state.clone());
        room.keep(tip.clone(), state.clone());
        let honest: Vec<Value> =
            room.events(room.state().values()).iter().map(|pdu| serde_json::from_str(&pdu.json).unwrap()).collect();
        let (text, ids) = (bad.text.clone(), state.into_values().collect::<Vec<_>>());
        let bad_path = bad.event_id.as_str().trim_start_matches('$').to_owned();
        stage.remote.on_request(move |request| {
            let path = request.uri().path();
            if path.contains("get_missing_events") {
                return Some(fake_homeserver::json(404, &json!({"errcode": "M_UNRECOGNIZED"})));
            }
            if path.contains("/state_ids/") {
                return Some(fake_homeserver::json(200, &json!({"pdu_ids": ids, "auth_chain_ids": []})));
            }
            let whole = path.contains("/state/") || path.contains("/event_auth/");
            whole
                .then(|| body_with(&text, &honest))
                .or_else(|| path.ends_with(&bad_path).then(|| body_with(&text, &[])))
        });
        tokio::time::timeout(PATIENCE, stage.receive(&[&tip])).await.expect("it ends");
        expect_fate(&stage, &alice, &room, &bad, "event and state").await;
    }
}

fn good_message(stage: &Stage, room: &Room) -> Pdu {
    let content = json!({"msgtype": "m.text", "body": "gap"});
    let draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.message", None, content);
    stage.remote.build(draft, &room.rules)
}

#[tokio::test]
async fn s_006_by_the_answer_to_send_join() {
    let count = {
        let stage = Stage::new().await;
        let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
        bad_events(&stage, &room).len()
    };
    for index in 0..count {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
        let bad = bad_events(&stage, &room).swap_remove(index);
        let honest: Vec<Value> =
            room.events(room.state().values()).iter().map(|pdu| serde_json::from_str(&pdu.json).unwrap()).collect();
        let text = bad.text.clone();
        stage.remote.on("/_matrix/federation/v2/send_join", move |_| body_with(&text, &honest));
        // To refuse the room is as good as to leave the event out.
        let _ = tokio::time::timeout(PATIENCE, stage.join(&alice, &room.id)).await.expect("it ends");
        expect_fate(&stage, &alice, &room, &bad, "send_join").await;
    }
}

#[tokio::test]
async fn s_006_by_backfill() {
    let count = {
        let stage = Stage::new().await;
        let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
        bad_events(&stage, &room).len()
    };
    for index in 0..count {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let rita = stage.remote.user("rita");
        let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
        let bad = bad_events(&stage, &room).swap_remove(index);
        // The message after it is the last one before the join.
        let tip = tip_after(&stage, &room, &bad);
        room.accept(tip.clone());
        stage.join(&alice, &room.id).await.unwrap();
        let honest = vec![serde_json::from_str(&tip.json).unwrap()];
        let text = bad.text.clone();
        stage.remote.on("/_matrix/federation/v1/backfill", move |_| body_with(&text, &honest));
        let query = engine::MessagesQuery {
            room_id: room.id.clone(),
            from: None,
            to: None,
            forward: false,
            limit: 50,
            filter: RoomEventFilter::default(),
        };
        let page =
            tokio::time::timeout(PATIENCE, stage.engine.messages(&alice, query)).await.expect("it ends").unwrap();
        assert!(!stage.network.recorded_to(stage.remote.name(), "backfill").is_empty());
        let shown = page.chunk.iter().any(|event| event.get().contains(MARK));
        assert_eq!(shown, bad.fate == Fate::Kept, "{} by backfill", bad.name);
        expect_fate(&stage, &alice, &room, &bad, "backfill").await;
    }
}
