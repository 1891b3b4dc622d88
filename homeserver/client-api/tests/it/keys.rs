//! Keys of devices and users: uploading, asking, claiming, signing.

use std::collections::HashSet;

use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    interactive::password,
    server::{Reply, Session, TestServer},
    signer::{DeviceSigner, Signer, curve25519},
};

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";
const DEVICE_SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

pub(crate) async fn claim(server: &TestServer, asker: &Session, of: &Session) -> Value {
    let body = json!({ "one_time_keys": { &of.user_id: { &of.device_id: "signed_curve25519" } } });
    server.post_as(asker, CLAIM, body).await.ok()["one_time_keys"][&of.user_id][&of.device_id].clone()
}

pub(crate) async fn query(server: &TestServer, asker: &Session, of: &Session) -> Value {
    server.post_as(asker, QUERY, json!({ "device_keys": { &of.user_id: [] } })).await.ok()
}

async fn sync(server: &TestServer, user: &Session, since: Option<&str>) -> Value {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    server.get_as(user, &format!("/_matrix/client/v3/sync?timeout=0{since}")).await.ok()
}

fn next_batch(sync: &Value) -> String {
    sync["next_batch"].as_str().unwrap().to_owned()
}

/// A device with its keys uploaded.
async fn with_keys(server: &TestServer, session: &Session, one_time_keys: u8) -> DeviceSigner {
    let device = DeviceSigner::new(session);
    let body = json!({ "device_keys": device.device_keys(), "one_time_keys": device.one_time_keys(0..one_time_keys) });
    server.post_as(session, UPLOAD, body).await.ok();
    device
}

async fn together(server: &TestServer, one: &Session, other: &Session) -> String {
    let body = json!({ "preset": "private_chat", "invite": [other.user_id] });
    let room = server.post_as(one, "/_matrix/client/v3/createRoom", body).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    server.post_as(other, &format!("/_matrix/client/v3/join/{room}"), json!({})).await.ok();
    room
}

#[tokio::test]
async fn keys_are_handed_out_in_order_and_then_the_fallback() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = with_keys(&server, &alice, 0).await;
    for id in [5, 3, 4] {
        let body = json!({ "one_time_keys": device.one_time_keys([id]) });
        let counts = server.post_as(&alice, UPLOAD, body).await.ok();
        assert_eq!(counts["one_time_key_counts"].as_object().unwrap().len(), 1, "{counts}");
    }
    let mut fallback = json!({ "key": curve25519(99), "fallback": true });
    fallback = device.signer.sign(&alice.user_id, &fallback);
    let body = json!({ "fallback_keys": { "signed_curve25519:fb": fallback } });
    assert_eq!(server.post_as(&alice, UPLOAD, body).await.ok()["one_time_key_counts"]["signed_curve25519"], 3);
    let synced = sync(&server, &alice, None).await;
    assert_eq!(synced["device_one_time_keys_count"]["signed_curve25519"], 3);
    assert_eq!(synced["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    for id in [5, 3, 4] {
        assert_eq!(claim(&server, &bob, &alice).await, device.one_time_keys([id]));
    }
    for _ in 0..2 {
        assert_eq!(claim(&server, &bob, &alice).await, json!({ "signed_curve25519:fb": fallback }));
    }
    let synced = sync(&server, &alice, None).await;
    assert_eq!(synced["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert_eq!(synced["device_unused_fallback_key_types"], json!([]));
}

#[tokio::test]
async fn a_repeated_upload_brings_no_key_back() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = with_keys(&server, &alice, 1).await;
    assert_eq!(claim(&server, &bob, &alice).await, device.one_time_keys([0]));
    let body = json!({ "one_time_keys": device.one_time_keys([0]) });
    assert_eq!(server.post_as(&alice, UPLOAD, body).await.ok()["one_time_key_counts"]["signed_curve25519"], 0);
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
}

#[tokio::test]
async fn s_081_two_hundred_claims_of_a_hundred_keys_get_each_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = with_keys(&server, &alice, 100).await;
    let claims = futures_util::future::join_all((0..200).map(|_| claim(&server, &bob, &alice))).await;
    let claimed: Vec<String> =
        claims.iter().filter_map(Value::as_object).flat_map(|keys| keys.keys().cloned()).collect();
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 100);
    let uploaded = device.one_time_keys(0..100);
    for key in claims.iter().filter_map(Value::as_object) {
        assert!(key.iter().all(|(name, key)| uploaded[name] == *key));
    }
}

