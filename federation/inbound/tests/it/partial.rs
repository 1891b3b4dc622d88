//! Rooms that are entered without their members being known, and what becomes of them.

use std::{sync::Arc, time::Duration};

use engine::{EngineError, Requester, SlidingQuery, SyncQuery};
use fake_homeserver::{FakeHomeserver, Room, RoomSettings, json as reply};
use rules::{Pdu, room::create::Preset};
use ruma::{
    OwnedEventId, OwnedUserId, RoomVersionId, UserId,
    api::client::filter::{FilterDefinition, LazyLoadOptions},
};
use serde_json::{Value, json};

use crate::{
    devices::{devices_of, keys_asked, upload_keys},
    stage::{PATIENCE, Stage, Verdict, encode, errcode, initial_state},
};

const STATE_IDS: &str = "/_matrix/federation/v1/state_ids";
const MISSING_EVENTS: &str = "/_matrix/federation/v1/get_missing_events";
const SEND_JOIN: &str = "/_matrix/federation/v2/send_join";

/// A public room of the remote server with some members, which leaves them out, and gives no state for the time being.
fn room_without_state(stage: &Stage, members: &[&str]) -> Room {
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    for member in members {
        set_member(&room, &stage.remote, member, "join");
    }
    stage.remote.omit_members();
    withhold(&stage.remote);
    room
}

/// The same with a second server in it, `other`, on which `otto` is.
fn room_of_two_servers(stage: &Stage) -> (Room, FakeHomeserver) {
    let room = room_without_state(stage, &["bob"]);
    let other = stage.network.add_fake("other");
    set_member(&room, &other, "otto", "join");
    other.serve_room(room.clone());
    (room, other)
}

fn withhold(server: &FakeHomeserver) {
    server.on(STATE_IDS, |_| later());
}

fn later() -> fake_homeserver::Response {
    reply(503, &json!({"errcode": "M_UNKNOWN", "error": "Later"}))
}

fn set_member(room: &Room, host: &FakeHomeserver, localpart: &str, membership: &str) -> Arc<Pdu> {
    let user_id = host.user(localpart);
    room.send_state(host, &user_id, "m.room.member", user_id.as_str(), json!({"membership": membership}))
}

/// Joins, and waits until the state was asked for in vain.
async fn enter(stage: &Stage, user: &Requester, room: &Room) {
    stage.join(user, &room.id).await.unwrap();
    let failed = async {
        while stage.engine.storage().partial_state(&room.id).await.unwrap().expect("the state is partial").failures == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
}

/// The servers give the state from now on, and are asked for it.
async fn complete(stage: &Stage, room: &Room) {
    stage.remote.behave();
    let done = async {
        while stage.engine.storage().partial_state(&room.id).await.unwrap().is_some() {
            stage.clock.advance(Duration::from_hours(24));
            stage.engine.complete_due_states().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap();
    assert_eq!(stage.engine.storage().fsck().await.unwrap(), []);
}

/// Whether a server was sent what devices our user has.
fn is_told_of_device(server: &FakeHomeserver) -> bool {
    let transactions = server.transactions();
    let mut edus = transactions.iter().filter_map(|transaction| transaction["edus"].as_array()).flatten();
    edus.any(|edu| edu["edu_type"] == "m.device_list_update" && edu["content"]["user_id"] == "@alice:test")
}

fn lazy() -> FilterDefinition {
    let mut filter = FilterDefinition::default();
    filter.room.state.lazy_load_options = LazyLoadOptions::Enabled { include_redundant_members: false };
    filter
}

fn joined<'a>(sync: &'a Value, room: &Room) -> &'a Value {
    &sync["rooms"]["join"][room.id.as_str()]
}

fn members(events: &Value) -> Vec<String> {
    let events = events.as_array().cloned().unwrap_or_default();
    let members = events.iter().filter(|event| event["type"] == "m.room.member");
    let mut members: Vec<String> = members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
    members.sort_unstable();
    members
}

/// An event of a user that names other events as those that authorise it than the room would.
fn authorised_by(stage: &Stage, room: &Room, draft: (&UserId, &str, Option<&str>, Value), auth: &[&Pdu]) -> Pdu {
    let (sender, event_type, state_key, content) = draft;
    let mut draft = room.draft(&stage.remote, sender, event_type, state_key, content);
    let named = auth.iter().filter_map(|pdu| pdu.state_key_pair());
    let replaced: Vec<OwnedEventId> = named
        .filter_map(|(event_type, key)| Some(room.state_event(&event_type.to_string(), &key)?.event_id.clone()))
        .collect();
    draft.auth_events.retain(|event_id| !replaced.contains(event_id));
    draft.auth_events.extend(auth.iter().map(|pdu| pdu.event_id.clone()));
    draft.auth_events.sort();
    draft.auth_events.dedup();
    stage.remote.build(draft, &room.rules)
}

/// A message of somebody that builds on one that Rita has sent to nobody, which comes after the given events. Both.
fn after_unsent(
    stage: &Stage,
    room: &Room,
    end: &[OwnedEventId],
    (host, sender): (&FakeHomeserver, &UserId),
    number: usize,
) -> (Arc<Pdu>, Arc<Pdu>) {
    let text = |body: String| json!({"msgtype": "m.text", "body": body});
    let rita = stage.remote.user("rita");
    let unsent = (&*rita, "m.room.message", None, text(format!("not sent {number}")));
    let unsent = room.draft_after(&stage.remote, end, &room.state(), unsent);
    let unsent = room.keep(stage.remote.build(unsent, &room.rules), room.state());
    let sent = (sender, "m.room.message", None, text(format!("sent {number}")));
    let sent = room.draft_after(host, std::slice::from_ref(&unsent.event_id), &room.state(), sent);
    (unsent, room.send(host, sent))
}

/// A room in which Derek, who had all power, is not any more, and Elsie is, which leaves its members out. With the events by
/// which both joined.
fn room_after_derek(stage: &Stage) -> (Room, [Arc<Pdu>; 2]) {
    let rita = stage.remote.user("rita");
    let levels = json!({"users": {rita.as_str(): 100, "@derek:remote": 100, "@elsie:remote": 50}});
    let settings = RoomSettings { power_levels: Some(levels), ..RoomSettings::default() };
    let room = Room::create(&stage.remote, &rita, &settings);
    let derek_was_in = set_member(&room, &stage.remote, "derek", "join");
    set_member(&room, &stage.remote, "derek", "leave");
    let elsie_is_in = set_member(&room, &stage.remote, "elsie", "join");
    stage.remote.omit_members();
    withhold(&stage.remote);
    (room, [derek_was_in, elsie_is_in])
}

/// State that Derek sets, who is not in the room any more.
fn set_by_derek(
    stage: &Stage,
    room: &Room,
    (event_type, state_key, content): (&str, &str, Value),
    authorised: &[Arc<Pdu>],
) -> Pdu {
    let derek = stage.remote.user("derek");
    let authorised: Vec<&Pdu> = authorised.iter().map(|pdu| &**pdu).collect();
    let pdu = authorised_by(stage, room, (&*derek, event_type, Some(state_key), content), &authorised);
    room.keep(pdu.clone(), room.state());
    pdu
}

#[tokio::test]
async fn a_room_is_usable_before_its_members_are_known() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    upload_keys(&stage, &alice).await;
    let room = room_without_state(&stage, &["bob", "carol"]);
    enter(&stage, &alice, &room).await;
    assert_eq!(stage.membership(&room.id, &stage.remote.user("bob")).await, None);

    stage.send(&alice, &room.id, "hello").await;
    stage.flush(stage.remote.name()).await;
    assert_eq!(stage.remote.received_pdus().last().unwrap()["content"]["body"], "hello");
    assert!(!is_told_of_device(&stage.remote), "which servers are in the room is not known yet");
    let answer = room.send_message(&stage.remote, &stage.remote.user("bob"), "hi");
    stage.receive(&[&answer]).await;
    assert_eq!(stage.verdict(&answer.event_id).await, Verdict::Accepted);

    let shown = stage.filtered_sync(&alice, lazy()).await;
    assert!(members(&joined(&shown, &room)["state"]["events"]).contains(&"@bob:remote".to_owned()), "{shown}");
    assert!(joined(&stage.sync(&alice).await, &room).is_null(), "who wants all members waits for them");

    complete(&stage, &room).await;
    stage.flush(stage.remote.name()).await;
    assert!(is_told_of_device(&stage.remote));
    let everybody = ["@alice:test", "@bob:remote", "@carol:remote", "@rita:remote"];
    let now = stage.engine.joined_members(&alice, &room.id).await.unwrap();
    let mut now: Vec<_> = now.iter().map(|(user_id, _)| user_id.as_str()).collect();
    now.sort_unstable();
    assert_eq!(now, everybody);
    let shown = stage.sync(&alice).await;
    let mut told = members(&joined(&shown, &room)["state"]["events"]);
    told.extend(members(&joined(&shown, &room)["timeline"]["events"]));
    told.sort();
    told.dedup();
    assert_eq!(told, everybody);
}

