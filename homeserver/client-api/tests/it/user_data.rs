//! Tags, deleted account data, invitations that users do not want, complaints.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

async fn set_data(server: &TestServer, user: &Session, event_type: &str, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/{event_type}", user.user_id);
    server.put_as(user, &path, content).await.ok();
}

async fn sync(server: &TestServer, user: &Session, since: Option<&Value>) -> Value {
    let since = since.map_or_else(String::new, |since| format!("&since={}", since.as_str().unwrap()));
    server.get_as(user, &format!("/_matrix/client/v3/sync?timeout=0{since}")).await.ok()
}

#[tokio::test]
async fn tags_are_set_one_by_one() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let tags = format!("/_matrix/client/v3/user/{}/rooms/{}/tags", alice.user_id, encode(&room_id));
    assert_eq!(server.get_as(&alice, &tags).await.ok(), json!({ "tags": {} }));
    server.put_as(&alice, &format!("{tags}/m.favourite"), json!({ "order": 0.25 })).await.ok();
    server.put_as(&alice, &format!("{tags}/{}", encode("u.\u{1f980}")), json!({})).await.ok();
    let both = json!({ "tags": { "m.favourite": { "order": 0.25 }, "u.\u{1f980}": {} } });
    assert_eq!(server.get_as(&alice, &tags).await.ok(), both);
    let told = sync(&server, &alice, None).await;
    let data = told["rooms"]["join"][&room_id]["account_data"]["events"].as_array().unwrap().clone();
    assert!(data.contains(&json!({ "type": "m.tag", "content": both })), "{data:?}");
    server.send(Method::DELETE, &format!("{tags}/m.favourite"), Some(&alice.token), &json!({})).await.ok();
    assert_eq!(server.get_as(&alice, &tags).await.ok(), json!({ "tags": { "u.\u{1f980}": {} } }));
    let long = format!("{tags}/{}", "t".repeat(256));
    server.put_as(&alice, &long, json!({})).await.assert_error(400, "M_INVALID_PARAM");
    server.put_as(&alice, &format!("{tags}/t"), json!({ "order": "first" })).await.assert_error(400, "M_BAD_JSON");
}

#[tokio::test]
async fn deleted_account_data_is_told_and_then_gone() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let users = [
        format!("user/{}/account_data/org.test", alice.user_id),
        format!("user/{}/rooms/{}/account_data/org.test", alice.user_id, encode(&room_id)),
    ];
    for rest in users {
        for by_put in [false, true] {
            let path = format!("/_matrix/client/v3/{rest}");
            server.put_as(&alice, &path, json!({ "a": 1 })).await.ok();
            let start = sync(&server, &alice, None).await;
            assert!(start.to_string().contains("org.test"));
            if by_put {
                server.put_as(&alice, &path, json!({})).await.ok();
            } else {
                let path = format!("/_matrix/client/unstable/org.matrix.msc3391/{rest}");
                server.send(Method::DELETE, &path, Some(&alice.token), &json!({})).await.ok();
            }
            let told = sync(&server, &alice, Some(&start["next_batch"])).await;
            assert!(told.to_string().contains("org.test"), "{told}");
            server.get_as(&alice, &path).await.assert_error(404, "M_NOT_FOUND");
            assert!(!sync(&server, &alice, None).await.to_string().contains("org.test"));
        }
    }
}

#[tokio::test]
async fn s_142_who_does_not_want_to_be_invited_is_not() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&bob).await;
    let invite = format!("/_matrix/client/v3/rooms/{}/invite", encode(&room_id));
    let member = format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encode(&room_id), alice.user_id);
    set_data(&server, &alice, "m.invite_permission_config", json!({ "default_action": "block" })).await;
    let body = json!({ "user_id": alice.user_id });
    server.post_as(&bob, &invite, body.clone()).await.assert_error(403, "M_INVITE_BLOCKED");
    server.put_as(&bob, &member, json!({ "membership": "invite" })).await.assert_error(403, "M_INVITE_BLOCKED");
    let room = json!({ "preset": "private_chat", "invite": [alice.user_id] });
    server.post_as(&bob, "/_matrix/client/v3/createRoom", room).await.ok();
    assert_eq!(sync(&server, &alice, None).await["rooms"]["invite"], Value::Null);
    // Ignored: the inviter does not hear of it, the user neither.
    set_data(&server, &alice, "m.invite_permission_config", json!({})).await;
    let finer = "org.matrix.msc4155.invite_permission_config";
    set_data(&server, &alice, finer, json!({ "ignored_users": ["@b*:example.org"] })).await;
    server.post_as(&bob, &invite, body).await.ok();
    assert_eq!(sync(&server, &alice, None).await["rooms"]["invite"], Value::Null);
    set_data(&server, &alice, finer, json!({})).await;
    assert!(sync(&server, &alice, None).await["rooms"]["invite"][&room_id].is_object());
    // And of ignored users.
    set_data(&server, &alice, "m.ignored_user_list", json!({ "ignored_users": { &bob.user_id: {} } })).await;
    assert_eq!(sync(&server, &alice, None).await["rooms"]["invite"], Value::Null);
}

