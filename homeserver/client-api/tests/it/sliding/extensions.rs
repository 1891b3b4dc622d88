//! What sliding sync tells besides rooms, and rooms that the user is not in.

use serde_json::{Value, json};

use super::{ask, join, list, room, rooms, slide, texts};
use crate::server::{Session, TestServer, encode};

async fn set_data(server: &TestServer, user: &Session, event_type: &str, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/{event_type}", encode(&user.user_id));
    server.put_as(user, &path, content).await.ok();
}

async fn invite(server: &TestServer, by: &Session, user: &Session) -> String {
    let body = json!({ "preset": "private_chat", "name": "Party", "invite": [user.user_id] });
    let created = server.post_as(by, "/_matrix/client/v3/createRoom", body).await.ok();
    created["room_id"].as_str().unwrap().to_owned()
}

async fn act(server: &TestServer, by: &Session, room_id: &str, what: &str, user: &Session) {
    let path = format!("/_matrix/client/v3/rooms/{}/{what}", encode(room_id));
    server.post_as(by, &path, json!({ "user_id": user.user_id })).await.ok();
}

async fn typing(server: &TestServer, user: &Session, room_id: &str, typing: bool) {
    let path = format!("/_matrix/client/v3/rooms/{}/typing/{}", encode(room_id), encode(&user.user_id));
    server.put_as(user, &path, json!({ "typing": typing, "timeout": 20_000 })).await.ok();
}

