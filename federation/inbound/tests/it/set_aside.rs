//! Events that build upon what is not to be had now. To be without it says nothing about them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fake_homeserver::{FakeHomeserver, Room};
use rules::Pdu;
use serde_json::json;

use crate::stage::{Stage, Verdict};

/// A room that alice is in, and a third server with a user in it of whose join we have not heard.
async fn room_with_stranger(stage: &Stage) -> (Room, FakeHomeserver, Arc<Pdu>) {
    let alice = stage.user("alice").await;
    let third = stage.network.add_fake("third");
    let room = stage.joined_room(&alice).await;
    let trudy = third.user("trudy");
    let join = room.send_state(&third, &trudy, "m.room.member", trudy.as_str(), json!({"membership": "join"}));
    (room, third, join)
}

#[tokio::test]
async fn r_26_an_event_upon_one_whose_key_is_away_is_judged_when_the_key_is_back() {
    let stage = Stage::new().await;
    let (room, third, join) = room_with_stranger(&stage).await;
    stage.network.cut(third.name());
    let tip = room.send_message(&stage.remote, &stage.remote.user("rita"), "after the join");
    let outcome = stage.receive(&[&tip]).await;
    // Ours to look after: its server need not send it again.
    assert_eq!(outcome[tip.event_id.as_str()], json!({}));
    assert_eq!(stage.verdict(&tip.event_id).await, Verdict::Unknown);
    assert_eq!(stage.verdict(&join.event_id).await, Verdict::Unknown);
    // Still away when it is tried again.
    stage.clock.advance(Duration::from_mins(2));
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 0, "it has to wait in between");
    stage.network.mend(third.name());
    stage.clock.advance(Duration::from_hours(6));
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    assert_eq!(stage.verdict(&join.event_id).await, Verdict::Accepted);
    assert_eq!(stage.verdict(&tip.event_id).await, Verdict::Accepted);
    assert_eq!(stage.membership(&room.id, &third.user("trudy")).await.as_deref(), Some("join"));
    assert!(stage.engine.storage().events_set_aside(&room.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn s_021_an_event_whose_auth_event_is_not_to_be_had_is_not_rejected_for_good() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    // Each of these is authorised by the one before. The first of them is withheld.
    let renamed = |name: &str| {
        let content = json!({"membership": "join", "displayname": name});
        room.send_state(&stage.remote, &rita, "m.room.member", rita.as_str(), content)
    };
    let (first, second, third) = (renamed("A"), renamed("B"), renamed("C"));
    let gap = room.send_message(&stage.remote, &rita, "gap");
    let tip = room.send_message(&stage.remote, &rita, "tip");
    let withheld = Arc::new(AtomicBool::new(true));
    let (flag, gap_json, first_id) = (withheld.clone(), gap.json.to_string(), first.event_id.to_string());
    stage.remote.on_request(move |request| {
        let path = request.uri().path();
        if !flag.load(Ordering::Relaxed) {
            return None;
        }
        if path.contains("get_missing_events") {
            let gap: serde_json::Value = serde_json::from_str(&gap_json).unwrap();
            return Some(fake_homeserver::json(200, &json!({"events": [gap]})));
        }
        let refused = path.contains("event_auth") || path.contains(first_id.trim_start_matches('$'));
        refused.then(|| fake_homeserver::json(404, &json!({"errcode": "M_NOT_FOUND"})))
    });
    stage.receive(&[&tip]).await;
    for pdu in [&second, &third, &gap, &tip] {
        let verdict = stage.verdict(&pdu.event_id).await;
        assert!(![Verdict::Rejected, Verdict::Accepted].contains(&verdict), "{verdict:?}: {}", pdu.json);
    }
    withheld.store(false, Ordering::Relaxed);
    // The next event brings what was lacking, and with it what waited.
    let next = room.send_message(&stage.remote, &rita, "next");
    stage.receive(&[&next]).await;
    for pdu in [&first, &second, &third, &gap, &tip, &next] {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted, "{}", pdu.json);
    }
    assert_eq!(stage.current(&room.id, "m.room.member", rita.as_str()).await, Some(third.event_id.clone()));
    assert!(stage.engine.storage().events_set_aside(&room.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn s_037_what_was_soft_failed_is_judged_anew_when_it_comes_again() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let levels = |needed: i64| {
        let content = json!({"users": {rita.as_str(): 100}, "events_default": needed});
        room.send_state(&stage.remote, &rita, "m.room.power_levels", "", content)
    };
    let bob = stage.user("bob").await;
    stage.join(&bob, &room.id).await.unwrap();
    let other = stage.network.add_fake("other");
    let olga = other.user("olga");
    let join = room.send_state(&other, &olga, "m.room.member", olga.as_str(), json!({"membership": "join"}));
    stage.receive(&[&join]).await;
    let (past, past_state) = (room.extremities(), room.state());
    let silenced = levels(50);
    stage.receive(&[&silenced]).await;
    let content = json!({"msgtype": "m.text", "body": "from before"});
    let late = room.draft_after(&other, &past, &past_state, (&olga, "m.room.message", None, content));
    let late = other.build(late, &room.rules);
    other.send_pdus(&stage.name, &[&late]).await;
    assert_eq!(stage.verdict(&late.event_id).await, Verdict::SoftFailed);
    assert!(!stage.sees(&alice, &room.id, &late.event_id).await);
    other.send_pdus(&stage.name, &[&late]).await;
    assert_eq!(stage.verdict(&late.event_id).await, Verdict::SoftFailed, "nothing has changed");
    // Another is built upon by those who took it, and redacted.
    let content = json!({"msgtype": "m.text", "body": "regretted"});
    let regretted = room.draft_after(&other, &past, &past_state, (&olga, "m.room.message", None, content));
    let regretted = other.build(regretted, &room.rules);
    other.send_pdus(&stage.name, &[&regretted]).await;
    let mut redaction =
        room.draft(&stage.remote, &rita, "m.room.redaction", None, json!({"redacts": regretted.event_id}));
    redaction.prev_events.push(regretted.event_id.clone());
    let redaction = room.send(&stage.remote, redaction);
    stage.receive(&[&redaction]).await;
    assert_eq!(stage.verdict(&regretted.event_id).await, Verdict::SoftFailed);
    let allowed = levels(0);
    stage.receive(&[&allowed]).await;
    other.send_pdus(&stage.name, &[&late]).await;
    assert_eq!(stage.verdict(&late.event_id).await, Verdict::Accepted);
    assert!(stage.sees(&alice, &room.id, &late.event_id).await);
    let unread = async || {
        let room = stage.sync(&alice).await["rooms"]["join"][room.id.as_str()].take();
        room["unread_notifications"]["notification_count"].as_u64().unwrap()
    };
    let before = unread().await;
    other.send_pdus(&stage.name, &[&regretted]).await;
    assert_eq!(stage.verdict(&regretted.event_id).await, Verdict::Accepted);
    assert_eq!(stage.stored(&regretted.event_id).await["content"], json!({}), "what was taken away stays away");
    assert_eq!(unread().await, before, "nobody is told of it");
    let record = stage.engine.storage().room(&room.id).await.unwrap().unwrap();
    let ends: Vec<_> = record.forward_extremities.iter().map(|(event_id, _)| event_id).collect();
    assert!(!ends.contains(&&regretted.event_id), "others build upon it: {ends:?}");
    assert!(stage.engine.storage().fsck().await.unwrap().is_empty());
}

#[tokio::test]
async fn r_28_where_the_sender_is_gone_others_in_the_room_are_asked_for_what_its_event_builds_upon() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let third = stage.network.add_fake("third");
    third.serve_room(room.clone());
    let trudy = third.user("trudy");
    let join = room.send_state(&third, &trudy, "m.room.member", trudy.as_str(), json!({"membership": "join"}));
    stage.receive(&[&join]).await;
    let rita = stage.remote.user("rita");
    let gap = room.send_message(&stage.remote, &rita, "gap");
    let tip = room.send_message(&stage.remote, &rita, "tip");
    stage.network.cut(stage.remote.name());
    stage.receive(&[&tip]).await;
    assert_eq!(stage.verdict(&tip.event_id).await, Verdict::Unknown);
    // The sender first, then another.
    for _try in 0..2 {
        stage.clock.advance(Duration::from_mins(10));
        assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    }
    for pdu in [&gap, &tip] {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted, "{}", pdu.json);
    }
}

