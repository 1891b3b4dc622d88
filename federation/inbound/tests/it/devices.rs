//! Devices of another server's users, and what another server may ask of ours.

use fake_homeserver::{FakeHomeserver, Room, body_of, json as answer};
use http::Method;
use keyserver::{Messages, Upload};
use rules::Change;
use ruma::{
    CanonicalJsonObject, OwnedUserId,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use storage::Submission;

use crate::stage::{Stage, raw_json};

/// Keys of a device, signed by it.
fn device_keys(user_id: &str, device_id: &str) -> Value {
    let pair = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), device_id.to_owned()).unwrap();
    let encode = |bytes: &[u8]| Base64::<Standard, _>::new(bytes.to_vec()).encode();
    let keys = json!({
        "user_id": user_id,
        "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {
            format!("ed25519:{device_id}"): encode(&pair.public_key()),
            format!("curve25519:{device_id}"): encode(&[9; 32]),
        },
    });
    let mut keys: CanonicalJsonObject = serde_json::from_value(keys).unwrap();
    sign_json(user_id, &pair, &mut keys).unwrap();
    serde_json::to_value(keys).unwrap()
}

/// A cross-signing key of rita for a use, signed by another.
fn cross_signing_key(pair: &Ed25519KeyPair, usage: &str, signer: Option<&Ed25519KeyPair>) -> Value {
    let public = public(pair);
    let key = json!({ "user_id": "@rita:remote", "usage": [usage], "keys": { format!("ed25519:{public}"): public } });
    let mut key: CanonicalJsonObject = serde_json::from_value(key).unwrap();
    if let Some(signer) = signer {
        sign_json("@rita:remote", signer, &mut key).unwrap();
    }
    serde_json::to_value(key).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> String {
    Base64::<Standard, _>::new(pair.public_key().to_vec()).encode()
}

/// A signing key under the id of its own public part.
fn key_pair() -> Ed25519KeyPair {
    let der = Ed25519KeyPair::generate();
    let version = public(&Ed25519KeyPair::from_der(&der, "unused".to_owned()).unwrap());
    Ed25519KeyPair::from_der(&der, version).unwrap()
}

async fn send(stage: &Stage, edus: &[Value]) {
    let response = stage.remote.send_transaction(&stage.name, &[], edus).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
}

fn update(user_id: &str, device_id: &str, stream_id: i64, previous: &[i64], keys: &Value) -> Value {
    let content = json!({
        "user_id": user_id,
        "device_id": device_id,
        "stream_id": stream_id,
        "prev_id": previous,
        "keys": keys,
    });
    json!({ "edu_type": "m.device_list_update", "content": content })
}

/// Answers for all devices of rita with these, and counts how often.
fn serve_devices(stage: &Stage, stream_id: i64, devices: Value) {
    stage.remote.on("/_matrix/federation/v1/user/devices/", move |_| {
        answer(200, &json!({ "user_id": "@rita:remote", "stream_id": stream_id, "devices": devices }))
    });
}

fn devices_asked(stage: &Stage) -> usize {
    stage.remote.network().recorded_to(stage.remote.name(), "/user/devices/").len()
}

pub(crate) async fn devices_of(stage: &Stage, asker: &engine::Requester, user_id: &OwnedUserId) -> Vec<String> {
    let reply = stage.engine.query_keys(asker, [(user_id.clone(), Vec::new())].into(), None).await.unwrap();
    let devices = reply.keys.device_keys.get(user_id);
    devices.into_iter().flatten().map(|(device_id, _)| device_id.to_string()).collect()
}

pub(crate) fn keys_asked(server: &FakeHomeserver) -> usize {
    server.network().recorded_to(server.name(), "/user/keys/query").len()
}

/// Alice in a room with rita, whose devices she has asked for.
async fn followed(stage: &Stage) -> (engine::Requester, Room, OwnedUserId) {
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let (user, phone) = (rita.to_string(), device_keys(rita.as_str(), "PHONE"));
    stage.remote.on("/_matrix/federation/v1/user/keys/query", move |_| {
        answer(200, &json!({ "device_keys": { &user: { "PHONE": phone }, "@alice:test": { "EVIL": phone } } }))
    });
    assert_eq!(devices_of(stage, &alice, &rita).await, ["PHONE"]);
    (alice, room, rita)
}

/// Gives a device keys.
pub(crate) async fn upload_keys(stage: &Stage, user: &engine::Requester) -> Value {
    let keys = device_keys(user.user_id.as_str(), user.device_id.as_str());
    let upload = Upload { device_keys: Some(raw_json(&keys)), ..Upload::default() };
    stage.engine.upload_keys(user, upload).await.unwrap();
    keys
}

/// Waits until something is so, however busy the machine is.
async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it never was so");
}