#[tokio::test]
async fn s_079_wrong_uploads_are_refused() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = DeviceSigner::new(&alice);
    let right = device.device_keys();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut keys = right.clone();
        change(&mut keys);
        json!({ "device_keys": keys })
    };
    let low_order =
        device.signer.sign(&alice.user_id, &json!({ "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }));
    let wrong = [
        with(&|keys| keys["user_id"] = json!(bob.user_id)),
        with(&|keys| keys["device_id"] = json!("OTHER")),
        with(&|keys| keys["algorithms"] = json!(["m.olm.v1.curve25519-aes-sha2"])),
        with(&|keys| keys["algorithms"] = json!("all")),
        with(&|keys| drop(keys.as_object_mut().unwrap().remove("signatures"))),
        with(&|keys| drop(keys.as_object_mut().unwrap().remove("keys"))),
        with(&|keys| keys["keys"]["ed25519:OTHER"] = keys["keys"][format!("ed25519:{}", alice.device_id)].clone()),
        json!({ "device_keys": [] }),
        json!({ "device_keys": 7 }),
        json!({ "one_time_keys": null }),
        json!({ "one_time_keys": [] }),
        json!({ "fallback_keys": { "signed_curve25519:1": { "key": curve25519(3) } } }),
        json!({ "one_time_keys": { "ed25519:1": device.one_time_key(3) } }),
        json!({ "one_time_keys": { "signed_curve25519:": device.one_time_key(3) } }),
        json!({ "one_time_keys": { "curve25519:1": curve25519(3) } }),
        json!({ "one_time_keys": { "signed_curve25519:1": curve25519(3) } }),
        json!({ "one_time_keys": { "signed_curve25519:1": null } }),
        json!({ "one_time_keys": { "signed_curve25519:1": { "key": curve25519(3) } } }),
        json!({ "one_time_keys": { "signed_curve25519:1": low_order } }),
    ];
    for body in wrong {
        let reply = server.post_as(&alice, UPLOAD, body.clone()).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
    }
    let found = query(&server, &bob, &alice).await;
    assert_eq!(found["device_keys"][&alice.user_id], json!({}), "{found}");
    server.post_as(&alice, UPLOAD, json!({ "device_keys": right })).await.ok();
    // The same id for another key.
    server
        .post_as(&alice, UPLOAD, json!({ "one_time_keys": { "signed_curve25519:1": device.one_time_key(3) } }))
        .await
        .ok();
    let body = json!({ "one_time_keys": { "signed_curve25519:1": device.one_time_key(4) } });
    server.post_as(&alice, UPLOAD, body).await.assert_error(400, "M_INVALID_PARAM");
    // A name that an earlier draft had for fallback keys means nothing, and hides nothing.
    let body = json!({ "org.matrix.msc2732.fallback_keys": { "signed_curve25519:f": "junk" } });
    server.post_as(&alice, UPLOAD, body).await.ok();
    let large = json!({ "one_time_keys": { "signed_curve25519:9": { "key": "x".repeat(9_000) } } });
    server.post_as(&alice, UPLOAD, large).await.assert_error(413, "M_TOO_LARGE");
    let huge = json!({ "one_time_keys": { "signed_curve25519:9": { "key": "x".repeat(10_000_000) } } });
    server.post_as(&alice, UPLOAD, huge).await.assert_error(413, "M_TOO_LARGE");
    let forged = DeviceSigner::new(&alice).one_time_key(5);
    let body = json!({ "one_time_keys": { "signed_curve25519:2": forged } });
    server.post_as(&alice, UPLOAD, body).await.assert_error(400, "M_INVALID_SIGNATURE");
}

#[tokio::test]
async fn devices_are_shown_with_their_names_and_go_with_the_log_out() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = with_keys(&server, &alice, 1).await;
    let path = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    server.put_as(&alice, &path, json!({ "display_name": "Phone" })).await.ok();
    let mut expected = device.device_keys();
    expected["unsigned"] = json!({ "device_display_name": "Phone" });
    assert_eq!(query(&server, &bob, &alice).await["device_keys"][&alice.user_id][&alice.device_id], expected);
    let phone2 = server.log_in(&alice.user_id).await;
    server.post_as(&alice, "/_matrix/client/v3/logout", json!({})).await.ok();
    let found = query(&server, &bob, &phone2).await;
    assert_eq!(found["device_keys"][&alice.user_id], json!({}));
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
    assert_eq!(query(&server, &bob, &bob).await["device_keys"][&bob.user_id], json!({}));
}

/// Uploads master, self-signing and user-signing key.
async fn cross_sign(server: &TestServer, user: &Session) -> [Signer; 3] {
    let keys = [Signer::new(), Signer::new(), Signer::new()];
    server.post_as(user, DEVICE_SIGNING, upload_of(user, &keys)).await.ok();
    keys
}

fn upload_of(user: &Session, [master, self_signing, user_signing]: &[Signer; 3]) -> Value {
    let user_id = &user.user_id;
    json!({
        "master_key": master.cross_signing_key(user_id, "master"),
        "self_signing_key": master.sign(user_id, &self_signing.cross_signing_key(user_id, "self_signing")),
        "user_signing_key": master.sign(user_id, &user_signing.cross_signing_key(user_id, "user_signing")),
    })
}

#[tokio::test]
async fn s_083_other_cross_signing_keys_need_confirmation() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let keys = [Signer::new(), Signer::new(), Signer::new()];
    let upload = upload_of(&alice, &keys);
    let unsigned = json!({ "master_key": upload["master_key"],
        "self_signing_key": keys[1].cross_signing_key(&alice.user_id, "self_signing") });
    server.post_as(&alice, DEVICE_SIGNING, unsigned).await.assert_error(400, "M_INVALID_SIGNATURE");
    let lone = json!({ "self_signing_key": upload["self_signing_key"] });
    server.post_as(&alice, DEVICE_SIGNING, lone).await.assert_error(400, "M_MISSING_PARAM");
    server.post_as(&bob, DEVICE_SIGNING, upload.clone()).await.assert_error(400, "M_INVALID_PARAM");
    let wrong_usage = json!({ "master_key": keys[0].cross_signing_key(&alice.user_id, "self_signing") });
    server.post_as(&alice, DEVICE_SIGNING, wrong_usage).await.assert_error(400, "M_INVALID_PARAM");
    // Devices and keys are named in one space.
    let named = |device_id: &str| {
        let mut login = crate::server::login(&alice.user_id, crate::server::PASSWORD);
        login["device_id"] = json!(device_id);
        login
    };
    for key in &keys[..2] {
        server.post("/_matrix/client/v3/login", named(&key.public)).await.ok();
        server.post_as(&alice, DEVICE_SIGNING, upload.clone()).await.assert_error(403, "M_FORBIDDEN");
        let path = format!("/_matrix/client/v3/devices/{}", crate::server::encode(&key.public));
        let body = json!({ "auth": password(&alice.user_id) });
        server.send(Method::DELETE, &path, Some(&alice.token), &body).await.ok();
    }
    // The first ones, and the same again.
    for _ in 0..2 {
        server.post_as(&alice, DEVICE_SIGNING, upload.clone()).await.ok();
    }
    let token = server.post("/_matrix/client/v3/login", named(&keys[1].public)).await.ok()["access_token"].clone();
    let (token, device_id) = (token.as_str().unwrap().to_owned(), keys[1].public.clone());
    let disguised = Session { device_id, token, ..alice.clone() };
    let body = json!({ "device_keys": DeviceSigner::new(&disguised).device_keys() });
    server.post_as(&disguised, UPLOAD, body).await.assert_error(403, "M_FORBIDDEN");
    let mut other = upload_of(&alice, &[Signer::new(), Signer::new(), Signer::new()]);
    let refused = server.post_as(&alice, DEVICE_SIGNING, other.clone()).await;
    assert_eq!(refused.status, 401, "{}", refused.text);
    assert!(refused.body["flows"].is_array(), "{}", refused.text);
    let found = query(&server, &bob, &alice).await;
    assert_eq!(found["master_keys"][&alice.user_id]["keys"], upload["master_key"]["keys"]);
    assert_eq!(found["user_signing_keys"], Value::Null, "only their owner sees these");
    assert!(query(&server, &alice, &alice).await["user_signing_keys"][&alice.user_id].is_object());
    other["auth"] = password(&alice.user_id);
    server.post_as(&alice, DEVICE_SIGNING, other.clone()).await.ok();
    let found = query(&server, &bob, &alice).await;
    assert_eq!(found["master_keys"][&alice.user_id]["keys"], other["master_key"]["keys"]);
}

