//! Sliding sync as its clients see it.

mod extensions;

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Reply, Session, TestServer, encode};

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

async fn ask(server: &TestServer, user: &Session, pos: Option<&str>, timeout: u64, body: &Value) -> Reply {
    let pos = pos.map_or_else(String::new, |pos| format!("&pos={}", encode(pos)));
    server.post_as(user, &format!("{PATH}?set_presence=offline&timeout={timeout}{pos}"), body.clone()).await
}

async fn slide(server: &TestServer, user: &Session, after: Option<&Value>, body: &Value) -> Value {
    let pos = after.map(|answer| answer["pos"].as_str().unwrap());
    ask(server, user, pos, 0, body).await.ok()
}

/// A room that everybody may join.
async fn room(server: &TestServer, user: &Session, name: &str) -> String {
    let body = json!({ "preset": "public_chat", "name": name });
    let created = server.post_as(user, "/_matrix/client/v3/createRoom", body).await.ok();
    created["room_id"].as_str().unwrap().to_owned()
}

async fn join(server: &TestServer, user: &Session, room_id: &str) {
    server.post_as(user, &format!("/_matrix/client/v3/join/{}", encode(room_id)), json!({})).await.ok();
}

fn list(first: u64, last: u64) -> Value {
    json!({ "lists": { "all": {
        "ranges": [[first, last]], "timeline_limit": 2, "required_state": [["m.room.create", ""], ["m.room.name", ""]],
    } } })
}

fn rooms(answer: &Value) -> Vec<String> {
    answer["rooms"].as_object().map(|rooms| rooms.keys().cloned().collect()).unwrap_or_default()
}

fn texts(events: &Value) -> Vec<&str> {
    events.as_array().into_iter().flatten().filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn types(events: &Value) -> Vec<&str> {
    let mut types: Vec<&str> =
        events.as_array().into_iter().flatten().filter_map(|event| event["type"].as_str()).collect();
    types.sort_unstable();
    types
}

#[tokio::test]
async fn rooms_are_told_once_and_then_what_is_new() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut all = Vec::new();
    for number in 0..3 {
        all.push(room(&server, &alice, &format!("room {number}")).await);
    }
    server.say(&alice, &all[0], "1", "up").await;
    let start = slide(&server, &alice, None, &list(0, 1)).await;
    assert_eq!(start["lists"]["all"]["count"], 3);
    // Latest first: the one with the message, and the one created last.
    let mut expected = vec![all[0].clone(), all[2].clone()];
    expected.sort_unstable();
    assert_eq!(rooms(&start), expected);
    let first = &start["rooms"][&all[0]];
    assert_eq!(
        (&first["initial"], &first["name"], &first["joined_count"]),
        (&json!(true), &json!("room 0"), &json!(1))
    );
    assert_eq!(types(&first["required_state"]), ["m.room.create", "m.room.name"]);
    assert_eq!((first["timeline"].as_array().unwrap().len(), &first["limited"]), (2, &json!(true)));
    assert!(first["prev_batch"].is_string() && first["bump_stamp"].is_u64());

    // Nothing new: no rooms, but a new position.
    let quiet = slide(&server, &alice, Some(&start), &list(0, 1)).await;
    assert!(rooms(&quiet).is_empty() && quiet["pos"] != start["pos"] && quiet["lists"]["all"]["count"] == 3);

    // News in a room that was not looked at moves it up.
    server.say(&alice, &all[1], "2", "hello").await;
    let next = slide(&server, &alice, Some(&quiet), &list(0, 1)).await;
    assert_eq!(rooms(&next), [all[1].clone()]);
    assert_eq!((&next["rooms"][&all[1]]["initial"], &next["rooms"][&all[1]]["num_live"]), (&json!(true), &json!(1)));

    // What happens outside of the window is told when it comes into it.
    let state = format!("/_matrix/client/v3/rooms/{}/state/m.room.topic", encode(&all[2]));
    server.put_as(&alice, &state, json!({ "topic": "unseen" })).await.ok();
    let name = format!("/_matrix/client/v3/rooms/{}/state/m.room.name", encode(&all[2]));
    server.put_as(&alice, &name, json!({ "name": "renamed" })).await.ok();
    let unseen = slide(&server, &alice, Some(&next), &list(0, 1)).await;
    assert!(rooms(&unseen).is_empty(), "{unseen}");
    let seen = slide(&server, &alice, Some(&unseen), &list(0, 2)).await;
    assert_eq!(rooms(&seen), [all[2].clone()]);
    let renamed = &seen["rooms"][&all[2]];
    assert!(renamed["initial"].is_null() && renamed["name"] == "renamed", "{renamed}");
    assert_eq!(types(&renamed["required_state"]), ["m.room.name"]);
    assert_eq!(types(&renamed["timeline"]), ["m.room.name", "m.room.topic"]);

    // A lost answer is given again.
    let again = slide(&server, &alice, Some(&unseen), &list(0, 2)).await;
    assert_eq!(rooms(&again), rooms(&seen));
}

