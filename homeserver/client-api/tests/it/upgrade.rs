//! Replacing a room by one of another version.

use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

async fn create(server: &TestServer, user: &Session, body: Value) -> String {
    let reply = server.post_as(user, "/_matrix/client/v3/createRoom", body).await.ok();
    reply["room_id"].as_str().unwrap().to_owned()
}

fn room(room_id: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room_id))
}

async fn state(server: &TestServer, user: &Session, room_id: &str, key: &str) -> Value {
    server.get_as(user, &room(room_id, &format!("state/{key}"))).await.body
}

async fn upgrade(server: &TestServer, user: &Session, room_id: &str, body: Value) -> String {
    let reply = server.post_as(user, &room(room_id, "upgrade"), body).await.ok();
    reply["replacement_room"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn s_138_an_upgrade_takes_over_what_the_room_was_and_closes_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let space = create(&server, &alice, json!({"creation_content": {"type": "m.space"}})).await;
    let old = create(
        &server,
        &alice,
        json!({
            "room_version": "10", "preset": "public_chat", "visibility": "public", "room_alias_name": "plans",
            "name": "Plans", "topic": "What next", "creation_content": {"m.federate": false},
            "initial_state": [
                {"type": "m.room.server_acl", "content": {"allow": ["*"], "deny": ["evil"]}},
                {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
                {"type": "m.room.avatar", "content": {"url": "mxc://example.org/a"}},
                {"type": "org.example.private", "content": {"is": "left"}},
            ],
        }),
    )
    .await;
    let link = json!({"via": ["example.org"], "order": "1"});
    server.put_as(&alice, &room(&space, &format!("state/m.space.child/{}", encode(&old))), link).await.ok();
    server.post_as(&bob, &room(&old, "join"), json!({})).await.ok();
    let ban = json!({"user_id": "@mallory:example.org"});
    server.post_as(&alice, &room(&old, "ban"), ban).await.ok();
    let mut levels = state(&server, &alice, &old, "m.room.power_levels").await;
    levels["users"][&bob.user_id] = json!(50);
    levels["events"]["m.room.topic"] = json!(75);
    server.put_as(&alice, &room(&old, "state/m.room.power_levels"), levels.clone()).await.ok();
    let tags = format!("/_matrix/client/v3/user/{}/rooms/{}/account_data/m.tag", encode(&bob.user_id), encode(&old));
    server.put_as(&bob, &tags, json!({"tags": {"m.favourite": {"order": 0.5}}})).await.ok();
    let direct = format!("/_matrix/client/v3/user/{}/account_data/m.direct", encode(&bob.user_id));
    server.put_as(&bob, &direct, json!({&alice.user_id: [old]})).await.ok();

    let new = upgrade(&server, &alice, &old, json!({"new_version": "11"})).await;
    for key in ["name", "topic", "server_acl", "encryption", "avatar", "join_rules", "history_visibility"] {
        let key = format!("m.room.{key}");
        assert_eq!(state(&server, &alice, &new, &key).await, state(&server, &alice, &old, &key).await, "{key}");
    }
    let guests = state(&server, &alice, &new, "m.room.guest_access").await;
    assert_eq!(guests, json!({"guest_access": "forbidden"}), "the old room has none, which says the same");
    assert_eq!(state(&server, &alice, &new, "m.room.power_levels").await, levels);
    let created = state(&server, &alice, &new, "m.room.create").await;
    assert_eq!((&created["room_version"], &created["m.federate"]), (&json!("11"), &json!(false)), "{created}");
    assert_eq!(created["predecessor"]["room_id"], old.as_str());
    assert!(created["predecessor"]["event_id"].is_string());
    assert_eq!(state(&server, &alice, &new, "m.room.member/@mallory:example.org").await["membership"], "ban");
    assert_eq!(state(&server, &alice, &new, "org.example.private").await["errcode"], "M_NOT_FOUND");

    assert_eq!(state(&server, &alice, &old, "m.room.tombstone").await["replacement_room"], new.as_str());
    let closed = state(&server, &alice, &old, "m.room.power_levels").await;
    assert_eq!((&closed["events_default"], &closed["invite"]), (&json!(50), &json!(50)));
    assert_eq!(
        server.get("/_matrix/client/v3/directory/room/%23plans:example.org").await.ok()["room_id"],
        new.as_str()
    );
    assert_eq!(state(&server, &alice, &new, "m.room.canonical_alias").await["alias"], "#plans:example.org");
    assert_eq!(state(&server, &alice, &old, "m.room.canonical_alias").await, json!({}));
    for (room_id, visibility) in [(&old, "private"), (&new, "public")] {
        let listed = server.get(&format!("/_matrix/client/v3/directory/list/room/{}", encode(room_id))).await.ok();
        assert_eq!(listed["visibility"], visibility);
    }
    let child = |room_id: &str| format!("m.space.child/{}", encode(room_id));
    assert_eq!(state(&server, &alice, &space, &child(&new)).await, json!({"via": ["example.org"], "order": "1"}));
    assert_eq!(state(&server, &alice, &space, &child(&old)).await, json!({}));

    server.post_as(&bob, &room(&new, "join"), json!({})).await.ok();
    let tags = tags.replace(&encode(&old), &encode(&new));
    assert_eq!(server.get_as(&bob, &tags).await.ok(), json!({"tags": {"m.favourite": {"order": 0.5}}}));
    assert_eq!(server.get_as(&bob, &direct).await.ok()[&alice.user_id], json!([old, new]));
    assert!(server.engine.storage().fsck().await.unwrap().is_empty());
}

#[tokio::test]
async fn version_12_has_creators_in_place_of_levels_and_back() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let old = create(&server, &alice, json!({"creation_content": {"type": "m.space"}})).await;
    let child = format!("state/m.space.child/{}", encode("!child:example.org"));
    server.put_as(&alice, &room(&old, &child), json!({"via": ["example.org"]})).await.ok();
    let body = json!({"new_version": "12", "additional_creators": [bob.user_id]});
    let new = upgrade(&server, &alice, &old, body).await;
    let created = state(&server, &alice, &new, "m.room.create").await;
    assert_eq!((&created["type"], &created["additional_creators"]), (&json!("m.space"), &json!([bob.user_id])));
    assert_eq!(created["predecessor"], json!({"room_id": old}));
    assert_eq!(state(&server, &alice, &new, "m.room.power_levels").await["users"], json!({}));
    assert_eq!(server.get_as(&alice, &room(&new, &child)).await.ok(), json!({"via": ["example.org"]}));
    let back = upgrade(&server, &alice, &new, json!({"new_version": "11"})).await;
    let levels = state(&server, &alice, &back, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({&alice.user_id: 100, &bob.user_id: 100}));
    assert!(state(&server, &alice, &back, "m.room.create").await["additional_creators"].is_null());
}

#[tokio::test]
async fn s_138_without_the_power_or_to_an_unknown_version_nothing_happens() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let old = create(&server, &alice, json!({"preset": "public_chat"})).await;
    server.post_as(&bob, &room(&old, "join"), json!({})).await.ok();
    let head = server.engine.storage().head();
    server.post_as(&bob, &room(&old, "upgrade"), json!({"new_version": "11"})).await.assert_error(403, "M_FORBIDDEN");
    let unknown = server.post_as(&alice, &room(&old, "upgrade"), json!({"new_version": "nonsense"})).await;
    unknown.assert_error(400, "M_UNSUPPORTED_ROOM_VERSION");
    assert_eq!(server.engine.storage().head(), head);
    // Half the power is enough, when the room says so, and is kept.
    let mut levels = state(&server, &alice, &old, "m.room.power_levels").await;
    levels["users"][&bob.user_id] = json!(50);
    levels["events"]["m.room.tombstone"] = json!(50);
    server.put_as(&alice, &room(&old, "state/m.room.power_levels"), levels.clone()).await.ok();
    let new = upgrade(&server, &bob, &old, json!({"new_version": "11"})).await;
    assert_eq!(state(&server, &bob, &new, "m.room.power_levels").await, levels);
}

#[tokio::test]
async fn s_033_a_room_is_heir_only_of_one_that_says_so() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let old = create(&server, &alice, json!({"preset": "public_chat", "visibility": "public"})).await;
    let tags = |room_id: &str| {
        let user = encode(&alice.user_id);
        format!("/_matrix/client/v3/user/{user}/rooms/{}/account_data/m.tag", encode(room_id))
    };
    server.put_as(&alice, &tags(&old), json!({"tags": {"u.mine": {}}})).await.ok();
    let predecessor =
        json!({"preset": "public_chat", "creation_content": {"predecessor": {"room_id": old, "event_id": "$x"}}});
    let claims = create(&server, &mallory, predecessor).await;
    // A tombstone with a state key is none.
    let path = room(&old, "state/m.room.tombstone/x");
    server.put_as(&alice, &path, json!({"body": "", "replacement_room": claims})).await.ok();
    server.post_as(&alice, &room(&claims, "join"), json!({})).await.ok();
    server.get_as(&alice, &tags(&claims)).await.assert_error(404, "M_NOT_FOUND");
    let listed = server.get(&format!("/_matrix/client/v3/directory/list/room/{}", encode(&old))).await.ok();
    assert_eq!(listed["visibility"], "public");
}