#[tokio::test]
async fn members_are_waited_for() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    let (engine, asker, room_id) = (stage.engine.clone(), alice.clone(), room.id.clone());
    let waiting = tokio::spawn(async move { engine.members(&asker, &room_id, None, None, None).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    complete(&stage, &room).await;
    let members = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(members.len(), 3);
}

#[tokio::test]
async fn an_upgrade_waits_for_those_who_are_banned() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (rita, eve) = (stage.remote.user("rita"), stage.remote.user("eve"));
    let levels = json!({"users": {rita.as_str(): 100, alice.user_id.as_str(): 100}});
    let settings = RoomSettings { power_levels: Some(levels), ..RoomSettings::default() };
    let room = Room::create(&stage.remote, &rita, &settings);
    room.send_state(&stage.remote, &rita, "m.room.member", eve.as_str(), json!({"membership": "ban"}));
    stage.remote.omit_members();
    withhold(&stage.remote);
    enter(&stage, &alice, &room).await;
    let (engine, upgrader, room_id) = (stage.engine.clone(), alice.clone(), room.id.clone());
    let upgrading =
        tokio::spawn(async move { engine.upgrade_room(&upgrader, &room_id, RoomVersionId::V12, Vec::new()).await });
    tokio::task::yield_now().await;
    assert!(!upgrading.is_finished());
    complete(&stage, &room).await;
    let new = tokio::time::timeout(PATIENCE, upgrading).await.unwrap().unwrap().unwrap();
    assert_eq!(stage.membership(&new, &eve).await.as_deref(), Some("ban"));
}

#[tokio::test]
async fn whom_a_restricted_room_lets_in_is_not_said_before_the_members_are_known() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (bob, eve) = (stage.remote.user("bob"), stage.remote.user("eve"));
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    let allow = json!([{"type": "m.room_membership", "room_id": room.id}]);
    let join_rules = initial_state("m.room.join_rules", &json!({"join_rule": "restricted", "allow": allow}));
    let restricted = stage
        .local_room(&alice, |command| {
            command.preset = Some(Preset::PrivateChat);
            command.initial_state = vec![join_rules];
        })
        .await;
    let make_join = async |user_id: &UserId| {
        let target = format!("/_matrix/federation/v1/make_join/{}/{}?ver=11", encode(&restricted), encode(user_id));
        let answer = stage.remote.get(&stage.name, &target).await;
        (answer.status().as_u16(), (answer.status() != 200).then(|| errcode(&answer)))
    };
    for user_id in [&bob, &eve] {
        assert_eq!(make_join(user_id).await, (400, Some("M_UNABLE_TO_AUTHORISE_JOIN".to_owned())), "{user_id}");
    }
    complete(&stage, &room).await;
    assert_eq!(make_join(&bob).await, (200, None));
    assert_eq!(make_join(&eve).await, (403, Some("M_FORBIDDEN".to_owned())));
}

