//! Transactions.

use std::time::{Duration, Instant};

use fake_homeserver::{RoomSettings, body_of, object_of, raw, text_of};
use http::{Method, header};
use ruma::{CanonicalJsonValue, user_id};
use serde_json::{Value, json};
use storage::{Direction, TimelineRange};

use crate::stage::{PATIENCE, Stage, Verdict, errcode};

/// What an event looks like after somebody has meddled with its signatures.
fn with_signatures(pdu: &rules::Pdu, signatures: &Value) -> Box<serde_json::value::RawValue> {
    let mut object = object_of(pdu);
    object.insert("signatures".to_owned(), serde_json::from_value::<CanonicalJsonValue>(signatures.clone()).unwrap());
    raw(text_of(&object))
}

#[tokio::test]
async fn s_005_a_wrong_signature_spoils_only_its_own_event() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let other = stage.network.add_fake("other");
    let draft = |body: &str| {
        let content = json!({"msgtype": "m.text", "body": body});
        stage.remote.build(room.draft(&stage.remote, &rita, "m.room.message", None, content), &room.rules)
    };
    let another = object_of(&draft("another"));
    let another: Value = serde_json::to_value(&another["signatures"]).unwrap();
    let right = |pdu: &rules::Pdu| {
        let value: Value = serde_json::from_str(&pdu.json).unwrap();
        value["signatures"]["remote"]["ed25519:fake"].as_str().unwrap().to_owned()
    };
    type Meddle<'a> = &'a dyn Fn(&rules::Pdu) -> Value;
    let cases: [(&str, Meddle<'_>); 11] = [
        ("none", &|_| json!({})),
        ("null", &|_| json!(null)),
        ("no keys", &|_| json!({"remote": {}})),
        ("another event's", &|_| another.clone()),
        ("truncated", &|pdu| json!({"remote": {"ed25519:fake": right(pdu)[..40]}})),
        ("too long", &|pdu| json!({"remote": {"ed25519:fake": format!("{}AAAA", right(pdu))}})),
        ("zero", &|_| json!({"remote": {"ed25519:fake": "A".repeat(86)}})),
        ("unknown algorithm", &|pdu| json!({"remote": {"rsa:fake": right(pdu)}})),
        ("unknown key", &|pdu| json!({"remote": {"ed25519:other": right(pdu)}})),
        ("under another name", &|pdu| json!({"other": {"ed25519:fake": right(pdu)}})),
        ("the carrier's only", &|pdu| {
            let mut object = object_of(pdu);
            object.remove("signatures");
            other.countersign(&mut object, &room.rules);
            serde_json::to_value(&object["signatures"]).unwrap()
        }),
    ];
    for (name, signatures) in cases {
        let (before, spoilt, after) = (draft("before"), draft(name), draft("after"));
        let transaction = [before.to_raw_json(), with_signatures(&spoilt, &signatures(&spoilt)), after.to_raw_json()];
        let outcome = stage.receive_raw(&transaction).await;
        assert_eq!(outcome[before.event_id.as_str()], json!({}), "{name}: {outcome}");
        assert_eq!(outcome[after.event_id.as_str()], json!({}), "{name}: {outcome}");
        assert!(outcome[spoilt.event_id.as_str()]["error"].is_string(), "{name}: {outcome}");
        assert_eq!(stage.verdict(&spoilt.event_id).await, Verdict::Unknown, "{name}");
        assert!(stage.sees(&alice, &room.id, &before.event_id).await);
        assert!(stage.sees(&alice, &room.id, &after.event_id).await);
    }
}

#[tokio::test]
async fn s_014_a_peer_cannot_speak_for_our_users() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let draft = room.draft(
        &stage.remote,
        &stage.remote.user("rita"),
        "m.room.message",
        None,
        json!({"body": "x", "msgtype": "m.text"}),
    );
    let mut object = object_of(&stage.remote.build(draft, &room.rules));
    object.insert("sender".to_owned(), alice.user_id.as_str().into());
    let forged = stage.remote.seal(object, &room.rules);
    let (forged_pdu, _) = rules::event::read_pdu(&text_of(&forged), &room.rules).unwrap();
    let head = stage.log_head();
    let outcome = stage.receive_raw(&[raw(text_of(&forged))]).await;
    assert!(outcome[forged_pdu.event_id.as_str()]["error"].is_string(), "{outcome}");
    assert_eq!(stage.verdict(&forged_pdu.event_id).await, Verdict::Unknown);
    assert_eq!(stage.log_head(), head);
    // The same with a signature under our name, by another key.
    let mut object = forged;
    let signatures = serde_json::to_value(&object["signatures"]).unwrap()["remote"].clone();
    let signatures = json!({"remote": signatures, "test": {"ed25519:test": signatures["ed25519:fake"], "ed25519:fake": signatures["ed25519:fake"]}});
    object.insert("signatures".to_owned(), serde_json::from_value(signatures).unwrap());
    stage.receive_raw(&[raw(text_of(&object))]).await;
    assert_eq!(stage.verdict(&forged_pdu.event_id).await, Verdict::Unknown);
    assert_eq!(stage.log_head(), head);
    // Our own event, carried back to us, changes nothing.
    let event_id = stage.send(&alice, &room.id, "mine").await;
    let own = stage.stored(&event_id).await;
    let head = stage.log_head();
    let outcome = stage.receive_raw(&[raw(own.to_string())]).await;
    assert_eq!(outcome[event_id.as_str()], json!({}));
    assert_eq!(stage.log_head(), head);
}

