//! Reading a room page by page, and around an event.

use ruma::{OwnedRoomId, api::client::filter::RoomEventFilter, events::room::member::MembershipState};
use serde_json::{Value, json};

use crate::stage::{Dice, Stage, backwards, page_ids, token};

async fn filled_room(stage: &Stage, alice: &engine::Requester) -> OwnedRoomId {
    let room_id = stage.room(alice, "shared").await;
    for number in 0..25 {
        stage.send(alice, &room_id, &number.to_string()).await;
    }
    room_id
}

fn values(events: &[engine::ClientEvent]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(event.get()).unwrap()).collect()
}

#[tokio::test]
async fn r_19_pages_in_both_directions_cover_everything() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = filled_room(&stage, &alice).await;
    let all = stage.timeline(&room_id).await;
    for forward in [true, false] {
        for seed in 0..5 {
            let mut dice = Dice::new(seed);
            let mut found = Vec::new();
            let mut from = None;
            loop {
                let mut asked = backwards(&room_id, from.as_deref(), 1 + dice.below(12));
                asked.forward = forward;
                let page = stage.page(&alice, asked).await;
                assert_eq!(*from.as_ref().unwrap_or(&page.start), page.start);
                found.extend(page_ids(&page));
                from = page.end;
                if from.is_none() {
                    break;
                }
            }
            if !forward {
                found.reverse();
            }
            assert_eq!(found, all, "forward: {forward}, seed {seed}");
        }
    }
}

#[tokio::test]
async fn sync_tokens_and_limits_of_pages() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = filled_room(&stage, &alice).await;
    let all = stage.timeline(&room_id).await;
    let middle = token(&stage.sync(&alice, None).await);
    let later = stage.send(&alice, &room_id, "later").await;
    let mut asked = backwards(&room_id, Some(&middle), 10);
    assert_eq!(page_ids(&stage.page(&alice, asked.clone()).await)[0], *all.last().unwrap());
    asked.forward = true;
    let page = stage.page(&alice, asked.clone()).await;
    assert_eq!(page_ids(&page), [later.as_str()]);
    assert_eq!(page.end, None);
    // Nothing at all is no reason to go on.
    asked.to = Some(middle.clone());
    let page = stage.page(&alice, asked.clone()).await;
    assert_eq!((page_ids(&page).len(), page.end), (0, None));
    // The limit is clamped to what makes sense.
    assert_eq!(page_ids(&stage.page(&alice, backwards(&room_id, None, 0)).await), [later.as_str()]);
    let whole = stage.page(&alice, backwards(&room_id, None, usize::MAX)).await;
    assert_eq!((whole.chunk.len(), whole.end), (all.len() + 1, None));
    for junk in ["", "junk", "s1", "t1.5"] {
        let refused = stage.engine.messages(&alice, backwards(&room_id, Some(junk), 10)).await;
        assert!(matches!(refused, Err(engine::EngineError::InvalidParam(_))), "{junk}");
    }
}

#[tokio::test]
async fn pages_end_though_nothing_fits() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    for number in 0..1_100 {
        stage.send(&alice, &room_id, &number.to_string()).await;
    }
    let mut asked = backwards(&room_id, None, 10);
    asked.filter = serde_json::from_value(json!({"types": ["m.room.create"]})).unwrap();
    let first = stage.page(&alice, asked.clone()).await;
    assert_eq!(first.chunk.len(), 0);
    asked.from = Some(first.end.expect("there is more to be read"));
    let second = stage.page(&alice, asked).await;
    assert_eq!((second.chunk.len(), second.end), (1, None));
}