#[tokio::test]
async fn windows_show_all_members_or_no_room() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    let mut pos: Vec<Option<String>> = vec![None, None];
    let mut shown = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..2 {
        for (number, members) in ["*", "$LAZY"].into_iter().enumerate() {
            let list = json!({"ranges": [[0, 9]], "required_state": [["m.room.member", members]], "timeline_limit": 5});
            let mut query: SlidingQuery = serde_json::from_value(json!({"lists": {"all": list}})).unwrap();
            (query.pos, query.conn_id) = (pos[number].take(), Some(members.to_owned()));
            let answer = stage.engine.sliding_sync(&alice, &query).await.unwrap();
            pos[number] = Some(answer.pos);
            shown.push(answer.rooms.get(&room.id).map(|room| room.initial));
            counts.push(answer.rooms.get(&room.id).and_then(|room| room.joined_count));
        }
        complete(&stage, &room).await;
    }
    assert_eq!(shown, [None, Some(Some(true)), Some(Some(true)), Some(None)], "who wants all members waits for them");
    assert_eq!(counts[2..], [Some(3), Some(3)], "all hear how many there are");
}

#[tokio::test]
async fn who_loads_members_lazily_hears_how_many_there_are() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob", "carol"]);
    enter(&stage, &alice, &room).await;
    let count = |sync: &Value| joined(sync, &room)["summary"]["m.joined_member_count"].clone();
    let shown = stage.filtered_sync(&alice, lazy()).await;
    assert_ne!(count(&shown), 4);
    let since = Some(shown["next_batch"].as_str().unwrap().to_owned());
    complete(&stage, &room).await;
    let query = SyncQuery { since, filter: lazy(), ..SyncQuery::default() };
    assert_eq!(count(&stage.sync_by(&alice, query).await), 4);
}

#[tokio::test]
async fn what_builds_on_an_event_of_another_room_keeps_no_room_partial() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let elsewhere = Room::create(&stage.remote, &rita, &RoomSettings::default());
    stage.join(&alice, &elsewhere.id).await.unwrap();
    let known = elsewhere.send_message(&stage.remote, &rita, "here");
    stage.receive(&[&known]).await;
    assert_eq!(stage.verdict(&known.event_id).await, Verdict::Accepted);

    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    let text = json!({"msgtype": "m.text", "body": "there"});
    let mut draft = room.draft(&stage.remote, &rita, "m.room.message", None, text);
    draft.prev_events = vec![known.event_id.clone()];
    let stray = room.send(&stage.remote, draft);
    stage.receive(&[&stray]).await;
    complete(&stage, &room).await;
    assert_eq!(stage.membership(&room.id, &stage.remote.user("bob")).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn what_is_not_known_yet_is_not_compared() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    assert_eq!(stage.engine.storage().fsck().await.unwrap(), []);
    let check = stage.engine.check_room(&room.id).await;
    assert!(matches!(check, Err(EngineError::MembersUnknown)), "{check:?}");
    complete(&stage, &room).await;
    let check = stage.engine.check_room(&room.id).await.unwrap();
    assert!(check.servers.iter().all(|server| server.outcome.as_ref().unwrap().agrees()), "{check:?}");
}

#[tokio::test]
async fn nobody_enters_by_us_before_we_know_who_is_there() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &[]);
    enter(&stage, &alice, &room).await;
    let other = stage.network.add_fake("other");
    for verb in ["make_join", "make_knock"] {
        let target = format!("/_matrix/federation/v1/{verb}/{}/{}?ver=11", encode(&room.id), encode(other.user("x")));
        assert_eq!(other.get(&stage.name, &target).await.status(), 404, "{verb}");
    }
    // Our own users enter by those who know.
    let bert = stage.user("bert").await;
    stage.join(&bert, &room.id).await.unwrap();
    assert_eq!(stage.network.recorded_to(stage.remote.name(), "send_join").len(), 2);
    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    complete(&stage, &room).await;
    assert_eq!(stage.membership(&room.id, &bert.user_id).await.as_deref(), Some("join"));
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("leave"));
}

#[tokio::test]
async fn after_a_restart_the_state_is_asked_for_again() {
    let mut stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    stage.restart();
    assert!(joined(&stage.sync(&alice).await, &room).is_null());
    complete(&stage, &room).await;
    assert_eq!(stage.membership(&room.id, &stage.remote.user("bob")).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn another_server_gives_what_the_first_does_not() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_of_two_servers(&stage);
    enter(&stage, &alice, &room).await;
    assert!(stage.network.recorded_to(other.name(), "state_ids").is_empty(), "the first one is asked alone first");
    stage.network.cut(stage.remote.name());
    stage.clock.advance(Duration::from_mins(1));
    stage.engine.complete_due_states().await.unwrap();
    let waiting = stage.engine.members(&alice, &room.id, None, None, None);
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().len(), 4);
    assert!(!stage.network.recorded_to(other.name(), "state_ids").is_empty());
}

