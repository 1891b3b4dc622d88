//! What an accepted event changes.

use std::sync::Arc;

use homeserver_rules::{
    Change, Pdu, RoomSnapshot,
    change::{Placement, Standing},
    room::{
        EventsById,
        advance::{Advance, advance, keep_local_memberships},
        send::{accept, entry_of},
    },
};
use ruma::{events::room::member::MembershipState, server_name};
use serde_json::json;

use crate::room_fixture::{ALICE, BOB, CAROL, DAVE, RoomFixture, rooms, user};

fn changes(before: &RoomSnapshot, pdu: &Arc<Pdu>) -> Vec<Change> {
    accept(before, pdu, &EventsById::new()).changes
}

fn servers(changes: &[Change]) -> Vec<(String, bool)> {
    let server = |change: &Change| match change {
        Change::RoomServer { server, present, .. } => Some((server.to_string(), *present)),
        _ => None,
    };
    changes.iter().filter_map(server).collect()
}

fn memberships(changes: &[Change]) -> Vec<(String, MembershipState)> {
    let membership = |change: &Change| match change {
        Change::Membership { user_id, membership, .. } => Some((user_id.to_string(), membership.clone())),
        _ => None,
    };
    changes.iter().filter_map(membership).collect()
}

#[test]
fn a_message_changes_the_timeline_and_the_head() {
    for mut room in rooms(1..=12) {
        let before = room.room.clone();
        let message = room.message(BOB, "hello");
        let changes = changes(&before, &message);
        let [Change::Event(event), Change::ForwardExtremities { event_ids, .. }] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        assert_eq!((&event.standing, event.placement), (&Standing::Accepted, Placement::Live));
        assert_eq!(event_ids, std::slice::from_ref(&message.event_id));
    }
}

#[test]
fn servers_come_with_their_first_member_and_go_with_their_last() {
    for mut room in rooms(1..=12) {
        let mut step = |sender: &str, target: &str, membership: &str| {
            let before = room.room.clone();
            let pdu = room.member(sender, target, membership);
            servers(&changes(&before, &pdu))
        };
        let (came, went) = (vec![("c.test".to_owned(), true)], vec![("c.test".to_owned(), false)]);
        assert_eq!(step(ALICE, CAROL, "invite"), []);
        assert_eq!(step(CAROL, CAROL, "join"), came);
        assert_eq!(step("@other:c.test", "@other:c.test", "join"), []);
        assert_eq!(step(CAROL, CAROL, "join"), []);
        assert_eq!(step(CAROL, CAROL, "leave"), []);
        assert_eq!(step(ALICE, "@other:c.test", "ban"), went);
        assert_eq!(step(ALICE, "@other:c.test", "leave"), []);
        assert_eq!(step(DAVE, DAVE, "join"), []);
    }
}

#[test]
fn memberships_are_told_and_those_of_others_left_out() {
    for mut room in rooms(1..=12) {
        for (sender, target, membership, ours) in
            [(ALICE, DAVE, "invite", true), (DAVE, DAVE, "join", true), (ALICE, CAROL, "invite", false)]
        {
            let before = room.room.clone();
            let pdu = room.member(sender, target, membership);
            let mut changes = changes(&before, &pdu);
            assert_eq!(memberships(&changes), [(target.to_owned(), membership.into())]);
            keep_local_memberships(&mut changes, server_name!("a.test"));
            assert_eq!(memberships(&changes).len(), usize::from(ours));
        }
    }
}

/// After a fork is resolved, the state changes by more than the event that resolved it.
#[test]
fn all_entries_that_differ_are_told() {
    let mut room = rooms(11..=11).next().unwrap();
    let before = room.room.clone();
    let join = room.craft(room.draft(CAROL, "m.room.member", Some(CAROL), json!({ "membership": "join" })));
    let leave = room.craft(room.draft(BOB, "m.room.member", Some(BOB), json!({ "membership": "leave" })));
    let message = room.craft(room.draft(ALICE, "m.room.message", None, json!({})));
    let entries = [&join, &leave].map(|pdu| entry_of(pdu).unwrap()).to_vec();
    let head = vec![(message.event_id.clone(), message.depth)];
    let step = Advance { forward_extremities: head, ..Advance::new(message, entries) };
    let step = advance(&before, step, &room.events);
    assert!(!step.outbound);
    assert_eq!(servers(&step.changes), [("b.test".to_owned(), false), ("c.test".to_owned(), true)]);
    let expected = [(CAROL.to_owned(), MembershipState::Join), (BOB.to_owned(), MembershipState::Leave)];
    assert_eq!(memberships(&step.changes), expected);
    let after = step.room.unwrap();
    assert_eq!(
        (after.membership(&user(BOB)), after.membership(&user(CAROL))),
        (MembershipState::Leave, MembershipState::Join)
    );
    assert_eq!(after.joined_count(), 2);
    let sender = step.changes.iter().find_map(|change| match change {
        Change::Membership { sender, user_id, .. } if *user_id == BOB => Some(sender.clone()),
        _ => None,
    });
    assert_eq!(sender, Some(user(BOB)));
    assert_eq!(RoomFixture::new(room.room.version.clone()).room.joined_count(), 1);
}