#[tokio::test]
async fn s_131_and_s_126_complaints_are_kept_for_administrators_only() {
    let server = TestServer::start().await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let room_id = server.private_room(&alice).await;
    let other_id = server.private_room(&alice).await;
    let event_id = server.say(&alice, &room_id, "1", "rude").await;
    let report = |room_id: &str, event_id: &str| {
        format!("/_matrix/client/v3/rooms/{}/report/{}", encode(room_id), encode(event_id))
    };
    let body = json!({ "reason": "Rude", "score": -50 });
    server.post_as(&bob, &report(&room_id, &event_id), body.clone()).await.assert_error(404, "M_NOT_FOUND");
    server.post_as(&alice, &report(&other_id, &event_id), body.clone()).await.assert_error(404, "M_NOT_FOUND");
    server.post_as(&alice, &report(&room_id, &event_id), body).await.ok();
    let room = format!("/_matrix/client/v3/rooms/{}/report", encode(&room_id));
    server.post_as(&bob, &room, json!({ "reason": "x" })).await.assert_error(404, "M_NOT_FOUND");
    server.post_as(&alice, &room, json!({ "reason": "Bad room" })).await.ok();
    let user = |user_id: &str| format!("/_matrix/client/v3/users/{}/report", encode(user_id));
    server.post_as(&carol, &user(&bob.user_id), json!({ "reason": "Spam" })).await.ok();
    server
        .post_as(&carol, &user("@nobody:example.org"), json!({ "reason": "" }))
        .await
        .assert_error(404, "M_NOT_FOUND");
    let long = json!({ "reason": "x".repeat(2_001) });
    server.post_as(&carol, &user(&bob.user_id), long).await.assert_error(400, "M_INVALID_PARAM");

    let list = "/_synapse/admin/v1/event_reports?limit=2";
    server.get_as(&alice, list).await.assert_error(403, "M_FORBIDDEN");
    let admin = server.administrator().await;
    let page = server.get_as(&admin, list).await.ok();
    assert_eq!((&page["total"], &page["next_token"]), (&json!(3), &json!(2)));
    assert_eq!(page["event_reports"][0]["reported_user_id"], bob.user_id);
    assert_eq!(page["event_reports"][1]["reason"], "Bad room");
    let page = server.get_as(&admin, &format!("{list}&from=2")).await.ok();
    let first = &page["event_reports"][0];
    assert_eq!((&first["event_id"], &first["score"]), (&json!(event_id), &json!(-50)));
    let one = server.get_as(&admin, &format!("/_synapse/admin/v1/event_reports/{}", first["id"])).await.ok();
    assert_eq!(one["user_id"], alice.user_id);
    server.get_as(&admin, "/_synapse/admin/v1/event_reports/99").await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn the_server_speaks_in_one_room_that_cannot_be_turned_down() {
    let server = TestServer::start().await;
    let (admin, bob) = (server.administrator().await, server.register("bob").await);
    let notice = |text: &str| json!({ "user_id": bob.user_id, "content": { "msgtype": "m.text", "body": text } });
    let path = "/_synapse/admin/v1/send_server_notice";
    server.post_as(&bob, path, notice("x")).await.assert_error(403, "M_FORBIDDEN");
    let unknown = json!({ "user_id": "@nobody:example.org", "content": {} });
    server.post_as(&admin, path, unknown).await.assert_error(404, "M_NOT_FOUND");
    // Not even who blocks all others.
    set_data(&server, &bob, "m.invite_permission_config", json!({ "default_action": "block" })).await;
    let first = server.post_as(&admin, path, notice("Maintenance at five")).await.ok();
    assert!(first["event_id"].is_string());
    let told = sync(&server, &bob, None).await;
    let (room_id, _) = told["rooms"]["invite"].as_object().unwrap().iter().next().unwrap();
    let room = format!("/_matrix/client/v3/rooms/{}", encode(room_id));
    let refused = server.post_as(&bob, &format!("{room}/leave"), json!({})).await;
    refused.assert_error(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    let once = format!("{path}/txn");
    let second = server.put_as(&admin, &once, notice("Now")).await.ok();
    assert_eq!(server.put_as(&admin, &once, notice("Now")).await.ok(), second);
    let told = sync(&server, &bob, None).await;
    let joined = told["rooms"]["join"].as_object().unwrap();
    assert_eq!(joined.len(), 1);
    let shown = joined[room_id].to_string();
    assert!(shown.contains("Maintenance at five") && shown.contains("m.server_notice"), "{shown}");
    let words = server.put_as(&bob, &format!("{room}/send/m.room.message/1"), json!({ "body": "hi" })).await;
    words.assert_error(403, "M_FORBIDDEN");
    // Who left is invited into the same room.
    server.post_as(&bob, &format!("{room}/leave"), json!({})).await.ok();
    server.post_as(&admin, path, notice("Done")).await.ok();
    assert!(sync(&server, &bob, None).await["rooms"]["invite"][room_id].is_object());
}

#[tokio::test]
async fn a_join_carries_what_the_client_writes_into_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "public_chat" });
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room_id = created["room_id"].as_str().unwrap();
    let join = format!("/_matrix/client/v3/join/{}", encode(room_id));
    server.post_as(&bob, &join, json!({ "org.test": 1.5 })).await.assert_error(400, "M_BAD_JSON");
    let body = json!({
        "org.test": { "a": 1 }, "reason": "tea", "membership": "ban", "third_party_signed": null,
        "join_authorised_via_users_server": alice.user_id,
    });
    server.post_as(&bob, &join, body).await.ok();
    let member = format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encode(room_id), bob.user_id);
    let content = server.get_as(&alice, &member).await.ok();
    assert_eq!(content, json!({ "membership": "join", "displayname": "bob", "reason": "tea", "org.test": { "a": 1 } }));
}

