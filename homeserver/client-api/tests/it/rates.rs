//! Rate limits on the endpoints that they are for.

use std::time::Duration;

use homeserver_client_api::Options;
use serde_json::json;

use crate::server::{PASSWORD, Setup, TestServer, login};

const LOGIN: &str = "/_matrix/client/v3/login";

async fn limited() -> TestServer {
    TestServer::start_as(Setup { rate_limits: true, ..Setup::default() }).await
}

#[tokio::test]
async fn s_109_and_s_152_logins_are_limited_by_address() {
    let server = limited().await;
    server.register("alice").await;
    for index in 0..4 {
        let user = format!("nobody{index}");
        server.post_from("192.0.2.7", LOGIN, &login(&user, "wrong")).await.assert_error(403, "M_FORBIDDEN");
    }
    // The fifth is refused although it is right: nothing can be learnt from it.
    let reply = server.post_from("192.0.2.7", LOGIN, &login("alice", PASSWORD)).await;
    reply.assert_error(429, "M_LIMIT_EXCEEDED");
    let wait_ms = reply.body["retry_after_ms"].as_u64().unwrap();
    assert_eq!(reply.headers["retry-after"], wait_ms.div_ceil(1_000).to_string().as_str());
    server.post_from("192.0.2.8", LOGIN, &login("alice", PASSWORD)).await.ok();
    server.clock.advance(Duration::from_millis(wait_ms));
    // The address may be wrong again, but it has used up its attempts for longer.
    let reply = server.post_from("192.0.2.7", LOGIN, &login("alice", PASSWORD)).await;
    reply.assert_error(429, "M_LIMIT_EXCEEDED");
    server.clock.advance(Duration::from_millis(reply.body["retry_after_ms"].as_u64().unwrap()));
    server.post_from("192.0.2.7", LOGIN, &login("alice", PASSWORD)).await.ok();
}

#[tokio::test]
async fn s_109_and_s_152_logins_are_limited_by_account() {
    let server = limited().await;
    server.register("alice").await;
    let names = ["alice", "@alice:example.org", "Alice", "alice", "@alice:example.org"];
    for (index, name) in names.into_iter().enumerate() {
        let address = format!("192.0.2.{}", 10 + index);
        server.post_from(&address, LOGIN, &login(name, "wrong")).await.assert_error(403, "M_FORBIDDEN");
    }
    server.post_from("192.0.2.20", LOGIN, &login("alice", PASSWORD)).await.assert_error(429, "M_LIMIT_EXCEEDED");
    server.post_from("192.0.2.20", LOGIN, &login("bob", PASSWORD)).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn s_109_wrong_passwords_count_where_they_confirm_an_action() {
    let server = limited().await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v3/account/password";
    let change = |password: &str| {
        let auth = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": password,
        });
        json!({ "new_password": "another good password", "auth": auth })
    };
    for _ in 0..4 {
        server.post_as(&alice, path, change("wrong")).await.assert_error(401, "M_FORBIDDEN");
    }
    server.post_as(&alice, path, change(PASSWORD)).await.assert_error(429, "M_LIMIT_EXCEEDED");
    server.clock.advance(Duration::from_secs(225));
    server.post_as(&alice, path, change(PASSWORD)).await.ok();
}

