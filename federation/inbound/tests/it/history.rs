//! Who may read what of a room, and reading backwards from servers that lie.

use fake_homeserver::{FakeHomeserver, Response, Room, RoomSettings, body_of, json as reply};
use http::Method;
use inbound::route_table;
use rules::room::create::Preset;
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, api::client::filter::RoomEventFilter};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, encode, errcode, initial_state};

const UNKNOWN_EVENT: &str = "$unheard_of_unheard_of_unheard_of_unheard_of_u";

/// A request to an endpoint about a room and an event.
async fn ask(
    stage: &Stage,
    asker: &FakeHomeserver,
    (method, path): (&Method, &str),
    room: &str,
    event: &str,
) -> Response {
    let user_id = asker.user("stranger");
    let mut target = path
        .replace("{room_id}", &encode(room))
        .replace("{event_id}", &encode(event))
        .replace("{user_id}", &encode(user_id.as_str()));
    if path.contains("/state") {
        target = format!("{target}?event_id={}", encode(event));
    }
    if path.contains("/backfill/") {
        target = format!("{target}?v={}&limit=10", encode(event));
    }
    if path.contains("/timestamp_to_event/") {
        target = format!("{target}?ts=1790000000000&dir=f");
    }
    if path.contains("/make_join/") || path.contains("/make_knock/") {
        target = format!("{target}?ver=11");
    }
    let body = match *method {
        Method::GET => None,
        Method::POST => Some(json!({"earliest_events": [], "latest_events": [event], "limit": 10})),
        _ if path.contains("/exchange_third_party_invite/") => {
            let content = json!({"membership": "invite", "third_party_invite": {"signed": {"mxid": user_id}}});
            let body = json!({"type": "m.room.member", "room_id": room, "sender": "@alice:test", "state_key": user_id, "content": content});
            return asker.ask(&stage.name, method.clone(), &target, Some(&body)).await;
        }
        _ => {
            let membership = ["leave", "knock"].into_iter().find(|verb| path.contains(verb)).unwrap_or("join");
            Some(membership_event(asker, room, membership))
        }
    };
    if let Some(event) = body.as_ref().filter(|_| *method == Method::PUT) {
        let rules = RoomVersionId::V11.rules().unwrap();
        let (pdu, _) = rules::event::read_pdu(&event.to_string(), &rules).unwrap();
        target = path.replace("{room_id}", &encode(room)).replace("{event_id}", &encode(&pdu.event_id));
    }
    asker.ask(&stage.name, method.clone(), &target, body.as_ref()).await
}

/// A membership that the asker gives its own user, by the book but for what it cannot know.
fn membership_event(asker: &FakeHomeserver, room: &str, membership: &str) -> Value {
    let user_id = asker.user("stranger");
    let object = json!({
        "type": "m.room.member", "room_id": room, "sender": user_id, "state_key": user_id,
        "content": {"membership": membership}, "prev_events": [UNKNOWN_EVENT], "auth_events": [UNKNOWN_EVENT],
        "depth": 5, "origin_server_ts": 1_790_000_000_000_u64,
    });
    let rules = RoomVersionId::V11.rules().unwrap();
    serde_json::to_value(asker.seal(serde_json::from_value(object).unwrap(), &rules)).unwrap()
}