#[tokio::test]
async fn messages_to_the_device_stay_until_they_are_acknowledged() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for number in 0..3 {
        let path = format!("/_matrix/client/v3/sendToDevice/a.type/{number}");
        let messages = json!({ "messages": { &alice.user_id: { &alice.device_id: { "number": number } } } });
        server.put_as(&alice, &path, messages).await.ok();
    }
    let body = |since: Option<&Value>| {
        let mut to_device = json!({ "enabled": true, "limit": 2 });
        if let Some(since) = since {
            to_device["since"] = since.clone();
        }
        json!({ "conn_id": "encryption", "extensions": { "to_device": to_device, "e2ee": { "enabled": true } } })
    };
    let numbers = |answer: &Value| {
        let events = answer["extensions"]["to_device"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["content"]["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let first = slide(&server, &alice, None, &body(None)).await;
    assert_eq!(numbers(&first), [0, 1]);
    assert_eq!(first["extensions"]["to_device"]["events"][0]["sender"], alice.user_id);
    assert_eq!(first["extensions"]["e2ee"]["device_one_time_keys_count"]["signed_curve25519"], 0);
    // Neither a new connection nor another answer makes them go.
    assert_eq!(numbers(&slide(&server, &alice, Some(&first), &body(None)).await), [0, 1]);
    let first = slide(&server, &alice, None, &body(None)).await;
    assert_eq!(numbers(&first), [0, 1]);
    let since = &first["extensions"]["to_device"]["next_batch"];
    let second = ask(&server, &alice, first["pos"].as_str(), 10_000, &body(Some(since))).await.ok();
    assert_eq!(numbers(&second), [2]);
    // The same question once more has the same answer.
    let again = ask(&server, &alice, first["pos"].as_str(), 10_000, &body(Some(since))).await.ok();
    assert_eq!(numbers(&again), [2]);
    assert_eq!(numbers(&slide(&server, &alice, None, &body(None)).await), [2], "the others are gone");
    let since = &second["extensions"]["to_device"]["next_batch"];
    let quiet = ask(&server, &alice, None, 100, &body(Some(since))).await.ok();
    assert!(numbers(&quiet).is_empty());
    assert!(quiet["extensions"]["e2ee"]["device_unused_fallback_key_types"].is_array(), "{quiet}");
    let quiet = ask(&server, &alice, quiet["pos"].as_str(), 100, &body(Some(since))).await.ok();
    assert!(quiet["extensions"]["e2ee"]["device_one_time_keys_count"].is_object(), "{quiet}");
    for junk in ["junk", "-1", "1.5"] {
        ask(&server, &alice, None, 0, &body(Some(&json!(junk)))).await.assert_error(400, "M_INVALID_PARAM");
    }
    // What this server never gave out acknowledges nothing.
    let path = "/_matrix/client/v3/sendToDevice/a.type/last";
    let messages = json!({ "messages": { &alice.user_id: { "*": { "number": 9 } } } });
    server.put_as(&alice, path, messages).await.ok();
    assert_eq!(numbers(&slide(&server, &alice, None, &body(Some(&json!("999999999")))).await), [9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_devices_wake_and_are_told() {
    let server = std::sync::Arc::new(TestServer::start().await);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    join(&server, &bob, &room_id).await;
    let body = json!({ "conn_id": "encryption", "extensions": { "e2ee": { "enabled": true } } });
    let start = slide(&server, &alice, None, &body).await;
    assert!(start["extensions"]["e2ee"]["device_lists"].is_null(), "{start}");
    let waiting = {
        let (server, alice, pos) = (server.clone(), alice.clone(), start["pos"].as_str().unwrap().to_owned());
        let body = body.clone();
        tokio::spawn(async move { ask(&server, &alice, Some(&pos), 30_000, &body).await.ok() })
    };
    let device = format!("/_matrix/client/v3/devices/{}", bob.device_id);
    server.put_as(&bob, &device, json!({ "display_name": "Phone" })).await.ok();
    let changed = waiting.await.unwrap();
    assert_eq!(changed["extensions"]["e2ee"]["device_lists"]["changed"], json!([bob.user_id]), "{changed}");
    act(&server, &alice, &room_id, "kick", &bob).await;
    let left = slide(&server, &alice, Some(&changed), &body).await;
    assert_eq!(left["extensions"]["e2ee"]["device_lists"]["left"], json!([bob.user_id]), "{left}");
    let quiet = slide(&server, &alice, Some(&left), &body).await;
    assert!(quiet["extensions"]["e2ee"]["device_lists"].is_null(), "{quiet}");
}

#[tokio::test]
async fn devices_that_changed_while_nobody_asked_are_told_when_somebody_does() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    join(&server, &bob, &room_id).await;
    let body = |enabled: bool| json!({ "extensions": { "e2ee": { "enabled": enabled } } });
    let device = format!("/_matrix/client/v3/devices/{}", bob.device_id);
    let changed = |answer: &Value| answer["extensions"]["e2ee"]["device_lists"]["changed"].clone();
    let mut last = slide(&server, &alice, None, &body(false)).await;
    for (name, is_on) in [("Phone", false), ("Tablet", true), ("Desk", true), ("Fridge", false), ("Car", false)] {
        server.put_as(&bob, &device, json!({ "display_name": name })).await.ok();
        // Some other question in between, for nothing else to be new.
        server.say(&alice, &room_id, name, "hi").await;
        last = slide(&server, &alice, Some(&last), &body(is_on)).await;
        assert_eq!(changed(&last), if is_on { json!([bob.user_id]) } else { Value::Null }, "{name}: {last}");
    }
    last = slide(&server, &alice, Some(&last), &body(true)).await;
    assert_eq!(changed(&last), json!([bob.user_id]), "{last}");
    last = slide(&server, &alice, Some(&last), &body(true)).await;
    assert_eq!(changed(&last), Value::Null, "{last}");
}

#[tokio::test]
async fn invitations_that_the_user_does_not_want_are_not_listed() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let finer = "org.matrix.msc4155.invite_permission_config";
    set_data(&server, &alice, finer, json!({ "ignored_users": ["@b*:example.org"] })).await;
    let party = invite(&server, &bob, &alice).await;
    let hidden = slide(&server, &alice, None, &list(0, 9)).await;
    assert!(rooms(&hidden).is_empty() && hidden["lists"]["all"]["count"] == 0, "{hidden}");
    set_data(&server, &alice, finer, json!({})).await;
    let shown = slide(&server, &alice, Some(&hidden), &list(0, 9)).await;
    assert_eq!(rooms(&shown), [party]);
    set_data(&server, &alice, "m.ignored_user_list", json!({ "ignored_users": { &bob.user_id: {} } })).await;
    let ignored = slide(&server, &alice, Some(&shown), &list(0, 9)).await;
    assert_eq!(ignored["lists"]["all"]["count"], 0);
    invite(&server, &bob, &alice).await;
    let ignored = slide(&server, &alice, Some(&ignored), &list(0, 9)).await;
    assert!(rooms(&ignored).is_empty() && ignored["lists"]["all"]["count"] == 0, "{ignored}");
}

#[tokio::test]
async fn who_is_removed_hears_of_it_and_whoever_leaves_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let kicked = room(&server, &alice, "kicked").await;
    let unseen = room(&server, &alice, "unseen").await;
    let left = room(&server, &alice, "left").await;
    for room_id in [&unseen, &kicked, &left] {
        join(&server, &bob, room_id).await;
        server.say(&alice, room_id, "1", "before").await;
    }
    // Only two of the three are looked at.
    let start = slide(&server, &bob, None, &list(0, 1)).await;
    assert_eq!(rooms(&start).len(), 2);
    act(&server, &alice, &kicked, "kick", &bob).await;
    act(&server, &bob, &left, "leave", &bob).await;
    act(&server, &bob, &unseen, "leave", &bob).await;
    server.say(&alice, &kicked, "2", "after").await;
    let over = slide(&server, &bob, Some(&start), &list(0, 1)).await;
    for room_id in [&kicked, &left, &unseen] {
        let member = over["rooms"][room_id]["required_state"].as_array().unwrap().last().unwrap();
        assert_eq!(member["content"]["membership"], "leave", "{over}");
        assert!(!texts(&over["rooms"][room_id]["timeline"]).contains(&"after"), "{over}");
    }
    assert!(rooms(&slide(&server, &bob, Some(&over), &list(0, 1)).await).is_empty());
    // Who starts anew is told where they were removed, and nothing of where they left.
    let anew = slide(&server, &bob, None, &list(0, 9)).await;
    assert_eq!(rooms(&anew), std::slice::from_ref(&kicked));
    assert_eq!(anew["rooms"][&kicked]["initial"], true);
    // Back again: all of it.
    join(&server, &bob, &kicked).await;
    let back = slide(&server, &bob, Some(&anew), &list(0, 1)).await;
    assert_eq!((&back["rooms"][&kicked]["initial"], &back["lists"]["all"]["count"]), (&json!(true), &json!(1)));
    assert_eq!(back["rooms"][&kicked]["name"], "kicked");
    // Who was never in a room that they are banned from does not see it.
    let other = room(&server, &alice, "other").await;
    act(&server, &alice, &other, "ban", &bob).await;
    let banned = slide(&server, &bob, None, &list(0, 9)).await;
    assert_eq!(rooms(&banned), [kicked]);
}

#[tokio::test]
async fn a_room_that_moves_up_makes_room_for_the_next() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut all = Vec::new();
    for number in 0..4 {
        all.push(room(&server, &alice, &number.to_string()).await);
    }
    let mut answer = slide(&server, &alice, None, &list(1, 2)).await;
    let mut expected = vec![all[2].clone(), all[1].clone()];
    expected.sort_unstable();
    assert_eq!(rooms(&answer), expected);
    // The last comes first: the first comes into the window, the last of the window goes.
    server.say(&alice, &all[0], "1", "up").await;
    answer = slide(&server, &alice, Some(&answer), &list(1, 2)).await;
    assert_eq!(rooms(&answer), [all[3].clone()]);
    server.say(&alice, &all[1], "2", "missed").await;
    answer = slide(&server, &alice, Some(&answer), &list(1, 2)).await;
    assert_eq!(rooms(&answer), [all[0].clone()], "the one that was talked in is above the window");
    act(&server, &alice, &all[1], "leave", &alice).await;
    answer = slide(&server, &alice, Some(&answer), &list(1, 2)).await;
    // 0, 3, 2 are left: 2 is known already.
    assert_eq!(rooms(&answer), [all[1].clone()], "{answer}");
    server.say(&alice, &all[2], "3", "seen").await;
    answer = slide(&server, &alice, Some(&answer), &list(0, 9)).await;
    assert_eq!((rooms(&answer), &answer["rooms"][&all[2]]["initial"]), (vec![all[2].clone()], &Value::Null));
}

#[tokio::test]
async fn what_happens_outside_of_the_windows_is_told_when_they_get_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (one, two) = (room(&server, &alice, "one").await, room(&server, &alice, "two").await);
    join(&server, &bob, &one).await;
    let event_id = server.say(&alice, &one, "1", "read me").await;
    let body = |last: u64| {
        let mut body = list(0, last);
        let on = json!({ "enabled": true });
        body["extensions"] = json!({ "account_data": on, "receipts": on, "typing": on });
        body
    };
    let start = slide(&server, &alice, None, &body(9)).await;
    let global = start["extensions"]["account_data"]["global"].as_array().unwrap();
    assert!(global.iter().any(|event| event["type"] == "m.push_rules"), "{global:?}");
    server.say(&alice, &two, "2", "on top").await;
    let narrow = slide(&server, &alice, Some(&start), &body(0)).await;
    let receipt = format!("/_matrix/client/v3/rooms/{}/receipt/m.read/{}", encode(&one), encode(&event_id));
    server.post_as(&bob, &receipt, json!({})).await.ok();
    typing(&server, &bob, &one, true).await;
    let user = format!("/_matrix/client/v3/user/{}", encode(&alice.user_id));
    let data = format!("{user}/rooms/{}/account_data/a.room", encode(&one));
    server.put_as(&alice, &data, json!({ "b": 1 })).await.ok();
    let narrow = slide(&server, &alice, Some(&narrow), &body(0)).await;
    for extension in ["account_data", "receipts", "typing"] {
        assert_eq!(narrow["extensions"][extension]["rooms"], json!({}), "{narrow}");
    }
    let wide = slide(&server, &alice, Some(&narrow), &body(9)).await;
    let extensions = &wide["extensions"];
    assert_eq!(extensions["account_data"]["rooms"][&one][0]["content"], json!({ "b": 1 }), "{wide}");
    assert_eq!(extensions["account_data"]["global"], json!([]), "{wide}");
    assert_eq!(extensions["typing"]["rooms"][&one]["content"]["user_ids"], json!([bob.user_id]), "{wide}");
    assert!(extensions["receipts"]["rooms"][&one]["content"][&event_id].is_object(), "{wide}");
    let quiet = slide(&server, &alice, Some(&wide), &body(9)).await;
    assert!(quiet["extensions"].as_object().unwrap().is_empty(), "{quiet}");
}