#[tokio::test]
async fn s_076_a_gap_is_healed_by_asking_for_all_devices() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    let id = rita.as_str();
    let laptop = device_keys(id, "LAPTOP");
    serve_devices(&stage, 7, json!([{ "device_id": "LAPTOP", "keys": laptop }]));
    // How far the answer to the query went is not known, so the first update leads to the question for all.
    send(&stage, &[update(id, "LAPTOP", 7, &[6], &laptop)]).await;
    eventually(async || devices_asked(&stage) == 1).await;
    eventually(async || devices_of(&stage, &alice, &rita).await == ["LAPTOP"]).await;
    // From then on updates are taken in one by one.
    let tablet = device_keys(id, "TABLET");
    send(&stage, &[update(id, "TABLET", 9, &[7], &tablet)]).await;
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["LAPTOP", "TABLET"]);
    let mut gone = update(id, "LAPTOP", 12, &[9], &Value::Null);
    gone["content"]["deleted"] = json!(true);
    send(&stage, &[gone.clone(), gone]).await;
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["TABLET"]);
    assert_eq!(devices_asked(&stage), 1);
    // Keys that name another user are not stored; neither is what nobody asked about.
    let forged = device_keys("@other:remote", "WATCH");
    send(&stage, &[update(id, "WATCH", 13, &[12], &forged), update(id, "X", -5, &[-6], &tablet)]).await;
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["TABLET"]);
}

#[tokio::test]
async fn an_update_that_says_what_is_known_is_told_to_nobody() {
    let stage = Stage::new().await;
    let (alice, room, rita) = followed(&stage).await;
    let id = rita.as_str();
    let (phone, tablet) = (device_keys(id, "PHONE"), device_keys(id, "TABLET"));
    let watch = json!({ "device_id": "WATCH", "keys": device_keys(id, "WATCH") });
    serve_devices(&stage, 7, json!([{ "device_id": "PHONE", "keys": phone }, watch]));
    send(&stage, &[update(id, "PHONE", 7, &[6], &phone)]).await;
    eventually(async || devices_of(&stage, &alice, &rita).await == ["PHONE", "WATCH"]).await;
    let told = async |since: i64| {
        let head = stage.log_head();
        stage.engine.storage().device_lists_changed(&alice.user_id, since, head).await.unwrap().len()
    };
    let since = stage.log_head();
    // A device without keys, one that is known, and one that went before anybody heard of it.
    let mut gone = update(id, "GONE", 10, &[9], &Value::Null);
    gone["content"]["deleted"] = json!(true);
    send(&stage, &[update(id, "NEW", 8, &[7], &Value::Null), update(id, "PHONE", 9, &[8], &phone), gone]).await;
    assert_eq!(told(since).await, 0);
    // Their numbers are noted: the next one follows.
    send(&stage, &[update(id, "TABLET", 11, &[10], &tablet)]).await;
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["PHONE", "TABLET", "WATCH"]);
    assert_eq!((told(since).await, devices_asked(&stage)), (1, 1));
    // Of somebody whom nobody has asked about, only what there is to be had.
    let other = stage.remote.user("robin");
    let join = json!({ "membership": "join" });
    let event = room.send_state(&stage.remote, &other, "m.room.member", other.as_str(), join);
    stage.receive(&[&event]).await;
    let since = stage.log_head();
    send(&stage, &[update(other.as_str(), "NEW", 3, &[], &Value::Null)]).await;
    assert_eq!(told(since).await, 0);
    send(&stage, &[update(other.as_str(), "NEW", 4, &[3], &device_keys(other.as_str(), "NEW"))]).await;
    assert_eq!(told(since).await, 1);
}

