//! Events whose JSON is not what it should be.

use fake_homeserver::{Room, object_of, raw, text_of};
use rules::{Pdu, event::read_pdu};
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use crate::stage::{Stage, Verdict};

/// A message that rita would send next.
fn message(stage: &Stage, room: &Room, body: &str) -> Pdu {
    let content = json!({"msgtype": "m.text", "body": body, "n": 7});
    let draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.message", None, content);
    stage.remote.build(draft, &room.rules)
}

/// The same with a field of another value, hashed and signed as if that were right.
fn with_field(stage: &Stage, room: &Room, pdu: &Pdu, field: &str, value: Value) -> CanonicalJsonObject {
    let mut object = object_of(pdu);
    object.insert(field.to_owned(), serde_json::from_value(value).unwrap());
    stage.remote.seal(object, &room.rules)
}

/// Sends text as a PDU beside an honest one, and expects that only the honest one leaves a trace.
async fn expect_dropped(stage: &Stage, room: &Room, text: String, why: &str) {
    let honest = message(stage, room, "honest");
    let head = stage.log_head();
    let response = stage.remote.send_transaction(&stage.name, &[raw(text), honest.to_raw_json()], &[]).await;
    assert_eq!(response.status(), 200, "{why}: {:?}", response.body());
    assert_eq!(stage.verdict(&honest.event_id).await, Verdict::Accepted, "{why}");
    assert_eq!(stage.log_head(), head + 1, "{why}: something was taken besides");
}

#[tokio::test]
async fn s_007_content_that_does_not_match_its_hash_is_kept_only_redacted() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let pdu = message(&stage, &room, "the hash is of this");
    let mut object = object_of(&pdu);
    object
        .insert("content".to_owned(), serde_json::from_value(json!({"body": "poison", "msgtype": "m.text"})).unwrap());
    stage.receive_raw(&[raw(text_of(&object))]).await;
    assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted);
    assert_eq!(stage.stored(&pdu.event_id).await["content"], json!({}));
    assert!(!stage.sync(&alice).await.to_string().contains("poison"));
    let seen = stage.engine.event(&alice, &room.id, &pdu.event_id).await.unwrap();
    assert!(!seen.get().contains("poison"));
    // The whole event, which comes later, is the same event: what is kept is kept.
    stage.receive(&[&pdu]).await;
    assert!(!stage.stored(&pdu.event_id).await.to_string().contains("poison"));
}

#[tokio::test]
async fn s_008_the_id_of_an_event_is_worked_out() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let (first, second) = (message(&stage, &room, "first"), message(&stage, &room, "second"));
    stage.receive(&[&first]).await;
    let mut object = object_of(&second);
    object.insert("event_id".to_owned(), first.event_id.as_str().into());
    let outcome = stage.receive_raw(&[raw(text_of(&object))]).await;
    assert_eq!(outcome[second.event_id.as_str()], json!({}), "{outcome}");
    assert_eq!(stage.stored(&first.event_id).await["content"]["body"], "first");
    assert_eq!(stage.stored(&second.event_id).await["content"]["body"], "second");
}

#[tokio::test]
async fn s_040_depth_is_an_integer_from_0_to_the_greatest() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    for depth in [json!(-1), json!("5"), json!(null), json!(true), json!([1])] {
        let object = with_field(&stage, &room, &message(&stage, &room, "x"), "depth", depth.clone());
        expect_dropped(&stage, &room, text_of(&object), &format!("depth {depth}")).await;
    }
    let pdu = message(&stage, &room, "x");
    for depth in ["9007199254740992", "9223372036854775807", "9223372036854775808", "1.0", "1e3", "-0"] {
        let text = text_of(&with_field(&stage, &room, &pdu, "depth", json!(777)));
        let text = text.replace("\"depth\":777", &format!("\"depth\":{depth}"));
        expect_dropped(&stage, &room, text, &format!("depth {depth}")).await;
    }
    let mut object = object_of(&message(&stage, &room, "x"));
    object.remove("depth");
    expect_dropped(&stage, &room, text_of(&stage.remote.seal(object, &room.rules)), "no depth").await;
}

