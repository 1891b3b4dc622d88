//! What ends sessions, and what a stolen token is good for.

use std::time::Duration;

use axum::http::Method;
use engine::{AccountSettings, PasswordHashing};
use serde_json::{Value, json};
use storage::NewAccount;

use crate::{
    interactive::password,
    server::{PASSWORD, Session, Setup, TestServer, login},
};

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const REFRESH: &str = "/_matrix/client/v3/refresh";

/// Logs in a device that can refresh its token.
async fn refreshable(server: &TestServer, user: &str) -> Value {
    let mut body = login(user, PASSWORD);
    body["refresh_token"] = json!(true);
    server.post("/_matrix/client/v3/login", body).await.ok()
}

async fn is_good(server: &TestServer, session: &Value) -> bool {
    let token = session["access_token"].as_str().unwrap();
    server.send(Method::GET, WHOAMI, Some(token), &Value::Null).await.status == 200
}

async fn refresh(server: &TestServer, session: &Value) -> crate::server::Reply {
    server.post(REFRESH, json!({ "refresh_token": session["refresh_token"] })).await
}

#[tokio::test]
async fn s_110_passwords_that_cannot_be_are_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for length in [0, 513, 900_000] {
        let text = "x".repeat(length);
        server.post("/_matrix/client/v3/login", login("alice", &text)).await.assert_error(403, "M_FORBIDDEN");
        let body = json!({ "new_password": text, "auth": password(&alice.user_id) });
        assert_eq!(server.post_as(&alice, "/_matrix/client/v3/account/password", body).await.status, 400, "{length}");
        let body = json!({ "username": "bob", "password": text, "auth": { "type": "m.login.dummy" } });
        assert_eq!(server.post("/_matrix/client/v3/register", body).await.status, 400, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_110_a_thousand_logins_at_once_hold_up_nobody_else() {
    let setup = Setup { password_hashing: PasswordHashing::Strong, ..Setup::default() };
    let server = std::sync::Arc::new(TestServer::start_as(setup).await);
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let logins: Vec<_> = (0..1_000)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.post("/_matrix/client/v3/login", login("alice", "wrong")).await })
        })
        .collect();
    for number in 0..10 {
        server.say(&alice, &room_id, &number.to_string(), "still here").await;
    }
    assert!(logins.iter().any(|login| !login.is_finished()), "the messages had to wait for all of them");
    for login in logins {
        let reply = login.await.unwrap();
        assert!([403, 503].contains(&reply.status), "{}", reply.text);
    }
    server.log_in(&alice.user_id).await;
}

/// What is typed is compared byte by byte: two ways to write the same letter are two passwords.
#[tokio::test]
async fn s_110_passwords_are_not_normalised() {
    let server = TestServer::start().await;
    let (composed, decomposed) = ("p\u{e4}ssw\u{f6}rter", "pa\u{308}sswo\u{308}rter");
    let body = json!({ "username": "bob", "password": composed, "auth": { "type": "m.login.dummy" } });
    server.post("/_matrix/client/v3/register", body).await.ok();
    server.post("/_matrix/client/v3/login", login("bob", composed)).await.ok();
    server.post("/_matrix/client/v3/login", login("bob", decomposed)).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn s_112_who_has_no_password_has_none_that_is_right() {
    let accounts = AccountSettings { login_tokens: true, ..AccountSettings::default() };
    let server = TestServer::start_as(Setup { accounts, ..Setup::default() }).await;
    let user_id: ruma::OwnedUserId = "@ghost:example.org".try_into().unwrap();
    let account = NewAccount {
        user_id: user_id.clone(),
        password_hash: None,
        display_name: None,
        created_ts: 0,
        guest: false,
        admin: false,
    };
    server.engine.storage().create_account(account, None).await.unwrap();
    let device = engine::NewDevice { device_id: None, display_name: None, wants_refresh_token: false };
    let token = server.engine.create_login_token(&user_id).await.unwrap().0;
    let session = server.engine.login_token(&token, device).await.unwrap();
    let ghost = Session {
        user_id: user_id.to_string(),
        device_id: session.device_id.to_string(),
        token: session.access_token.clone(),
    };
    for guess in ["", "*", "!", "x", "null", "None", "\0", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$"] {
        let reply = server.post("/_matrix/client/v3/login", login("ghost", guess)).await;
        assert!([400, 403].contains(&reply.status), "{guess:?}: {}", reply.text);
        let mut auth = password(&ghost.user_id);
        auth["password"] = json!(guess);
        for path in ["account/password", "account/deactivate"] {
            let body = json!({ "new_password": "a good new password", "auth": auth });
            let reply = server.post_as(&ghost, &format!("/_matrix/client/v3/{path}"), body).await;
            assert!([400, 401, 403].contains(&reply.status), "{guess:?} {path}: {}", reply.text);
        }
    }
    server.get_as(&ghost, WHOAMI).await.ok();
}

#[tokio::test]
async fn s_115_a_stolen_token_does_not_take_the_account_over() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let phone = server.log_in("alice").await;
    let device = format!("devices/{}", phone.device_id);
    let attempts = [
        (Method::POST, "account/password", json!({ "new_password": "the thief's own" })),
        (Method::POST, "account/deactivate", json!({})),
        (Method::POST, "account/3pid/add", json!({ "sid": "s", "client_secret": "c" })),
        (Method::POST, "delete_devices", json!({ "devices": [phone.device_id] })),
        (Method::DELETE, &*device, json!({})),
    ];
    for (method, path, body) in attempts {
        for auth in [None, Some(json!({ "type": "m.login.dummy" })), Some(json!({ "type": "m.login.token" }))] {
            let mut body = body.clone();
            if let Some(auth) = auth {
                body["auth"] = auth;
            }
            let path = format!("/_matrix/client/v3/{path}");
            let reply = server.send(method.clone(), &path, Some(&alice.token), &body).await;
            assert_eq!(reply.status, 401, "{path}: {}", reply.text);
            assert!(reply.body["flows"].is_array(), "{path}: {}", reply.text);
        }
    }
    server.get_as(&phone, WHOAMI).await.ok();
    server.post("/_matrix/client/v3/login", login("alice", PASSWORD)).await.ok();
}