#[tokio::test]
async fn extensions_keep_to_their_lists_and_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (one, two) = (room(&server, &alice, "one").await, room(&server, &alice, "two").await);
    for room_id in [&one, &two] {
        join(&server, &bob, room_id).await;
        typing(&server, &bob, room_id, true).await;
    }
    let told = async |scope: Value| {
        let mut body = list(0, 0);
        body["room_subscriptions"] = json!({ &one: { "timeline_limit": 1 } });
        body["extensions"] = json!({ "typing": scope });
        body["extensions"]["typing"]["enabled"] = json!(true);
        let answer = slide(&server, &alice, None, &body).await;
        let rooms = answer["extensions"]["typing"]["rooms"].as_object().unwrap();
        (rooms.contains_key(&one), rooms.contains_key(&two))
    };
    assert_eq!(told(json!({})).await, (true, true));
    assert_eq!(told(json!({ "lists": ["*"], "rooms": ["*"] })).await, (true, true));
    assert_eq!(told(json!({ "lists": [] })).await, (true, false));
    assert_eq!(told(json!({ "rooms": [] })).await, (false, true));
    assert_eq!(told(json!({ "lists": ["other"], "rooms": [&one] })).await, (true, false));
    assert_eq!(told(json!({ "lists": [], "rooms": ["*"] })).await, (true, false));
}

