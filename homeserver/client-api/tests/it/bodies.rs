//! Bodies of the wrong shape.

use axum::{body::Body, http::Request};
use serde_json::json;

use crate::server::{PASSWORD, TestServer};

#[tokio::test]
async fn s_100_wrong_shapes_are_bad_json() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let wrong = [
        json!({ "name": 1 }),
        json!({ "invite": "@bob:example.org" }),
        json!({ "invite": ["bob"] }),
        json!({ "room_version": 11 }),
        json!({ "initial_state": [{ "type": "m.room.topic", "state_key": 1, "content": {} }] }),
        json!({ "initial_state": [{ "type": "m.room.topic" }] }),
        json!({ "creation_content": { "depth": 1.5 } }),
    ];
    for body in wrong {
        let reply = server.post_as(&alice, "/_matrix/client/v3/createRoom", body.clone()).await;
        assert_eq!((reply.status, reply.errcode()), (400, "M_BAD_JSON"), "{body}: {}", reply.text);
    }
    let unknown = server.post_as(&alice, "/_matrix/client/v3/createRoom", json!({ "preset": "palace" })).await;
    unknown.assert_error(400, "M_INVALID_PARAM");
    let version = server.post_as(&alice, "/_matrix/client/v3/createRoom", json!({ "room_version": "99" })).await;
    version.assert_error(400, "M_UNSUPPORTED_ROOM_VERSION");
}

#[tokio::test]
async fn s_100_logins_of_no_type_or_an_unknown_one() {
    let server = TestServer::start().await;
    server.register("alice").await;
    let identifier = json!({ "type": "m.id.user", "user": "alice" });
    let login = |body| server.post("/_matrix/client/v3/login", body);
    let no_type = json!({ "identifier": identifier, "password": PASSWORD });
    login(no_type).await.assert_error(400, "M_MISSING_PARAM");
    login(json!({})).await.assert_error(400, "M_MISSING_PARAM");
    login(json!({ "type": 1 })).await.assert_error(400, "M_BAD_JSON");
    login(json!({ "type": "m.login.password", "identifier": identifier })).await.assert_error(400, "M_BAD_JSON");
    login(json!({ "type": "m.login.password", "password": PASSWORD })).await.assert_error(400, "M_MISSING_PARAM");
    login(json!({ "type": "m.login.token", "token": "t" })).await.assert_error(400, "M_INVALID_PARAM");
    login(json!({ "type": "org.example.magic" })).await.assert_error(400, "M_INVALID_PARAM");
    let email = json!({ "type": "m.id.thirdparty", "medium": "email", "address": "a@example.org" });
    let by_email = json!({ "type": "m.login.password", "identifier": email, "password": PASSWORD });
    login(by_email).await.assert_error(403, "M_FORBIDDEN");
    let phone = json!({ "type": "m.id.phone", "country": "GB", "phone": "1" });
    let by_phone = json!({ "type": "m.login.password", "identifier": phone, "password": PASSWORD });
    login(by_phone).await.assert_error(400, "M_INVALID_PARAM");
    let legacy = json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD });
    assert_eq!(login(legacy).await.ok()["user_id"], "@alice:example.org");
}

#[tokio::test]
async fn s_100_an_empty_body_is_nothing_to_store_but_enough_to_ask() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let empty = |method: &str, path: String| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("Authorization", format!("Bearer {}", alice.token)).body(Body::empty()).unwrap();
        async { server.request(request).await }
    };
    let room = empty("POST", "/_matrix/client/v3/createRoom".to_owned()).await.ok();
    let room_id = room["room_id"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/t");
    empty("PUT", path).await.assert_error(400, "M_NOT_JSON");
    empty("POST", format!("/_matrix/client/v3/rooms/{room_id}/leave")).await.ok();
    empty("POST", "/_matrix/client/v3/logout".to_owned()).await.ok();
}
