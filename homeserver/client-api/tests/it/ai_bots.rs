//! The list of AI bots, and adding one to a conversation.

use axum::http::Method;
use fake_service::FakeService;
use serde_json::{Value, json};

use crate::{
    appservices::{ask, make_user, with_bridge},
    server::{TestServer, encode},
};

const BOTS: &str = "/_matrix/client/unstable/chat.nudge/ai/bots";
const ADD: &str = "/_matrix/client/unstable/chat.nudge/ai/add_to_conversation";
const BOT: &str = "@_irc_buddy:example.org";

/// A service with one bot, which names one more that is none of this server.
async fn with_bot() -> (TestServer, FakeService) {
    let (server, service) = with_bridge("protocols: [aibots]").await;
    make_user(&server, "_irc_buddy").await.ok();
    for (field, value) in
        [("displayname", json!("Buddy")), ("chat.nudge.bot", json!({ "personality": "buddy", "description": "Hi" }))]
    {
        let path = format!("/_matrix/client/v3/profile/{}/{field}", encode(BOT));
        ask(&server, Method::PUT, &path, Some(BOT), json!({ field: value })).await.ok();
    }
    let known = ["@_irc_buddy:example.org", "@nobody:example.org", "@bot:elsewhere.example", "nonsense"];
    let known: Vec<Value> = known.iter().map(|user_id| json!({ "userid": user_id, "protocol": "aibots" })).collect();
    service.answer("GET /_matrix/app/v1/thirdparty/user/aibots", 200, json!(known));
    (server, service)
}

#[tokio::test]
async fn bots_are_listed_with_what_they_show_of_themselves() {
    let (server, _service) = with_bot().await;
    let alice = server.register("alice").await;
    let expected = json!({ "user_id": BOT, "displayname": "Buddy", "personality": "buddy", "description": "Hi" });
    assert_eq!(server.get_as(&alice, BOTS).await.ok(), json!({ "bots": [expected] }));
}

#[tokio::test]
async fn a_server_without_bots_lists_none() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    assert_eq!(server.get_as(&alice, BOTS).await.ok(), json!({ "bots": [] }));
    let add = json!({ "room_id": "!x:example.org", "bot_user_id": BOT });
    server.post_as(&alice, ADD, add).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn whoever_may_invite_adds_a_bot_and_hears_whether_it_came() {
    let (server, service) = with_bot().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.private_room(&alice).await;
    let add = |bot: &str| json!({ "room_id": room, "bot_user_id": bot });
    server.post_as(&bob, ADD, add(BOT)).await.assert_error(403, "M_FORBIDDEN");
    server.post_as(&alice, ADD, add("@nobody:example.org")).await.assert_error(404, "M_NOT_FOUND");
    server.post_as(&alice, ADD, json!({ "room_id": room })).await.assert_error(400, "M_BAD_JSON");
    let coming = async {
        service.wait_until("the invitation", |service| service.count("m.room.member") > 0).await;
        let join = format!("/_matrix/client/v3/join/{}", encode(&room));
        ask(&server, Method::POST, &join, Some(BOT), json!({})).await.ok();
    };
    let (added, ()) = tokio::join!(server.post_as(&alice, ADD, add(BOT)), coming);
    let expected = json!({ "room_id": room, "bot_user_id": BOT, "membership": "join" });
    assert_eq!(added.ok(), expected);
    // It is there already.
    assert_eq!(server.post_as(&alice, ADD, add(BOT)).await.ok(), expected);
}
