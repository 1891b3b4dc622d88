//! Backups of room keys.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Reply, Session, TestServer};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";
const ROOM: &str = "!room:test";
const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

async fn new_version(server: &TestServer, user: &Session) -> String {
    let body = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "abc" } });
    server.post_as(user, VERSION, body).await.ok()["version"].as_str().unwrap().to_owned()
}

fn key(first_message_index: u32, is_verified: bool) -> Value {
    json!({
        "first_message_index": first_message_index, "forwarded_count": 0, "is_verified": is_verified,
        "session_data": { "ciphertext": first_message_index.to_string() },
    })
}

async fn put_one(server: &TestServer, user: &Session, version: &str, session: &str, key: &Value) -> Reply {
    server.put_as(user, &format!("{KEYS}/{ROOM}/{session}?version={version}"), key.clone()).await
}

async fn delete(server: &TestServer, user: &Session, path: &str) -> Reply {
    server.send(Method::DELETE, path, Some(&user.token), &json!({})).await
}

#[tokio::test]
async fn s_084_a_backup_takes_better_keys_into_its_current_version_and_counts_right() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    server.get_as(&alice, VERSION).await.assert_error(404, "M_NOT_FOUND");
    let old = new_version(&server, &alice).await;
    put_one(&server, &alice, &old, "s1", &key(5, false)).await.ok();
    let version = new_version(&server, &alice).await;
    assert_eq!(server.get_as(&alice, VERSION).await.ok()["version"], version);
    let refused = put_one(&server, &alice, &old, "s2", &key(5, false)).await;
    refused.assert_error(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refused.body["current_version"], version);
    put_one(&server, &alice, "999", "s2", &key(5, false)).await.assert_error(404, "M_NOT_FOUND");
    // What changes something changes the etag, and nothing else does.
    let first = put_one(&server, &alice, &version, "s1", &key(5, false)).await.ok();
    assert_eq!(first["count"], 1);
    for worse in [key(5, false), key(9, false)] {
        assert_eq!(put_one(&server, &alice, &version, "s1", &worse).await.ok(), first);
    }
    let better = put_one(&server, &alice, &version, "s1", &key(7, true)).await.ok();
    assert_eq!(better["count"], 1);
    assert_ne!(better["etag"], first["etag"]);
    assert_eq!(put_one(&server, &alice, &version, "s1", &key(0, false)).await.ok(), better);
    let stored = server.get_as(&alice, &format!("{KEYS}/{ROOM}/s1?version={version}")).await.ok();
    assert_eq!(stored, key(7, true));
    let many = json!({ "rooms": { ROOM: { "sessions": { "s2": key(1, false), "s3": key(2, false) } },
        "!other:test": { "sessions": { "s1": key(3, false) } } } });
    let told = server.put_as(&alice, &format!("{KEYS}?version={version}"), many).await.ok();
    assert_eq!(told["count"], 4);
    let shown = server.get_as(&alice, VERSION).await.ok();
    assert_eq!((&shown["count"], &shown["etag"]), (&told["count"], &told["etag"]));
    // The old version still has what it had.
    let stored = server.get_as(&alice, &format!("{KEYS}/{ROOM}?version={old}")).await.ok();
    assert_eq!(stored["sessions"], json!({ "s1": key(5, false) }));
    assert_eq!(delete(&server, &alice, &format!("{KEYS}/{ROOM}/s2?version={version}")).await.ok()["count"], 3);
    assert_eq!(delete(&server, &alice, &format!("{KEYS}/{ROOM}?version={version}")).await.ok()["count"], 1);
    server.get_as(&alice, &format!("{KEYS}/{ROOM}/s1?version={version}")).await.assert_error(404, "M_NOT_FOUND");
    let none = server.get_as(&alice, &format!("{KEYS}/{ROOM}?version={version}")).await.ok();
    assert_eq!(none, json!({ "sessions": {} }));
    delete(&server, &alice, &format!("{VERSION}/{version}")).await.ok();
    server.get_as(&alice, &format!("{KEYS}?version={version}")).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(server.get_as(&alice, VERSION).await.ok()["version"], old, "the one before is the current one again");
    let newest = new_version(&server, &alice).await;
    assert!(newest.parse::<u64>().unwrap() > version.parse().unwrap(), "a version comes once");
}

#[tokio::test]
async fn s_084_backups_are_one_s_own_and_refuse_what_is_wrong_or_too_large() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let version = new_version(&server, &alice).await;
    put_one(&server, &alice, &version, "s1", &key(1, true)).await.ok();
    // Versions are by user.
    for path in [format!("{VERSION}/{version}"), format!("{KEYS}?version={version}")] {
        server.get_as(&bob, &path).await.assert_error(404, "M_NOT_FOUND");
        delete(&server, &bob, &path).await.assert_error(404, "M_NOT_FOUND");
    }
    put_one(&server, &bob, &version, "s1", &key(0, true)).await.assert_error(404, "M_NOT_FOUND");
    let own = new_version(&server, &bob).await;
    assert_eq!(server.get_as(&bob, &format!("{KEYS}?version={own}")).await.ok(), json!({ "rooms": {} }));
    for (field, value, status) in [
        ("session_data", json!("text"), 400),
        ("session_data", Value::Null, 400),
        ("session_data", json!({ "ciphertext": "x".repeat(20_000) }), 413),
        ("first_message_index", json!(-1), 400),
        ("first_message_index", json!("1"), 400),
        ("is_verified", json!(1), 400),
    ] {
        let mut wrong = key(0, true);
        wrong[field] = value;
        let reply = put_one(&server, &alice, &version, "s1", &wrong).await;
        assert_eq!(reply.status, status, "{field}: {}", reply.text);
    }
    let update = async |body: Value| server.put_as(&alice, &format!("{VERSION}/{version}"), body).await;
    let auth_data = json!({ "public_key": "other" });
    update(json!({ "algorithm": "other", "auth_data": auth_data })).await.assert_error(400, "M_INVALID_PARAM");
    let of_another = json!({ "algorithm": ALGORITHM, "auth_data": auth_data, "version": "77" });
    update(of_another).await.assert_error(400, "M_INVALID_PARAM");
    assert_eq!(server.get_as(&alice, VERSION).await.ok()["auth_data"], json!({ "public_key": "abc" }));
    update(json!({ "algorithm": ALGORITHM, "auth_data": auth_data, "version": version })).await.ok();
    let shown = server.get_as(&alice, VERSION).await.ok();
    assert_eq!((&shown["auth_data"], &shown["count"]), (&auth_data, &json!(1)));
}
