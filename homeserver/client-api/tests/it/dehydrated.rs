//! Devices that are left behind.

use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    keys::{claim, query, send},
    server::{Reply, Session, TestServer},
    signer::DeviceSigner,
};

const DEVICE: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

/// A device of a user by that name, which nobody is logged in with.
fn dehydrated(user: &Session, device_id: &str) -> Session {
    Session { device_id: device_id.to_owned(), ..user.clone() }
}

fn upload(device: &Session) -> Value {
    let signer = DeviceSigner::new(device);
    let mut fallback = signer.one_time_key(77);
    fallback["fallback"] = json!(true);
    json!({
        "device_id": device.device_id,
        "device_data": { "algorithm": "org.matrix.msc3814.v2", "device_pickle": "secret", "nonce": "n" },
        "initial_device_display_name": "Dehydrated",
        "device_keys": signer.device_keys(),
        "one_time_keys": signer.one_time_keys(0..2),
        "fallback_keys": { "signed_curve25519:fb": signer.one_time_key(77) },
    })
}

async fn put(server: &TestServer, device: &Session) {
    let told = server.put_as(device, DEVICE, upload(device)).await.ok();
    assert_eq!(told, json!({ "device_id": device.device_id }));
}

async fn delete(server: &TestServer, user: &Session) -> Reply {
    server.send(Method::DELETE, DEVICE, Some(&user.token), &json!({})).await
}

fn numbers(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().unwrap().iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_device_that_is_left_behind_receives_until_another_takes_its_place() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    server.get_as(&alice, DEVICE).await.assert_error(404, "M_NOT_FOUND");
    delete(&server, &alice).await.assert_error(404, "M_NOT_FOUND");
    let device = dehydrated(&alice, "B+ack/up");
    put(&server, &device).await;
    let found = server.get_as(&alice, DEVICE).await.ok();
    assert_eq!(found["device_id"], device.device_id);
    assert_eq!(found["device_data"], upload(&device)["device_data"]);
    let shown = &query(&server, &bob, &alice).await["device_keys"][&alice.user_id][&device.device_id];
    assert_eq!(shown["unsigned"]["device_display_name"], "Dehydrated");
    for expected in ["signed_curve25519:000", "signed_curve25519:001", "signed_curve25519:fb"] {
        let claimed = claim(&server, &bob, &device).await;
        assert!(claimed[expected].is_object(), "{claimed}");
    }
    // It receives, while nobody is logged in any more, and keeps what it was asked for.
    server.post_as(&alice, "/_matrix/client/v3/logout", json!({})).await.ok();
    for n in 0..5 {
        send(&server, &bob, &format!("t{n}"), &json!({ &alice.user_id: { "*": { "n": n } } })).await.ok();
    }
    let alice = server.log_in(&alice.user_id).await;
    let events = format!("{DEVICE}/B%2Back%2Fup/events");
    for _ in 0..2 {
        let first = server.get_as(&alice, &format!("{events}?limit=3")).await.ok();
        assert_eq!(numbers(&first), [0, 1, 2]);
        let from = first["next_batch"].as_str().unwrap();
        let last = server.get_as(&alice, &format!("{events}?limit=3&from={from}")).await.ok();
        assert_eq!((numbers(&last), &last["next_batch"]), (vec![3, 4], &Value::Null));
    }
    // As earlier drafts have it, there is an end without events.
    let all = server.post_as(&alice, &events, json!({})).await.ok();
    assert_eq!(numbers(&all), [0, 1, 2, 3, 4]);
    let none = server.post_as(&alice, &events, json!({ "next_batch": all["next_batch"] })).await.ok();
    assert!(numbers(&none).is_empty() && none["next_batch"].is_string(), "{none}");
    server.get_as(&alice, &format!("{events}?from=x")).await.assert_error(400, "M_INVALID_PARAM");
    // Another one takes its place, and nothing of it stays. The same once more is the same: no key is handed out twice.
    let next = dehydrated(&alice, "other");
    let body = upload(&next);
    for expected in ["signed_curve25519:000", "signed_curve25519:001"] {
        server.put_as(&alice, DEVICE, body.clone()).await.ok();
        let found = query(&server, &bob, &alice).await["device_keys"][&alice.user_id].clone();
        let devices: Vec<_> = found.as_object().unwrap().keys().cloned().collect();
        assert_eq!(devices, ["other"]);
        assert_eq!(claim(&server, &bob, &device).await, Value::Null);
        assert!(claim(&server, &bob, &next).await[expected].is_object());
        server.get_as(&alice, &events).await.assert_error(403, "M_FORBIDDEN");
    }
    let mut too_many = body;
    too_many["one_time_keys"] = (0..1_001).map(|n| (format!("signed_curve25519:{n}"), json!({}))).collect();
    server.put_as(&alice, DEVICE, too_many).await.assert_error(413, "M_TOO_LARGE");
    assert_eq!(server.get_as(&alice, DEVICE).await.ok()["device_id"], "other", "it stays when the next is refused");
    assert_eq!(delete(&server, &alice).await.ok(), json!({ "device_id": "other" }));
    server.get_as(&alice, DEVICE).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(query(&server, &bob, &alice).await["device_keys"][&alice.user_id], json!({}));
}