#[tokio::test]
async fn members_left_out_without_naming_servers_are_no_answer() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    for servers in [Value::Null, json!([]), json!(["not a server"])] {
        stage.remote.on_answer(SEND_JOIN, move |answer| answer["servers_in_room"] = servers.clone());
        let error = stage.join(&alice, &room.id).await.unwrap_err();
        assert!(matches!(error, EngineError::CannotFederate(_)), "{error:?}");
        assert!(stage.engine.storage().room(&room.id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_state_of_another_room_completes_nothing() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    stage.remote.behave();
    let bad: [fn(&mut Value); 3] = [
        |answer| answer["pdu_ids"] = json!([]),
        |answer| answer["pdu_ids"] = json!(["$of", "$nothing"]),
        |answer| *answer = json!("nonsense"),
    ];
    for change in bad {
        stage.remote.on_answer(STATE_IDS, change);
        stage.clock.advance(Duration::from_hours(24));
        stage.engine.complete_due_states().await.unwrap();
        assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_some());
        stage.remote.behave();
    }
    complete(&stage, &room).await;
}

#[tokio::test]
async fn what_only_a_part_of_the_state_allowed_is_refused_in_the_end() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let (room, authorised) = room_after_derek(&stage);
    enter(&stage, &alice, &room).await;

    // Derek, who is not in the room any more, kicks Elsie, who goes on to set a topic.
    let (derek, elsie) = (stage.remote.user("derek"), stage.remote.user("elsie"));
    let kick = ("m.room.member", elsie.as_str(), json!({"membership": "leave"}));
    let kick = set_by_derek(&stage, &room, kick, &authorised);
    stage.receive(&[&kick]).await;
    assert_eq!(stage.verdict(&kick.event_id).await, Verdict::Accepted);
    assert!(stage.sees(&alice, &room.id, &kick.event_id).await);
    let mut draft = room.draft(&stage.remote, &elsie, "m.room.topic", Some(""), json!({"topic": "still here"}));
    draft.prev_events = vec![kick.event_id.clone()];
    draft.depth = kick.depth + 1;
    let topic = room.send(&stage.remote, draft);
    stage.receive(&[&topic]).await;
    assert_eq!(stage.verdict(&topic.event_id).await, Verdict::Rejected);
    let message = room.send_message(&stage.remote, &rita, "what happens here?");
    stage.receive(&[&message]).await;

    complete(&stage, &room).await;
    assert_eq!(stage.verdict(&kick.event_id).await, Verdict::Rejected);
    assert!(!stage.sees(&alice, &room.id, &kick.event_id).await);
    assert_eq!(stage.verdict(&topic.event_id).await, Verdict::Accepted);
    assert_eq!(stage.membership(&room.id, &elsie).await.as_deref(), Some("join"));
    assert_eq!(stage.membership(&room.id, &derek).await.as_deref(), Some("leave"));
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await.as_ref(), Some(&topic.event_id));
    let target = format!("{STATE_IDS}/{}?event_id={}", encode(&room.id), encode(&message.event_id));
    let answer = fake_homeserver::body_of(&stage.remote.get(&stage.name, &target).await);
    let mut ids: Vec<OwnedEventId> = serde_json::from_value(answer["pdu_ids"].clone()).unwrap();
    ids.sort();
    let mut expected: Vec<OwnedEventId> = room.state().into_values().collect();
    expected.sort();
    assert_eq!(ids, expected, "the state before an event is what it was, as we know now");
    stage.send(&alice, &room.id, "go on").await;
}

#[tokio::test]
async fn forks_are_resolved_anew_with_all_members() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let (room, authorised) = room_after_derek(&stage);
    enter(&stage, &alice, &room).await;

    // Derek, who is not in the room any more, bans Elsie, who sets a topic at the same time.
    let elsie = stage.remote.user("elsie");
    let ban = ("m.room.member", elsie.as_str(), json!({"membership": "ban"}));
    let ban = set_by_derek(&stage, &room, ban, &authorised);
    let topic = room.send_state(&stage.remote, &elsie, "m.room.topic", "", json!({"topic": "still here"}));
    let mut draft = room.draft(&stage.remote, &rita, "m.room.message", None, json!({"msgtype": "m.text", "body": "?"}));
    draft.prev_events.push(ban.event_id.clone());
    draft.prev_events.sort();
    let merge = room.send(&stage.remote, draft);
    stage.receive(&[&ban, &*topic, &*merge]).await;
    assert_eq!(stage.verdict(&merge.event_id).await, Verdict::Accepted);
    assert_eq!(stage.membership(&room.id, &elsie).await.as_deref(), Some("ban"));
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await, None);

    complete(&stage, &room).await;
    assert_eq!(stage.verdict(&ban.event_id).await, Verdict::Rejected);
    assert_eq!(stage.verdict(&topic.event_id).await, Verdict::Accepted);
    assert_eq!(stage.membership(&room.id, &elsie).await.as_deref(), Some("join"));
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await.as_ref(), Some(&topic.event_id));
    let target = format!("{STATE_IDS}/{}?event_id={}", encode(&room.id), encode(&merge.event_id));
    let answer = fake_homeserver::body_of(&stage.remote.get(&stage.name, &target).await);
    let ids: Vec<OwnedEventId> = serde_json::from_value(answer["pdu_ids"].clone()).unwrap();
    assert!(ids.contains(&topic.event_id), "the state before an event is what it was, as we know now");
}

#[tokio::test]
async fn what_comes_late_counts_for_what_was_built_upon_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (rita, elsie, bob) = (stage.remote.user("rita"), stage.remote.user("elsie"), stage.remote.user("bob"));
    let levels = json!({"users": {rita.as_str(): 100, elsie.as_str(): 50}});
    let settings = RoomSettings { power_levels: Some(levels), ..RoomSettings::default() };
    let room = Room::create(&stage.remote, &rita, &settings);
    set_member(&room, &stage.remote, "elsie", "join");
    let set_bob = |sender: &UserId, membership: &str| {
        room.send_state(&stage.remote, sender, "m.room.member", bob.as_str(), json!({"membership": membership}))
    };
    set_bob(&rita, "invite");
    let text = json!({"msgtype": "m.text", "body": "while Bob is invited"});
    let fork = room.draft(&stage.remote, &rita, "m.room.message", None, text);
    let fork = room.keep(stage.remote.build(fork, &room.rules), room.state());
    let ban = set_bob(&elsie, "ban");
    let pardon = set_bob(&rita, "leave");
    stage.remote.omit_members();
    withhold(&stage.remote);
    enter(&stage, &alice, &room).await;

    // When Elsie is gone, what she said before comes only after what unites both branches.
    stage.receive(&[&set_member(&room, &stage.remote, "elsie", "leave")]).await;
    let text = json!({"msgtype": "m.text", "body": "both branches"});
    let mut merge = room.draft(&stage.remote, &rita, "m.room.message", None, text);
    merge.prev_events.push(fork.event_id.clone());
    merge.prev_events.sort();
    stage.receive(&[&room.send(&stage.remote, merge)]).await;
    stage.receive(&[&ban]).await;
    assert_eq!(stage.verdict(&ban.event_id).await, Verdict::Rejected);

    complete(&stage, &room).await;
    assert_eq!(stage.verdict(&ban.event_id).await, Verdict::SoftFailed);
    assert_eq!(stage.current(&room.id, "m.room.member", bob.as_str()).await.as_ref(), Some(&pardon.event_id));
}

