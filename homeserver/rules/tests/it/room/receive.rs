//! Receiving: the checks that need the room.

use homeserver_rules::{
    RoomSnapshot,
    change::Standing,
    event::Draft,
    pdu::MAX_DEPTH,
    room::{
        StateMap,
        receive::{MAX_FORWARD_EXTREMITIES, builds_on_head, extremities_after, judge},
    },
};
use ruma::OwnedEventId;
use serde_json::json;

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, rooms};

/// What we make of an event whose state before was that of `then`.
fn judged(room: &RoomFixture, draft: Draft, then: &RoomSnapshot) -> Standing {
    let before: StateMap = then.state_map();
    let pdu = room.build(draft);
    judge(&room.room, &pdu, |event_type, key| before.get(&(event_type.clone(), key.to_owned())).cloned(), &room.events)
}

fn message(room: &RoomFixture, sender: &str) -> Draft {
    room.draft(sender, "m.room.message", None, json!({ "body": "hello" }))
}

#[test]
fn an_event_that_passes_all_checks_is_accepted() {
    for room in rooms(1..=12) {
        assert_eq!(judged(&room, message(&room, BOB), &room.room), Standing::Accepted);
    }
}

#[test]
fn s_037_what_an_old_branch_allows_and_the_present_does_not_is_soft_failed() {
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "users": { BOB: 50 } }));
        let then = room.room.clone();
        let ban = json!({ "membership": "ban" });
        let drafts = [
            message(&room, BOB),
            room.draft(BOB, "m.room.topic", Some(""), json!({})),
            room.draft(BOB, "m.room.server_acl", Some(""), json!({ "deny": ["a.test"] })),
            room.draft(BOB, "m.room.member", Some(CAROL), ban),
        ];
        for draft in &drafts {
            assert_eq!(judged(&room, draft.clone(), &then), Standing::Accepted);
        }
        room.set_levels(json!({}));
        for (index, draft) in drafts.iter().enumerate() {
            let standing = judged(&room, draft.clone(), &then);
            assert_eq!(matches!(standing, Standing::SoftFailed(_)), index > 0, "{standing:?}");
        }
        room.member(ALICE, BOB, "ban");
        for draft in drafts {
            let standing = judged(&room, draft, &then);
            assert!(matches!(standing, Standing::SoftFailed(_)), "{standing:?}");
        }
    }
}

#[test]
fn what_the_state_before_does_not_allow_is_rejected() {
    for mut room in rooms(1..=12) {
        let draft = message(&room, BOB);
        room.member(ALICE, BOB, "leave");
        let standing = judged(&room, draft, &room.room);
        assert!(matches!(&standing, Standing::Rejected(reason) if reason.contains("state before")), "{standing:?}");
    }
}

#[test]
fn what_its_auth_events_do_not_allow_is_rejected_even_where_the_state_would() {
    for mut room in rooms(1..=12) {
        room.join(&[CAROL]);
        let carols = room.draft(CAROL, "m.room.message", None, json!({}));
        let draft = Draft { auth_events: carols.auth_events, ..message(&room, BOB) };
        let standing = judged(&room, draft, &room.room);
        assert!(matches!(&standing, Standing::Rejected(reason) if reason.contains("auth events")), "{standing:?}");
    }
}

/// Whoever leaves and comes back is not thrown out by what they did in between on another branch.
#[test]
fn an_event_before_a_leave_is_soft_failed_after_it() {
    for mut room in rooms(1..=12) {
        let (then, draft) = (room.room.clone(), message(&room, BOB));
        room.member(BOB, BOB, "leave");
        assert!(matches!(judged(&room, draft.clone(), &then), Standing::SoftFailed(_)));
        room.join(&[BOB]);
        assert_eq!(judged(&room, draft, &then), Standing::Accepted);
    }
}

#[test]
fn the_head_after_an_event_is_what_it_does_not_name_and_itself() {
    let mut room = rooms(11..=11).next().unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|body| {
        let draft = room.draft(ALICE, "m.room.message", None, json!({ "body": body }));
        room.craft(draft)
    });
    let head = |pdu: &homeserver_rules::Pdu| (pdu.event_id.clone(), pdu.depth);
    room.room.forward_extremities = vec![head(&one), head(&two)];
    assert!(!builds_on_head(&room.room, &three));
    assert_eq!(extremities_after(&room.room, &three), [head(&one), head(&two), head(&three)]);
    let naming = |room: &RoomFixture, ids: &[&OwnedEventId]| {
        room.build(Draft { prev_events: ids.iter().map(|id| (*id).clone()).collect(), ..message(room, BOB) })
    };
    let on_both = naming(&room, &[&two.event_id, &one.event_id]);
    assert!(builds_on_head(&room.room, &on_both));
    assert_eq!(extremities_after(&room.room, &on_both), [head(&on_both)]);
    let on_one = naming(&room, &[&one.event_id]);
    assert!(!builds_on_head(&room.room, &on_one));
    assert_eq!(extremities_after(&room.room, &on_one), [head(&two), head(&on_one)]);
    let on_more = naming(&room, &[&one.event_id, &two.event_id, &three.event_id]);
    assert!(!builds_on_head(&room.room, &on_more));
    room.room.forward_extremities.clear();
    assert!(!builds_on_head(&room.room, &naming(&room, &[])), "nothing builds on a head that is not there");
}

/// However deep a peer says that its forks are: the state of the room hangs on the head.
#[test]
fn forks_of_the_past_do_not_push_out_the_present() {
    let mut room = rooms(11..=11).next().unwrap();
    let past = room.room.forward_extremities[0].clone();
    let present = room.message(ALICE, "here we are");
    for index in 0..3 * MAX_FORWARD_EXTREMITIES as u64 {
        let draft = Draft { depth: MAX_DEPTH - index, prev_events: vec![past.0.clone()], ..message(&room, BOB) };
        let pdu = room.craft(draft);
        room.room.forward_extremities = extremities_after(&room.room, &pdu);
    }
    assert_eq!(room.room.forward_extremities.len(), MAX_FORWARD_EXTREMITIES);
    assert!(room.room.forward_extremities.contains(&(present.event_id.clone(), present.depth)));
    // An event on top of the present still counts, and one of ours brings all together.
    let draft = Draft { prev_events: vec![present.event_id.clone()], ..message(&room, ALICE) };
    let next = room.craft(draft);
    room.room.forward_extremities = extremities_after(&room.room, &next);
    assert!(room.room.forward_extremities.contains(&(next.event_id.clone(), next.depth)));
    assert!(!room.room.forward_extremities.contains(&(present.event_id.clone(), present.depth)));
    let ours = room.message(ALICE, "all together");
    assert_eq!(ours.prev_events.len(), MAX_FORWARD_EXTREMITIES);
    assert_eq!(room.room.forward_extremities, [(ours.event_id.clone(), ours.depth)]);
}
