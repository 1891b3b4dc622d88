//! Cross-signing: which devices and users are verified, and when they cease to be.

use machine::{Notice, Verdict};

use crate::party::{Party, user};

#[test]
fn an_identity_signs_its_device_and_is_seen_by_others() {
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(0);
    let status = party.clients[0].machine.cross_signing_status();
    assert!(status.has_master && status.has_self_signing && status.has_user_signing && status.is_trusted);
    let event = party.send(0, "hello");
    let answer = party.send(1, "hello");
    assert_eq!(party.decrypt(1, &event).unwrap().verdict, Verdict::SignedByOwner);
    assert_eq!(party.decrypt(0, &answer).unwrap().verdict, Verdict::UnsignedDevice);
    party.restart(0);
    assert_eq!(party.clients[0].machine.cross_signing_status(), status);
}

#[test]
fn an_identity_that_changes_is_verified_no_more() {
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(0);
    party.bootstrap(1);
    party.meet(0);
    party.meet(1);
    crate::verification::verify(&mut party, 0, 1);
    let machine = &party.clients[0].machine;
    assert!(machine.is_identity_verified(&user("bob")));
    assert!(party.clients[1].machine.is_identity_verified(&user("alice")));
    party.bootstrap(1);
    party.meet(0);
    assert!(!party.clients[0].machine.is_identity_verified(&user("bob")));
    let changed = |notice: &Notice| *notice == Notice::IdentityChanged { user_id: user("bob"), was_verified: true };
    assert!(party.clients[0].notices.iter().any(changed));
}

#[test]
fn a_new_device_is_verified_by_an_old_one_and_gets_the_secrets() {
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(0);
    party.meet(1);
    let laptop = party.add("alice/LAPTOP");
    party.pump();
    assert!(party.clients[0].notices.iter().any(|notice| matches!(notice, Notice::OwnDeviceAdded { .. })));
    let ask = |party: &mut Party| {
        let client = &mut party.clients[laptop];
        let held = client.machine.request_secrets();
        client.keep(held);
        party.pump();
    };
    ask(&mut party);
    assert!(!party.clients[laptop].machine.cross_signing_status().has_master, "not verified: no secrets");
    party.restart(laptop);
    crate::verification::verify(&mut party, 0, laptop);
    ask(&mut party);
    let status = party.clients[laptop].machine.cross_signing_status();
    assert!(status.has_master && status.has_self_signing && status.has_user_signing && status.is_trusted);
    let event = party.send(laptop, "from the laptop");
    assert_eq!(party.decrypt(1, &event).unwrap().verdict, Verdict::SignedByOwner);
    assert_eq!(party.decrypt(0, &event).unwrap().verdict, Verdict::Verified);
}

#[test]
fn a_bootstrap_that_the_server_refuses_leaves_no_identity() {
    let mut party = Party::new(&["alice"]);
    let client = &mut party.clients[0];
    let held = client.machine.bootstrap_cross_signing();
    client.keep(held);
    let held = client.machine.requests();
    let request = client.keep(held).into_iter().next().unwrap();
    let held = client.machine.give_up(&request.id).unwrap();
    client.keep(held);
    assert_eq!(client.machine.cross_signing_status(), machine::CrossSigningStatus::default());
}
