//! Finding rooms, users, and the events of a day.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

const PUBLIC_ROOMS: &str = "/_matrix/client/v3/publicRooms";

async fn create(server: &TestServer, user: &Session, body: Value) -> String {
    let reply = server.post_as(user, "/_matrix/client/v3/createRoom", body).await.ok();
    reply["room_id"].as_str().unwrap().to_owned()
}

async fn join(server: &TestServer, user: &Session, room_id: &str) {
    server.post_as(user, &format!("/_matrix/client/v3/join/{}", encode(room_id)), json!({})).await.ok();
}

fn names(page: &Value) -> Vec<&str> {
    page["chunk"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap_or("")).collect()
}

#[tokio::test]
async fn public_rooms_are_listed_by_members_searched_and_paged() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let public = |name: &str, more: Value| {
        let mut body = json!({"visibility": "public", "preset": "public_chat", "name": name});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    create(&server, &alice, public("Cats", json!({"topic": "purring"}))).await;
    let dogs = create(&server, &alice, public("Dogs", json!({"room_alias_name": "woof"}))).await;
    create(&server, &alice, public("Pets", json!({"creation_content": {"type": "m.space"}}))).await;
    create(&server, &alice, json!({"preset": "public_chat", "name": "Not listed"})).await;
    join(&server, &bob, &dogs).await;

    let all = server.get_as(&bob, PUBLIC_ROOMS).await.ok();
    assert_eq!(names(&all)[0], "Dogs");
    assert_eq!((names(&all).len(), &all["total_room_count_estimate"]), (3, &json!(3)));
    let room = &all["chunk"][0];
    assert_eq!((&room["num_joined_members"], &room["canonical_alias"]), (&json!(2), &json!("#woof:example.org")));
    let search = async |filter: Value| {
        let reply = server.post_as(&bob, PUBLIC_ROOMS, json!({"filter": filter})).await.ok();
        names(&reply).into_iter().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(search(json!({"generic_search_term": "CAT"})).await, ["Cats"]);
    assert_eq!(search(json!({"generic_search_term": "purr"})).await, ["Cats"]);
    assert_eq!(search(json!({"generic_search_term": "woof"})).await, ["Dogs"]);
    assert_eq!(search(json!({"generic_search_term": "listed"})).await, [""; 0]);
    assert_eq!(search(json!({"room_types": ["m.space"]})).await, ["Pets"]);
    assert_eq!(search(json!({"room_types": [null]})).await.len(), 2);
    let mut seen = Vec::new();
    let mut since = String::new();
    for _ in 0..3 {
        let page = server.get_as(&bob, &format!("{PUBLIC_ROOMS}?limit=1{since}")).await.ok();
        seen.extend(names(&page).into_iter().map(ToOwned::to_owned));
        since = format!("&since={}", page["next_batch"].as_str().unwrap_or("none"));
    }
    assert_eq!(seen, names(&all));
    assert_eq!(since, "&since=none");
    server.get_as(&bob, &format!("{PUBLIC_ROOMS}?since=x")).await.assert_error(400, "M_INVALID_PARAM");
    let elsewhere = server.get_as(&bob, &format!("{PUBLIC_ROOMS}?server=elsewhere")).await;
    assert_eq!(elsewhere.status, 502, "{}", elsewhere.text);
    // What changes is seen at once, and a room that everybody has left is not.
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.name", encode(&dogs));
    server.put_as(&alice, &path, json!({"name": "Hounds"})).await.ok();
    assert_eq!(names(&server.get_as(&bob, PUBLIC_ROOMS).await.ok())[0], "Hounds");
    for user in [&alice, &bob] {
        let path = format!("/_matrix/client/v3/rooms/{}/leave", encode(&dogs));
        server.post_as(user, &path, json!({})).await.ok();
    }
    assert_eq!(names(&server.get_as(&bob, PUBLIC_ROOMS).await.ok()).len(), 2);
    let network = format!("/_matrix/client/v3/directory/list/appservice/irc/{}", encode(&dogs));
    server.put_as(&alice, &network, json!({"visibility": "public"})).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn s_132_users_are_found_by_those_who_may_know_of_them() {
    let server = TestServer::start().await;
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol", "zoe"] {
        users.push(server.register(name).await);
    }
    let [alice, bob, carol, zoe] = &users[..] else { panic!() };
    let profile = format!("/_matrix/client/v3/profile/{}/displayname", encode(&bob.user_id));
    server.put_as(bob, &profile, json!({"displayname": "Größte 100%_Eule"})).await.ok();
    let search = async |user: &Session, term: &str, limit: u64| {
        let body = json!({"search_term": term, "limit": limit});
        let reply = server.post_as(user, "/_matrix/client/v3/user_directory/search", body).await.ok();
        let found = reply["results"].as_array().unwrap().iter();
        let found: Vec<_> = found.map(|user| user["user_id"].as_str().unwrap().to_owned()).collect();
        (found, reply["limited"].as_bool().unwrap())
    };
    assert_eq!(search(alice, "bob", 10).await, (vec![], false));
    let room = server.private_room(alice).await;
    let invite = format!("/_matrix/client/v3/rooms/{}/invite", encode(&room));
    for user in [bob, carol] {
        server.post_as(alice, &invite, json!({"user_id": user.user_id})).await.ok();
        join(&server, user, &room).await;
    }
    let is_bob = (vec![bob.user_id.clone()], false);
    for term in ["bob", "@bob", "BOB", "b:example", "größte", "GRÖSSTE".to_lowercase().as_str(), "100%_e", "eule"] {
        let term = term.replace("grösste", "größte");
        assert_eq!(search(alice, &term, 10).await, is_bob, "{term}");
    }
    for term in ["", "join", "membership", "nobody", "1000"] {
        assert_eq!(search(alice, term, 10).await, (vec![], false), "{term}");
    }
    assert_eq!(search(zoe, "bob", 10).await, (vec![], false));
    let (found, limited) = search(alice, "example.org", 1).await;
    assert_eq!((found.len(), limited), (1, true));
    // A name that is used in one room only is not what the user is called elsewhere.
    let member = format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encode(&room), encode(&carol.user_id));
    server.put_as(carol, &member, json!({"membership": "join", "displayname": "Secret nick"})).await.ok();
    assert_eq!(search(alice, "secret", 10).await, (vec![], false));
    // In a room that anybody may join, anybody is found.
    let open = create(&server, carol, json!({"preset": "public_chat"})).await;
    assert_eq!(search(zoe, "carol", 10).await, (vec![carol.user_id.clone()], false));

    let mutual = async |user: &Session, other: &str| {
        let path = format!("/_matrix/client/v1/mutual_rooms?user_id={}", encode(other));
        server.get_as(user, &path).await
    };
    assert_eq!(mutual(alice, &bob.user_id).await.ok(), json!({"joined": [room], "count": 1}));
    assert_eq!(mutual(zoe, &carol.user_id).await.ok(), json!({"joined": [], "count": 0}));
    join(&server, zoe, &open).await;
    assert_eq!(mutual(zoe, &carol.user_id).await.ok(), json!({"joined": [open], "count": 1}));
    assert_eq!(mutual(zoe, "@nobody:elsewhere").await.ok(), json!({"joined": [], "count": 0}));
    mutual(zoe, &zoe.user_id).await.assert_error(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn the_event_of_a_time_is_the_closest_that_may_be_seen() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let initial_state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]);
    let room = create(&server, &alice, json!({"preset": "public_chat", "initial_state": initial_state})).await;
    let start = 1_700_000_000_000_u64;
    server.clock.advance(Duration::from_secs(100));
    let first = server.say(&alice, &room, "1", "first").await;
    server.clock.advance(Duration::from_secs(100));
    join(&server, &bob, &room).await;
    server.clock.advance(Duration::from_secs(100));
    let second = server.say(&alice, &room, "2", "second").await;
    let at = async |user: &Session, seconds: u64, direction: &str| {
        let ts = start + seconds * 1000;
        let path = format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?ts={ts}&dir={direction}", encode(&room));
        server.get_as(user, &path).await
    };
    for (seconds, direction, expected) in
        [(50, "f", &first), (100, "f", &first), (150, "b", &first), (999, "b", &second)]
    {
        let found = at(&alice, seconds, direction).await.ok();
        assert_eq!(found["event_id"], expected.as_str(), "{seconds} {direction}");
    }
    assert_eq!(at(&alice, 100, "f").await.ok()["origin_server_ts"], start + 100_000);
    at(&alice, 301, "f").await.assert_error(404, "M_NOT_FOUND");
    // Bob was not there yet.
    let found = at(&bob, 50, "f").await.ok();
    assert_eq!(found["origin_server_ts"], start + 200_000);
    // But for how the room began, before it said who may see what.
    assert_eq!(at(&bob, 150, "b").await.ok()["origin_server_ts"], start);
}