#[tokio::test]
async fn an_invitation_into_a_room_that_everybody_has_left_can_be_turned_down() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    server.post_as(&alice, &format!("{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    let invited = sync(&server, &bob, None).await;
    server.post_as(&alice, &format!("{room}/leave"), json!({})).await.ok();
    server.post_as(&bob, &format!("{room}/leave"), json!({})).await.ok();
    let told = sync(&server, &bob, Some(&invited["next_batch"])).await;
    let event = &told["rooms"]["leave"][&room_id]["timeline"]["events"][0];
    assert_eq!((&event["sender"], &event["content"]["membership"]), (&json!(bob.user_id), &json!("leave")), "{told}");
    // What there is nothing of is left out.
    assert!(told["rooms"].get("invite").is_none() && told["rooms"].get("join").is_none(), "{told}");
    // Nobody can go back in.
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn s_134_what_a_user_can_keep_is_bounded() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let data = |user: &Session, name: &str| format!("/_matrix/client/v3/user/{}/account_data/{name}", user.user_id);
    server.put_as(&bob, &data(&alice, "org.test"), json!({ "a": 1 })).await.assert_error(403, "M_FORBIDDEN");
    for managed in ["m.push_rules", "m.fully_read"] {
        let reply = server.put_as(&alice, &data(&alice, managed), json!({})).await;
        assert!([403, 405].contains(&reply.status), "{}", reply.text);
    }
    let ignored: serde_json::Map<String, Value> =
        (0..10_000).map(|number| (format!("@user{number}:example.org"), json!({}))).collect();
    let list = json!({ "ignored_users": ignored });
    server.put_as(&alice, &data(&alice, "m.ignored_user_list"), list).await.assert_error(413, "M_TOO_LARGE");
    // Pieces: as many as there may be, then one more, and one that is there already.
    let user_id: ruma::OwnedUserId = alice.user_id.as_str().try_into().unwrap();
    let storage = server.engine.storage();
    let count = storage.account_data_count(&user_id).await.unwrap();
    let piece = |number| rules::Change::AccountData {
        user_id: user_id.clone(),
        room_id: None,
        event_type: format!("org.test.{number}"),
        content: serde_json::value::to_raw_value(&json!({ "a": 1 })).unwrap(),
    };
    let changes = (count..20_000).map(piece).collect();
    storage.commit(storage::Submission { room: None, changes }).await.unwrap();
    server.put_as(&alice, &data(&alice, "org.more"), json!({ "a": 1 })).await.assert_error(413, "M_TOO_LARGE");
    server.put_as(&alice, &data(&alice, "org.test.19999"), json!({ "a": 2 })).await.ok();
    server.put_as(&bob, &data(&bob, "org.more"), json!({ "a": 1 })).await.ok();
    // Filters likewise.
    let filters = format!("/_matrix/client/v3/user/{}/filter", alice.user_id);
    let filter = |number| json!({ "room": { "timeline": { "limit": number } } });
    let first = server.post_as(&alice, &filters, filter(1)).await.ok();
    for number in 2..=1_000 {
        server.post_as(&alice, &filters, filter(number)).await.ok();
    }
    // The one that was not used for longest goes.
    server.clock.advance(std::time::Duration::from_hours(48));
    let session = server.log_in(&alice.user_id).await;
    let of = |filter_id: u64| format!("{filters}/{filter_id}");
    server.get_as(&session, &format!("{filters}/{}", first["filter_id"].as_str().unwrap())).await.ok();
    server.post_as(&session, &filters, filter(1_001)).await.ok();
    assert_eq!(server.post_as(&session, &filters, filter(1)).await.ok(), first);
    server.get_as(&session, &of(2)).await.assert_error(404, "M_NOT_FOUND");
    server.get_as(&session, &of(3)).await.ok();
}