/// Dendrite gives the end of a device the number that follows upon those of the devices that are left.
#[tokio::test]
async fn a_server_that_counts_back_is_asked_and_one_that_says_the_same_again_is_not() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    let id = rita.as_str();
    let (phone, watch) = (device_keys(id, "PHONE"), device_keys(id, "WATCH"));
    serve_devices(&stage, 5, json!([{ "device_id": "PHONE", "keys": phone }]));
    send(&stage, &[update(id, "PHONE", 5, &[4], &phone)]).await;
    eventually(async || devices_asked(&stage) == 1).await;
    eventually(async || devices_of(&stage, &alice, &rita).await == ["PHONE"]).await;
    send(&stage, &[update(id, "WATCH", 6, &[5], &watch)]).await;
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["PHONE", "WATCH"]);
    send(&stage, &[update(id, "WATCH", 6, &[5], &watch), update(id, "PHONE", 5, &[4], &phone)]).await;
    let mut gone = update(id, "WATCH", 6, &[5], &Value::Null);
    gone["content"]["deleted"] = json!(true);
    send(&stage, &[gone]).await;
    eventually(async || devices_of(&stage, &alice, &rita).await == ["PHONE"]).await;
    assert_eq!(devices_asked(&stage), 2);
}

#[tokio::test]
async fn s_076_a_user_has_only_so_many_devices_and_numbers_that_mislead_cost_one_question() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    let id = rita.as_str();
    let keys = |number: usize| {
        let device_id = format!("D{number}");
        let keys = json!({ format!("ed25519:{device_id}"): "A".repeat(43) });
        let (algorithms, signatures) = (json!([]), json!({}));
        json!({ "user_id": id, "device_id": device_id, "algorithms": algorithms, "keys": keys, "signatures": signatures })
    };
    let devices: Vec<Value> =
        (0..10_000).map(|number| json!({ "device_id": format!("D{number}"), "keys": keys(number) })).collect();
    serve_devices(&stage, 7, json!(devices));
    send(&stage, &[update(id, "D0", 7, &[6], &keys(0))]).await;
    eventually(async || devices_of(&stage, &alice, &rita).await.len() == 1_000).await;
    // Nor one by one.
    send(&stage, &[update(id, "D10001", 8, &[7], &keys(10_001)), update(id, "D5", 9, &[8], &keys(5))]).await;
    let known = devices_of(&stage, &alice, &rita).await;
    assert!(known.len() == 1_000 && !known.contains(&"D10001".to_owned()));
    assert_eq!(devices_asked(&stage), 1, "neither was a gap");
    // An update that is its own predecessor, one from the past, and the last number that there is.
    let max = i64::MAX;
    let misleading = [(10, 10), (3, 2), (max, max), (max, 9), (max, max - 1), (11, max)];
    for (stream_id, previous) in misleading {
        send(&stage, &[update(id, "D5", stream_id, &[previous], &keys(5))]).await;
    }
    eventually(async || devices_asked(&stage) == 2).await;
}