#[tokio::test]
async fn asking_for_more_of_a_room_gives_more() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice, "one").await;
    for number in 0..5 {
        server.say(&alice, &room_id, &number.to_string(), &format!("{number}")).await;
    }
    let start = slide(&server, &alice, None, &list(0, 9)).await;
    assert_eq!(texts(&start["rooms"][&room_id]["timeline"]), ["3", "4"]);
    let mut more = list(0, 9);
    more["room_subscriptions"] =
        json!({ &room_id: { "timeline_limit": 4, "required_state": [["m.room.member", "$ME"], ["m.room.name", ""]] } });
    let expanded = slide(&server, &alice, Some(&start), &more).await;
    let told = &expanded["rooms"][&room_id];
    assert_eq!(texts(&told["timeline"]), ["1", "2", "3", "4"]);
    assert_eq!((&told["unstable_expanded_timeline"], &told["num_live"]), (&json!(true), &json!(0)));
    assert_eq!(types(&told["required_state"]), ["m.room.member"]);
    assert!(rooms(&slide(&server, &alice, Some(&expanded), &more).await).is_empty());
    // A room that the user has nothing to do with is not there.
    let bob = server.register("bob").await;
    let subscription = json!({ "room_subscriptions": { &room_id: { "timeline_limit": 4 } } });
    assert!(rooms(&slide(&server, &bob, None, &subscription).await).is_empty());
}

#[tokio::test]
async fn members_are_loaded_lazily() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    join(&server, &bob, &room_id).await;
    server.say(&alice, &room_id, "1", "one").await;
    let lazy = json!({ "lists": { "all": {
        "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [["m.room.member", "$LAZY"]],
    } } });
    let members = |answer: &Value| {
        let state = answer["rooms"][&room_id]["required_state"].as_array().cloned().unwrap_or_default();
        let mut keys: Vec<String> = state.iter().map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
        keys.sort_unstable();
        keys
    };
    let start = slide(&server, &alice, None, &lazy).await;
    assert_eq!(members(&start), std::slice::from_ref(&alice.user_id));
    server.say(&bob, &room_id, "2", "two").await;
    let next = slide(&server, &alice, Some(&start), &lazy).await;
    assert_eq!(members(&next), std::slice::from_ref(&bob.user_id));
    server.say(&bob, &room_id, "3", "three").await;
    let next = slide(&server, &alice, Some(&next), &lazy).await;
    assert!(members(&next).is_empty() && texts(&next["rooms"][&room_id]["timeline"]) == ["three"]);
}

#[tokio::test]
async fn whoever_begins_anew_sees_what_happened_since_another_one_began() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let look = async |filters: Value, last: u64| {
        let list = json!({ "ranges": [[0, last]], "timeline_limit": 1, "filters": filters });
        rooms(&slide(&server, &alice, None, &json!({ "lists": { "some": list } })).await)
    };
    let all = async || look(json!({}), 99).await;
    let sorted = |ids: &[&String]| {
        let mut sorted: Vec<String> = ids.iter().copied().cloned().collect();
        sorted.sort_unstable();
        sorted
    };
    let one = room(&server, &alice, "one").await;
    assert_eq!(all().await, sorted(&[&one]));
    let two = room(&server, &alice, "two").await;
    assert_eq!(all().await, sorted(&[&one, &two]));
    assert_eq!(look(json!({}), 0).await, sorted(&[&two]));
    server.say(&alice, &one, "1", "up").await;
    assert_eq!(look(json!({}), 0).await, sorted(&[&one]));

    let name = format!("/_matrix/client/v3/rooms/{}/state/m.room.name", encode(&two));
    server.put_as(&alice, &name, json!({ "name": "Tea" })).await.ok();
    assert_eq!(look(json!({ "room_name_like": "tea" }), 99).await, sorted(&[&two]));
    let user = format!("/_matrix/client/v3/user/{}", encode(&alice.user_id));
    let tags = format!("{user}/rooms/{}/account_data/m.tag", encode(&one));
    server.put_as(&alice, &tags, json!({ "tags": { "m.favourite": {} } })).await.ok();
    assert_eq!(look(json!({ "tags": ["m.favourite"] }), 99).await, sorted(&[&one]));
    let direct = json!({ &bob.user_id: [two] });
    server.put_as(&alice, &format!("{user}/account_data/m.direct"), direct).await.ok();
    assert_eq!(look(json!({ "is_dm": true }), 99).await, sorted(&[&two]));

    let invited = json!({ "preset": "private_chat", "name": "Party", "invite": [alice.user_id] });
    let invited = server.post_as(&bob, "/_matrix/client/v3/createRoom", invited).await.ok();
    let invited = invited["room_id"].as_str().unwrap().to_owned();
    assert_eq!(all().await, sorted(&[&one, &two, &invited]));
    let ignored = json!({ "ignored_users": { &bob.user_id: {} } });
    server.put_as(&alice, &format!("{user}/account_data/m.ignored_user_list"), ignored).await.ok();
    assert_eq!(all().await, sorted(&[&one, &two]));
    for act in ["leave", "forget"] {
        let path = format!("/_matrix/client/v3/rooms/{}/{act}", encode(&two));
        server.post_as(&alice, &path, json!({})).await.ok();
        assert_eq!(all().await, sorted(&[&one]), "{act}");
    }
}

