//! Locking, suspending, looking: what administrators do to accounts, and what is left to their users.

use axum::http::Method;
use homeserver_client_api::{Authentication, route_table};
use serde_json::json;
use storage::NewAccount;

use crate::{
    interactive,
    routes::values,
    server::{PASSWORD, Session, TestServer, encode, fill, login},
};

/// An administrator, as only the operator can make one.
async fn administrator(server: &TestServer) -> Session {
    let user_id = ruma::UserId::parse("@root:example.org").unwrap();
    let account = NewAccount {
        user_id: user_id.clone(),
        password_hash: None,
        display_name: None,
        created_ts: 1,
        guest: false,
        admin: true,
    };
    server.engine.storage().create_account(account, None).await.unwrap();
    server.engine.change_password(&user_id, PASSWORD, None).await.unwrap();
    server.log_in("root").await
}

fn path(what: &str, user: &Session) -> String {
    format!("/_matrix/client/v1/admin/{what}/{}", encode(&user.user_id))
}

#[tokio::test]
async fn s_111_a_locked_user_can_only_log_out() {
    let server = TestServer::start().await;
    let (root, alice) = (administrator(&server).await, server.register("alice").await);
    let mut body = login("alice", PASSWORD);
    body["refresh_token"] = json!(true);
    let session = server.post("/_matrix/client/v3/login", body).await.ok();
    assert_eq!(server.get_as(&root, &path("lock", &alice)).await.ok(), json!({ "locked": false }));
    let locked = server.put_as(&root, &path("lock", &alice), json!({ "locked": true })).await.ok();
    assert_eq!(locked, json!({ "locked": true }));
    for route in route_table().into_iter().filter(|route| route.authentication == Authentication::AccessToken) {
        let path = fill(route.paths.last().unwrap(), &values(&alice));
        if path.contains("/logout") {
            continue;
        }
        let reply = server.send(route.method.clone(), &path, Some(&alice.token), &json!({})).await;
        assert_eq!((reply.status, reply.errcode()), (401, "M_USER_LOCKED"), "{} {path}: {}", route.method, reply.text);
        assert_eq!(reply.body["soft_logout"], true);
    }
    server.post("/_matrix/client/v3/login", login("alice", PASSWORD)).await.assert_error(401, "M_USER_LOCKED");
    server.post("/_matrix/client/v3/login", login("alice", "wrong")).await.assert_error(403, "M_FORBIDDEN");
    let refresh = json!({ "refresh_token": session["refresh_token"] });
    server.post("/_matrix/client/v3/refresh", refresh.clone()).await.assert_error(401, "M_USER_LOCKED");
    server.put_as(&root, &path("lock", &alice), json!({ "locked": false })).await.ok();
    server.get_as(&alice, "/_matrix/client/v3/account/whoami").await.ok();
    server.post("/_matrix/client/v3/refresh", refresh).await.ok();
    server.put_as(&root, &path("lock", &alice), json!({ "locked": true })).await.ok();
    server.post_as(&alice, "/_matrix/client/v3/logout", json!({})).await.ok();
    server.get_as(&alice, "/_matrix/client/v3/account/whoami").await.assert_error(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn s_111_a_suspended_user_reads_leaves_and_takes_back() {
    let server = TestServer::start().await;
    let (admin, alice, bob) =
        (administrator(&server).await, server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    server.post_as(&alice, &format!("{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    let own = server.say(&alice, &room_id, "1", "mine").await;
    let other = server.say(&bob, &room_id, "1", "not mine").await;
    server.put_as(&admin, &path("suspend", &alice), json!({ "suspended": true })).await.ok();
    assert_eq!(server.get_as(&admin, &path("suspend", &alice)).await.ok(), json!({ "suspended": true }));
    let message = json!({ "msgtype": "m.text", "body": "hello" });
    let forbidden = [
        (Method::PUT, format!("{room}/send/m.room.message/2"), message),
        (Method::PUT, format!("{room}/state/m.room.topic"), json!({ "topic": "mine" })),
        (Method::POST, format!("{room}/invite"), json!({ "user_id": "@carol:example.org" })),
        (Method::POST, format!("{room}/kick"), json!({ "user_id": bob.user_id })),
        (Method::POST, "/_matrix/client/v3/createRoom".to_owned(), json!({})),
        (Method::POST, format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})),
        (
            Method::PUT,
            format!("/_matrix/client/v3/profile/{}/displayname", encode(&alice.user_id)),
            json!({ "displayname": "A" }),
        ),
        (Method::PUT, format!("{room}/redact/{}/3", encode(&other)), json!({})),
    ];
    for (method, path, body) in forbidden {
        let reply = server.send(method, &path, Some(&alice.token), &body).await;
        assert_eq!((reply.status, reply.errcode()), (403, "M_USER_SUSPENDED"), "{path}: {}", reply.text);
    }
    server.get_as(&alice, "/_matrix/client/v3/sync?timeout=0").await.ok();
    server.get_as(&alice, &format!("{room}/messages?dir=b")).await.ok();
    server.put_as(&alice, &format!("{room}/redact/{}/4", encode(&own)), json!({})).await.ok();
    server.log_in("alice").await;
    server.post_as(&alice, &format!("{room}/leave"), json!({})).await.ok();
    let deactivation = json!({ "auth": interactive::password(&alice.user_id) });
    server.post_as(&alice, "/_matrix/client/v3/account/deactivate", deactivation).await.ok();
}

#[tokio::test]
async fn s_126_only_administrators_administrate() {
    let server = TestServer::start().await;
    let (root, alice, bob) =
        (administrator(&server).await, server.register("alice").await, server.register("bob").await);
    let nobody = Session { user_id: "@nobody:example.org".to_owned(), ..bob.clone() };
    let foreign = Session { user_id: "@alice:elsewhere.example".to_owned(), ..bob.clone() };
    for (what, field) in [("lock", "locked"), ("suspend", "suspended")] {
        // Who may not ask learns nothing about whom there is.
        for target in [&alice, &bob, &nobody, &foreign] {
            server.get_as(&bob, &path(what, target)).await.assert_error(403, "M_FORBIDDEN");
            let body = json!({ field: true });
            server.put_as(&bob, &path(what, target), body).await.assert_error(403, "M_FORBIDDEN");
        }
        server.put_as(&root, &path(what, &root), json!({ field: true })).await.assert_error(403, "M_FORBIDDEN");
        server.put_as(&root, &path(what, &alice), json!({})).await.assert_error(400, "M_BAD_JSON");
        server.get_as(&root, &path(what, &nobody)).await.assert_error(404, "M_NOT_FOUND");
        server.get_as(&root, &path(what, &foreign)).await.assert_error(400, "M_INVALID_PARAM");
    }
    let whois = |user: &Session| format!("/_matrix/client/v3/admin/whois/{}", encode(&user.user_id));
    server.get_as(&bob, &whois(&alice)).await.assert_error(403, "M_FORBIDDEN");
    let own = server.get_as(&alice, &whois(&alice)).await.ok();
    assert_eq!(own["user_id"], alice.user_id);
    let devices = server.get_as(&root, &whois(&alice)).await.ok()["devices"].clone();
    assert_eq!(devices[&alice.device_id]["sessions"][0]["connections"][0]["ip"], "192.0.2.1");
    server.get_as(&root, &whois(&nobody)).await.assert_error(404, "M_NOT_FOUND");
    let capabilities = async |user: &Session| {
        server.get_as(user, "/_matrix/client/v3/capabilities").await.ok()["capabilities"]["m.account_moderation"]
            .clone()
    };
    assert_eq!(capabilities(&root).await, json!({ "lock": true, "suspend": true }));
    assert!(capabilities(&bob).await.is_null());
    // An administrator who is suspended administrates no more.
    let user_id = ruma::UserId::parse(&root.user_id).unwrap();
    server.engine.storage().set_suspended(&user_id, true).await.unwrap();
    server.get_as(&root, &path("lock", &alice)).await.assert_error(403, "M_FORBIDDEN");
}