#[tokio::test]
async fn s_077_of_an_answer_only_what_is_right_and_was_asked_for_is_kept() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let _room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let phone = device_keys(rita.as_str(), "PHONE");
    let mut forged = device_keys(rita.as_str(), "FORGED");
    forged["algorithms"] = json!(["m.other"]);
    let of_another = device_keys("@other:remote", "TABLET");
    let (master, self_signing) = (key_pair(), key_pair());
    let body = json!({
        "device_keys": {
            rita.as_str(): { "PHONE": phone, "WATCH": phone, "FORGED": forged, "TABLET": of_another, "JUNK": 7 },
            "@other:remote": { "TABLET": of_another },
            "@alice:test": { "EVIL": device_keys("@alice:test", "EVIL") },
        },
        "master_keys": { rita.as_str(): cross_signing_key(&master, "master", None), "@alice:test": {} },
        "self_signing_keys": { rita.as_str(): cross_signing_key(&self_signing, "self_signing", Some(&key_pair())) },
        "user_signing_keys": { rita.as_str(): cross_signing_key(&self_signing, "user_signing", Some(&master)) },
    });
    stage.remote.on("/_matrix/federation/v1/user/keys/query", move |_| answer(200, &body));
    // Of one whom we share a room with, and of strangers.
    let stranger = stage.remote.user("stranger");
    let asked = [(rita.clone(), Vec::new()), (stranger.clone(), Vec::new())].into();
    let keys = stage.engine.query_keys(&alice, asked, None).await.unwrap().keys;
    let devices: Vec<_> = keys.device_keys.iter().map(|(user_id, of)| (user_id.as_str(), of.len())).collect();
    assert_eq!(devices, [(rita.as_str(), 1)], "{keys:?}");
    assert!(keys.device_keys[&rita].contains_key::<ruma::DeviceId>("PHONE".into()));
    assert_eq!(keys.master_keys.keys().collect::<Vec<_>>(), [&rita]);
    assert!(keys.self_signing_keys.is_empty() && keys.user_signing_keys.is_empty(), "{keys:?}");
    assert!(devices_of(&stage, &alice, &alice.user_id).await.is_empty());
    // A server that answers with the devices of somebody else than it was asked for.
    stage.remote.on("/_matrix/federation/v1/user/devices/", move |_| {
        let devices = json!([{ "device_id": "TABLET", "keys": of_another }]);
        answer(200, &json!({ "user_id": "@other:remote", "stream_id": 9, "devices": devices }))
    });
    send(&stage, &[update(rita.as_str(), "PHONE", 9, &[8], &phone)]).await;
    eventually(async || devices_asked(&stage) > 0).await;
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["PHONE"]);
}

/// Servers written in Go say so of lists and maps.
#[tokio::test]
async fn null_is_taken_for_what_is_empty() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let (user, phone) = (rita.to_string(), device_keys(rita.as_str(), "PHONE"));
    stage.remote.on("/_matrix/federation/v1/user/keys/query", move |_| {
        let devices = json!({ &user: { "PHONE": phone } });
        answer(200, &json!({ "device_keys": devices, "master_keys": null, "self_signing_keys": null }))
    });
    for _ in 0..2 {
        assert_eq!(devices_of(&stage, &alice, &rita).await, ["PHONE"]);
    }
    assert_eq!(keys_asked(&stage.remote), 1, "the answer is kept");
    let typing = json!({"edu_type": "m.typing", "content": {"room_id": room.id, "user_id": rita, "typing": true}});
    let body = json!({ "pdus": null, "edus": [typing] });
    let target = "/_matrix/federation/v1/send/1";
    assert_eq!(stage.remote.ask(&stage.name, Method::PUT, target, Some(&body)).await.status(), 200);
    assert!(stage.sync(&alice).await.to_string().contains("m.typing"));
}

#[tokio::test]
async fn an_update_of_keys_changes_what_it_speaks_of() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    let (master, self_signing) = (key_pair(), key_pair());
    let announce = async |content: Value| {
        send(&stage, &[json!({ "edu_type": "m.signing_key_update", "content": content })]).await;
        let asked = [(rita.clone(), Vec::new())].into();
        let keys = stage.engine.query_keys(&alice, asked, None).await.unwrap().keys;
        (keys.master_keys.len(), keys.self_signing_keys.len())
    };
    let master_key = cross_signing_key(&master, "master", None);
    let self_signing_key = cross_signing_key(&self_signing, "self_signing", Some(&master));
    let both = json!({ "user_id": rita, "master_key": master_key, "self_signing_key": self_signing_key });
    assert_eq!(announce(both).await, (1, 1));
    assert_eq!(announce(json!({ "user_id": rita, "master_key": master_key })).await, (1, 1));
    assert_eq!(announce(json!({ "user_id": rita, "self_signing_key": self_signing_key })).await, (1, 1));
    let other = cross_signing_key(&key_pair(), "master", None);
    assert_eq!(announce(json!({ "user_id": rita, "master_key": other })).await, (1, 0));
}