#[tokio::test]
async fn lists_select_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let plain = room(&server, &alice, "Plain tea").await;
    let secret = room(&server, &alice, "Secret").await;
    let encryption = format!("/_matrix/client/v3/rooms/{}/state/m.room.encryption", encode(&secret));
    server.put_as(&alice, &encryption, json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await.ok();
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let space = server.post_as(&alice, "/_matrix/client/v3/createRoom", space).await.ok();
    let space = space["room_id"].as_str().unwrap().to_owned();
    let child = format!("/_matrix/client/v3/rooms/{}/state/m.space.child/{}", encode(&space), encode(&plain));
    server.put_as(&alice, &child, json!({ "via": ["example.org"] })).await.ok();
    let invited = json!({ "preset": "private_chat", "name": "Party", "invite": [alice.user_id] });
    let invited = server.post_as(&bob, "/_matrix/client/v3/createRoom", invited).await.ok();
    let invited = invited["room_id"].as_str().unwrap().to_owned();
    let user = format!("/_matrix/client/v3/user/{}", encode(&alice.user_id));
    let direct = json!({ &bob.user_id: [secret] });
    server.put_as(&alice, &format!("{user}/account_data/m.direct"), direct).await.ok();
    let tags = format!("{user}/rooms/{}/account_data/m.tag", encode(&plain));
    server.put_as(&alice, &tags, json!({ "tags": { "m.favourite": {} } })).await.ok();
    let cases = [
        (json!({}), vec![&plain, &secret, &space, &invited]),
        (json!({ "is_dm": true }), vec![&secret]),
        (json!({ "is_dm": false }), vec![&plain, &space, &invited]),
        (json!({ "is_encrypted": true }), vec![&secret]),
        (json!({ "is_invite": true }), vec![&invited]),
        (json!({ "room_types": ["m.space"] }), vec![&space]),
        (json!({ "room_types": [null], "is_invite": false }), vec![&plain, &secret]),
        (json!({ "not_room_types": ["m.space", null] }), vec![]),
        (json!({ "room_name_like": "TEA" }), vec![&plain]),
        (json!({ "tags": ["m.favourite"] }), vec![&plain]),
        (json!({ "not_tags": ["m.favourite"], "is_invite": false }), vec![&secret, &space]),
        (json!({ "spaces": [space] }), vec![&plain]),
        (json!({ "spaces": [plain] }), vec![]),
    ];
    for (number, (filters, expected)) in cases.into_iter().enumerate() {
        let mut expected: Vec<String> = expected.into_iter().cloned().collect();
        expected.sort_unstable();
        let body = json!({
            "conn_id": format!("c{}", number % 3),
            "lists": { "some": { "ranges": [[0, 99]], "timeline_limit": 1, "filters": filters } },
        });
        let answer = slide(&server, &alice, None, &body).await;
        assert_eq!(rooms(&answer), expected, "{filters}");
        assert_eq!(answer["lists"]["some"]["count"], expected.len(), "{filters}");
    }
    let answer = slide(&server, &alice, None, &list(0, 99)).await;
    let party = &answer["rooms"][&invited];
    assert!(party["invite_state"].as_array().is_some_and(|events| events.len() > 1), "{party}");
    assert!(party["timeline"].is_null() && party["name"] == "Party", "{party}");
    assert_eq!(answer["rooms"][&secret]["is_dm"], true);
    // Who is removed hears of it, and no more.
    server.post_as(&alice, &format!("/_matrix/client/v3/rooms/{}/leave", encode(&invited)), json!({})).await.ok();
    server.post_as(&alice, &format!("/_matrix/client/v3/rooms/{}/leave", encode(&plain)), json!({})).await.ok();
    let left = slide(&server, &alice, Some(&answer), &list(0, 99)).await;
    assert_eq!(left["lists"]["all"]["count"], 2);
    for room_id in [&invited, &plain] {
        let member = left["rooms"][room_id]["required_state"].as_array().unwrap().last().unwrap();
        assert_eq!(member["content"]["membership"], "leave", "{left}");
    }
    assert!(rooms(&slide(&server, &alice, Some(&left), &list(0, 99)).await).is_empty());
}