#[tokio::test]
async fn a_room_that_all_have_left_is_not_asked_for_and_entered_whole() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    let known = stage.engine.members(&alice, &room.id, None, None, None).await.unwrap();
    assert!(!known.is_empty(), "nobody waits for what is not asked for");
    stage.flush(stage.remote.name()).await;
    stage.clock.advance(Duration::from_hours(24));
    stage.engine.complete_due_states().await.unwrap();
    let asked = stage.network.recorded_to(stage.remote.name(), "state_ids").len();
    for _ in 0..3 {
        stage.clock.advance(Duration::from_hours(24));
        stage.engine.complete_due_states().await.unwrap();
    }
    assert_eq!(stage.network.recorded_to(stage.remote.name(), "state_ids").len(), asked);

    stage.join(&alice, &room.id).await.unwrap();
    assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_none());
    assert_eq!(stage.membership(&room.id, &stage.remote.user("bob")).await.as_deref(), Some("join"));
    assert_eq!(stage.engine.storage().fsck().await.unwrap(), []);
    assert!(!joined(&stage.sync(&alice).await, &room).is_null());
}

#[tokio::test]
async fn a_part_of_the_state_is_never_taken_for_all_of_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    let first_join = stage.current(&room.id, "m.room.member", alice.user_id.as_str()).await.unwrap();
    let target = format!("{STATE_IDS}/{}?event_id={}", encode(&room.id), encode(&first_join));

    // Not when all of ours have left, and nobody asks for the rest any more.
    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    assert_eq!(stage.remote.get(&stage.name, &target).await.status(), 404);

    // Nor when we have come back, and know all since.
    stage.flush(stage.remote.name()).await;
    stage.remote.behave();
    stage.join(&alice, &room.id).await.unwrap();
    assert_eq!(stage.remote.get(&stage.name, &target).await.status(), 404);
    let bob = stage.remote.user("bob");
    let text = json!({"msgtype": "m.text", "body": "welcome"});
    let draft = (&*bob, "m.room.message", None, text);
    let draft = room.draft_after(&stage.remote, std::slice::from_ref(&first_join), &room.state(), draft);
    let welcome = room.send(&stage.remote, draft);
    stage.receive(&[&welcome]).await;
    assert_eq!(stage.verdict(&welcome.event_id).await, Verdict::Accepted);
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn a_restart_does_not_make_us_ask_more_often() {
    let mut stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    enter(&stage, &alice, &room).await;
    let asked = stage.network.recorded_to(stage.remote.name(), "state_ids").len();
    stage.restart();
    stage.engine.complete_due_states().await.unwrap();
    assert_eq!(stage.network.recorded_to(stage.remote.name(), "state_ids").len(), asked);
    complete(&stage, &room).await;
}

#[tokio::test]
async fn a_restart_amid_the_state_loses_nothing() {
    let mut stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &[]);
    for number in 0..30 {
        set_member(&room, &stage.remote, &format!("member{number}"), "join");
    }
    stage.remote.behave();
    stage.remote.omit_members();
    // The ids are given, but not the events.
    stage.remote.on("/_matrix/federation/v1/state/", |_| later());
    enter(&stage, &alice, &room).await;
    let message = room.send_message(&stage.remote, &stage.remote.user("member7"), "hi");
    stage.receive(&[&message]).await;
    stage.restart();
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Accepted);
    complete(&stage, &room).await;
    assert_eq!(stage.membership(&room.id, &stage.remote.user("member8")).await.as_deref(), Some("join"));
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Accepted);
    stage.send(&alice, &room.id, "hello").await;
}

#[tokio::test]
async fn who_is_merely_named_cannot_tell_of_another_state() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    let (rita, other) = (stage.remote.user("rita"), stage.network.add_fake("other"));
    let otto = set_member(&room, &other, "otto", "join").event_id.clone();
    let old = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "old"})).event_id.clone();
    let new = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "new"})).event_id.clone();
    room.send_message(&stage.remote, &rita, "it is another one now");
    other.serve_room(room.clone());
    let with = |gone: OwnedEventId, instead: Option<OwnedEventId>| {
        move |answer: &mut Value| {
            let ids = answer["pdu_ids"].as_array_mut().unwrap();
            ids.retain(|event_id| *event_id != gone.as_str());
            ids.extend(instead.iter().map(|event_id| json!(event_id)));
        }
    };
    let closing = (&*rita, "m.room.tombstone", Some(""), json!({"body": "over", "replacement_room": "!x:other"}));
    let closing = room.draft_after(&stage.remote, &room.extremities(), &room.state(), closing);
    let closing = room.keep(stage.remote.build(closing, &room.rules), room.state()).event_id.clone();
    let tell_of_old = |server: &FakeHomeserver| server.on_answer(STATE_IDS, with(new.clone(), Some(old.clone())));
    tell_of_old(&other);
    enter(&stage, &alice, &room).await;
    let asked_again = async || {
        stage.clock.advance(Duration::from_hours(24));
        stage.engine.complete_due_states().await.unwrap();
        stage.engine.storage().partial_state(&room.id).await.unwrap().is_none()
    };
    assert!(!asked_again().await, "an old topic");
    other.behave();
    other.on_answer(STATE_IDS, with(otto, None));
    assert!(!asked_again().await, "without the only member of a server");
    other.behave();
    other.on_answer(STATE_IDS, move |answer| answer["pdu_ids"].as_array_mut().unwrap().push(json!(closing)));
    assert!(!asked_again().await, "with what the first did not tell of");
    other.behave();
    tell_of_old(&other);
    for _ in 0..10 {
        assert!(!asked_again().await, "an old topic is not believed in the end either");
    }
    other.behave();
    assert!(asked_again().await);
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await, Some(new));
}