#[tokio::test]
async fn s_070_only_a_user_s_own_server_speaks_for_their_devices() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    let head = stage.log_head();
    let keys = device_keys(alice.user_id.as_str(), "EVIL");
    let message = json!({
        "sender": alice.user_id, "type": "m.test", "message_id": "m1",
        "messages": { alice.user_id.as_str(): { "*": { "n": 1 } } },
    });
    send(
        &stage,
        &[
            update(alice.user_id.as_str(), "EVIL", 1, &[], &keys),
            json!({ "edu_type": "m.signing_key_update", "content": { "user_id": alice.user_id } }),
            json!({ "edu_type": "m.direct_to_device", "content": message }),
        ],
    )
    .await;
    assert_eq!(stage.log_head(), head, "nothing of it is taken");
    assert_eq!(devices_of(&stage, &alice, &rita).await, ["PHONE"]);
    assert!(devices_of(&stage, &alice, &alice.user_id).await.is_empty());
}

#[tokio::test]
async fn s_073_messages_of_other_servers_come_once() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let message = |id: &str, n: u64| {
        let content = json!({
            "sender": "@rita:remote", "type": "m.test", "message_id": id,
            "messages": {
                alice.user_id.as_str(): { alice.device_id.as_str(): { "n": n }, "NONE": { "n": 100 } },
                "@nobody:test": { "*": { "n": 101 } },
                "@other:remote": { "*": { "n": 102 } },
            },
        });
        json!({ "edu_type": "m.direct_to_device", "content": content })
    };
    send(&stage, &[message("m1", 1), message("m1", 2)]).await;
    send(&stage, &[message("m1", 3), message("m2", 4)]).await;
    let sync = stage.sync(&alice).await;
    let events = sync["to_device"]["events"].as_array().unwrap();
    let numbers: Vec<&Value> = events.iter().map(|event| &event["content"]["n"]).collect();
    assert_eq!(numbers, [1, 4], "{sync}");
    assert_eq!(events[0]["sender"], "@rita:remote");
}

#[tokio::test]
async fn s_078_other_servers_are_told_of_local_users_only() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    let keys = upload_keys(&stage, &alice).await;
    let body = json!({ "device_keys": { alice.user_id.as_str(): [], rita.as_str(): [], "@nobody:test": [] } });
    let path = "/_matrix/federation/v1/user/keys/query";
    let found = body_of(&stage.remote.ask(&stage.name, Method::POST, path, Some(&body)).await);
    let users: Vec<&String> = found["device_keys"].as_object().unwrap().keys().collect();
    assert_eq!(users, [alice.user_id.as_str()], "{found}");
    assert_eq!(found["device_keys"][alice.user_id.as_str()][alice.device_id.as_str()]["keys"], keys["keys"]);
    let devices = |user_id: &str| format!("/_matrix/federation/v1/user/devices/{}", crate::stage::encode(user_id));
    let found = body_of(&stage.remote.get(&stage.name, &devices(alice.user_id.as_str())).await);
    assert_eq!(found["devices"][0]["device_id"], alice.device_id.as_str(), "{found}");
    assert!(!found.to_string().contains("last_seen"), "{found}");
    for stranger in [rita.as_str(), "@nobody:test"] {
        assert_eq!(stage.remote.get(&stage.name, &devices(stranger)).await.status(), 404);
    }
}