#[tokio::test]
async fn s_040_after_the_greatest_depth_comes_the_same_again() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    for depth in [0_u64, (1 << 53) - 1] {
        let object = with_field(&stage, &room, &message(&stage, &room, "x"), "depth", json!(depth));
        let (pdu, _) = read_pdu(&text_of(&object), &room.rules).unwrap();
        let outcome = stage.receive(&[&pdu]).await;
        assert_eq!(outcome[pdu.event_id.as_str()], json!({}), "{outcome}");
        room.accept(pdu);
    }
    let own = stage.send(&alice, &room.id, "deep").await;
    assert_eq!(stage.stored(&own).await["depth"], json!((1_u64 << 53) - 1));
    stage.flush(stage.remote.name()).await;
    let sent = stage.remote.received_pdus();
    assert!(sent.iter().any(|pdu| pdu["content"]["body"] == "deep"), "{sent:?}");
}

#[tokio::test]
async fn s_041_numbers_that_canonical_json_does_not_have_are_refused_everywhere() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let pdu = message(&stage, &room, "x");
    for number in ["1.5", "1.0", "1e3", "-0", "-0.0", "9007199254740992", "-9007199254740992", "NaN", "Infinity"] {
        let text = pdu.json.replace("\"n\":7", &format!("\"n\":{number}"));
        assert_ne!(text, *pdu.json);
        if serde_json::from_str::<&serde_json::value::RawValue>(&text).is_err() {
            continue;
        }
        expect_dropped(&stage, &room, text, &format!("content with {number}")).await;
        let text = pdu.json.replace("\"n\":7", "\"n\":[{\"x\":[7]}]").replace("[7]", &format!("[{number}]"));
        expect_dropped(&stage, &room, text, &format!("nested {number}")).await;
    }
    let text = pdu.json.replace("\"origin_server_ts\":", "\"origin_server_ts\":0.1,\"x\":");
    expect_dropped(&stage, &room, text, "time with a fraction").await;
}

#[tokio::test]
async fn s_041_a_number_in_one_edu_does_not_spoil_the_transaction() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let honest = message(&stage, &room, "honest");
    let edu = json!({"edu_type": "org.example.float", "content": {"x": 1.5, "y": 1e300}});
    let response = stage.remote.send_transaction(&stage.name, &[honest.to_raw_json()], &[edu]).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    assert_eq!(stage.verdict(&honest.event_id).await, Verdict::Accepted);
}

#[tokio::test]
async fn s_042_an_event_with_a_key_twice_is_dropped() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let pdu = message(&stage, &room, "x");
    let twice = [
        // What the parser keeps is signed; what a careless one forwards is not.
        pdu.json.replacen('{', "{\"content\":{\"body\":\"poison\"},", 1),
        pdu.json.replacen('{', "{\"sender\":\"@alice:test\",", 1),
        pdu.json.replace("\"content\":{", "\"content\":{\"body\":\"poison\","),
        pdu.json.replace("\"hashes\":{", "\"hashes\":{\"sha256\":\"poison\","),
        pdu.json.replace("\"n\":7", "\"n\":7,\"deep\":[{\"a\":1,\"a\":1}]"),
    ];
    for text in twice {
        assert_ne!(text, *pdu.json);
        expect_dropped(&stage, &room, text.clone(), &text).await;
    }
    assert!(!stage.sync(&alice).await.to_string().contains("poison"));
}