#[tokio::test]
async fn s_047_what_a_peer_says_beside_the_event_is_dropped() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let message = room.send_message(&stage.remote, &stage.remote.user("rita"), "hello");
    let mut object = object_of(&message);
    let unsigned = json!({
        "age": -77_777,
        "redacted_because": {"type": "m.room.redaction", "content": {"reason": "poison"}},
        "transaction_id": "poison",
        "m.relations": {"m.thread": {"poison": 1}},
        "membership": "poison",
        "prev_content": {"poison": 1},
        "prev_sender": "@poison:remote",
        "invite_room_state": ["poison"],
    });
    object.insert("unsigned".to_owned(), serde_json::from_value(unsigned).unwrap());
    object.insert("event_id".to_owned(), "$poison".into());
    let outcome = stage.receive_raw(&[raw(text_of(&object))]).await;
    assert_eq!(outcome[message.event_id.as_str()], json!({}), "{outcome}");
    let event = stage.engine.event(&alice, &room.id, &message.event_id).await.unwrap();
    assert!(event.get().contains("hello"));
    assert!(!event.get().contains("poison") && !event.get().contains("77777"), "{}", event.get());
    assert!(!stage.stored(&message.event_id).await.to_string().contains("poison"));
    assert!(!stage.sync(&alice).await.to_string().contains("poison"));
}

#[tokio::test]
async fn s_048_the_largest_honest_transaction_passes() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let messages: Vec<_> = (0..50).map(|_| room.send_message(&stage.remote, &rita, &"x".repeat(64_000))).collect();
    let pdus: Vec<_> = messages.iter().map(|pdu| pdu.to_raw_json()).collect();
    let edu = json!({"edu_type": "org.example.big", "content": {"x": "x".repeat(8_000)}});
    let response = stage.remote.send_transaction(&stage.name, &pdus, &vec![edu; 100]).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    assert_eq!(body_of(&response)["pdus"].as_object().unwrap().len(), 50);
    assert!(stage.sees(&alice, &room.id, &messages[49].event_id).await);
}

#[tokio::test]
async fn s_048_a_transaction_of_more_than_13_mib_is_413() {
    let stage = Stage::new().await;
    let edu = json!({"edu_type": "org.example.big", "content": {"x": "x".repeat(14 * 1024 * 1024)}});
    let response = stage.remote.send_transaction(&stage.name, &[], std::slice::from_ref(&edu)).await;
    assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (413, "M_TOO_LARGE"));
    // Where the length is announced, nothing needs to be read for that.
    let mut request = stage
        .remote
        .prepare(&stage.name, Method::PUT, "/_matrix/federation/v1/send/1", Some(&json!({})))
        .into_request(&stage.remote.key());
    request.headers_mut().insert(header::CONTENT_LENGTH, "13631489".parse().unwrap());
    assert_eq!(stage.network.deliver(&stage.name, request).await.unwrap().status(), 413);
    // Other requests have no reason to be that large.
    let body = json!({"earliest_events": [], "latest_events": [], "x": "x".repeat(1024 * 1024)});
    let target = "/_matrix/federation/v1/get_missing_events/!r:remote";
    assert_eq!(stage.remote.ask(&stage.name, Method::POST, target, Some(&body)).await.status(), 413);
}

#[tokio::test]
async fn s_048_compressed_bodies_are_refused() {
    let stage = Stage::new().await;
    for (encoding, status) in [("gzip", 415), ("deflate", 415), ("br, gzip", 415), ("identity", 200)] {
        let body = json!({"pdus": []});
        let prepared = stage.remote.prepare(&stage.name, Method::PUT, "/_matrix/federation/v1/send/1", Some(&body));
        let mut request = prepared.into_request(&stage.remote.key());
        request.headers_mut().insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        let response = stage.network.deliver(&stage.name, request).await.unwrap();
        assert_eq!(response.status(), status, "{encoding}");
    }
}

