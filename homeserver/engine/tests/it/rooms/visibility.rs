//! Who may see what: every way of reading a room, for those who were never in it, those who left, and those who came
//! late.

use engine::{EngineError, Requester};
use ruma::{OwnedEventId, OwnedRoomId, api::client::filter::RoomEventFilter, events::StateEventType};
use serde_json::json;

use crate::stage::{Stage, backwards, page_ids, token};

async fn sees_event(stage: &Stage, user: &Requester, room_id: &OwnedRoomId, event_id: &OwnedEventId) -> bool {
    stage.engine.event(user, room_id, event_id).await.is_ok()
}

/// Whether an event is among the pages, by context, and by itself. They must agree.
async fn sees(stage: &Stage, user: &Requester, room_id: &OwnedRoomId, event_id: &OwnedEventId) -> bool {
    let single = sees_event(stage, user, room_id, event_id).await;
    let context = stage.engine.context(user, room_id, event_id, 4, RoomEventFilter::default()).await.is_ok();
    let page = stage.engine.messages(user, backwards(room_id, None, 500)).await;
    let paged = page.is_ok_and(|page| page_ids(&page).contains(&event_id.to_string()));
    assert_eq!((single, single), (context, paged), "{event_id}");
    single
}

#[tokio::test]
async fn s_127_strangers_read_nothing() {
    let stage = Stage::new().await;
    let (alice, stranger) = (stage.user("alice").await, stage.user("stranger").await);
    for history_visibility in ["joined", "invited", "shared"] {
        let room_id = stage.room(&alice, history_visibility).await;
        let event_id = stage.send(&alice, &room_id, "secret").await;
        let engine = &stage.engine;
        let forbidden = |error: EngineError| assert!(matches!(error, EngineError::Forbidden(_)), "{error:?}");
        let not_found = |error: EngineError| assert!(matches!(error, EngineError::NotFound(_)), "{error:?}");
        forbidden(engine.messages(&stranger, backwards(&room_id, None, 10)).await.unwrap_err());
        forbidden(engine.members(&stranger, &room_id, None, None, None).await.unwrap_err());
        forbidden(engine.joined_members(&stranger, &room_id).await.unwrap_err());
        forbidden(engine.state(&stranger, &room_id).await.unwrap_err());
        let create = StateEventType::RoomCreate;
        forbidden(engine.state_event(&stranger, &room_id, &create, "").await.unwrap_err());
        not_found(engine.event(&stranger, &room_id, &event_id).await.unwrap_err());
        let filter = RoomEventFilter::default();
        not_found(engine.context(&stranger, &room_id, &event_id, 5, filter).await.unwrap_err());
        let read = ruma::events::receipt::ReceiptType::Read;
        forbidden(engine.receipt(&stranger, &room_id, read, &event_id, None).await.unwrap_err());
        forbidden(engine.typing(&stranger, &room_id, Some(1_000)).await.unwrap_err());
        forbidden(engine.set_room_published(&stranger, &room_id, true).await.unwrap_err());
        assert!(stage.sync(&stranger, None).await["rooms"].is_null());
    }
}

#[tokio::test]
async fn s_128_history_visibility_and_membership_decide() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    // What somebody sees who was invited after the first message, joined after the second, and left after the third.
    for (history_visibility, expected) in [
        ("world_readable", [true, true, true, true]),
        ("shared", [true, true, true, false]),
        ("invited", [false, true, true, false]),
        ("joined", [false, false, true, false]),
    ] {
        let user = stage.user(&format!("reader_{history_visibility}")).await;
        let room_id = stage.room(&alice, history_visibility).await;
        let before = stage.send(&alice, &room_id, "before").await;
        stage.engine.invite(&alice, &room_id, &user.user_id, None).await.unwrap();
        let invited = stage.send(&alice, &room_id, "while invited").await;
        stage.join(&user, &room_id).await;
        let joined = stage.send(&alice, &room_id, "while joined").await;
        stage.leave(&user, &room_id).await;
        let after = stage.send(&alice, &room_id, "after").await;
        let events = [before, invited, joined, after];
        for (event_id, expected) in events.iter().zip(expected) {
            let found = sees(&stage, &user, &room_id, event_id).await;
            assert_eq!(found, expected, "{history_visibility} {event_id} of {events:?}");
        }
    }
}