#[tokio::test]
async fn s_058_to_a_server_outside_of_the_room_it_looks_as_if_there_were_none() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PrivateChat)).await;
    let event_id = stage.send(&alice, &room_id, "secret").await;
    let stranger = stage.network.add_fake("stranger");
    let head = stage.log_head();
    let about_rooms = |path: &str| path.contains("{room_id}") || path.contains("{event_id}");
    let rows: Vec<_> = route_table().into_iter().filter(|endpoint| about_rooms(endpoint.path)).collect();
    assert!(rows.len() >= 14, "the table has lost its rooms");
    let mut leaks = Vec::new();
    // An invite is not about a room of ours; invites have tests of their own.
    for endpoint in rows.iter().filter(|endpoint| !endpoint.path.contains("/invite/")) {
        let row = (&endpoint.method, endpoint.path);
        let known = ask(&stage, &stranger, row, room_id.as_str(), event_id.as_str()).await;
        let unknown = [
            ask(&stage, &stranger, row, room_id.as_str(), UNKNOWN_EVENT).await,
            ask(&stage, &stranger, row, "!unheard_of:test", UNKNOWN_EVENT).await,
            ask(&stage, &stranger, row, "!unheard_of:elsewhere", UNKNOWN_EVENT).await,
        ];
        for response in unknown.iter().chain([&known]) {
            assert!(!String::from_utf8_lossy(response.body()).contains("secret"), "{}", endpoint.path);
            if ![403, 404].contains(&response.status().as_u16()) {
                leaks.push(format!("{}: {} {:?}", endpoint.path, response.status(), response.body()));
            }
        }
        // The specification wants the answers to make_join and make_knock to tell the two apart.
        let may_differ = endpoint.path.contains("/make_join/") || endpoint.path.contains("/make_knock/");
        let differ = |other: &&Response| (known.status(), known.body()) != (other.status(), other.body());
        if let Some(other) = unknown.iter().find(differ).filter(|_| !may_differ) {
            leaks.push(format!("{}: {:?} and {:?}", endpoint.path, known.body(), other.body()));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert_eq!(stage.log_head(), head);
}

#[tokio::test]
async fn s_058_an_event_of_another_room_is_not_got_by_naming_a_room_that_one_is_in() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let secret_room = stage.local_room(&alice, |command| command.preset = Some(Preset::PrivateChat)).await;
    let secret = stage.send(&alice, &secret_room, "secret").await;
    let open_room = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    stage.remote.join(&stage.name, &open_room, &stage.remote.user("bob")).await.map_err(|r| body_of(&r)).unwrap();
    let open = stage.send(&alice, &open_room, "open").await;
    for endpoint in route_table() {
        let about_events = endpoint.path.contains("{event_id}")
            || endpoint.path.contains("/state")
            || endpoint.path.contains("/backfill/")
            || endpoint.path.contains("/get_missing_events/");
        if !about_events || endpoint.method == Method::PUT {
            continue;
        }
        let row = (&endpoint.method, endpoint.path);
        let response = ask(&stage, &stage.remote, row, open_room.as_str(), secret.as_str()).await;
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(!text.contains("\"secret\"") && !text.contains(secret_room.as_str()), "{}: {text}", endpoint.path);
        let empty = response.status() == 200 && (text.contains("\"events\":[]") || text.contains("\"pdus\":[]"));
        assert!(empty || [403, 404].contains(&response.status().as_u16()), "{}: {text}", endpoint.path);
        let response = ask(&stage, &stage.remote, row, open_room.as_str(), open.as_str()).await;
        assert_eq!(response.status(), 200, "{}: {:?}", endpoint.path, response.body());
    }
}

#[tokio::test]
async fn s_056_missing_events_are_few_and_of_the_room() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    let elsewhere = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    let foreign = stage.send(&alice, &elsewhere, "foreign").await;
    stage.remote.join(&stage.name, &room_id, &stage.remote.user("bob")).await.map_err(|r| body_of(&r)).unwrap();
    for number in 0..150 {
        stage.send(&alice, &room_id, &format!("number {number}")).await;
    }
    let last = stage.send(&alice, &room_id, "last").await;
    let target = format!("/_matrix/federation/v1/get_missing_events/{}", encode(&room_id));
    let ask = async |body: Value| stage.remote.ask(&stage.name, Method::POST, &target, Some(&body)).await;
    let many: Vec<String> = (0..10_000).map(|number| format!("${number:043}")).collect();
    let cases = [
        json!({"earliest_events": [], "latest_events": [last], "limit": 1_000_000_000}),
        json!({"earliest_events": many, "latest_events": [last], "limit": 1_000_000_000}),
        json!({"earliest_events": [], "latest_events": many, "limit": 100}),
        json!({"earliest_events": [], "latest_events": [last, foreign], "limit": 50, "min_depth": 0}),
        json!({"earliest_events": [], "latest_events": [foreign], "limit": 50}),
        json!({"earliest_events": [foreign], "latest_events": [last]}),
    ];
    for body in cases {
        let response = tokio::time::timeout(PATIENCE, ask(body.clone())).await.expect("it ends");
        assert!(!response.status().is_server_error(), "{:?}", response.body());
        let answer = body_of(&response);
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        assert!(events.len() <= 100, "{} events", events.len());
        let asks_for_what_there_is = body["latest_events"][0] == last.as_str();
        assert_eq!(!events.is_empty(), asks_for_what_there_is, "{} events", events.len());
        for event in &events {
            assert_eq!(event["room_id"], room_id.as_str());
        }
    }
    for body in [
        json!({"latest_events": [last]}),
        json!({"earliest_events": "x", "latest_events": []}),
        json!({"earliest_events": [], "latest_events": [], "limit": -1}),
    ] {
        assert_eq!(ask(body).await.status(), 400);
    }
}

