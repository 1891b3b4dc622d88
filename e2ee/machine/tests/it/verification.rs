//! Verification by emoji, between devices and in rooms.

use machine::{FlowId, Notice, Stage};
use ruma::EventId;
use serde_json::{Value, json};

use crate::party::{Party, room};

fn flow(party: &Party, who: usize) -> FlowId {
    let flow = |notice: &Notice| match notice {
        Notice::Verification { flow_id } => Some(flow_id.clone()),
        _ => None,
    };
    party.clients[who].notices.iter().rev().find_map(flow).expect("a flow")
}

fn stage(party: &Party, who: usize, id: &FlowId) -> Stage {
    party.clients[who].machine.verification(id).expect("the flow").stage
}

fn act(party: &mut Party, who: usize, what: impl FnOnce(&mut machine::Machine) -> machine::Held<()>) {
    let client = &mut party.clients[who];
    let held = what(&mut client.machine);
    client.keep(held);
}

/// From the request to the comparison. Gives the flow as both see it.
fn until_comparison(party: &mut Party, asks: usize, accepts: usize, starts: usize) -> (FlowId, FlowId) {
    let (user_id, device_id) = party.clients[accepts].place.clone();
    let client = &mut party.clients[asks];
    let held = client.machine.request_verification(&user_id, &[device_id]).expect("the device is known");
    let ours = client.keep(held);
    party.pump();
    let theirs = flow(party, accepts);
    assert_eq!(stage(party, accepts, &theirs), Stage::Offered);
    act(party, accepts, |machine| machine.accept_verification(&theirs));
    party.pump();
    assert_eq!(stage(party, asks, &ours), Stage::Ready);
    let start = if starts == asks { ours.clone() } else { theirs.clone() };
    act(party, starts, |machine| machine.start_sas(&start));
    party.pump();
    (ours, theirs)
}

/// A whole verification.
pub(crate) fn verify(party: &mut Party, asks: usize, accepts: usize) {
    let (ours, theirs) = until_comparison(party, asks, accepts, asks);
    act(party, asks, |machine| machine.confirm_sas(&ours));
    act(party, accepts, |machine| machine.confirm_sas(&theirs));
    party.pump();
    assert_eq!((stage(party, asks, &ours), stage(party, accepts, &theirs)), (Stage::Done, Stage::Done));
}

#[test]
fn both_see_the_same_and_are_verified_when_both_confirm() {
    for starts in [0, 1] {
        let mut party = Party::new(&["alice", "bob"]);
        party.meet(0);
        let (ours, theirs) = until_comparison(&mut party, 0, 1, starts);
        let seen = stage(&party, 0, &ours);
        assert!(matches!(seen, Stage::Compare { is_confirmed: false, .. }), "{seen:?}");
        assert_eq!(seen, stage(&party, 1, &theirs));
        act(&mut party, 1, |machine| machine.confirm_sas(&theirs));
        party.pump();
        assert!(matches!(stage(&party, 1, &theirs), Stage::Compare { is_confirmed: true, .. }));
        let (bob, device) = party.clients[1].place.clone();
        assert!(!party.clients[0].machine.is_device_verified(&bob, &device), "only one has confirmed");
        act(&mut party, 0, |machine| machine.confirm_sas(&ours));
        party.pump();
        assert!(party.clients[0].machine.is_device_verified(&bob, &device));
        let (alice, device) = party.clients[0].place.clone();
        assert!(party.clients[1].machine.is_device_verified(&alice, &device));
    }
}

#[test]
fn strings_that_differ_end_it_for_both() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    let (ours, theirs) = until_comparison(&mut party, 0, 1, 0);
    act(&mut party, 1, |machine| machine.mismatch_sas(&theirs));
    party.pump();
    let code = |by_us| Stage::Cancelled { code: "m.mismatched_sas".to_owned(), by_us };
    assert_eq!((stage(&party, 0, &ours), stage(&party, 1, &theirs)), (code(false), code(true)));
    act(&mut party, 0, |machine| machine.confirm_sas(&ours));
    let (bob, device) = party.clients[1].place.clone();
    assert!(!party.clients[0].machine.is_device_verified(&bob, &device));
}