#[tokio::test]
async fn s_117_a_new_password_ends_the_other_sessions_unless_told_otherwise() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let phone = refreshable(&server, "alice").await;
    let path = "/_matrix/client/v3/account/password";
    let body = json!({ "new_password": PASSWORD, "logout_devices": false, "auth": password(&alice.user_id) });
    server.post_as(&alice, path, body).await.ok();
    assert!(is_good(&server, &phone).await);
    let body = json!({ "new_password": "another good password", "auth": password(&alice.user_id) });
    server.post_as(&alice, path, body).await.ok();
    assert!(!is_good(&server, &phone).await);
    refresh(&server, &phone).await.assert_error(401, "M_UNKNOWN_TOKEN");
    server.get_as(&alice, WHOAMI).await.ok();
}

#[tokio::test]
async fn s_120_a_refresh_token_is_spent_once() {
    let server = TestServer::start().await;
    server.register("alice").await;
    let first = refreshable(&server, "alice").await;
    let other_device = refreshable(&server, "alice").await;
    // The old pair is good until the new one is used: the answer may have got lost.
    let lost = refresh(&server, &first).await.ok();
    assert!(is_good(&server, &first).await);
    let second = refresh(&server, &first).await.ok();
    assert!(!is_good(&server, &lost).await, "what was never used is taken back");
    assert!(is_good(&server, &second).await);
    assert!(!is_good(&server, &first).await, "the old pair dies with the first use of the new one");
    // Spent before, so in two hands: all of the device's tokens are revoked, and no other's.
    refresh(&server, &first).await.assert_error(401, "M_UNKNOWN_TOKEN");
    assert!(!is_good(&server, &second).await);
    refresh(&server, &second).await.assert_error(401, "M_UNKNOWN_TOKEN");
    assert!(is_good(&server, &other_device).await);
}

#[tokio::test]
async fn s_120_two_refreshes_at_once_leave_one_family() {
    let server = TestServer::start().await;
    server.register("alice").await;
    let session = refreshable(&server, "alice").await;
    let (one, other) = tokio::join!(refresh(&server, &session), refresh(&server, &session));
    let mut good = 0;
    for reply in [one, other] {
        good += usize::from(reply.status == 200 && is_good(&server, &reply.body).await);
    }
    assert_eq!(good, 1);
    server.clock.advance(Duration::from_secs(3_601));
    let expired = server.send(Method::GET, WHOAMI, session["access_token"].as_str(), &Value::Null).await;
    expired.assert_error(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn s_121_no_live_token_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let accounts = AccountSettings { login_tokens: true, ..AccountSettings::default() };
    let setup = Setup { directory: Some(directory.path()), accounts, ..Setup::default() };
    let server = TestServer::start_as(setup).await;
    let alice = server.register("alice").await;
    let phone = refreshable(&server, "alice").await;
    let next = refresh(&server, &phone).await.ok();
    let user_id: ruma::OwnedUserId = alice.user_id.as_str().try_into().unwrap();
    let login_token = server.engine.create_login_token(&user_id).await.unwrap().0;
    let path = format!("/_matrix/client/v3/user/{}/openid/request_token", alice.user_id);
    let open_id = server.post_as(&alice, &path, json!({})).await.ok();
    let mut secrets = vec![alice.token, login_token, open_id["access_token"].as_str().unwrap().to_owned()];
    for session in [&phone, &next] {
        secrets.extend(["access_token", "refresh_token"].map(|name| session[name].as_str().unwrap().to_owned()));
    }
    let mut files = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", &secret[..4]);
        }
    }
    assert!(files > 0 && secrets.len() == 7);
}