/// A room whose history is for those who were there, with a secret from before the remote server joined.
async fn room_with_a_past(stage: &Stage, alice: &engine::Requester) -> (OwnedRoomId, OwnedEventId, OwnedEventId) {
    let visibility = json!({"history_visibility": "joined"});
    let room_id = stage
        .local_room(alice, |command| {
            command.preset = Some(Preset::PublicChat);
            command.initial_state.push(initial_state("m.room.history_visibility", &visibility));
        })
        .await;
    let before = stage.send(alice, &room_id, "secret").await;
    stage.remote.join(&stage.name, &room_id, &stage.remote.user("bob")).await.map_err(|r| body_of(&r)).unwrap();
    let after = stage.send(alice, &room_id, "open").await;
    (room_id, before, after)
}

#[tokio::test]
async fn s_059_what_was_said_before_a_server_came_is_not_shown_to_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room_id, before, after) = room_with_a_past(&stage, &alice).await;
    let requests = [
        (Method::GET, format!("/_matrix/federation/v1/event/{}", encode(&before)), None),
        (
            Method::GET,
            format!("/_matrix/federation/v1/backfill/{}?v={}&limit=50", encode(&room_id), encode(&after)),
            None,
        ),
        (
            Method::POST,
            format!("/_matrix/federation/v1/get_missing_events/{}", encode(&room_id)),
            Some(json!({"earliest_events": [], "latest_events": [after], "limit": 50})),
        ),
    ];
    for (method, target, body) in requests {
        let response = stage.remote.ask(&stage.name, method, &target, body.as_ref()).await;
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(!text.contains("\"secret\""), "{target}: {text}");
        assert!(!response.status().is_server_error());
    }
    let target = format!("/_matrix/federation/v1/event/{}", encode(&after));
    assert!(String::from_utf8_lossy(stage.remote.get(&stage.name, &target).await.body()).contains("open"));
}

#[tokio::test]
async fn honest_questions_are_answered() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    let first = stage.send(&alice, &room_id, "first").await;
    stage.remote.join(&stage.name, &room_id, &stage.remote.user("bob")).await.map_err(|r| body_of(&r)).unwrap();
    let last = stage.send(&alice, &room_id, "last").await;
    let get = async |target: String| {
        let response = stage.remote.get(&stage.name, &target).await;
        assert_eq!(response.status(), 200, "{target}: {:?}", response.body());
        body_of(&response)
    };
    let (room, event) = (encode(&room_id), encode(&last));
    let backfilled = get(format!("/_matrix/federation/v1/backfill/{room}?v={event}&limit=100")).await;
    let text = backfilled["pdus"].to_string();
    assert!(text.contains("\"first\"") && text.contains("\"last\"") && text.contains("m.room.create"), "{text}");
    let limited = get(format!("/_matrix/federation/v1/backfill/{room}?v={event}&limit=2")).await;
    assert_eq!(limited["pdus"].as_array().unwrap().len(), 2);
    let state = get(format!("/_matrix/federation/v1/state/{room}?event_id={event}")).await;
    let ids = get(format!("/_matrix/federation/v1/state_ids/{room}?event_id={event}")).await;
    assert_eq!(state["pdus"].as_array().unwrap().len(), ids["pdu_ids"].as_array().unwrap().len());
    assert_eq!(state["auth_chain"].as_array().unwrap().len(), ids["auth_chain_ids"].as_array().unwrap().len());
    assert!(state["pdus"].to_string().contains("@bob:remote"));
    // The state before the first message has no bob in it.
    let early = get(format!("/_matrix/federation/v1/state/{room}?event_id={}", encode(&first))).await;
    assert!(!early["pdus"].to_string().contains("@bob:remote"));
    let auth = get(format!("/_matrix/federation/v1/event_auth/{room}/{event}")).await;
    assert!(auth["auth_chain"].to_string().contains("m.room.create"));
    let one = get(format!("/_matrix/federation/v1/event/{event}")).await;
    assert_eq!(one["pdus"][0]["content"]["body"], "last");
    assert_eq!(one["origin"], "test");
}