/// A room with a third server in it, and an event of rita that waits for one before it; her server is cut off.
async fn waiting_event(stage: &Stage) -> (Room, FakeHomeserver, Vec<Arc<Pdu>>) {
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let third = stage.network.add_fake("third");
    third.serve_room(room.clone());
    let trudy = third.user("trudy");
    let join = room.send_state(&third, &trudy, "m.room.member", trudy.as_str(), json!({"membership": "join"}));
    stage.receive(&[&join]).await;
    let rita = stage.remote.user("rita");
    let gap = room.send_message(&stage.remote, &rita, "gap");
    let tip = room.send_message(&stage.remote, &rita, "tip");
    stage.network.cut(stage.remote.name());
    stage.receive(&[&tip]).await;
    (room, third, vec![gap, tip])
}

/// Has the third server asked, which must not settle anything, and then the sender, which is back.
async fn third_then_sender(stage: &Stage, third: &FakeHomeserver, events: &[Arc<Pdu>]) {
    for _try in 0..2 {
        stage.clock.advance(Duration::from_mins(10));
        assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    }
    assert!(!stage.network.recorded_to(third.name(), "get_missing_events").is_empty(), "the third server was asked");
    for pdu in events {
        let verdict = stage.verdict(&pdu.event_id).await;
        assert!(![Verdict::Rejected, Verdict::Accepted].contains(&verdict), "{verdict:?}: {}", pdu.json);
    }
    stage.network.mend(stage.remote.name());
    stage.clock.advance(Duration::from_hours(6));
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    for pdu in events {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted, "{}", pdu.json);
    }
}