#[tokio::test]
async fn s_082_only_signatures_that_fit_are_taken() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (a_device, b_device) = (with_keys(&server, &alice, 0).await, with_keys(&server, &bob, 0).await);
    let [_, a_self, a_user] = cross_sign(&server, &alice).await;
    let [b_master, ..] = cross_sign(&server, &bob).await;
    let strip = |mut object: Value| {
        object.as_object_mut().unwrap().remove("signatures");
        object
    };
    let master_of_bob = b_master.cross_signing_key(&bob.user_id, "master");
    let signed_device = a_self.sign(&alice.user_id, &strip(a_device.device_keys()));
    let signed_bob = a_user.sign(&alice.user_id, &master_of_bob);
    let body = json!({
        &alice.user_id: {
            &alice.device_id: signed_device,
            "UNKNOWN": signed_device,
        },
        &bob.user_id: {
            &b_master.public: signed_bob,
            &bob.device_id: a_user.sign(&alice.user_id, &strip(b_device.device_keys())),
        },
    });
    let failures = server.post_as(&alice, SIGNATURES, body).await.ok()["failures"].clone();
    assert_eq!(failures[&alice.user_id]["UNKNOWN"]["errcode"], "M_NOT_FOUND", "{failures}");
    assert_eq!(failures[&bob.user_id][&bob.device_id]["errcode"], "M_NOT_FOUND", "{failures}");
    assert_eq!(failures[&alice.user_id].as_object().unwrap().len(), 1, "{failures}");
    assert_eq!(failures[&bob.user_id].as_object().unwrap().len(), 1, "{failures}");
    // By the wrong key, and of something else than is stored.
    let forged = Signer::new().sign(&alice.user_id, &master_of_bob);
    let mut other = strip(a_device.device_keys());
    other["algorithms"] = json!([]);
    let body = json!({
        &alice.user_id: { &alice.device_id: a_self.sign(&alice.user_id, &other) },
        &bob.user_id: { &b_master.public: forged },
    });
    let failures = server.post_as(&alice, SIGNATURES, body).await.ok()["failures"].clone();
    for (user, id) in [(&alice, &alice.device_id), (&bob, &b_master.public)] {
        assert_eq!(failures[&user.user_id][id]["errcode"], "M_INVALID_SIGNATURE", "{failures}");
    }
    let by_alice = |found: &Value| found["master_keys"][&bob.user_id]["signatures"][&alice.user_id].clone();
    let key_id = format!("ed25519:{}", a_user.public);
    assert!(by_alice(&query(&server, &alice, &bob).await)[&key_id].is_string());
    assert_eq!(by_alice(&query(&server, &bob, &bob).await), Value::Null, "whom one trusts is nobody else's business");
    let device = query(&server, &bob, &alice).await["device_keys"][&alice.user_id][&alice.device_id].clone();
    let signatures = device["signatures"][&alice.user_id].as_object().unwrap();
    assert_eq!(signatures.len(), 2, "{device}");
    assert!(signatures.contains_key(&format!("ed25519:{}", a_self.public)), "{device}");
}