/// What somebody does, or has done to them, in a row.
const PATHS: [&[&str]; 8] = [
    &[],
    &["invite"],
    &["join"],
    &["invite", "join", "leave"],
    &["join", "leave"],
    &["join", "ban"],
    &["join", "leave", "invite"],
    &["join", "leave", "join"],
];

/// One message, and what held when it was sent.
struct Said {
    event_id: OwnedEventId,
    history_visibility: &'static str,
    membership: &'static str,
    /// How many steps had been taken.
    step: usize,
}

/// What the specification says, step by step, of somebody who may read the room at all.
fn expected(said: &Said, path: &[&str]) -> bool {
    let joins_later = path[said.step..].contains(&"join");
    match (said.history_visibility, said.membership) {
        ("world_readable", _) | (_, "join") => true,
        ("shared", _) => joins_later,
        ("invited", membership) => membership == "invite",
        _ => false,
    }
}

async fn take(stage: &Stage, alice: &Requester, user: &Requester, room_id: &OwnedRoomId, step: &str) {
    match step {
        "invite" => stage.engine.invite(alice, room_id, &user.user_id, None).await.unwrap(),
        "join" => stage.join(user, room_id).await,
        "leave" => stage.leave(user, room_id).await,
        _ => stage.engine.ban(alice, room_id, &user.user_id, None).await.unwrap(),
    }
}

#[tokio::test]
async fn s_128_each_setting_with_each_way_through_a_room_and_each_change_of_it() {
    const SETTINGS: [&str; 4] = ["world_readable", "shared", "invited", "joined"];
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    for (number, path) in PATHS.iter().enumerate() {
        let user = stage.user(&format!("reader{number}")).await;
        for (first, then) in SETTINGS.iter().flat_map(|first| SETTINGS.map(|then| (*first, then))) {
            let room_id = stage.room(&alice, first).await;
            let mut said = Vec::new();
            for (number, history_visibility) in [first, then].into_iter().enumerate() {
                let steps = if number == 0 { 0..path.len() } else { path.len()..path.len() };
                let content = json!({ "history_visibility": history_visibility });
                stage.set_state(&alice, &room_id, "m.room.history_visibility", &content).await;
                let start = steps.start;
                for step in start..=steps.end {
                    let membership = step.checked_sub(1).map_or("leave", |before| path[before]);
                    let event_id = stage.send(&alice, &room_id, "said").await;
                    said.push(Said { event_id, history_visibility, membership, step });
                    if let Some(step) = path.get(step).filter(|_| step < steps.end) {
                        take(&stage, &alice, &user, &room_id, step).await;
                    }
                }
            }
            let may_read = path.contains(&"join") || then == "world_readable";
            for said in &said {
                let expected = may_read && expected(said, path);
                let single = sees_event(&stage, &user, &room_id, &said.event_id).await;
                let Said { event_id, history_visibility, membership, step } = said;
                let why = format!("{path:?} {first} {then}: {event_id} {history_visibility} {membership} {step}");
                assert_eq!(single, expected, "{why}");
                let filter = RoomEventFilter::default();
                let context = stage.engine.context(&user, &room_id, event_id, 0, filter).await.is_ok();
                assert_eq!(context, expected, "{why}");
                let page = stage.engine.messages(&user, backwards(&room_id, None, 100)).await;
                let is_paged = page.is_ok_and(|page| page_ids(&page).contains(&event_id.to_string()));
                // Whoever is not in the room any more pages through what was until they left.
                let left_at = path.iter().rposition(|step| *step == "join").map(|joined| joined + 2);
                let is_later = then != "world_readable" && left_at.is_some_and(|left_at| *step >= left_at);
                assert_eq!(is_paged, expected && !is_later, "{why}");
            }
        }
    }
}