/// Everything that a client gets by reading backwards, until it is told that there is no more.
async fn read_back(stage: &Stage, alice: &engine::Requester, room: &Room) -> Vec<String> {
    let mut from = None;
    let mut read = Vec::new();
    for _ in 0..60 {
        let query = engine::MessagesQuery {
            room_id: room.id.clone(),
            from: from.clone(),
            to: None,
            forward: false,
            limit: 20,
            filter: RoomEventFilter::default(),
        };
        let page = stage.engine.messages(alice, query).await.unwrap();
        read.extend(page.chunk.iter().map(|event| event.get().to_owned()));
        let Some(end) = page.end else { return read };
        assert_ne!(Some(&end), from.as_ref(), "the token stands still");
        from = Some(end);
    }
    panic!("reading back does not end: {} events so far", read.len());
}

#[tokio::test]
async fn s_057_a_backfill_that_lies_is_filtered_and_ends() {
    for case in ["other rooms", "only rejected", "loop", "unsigned", "empty", "error", "junk"] {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let rita = stage.remote.user("rita");
        let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
        for number in 0..10 {
            room.send_message(&stage.remote, &rita, &format!("old {number}"));
        }
        let elsewhere = Room::create(&stage.remote, &rita, &RoomSettings::default());
        let foreign: Vec<Value> = (0..10)
            .map(|_| elsewhere.send_message(&stage.remote, &rita, "poison"))
            .map(|pdu| serde_json::from_str(&pdu.json).unwrap())
            .collect();
        stage.join(&alice, &room.id).await.unwrap();
        let rejected: Vec<Value> = (0..10)
            .map(|number| {
                let ghost = stage.remote.user("ghost");
                let content = json!({"msgtype": "m.text", "body": format!("poison {number}")});
                let draft = room.draft(&stage.remote, &ghost, "m.room.message", None, content);
                serde_json::from_str(&stage.remote.build(draft, &room.rules).json).unwrap()
            })
            .collect();
        let newest: Value = serde_json::from_str(&room.timeline().last().unwrap().json).unwrap();
        let unsigned: Vec<Value> = room
            .timeline()
            .iter()
            .map(|pdu| {
                let mut event: Value = serde_json::from_str(&pdu.json).unwrap();
                event["signatures"] = json!({});
                if event["type"] == "m.room.message" {
                    event["content"]["body"] = json!("poison");
                }
                event
            })
            .collect();
        let answer = match case {
            "other rooms" => json!(foreign),
            "only rejected" => json!(rejected),
            "loop" => json!(vec![newest; 20]),
            "unsigned" => json!(unsigned),
            "junk" => json!([1, null, "x", {}, []]),
            _ => json!([]),
        };
        let status = if case == "error" { 500 } else { 200 };
        stage.remote.on("/_matrix/federation/v1/backfill", move |_| {
            reply(status, &json!({"origin": "remote", "origin_server_ts": 1, "pdus": answer}))
        });
        let read = tokio::time::timeout(PATIENCE, read_back(&stage, &alice, &room)).await.expect(case);
        assert!(!read.iter().any(|event| event.contains("poison")), "{case}: {read:?}");
    }
}