#[tokio::test]
async fn device_lists_follow_keys_and_memberships() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let mut since = next_batch(&sync(&server, &alice, None).await);
    let before = since.clone();
    let room = together(&server, &alice, &bob).await;
    let mut expect = async |changed: &[&Session], left: &[&Session]| {
        let synced = sync(&server, &alice, Some(&since)).await;
        let ids = |users: &[&Session]| users.iter().map(|user| user.user_id.clone()).collect::<Vec<_>>();
        let told =
            |list: &Value| serde_json::from_value::<Option<Vec<String>>>(list.clone()).unwrap().unwrap_or_default();
        assert_eq!(told(&synced["device_lists"]["changed"]), ids(changed), "{synced}");
        assert_eq!(told(&synced["device_lists"]["left"]), ids(left), "{synced}");
        since = next_batch(&synced);
    };
    expect(&[&alice, &bob], &[]).await;
    with_keys(&server, &bob, 0).await;
    with_keys(&server, &carol, 0).await;
    expect(&[&bob], &[]).await;
    server.say(&bob, &room, "t1", "hello").await;
    expect(&[], &[]).await;
    cross_sign(&server, &bob).await;
    expect(&[&bob], &[]).await;
    let path = format!("/_matrix/client/v3/keys/changes?from={before}&to={since}");
    let changes = server.get_as(&alice, &path).await.ok();
    assert_eq!(changes, json!({ "changed": [alice.user_id, bob.user_id], "left": [] }));
    let mut expect = async |changed: &[&Session], left: &[&Session]| {
        let synced = sync(&server, &alice, Some(&since)).await;
        let ids = |users: &[&Session]| users.iter().map(|user| user.user_id.clone()).collect::<Vec<_>>();
        let told =
            |list: &Value| serde_json::from_value::<Option<Vec<String>>>(list.clone()).unwrap().unwrap_or_default();
        assert_eq!(told(&synced["device_lists"]["changed"]), ids(changed), "{synced}");
        assert_eq!(told(&synced["device_lists"]["left"]), ids(left), "{synced}");
        since = next_batch(&synced);
    };
    server.post_as(&bob, &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.ok();
    expect(&[], &[&bob]).await;
    with_keys(&server, &bob, 0).await;
    expect(&[], &[]).await;
    let room = together(&server, &bob, &alice).await;
    expect(&[&alice, &bob], &[]).await;
    server.post_as(&alice, &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.ok();
    expect(&[], &[&bob]).await;
}

#[tokio::test]
async fn s_074_a_queue_and_a_message_are_only_so_large() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let large = json!({ &bob.user_id: { "*": { "n": 1, "pad": "x".repeat(70_000) } } });
    send(&server, &alice, "large", &large).await.assert_error(413, "M_TOO_LARGE");
    let (user_id, device_id) = (bob.user_id.as_str().try_into().unwrap(), bob.device_id.as_str().into());
    let message = |n: u64| rules::Change::ToDevice {
        user_id: ruma::OwnedUserId::clone(&user_id),
        device_id: ruma::OwnedDeviceId::clone(&device_id),
        sender: ruma::owned_user_id!("@carol:localhost"),
        event_type: "m.test".to_owned(),
        content: serde_json::value::to_raw_value(&json!({ "n": n })).unwrap(),
    };
    let changes = (0..10_000).map(message).collect();
    server.engine.storage().commit(storage::Submission { room: None, changes }).await.unwrap();
    send(&server, &alice, "t1", &json!({ &bob.user_id: { "*": { "n": 10_000 } } })).await.ok();
    let mut since = None;
    let mut seen = Vec::new();
    loop {
        let synced = sync(&server, &bob, since.as_deref()).await;
        let page = to_device(&synced);
        assert!(page.len() <= 100);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
        since = Some(next_batch(&synced));
    }
    assert!(seen.into_iter().eq(0..10_000), "what waited is there, in order, and nothing that came when it was full");
    send(&server, &alice, "t2", &json!({ &bob.user_id: { "*": { "n": 7 } } })).await.ok();
    assert_eq!(to_device(&sync(&server, &bob, since.as_deref()).await), [7], "there is room again");
}