#[tokio::test]
async fn extensions_tell_what_is_besides_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    join(&server, &bob, &room_id).await;
    let event_id = server.say(&bob, &room_id, "1", "read me").await;
    let mut body = list(0, 9);
    body["extensions"] = json!({
        "account_data": { "enabled": true }, "receipts": { "enabled": true }, "typing": { "enabled": true },
    });
    let user = format!("/_matrix/client/v3/user/{}", encode(&alice.user_id));
    server.put_as(&alice, &format!("{user}/account_data/a.global"), json!({ "a": 1 })).await.ok();
    let of_room = format!("{user}/rooms/{}/account_data/a.room", encode(&room_id));
    server.put_as(&alice, &of_room, json!({ "b": 1 })).await.ok();
    let room_path = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    server.post_as(&bob, &format!("{room_path}/receipt/m.read/{}", encode(&event_id)), json!({})).await.ok();
    let start = slide(&server, &alice, None, &body).await;
    let extensions = &start["extensions"];
    assert!(extensions["account_data"]["global"].to_string().contains("a.global"), "{extensions}");
    assert_eq!(extensions["account_data"]["rooms"][&room_id][0]["content"], json!({ "b": 1 }));
    let receipts = &extensions["receipts"]["rooms"][&room_id];
    assert!(receipts["content"][&event_id]["m.read"][&bob.user_id].is_object(), "{receipts}");
    assert_eq!(receipts["type"], "m.receipt");

    // Each wakes who waits, and is told once.
    let path = format!("{room_path}/typing/{}", encode(&bob.user_id));
    server.put_as(&bob, &path, json!({ "typing": true, "timeout": 20_000 })).await.ok();
    let typing = ask(&server, &alice, start["pos"].as_str(), 10_000, &body).await.ok();
    assert_eq!(typing["extensions"]["typing"]["rooms"][&room_id]["content"]["user_ids"], json!([bob.user_id]));
    assert!(rooms(&typing).is_empty());
    server.put_as(&alice, &of_room, json!({ "b": 2 })).await.ok();
    let data = ask(&server, &alice, typing["pos"].as_str(), 10_000, &body).await.ok();
    assert_eq!(data["extensions"]["account_data"]["rooms"][&room_id][0]["content"], json!({ "b": 2 }));
    assert_eq!(data["extensions"]["account_data"]["global"], json!([]));
    let quiet = slide(&server, &alice, Some(&data), &body).await;
    assert!(!quiet["extensions"].to_string().contains("m.typing"), "{quiet}");

    // Only extensions, as the connection for encryption asks.
    let alone = json!({ "conn_id": "alone", "extensions": { "account_data": { "enabled": true } } });
    let first = slide(&server, &alice, None, &alone).await;
    assert!(first["extensions"]["account_data"]["global"].as_array().is_some_and(|global| !global.is_empty()));
    server.say(&bob, &room_id, "2", "not for this connection").await;
    let next = ask(&server, &alice, first["pos"].as_str(), 300, &alone).await.ok();
    assert!(rooms(&next).is_empty() && next["extensions"]["account_data"]["global"] == json!([]), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_16_a_message_wakes_who_waits() {
    let server = std::sync::Arc::new(TestServer::start().await);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    let other = room(&server, &alice, "two").await;
    join(&server, &bob, &room_id).await;
    let start = slide(&server, &bob, None, &list(0, 9)).await;
    let pos = start["pos"].as_str().unwrap().to_owned();
    let waiting = {
        let (server, bob) = (server.clone(), bob.clone());
        tokio::spawn(async move { ask(&server, &bob, Some(&pos), 60_000, &list(0, 9)).await.ok() })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.say(&alice, &other, "1", "not for bob").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    server.say(&alice, &room_id, "2", "for bob").await;
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it is woken").unwrap();
    assert_eq!(texts(&answer["rooms"][&room_id]["timeline"]), ["for bob"]);
    assert_eq!(answer["rooms"][&room_id]["num_live"], 1);
}

#[tokio::test]
async fn s_130_junk_and_unknown_positions_are_refused() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let answer = slide(&server, &alice, None, &list(0, 9)).await;
    let pos = answer["pos"].as_str().unwrap();
    for (user, pos) in [(&alice, "1"), (&alice, "s1_0_0"), (&alice, "x_1"), (&bob, pos)] {
        ask(&server, user, Some(pos), 0, &list(0, 9)).await.assert_error(400, "M_UNKNOWN_POS");
    }
    let mut other = list(0, 9);
    other["conn_id"] = json!("other");
    ask(&server, &alice, Some(pos), 0, &other).await.assert_error(400, "M_UNKNOWN_POS");
    for body in [
        json!({ "lists": { "a": { "ranges": [[-1, 5]] } } }),
        json!({ "lists": { "a": { "ranges": [[0]] } } }),
        json!({ "lists": [] }),
        json!({ "room_subscriptions": { "junk": {} } }),
    ] {
        ask(&server, &alice, None, 0, &body).await.assert_error(400, "M_BAD_JSON");
    }
    ask(&server, &alice, None, 0, &list(9, 1)).await.assert_error(400, "M_INVALID_PARAM");
    let mut named = list(0, u64::MAX);
    named["txn_id"] = json!("t");
    let mut with_pos = named.clone();
    let answer = ask(&server, &alice, None, 0, &named).await.ok();
    assert_eq!(answer["txn_id"], "t");
    // Some clients write the position into the body.
    with_pos["pos"] = answer["pos"].clone();
    assert_eq!(ask(&server, &alice, None, 0, &with_pos).await.ok()["lists"]["all"]["count"], 0);
}

#[tokio::test]
async fn a_room_that_was_forgotten_is_in_no_list() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice, "one").await;
    join(&server, &bob, &room_id).await;
    let path = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    server.post_as(&alice, &format!("{path}/kick"), json!({ "user_id": bob.user_id })).await.ok();
    let kicked = slide(&server, &bob, None, &list(0, 9)).await;
    assert_eq!((rooms(&kicked), &kicked["lists"]["all"]["count"]), (vec![room_id.clone()], &json!(1)));
    server.post_as(&bob, &format!("{path}/forget"), json!({})).await.ok();
    let forgotten = slide(&server, &bob, Some(&kicked), &list(0, 8)).await;
    assert_eq!((rooms(&forgotten).len(), &forgotten["lists"]["all"]["count"]), (0, &json!(0)), "{forgotten}");
    let anew = slide(&server, &bob, None, &list(0, 9)).await;
    assert_eq!((rooms(&anew).len(), &anew["lists"]["all"]["count"]), (0, &json!(0)), "{anew}");
}