#[tokio::test]
async fn what_its_own_auth_events_forbid_is_no_part_of_the_state_whoever_says_so() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    let bob = stage.remote.user("bob");
    enter(&stage, &alice, &room).await;
    let levels = room.state_event("m.room.power_levels", "").unwrap().event_id.clone();

    // Bob, who may not, gives himself all power, and the server that let us in says that it is so.
    let content = json!({"users": {bob.as_str(): 100}});
    let coup = room.draft(&stage.remote, &bob, "m.room.power_levels", Some(""), content);
    let coup = room.keep(stage.remote.build(coup, &room.rules), room.state());
    stage.receive(&[&coup]).await;
    assert_eq!(stage.verdict(&coup.event_id).await, Verdict::Rejected);
    stage.remote.behave();
    let said = coup.event_id.clone();
    stage.remote.on_answer(STATE_IDS, move |answer| {
        let ids = answer["pdu_ids"].as_array_mut().unwrap();
        let place = ids.iter_mut().find(|event_id| **event_id == levels.as_str()).unwrap();
        *place = json!(said);
    });
    for _ in 0..3 {
        stage.clock.advance(Duration::from_hours(24));
        stage.engine.complete_due_states().await.unwrap();
    }
    assert_ne!(stage.current(&room.id, "m.room.power_levels", "").await, Some(coup.event_id.clone()));
    assert_eq!(stage.verdict(&coup.event_id).await, Verdict::Rejected);
}

#[tokio::test]
async fn what_was_rejected_for_want_of_members_stands_when_the_room_is_entered_anew() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, authorised) = room_after_derek(&stage);
    enter(&stage, &alice, &room).await;

    // As we see it, Derek kicks Elsie, who goes on to set a topic.
    let elsie = stage.remote.user("elsie");
    let kick = ("m.room.member", elsie.as_str(), json!({"membership": "leave"}));
    let kick = set_by_derek(&stage, &room, kick, &authorised);
    let mut draft = room.draft(&stage.remote, &elsie, "m.room.topic", Some(""), json!({"topic": "still here"}));
    draft.prev_events = vec![kick.event_id.clone()];
    draft.depth = kick.depth + 1;
    let topic = room.send(&stage.remote, draft);
    stage.receive(&[&kick]).await;
    stage.receive(&[&topic]).await;
    assert_eq!(stage.verdict(&topic.event_id).await, Verdict::Rejected);

    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    stage.flush(stage.remote.name()).await;
    stage.join(&alice, &room.id).await.unwrap();
    assert_eq!(stage.verdict(&topic.event_id).await, Verdict::SoftFailed);
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await.as_ref(), Some(&topic.event_id));
    assert_eq!(stage.engine.storage().fsck().await.unwrap(), []);
    let message = room.send_message(&stage.remote, &elsie, "hello again");
    stage.receive(&[&message]).await;
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Accepted);
}

#[tokio::test]
async fn one_server_does_not_take_all_places_of_events_that_build_on_what_we_lack() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_of_two_servers(&stage);
    let rita = stage.remote.user("rita");
    enter(&stage, &alice, &room).await;
    let end = room.extremities();
    stage.remote.on(MISSING_EVENTS, |_| later());

    let mut told = Vec::new();
    for number in 0..6 {
        let (_, event) = after_unsent(&stage, &room, &end, (&stage.remote, &rita), number);
        stage.receive(&[&event]).await;
        told.push(event.event_id.clone());
    }
    assert_eq!(stage.verdict(&told[4]).await, Verdict::Accepted);
    assert_eq!(stage.verdict(&told[5]).await, Verdict::Unknown, "it waits");
    let (_, of_other) = after_unsent(&stage, &room, &end, (&other, &other.user("otto")), 6);
    stage.receive(&[&of_other]).await;
    assert_eq!(stage.verdict(&of_other.event_id).await, Verdict::Accepted);

    complete(&stage, &room).await;
    for event_id in told {
        assert_eq!(stage.verdict(&event_id).await, Verdict::Accepted);
    }
}

#[tokio::test]
async fn servers_of_which_we_learn_late_are_sent_what_was_said_before() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_of_two_servers(&stage);
    stage.remote.on_answer(SEND_JOIN, |answer| answer["servers_in_room"] = json!(["remote"]));
    enter(&stage, &alice, &room).await;
    let said = |server: &FakeHomeserver| {
        let bodies = server.received_pdus().into_iter().map(|pdu| pdu["content"]["body"].clone());
        bodies.collect::<Vec<_>>()
    };

    stage.send(&alice, &room.id, "first").await;
    stage.engine.rename_device(&alice.user_id, &alice.device_id, Some("telephone")).await.unwrap();
    stage.flush(stage.remote.name()).await;
    stage.receive(&[&room.send_message(&other, &other.user("otto"), "I am here as well")]).await;
    stage.send(&alice, &room.id, "second").await;
    stage.flush(stage.remote.name()).await;
    stage.flush(other.name()).await;
    assert_eq!((said(&stage.remote), said(&other)), (vec![json!("first"), json!("second")], vec![json!("second")]));
    assert!(!is_told_of_device(&other));

    complete(&stage, &room).await;
    stage.flush(stage.remote.name()).await;
    stage.flush(other.name()).await;
    assert_eq!(said(&other), [json!("second"), json!("first")], "each once");
    assert!(is_told_of_device(&other));
    assert_eq!(said(&stage.remote).len(), 2, "who was told is not told again");
}