#[tokio::test]
async fn changes_and_messages_wait_for_a_server_that_is_away() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    stage.flush(stage.remote.name()).await;
    let before = stage.remote.transactions().len();
    for _ in 0..3 {
        upload_keys(&stage, &alice).await;
    }
    let messages: Messages = [(rita.clone(), [("PHONE".to_owned(), raw_json(&json!({ "n": 1 })))].into())].into();
    stage.engine.send_to_device(&alice, "m.test", "t1", messages.clone()).await.unwrap();
    stage.engine.send_to_device(&alice, "m.test", "t1", messages).await.unwrap();
    stage.flush(stage.remote.name()).await;
    let edus: Vec<Value> = stage
        .remote
        .transactions()
        .iter()
        .skip(before)
        .flat_map(|transaction| transaction["edus"].as_array().cloned().unwrap_or_default())
        .collect();
    let of = |edu_type: &str| edus.iter().filter(|edu| edu["edu_type"] == edu_type).collect::<Vec<_>>();
    let updates = of("m.device_list_update");
    assert_eq!(updates.len(), 1, "three changes of a device are one update: {edus:?}");
    assert_eq!(updates[0]["content"]["device_id"], alice.device_id.as_str());
    assert!(updates[0]["content"]["keys"].is_object(), "{edus:?}");
    let messages = of("m.direct_to_device");
    assert_eq!(messages.len(), 1, "{edus:?}");
    assert_eq!(messages[0]["content"]["messages"][rita.as_str()]["PHONE"]["n"], 1);
    assert_eq!(messages[0]["content"]["sender"], alice.user_id.as_str());
    // The next one follows on it.
    let first = updates[0]["content"]["stream_id"].clone();
    stage.engine.rename_device(&alice.user_id, &alice.device_id, Some("Phone")).await.unwrap();
    stage.flush(stage.remote.name()).await;
    let transactions = stage.remote.transactions();
    let update = &transactions.last().unwrap()["edus"][0]["content"];
    assert_eq!(update["prev_id"], json!([first]), "{update}");
    assert_eq!(update["device_display_name"], Value::Null, "names stay here unless the operator wants otherwise");
}

#[tokio::test]
async fn s_077_answers_about_devices_are_taken_for_the_users_asked_for_and_their_server_s() {
    let stage = Stage::new().await;
    let (alice, _room, rita) = followed(&stage).await;
    // The answer held keys for one of our users, too.
    assert!(devices_of(&stage, &alice, &alice.user_id).await.is_empty());
    let olga = stage.network.add_fake("other").user("olga");
    let stolen = device_keys(olga.as_str(), "STOLEN");
    let (good, mut broken) = (device_keys(rita.as_str(), "GOOD"), device_keys(rita.as_str(), "BROKEN"));
    broken["keys"]["curve25519:BROKEN"] = json!(Base64::<Standard, _>::new(vec![8; 32]).encode());
    let devices = json!([
        { "device_id": "GOOD", "keys": good },
        { "device_id": "BROKEN", "keys": broken },
        { "device_id": "RENAMED", "keys": good },
        { "device_id": "STOLEN", "keys": stolen },
    ]);
    serve_devices(&stage, 7, devices.clone());
    send(&stage, &[update(rita.as_str(), "GOOD", 7, &[6], &good)]).await;
    eventually(async || devices_of(&stage, &alice, &rita).await == ["GOOD"]).await;
    assert!(devices_of(&stage, &alice, &olga).await.is_empty());
    // An answer about somebody else is none.
    stage.remote.on("/_matrix/federation/v1/user/devices/", move |_| {
        answer(200, &json!({ "user_id": "@olga:other", "stream_id": 20, "devices": devices }))
    });
    let asked = devices_asked(&stage);
    send(&stage, &[update(rita.as_str(), "LATER", 19, &[17], &device_keys(rita.as_str(), "LATER"))]).await;
    eventually(async || devices_asked(&stage) > asked).await;
    assert!(!devices_of(&stage, &alice, &rita).await.contains(&"STOLEN".to_owned()));
}