fn to_device(sync: &Value) -> Vec<u64> {
    let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

pub(crate) async fn send(server: &TestServer, sender: &Session, transaction_id: &str, messages: &Value) -> Reply {
    let path = format!("/_matrix/client/v3/sendToDevice/m.test/{transaction_id}");
    server.send(Method::PUT, &path, Some(&sender.token), &json!({ "messages": messages })).await
}

#[tokio::test]
async fn s_074_messages_come_in_order_until_they_are_acknowledged() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for n in 0..250 {
        send(&server, &alice, &format!("t{n}"), &json!({ &bob.user_id: { &bob.device_id: { "n": n } } })).await.ok();
    }
    // The same again does nothing.
    send(&server, &alice, "t7", &json!({ &bob.user_id: { &bob.device_id: { "n": 999 } } })).await.ok();
    let first = sync(&server, &bob, None).await;
    assert_eq!(to_device(&first), (0..100).collect::<Vec<_>>());
    assert_eq!(first["to_device"]["events"][0]["sender"], alice.user_id);
    assert_eq!(first["to_device"]["events"][0]["type"], "m.test");
    let since = next_batch(&first);
    for _ in 0..2 {
        assert_eq!(to_device(&sync(&server, &bob, Some(&since)).await), (100..200).collect::<Vec<_>>());
    }
    assert_eq!(to_device(&sync(&server, &bob, None).await), (100..200).collect::<Vec<_>>(), "the first are gone");
    let since = next_batch(&sync(&server, &bob, Some(&since)).await);
    let last = sync(&server, &bob, Some(&since)).await;
    assert_eq!(to_device(&last), (200..250).collect::<Vec<_>>());
    let last = sync(&server, &bob, Some(&next_batch(&last))).await;
    assert!(to_device(&last).is_empty());
    send(&server, &alice, "last", &json!({ &bob.user_id: { &bob.device_id: { "n": 250 } } })).await.ok();
    assert_eq!(to_device(&sync(&server, &bob, Some(&next_batch(&last))).await), [250]);
}

