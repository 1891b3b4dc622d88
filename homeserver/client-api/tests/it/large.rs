//! What tells of everybody in a large room.

use axum::http::Method;
use engine::Requester;
use ruma::OwnedRoomId;
use serde_json::json;

use crate::server::{TestServer, encode};

/// More than are gone through on the spot.
const MANY: usize = 520;

#[tokio::test]
async fn r_35_who_asks_for_all_members_of_a_large_room_keeps_nobody_waiting() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await;
    let room_id: OwnedRoomId = created.ok()["room_id"].as_str().unwrap().try_into().unwrap();
    // How many of them were told of, and how often something was done by other threads for that.
    let ask = async |what: &str| {
        let before = server.engine.done_apart();
        let path = format!("/_matrix/client/v3/rooms/{}/{what}", encode(room_id.as_str()));
        let answer = server.send(Method::GET, &path, Some(&alice.token), &json!({})).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        (answer.text.matches("member").count() >= MANY, server.engine.done_apart() - before)
    };
    let all = ["members", "joined_members", "state"];
    for what in all {
        assert_eq!(ask(what).await, (false, 0), "{what}");
    }
    for number in 0..MANY {
        let user_id = format!("@member{number}:example.org").try_into().unwrap();
        let member = Requester { user_id, device_id: "D".into() };
        server.engine.join(&member, &room_id, &[], None).await.unwrap();
    }
    for (what, times) in all.into_iter().zip([2, 2, 1]) {
        assert_eq!(ask(what).await, (true, times), "{what}");
    }
}