/// The devices of alice that a server was told of, sorted.
fn told(server: &FakeHomeserver) -> Vec<String> {
    let transactions = server.transactions();
    let edus = transactions.iter().flat_map(|transaction| transaction["edus"].as_array().unwrap());
    let updates = edus.filter(|edu| edu["edu_type"] == "m.device_list_update");
    let mut told: Vec<String> =
        updates.map(|edu| format!("{} {}", edu["content"]["user_id"], edu["content"]["device_id"])).collect();
    told.sort();
    told
}

#[tokio::test]
async fn who_joins_is_introduced_with_their_devices_to_servers_that_were_not_following_them() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room = stage.joined_room(&alice).await;
    stage.flush(stage.remote.name()).await;
    let expected = format!("\"@alice:test\" \"{}\"", alice.device_id);
    assert_eq!(told(&stage.remote), std::slice::from_ref(&expected));
    // A room that this server is in already, with one more server.
    let other = stage.network.add_fake("other");
    let olga = other.user("olga");
    let join = room.send_state(&other, &olga, "m.room.member", olga.as_str(), json!({ "membership": "join" }));
    stage.receive(&[&join]).await;
    let since = stage.log_head();
    stage.join(&bob, &room.id).await.unwrap();
    for server in [&stage.remote, &other] {
        stage.flush(server.name()).await;
        assert!(told(server).contains(&format!("\"@bob:test\" \"{}\"", bob.device_id)), "{:?}", told(server));
    }
    // Nothing has changed for those who are here.
    let changed = stage.engine.storage().device_lists_changed(&alice.user_id, since, stage.log_head()).await.unwrap();
    assert!(changed.is_empty(), "{changed:?}");
    let changed = stage.engine.storage().device_lists_changed(&bob.user_id, since, stage.log_head()).await.unwrap();
    assert!(changed.is_empty(), "{changed:?}");
    // Another room with the same server: it is following already.
    stage.joined_room(&alice).await;
    stage.flush(stage.remote.name()).await;
    assert_eq!(told(&stage.remote).iter().filter(|told| **told == expected).count(), 1);
}

/// Whoever is told that a device changed finds it gone, with its keys and its tokens.
#[tokio::test]
async fn a_device_that_logs_out_is_gone_when_servers_are_told() {
    let stage = Stage::new().await;
    for number in 0..5 {
        let user = stage.user(&format!("user{number}")).await;
        stage.joined_room(&user).await;
        upload_keys(&stage, &user).await;
        stage.flush(stage.remote.name()).await;
        stage.engine.logout(&user).await.unwrap();
        stage.flush(stage.remote.name()).await;
        let transactions = stage.remote.transactions();
        let edus = transactions.iter().flat_map(|transaction| transaction["edus"].as_array().unwrap());
        let told: Vec<&Value> =
            edus.map(|edu| &edu["content"]).filter(|edu| edu["user_id"] == user.user_id.as_str()).collect();
        let (last, before) = told.split_last().unwrap();
        assert_eq!((&last["deleted"], &last["keys"]), (&json!(true), &Value::Null), "{told:?}");
        assert!(before.iter().all(|told| told["deleted"].is_null()), "{told:?}");
    }
}

#[tokio::test]
async fn s_086_what_the_latest_change_of_a_device_says_as_well_is_forgotten() {
    let stage = Stage::new().await;
    let (alice, storage) = (stage.user("alice").await.user_id, stage.engine.storage());
    let since = storage.head();
    for _ in 0..5 {
        let (user_id, device_id) = (alice.clone(), Some("D".into()));
        let change = Change::DeviceList { user_id, device_id, viewer: None, servers: Vec::new() };
        storage.commit(Submission { room: None, changes: vec![change] }).await.unwrap();
    }
    // What came since the last round is left alone.
    let first = stage.engine.keep_house().await.unwrap();
    let second = stage.engine.keep_house().await.unwrap();
    assert!(second >= first + 4, "{first}, then {second}");
    assert_eq!(storage.prune_device_lists(0, storage.head(), 100).await.unwrap().1, 0);
    assert_eq!(storage.device_lists_changed(&alice, since, storage.head()).await.unwrap(), [alice]);
}