#[tokio::test]
async fn s_049_too_many_pdus_or_edus_are_400_and_none_is_processed() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let message = room.send_message(&stage.remote, &rita, "hello");
    let typing = json!({"edu_type": "m.typing", "content": {"room_id": room.id, "user_id": rita, "typing": true}});
    let head = stage.log_head();
    let response = stage
        .remote
        .send_transaction(&stage.name, &vec![message.to_raw_json(); 51], std::slice::from_ref(&typing))
        .await;
    assert_eq!(response.status(), 400);
    let response = stage.remote.send_transaction(&stage.name, &[message.to_raw_json()], &vec![typing; 101]).await;
    assert_eq!(response.status(), 400);
    assert_eq!(stage.log_head(), head);
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Unknown);
    assert!(!stage.sync(&alice).await.to_string().contains("m.typing"));
}

#[tokio::test]
async fn bodies_that_are_no_transaction_are_400() {
    let stage = Stage::new().await;
    let bodies = ["[]", "null", "1", r#"{"pdus":{}}"#, r#"{"pdus":[],"pdus":[]}"#, r#"{"pdus":1}"#, r#"{"edus":1}"#];
    for body in bodies {
        let mut prepared = stage.remote.prepare(&stage.name, Method::PUT, "/_matrix/federation/v1/send/1", None);
        prepared.body = Some(body.to_owned());
        let response = stage.remote.send(prepared).await;
        assert_eq!(response.status(), 400, "{body}: {:?}", response.body());
    }
}

#[tokio::test]
async fn s_100_a_body_that_is_not_json_is_400() {
    let stage = Stage::new().await;
    for body in ["", "{", "{} x", "\u{feff}{}", "{'a':1}", &"[".repeat(100_000)] {
        let prepared = stage.remote.prepare(&stage.name, Method::PUT, "/_matrix/federation/v1/send/1", None);
        let mut request = prepared.into_request(&stage.remote.key());
        *request.body_mut() = body.to_owned().into();
        let response = stage.network.deliver(&stage.name, request).await.unwrap();
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (400, "M_NOT_JSON"), "{body:.20}");
    }
}

#[tokio::test]
async fn s_060_the_same_transaction_again_is_answered_and_not_processed() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let (first, second) = (room.send_message(&stage.remote, &rita, "1"), room.send_message(&stage.remote, &rita, "2"));
    let once = stage.remote.send_transaction_as(&stage.name, "same", &[first.to_raw_json()], &[]).await;
    let head = stage.log_head();
    // With another body even: the id decides.
    let again = stage.remote.send_transaction_as(&stage.name, "same", &[second.to_raw_json()], &[]).await;
    assert_eq!(body_of(&again), body_of(&once));
    assert_eq!(stage.log_head(), head);
    assert_eq!(stage.verdict(&second.event_id).await, Verdict::Unknown);
    // The id is the origin's own: that of another server is another transaction.
    let other = stage.network.add_fake("other");
    let response = other.send_transaction_as(&stage.name, "same", &[second.to_raw_json()], &[]).await;
    assert_eq!(body_of(&response)["pdus"][second.event_id.as_str()], json!({}));
    assert_eq!(stage.verdict(&second.event_id).await, Verdict::Accepted);
}

#[tokio::test]
async fn s_060_twenty_copies_at_once_are_processed_once() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let message = room.send_message(&stage.remote, &stage.remote.user("rita"), "once");
    let head = stage.log_head();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (remote, name, pdu) = (stage.remote.clone(), stage.name.clone(), message.to_raw_json());
            tokio::spawn(async move { body_of(&remote.send_transaction_as(&name, "copy", &[pdu], &[]).await) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), json!({"pdus": {message.event_id.as_str(): {}}}));
    }
    assert_eq!(stage.log_head(), head + 1);
    let sync = stage.sync(&alice).await;
    assert_eq!(sync.to_string().matches(message.event_id.as_str()).count(), 1);
}