#[tokio::test]
async fn s_128_the_setting_at_the_time_decides() {
    let stage = Stage::new().await;
    let (alice, late) = (stage.user("alice").await, stage.user("late").await);
    let room_id = stage.room(&alice, "joined").await;
    let hidden = stage.send(&alice, &room_id, "hidden").await;
    let shared = json!({"history_visibility": "shared"});
    stage.set_state(&alice, &room_id, "m.room.history_visibility", &shared).await;
    let open = stage.send(&alice, &room_id, "open").await;
    let joined = json!({"history_visibility": "joined"});
    stage.set_state(&alice, &room_id, "m.room.history_visibility", &joined).await;
    let again = stage.send(&alice, &room_id, "hidden again").await;
    stage.join(&late, &room_id).await;
    assert!(!sees(&stage, &late, &room_id, &hidden).await);
    assert!(sees(&stage, &late, &room_id, &open).await);
    assert!(!sees(&stage, &late, &room_id, &again).await);
    let timeline = stage.sync(&late, None).await["rooms"]["join"][room_id.as_str()]["timeline"].to_string();
    assert!(timeline.contains(open.as_str()));
    assert!(!timeline.contains(hidden.as_str()) && !timeline.contains(again.as_str()), "{timeline}");
}

#[tokio::test]
async fn s_129_who_left_reads_the_room_as_it_was_then() {
    let stage = Stage::new().await;
    let (alice, bob, carol) = (stage.user("alice").await, stage.user("bob").await, stage.user("carol").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    stage.set_state(&alice, &room_id, "m.room.name", &json!({"name": "then"})).await;
    stage.leave(&bob, &room_id).await;
    let left = token(&stage.sync(&bob, None).await);
    stage.set_state(&alice, &room_id, "m.room.name", &json!({"name": "now"})).await;
    stage.join(&carol, &room_id).await;
    let engine = &stage.engine;
    let name = engine.state_event(&bob, &room_id, &StateEventType::RoomName, "").await.unwrap();
    assert!(name.get().contains("then"), "{}", name.get());
    let shown = engine.state(&bob, &room_id).await.unwrap();
    assert!(shown.iter().all(|event| !event.get().contains("now") && !event.get().contains("@carol:test")));
    let members = engine.members(&bob, &room_id, None, None, None).await.unwrap();
    assert_eq!(members.len(), 2);
    // Not even by a token of a later time.
    let later = token(&stage.sync(&alice, None).await);
    assert_eq!(engine.members(&bob, &room_id, Some(&later), None, None).await.unwrap().len(), 2);
    let mut asked = backwards(&room_id, Some(&left), 10);
    asked.forward = true;
    let page = stage.page(&bob, asked.clone()).await;
    assert_eq!((page.chunk.len(), page.end), (0, None));
    asked.from = Some(later);
    asked.forward = false;
    let page = stage.page(&bob, asked).await;
    assert!(page.chunk[0].get().contains("\"leave\""), "{}", page.chunk[0].get());
    // And nothing at all once it is forgotten.
    engine.forget(&bob, &room_id).await.unwrap();
    let refused = engine.messages(&bob, backwards(&room_id, None, 10)).await.unwrap_err();
    assert!(matches!(refused, EngineError::Forbidden(_)));
    assert!(engine.state(&bob, &room_id).await.is_err());
    assert!(engine.members(&bob, &room_id, None, None, None).await.is_err());
}

#[tokio::test]
async fn world_readable_rooms_are_read_by_all() {
    let stage = Stage::new().await;
    let (alice, stranger) = (stage.user("alice").await, stage.user("stranger").await);
    let room_id = stage.room(&alice, "world_readable").await;
    let event_id = stage.send(&alice, &room_id, "for all").await;
    assert!(sees(&stage, &stranger, &room_id, &event_id).await);
    assert!(stage.engine.state(&stranger, &room_id).await.unwrap().len() > 4);
    assert!(stage.engine.joined_members(&stranger, &room_id).await.is_err());
}