#[tokio::test]
async fn s_085_dehydrated_devices_are_checked_and_one_s_own_and_go_with_the_account() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let device = dehydrated(&alice, "AWAY");
    let right = upload(&device);
    let refused = [
        ("/device_id", json!("OTHER"), 400),
        ("/device_id", json!(""), 400),
        ("/device_id", Value::Null, 400),
        ("/device_data", json!("secret"), 400),
        ("/device_data", json!({}), 400),
        ("/device_data", json!({ "algorithm": "x", "device_pickle": "x".repeat(200_000) }), 413),
        ("/device_keys", Value::Null, 400),
        ("/device_keys", upload(&dehydrated(&bob, "AWAY"))["device_keys"].clone(), 400),
        ("/device_keys/signatures", json!({}), 400),
        ("/device_keys/algorithms", json!(["forged"]), 400),
        ("/one_time_keys", upload(&device)["one_time_keys"].clone(), 400),
        ("/fallback_keys/signed_curve25519:fb/key", json!("AAAA"), 400),
    ];
    for (field, value, status) in refused {
        let mut body = right.clone();
        *body.pointer_mut(field).unwrap() = value;
        let reply = server.put_as(&alice, DEVICE, body).await;
        assert_eq!(reply.status, status, "{field}: {}", reply.text);
    }
    server.get_as(&alice, DEVICE).await.assert_error(404, "M_NOT_FOUND");
    // A device that somebody is logged in with is none to leave behind.
    let in_use = upload(&alice);
    server.put_as(&alice, DEVICE, in_use).await.assert_error(400, "M_INVALID_PARAM");
    put(&server, &device).await;
    // It is nobody else's.
    server.get_as(&bob, DEVICE).await.assert_error(404, "M_NOT_FOUND");
    server.get_as(&bob, &format!("{DEVICE}/AWAY/events")).await.assert_error(403, "M_FORBIDDEN");
    server.post_as(&bob, &format!("{DEVICE}/AWAY/events"), json!({})).await.assert_error(403, "M_FORBIDDEN");
    delete(&server, &bob).await.assert_error(404, "M_NOT_FOUND");
    let own = format!("{DEVICE}/{}/events", alice.device_id);
    server.get_as(&alice, &own).await.assert_error(403, "M_FORBIDDEN");
    // Whoever logs out everywhere, or for good, leaves nothing behind.
    server.post_as(&alice, "/_matrix/client/v3/logout/all", json!({})).await.ok();
    let alice = server.log_in(&alice.user_id).await;
    server.get_as(&alice, DEVICE).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(query(&server, &bob, &alice).await["device_keys"][&alice.user_id], json!({}));
    put(&server, &dehydrated(&alice, "AGAIN")).await;
    let auth = crate::interactive::password(&alice.user_id);
    server.post_as(&alice, "/_matrix/client/v3/account/deactivate", json!({ "auth": auth })).await.ok();
    let user_id: &ruma::UserId = alice.user_id.as_str().try_into().unwrap();
    assert!(server.engine.storage().dehydrated_device(user_id).await.unwrap().is_none());
    assert!(server.engine.storage().device_ids(&[user_id.to_owned()]).await.unwrap().is_empty());
    assert_eq!(claim(&server, &bob, &dehydrated(&alice, "AGAIN")).await, Value::Null);
}

#[tokio::test]
async fn who_logs_in_with_it_has_it_back() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    put(&server, &dehydrated(&alice, "AWAY")).await;
    let mut login = crate::server::login(&alice.user_id, crate::server::PASSWORD);
    login["device_id"] = json!("AWAY");
    let token = server.post("/_matrix/client/v3/login", login).await.ok()["access_token"].clone();
    let back = Session { token: token.as_str().unwrap().to_owned(), ..dehydrated(&alice, "AWAY") };
    server.get_as(&alice, DEVICE).await.assert_error(404, "M_NOT_FOUND");
    put(&server, &dehydrated(&alice, "NEXT")).await;
    server.get_as(&back, "/_matrix/client/v3/account/whoami").await.ok();
}
