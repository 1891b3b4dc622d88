//! Events that are delivered to whoever is in the room for a while, from server to server.

use std::time::Duration;

use engine::{Requester, SendCommand};
use fake_homeserver::text_of;
use rules::{event::read_pdu, room::create::Preset};
use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};

use crate::stage::{Stage, raw_json};

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
    let sync = async || stage.engine.sync(&alice, engine::SyncQuery::default()).await.unwrap();
    assert_eq!(names(sync().await), [json!(60_000), json!(999_999_999)]);
    stage.clock.advance(Duration::from_secs(3_700));
    assert!(names(sync().await).is_empty());
}