#[tokio::test]
async fn lazily_the_members_who_speak_come_along() {
    let stage = Stage::new().await;
    let (alice, bob, carol) = (stage.user("alice").await, stage.user("bob").await, stage.user("carol").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    stage.join(&carol, &room_id).await;
    stage.send(&bob, &room_id, "one").await;
    stage.send(&alice, &room_id, "two").await;
    let mut asked = backwards(&room_id, None, 2);
    assert!(stage.page(&carol, asked.clone()).await.state.is_empty());
    asked.filter = serde_json::from_value(json!({"lazy_load_members": true})).unwrap();
    let shown = values(&stage.page(&carol, asked).await.state);
    let mut members: Vec<_> = shown.iter().map(|event| event["state_key"].as_str().unwrap()).collect();
    members.sort_unstable();
    assert_eq!(members, [alice.user_id.as_str(), bob.user_id.as_str()]);
}

#[tokio::test]
async fn context_surrounds_an_event() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = filled_room(&stage, &alice).await;
    stage.join(&bob, &room_id).await;
    let all = stage.timeline(&room_id).await;
    let middle = all.len() / 2;
    let event_id = all[middle].as_str().try_into().unwrap();
    let filter = RoomEventFilter::default();
    let context = stage.engine.context(&alice, &room_id, event_id, 5, filter.clone()).await.unwrap();
    let found = |events| values(events).iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect();
    let (before, after): (Vec<String>, Vec<String>) = (found(&context.before), found(&context.after));
    assert_eq!(before, [all[middle - 1].clone(), all[middle - 2].clone()]);
    assert_eq!(after, all[middle + 1..=middle + 3]);
    // The tokens go on from there.
    let page = stage.page(&alice, backwards(&room_id, Some(&context.start), 1)).await;
    assert_eq!(page_ids(&page), [all[middle - 3].clone()]);
    let mut asked = backwards(&room_id, Some(&context.end), 1);
    asked.forward = true;
    assert_eq!(page_ids(&stage.page(&alice, asked).await), [all[middle + 4].clone()]);
    // The state is that of then: bob was not there yet.
    assert!(!format!("{:?}", values(&context.state)).contains("@bob:test"));
    let context = stage.engine.context(&alice, &room_id, event_id, 0, filter).await.unwrap();
    assert!(context.before.is_empty() && context.after.is_empty());
}

#[tokio::test]
async fn s_131_events_of_other_rooms_are_not_found() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (here, there) = (stage.room(&alice, "shared").await, stage.room(&alice, "shared").await);
    let event_id = stage.send(&alice, &there, "there").await;
    let not_found = |error| assert!(matches!(error, engine::EngineError::NotFound(_)), "{error:?}");
    not_found(stage.engine.event(&alice, &here, &event_id).await.unwrap_err());
    not_found(stage.engine.context(&alice, &here, &event_id, 5, RoomEventFilter::default()).await.unwrap_err());
}

#[tokio::test]
async fn members_can_be_selected_and_read_as_of_the_past() {
    let stage = Stage::new().await;
    let (alice, bob, carol) = (stage.user("alice").await, stage.user("bob").await, stage.user("carol").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.engine.invite(&alice, &room_id, &carol.user_id, None).await.unwrap();
    let then = token(&stage.sync(&alice, None).await);
    stage.join(&bob, &room_id).await;
    stage.leave(&bob, &room_id).await;
    let read = async |at: Option<&str>, membership, not_membership| {
        let members = stage.engine.members(&alice, &room_id, at, membership, not_membership).await.unwrap();
        let mut members: Vec<String> =
            values(&members).iter().map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
        members.sort_unstable();
        members.join(" ")
    };
    assert_eq!(read(None, None, None).await, "@alice:test @bob:test @carol:test");
    assert_eq!(read(None, Some(MembershipState::Join), None).await, "@alice:test");
    assert_eq!(read(None, None, Some(MembershipState::Leave)).await, "@alice:test @carol:test");
    assert_eq!(read(Some(&then), None, None).await, "@alice:test @carol:test");
    let joined = stage.engine.joined_members(&alice, &room_id).await.unwrap();
    assert_eq!(joined.iter().map(|(user_id, _)| user_id).collect::<Vec<_>>(), [&alice.user_id]);
    let rooms = stage.engine.joined_rooms(&alice).await.unwrap();
    assert_eq!(rooms.iter().collect::<Vec<_>>(), [&room_id]);
    assert!(stage.engine.joined_rooms(&bob).await.unwrap().is_empty());
}
