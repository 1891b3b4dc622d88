//! Looking into rooms without being in them, and logging in by a page.

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::{Value, json};

use crate::server::{PASSWORD, TestServer, encode};

#[tokio::test]
async fn who_may_read_a_room_may_listen_to_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let readable = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]);
    let body = json!({"preset": "private_chat", "initial_state": readable});
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room = created["room_id"].as_str().unwrap();
    server.say(&alice, room, "1", "before").await;
    let path = format!("/_matrix/client/v3/rooms/{}/initialSync", encode(room));
    let seen = server.get_as(&bob, &path).await.ok();
    assert!(seen["messages"]["chunk"].to_string().contains("before"));
    let listen = |from: &Value, timeout: u64| {
        let from = encode(from.as_str().unwrap());
        format!("/_matrix/client/v3/events?room_id={}&from={from}&timeout={timeout}", encode(room))
    };
    let nothing = server.get_as(&bob, &listen(&seen["messages"]["end"], 0)).await.ok();
    assert_eq!(nothing["chunk"], json!([]));
    let waiting = listen(&nothing["end"], 60_000);
    let (heard, _) = tokio::join!(server.get_as(&bob, &waiting), server.say(&alice, room, "2", "after"));
    let heard = heard.ok();
    let bodies = |heard: &Value| {
        let events = heard["chunk"].as_array().unwrap().iter();
        events.map(|event| event["content"]["body"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&heard), ["after"]);
    assert_eq!(heard["chunk"][0]["room_id"], room);
    assert_eq!(server.get_as(&bob, &listen(&heard["end"], 0)).await.ok()["chunk"], json!([]));
    // What is said after the door was closed is not heard.
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.history_visibility", encode(room));
    server.put_as(&alice, &path, json!({"history_visibility": "shared"})).await.ok();
    server.say(&alice, room, "3", "secret").await;
    let reply = server.get_as(&bob, &listen(&heard["end"], 0)).await;
    assert!(!reply.text.contains("secret"), "{}", reply.text);
    let closed = server.private_room(&alice).await;
    let path = format!("/_matrix/client/v3/events?room_id={}", encode(&closed));
    server.get_as(&bob, &path).await.assert_error(403, "M_FORBIDDEN");
    assert_eq!(server.get_as(&bob, "/_matrix/client/v3/events").await.status, 400);
    assert_eq!(server.get_as(&bob, "/_matrix/client/v3/initialSync").await.status, 404);
}

#[tokio::test]
async fn a_page_logs_in_who_has_a_browser() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = "/_matrix/static/client/login/";
    let page = server.get(&format!("{path}?device_id=%22%3E%3Cscript%3E")).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("name=\"user\"") && !page.text.contains("<script>"), "{}", page.text);
    let submit = async |body: String| {
        let request = Request::builder().method(Method::POST).uri(path).body(Body::from(body)).unwrap();
        server.request(request).await
    };
    let refused = submit("user=alice&secret=wrong&device_id=PHONE".to_owned()).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("value=\"PHONE\"") && !refused.text.contains("wrong"), "{}", refused.text);
    let page = submit(format!("user=alice&secret={}&device_id=PHONE", PASSWORD.replace(' ', "+"))).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let session = page.text.split("id=\"session\">").nth(1).unwrap().split("</script>").next().unwrap();
    let session: Value = serde_json::from_str(session).unwrap();
    assert_eq!((&session["user_id"], &session["device_id"]), (&json!(alice.user_id), &json!("PHONE")));
    let token = session["access_token"].as_str();
    server.send(Method::GET, "/_matrix/client/v3/account/whoami", token, &Value::Null).await.ok();
}
