//! Guests: what they may do, and how they become users.

use axum::http::Method;
use engine::AccountSettings;
use homeserver_client_api::{Authentication, route_table};
use serde_json::{Value, json};

use crate::{
    routes::values,
    server::{PASSWORD, Session, Setup, TestServer, encode, fill, login},
};

async fn with_guests() -> TestServer {
    let accounts = AccountSettings { guests: true, ..AccountSettings::default() };
    TestServer::start_as(Setup { accounts, ..Setup::default() }).await
}

async fn guest(server: &TestServer) -> Session {
    let body = json!({ "initial_device_display_name": "Browser", "username": "ignored", "password": "ignored" });
    let reply = server.post("/_matrix/client/v3/register?kind=guest", body).await.ok();
    let text = |name: &str| reply[name].as_str().unwrap().to_owned();
    Session { user_id: text("user_id"), device_id: text("device_id"), token: text("access_token") }
}

#[tokio::test]
async fn s_119_guests_are_off_by_default() {
    let server = TestServer::start().await;
    let reply = server.post("/_matrix/client/v3/register?kind=guest", json!({})).await;
    reply.assert_error(403, "M_GUEST_ACCESS_FORBIDDEN");
}

#[tokio::test]
async fn guests_reach_the_endpoints_on_their_list_and_no_others() {
    let server = with_guests().await;
    let guest = guest(&server).await;
    let whoami = server.get_as(&guest, "/_matrix/client/v3/account/whoami").await.ok();
    assert_eq!((&whoami["is_guest"], &whoami["user_id"]), (&json!(true), &json!(guest.user_id)));
    let open = [
        "/sync",
        "/devices",
        "/members",
        "/messages",
        "/state",
        "/context/",
        "/event/",
        "/events",
        "/join",
        "/leave",
        "/send/",
        "/profile/",
        "/whoami",
        "/capabilities",
        "/filter",
        "/logout",
        "/pushrules",
        "/keys/",
        "/initialSync",
        "/sendToDevice",
        "/media/",
    ];
    let mut refused = 0;
    for route in route_table().into_iter().filter(|route| route.authentication != Authentication::None) {
        let template = *route.paths.last().unwrap();
        let path = fill(template, &values(&guest));
        if template.contains("logout") {
            continue;
        }
        let reply = server.send(route.method.clone(), &path, Some(&guest.token), &json!({})).await;
        if reply.errcode() == "M_GUEST_ACCESS_FORBIDDEN" {
            refused += 1;
        } else {
            assert!(open.iter().any(|part| template.contains(part)), "{} {template}: {}", route.method, reply.text);
        }
    }
    assert!(refused > 30, "{refused}");
    let profile = |field: &str| format!("/_matrix/client/v3/profile/{}/{field}", encode(&guest.user_id));
    server.put_as(&guest, &profile("displayname"), json!({ "displayname": "Visitor" })).await.ok();
    let avatar = json!({ "avatar_url": "mxc://example.org/a" });
    server.put_as(&guest, &profile("avatar_url"), avatar).await.assert_error(403, "M_GUEST_ACCESS_FORBIDDEN");
    server.post("/_matrix/client/v3/login", login(&guest.user_id, "")).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn guests_join_where_they_are_let_in_and_leave_when_that_ends() {
    let server = with_guests().await;
    let (alice, guest) = (server.register("alice").await, guest(&server).await);
    let body = json!({ "preset": "public_chat" });
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room = format!("/_matrix/client/v3/rooms/{}", encode(created["room_id"].as_str().unwrap()));
    let access = async |value: &str| {
        let body = json!({ "guest_access": value });
        server.put_as(&alice, &format!("{room}/state/m.room.guest_access"), body).await.ok();
    };
    access("forbidden").await;
    let refused = server.post_as(&guest, &format!("{room}/join"), json!({})).await;
    refused.assert_error(403, "M_GUEST_ACCESS_FORBIDDEN");
    access("can_join").await;
    server.post_as(&guest, &format!("{room}/join"), json!({})).await.ok();
    server
        .put_as(&guest, &format!("{room}/send/m.room.message/1"), json!({ "msgtype": "m.text", "body": "hi" }))
        .await
        .ok();
    access("forbidden").await;
    let member = format!("{room}/state/m.room.member/{}", encode(&guest.user_id));
    assert_eq!(server.get_as(&alice, &member).await.ok()["membership"], "leave");
}

#[tokio::test]
async fn a_guest_becomes_a_user_and_keeps_the_name() {
    let server = with_guests().await;
    let (guest, other) = (guest(&server).await, guest(&server).await);
    let name = guest.user_id.split(':').next().unwrap().trim_start_matches('@').to_owned();
    let upgrade = |username: Value, token: &str| {
        json!({
            "username": username, "password": PASSWORD, "guest_access_token": token,
            "auth": { "type": "m.login.dummy" },
        })
    };
    let register = async |body: Value| server.send(Method::POST, "/_matrix/client/v3/register", None, &body).await;
    register(upgrade(json!(name), &other.token)).await.assert_error(403, "M_FORBIDDEN");
    register(upgrade(json!("another"), &guest.token)).await.assert_error(403, "M_FORBIDDEN");
    register(upgrade(Value::Null, &guest.token)).await.assert_error(400, "M_MISSING_PARAM");
    let upgraded = register(upgrade(json!(name), &guest.token)).await.ok();
    assert_eq!(upgraded["user_id"], guest.user_id);
    server.log_in(&guest.user_id).await;
    let token = upgraded["access_token"].as_str().unwrap();
    let whoami = server.get(&format!("/_matrix/client/v3/account/whoami?access_token={token}")).await.ok();
    assert!(whoami["is_guest"].is_null(), "{whoami}");
    // The session of the guest is one of the user now.
    let whoami = server.get_as(&guest, "/_matrix/client/v3/account/whoami").await.ok();
    assert!(whoami["is_guest"].is_null(), "{whoami}");
    register(upgrade(json!(name), &guest.token)).await.assert_error(403, "M_FORBIDDEN");
}