#[tokio::test]
async fn a_change_of_oneself_is_no_new_beginning() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    join(&server, &bob, &room_id).await;
    server.say(&alice, &room_id, "1", "one").await;
    let mut body = list(0, 9);
    body["lists"]["all"]["required_state"] = json!([["m.room.member", "$LAZY"]]);
    let start = slide(&server, &alice, None, &body).await;
    let name = format!("/_matrix/client/v3/profile/{}/displayname", encode(&alice.user_id));
    server.put_as(&alice, &name, json!({ "displayname": "Alice" })).await.ok();
    let renamed = slide(&server, &alice, Some(&start), &body).await;
    let told = &renamed["rooms"][&room_id];
    assert!(told["initial"].is_null() && told["required_state"][0]["content"]["displayname"] == "Alice", "{renamed}");
    // Whoever a membership event is about is told with it, though somebody else sent it.
    act(&server, &alice, &room_id, "kick", &bob).await;
    let kicked = slide(&server, &alice, Some(&renamed), &body).await;
    let members = kicked["rooms"][&room_id]["required_state"].as_array().unwrap();
    assert!(members.iter().any(|member| member["state_key"] == bob.user_id), "{kicked}");
    // A room that becomes a direct chat, or no longer is one.
    set_data(&server, &alice, "m.direct", json!({ &bob.user_id: [room_id] })).await;
    let direct = slide(&server, &alice, Some(&kicked), &body).await;
    assert_eq!(direct["rooms"][&room_id]["is_dm"], true, "{direct}");
    set_data(&server, &alice, "m.direct", json!({})).await;
    let plain = slide(&server, &alice, Some(&direct), &body).await;
    assert_eq!(plain["rooms"][&room_id]["is_dm"], false, "{plain}");
    assert!(rooms(&slide(&server, &alice, Some(&plain), &body).await).is_empty());
}