#[tokio::test]
async fn s_152_accounts_and_messages_are_limited() {
    let server = limited().await;
    let alice = server.register("alice").await;
    server.register("bob").await;
    server.register("carol").await;
    let body = json!({ "username": "dave", "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
    server.post("/_matrix/client/v3/register", body.clone()).await.assert_error(429, "M_LIMIT_EXCEEDED");
    server.post_from("192.0.2.9", "/_matrix/client/v3/register", &body).await.ok();
    let room_id = server.private_room(&alice).await;
    for index in 0..50 {
        server.say(&alice, &room_id, &format!("t{index}"), "hello").await;
    }
    let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/t50");
    let message = json!({ "msgtype": "m.text", "body": "hello" });
    let reply = server.put_as(&alice, &path, message.clone()).await;
    reply.assert_error(429, "M_LIMIT_EXCEEDED");
    server.clock.advance(Duration::from_millis(reply.body["retry_after_ms"].as_u64().unwrap()));
    server.put_as(&alice, &path, message).await.ok();
}

#[tokio::test]
async fn s_152_adding_a_bot_counts_as_an_invitation() {
    let server = limited().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let add = json!({ "room_id": room_id, "bot_user_id": "@nobody:example.org" });
    let path = "/_matrix/client/unstable/chat.nudge/ai/add_to_conversation";
    server.post_as(&alice, path, add.clone()).await.assert_error(404, "M_NOT_FOUND");
    for _ in 0..29 {
        server.post_as(&alice, path, add.clone()).await;
    }
    server.post_as(&alice, path, add).await.assert_error(429, "M_LIMIT_EXCEEDED");
    let path = format!("/_matrix/client/v3/rooms/{room_id}/invite");
    let invite = json!({ "user_id": "@bob:example.org" });
    server.post_as(&alice, &path, invite).await.assert_error(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn s_152_whoever_tries_out_tokens_is_told_to_wait() {
    let server = limited().await;
    let alice = server.register("alice").await;
    let whoami =
        async |token: &str| server.get(&format!("/_matrix/client/v3/account/whoami?access_token={token}")).await;
    for _ in 0..60 {
        whoami("nda_0123456789012345678901234567890123456789").await.assert_error(401, "M_UNKNOWN_TOKEN");
    }
    let reply = whoami("nda_0123456789012345678901234567890123456789").await;
    reply.assert_error(429, "M_LIMIT_EXCEEDED");
    whoami(&alice.token).await.ok();
}

#[tokio::test]
async fn s_152_one_device_leaves_something_to_the_others_and_the_exempt_never_wait() {
    let bob = ruma::owned_user_id!("@bob:example.org");
    let options = Options { rate_limits_exempt: vec![bob], ..Options::default() };
    let server = TestServer::start_as(Setup { rate_limits: true, options, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let phone = server.log_in("alice").await;
    let bob = server.register("bob").await;
    for _ in 0..160 {
        server.get_as(&alice, "/_matrix/client/v3/account/whoami").await.ok();
    }
    let reply = server.get_as(&alice, "/_matrix/client/v3/account/whoami").await;
    reply.assert_error(429, "M_LIMIT_EXCEEDED");
    assert!(reply.headers.contains_key("retry-after"));
    server.get_as(&phone, "/_matrix/client/v3/account/whoami").await.ok();
    for _ in 0..400 {
        server.get_as(&bob, "/_matrix/client/v3/account/whoami").await.ok();
    }
}

#[tokio::test]
async fn s_074_and_s_081_messages_to_devices_and_claims_are_limited_by_user() {
    let server = TestServer::start_as(Setup { rate_limits: true, ..Setup::default() }).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let claim = async |user| {
        let body = serde_json::json!({ "one_time_keys": {} });
        server.post_as(user, "/_matrix/client/v3/keys/claim", body).await.status
    };
    for _ in 0..100 {
        assert_eq!(claim(&alice).await, 200);
    }
    assert_eq!((claim(&alice).await, claim(&bob).await), (429, 200));
    let phone = server.log_in("bob").await;
    let mut number = 0;
    // A device has 160 requests of all kinds at once, so that two of them are needed.
    let mut send = async |user| {
        number += 1;
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{number}");
        server.put_as(user, &path, serde_json::json!({ "messages": {} })).await.status
    };
    for user in [&bob, &phone] {
        for _ in 0..150 {
            assert_eq!(send(user).await, 200);
        }
    }
    assert_eq!(send(&bob).await, 429);
    assert_eq!(send(&alice).await, 200);
}

#[test]
fn the_page_for_operators_says_what_is_done() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rate-limits.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert_eq!(page, homeserver_client_api::rate_limits_page(), "write docs/rate-limits.md anew");
}
