//! Logging in, and what an attacker learns from it.

use std::time::{Duration, Instant};

use engine::PasswordHashing;
use serde_json::json;

use crate::{
    interactive,
    server::{PASSWORD, Setup, TestServer, login},
};

#[tokio::test]
async fn logins_by_name_and_by_id_and_their_end() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let types = server.get("/_matrix/client/v3/login").await.ok();
    assert_eq!(types, json!({ "flows": [{ "type": "m.login.password" }] }));
    let phone = server.log_in("alice").await;
    let laptop = server.log_in("@alice:example.org").await;
    assert_ne!(phone.device_id, laptop.device_id);
    let whoami = server.get_as(&phone, "/_matrix/client/v3/account/whoami").await.ok();
    assert_eq!(whoami, json!({ "user_id": alice.user_id, "device_id": phone.device_id }));
    server.post_as(&phone, "/_matrix/client/v3/logout", json!({})).await.ok();
    server.get_as(&phone, "/_matrix/client/v3/account/whoami").await.assert_error(401, "M_UNKNOWN_TOKEN");
    server.get_as(&laptop, "/_matrix/client/v3/account/whoami").await.ok();
    server.post_as(&laptop, "/_matrix/client/v3/logout/all", json!({})).await.ok();
    server.get_as(&alice, "/_matrix/client/v3/account/whoami").await.assert_error(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn tokens_expire_and_are_refreshed() {
    let server = TestServer::start().await;
    server.register("alice").await;
    let mut body = login("alice", PASSWORD);
    body["refresh_token"] = json!(true);
    let session = server.post("/_matrix/client/v3/login", body).await.ok();
    assert_eq!(session["expires_in_ms"], 3_600_000);
    let whoami = |session: &serde_json::Value| {
        let path =
            format!("/_matrix/client/v3/account/whoami?access_token={}", session["access_token"].as_str().unwrap());
        async { server.get(&{ path }).await }
    };
    whoami(&session).await.ok();
    server.clock.advance(Duration::from_secs(3_601));
    let expired = whoami(&session).await;
    expired.assert_error(401, "M_UNKNOWN_TOKEN");
    assert_eq!(expired.body["soft_logout"], true);
    let body = json!({ "refresh_token": session["refresh_token"] });
    let refreshed = server.post("/_matrix/client/v3/refresh", body.clone()).await.ok();
    whoami(&refreshed).await.ok();
    server.post("/_matrix/client/v3/refresh", body).await.assert_error(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn s_109_unknown_users_wrong_passwords_and_deactivated_accounts_look_alike() {
    let server = TestServer::start().await;
    server.register("alice").await;
    let gone = server.register("gone").await;
    let deactivation = json!({ "auth": interactive::password(&gone.user_id) });
    server.post_as(&gone, "/_matrix/client/v3/account/deactivate", deactivation).await.ok();
    let wrong = server.post("/_matrix/client/v3/login", login("alice", "wrong")).await;
    wrong.assert_error(403, "M_FORBIDDEN");
    for (user, password) in [("nobody", PASSWORD), ("@alice:evil.example", PASSWORD), ("", ""), ("gone", PASSWORD)] {
        let reply = server.post("/_matrix/client/v3/login", login(user, password)).await;
        assert_eq!((reply.status, &reply.body), (403, &wrong.body), "{user}");
    }
}

/// The hash takes some 18 ms; without it the refusal takes less than one.
#[tokio::test(flavor = "multi_thread")]
async fn s_109_unknown_users_take_as_long_as_wrong_passwords() {
    const SAMPLES: usize = 25;
    let setup = Setup { password_hashing: PasswordHashing::Strong, ..Setup::default() };
    let server = TestServer::start_as(setup).await;
    server.register("alice").await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        for (user, times) in [("alice", &mut known), ("nobody", &mut unknown)] {
            let start = Instant::now();
            server.post("/_matrix/client/v3/login", login(user, "wrong")).await.assert_error(403, "M_FORBIDDEN");
            times.push(start.elapsed());
        }
    }
    known.sort();
    unknown.sort();
    let ratio = known[SAMPLES / 2].as_secs_f64() / unknown[SAMPLES / 2].as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{ratio}: {known:?} against {unknown:?}");
}