#[tokio::test]
async fn s_073_messages_go_to_devices_that_are_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let bob2 = server.log_in(&bob.user_id).await;
    let messages = json!({
        &bob.user_id: { "*": { "n": 1 }, "UNKNOWN": { "n": 2 } },
        "@nobody:example.org": { "*": { "n": 3 } },
    });
    send(&server, &alice, "t", &messages).await.ok();
    for device in [&bob, &bob2] {
        assert_eq!(to_device(&sync(&server, device, None).await), [1]);
    }
    assert!(to_device(&sync(&server, &alice, None).await).is_empty());
    // A device with the id of one that is gone gets nothing of what was for that one.
    server.post_as(&bob2, "/_matrix/client/v3/logout", json!({})).await.ok();
    let mut login = crate::server::login(&bob.user_id, crate::server::PASSWORD);
    login["device_id"] = json!(bob2.device_id);
    let token = server.post("/_matrix/client/v3/login", login).await.ok()["access_token"].clone();
    let bob2 = Session { token: token.as_str().unwrap().to_owned(), ..bob2 };
    assert!(to_device(&sync(&server, &bob2, None).await).is_empty());
}

#[tokio::test]
async fn who_was_away_between_two_syncs_is_looked_at_again() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = together(&server, &alice, &bob).await;
    let start = next_batch(&sync(&server, &alice, None).await);
    server.post_as(&bob, &format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.ok();
    server
        .post_as(&alice, &format!("/_matrix/client/v3/rooms/{room}/invite"), json!({ "user_id": bob.user_id }))
        .await
        .ok();
    server.post_as(&bob, &format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await.ok();
    let synced = sync(&server, &alice, Some(&start)).await;
    assert_eq!(synced["device_lists"]["changed"], json!([bob.user_id]), "{synced}");
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    let start = next_batch(&synced);
    server.put_as(&bob, &path, json!({ "displayname": "Bobby" })).await.ok();
    let synced = sync(&server, &alice, Some(&start)).await;
    assert!(synced["device_lists"]["changed"].is_null(), "a new name is no absence: {synced}");
}
