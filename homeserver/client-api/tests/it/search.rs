//! Searching, as clients see it.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Reply, Session, TestServer, encode};

async fn search_as(server: &TestServer, user: &Session, criteria: Value, next_batch: Option<&str>) -> Reply {
    let query = next_batch.map(|token| format!("?next_batch={token}")).unwrap_or_default();
    let body = json!({ "search_categories": { "room_events": criteria } });
    server.send(Method::POST, &format!("/_matrix/client/v3/search{query}"), Some(&user.token), &body).await
}

async fn search(server: &TestServer, user: &Session, criteria: Value) -> Value {
    search_as(server, user, criteria, None).await.ok()["search_categories"]["room_events"].clone()
}

fn bodies(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    results.iter().map(|result| result["result"]["content"]["body"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn words_parts_of_words_and_scripts_without_spaces_are_found() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let tokyo = "\u{6771}\u{4eac}\u{90fd}\u{306b}\u{4f4f}\u{3093}\u{3067}\u{3044}\u{307e}\u{3059}";
    let texts = ["Hello, World", tokyo, "100% sure_thing", "ok", "helloes"];
    for (number, text) in texts.iter().enumerate() {
        server.say(&alice, &room_id, &number.to_string(), text).await;
    }
    // Enough to make a block, so that both ways of finding are walked.
    for number in 0..130 {
        server.say(&alice, &room_id, &format!("filler{number}"), &format!("filler {number} zebra")).await;
    }
    for sealed in [false, true] {
        if sealed {
            while server.engine.storage().seal_search_texts().await.unwrap() > 0 {}
        }
        for (term, expected) in [
            ("hello", vec!["Hello, World", "helloes"]),
            ("WORLD hello", vec!["Hello, World"]),
            ("orl", vec!["Hello, World"]),
            ("\u{6771}\u{4eac}", vec![tokyo]),
            ("\u{4f4f}", vec![tokyo]),
            ("%", vec!["100% sure_thing"]),
            ("sure_t", vec!["100% sure_thing"]),
            ("sureXt", vec![]),
            ("ok", vec!["ok"]),
            ("filler 129", vec!["filler 129 zebra"]),
            ("filler 3 zebra 11", vec!["filler 113 zebra"]),
            ("nothing", vec![]),
            ("   ", vec![]),
            ("a\0b", vec![]),
        ] {
            let found = search(&server, &alice, json!({ "search_term": term })).await;
            assert_eq!(bodies(&found), expected, "{term} {sealed}");
            assert_eq!(found["count"], expected.len(), "{term} {sealed}");
        }
    }
    let found = search(&server, &alice, json!({ "search_term": "plans", "keys": ["content.name"] })).await;
    assert_eq!(found["results"][0]["result"]["type"], "m.room.name");
    let found = search(&server, &alice, json!({ "search_term": "plans", "keys": ["content.body"] })).await;
    assert_eq!(found["count"], 0);
}

#[tokio::test]
async fn pages_context_groups_and_state() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    server.post_as(&alice, &format!("{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    let name = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    server.put_as(&bob, &name, json!({ "displayname": "Bob" })).await.ok();
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    let mut events = Vec::new();
    for number in 0..20 {
        let user = if number % 2 == 0 { &alice } else { &bob };
        events.push(server.say(user, &room_id, &number.to_string(), &format!("Message number {number}")).await);
        server.clock.advance(std::time::Duration::from_secs(1));
    }
    let criteria = json!({
        "search_term": "Message", "order_by": "recent", "include_state": true,
        "filter": { "limit": 10, "rooms": [room_id] },
        "groupings": { "group_by": [{ "key": "sender" }, { "key": "room_id" }] },
        "event_context": { "before_limit": 2, "after_limit": 1, "include_profile": true },
    });
    let first = search(&server, &alice, criteria.clone()).await;
    assert_eq!((&first["count"], bodies(&first)[0]), (&json!(20), "Message number 19"));
    assert_eq!(first["groups"]["sender"][&bob.user_id]["results"].as_array().unwrap().len(), 5);
    assert_eq!(first["groups"]["room_id"][&room_id]["results"][0], events[19]);
    let context = &first["results"][1]["context"];
    assert_eq!(context["events_before"][1]["content"]["body"], "Message number 16");
    assert_eq!(context["events_after"][0]["content"]["body"], "Message number 19");
    assert_eq!(context["profile_info"][&bob.user_id]["displayname"], "Bob");
    assert!(context["start"].is_string() && context["end"].is_string());
    assert!(first["state"][&room_id].as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
    assert_eq!(first["highlights"], json!(["message"]));

    // What comes meanwhile does not shift the pages.
    server.say(&alice, &room_id, "late", "Message number 20").await;
    let next = first["next_batch"].as_str().unwrap();
    let second = search_as(&server, &alice, criteria.clone(), Some(next)).await.ok();
    let second = &second["search_categories"]["room_events"];
    assert_eq!((bodies(second)[0], bodies(second)[9]), ("Message number 9", "Message number 0"));
    let next = second["next_batch"].as_str().unwrap();
    let third = search_as(&server, &alice, criteria.clone(), Some(next)).await.ok();
    let third = &third["search_categories"]["room_events"];
    assert_eq!((&third["results"], third.get("next_batch")), (&json!([]), None));
    for junk in ["x", "1_", "-1_5", "1_-5", "s5_0", "1_5_", "1_5_x"] {
        search_as(&server, &alice, criteria.clone(), Some(junk)).await.assert_error(400, "M_INVALID_PARAM");
    }
    // A group alone is read on from where the page left it.
    let next = first["groups"]["sender"][&bob.user_id]["next_batch"].as_str().unwrap();
    let of_bob = search_as(&server, &alice, criteria.clone(), Some(next)).await.ok();
    let of_bob = &of_bob["search_categories"]["room_events"];
    assert_eq!((bodies(of_bob).len(), bodies(of_bob)[0]), (5, "Message number 9"));
    assert_eq!(of_bob["groups"]["sender"].as_object().unwrap().len(), 1);
    assert_eq!(of_bob["groups"]["sender"][&bob.user_id].get("next_batch"), None);
    assert_eq!(second["groups"]["sender"][&bob.user_id].get("next_batch"), None);
    let found =
        search(&server, &alice, json!({ "search_term": "number", "filter": { "senders": [bob.user_id] } })).await;
    assert_eq!(found["count"], 10);
}

#[tokio::test]
async fn s_032_and_s_127_what_one_may_not_see_is_not_found() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    let redacted = server.say(&alice, &room_id, "1", "sesame one").await;
    server.say(&alice, &room_id, "2", "sesame two").await;
    server.put_as(&alice, &format!("{room}/redact/{}/r", encode(&redacted)), json!({})).await.ok();
    let term = json!({ "search_term": "sesame" });
    assert_eq!(bodies(&search(&server, &alice, term.clone()).await), ["sesame two"]);
    assert_eq!(search(&server, &bob, term.clone()).await["count"], 0);
    server.post_as(&alice, &format!("{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    assert_eq!(search(&server, &bob, term.clone()).await["count"], 0);
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    assert_eq!(search(&server, &bob, term.clone()).await["count"], 1);
    server.post_as(&bob, &format!("{room}/leave"), json!({})).await.ok();
    server.say(&alice, &room_id, "3", "sesame three").await;
    assert_eq!(bodies(&search(&server, &bob, term.clone()).await), ["sesame two"]);
    // Whom one ignores is not found; an encrypted room is not searched.
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", bob.user_id);
    server.put_as(&bob, &path, json!({ "ignored_users": { &alice.user_id: {} } })).await.ok();
    assert_eq!(search(&server, &bob, term.clone()).await["count"], 0);
    let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    server.put_as(&alice, &format!("{room}/state/m.room.encryption"), encryption).await.ok();
    assert_eq!(search(&server, &alice, term).await["count"], 0);
}