#[test]
fn a_key_other_than_the_promised_one_is_noticed() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    let (user_id, device_id) = party.clients[1].place.clone();
    let client = &mut party.clients[0];
    let held = client.machine.request_verification(&user_id, &[device_id]).unwrap();
    let ours = client.keep(held);
    party.pump();
    let theirs = flow(&party, 1);
    act(&mut party, 1, |machine| machine.accept_verification(&theirs));
    party.pump();
    act(&mut party, 0, |machine| machine.start_sas(&ours));
    // The server changes bob's key on its way.
    for _ in 0..6 {
        let alice = party.clients[0].place.clone();
        for event in party.server.inboxes.get_mut(&alice).unwrap() {
            if event["type"] == "m.key.verification.key" {
                event["content"]["key"] = Value::String(vodozemac::Curve25519PublicKey::from([7; 32]).to_base64());
            }
        }
        party.sync(0);
        party.send_requests(0);
        party.sync(1);
        party.send_requests(1);
    }
    assert_eq!(stage(&party, 0, &ours), Stage::Cancelled { code: "m.mismatched_commitment".to_owned(), by_us: true });
    assert_eq!(
        stage(&party, 1, &theirs),
        Stage::Cancelled { code: "m.mismatched_commitment".to_owned(), by_us: false }
    );
}

#[test]
fn codes_for_other_keys_verify_nothing() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    let (ours, theirs) = until_comparison(&mut party, 0, 1, 0);
    act(&mut party, 0, |machine| machine.confirm_sas(&ours));
    act(&mut party, 1, |machine| machine.confirm_sas(&theirs));
    party.send_requests(1);
    let alice = party.clients[0].place.clone();
    for event in party.server.inboxes.get_mut(&alice).unwrap() {
        assert_eq!(event["type"], "m.key.verification.mac");
        event["content"]["mac"]["ed25519:OTHER"] = event["content"]["mac"]["ed25519:PHONE"].clone();
    }
    party.pump();
    assert_eq!(stage(&party, 0, &ours), Stage::Cancelled { code: "m.key_mismatch".to_owned(), by_us: true });
    let (bob, device) = party.clients[1].place.clone();
    assert!(!party.clients[0].machine.is_device_verified(&bob, &device));
}

#[test]
fn when_both_start_one_start_counts() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    let (user_id, device_id) = party.clients[1].place.clone();
    let client = &mut party.clients[0];
    let held = client.machine.request_verification(&user_id, &[device_id]).unwrap();
    let ours = client.keep(held);
    party.pump();
    let theirs = flow(&party, 1);
    act(&mut party, 1, |machine| machine.accept_verification(&theirs));
    party.pump();
    act(&mut party, 0, |machine| machine.start_sas(&ours));
    act(&mut party, 1, |machine| machine.start_sas(&theirs));
    party.send_requests(0);
    party.send_requests(1);
    party.pump();
    let seen = stage(&party, 0, &ours);
    assert!(matches!(seen, Stage::Compare { .. }), "{seen:?}");
    assert_eq!(seen, stage(&party, 1, &theirs));
}

#[test]
fn what_takes_too_long_ends_and_what_is_unknown_is_said_to_be() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    party.meet(1);
    let (ours, theirs) = until_comparison(&mut party, 0, 1, 0);
    party.clock.advance(10 * 60 * 1000 + 1);
    party.pump();
    assert_eq!(stage(&party, 0, &ours), Stage::Cancelled { code: "m.timeout".to_owned(), by_us: true });
    assert!(matches!(
        party.clients[1].machine.verification(&theirs),
        None | Some(machine::Verification { stage: Stage::Cancelled { .. }, .. })
    ));

    let (ours, _) = until_comparison(&mut party, 0, 1, 0);
    party.restart(1);
    act(&mut party, 0, |machine| machine.confirm_sas(&ours));
    party.pump();
    assert_eq!(stage(&party, 0, &ours), Stage::Cancelled { code: "m.unknown_transaction".to_owned(), by_us: false });
}

