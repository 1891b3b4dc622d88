//! Spaces, summaries, and what strangers see of rooms.

use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

async fn create(server: &TestServer, user: &Session, body: Value) -> String {
    let reply = server.post_as(user, "/_matrix/client/v3/createRoom", body).await.ok();
    reply["room_id"].as_str().unwrap().to_owned()
}

async fn space(server: &TestServer, user: &Session, name: &str) -> String {
    let body = json!({"preset": "public_chat", "name": name, "creation_content": {"type": "m.space"}});
    create(server, user, body).await
}

async fn add(server: &TestServer, user: &Session, space: &str, child: &str, content: Value) {
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.space.child/{}", encode(space), encode(child));
    server.put_as(user, &path, content).await.ok();
}

fn hierarchy(space: &str, query: &str) -> String {
    format!("/_matrix/client/v1/rooms/{}/hierarchy?{query}", encode(space))
}

fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap_or("")).collect()
}

#[tokio::test]
async fn s_137_each_room_once_depth_first_and_only_what_the_asker_may_see() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let top = space(&server, &alice, "top").await;
    let inner = space(&server, &alice, "inner").await;
    let open = create(&server, &alice, json!({"preset": "public_chat", "name": "open", "topic": "for all"})).await;
    let closed = create(&server, &alice, json!({"preset": "private_chat", "name": "closed"})).await;
    let deep = create(&server, &alice, json!({"preset": "public_chat", "name": "deep"})).await;
    let allow = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": top}]});
    let restricted = json!({"name": "restricted", "initial_state": [{"type": "m.room.join_rules", "content": allow}]});
    let restricted = create(&server, &alice, restricted).await;
    let via = json!(["example.org"]);
    add(&server, &alice, &top, &inner, json!({"via": via, "order": "a"})).await;
    add(&server, &alice, &top, &open, json!({"via": via, "order": "b", "suggested": true})).await;
    add(&server, &alice, &top, &closed, json!({"via": via, "order": "c"})).await;
    add(&server, &alice, &top, &restricted, json!({"via": via, "order": "d"})).await;
    // A cycle, itself, a room twice, a child without a server, and one that nobody knows.
    add(&server, &alice, &top, &top, json!({"via": via, "order": "e"})).await;
    add(&server, &alice, &inner, &top, json!({"via": via})).await;
    add(&server, &alice, &inner, &open, json!({"via": via})).await;
    add(&server, &alice, &inner, &deep, json!({"via": via})).await;
    add(&server, &alice, &top, "!gone:example.org", json!({"via": via})).await;
    add(&server, &alice, &top, "!removed:example.org", json!({})).await;

    let page = server.get_as(&alice, &hierarchy(&top, "")).await.ok();
    assert_eq!(names(&page), ["top", "inner", "open", "deep", "closed", "restricted"]);
    assert!(page["next_batch"].is_null());
    let first = &page["rooms"][0];
    assert_eq!((&first["room_type"], &first["num_joined_members"]), (&json!("m.space"), &json!(1)), "{first}");
    assert_eq!(first["children_state"][0]["state_key"], inner.as_str());
    assert_eq!(first["children_state"][0].as_object().unwrap().len(), 5, "{first}");
    assert_eq!(page["rooms"][5]["allowed_room_ids"], json!([top]));
    assert_eq!(names(&server.get_as(&alice, &hierarchy(&top, "max_depth=0")).await.ok()), ["top"]);
    let shallow = server.get_as(&alice, &hierarchy(&top, "max_depth=1")).await.ok();
    assert_eq!(names(&shallow), ["top", "inner", "open", "closed", "restricted"]);
    let suggested = server.get_as(&alice, &hierarchy(&top, "suggested_only=true")).await.ok();
    assert_eq!(names(&suggested), ["top", "open"]);
    // Bob may see neither what is by invitation nor what is for members of the space, until he is one.
    assert_eq!(names(&server.get_as(&bob, &hierarchy(&top, "")).await.ok()), ["top", "inner", "open", "deep"]);
    server.post_as(&bob, &format!("/_matrix/client/v3/join/{}", encode(&top)), json!({})).await.ok();
    let page = server.get_as(&bob, &hierarchy(&top, "")).await.ok();
    assert_eq!(names(&page), ["top", "inner", "open", "deep", "restricted"]);
    server.get_as(&bob, &hierarchy(&closed, "")).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_walk_goes_on_where_it_was_and_only_as_it_began() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let top = space(&server, &alice, "top").await;
    for number in 0..4 {
        let name = format!("room {number}");
        let room = create(&server, &alice, json!({"preset": "public_chat", "name": name})).await;
        add(&server, &alice, &top, &room, json!({"via": ["example.org"], "order": number.to_string()})).await;
    }
    let first = server.get_as(&alice, &hierarchy(&top, "limit=2")).await.ok();
    assert_eq!(names(&first), ["top", "room 0"]);
    let from = first["next_batch"].as_str().unwrap();
    let second = server.get_as(&alice, &hierarchy(&top, &format!("limit=2&from={from}"))).await.ok();
    assert_eq!(names(&second), ["room 1", "room 2"]);
    // The same again gives the same.
    let again = server.get_as(&alice, &hierarchy(&top, &format!("limit=2&from={from}"))).await.ok();
    assert_eq!(names(&again), ["room 1", "room 2"]);
    let from = second["next_batch"].as_str().unwrap();
    let third = server.get_as(&alice, &hierarchy(&top, &format!("limit=2&from={from}"))).await.ok();
    assert_eq!((names(&third), &third["next_batch"]), (vec!["room 3"], &Value::Null));
    for (user, query) in [
        (&alice, format!("from={from}&suggested_only=true")),
        (&alice, format!("from={from}&max_depth=1")),
        (&bob, format!("from={from}")),
        (&alice, "from=nonsense".to_owned()),
    ] {
        server.get_as(user, &hierarchy(&top, &query)).await.assert_error(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn a_summary_is_for_those_who_may_enter() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({"preset": "public_chat", "name": "open", "room_alias_name": "open", "room_version": "11"});
    let open = create(&server, &alice, body).await;
    let closed = server.private_room(&alice).await;
    for room in [open.as_str(), "#open:example.org"] {
        let summary = server.get_as(&bob, &format!("/_matrix/client/v1/room_summary/{}", encode(room))).await.ok();
        assert_eq!((&summary["room_id"], &summary["name"]), (&json!(open), &json!("open")));
        assert_eq!((&summary["membership"], &summary["room_version"]), (&json!("leave"), &json!("11")));
        assert_eq!(summary["canonical_alias"], "#open:example.org");
    }
    let path = format!("/_matrix/client/v1/room_summary/{}", encode(&closed));
    server.get_as(&bob, &path).await.assert_error(404, "M_NOT_FOUND");
    let invite = format!("/_matrix/client/v3/rooms/{}/invite", encode(&closed));
    server.post_as(&alice, &invite, json!({"user_id": bob.user_id})).await.ok();
    assert_eq!(server.get_as(&bob, &path).await.ok()["membership"], "invite");
    let old_path = format!("/_matrix/client/unstable/im.nheko.summary/summary/{}", encode(&closed));
    assert_eq!(server.get_as(&bob, &old_path).await.ok()["name"], "Plans");
}

#[tokio::test]
async fn anybody_looks_into_a_world_readable_room_and_only_into_such_a_one() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for (visibility, readable) in [("world_readable", true), ("shared", false), ("invited", false), ("joined", false)] {
        let content = json!({"history_visibility": visibility});
        let initial_state = json!([{"type": "m.room.history_visibility", "content": content}]);
        let body = json!({"preset": "public_chat", "name": "glass", "initial_state": initial_state});
        let room_id = create(&server, &alice, body).await;
        server.say(&alice, &room_id, "t", "seen").await;
        for path in ["state", "members", "messages?dir=b", "initialSync", "state/m.room.name"] {
            let path = format!("/_matrix/client/v3/rooms/{}/{path}", encode(&room_id));
            assert_eq!(server.get_as(&bob, &path).await.status == 200, readable, "{visibility} {path}");
            assert_eq!(server.get_as(&alice, &path).await.status, 200);
        }
        let look = format!("/_matrix/client/v3/rooms/{}/initialSync?limit=2", encode(&room_id));
        let seen = server.get_as(&alice, &look).await.ok();
        assert_eq!((&seen["membership"], &seen["visibility"]), (&json!("join"), &json!("private")));
        let chunk = seen["messages"]["chunk"].as_array().unwrap();
        assert_eq!((chunk.len(), &chunk[1]["content"]["body"]), (2, &json!("seen")));
        let start = seen["messages"]["start"].as_str().unwrap();
        let before = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&from={start}&limit=1", encode(&room_id));
        assert_ne!(server.get_as(&alice, &before).await.ok()["chunk"][0]["event_id"], chunk[0]["event_id"]);
    }
}