#[tokio::test]
async fn a_server_that_left_before_all_was_known_is_told_of_devices_that_changed_while_it_was_there() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_of_two_servers(&stage);
    stage.remote.on_answer(SEND_JOIN, |answer| answer["servers_in_room"] = json!(["remote"]));
    enter(&stage, &alice, &room).await;
    stage.engine.rename_device(&alice.user_id, &alice.device_id, Some("telephone")).await.unwrap();
    stage.receive(&[&set_member(&room, &other, "otto", "leave")]).await;
    complete(&stage, &room).await;
    stage.flush(other.name()).await;
    assert!(is_told_of_device(&other));
}

#[tokio::test]
async fn devices_are_kept_of_those_who_come_in_and_of_others_when_all_are_known() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_of_two_servers(&stage);
    enter(&stage, &alice, &room).await;
    let (otto, olga) = (other.user("otto"), other.user("olga"));
    // Of Otto we learn by what he says, Olga comes in.
    let olga_joins = set_member(&room, &other, "olga", "join");
    stage.receive(&[&room.send_message(&other, &otto, "I was here before"), &olga_joins]).await;
    let asked_for = async |user_id: &OwnedUserId| {
        let before = keys_asked(&other);
        devices_of(&stage, &alice, user_id).await;
        keys_asked(&other) - before
    };
    other.on("/_matrix/federation/v1/user/keys/query", |_| reply(200, &json!({"device_keys": {}})));
    for (user_id, expected) in [(&olga, 1), (&olga, 0), (&otto, 1), (&otto, 1)] {
        assert_eq!(asked_for(user_id).await, expected, "{user_id}");
    }
    complete(&stage, &room).await;
    for (user_id, expected) in [(&olga, 0), (&otto, 1), (&otto, 0)] {
        assert_eq!(asked_for(user_id).await, expected, "{user_id} when all are known");
    }
}

#[tokio::test]
async fn what_a_server_has_said_is_not_asked_for_again() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    let (rita, end) = (stage.remote.user("rita"), room.extremities());
    enter(&stage, &alice, &room).await;
    stage.remote.behave();
    stage.remote.on(MISSING_EVENTS, |_| later());
    let sender = (&stage.remote, &*rita);
    let (known, after_known) = after_unsent(&stage, &room, &end, sender, 1);
    let (unknown, after_unknown) = after_unsent(&stage, &room, &end, sender, 2);
    stage.receive(&[&after_known, &after_unknown]).await;
    let name = |event_id: &OwnedEventId| event_id.as_str().trim_start_matches('$').to_owned();
    let withheld = [name(&unknown.event_id), name(&after_unknown.event_id)];
    stage.remote.on_request(move |request| {
        let is_withheld = |name: &String| request.uri().query().is_some_and(|query| query.contains(name));
        withheld.iter().any(is_withheld).then(later)
    });
    let asked = |event_id: &OwnedEventId| {
        let asked = stage.network.recorded_to(stage.remote.name(), "/state_ids/");
        asked.iter().filter(|asked| asked.line.contains(&name(event_id))).count()
    };
    let before = asked(&end[0]);
    for round in 1..=3 {
        stage.clock.advance(Duration::from_hours(24));
        stage.engine.complete_due_states().await.unwrap();
        assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_some());
        let asked = (asked(&end[0]) - before, asked(&known.event_id), asked(&unknown.event_id));
        assert_eq!(asked, (1, 1, round));
    }
    complete(&stage, &room).await;
    assert_eq!((asked(&end[0]) - before, asked(&known.event_id), asked(&unknown.event_id)), (1, 1, 4));
    for event in [after_known, after_unknown] {
        assert_eq!(stage.verdict(&event.event_id).await, Verdict::Accepted);
    }
}

#[tokio::test]
async fn a_server_that_lets_its_answers_trickle_does_not_keep_us_from_asking_others() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_of_two_servers(&stage);
    let rita = stage.remote.user("rita");
    let (end, state) = (room.extremities(), room.state());
    for number in 0..12 {
        let text = (&*rita, "m.room.message", None, json!({"msgtype": "m.text", "body": number.to_string()}));
        room.send(&stage.remote, room.draft_after(&stage.remote, &end, &state, text));
    }
    enter(&stage, &alice, &room).await;
    stage.remote.behave();
    // One answer after the other, each of them in time.
    stage.network.delay(stage.remote.name(), Duration::from_secs(59));
    let (going_on, done) = std::sync::mpsc::channel::<()>();
    // While somebody works, a clock that stands still is not moved on by the runtime itself.
    let working = tokio::task::spawn_blocking(move || done.recv());
    tokio::time::pause();
    stage.clock.advance(Duration::from_mins(1));
    stage.engine.complete_due_states().await.unwrap();
    tokio::time::resume();
    drop(going_on);
    working.await.unwrap().unwrap_err();
    assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_none(), "the other server is not asked");
    assert_eq!(stage.membership(&room.id, &other.user("otto")).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn state_that_could_not_be_verified_when_we_entered_does_not_shut_out_those_who_tell_of_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (other, third) = (stage.network.add_fake("other"), stage.network.add_fake("third"));
    let levels = json!({"users": {"@rita:remote": 100, "@tina:third": 50}});
    let settings = RoomSettings { power_levels: Some(levels), ..RoomSettings::default() };
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &settings);
    set_member(&room, &other, "otto", "join");
    set_member(&room, &third, "tina", "join");
    let topic = room.send_state(&third, &third.user("tina"), "m.room.topic", "", json!({"topic": "mind the gap"}));
    other.serve_room(room.clone());
    stage.remote.omit_members();
    withhold(&stage.remote);
    stage.network.cut(third.name());
    enter(&stage, &alice, &room).await;
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await, None, "nobody tells the key of the third server");

    stage.network.mend(third.name());
    stage.network.cut(stage.remote.name());
    stage.clock.advance(Duration::from_hours(24));
    stage.engine.complete_due_states().await.unwrap();
    assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_none());
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await.as_ref(), Some(&topic.event_id));
    assert_eq!(stage.membership(&room.id, &third.user("tina")).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn whom_only_a_part_of_the_state_denies_is_heard_in_the_end() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, authorised) = room_after_derek(&stage);
    let other = stage.network.add_fake("other");
    set_member(&room, &other, "otto", "join");
    enter(&stage, &alice, &room).await;

    let acl = ("m.room.server_acl", "", json!({"allow": ["*"], "deny": ["other"]}));
    let acl = set_by_derek(&stage, &room, acl, &authorised[..1]);
    stage.receive(&[&acl]).await;
    assert_eq!(stage.verdict(&acl.event_id).await, Verdict::Accepted);
    let message = room.send_message(&other, &other.user("otto"), "may I?");
    let answer = fake_homeserver::body_of(&other.send_pdus(&stage.name, &[&message]).await);
    assert_eq!(answer["pdus"][message.event_id.as_str()], json!({}));
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Unknown, "it waits");

    complete(&stage, &room).await;
    assert_eq!(stage.verdict(&acl.event_id).await, Verdict::Rejected);
    let judged = async {
        while stage.verdict(&message.event_id).await != Verdict::Accepted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, judged).await.unwrap();
}