#[test]
fn of_several_devices_the_first_that_accepts_gets_the_flow() {
    let mut party = Party::new(&["alice", "bob", "bob/LAPTOP"]);
    party.meet(0);
    let (user_id, _) = party.clients[1].place.clone();
    let client = &mut party.clients[0];
    let held = client.machine.request_verification(&user_id, &[]).unwrap();
    let ours = client.keep(held);
    party.pump();
    let (phone, laptop) = (flow(&party, 1), flow(&party, 2));
    act(&mut party, 2, |machine| machine.accept_verification(&laptop));
    party.pump();
    assert_eq!(stage(&party, 0, &ours), Stage::Ready);
    assert_eq!(stage(&party, 1, &phone), Stage::Cancelled { code: "m.accepted".to_owned(), by_us: false });
    assert_eq!(stage(&party, 2, &laptop), Stage::Ready);
}

#[test]
fn old_requests_and_those_from_the_future_are_not_shown() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(1);
    let now = 1_700_000_000_000_u64;
    for timestamp in [now - 11 * 60 * 1000, now + 6 * 60 * 1000, u64::MAX] {
        let content =
            json!({ "from_device": "PHONE", "methods": ["m.sas.v1"], "timestamp": timestamp, "transaction_id": "t" });
        let (alice, bob) = (party.clients[0].place.clone(), party.clients[1].place.clone());
        let to = ruma::to_device::DeviceIdOrAllDevices::AllDevices;
        party.server.deliver(&alice, &bob.0, &to, "m.key.verification.request", &content);
    }
    party.pump();
    assert!(!party.clients[1].notices.iter().any(|notice| matches!(notice, Notice::Verification { .. })));
}

#[test]
fn a_verification_in_a_room_works_the_same() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    party.meet(1);
    let bob = party.clients[1].place.0.clone();
    act(&mut party, 0, |machine| machine.request_verification_in_room(&room(), &bob));
    let mut done = 0;
    let mut is_accepted = false;
    let mut is_confirmed = [false; 2];
    for _ in 0..30 {
        party.pump();
        // The room: everybody sees every event.
        let events: Vec<_> = party.server.room_events[done..].to_vec();
        done = party.server.room_events.len();
        for (from, event_id, event) in events {
            for who in 0..2 {
                let event_id: &EventId = &event_id;
                act(&mut party, who, |machine| {
                    machine.receive_room_verification(&room(), &from.0, event_id, &event.event_type, &event.content)
                });
            }
        }
        party.pump();
        let theirs = flow(&party, 1);
        let ours = flow(&party, 0);
        if !is_accepted {
            is_accepted = true;
            act(&mut party, 1, |machine| machine.accept_verification(&theirs));
        } else if stage(&party, 0, &ours) == Stage::Ready {
            act(&mut party, 0, |machine| machine.start_sas(&ours));
        }
        for (who, flow_id) in [(0, &ours), (1, &theirs)] {
            if matches!(stage(&party, who, flow_id), Stage::Compare { .. }) && !is_confirmed[who] {
                is_confirmed[who] = true;
                act(&mut party, who, |machine| machine.confirm_sas(flow_id));
            }
        }
    }
    assert_eq!((stage(&party, 0, &flow(&party, 0)), stage(&party, 1, &flow(&party, 1))), (Stage::Done, Stage::Done));
    let (bob, device) = party.clients[1].place.clone();
    assert!(party.clients[0].machine.is_device_verified(&bob, &device));
}
