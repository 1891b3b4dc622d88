//! Spaces, directories and times, asked of us and by us.

use engine::{EngineError, HierarchyQuery, PublicRoomsQuery, Requester};
use fake_homeserver::{Room, RoomSettings, body_of, json as reply};
use http::Method;
use rules::room::create::Preset;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::stage::{Stage, encode, errcode, raw_json, via};

async fn space(stage: &Stage, creator: &Requester, preset: Preset) -> OwnedRoomId {
    stage
        .local_room(creator, |command| {
            command.preset = Some(preset);
            command.name = Some("space".to_owned());
            command.creation_content = serde_json::from_value(json!({"type": "m.space"})).unwrap();
        })
        .await
}

async fn add(stage: &Stage, user: &Requester, space: &RoomId, child: &str, server: &str) {
    let content = raw_json(&json!({"via": [server]}));
    stage.engine.set_state(user, space, "m.space.child".into(), child, &content).await.unwrap();
}

async fn walk(stage: &Stage, user: &Requester, room_id: &RoomId) -> engine::Result<Vec<String>> {
    let room_id = room_id.to_owned();
    let query = HierarchyQuery { room_id, from: None, limit: None, max_depth: None, suggested_only: false };
    let page = stage.engine.hierarchy(user, query).await?;
    Ok(page.rooms.iter().map(|room| room.summary.room_id.to_string()).collect())
}

fn summary(room_id: &str, join_rule: &str, room_type: Option<&str>) -> Value {
    json!({
        "room_id": room_id, "num_joined_members": 3, "world_readable": false, "guest_can_join": false,
        "join_rule": join_rule, "room_type": room_type, "name": "told",
    })
}

fn child(room_id: &str) -> Value {
    json!({
        "type": "m.space.child", "state_key": room_id, "sender": "@rita:remote", "origin_server_ts": 5,
        "content": {"via": ["remote"]},
    })
}

#[tokio::test]
async fn s_058_another_server_sees_of_a_space_what_its_users_may_enter() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let top = space(&stage, &alice, Preset::PublicChat).await;
    let open = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    let closed = stage.local_room(&alice, |command| command.preset = Some(Preset::PrivateChat)).await;
    for room_id in [&open, &closed] {
        add(&stage, &alice, &top, room_id.as_str(), "test").await;
    }
    add(&stage, &alice, &top, "!elsewhere:elsewhere", "elsewhere").await;
    let ask = async |room_id: &RoomId| {
        stage.remote.get(&stage.name, &format!("/_matrix/federation/v1/hierarchy/{}", encode(room_id))).await
    };
    let answer = body_of(&ask(&top).await);
    assert_eq!(answer["room"]["room_id"], top.as_str(), "{answer}");
    assert_eq!(answer["room"]["children_state"].as_array().unwrap().len(), 3);
    assert_eq!(answer["children"][0]["room_id"], open.as_str());
    assert_eq!(answer["inaccessible_children"], json!([closed]));
    assert_eq!(ask(&closed).await.status(), 404);
    let acl = raw_json(&json!({"allow": ["*"], "deny": ["remote"]}));
    stage.engine.set_state(&alice, &top, "m.room.server_acl".into(), "", &acl).await.unwrap();
    assert_eq!(ask(&top).await.status(), 404);
}

#[tokio::test]
async fn s_137_what_other_servers_say_of_rooms_is_bounded_and_filtered() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let top = space(&stage, &alice, Preset::PublicChat).await;
    add(&stage, &alice, &top, "!inner:remote", "remote").await;
    stage.remote.on("/_matrix/federation/v1/hierarchy", |request| {
        let path = request.uri().path();
        if !path.contains("inner") {
            return reply(404, &json!({"errcode": "M_NOT_FOUND"}));
        }
        let mut room = summary("!inner:remote", "public", Some("m.space"));
        let named = ["!inner:remote", "!open:remote", "!secret:remote", "!open:remote", "!unknown:remote"];
        room["children_state"] = named.map(child).into_iter().collect();
        let children = json!([
            summary("!open:remote", "public", None),
            summary("!secret:remote", "invite", None),
            summary("!not_named:remote", "public", None),
            {"room_id": 5},
        ]);
        reply(200, &json!({"room": room, "children": children, "inaccessible_children": "nonsense"}))
    });
    assert_eq!(walk(&stage, &alice, &top).await.unwrap(), [top.as_str(), "!inner:remote", "!open:remote"]);
    let asked = stage.network.recorded_to(stage.remote.name(), "hierarchy").len();
    // It is known for a while.
    walk(&stage, &alice, &top).await.unwrap();
    let again = stage.network.recorded_to(stage.remote.name(), "hierarchy").len();
    assert_eq!(again - asked, 1, "only the room of which nothing was told is asked for again");

    // An answer about another room, and ten thousand children.
    let other = space(&stage, &alice, Preset::PublicChat).await;
    add(&stage, &alice, &other, "!liar:remote", "remote").await;
    add(&stage, &alice, &other, "!huge:remote", "remote").await;
    stage.remote.behave();
    stage.remote.on("/_matrix/federation/v1/hierarchy", |request| {
        if request.uri().path().contains("liar") {
            let mut room = summary("!victim:remote", "public", Some("m.space"));
            room["children_state"] = json!([]);
            return reply(200, &json!({"room": room, "children": []}));
        }
        let mut room = summary("!huge:remote", "public", Some("m.space"));
        room["children_state"] = (0..10_000).map(|number| child(&format!("!c{number}:remote"))).collect();
        reply(200, &json!({"room": room, "children": []}))
    });
    assert_eq!(walk(&stage, &alice, &other).await.unwrap(), [other.as_str(), "!huge:remote"]);
    let asked = stage.network.recorded_to(stage.remote.name(), "hierarchy").len();
    assert!(asked < 60, "{asked}");
}

