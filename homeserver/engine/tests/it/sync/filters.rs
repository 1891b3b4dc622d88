//! What clients do not want to see, and members loaded lazily.

use serde_json::{Value, json};

use crate::stage::{Stage, fields, ids, initial_state, query, sync, token};

fn members(events: &Value) -> Vec<String> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let members = events.iter().filter(|event| event["type"] == json!("m.room.member"));
    let mut members: Vec<String> = members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
    members.sort_unstable();
    members
}

#[tokio::test]
async fn rooms_and_sections_can_be_left_out() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (one, two) = (stage.room(&alice, "shared").await, stage.room(&alice, "shared").await);
    let names = |answer: &Value| answer["rooms"]["join"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let answer = stage.sync_with(&alice, None, &json!({"room": {"rooms": [one]}})).await;
    assert_eq!(names(&answer), [one.as_str()]);
    let answer = stage.sync_with(&alice, None, &json!({"room": {"not_rooms": [one]}})).await;
    assert_eq!(names(&answer), [two.as_str()]);
    let filter = json!({"room": {
        "timeline": {"types": []}, "state": {"types": ["m.room.c*"]}, "ephemeral": {"types": []},
    }});
    let answer = stage.sync_with(&alice, None, &filter).await;
    let room = &answer["rooms"]["join"][one.as_str()];
    assert_eq!(fields(&room["state"]["events"], "type"), ["m.room.create"]);
    assert!(ids(&room["timeline"]["events"]).is_empty());
}

#[tokio::test]
async fn what_is_filtered_out_does_not_end_the_wait() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    let filter = json!({"room": {"timeline": {"not_senders": [alice.user_id]}, "ephemeral": {"types": []}}});
    let since = token(&stage.sync_with(&bob, None, &filter).await);
    stage.send(&alice, &room_id, "unwanted").await;
    let mut asked = query(Some(&since), &filter);
    asked.timeout_ms = 100;
    let answer = sync(&stage.engine, &bob, asked).await;
    assert!(answer["rooms"].is_null());
    assert_ne!(token(&answer), since);
}

#[tokio::test]
async fn lazily_only_the_members_who_matter_are_told() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage
        .room_with(&alice, |command| {
            command.name = Some("Large".to_owned());
            command.initial_state = vec![initial_state("m.room.join_rules", &json!({"join_rule": "public"}))];
        })
        .await;
    let mut others = Vec::new();
    for number in 0..8 {
        let user = stage.user(&format!("user{number}")).await;
        stage.join(&user, &room_id).await;
        others.push(user);
    }
    stage.send(&others[3], &room_id, "one").await;
    stage.send(&others[3], &room_id, "two").await;
    let lazy = json!({"room": {"timeline": {"limit": 2}, "state": {"lazy_load_members": true}}});
    let answer = stage.sync_with(&alice, None, &lazy).await;
    let room = &answer["rooms"]["join"][room_id.as_str()];
    assert_eq!(members(&room["state"]["events"]), [alice.user_id.as_str(), others[3].user_id.as_str()]);
    assert!(fields(&room["state"]["events"], "type").iter().any(|found| found == "m.room.power_levels"));

    // Somebody else speaks.
    let since = token(&answer);
    stage.send(&others[5], &room_id, "three").await;
    let answer = stage.sync_with(&alice, Some(&since), &lazy).await;
    let room = &answer["rooms"]["join"][room_id.as_str()];
    assert_eq!(members(&room["state"]["events"]), [others[5].user_id.as_str()]);

    // Members who change in a gap are told of, whether they speak or not.
    let since = token(&answer);
    stage.leave(&others[7], &room_id).await;
    stage.send(&others[0], &room_id, "four").await;
    stage.send(&others[0], &room_id, "five").await;
    let answer = stage.sync_with(&alice, Some(&since), &lazy).await;
    let room = &answer["rooms"]["join"][room_id.as_str()];
    assert_eq!(members(&room["state"]["events"]), [others[0].user_id.as_str(), others[7].user_id.as_str()]);
    assert_eq!(room["summary"]["m.joined_member_count"], json!(8));

    // At the end of the timeline the same holds.
    let mut asked = query(None, &lazy);
    asked.use_state_after = true;
    let answer = sync(&stage.engine, &alice, asked).await;
    let room = &answer["rooms"]["join"][room_id.as_str()];
    assert_eq!(members(&room["state_after"]["events"]), [alice.user_id.as_str(), others[0].user_id.as_str()]);
}

#[tokio::test]
async fn lazily_the_heroes_of_a_nameless_room_are_told() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    for number in 0..7 {
        let user = stage.user(&format!("user{}", 9 - number)).await;
        stage.join(&user, &room_id).await;
    }
    let filter = json!({"room": {"timeline": {"types": []}, "state": {"lazy_load_members": true}}});
    let answer = stage.sync_with(&alice, None, &filter).await;
    let room = &answer["rooms"]["join"][room_id.as_str()];
    // In the order in which they came.
    let heroes = ["@user9:test", "@user8:test", "@user7:test", "@user6:test", "@user5:test"];
    assert_eq!(room["summary"]["m.heroes"], json!(heroes));
    let mut expected = heroes.to_vec();
    expected.push(alice.user_id.as_str());
    expected.sort_unstable();
    assert_eq!(members(&room["state"]["events"]), expected);
}