#[tokio::test]
async fn s_057_an_honest_backfill_reaches_the_beginning_past_rejected_events() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
    for number in 0..60 {
        let said = room.send_message(&stage.remote, &rita, &format!("old {number}"));
        let redaction = json!({"redacts": said.event_id});
        let ghost = stage.remote.user("ghost");
        room.send(&stage.remote, room.draft(&stage.remote, &ghost, "m.room.redaction", None, redaction));
        // At one place so many that a whole answer holds nothing else.
        let poisons = if number == 30 { 50 } else { number % 2 };
        for _ in 0..poisons {
            let content = json!({"msgtype": "m.text", "body": "poison"});
            room.send(&stage.remote, room.draft(&stage.remote, &ghost, "m.room.message", None, content));
        }
    }
    stage.join(&alice, &room.id).await.unwrap();
    let read = read_back(&stage, &alice, &room).await;
    for number in 0..60 {
        let body = format!("\"old {number}\"");
        assert_eq!(read.iter().filter(|event| event.contains(&body)).count(), 1, "{body}");
    }
    assert!(!read.iter().any(|event| event.contains("poison")));
    assert!(read.iter().any(|event| event.contains("m.room.create")));
    assert_eq!(stage.engine.storage().fsck().await.unwrap(), []);

    // Nor do they hide anything from those whom we give it to.
    let newest = room.timeline().last().unwrap().event_id.clone();
    let target = format!("/_matrix/federation/v1/backfill/{}?v={}&limit=100", encode(&room.id), encode(&newest));
    let given = body_of(&stage.remote.get(&stage.name, &target).await)["pdus"].to_string();
    for number in 0..60 {
        assert!(given.contains(&format!("\"old {number}\"")), "old {number}");
    }
    assert!(!given.contains("poison"));
}

#[tokio::test]
async fn history_is_had_of_the_living_though_many_servers_of_the_room_are_dead() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
    room.send_message(&stage.remote, &rita, "old");
    for number in 0..8 {
        // By name, all come before the one that is there.
        let dead = stage.network.add_fake(&format!("dead{number}"));
        let user_id = dead.user("gone");
        room.send_state(&dead, &user_id, "m.room.member", user_id.as_str(), json!({"membership": "join"}));
    }
    stage.join(&alice, &room.id).await.unwrap();
    for number in 0..8 {
        stage.network.cut(format!("dead{number}").as_str().try_into().unwrap());
    }
    assert!(read_back(&stage, &alice, &room).await.iter().any(|event| event.contains("\"old\"")));
}

#[tokio::test]
async fn queries_answer_for_our_own_alone() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    stage.engine.set_display_name(&alice, Some("Alice".to_owned())).await.unwrap();
    let get = async |target: &str| stage.remote.get(&stage.name, target).await;
    let profile = body_of(&get("/_matrix/federation/v1/query/profile?user_id=@alice:test").await);
    assert_eq!(profile, json!({"displayname": "Alice"}));
    let field = body_of(&get("/_matrix/federation/v1/query/profile?user_id=@alice:test&field=avatar_url").await);
    assert_eq!(field, json!({}));
    for user_id in ["@nobody:test", "@rita:remote"] {
        let response = get(&format!("/_matrix/federation/v1/query/profile?user_id={user_id}")).await;
        assert!([403, 404].contains(&response.status().as_u16()), "{user_id}: {:?}", response.body());
    }
    assert_eq!(get("/_matrix/federation/v1/query/profile?user_id=alice").await.status(), 400);
    assert_eq!(get("/_matrix/federation/v1/query/profile").await.status(), 400);
    let room_id = stage.local_room(&alice, |command| command.alias_localpart = Some("room".to_owned())).await;
    let directory = body_of(&get("/_matrix/federation/v1/query/directory?room_alias=%23room:test").await);
    assert_eq!(directory["room_id"], room_id.as_str());
    assert!(directory["servers"].as_array().unwrap().contains(&json!("test")));
    for alias in ["%23nothing:test", "%23room:remote"] {
        let response = get(&format!("/_matrix/federation/v1/query/directory?room_alias={alias}")).await;
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (404, "M_NOT_FOUND"), "{alias}");
    }
}
