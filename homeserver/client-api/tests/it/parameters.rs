//! Odd values in paths and queries.

use axum::http::Method;
use homeserver_client_api::route_table;
use serde_json::json;

use crate::{
    routes::values,
    server::{TestServer, encode, fill},
};

#[tokio::test]
async fn s_051_numbers_directions_tokens_and_filters() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let event_id = server.say(&alice, &room_id, "t", "hello").await;
    let messages = |query: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/messages?{query}");
        async { server.get_as(&alice, &{ path }).await }
    };
    messages("dir=b&limit=100000").await.ok();
    assert_eq!(messages("").await.ok()["chunk"], messages("dir=f").await.ok()["chunk"]);
    for query in [
        "dir=x",
        "dir=b&limit=-1",
        "dir=b&limit=18446744073709551616",
        "dir=b&limit=ten",
        "dir=b&from=nothing",
        "dir=b&to=nothing",
        "dir=b&filter=%7Boops",
        "dir=b&filter=%7B%22limit%22%3A-1%7D",
    ] {
        let reply = messages(query).await;
        assert_eq!((reply.status, reply.errcode()), (400, "M_INVALID_PARAM"), "{query}: {}", reply.text);
    }
    for query in ["since=nothing", "filter=%7Boops", "timeout=-1", "full_state=maybe"] {
        let reply = server.get_as(&alice, &format!("/_matrix/client/v3/sync?{query}")).await;
        assert_eq!((reply.status, reply.errcode()), (400, "M_INVALID_PARAM"), "{query}: {}", reply.text);
    }
    for query in ["limit=-1", "filter=%7Boops"] {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/context/{event_id}?{query}");
        server.get_as(&alice, &path).await.assert_error(400, "M_INVALID_PARAM");
    }
    let members = server.get_as(&alice, &format!("/_matrix/client/v3/rooms/{room_id}/members?at=nothing")).await;
    members.assert_error(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn s_140_odd_text_in_every_parameter() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let own = |name: &str| format!("/_matrix/client/v3/user/{}/account_data/{name}", bob.user_id);
    server.put_as(&bob, &own("secret"), json!({ "word": "sesame" })).await.ok();
    let long = "a".repeat(10_000);
    let odd = ["%", "_", "%%%", "\\", "'", "\"", "' OR '1'='1", "*", "a\0b", "\0", "\u{1F600}\u{202E}", "..", &long];
    for route in route_table().into_iter().filter(|route| !route.paths[0].contains("/sync")) {
        let path = route.paths[route.paths.len() - 1];
        let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        for name in names {
            for text in odd {
                let mut values = values(&alice);
                values.insert(name, text.to_owned());
                let path = fill(path, &values);
                let body = json!({ "typing": false, "visibility": "private", "room_id": text, "user_id": text });
                let reply = server.send(route.method.clone(), &path, Some(&alice.token), &body).await;
                assert!(reply.status < 500, "{} {path}: {}", route.method, reply.text);
                assert!(!reply.text.contains("sesame"), "{path}");
            }
        }
    }
    for query in ["username=", "username=%00", "username=%25", "username=%27"] {
        let reply = server.get(&format!("/_matrix/client/v3/register/available?{query}")).await;
        reply.assert_error(400, "M_INVALID_USERNAME");
    }
    for text in odd {
        let body = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": text }, "password": text });
        server.post("/_matrix/client/v3/login", body).await.assert_error(403, "M_FORBIDDEN");
        let path = format!("/_matrix/client/v3/sync?since={}", encode(text));
        server.send(Method::GET, &path, Some(&alice.token), &json!({})).await.assert_error(400, "M_INVALID_PARAM");
    }
}