#[tokio::test]
async fn nobody_is_asked_of_a_room_that_is_said_to_be_closed_to_us() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let top = space(&stage, &alice, Preset::PublicChat).await;
    add(&stage, &alice, &top, "!inner:remote", "remote").await;
    let ours = space(&stage, &alice, Preset::PublicChat).await;
    let named = ["!closed:remote", ours.as_str()].map(child);
    stage.remote.on("/_matrix/federation/v1/hierarchy", move |_| {
        let mut room = summary("!inner:remote", "public", Some("m.space"));
        room["children_state"] = json!(named);
        let inaccessible = named.each_ref().map(|child| child["state_key"].clone());
        reply(200, &json!({"room": room, "children": [], "inaccessible_children": inaccessible}))
    });
    assert_eq!(walk(&stage, &alice, &top).await.unwrap(), [top.as_str(), "!inner:remote", ours.as_str()]);
    assert_eq!(stage.network.recorded_to(stage.remote.name(), "hierarchy").len(), 1);
}

#[tokio::test]
async fn a_room_elsewhere_is_summed_up_by_a_server_that_is_in_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    for (room_id, join_rule, seen) in [("!open:remote", "public", true), ("!closed:remote", "invite", false)] {
        stage.remote.behave();
        stage.remote.on("/_matrix/federation/v1/hierarchy", move |_| {
            let mut room = summary(room_id, join_rule, None);
            room["children_state"] = json!([]);
            reply(200, &json!({"room": room, "children": []}))
        });
        let room: &RoomId = room_id.try_into().unwrap();
        let found = stage.engine.room_summary(&alice, room.into(), &via(&stage.remote)).await;
        match found {
            Ok((summary, _)) => assert!(seen && summary.name.as_deref() == Some("told")),
            Err(error) => assert!(!seen && matches!(error, EngineError::NotFound(_)), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn s_133_directories_are_read_of_others_and_by_others() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let listed = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    let target = "/_matrix/federation/v1/publicRooms";
    let got = stage.remote.get(&stage.name, &format!("{target}?limit=5")).await;
    assert_eq!(body_of(&got)["chunk"][0]["room_id"], listed.as_str(), "{:?}", got.body());
    let body = json!({"filter": {"generic_search_term": "nothing like it"}});
    let posted = stage.remote.ask(&stage.name, Method::POST, target, Some(&body)).await;
    assert_eq!(body_of(&posted)["chunk"], json!([]));

    stage.remote.on(target, |request| {
        let mut room = summary("!theirs:remote", "public", None);
        room["name"] = json!(request.method().as_str());
        let chunk = json!([room, {"room_id": "nonsense"}, 5]);
        reply(200, &json!({"chunk": chunk, "next_batch": "n", "total_room_count_estimate": 7}))
    });
    let server = Some(stage.remote.name().to_owned());
    for (search_term, method) in [(None, "GET"), (Some("x".to_owned()), "POST")] {
        let query = PublicRoomsQuery { server: server.clone(), search_term, ..PublicRoomsQuery::default() };
        let page = stage.engine.public_rooms(query).await.unwrap();
        assert_eq!((page.chunk.len(), page.next_batch.as_deref(), page.total), (1, Some("n"), Some(7)));
        assert_eq!(page.chunk[0].name.as_deref(), Some(method));
    }
    let sent = stage.network.recorded_to(stage.remote.name(), "publicRooms");
    assert_eq!(sent.last().unwrap().body["filter"]["generic_search_term"], "x");
    stage.network.cut(stage.remote.name());
    let query = PublicRoomsQuery { server, ..PublicRoomsQuery::default() };
    assert!(matches!(stage.engine.public_rooms(query).await, Err(EngineError::CannotFederate(_))));
}

#[tokio::test]
async fn a_time_before_we_came_is_known_to_others() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
    let mut before = Vec::new();
    for number in 0..5 {
        stage.clock.advance(std::time::Duration::from_mins(1));
        before.push(room.send_message(&stage.remote, &rita, &format!("message {number}")));
    }
    stage.clock.advance(std::time::Duration::from_mins(1));
    stage.join(&alice, &room.id).await.unwrap();
    let wanted = before[2].clone();
    let ts = u64::from(wanted.origin_server_ts.0);
    let told = wanted.event_id.clone();
    stage.remote.on("/_matrix/federation/v1/timestamp_to_event", move |_| {
        reply(200, &json!({"event_id": told, "origin_server_ts": ts}))
    });
    let found = stage.engine.timestamp_to_event(&alice, &room.id, ts + 1, false).await.unwrap();
    assert_eq!(found.0, wanted.event_id);
    assert!(stage.sees(&alice, &room.id, &wanted.event_id).await);
    // What we have now is told to others who are in the room, and to nobody else.
    let target = format!("/_matrix/federation/v1/timestamp_to_event/{}?ts={}&dir=f", encode(&room.id), ts);
    let answer = body_of(&stage.remote.get(&stage.name, &target).await);
    assert_eq!(answer, json!({"event_id": wanted.event_id, "origin_server_ts": ts}));
    let stranger = stage.network.add_fake("stranger");
    let refused = stranger.get(&stage.name, &target).await;
    assert_eq!((refused.status().as_u16(), errcode(&refused).as_str()), (404, "M_NOT_FOUND"));
}