#[tokio::test]
async fn s_043_deep_nesting_is_dropped() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let pdu = message(&stage, &room, "x");
    let nested =
        |depth: usize| pdu.json.replace("\"n\":7", &format!("\"n\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let response = stage.remote.send_transaction(&stage.name, &[pdu.to_raw_json()], &[]).await;
    assert_eq!(response.status(), 200);
    for depth in [200, 100_000] {
        let prepared = {
            let mut prepared =
                stage.remote.prepare(&stage.name, http::Method::PUT, "/_matrix/federation/v1/send/deep", None);
            prepared.body = Some("{}".to_owned());
            prepared
        };
        // Nobody can sign this with a parser that stops; it is refused before the signature is of any interest.
        let mut request = prepared.into_request(&stage.remote.key());
        *request.body_mut() = format!(r#"{{"pdus":[{}]}}"#, nested(depth)).into();
        let status = stage.network.deliver(&stage.name, request).await.unwrap().status().as_u16();
        assert!([400, 401].contains(&status), "{depth}: {status}");
    }
}

#[tokio::test]
async fn s_046_fields_of_the_wrong_type_drop_the_event() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let pdu = message(&stage, &room, "x");
    let prev = pdu.prev_events[0].as_str();
    let fields = [
        ("prev_events", json!([[prev, {"sha256": "x"}]])),
        ("prev_events", json!(null)),
        ("prev_events", json!({})),
        ("prev_events", json!([1])),
        ("prev_events", json!(prev)),
        ("auth_events", json!(null)),
        ("auth_events", json!([[prev, {"sha256": "x"}]])),
        ("auth_events", json!([null])),
        ("content", json!(null)),
        ("content", json!([])),
        ("content", json!("x")),
        ("hashes", json!(null)),
        ("hashes", json!([])),
        ("hashes", json!({"sha256": 1})),
        ("signatures", json!([])),
        ("signatures", json!({"remote": []})),
        ("signatures", json!({"remote": {"ed25519:fake": 1}})),
        ("sender", json!(1)),
        ("sender", json!("rita")),
        ("sender", json!(format!("@{}:remote", "x".repeat(256)))),
        ("type", json!(1)),
        ("type", json!("x".repeat(256))),
        ("state_key", json!(1)),
        ("state_key", json!("x".repeat(256))),
        ("room_id", json!(1)),
        ("room_id", json!("x")),
        ("origin_server_ts", json!("1")),
        ("origin_server_ts", json!(-1)),
    ];
    for (field, value) in fields {
        let mut object = object_of(&pdu);
        object.insert(field.to_owned(), serde_json::from_value(value.clone()).unwrap());
        // Where it can still be signed it is, so that the signature is not what is wrong with it.
        let sealable = !["hashes", "signatures", "content"].contains(&field);
        let object = if sealable { stage.remote.seal(object, &room.rules) } else { object };
        expect_dropped(&stage, &room, text_of(&object), &format!("{field}: {value}")).await;
    }
    for text in ["null", "1", "[]", "\"x\"", "{}"] {
        expect_dropped(&stage, &room, text.to_owned(), text).await;
    }
    for field in ["prev_events", "auth_events", "sender", "type", "room_id", "origin_server_ts", "content"] {
        let mut object = object_of(&pdu);
        object.remove(field);
        expect_dropped(&stage, &room, text_of(&object), &format!("no {field}")).await;
    }
}

#[tokio::test]
async fn s_046_an_unsigned_of_the_wrong_type_is_just_dropped() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    for unsigned in [json!(null), json!([]), json!("x"), json!(1)] {
        let pdu = message(&stage, &room, &unsigned.to_string());
        let mut object = object_of(&pdu);
        object.insert("unsigned".to_owned(), serde_json::from_value(unsigned.clone()).unwrap());
        let outcome = stage.receive_raw(&[raw(text_of(&object))]).await;
        assert_eq!(outcome[pdu.event_id.as_str()], json!({}), "{unsigned}: {outcome}");
        assert!(stage.sees(&alice, &room.id, &pdu.event_id).await);
    }
}

#[tokio::test]
async fn s_052_times_at_both_ends_overflow_nothing() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    for ts in [json!(-1), json!("5"), json!(null)] {
        let object = with_field(&stage, &room, &message(&stage, &room, "x"), "origin_server_ts", ts.clone());
        expect_dropped(&stage, &room, text_of(&object), &format!("time {ts}")).await;
    }
    let mut taken = Vec::new();
    for ts in [0_u64, 1, (1 << 53) - 1] {
        let pdu = message(&stage, &room, &format!("at {ts}"));
        let object = with_field(&stage, &room, &pdu, "origin_server_ts", json!(ts));
        let (pdu, _) = read_pdu(&text_of(&object), &room.rules).unwrap();
        stage.receive(&[&pdu]).await;
        // The key was not valid that far ahead; before it was made, nobody knows.
        if stage.verdict(&pdu.event_id).await == Verdict::Accepted {
            taken.push(room.accept(pdu));
        }
    }
    assert!(!taken.is_empty());
    let own = stage.send(&alice, &room.id, "after all of them").await;
    // The order is that of arrival, whatever the events say.
    let synced = stage.sync(&alice).await;
    let timeline = synced["rooms"]["join"][room.id.as_str()]["timeline"]["events"].as_array().unwrap();
    let seen: Vec<&str> = timeline.iter().filter_map(|event| event["event_id"].as_str()).collect();
    let expected: Vec<&str> = taken.iter().map(|pdu| pdu.event_id.as_str()).chain([own.as_str()]).collect();
    assert!(seen.ends_with(&expected), "{seen:?}");
    for ts in [0, 1, (1_u64 << 53) - 1] {
        for direction in ["f", "b"] {
            let target = format!(
                "/_matrix/federation/v1/timestamp_to_event/{}?ts={ts}&dir={direction}",
                crate::stage::encode(room.id.as_str())
            );
            let status = stage.remote.get(&stage.name, &target).await.status().as_u16();
            assert!([200, 404].contains(&status), "{target}: {status}");
        }
    }
}
