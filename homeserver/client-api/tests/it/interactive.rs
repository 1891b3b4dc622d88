//! Confirming actions with a password.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{PASSWORD, Session, Setup, TestServer, login};

const PATH: &str = "/_matrix/client/v3/account/password";

/// `auth` with the right password, without a session.
pub(crate) fn password(user_id: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user_id },
        "password": PASSWORD,
    })
}

fn in_session(user: &Session, session: &Value) -> Value {
    let mut auth = password(&user.user_id);
    auth["session"] = session.clone();
    auth
}

async fn session(server: &TestServer, user: &Session, path: &str, body: Value) -> Value {
    let challenge = server.post_as(user, path, body).await;
    assert_eq!(challenge.status, 401, "{}", challenge.text);
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.password"] }]));
    assert!(challenge.body["session"].is_string());
    assert_eq!(challenge.errcode(), "");
    challenge.body["session"].clone()
}

fn change(auth: &Value) -> Value {
    json!({ "new_password": "another good password", "auth": auth })
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let phone = server.log_in("alice").await;
    let session = session(&server, &alice, PATH, json!({ "new_password": "another good password" })).await;
    let mut wrong = in_session(&alice, &session);
    wrong["password"] = json!("wrong");
    let refusal = server.post_as(&alice, PATH, change(&wrong)).await;
    refusal.assert_error(401, "M_FORBIDDEN");
    assert_eq!(refusal.body["session"], session, "the session goes on");
    server.post_as(&alice, PATH, change(&in_session(&alice, &session))).await.ok();
    server.get_as(&alice, "/_matrix/client/v3/account/whoami").await.ok();
    server.get_as(&phone, "/_matrix/client/v3/account/whoami").await.assert_error(401, "M_UNKNOWN_TOKEN");
    server.post("/_matrix/client/v3/login", login("alice", PASSWORD)).await.assert_error(403, "M_FORBIDDEN");
    server.post("/_matrix/client/v3/login", login("alice", "another good password")).await.ok();
}

#[tokio::test]
async fn s_113_a_session_is_for_one_user_endpoint_and_body() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let alice_elsewhere = server.log_in("alice").await;
    let body = json!({ "new_password": "another good password" });
    let session = session(&server, &alice, PATH, body).await;
    let auth = in_session(&alice, &session);
    let refused = async |user: &Session, method: Method, path: &str, body: Value| {
        let reply = server.send(method, path, Some(&user.token), &body).await;
        assert_eq!((reply.status, reply.errcode()), (401, "M_FORBIDDEN"), "{path} {body}: {}", reply.text);
        assert_ne!(reply.body["session"], session, "{path} {body}");
    };
    // Another user, with their own right password.
    refused(&bob, Method::POST, PATH, change(&in_session(&bob, &session))).await;
    // Another device.
    refused(&alice_elsewhere, Method::POST, PATH, change(&auth)).await;
    // Another endpoint, another method.
    refused(&alice, Method::POST, "/_matrix/client/v3/account/deactivate", json!({ "auth": auth })).await;
    refused(&alice, Method::POST, "/_matrix/client/r0/account/password", change(&auth)).await;
    let device = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    refused(&alice, Method::DELETE, &device, change(&auth)).await;
    // Another body.
    let other = json!({ "new_password": "a password of the attacker", "auth": auth });
    refused(&alice, Method::POST, PATH, other).await;
    let more = json!({ "new_password": "another good password", "logout_devices": false, "auth": auth });
    refused(&alice, Method::POST, PATH, more).await;
    // A session that never was.
    refused(&alice, Method::POST, PATH, change(&in_session(&alice, &json!("nothing")))).await;
    // After all that it is still good for what it was made for, once.
    server.post_as(&alice, PATH, change(&auth)).await.ok();
    let mut again = auth.clone();
    again["password"] = json!("another good password");
    refused(&alice, Method::POST, PATH, change(&again)).await;
    server.get_as(&bob, "/_matrix/client/v3/account/whoami").await.ok();
}

#[tokio::test]
async fn s_113_a_session_ends_after_ten_minutes() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let session = session(&server, &alice, PATH, json!({ "new_password": "another good password" })).await;
    server.clock.advance(Duration::from_mins(10));
    let late = server.post_as(&alice, PATH, change(&in_session(&alice, &session))).await;
    late.assert_error(401, "M_FORBIDDEN");
    assert_ne!(late.body["session"], session);
}

#[tokio::test]
async fn s_113_other_stages_and_other_names_do_not_count() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let mut misnamed = password(&alice.user_id);
    misnamed["type"] = json!("m.login.dummy");
    let wrong = [
        misnamed,
        json!({ "type": "m.login.dummy" }),
        json!({ "type": "m.login.password" }),
        json!({ "type": "m.login.password", "password": PASSWORD }),
        json!({ "type": "m.login.password", "password": PASSWORD, "identifier": { "type": "m.id.phone", "country": "GB", "phone": "1" } }),
    ];
    for auth in wrong {
        let reply = server.post_as(&alice, PATH, change(&auth)).await;
        assert_eq!((reply.status, reply.errcode()), (401, "M_FORBIDDEN"), "{auth}: {}", reply.text);
    }
    for other in [&*bob.user_id, "@alice:evil.example"] {
        server.post_as(&alice, PATH, change(&password(other))).await.assert_error(403, "M_FORBIDDEN");
    }
    server.post_as(&alice, PATH, change(&json!("alice"))).await.assert_error(400, "M_BAD_JSON");
    // As older clients write it.
    let legacy = json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD });
    server.post_as(&alice, PATH, change(&legacy)).await.ok();
}

#[tokio::test]
async fn s_114_passwords_are_nowhere_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start_as(Setup { directory: Some(directory.path()), ..Setup::default() }).await;
    let registration = json!({ "username": "bob", "password": "a password in waiting" });
    assert_eq!(server.post("/_matrix/client/v3/register", registration).await.status, 401);
    let alice = server.register("alice").await;
    session(&server, &alice, PATH, json!({ "new_password": "another good password" })).await;
    server.post_as(&alice, PATH, change(&password(&alice.user_id))).await.ok();
    let mut files = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        for secret in [PASSWORD, "a password in waiting", "another good password", &alice.token] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret}");
        }
    }
    assert!(files > 0);
}
