//! Profiles with fields of any name.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

fn path(user: &Session, field: &str) -> String {
    format!("/_matrix/client/v3/profile/{}/{}", encode(&user.user_id), encode(field))
}

#[tokio::test]
async fn fields_are_set_read_and_deleted() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let profile = async || {
        let path = format!("/_matrix/client/v3/profile/{}", encode(&alice.user_id));
        server.get(&path).await.ok()
    };
    server.put_as(&alice, &path(&alice, "m.tz"), json!({ "m.tz": "Europe/Berlin" })).await.ok();
    let languages = json!({ "org.example.languages": ["de", { "level": 1 }] });
    server.put_as(&alice, &path(&alice, "org.example.languages"), languages.clone()).await.ok();
    server.put_as(&alice, &path(&alice, "displayname"), json!({ "displayname": "Alice" })).await.ok();
    assert_eq!(server.get(&path(&alice, "org.example.languages")).await.ok(), languages);
    let expected =
        json!({ "displayname": "Alice", "m.tz": "Europe/Berlin", "org.example.languages": ["de", { "level": 1 }] });
    assert_eq!(profile().await, expected);
    server.get(&path(&alice, "org.example.nothing")).await.assert_error(404, "M_NOT_FOUND");
    for field in ["m.tz", "org.example.languages", "displayname", "org.example.nothing"] {
        server.send(Method::DELETE, &path(&alice, field), Some(&alice.token), &json!({})).await.ok();
    }
    assert_eq!(profile().await, json!({}));
    server.get(&path(&alice, "m.tz")).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn s_039_fields_have_limits() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let put = async |field: &str, body: Value| server.put_as(&alice, &path(&alice, field), body).await;
    let long = "a".repeat(256);
    put(&long, json!({ &*long: 1 })).await.assert_error(400, "M_KEY_TOO_LARGE");
    put("Upper.Case", json!({ "Upper.Case": 1 })).await.assert_error(400, "M_INVALID_PARAM");
    put("m.tz", json!({ "m.tz": 1 })).await.assert_error(400, "M_INVALID_PARAM");
    put("m.tz", json!({ "m.tz": "not a zone" })).await.assert_error(400, "M_INVALID_PARAM");
    put("org.example.a", json!({ "org.example.b": 1 })).await.assert_error(400, "M_MISSING_PARAM");
    put("displayname", json!({ "displayname": ["Alice"] })).await.assert_error(400, "M_BAD_JSON");
    put("org.example.a", json!({ "org.example.a": "x".repeat(60_000) })).await.ok();
    let more = put("org.example.b", json!({ "org.example.b": "x".repeat(6_000) })).await;
    more.assert_error(400, "M_PROFILE_TOO_LARGE");
    put("org.example.a", json!({ "org.example.a": "shorter" })).await.ok();
    put("org.example.b", json!({ "org.example.b": "x".repeat(6_000) })).await.ok();
}