#[tokio::test]
async fn unknown_presence_is_refused_by_both_kinds_of_sync() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (presence, status) in [("sleeping", 400), ("", 400), ("busy", 200), ("unavailable", 200)] {
        let path = format!("/_matrix/client/v3/sync?set_presence={presence}");
        assert_eq!(server.get_as(&alice, &path).await.status, status, "{presence}");
        let path = format!("{PATH}?set_presence={presence}");
        assert_eq!(server.post_as(&alice, &path, json!({})).await.status, status, "{presence}");
    }
}

#[tokio::test]
async fn s_130_junk_in_rooms_is_not_shown() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice, "named").await;
    for (event_type, content) in [
        ("m.room.name", json!({ "name": { "a": [] } })),
        ("m.room.avatar", json!({ "url": 7 })),
        ("m.room.encryption", json!([])),
    ] {
        let path = format!("/_matrix/client/v3/rooms/{}/state/{event_type}", encode(&room_id));
        server.put_as(&alice, &path, content).await;
    }
    let mut body = list(0, 9);
    body["lists"]["all"]["required_state"] = json!([["*", "*"]]);
    let answer = slide(&server, &alice, None, &body).await;
    let told = &answer["rooms"][&room_id];
    assert!(told["name"].is_null() && told["avatar"].is_null() && told["heroes"] == json!([]), "{told}");
    assert!(types(&told["required_state"]).contains(&"m.room.power_levels"));
}
