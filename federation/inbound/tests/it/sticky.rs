//! Events that are delivered to whoever is in the room for a while, from server to server.

use std::time::Duration;

use engine::{Requester, SendCommand};
use fake_homeserver::{Room, text_of};
use rules::{Pdu, event::read_pdu, room::create::Preset};
use ruma::{CanonicalJsonValue, OwnedEventId, RoomId, UserId};
use serde_json::{Value, json};

use crate::stage::{Stage, Verdict, raw_json};

async fn stick(stage: &Stage, user: &Requester, room_id: &RoomId, name: &str, duration_ms: u32) -> OwnedEventId {
    let command = SendCommand {
        room_id: room_id.to_owned(),
        event_type: "m.rtc.member".into(),
        content: raw_json(&json!({ "name": name })),
        transaction_id: None,
    };
    stage.engine.send_sticky(user, command, Some(duration_ms)).await.unwrap()
}

fn received(stage: &Stage) -> Vec<String> {
    let names = stage.remote.received_pdus();
    names.iter().filter_map(|pdu| pdu["content"]["name"].as_str().map(ToOwned::to_owned)).collect()
}

#[tokio::test]
async fn a_server_that_comes_in_gets_what_is_sticky_and_only_once() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    stick(&stage, &alice, &room_id, "over", 1_000).await;
    stage.clock.advance(Duration::from_secs(2));
    stick(&stage, &alice, &room_id, "still", 60_000).await;
    let bob = stage.remote.user("bob");
    let joined = stage.remote.join(&stage.name, &room_id, &bob).await;
    assert!(joined.is_ok());
    stage.flush(stage.remote.name()).await;
    assert_eq!(received(&stage), ["still"]);
    let sent = stage.remote.received_pdus().into_iter().find(|pdu| pdu["content"]["name"] == "still").unwrap();
    assert_eq!(sent["msc4354_sticky"], json!({ "duration_ms": 60_000 }), "{sent}");
    // What is sent from then on goes the usual way.
    stick(&stage, &alice, &room_id, "new", 60_000).await;
    stage.flush(stage.remote.name()).await;
    assert_eq!(received(&stage), ["still", "new"]);
}

#[tokio::test]
async fn what_another_server_sends_is_sticky_by_its_own_word_for_an_hour_at_most() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let sticky = |duration: Value| {
        let draft = room.draft(&stage.remote, &rita, "m.rtc.member", None, json!({ "name": duration }));
        let mut object = draft.into_object(&room.rules);
        let field = json!({ "duration_ms": duration });
        object.insert("msc4354_sticky".to_owned(), serde_json::from_value(field).unwrap());
        let sealed = stage.remote.seal(object, &room.rules);
        read_pdu(&text_of(&sealed), &room.rules).unwrap().0
    };
    let mut events = Vec::new();
    for duration in [json!(60_000), json!(999_999_999), json!(-5), json!("text")] {
        events.push(sticky(duration));
    }
    for event in &events {
        assert_eq!(stage.receive(&[event]).await[event.event_id.as_str()], json!({}));
    }
    let names = |page: engine::SyncAnswer| {
        let told = page.sticky.into_values().flatten();
        told.map(|event| event.get_field::<Value>("content").unwrap().unwrap()["name"].clone()).collect::<Vec<_>>()
    };
    for number in 0..15 {
        stage.send(&alice, &room.id, &number.to_string()).await;
    }
    let sync = async || stage.engine.sync(&alice, &engine::SyncQuery::default()).await.unwrap();
    assert_eq!(names(sync().await), [json!(60_000), json!(999_999_999)]);
    stage.clock.advance(Duration::from_secs(3_700));
    assert!(names(sync().await).is_empty());
}

/// An event of another server's user that is sticky for an hour.
fn sticky_by(stage: &Stage, room: &Room, sender: &UserId, name: &str, dated_ahead: Duration) -> Pdu {
    let draft = room.draft(&stage.remote, sender, "m.rtc.member", None, json!({ "name": name }));
    let sent_ms = u64::from(draft.origin_server_ts.0) + u64::try_from(dated_ahead.as_millis()).unwrap();
    let mut object = draft.into_object(&room.rules);
    object.insert("msc4354_sticky".to_owned(), serde_json::from_value(json!({ "duration_ms": 3_600_000 })).unwrap());
    let sent_ms = CanonicalJsonValue::Integer(i64::try_from(sent_ms).unwrap().try_into().unwrap());
    object.insert("origin_server_ts".to_owned(), sent_ms);
    read_pdu(&text_of(&stage.remote.seal(object, &room.rules)), &room.rules).unwrap().0
}

#[tokio::test]
async fn what_is_dated_ahead_is_sticky_no_longer_than_what_is_not() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let event = sticky_by(&stage, &room, &stage.remote.user("rita"), "ahead", Duration::from_mins(30));
    assert_eq!(stage.receive(&[&event]).await[event.event_id.as_str()], json!({}));
    for (minutes, minutes_left) in [(0, Some(60)), (40, Some(20)), (21, None)] {
        stage.clock.advance(Duration::from_mins(minutes));
        let told = stage.sync(&alice).await["rooms"]["join"][room.id.as_str()]["timeline"]["events"].clone();
        let told = told.as_array().unwrap().last().unwrap().clone();
        assert_eq!(told["content"]["name"], "ahead", "{told}");
        let left_ms = told["unsigned"]["msc4354_sticky_duration_ttl_ms"].as_u64();
        // The clock goes on a little while all this happens.
        assert_eq!(left_ms.map(|left_ms| left_ms.div_ceil(60_000)), minutes_left, "{told}");
    }
}

#[tokio::test]
async fn what_is_sticky_and_was_not_allowed_is_judged_again_in_time() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let (rita, bob) = (stage.remote.user("rita"), stage.remote.user("bob"));
    let join = room.send_state(&stage.remote, &bob, "m.room.member", bob.as_str(), json!({ "membership": "join" }));
    let early = sticky_by(&stage, &room, &bob, "early", Duration::ZERO);
    let levels = |default: i64| {
        let content = json!({ "events_default": default, "users": { rita.as_str(): 100 } });
        room.send_state(&stage.remote, &rita, "m.room.power_levels", "", content)
    };
    let forbidden = levels(50);
    stage.receive(&[&join, &forbidden, &early]).await;
    assert_eq!(stage.verdict(&early.event_id).await, Verdict::SoftFailed);
    let named = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({ "topic": "other" }));
    let allowed = levels(0);
    stage.receive(&[&named]).await;
    stage.clock.advance(Duration::from_mins(2));
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    assert_eq!(stage.verdict(&early.event_id).await, Verdict::SoftFailed);
    stage.receive(&[&allowed]).await;
    stage.clock.advance(Duration::from_mins(5));
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    assert_eq!(stage.verdict(&early.event_id).await, Verdict::Accepted);
    assert!(stage.engine.storage().events_set_aside(&room.id).await.unwrap().is_empty());
    assert!(stage.sees(&alice, &room.id, &early.event_id).await);
}