#[tokio::test]
async fn who_came_in_by_what_only_a_part_of_the_state_refuses_stays_in() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, authorised) = room_after_derek(&stage);
    let (elsie, gina) = (stage.remote.user("elsie"), stage.remote.user("gina"));
    let invited = json!({"membership": "invite"});
    let invite = room.send_state(&stage.remote, &elsie, "m.room.member", gina.as_str(), invited);
    let join = set_member(&room, &stage.remote, "gina", "join");
    assert!(join.auth_events.contains(&invite.event_id));
    enter(&stage, &alice, &room).await;

    // As we see it, Derek kicks Elsie; that she had invited Gina we hear only then.
    let kick = ("m.room.member", elsie.as_str(), json!({"membership": "leave"}));
    stage.receive(&[&set_by_derek(&stage, &room, kick, &authorised)]).await;
    stage.receive(&[&invite]).await;
    assert_eq!(stage.verdict(&invite.event_id).await, Verdict::Rejected);

    complete(&stage, &room).await;
    assert_eq!(stage.membership(&room.id, &gina).await.as_deref(), Some("join"));
    let message = room.send_message(&stage.remote, &gina, "hello");
    stage.receive(&[&message]).await;
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Accepted);
}

#[tokio::test]
async fn a_small_room_has_its_members_when_the_join_is_answered() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    stage.remote.behave();
    stage.join(&alice, &room.id).await.unwrap();
    assert!(stage.network.recorded_to(stage.remote.name(), "state_ids").len() == 1, "they were left out");
    assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_none());
    assert_eq!(stage.membership(&room.id, &stage.remote.user("bob")).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn a_member_who_cannot_be_verified_keeps_the_others_waiting_for_a_day_only() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob"]);
    let third = stage.network.add_fake("third");
    set_member(&room, &third, "tina", "join");
    stage.remote.behave();
    stage.network.cut(third.name());
    enter(&stage, &alice, &room).await;
    for hours in (2..=20).step_by(2) {
        stage.clock.advance(Duration::from_hours(2));
        stage.engine.complete_due_states().await.unwrap();
        assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_some(), "after {hours} hours");
    }
    stage.clock.advance(Duration::from_hours(6));
    stage.engine.complete_due_states().await.unwrap();
    assert!(stage.engine.storage().partial_state(&room.id).await.unwrap().is_none());
    assert_eq!(stage.membership(&room.id, &stage.remote.user("bob")).await.as_deref(), Some("join"));
    assert_eq!(stage.membership(&room.id, &third.user("tina")).await, None);
}

/// Who was told of the room meanwhile hears of all whose devices are to be looked at, and of all that was noted of it, also
/// when something of their own changed.
#[tokio::test]
async fn nothing_is_lost_to_clients_when_all_members_become_known() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = room_without_state(&stage, &["bob", "carol"]);
    enter(&stage, &alice, &room).await;
    let lazy_since = stage.filtered_sync(&alice, lazy()).await["next_batch"].as_str().unwrap().to_owned();
    let note = serde_json::value::to_raw_value(&json!({"tags": {"u.work": {}}})).unwrap();
    stage.engine.set_account_data(&alice, Some(&room.id), "m.tag", note).await.unwrap();
    let since = stage.sync(&alice).await["next_batch"].as_str().unwrap().to_owned();
    stage.engine.set_display_name(&alice, Some("Alice".to_owned())).await.unwrap();
    let answer = room.send_message(&stage.remote, &stage.remote.user("bob"), "hi");
    stage.receive(&[&answer]).await;
    let bob_spoke = stage.filtered_sync(&alice, lazy()).await["next_batch"].as_str().unwrap().to_owned();
    complete(&stage, &room).await;

    for since in [lazy_since, bob_spoke] {
        let query = SyncQuery { since: Some(since), filter: lazy(), ..SyncQuery::default() };
        let told = stage.sync_by(&alice, query).await;
        let changed =
            serde_json::from_value::<Vec<String>>(told["device_lists"]["changed"].clone()).unwrap_or_default();
        assert!(
            ["@bob:remote", "@carol:remote"].iter().all(|name| changed.contains(&(*name).to_owned())),
            "{changed:?}"
        );
        assert!(!changed.contains(&"@alice:test".to_owned()), "of whom she was told when she came in");
    }
    let told = stage.sync_by(&alice, SyncQuery { since: Some(since), ..SyncQuery::default() }).await;
    assert_eq!(joined(&told, &room)["account_data"]["events"][0]["type"], "m.tag", "{told}");
}
