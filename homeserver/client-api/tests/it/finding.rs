//! Finding rooms, users, and the events of a day.

use std::time::Duration;

use homeserver_client_api::Options;
use serde_json::{Value, json};

use crate::server::{Session, Setup, TestServer, encode};

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
async fn the_directory_is_the_administrators() {
    let server = TestServer::start().await;
    let (alice, bob, admin) =
        (server.register("alice").await, server.register("bob").await, server.administrator().await);
    let room = create(&server, &alice, json!({"preset": "public_chat", "name": "Spam"})).await;
    let path = format!("/_matrix/client/v3/directory/list/room/{}", encode(&room));
    server.put_as(&bob, &path, json!({"visibility": "public"})).await.assert_error(403, "M_FORBIDDEN");
    for (visibility, expected) in [("public", vec!["Spam"]), ("private", vec![])] {
        server.put_as(&admin, &path, json!({"visibility": visibility})).await.ok();
        assert_eq!(names(&server.get_as(&bob, PUBLIC_ROOMS).await.ok()), expected);
    }
    let unknown = "/_matrix/client/v3/directory/list/room/!unknown:example.org";
    server.put_as(&admin, unknown, json!({"visibility": "public"})).await.assert_error(404, "M_NOT_FOUND");
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
    // The name of a server says nothing about a user.
    assert_eq!(search(alice, "example.org", 10).await, (vec![], false));
    let profile = format!("/_matrix/client/v3/profile/{}/displayname", encode(&carol.user_id));
    server.put_as(carol, &profile, json!({"displayname": "Kleine Eule"})).await.ok();
    let (found, limited) = search(alice, "eule", 1).await;
    assert_eq!((found.len(), limited), (1, true));
    // Two letters begin a word.
    assert_eq!(search(alice, "kl", 10).await, (vec![carol.user_id.clone()], false));
    assert_eq!(search(alice, "ar", 10).await, (vec![], false));
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

#[tokio::test]
async fn s_133_without_an_account_only_what_is_for_everybody_is_shown() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let open = create(&server, &alice, json!({"preset": "public_chat", "name": "Open", "visibility": "public"})).await;
    let closed = server.private_room(&alice).await;
    let summary = async |room: &str| server.get(&format!("/_matrix/client/v1/room_summary/{}", encode(room))).await;
    let shown = summary(&open).await.ok();
    assert_eq!((shown["name"].as_str(), shown.get("membership")), (Some("Open"), None));
    for room in [&*closed, "!nothing:example.org", "#nothing:example.org", "#nothing:elsewhere"] {
        summary(room).await.assert_error(404, "M_NOT_FOUND");
    }
    server.get(PUBLIC_ROOMS).await.assert_error(401, "M_MISSING_TOKEN");
    let options = Options { directory_for_everybody: true, ..Options::default() };
    let server = TestServer::start_as(Setup { options, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    create(&server, &alice, json!({"preset": "public_chat", "name": "Open", "visibility": "public"})).await;
    assert_eq!(server.get(PUBLIC_ROOMS).await.ok()["chunk"][0]["name"], "Open");
    server.get(&format!("{PUBLIC_ROOMS}?server=elsewhere")).await.assert_error(401, "M_MISSING_TOKEN");
    server.post(PUBLIC_ROOMS, json!({})).await.assert_error(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn canonical_aliases_point_to_their_room() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = create(&server, &alice, json!({"preset": "public_chat", "room_alias_name": "one"})).await;
    create(&server, &alice, json!({"preset": "public_chat", "room_alias_name": "other"})).await;
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.canonical_alias", encode(&room));
    let set = async |user: &Session, content: Value| server.put_as(user, &path, content).await;
    let two = "/_matrix/client/v3/directory/room/%23two%3Aexample.org";
    server.put_as(&alice, two, json!({"room_id": room})).await.ok();
    set(&alice, json!({"alias": "#one:example.org", "alt_aliases": ["#two:example.org"]})).await.ok();
    for wrong in ["#other:example.org", "#nothing:example.org", "#far:elsewhere"] {
        set(&alice, json!({"alias": wrong})).await.assert_error(400, "M_BAD_ALIAS");
        set(&alice, json!({"alt_aliases": [wrong]})).await.assert_error(400, "M_BAD_ALIAS");
    }
    set(&alice, json!({"alt_aliases": ["one"]})).await.assert_error(400, "M_INVALID_PARAM");
    // Each would be a question to another server.
    let many: Vec<String> = (0..21).map(|number| format!("#a:server{number}")).collect();
    set(&alice, json!({"alt_aliases": many})).await.assert_error(400, "M_INVALID_PARAM");
    // Who may not set them is told so, and causes none.
    set(&bob, json!({"alias": "#far:elsewhere"})).await.assert_error(403, "M_FORBIDDEN");
    join(&server, &bob, &room).await;
    set(&bob, json!({"alias": "#far:elsewhere"})).await.assert_error(403, "M_FORBIDDEN");
    // What stands there already is not looked up again, wherever it points now.
    server.send(axum::http::Method::DELETE, two, Some(&alice.token), &json!({})).await.ok();
    let left = server.get_as(&alice, &path).await.ok();
    assert_eq!(left, json!({"alias": "#one:example.org", "alt_aliases": []}));
}

#[tokio::test]
async fn s_034_an_alias_stays_with_its_room_and_goes_with_those_who_may() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let hers = create(&server, &alice, json!({"preset": "public_chat", "room_alias_name": "hers"})).await;
    let his = create(&server, &bob, json!({"preset": "public_chat"})).await;
    let alias = "/_matrix/client/v3/directory/room/%23hers%3Aexample.org";
    let points_to = async || server.get_as(&bob, alias).await.ok()["room_id"].as_str().unwrap().to_owned();
    server.put_as(&bob, alias, json!({"room_id": his})).await.assert_error(409, "M_UNKNOWN");
    let taken = json!({"preset": "public_chat", "room_alias_name": "hers"});
    server.post_as(&bob, "/_matrix/client/v3/createRoom", taken).await.assert_error(400, "M_ROOM_IN_USE");
    assert_eq!(points_to().await, hers);
    let delete = axum::http::Method::DELETE;
    server.send(delete.clone(), alias, Some(&bob.token), &json!({})).await.assert_error(403, "M_FORBIDDEN");
    // In the room, too, as long as he has no power there.
    join(&server, &bob, &hers).await;
    server.send(delete.clone(), alias, Some(&bob.token), &json!({})).await.assert_error(403, "M_FORBIDDEN");
    assert_eq!(points_to().await, hers);
    let elsewhere = "/_matrix/client/v3/directory/room/%23hers%3Aelsewhere";
    let refused = server.put_as(&alice, elsewhere, json!({"room_id": hers})).await;
    assert!([400, 403].contains(&refused.status), "{}", refused.status);
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.canonical_alias", encode(&his));
    server.put_as(&bob, &path, json!({"alias": "#hers:example.org"})).await.assert_error(400, "M_BAD_ALIAS");
    server.send(delete, alias, Some(&alice.token), &json!({})).await.ok();
    server.put_as(&bob, alias, json!({"room_id": his})).await.ok();
    assert_eq!(points_to().await, his);
}