#[tokio::test]
async fn s_061_a_room_that_waits_for_a_dead_server_does_not_hold_up_the_others() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let (blocked, free) = (stage.joined_room(&alice).await, stage.joined_room(&alice).await);
    blocked.send_message(&stage.remote, &rita, "withheld");
    let late = blocked.send_message(&stage.remote, &rita, "late");
    let prompt = free.send_message(&stage.remote, &rita, "prompt");
    stage.network.silence(stage.remote.name());
    let typing = json!({"edu_type": "m.typing", "content": {"room_id": free.id, "user_id": rita, "typing": true}});
    let sending = {
        let (remote, name) = (stage.remote.clone(), stage.name.clone());
        let pdus = [late.to_raw_json(), prompt.to_raw_json()];
        tokio::spawn(async move { remote.send_transaction(&name, &pdus, &[typing]).await })
    };
    let start = Instant::now();
    loop {
        let seen = stage.sees(&alice, &free.id, &prompt.event_id).await;
        if seen && stage.sync(&alice).await.to_string().contains("m.typing") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(8), "the other room, or the typing user, has to wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sending.abort();
}

#[tokio::test]
async fn a_transaction_is_done_even_when_the_sender_hangs_up() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    room.send_message(&stage.remote, &rita, "withheld");
    let late = room.send_message(&stage.remote, &rita, "late");
    stage.network.silence(stage.remote.name());
    let sending = {
        let (remote, name, pdu) = (stage.remote.clone(), stage.name.clone(), late.to_raw_json());
        tokio::spawn(async move { remote.send_transaction_as(&name, "slow", &[pdu], &[]).await })
    };
    let start = Instant::now();
    while stage.network.recorded_to(stage.remote.name(), "get_missing_events").is_empty() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sending.abort();
    let _ = sending.await;
    stage.network.mend(stage.remote.name());
    while !stage.sees(&alice, &room.id, &late.event_id).await {
        assert!(start.elapsed() < PATIENCE, "given up with the sender");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = stage.remote.send_transaction_as(&stage.name, "slow", &[], &[]).await;
    assert_eq!(body_of(&again)["pdus"][late.event_id.as_str()], json!({}));
}

#[tokio::test]
async fn a_transaction_answers_in_time_when_nothing_can_be_fetched() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    room.send_message(&stage.remote, &rita, "withheld");
    let late = room.send_message(&stage.remote, &rita, "late");
    stage.network.cut(stage.remote.name());
    let outcome = tokio::time::timeout(PATIENCE, stage.receive(&[&late])).await.expect("it gives up");
    assert!(outcome.is_object());
    assert!(!stage.sees(&alice, &room.id, &late.event_id).await);
}

#[tokio::test]
async fn an_event_of_a_room_that_we_are_not_in_is_ignored() {
    let stage = Stage::new().await;
    let rita = stage.remote.user("rita");
    let room = fake_homeserver::Room::create(&stage.remote, &rita, &RoomSettings::default());
    let message = room.send_message(&stage.remote, &rita, "hello");
    let head = stage.log_head();
    stage.receive(&[&message]).await;
    assert_eq!(stage.log_head(), head);
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Unknown);
    let nobody = user_id!("@nobody:test");
    assert_eq!(stage.membership(&room.id, nobody).await, None);
}

#[tokio::test]
async fn r_22_duplicated_reordered_and_replayed_transactions_end_the_same() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let pdus: Vec<_> = (0..30)
        .map(|number| match number % 3 {
            0 => room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": number.to_string()})),
            1 => room.send_message(&stage.remote, &rita, &number.to_string()),
            _ => {
                let content = json!({"membership": "join", "displayname": number.to_string()});
                room.send_state(&stage.remote, &rita, "m.room.member", rita.as_str(), content)
            }
        })
        .collect();
    let transactions: Vec<Vec<_>> =
        pdus.chunks(5).map(|some| some.iter().map(|pdu| pdu.to_raw_json()).collect()).collect();
    // The last one first, each twice; then all of them as if they were new.
    for (number, transaction) in transactions.iter().enumerate().rev() {
        for _ in 0..2 {
            stage.remote.send_transaction_as(&stage.name, &format!("late{number}"), transaction, &[]).await;
        }
    }
    for (number, transaction) in transactions.iter().enumerate() {
        stage.remote.send_transaction_as(&stage.name, &format!("again{number}"), transaction, &[]).await;
    }
    for ((event_type, state_key), event_id) in room.state() {
        let current = stage.current(&room.id, &event_type.to_string(), &state_key).await;
        assert_eq!(current, Some(event_id), "{event_type} {state_key}");
    }
    let range = TimelineRange { after: None, until: None, direction: Direction::Forward, limit: 1_000 };
    let timeline = stage.engine.storage().timeline(&room.id, range).await.unwrap();
    for pdu in &pdus {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted, "{}", pdu.json);
        assert_eq!(timeline.iter().filter(|event| event.pdu.event_id == pdu.event_id).count(), 1, "{}", pdu.json);
    }
    let record = stage.engine.storage().room(&room.id).await.unwrap().unwrap();
    assert_eq!(record.forward_extremities.len(), 1);
}