#[tokio::test]
async fn r_28_a_third_server_that_does_not_know_an_event_set_aside_does_not_end_its_wait() {
    let stage = Stage::new().await;
    let (_room, third, events) = waiting_event(&stage).await;
    third.on("/_matrix/federation/v1/get_missing_events", |_| fake_homeserver::json(200, &json!({"events": []})));
    third_then_sender(&stage, &third, &events).await;
}

#[tokio::test]
async fn r_28_a_third_server_that_claims_an_older_state_gets_nothing_rejected() {
    let stage = Stage::new().await;
    let (room, third, events) = waiting_event(&stage).await;
    // In this state rita is not in the room yet.
    let create = room.state_event("m.room.create", "").unwrap();
    let older = json!({"pdu_ids": [create.event_id], "auth_chain_ids": []});
    third.on_request(move |request| {
        let path = request.uri().path();
        if path.contains("/get_missing_events/") {
            return Some(fake_homeserver::json(500, &json!({"errcode": "M_UNKNOWN"})));
        }
        path.contains("/state_ids/").then(|| fake_homeserver::json(200, &older))
    });
    third_then_sender(&stage, &third, &events).await;
}

#[tokio::test]
async fn r_28_what_nobody_has_is_asked_for_less_and_less_and_then_no_more() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    room.send_message(&stage.remote, &rita, "gap");
    let tip = room.send_message(&stage.remote, &rita, "tip");
    stage.network.cut(stage.remote.name());
    stage.receive(&[&tip]).await;
    let mut judged = 0;
    for _hour in 0..8 * 24 {
        stage.clock.advance(Duration::from_hours(1));
        judged += stage.engine.judge_set_aside().await.unwrap();
    }
    assert!((20..60).contains(&judged), "{judged} times in eight days");
    assert!(stage.engine.storage().events_set_aside(&room.id).await.unwrap().is_empty());
    // It is not forgotten for good: whoever builds upon it brings it up again.
    stage.network.mend(stage.remote.name());
    let next = room.send_message(&stage.remote, &rita, "next");
    stage.receive(&[&next]).await;
    assert_eq!(stage.verdict(&tip.event_id).await, Verdict::Accepted);
}

#[tokio::test]
async fn what_of_a_state_cannot_be_verified_is_asked_for_once() {
    let stage = Stage::new().await;
    let (_room, third, join) = room_with_stranger(&stage).await;
    let rita = stage.remote.user("rita");
    let room = stage.remote.room(&join.room_id).unwrap();
    let hidden = room.send_message(&stage.remote, &rita, "not given");
    let gap = room.send_message(&stage.remote, &rita, "gap");
    let tip = room.send_message(&stage.remote, &rita, "tip");
    stage.network.cut(third.name());
    let gap_json: serde_json::Value = serde_json::from_str(&gap.json).unwrap();
    stage.remote.on("/_matrix/federation/v1/get_missing_events", move |_| {
        fake_homeserver::json(200, &json!({"events": [gap_json]}))
    });
    stage.receive(&[&tip]).await;
    // What is lacking of the state after the one is lacking of all that follows.
    let asked = stage.network.recorded_to(stage.remote.name(), "/state_ids/");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].line.contains(hidden.event_id.as_str().trim_start_matches('$')), "{asked:?}");
    for pdu in [&gap, &tip] {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Unknown, "{}", pdu.json);
    }
}
