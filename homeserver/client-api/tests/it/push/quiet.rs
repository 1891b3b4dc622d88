//! When users do not want to be disturbed.

use std::time::Duration;

use serde_json::{Value, json};

use super::{GATEWAY, Stage, pusher, set};

/// 2023-11-14, 22:13:20 UTC, a Tuesday: where the clock of these tests begins.
const START_MS: u64 = 1_700_000_000_000;

async fn wish(stage: &Stage, event_type: &str, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/{event_type}", stage.bob.user_id);
    stage.server.put_as(&stage.bob, &path, content).await.ok();
}

async fn stage() -> Stage {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    stage
}

#[tokio::test]
async fn do_not_disturb_and_who_may_all_the_same() {
    let stage = stage().await;
    wish(&stage, "nudge.dnd", json!({ "enabled": true })).await;
    stage.say("psst").await;
    assert!(stage.told().await.is_empty());
    wish(&stage, "nudge.dnd", json!({ "enabled": true, "allow_senders": [stage.alice.user_id] })).await;
    stage.say("let me in").await;
    let told = stage.told().await;
    assert_eq!((told.len(), told[0].unread()), (1, Some(2)), "what was not told counts as unread");
    wish(&stage, "nudge.dnd", json!({ "enabled": true, "allow_emergency": true })).await;
    stage.say("nothing much").await;
    assert!(stage.told().await.is_empty());
    let fire = json!({ "msgtype": "m.text", "body": "fire", "nudge.emergency": true });
    stage.send("m.room.message", fire).await;
    assert_eq!(stage.told().await.len(), 1);
    wish(&stage, "nudge.dnd", json!({ "enabled": true, "until_ts": START_MS + 60_000 })).await;
    stage.server.clock.advance(Duration::from_mins(1));
    stage.say("awake").await;
    assert_eq!(stage.told().await.len(), 1, "the switch goes back by itself");
    wish(&stage, "nudge.dnd", json!({ "enabled": "perhaps" })).await;
    stage.say("awake still").await;
    assert_eq!(stage.told().await.len(), 1, "what cannot be understood silences nobody");
}

#[tokio::test]
async fn quiet_hours_by_the_clock_of_the_user() {
    let stage = stage().await;
    let night = json!([{ "from": "22:00", "to": "07:00" }]);
    wish(&stage, "nudge.dnd", json!({ "quiet_hours": night })).await;
    stage.say("at 22 13").await;
    assert!(stage.told().await.is_empty());
    // In New York it is afternoon.
    let path = format!("/_matrix/client/v3/profile/{}/m.tz", stage.bob.user_id);
    stage.server.put_as(&stage.bob, &path, json!({ "m.tz": "America/New_York" })).await.ok();
    stage.say("in the afternoon").await;
    assert_eq!(stage.told().await.len(), 1);
    wish(&stage, "nudge.dnd", json!({ "quiet_hours": night, "timezone": "Europe/London" })).await;
    stage.say("at night again").await;
    assert!(stage.told().await.is_empty());
    stage.server.clock.advance(Duration::from_hours(9));
    stage.say("in the morning").await;
    assert_eq!(stage.told().await.len(), 1);
}

async fn mute(stage: &Stage, content: Value) {
    let path =
        format!("/_matrix/client/v3/user/{}/rooms/{}/account_data/nudge.mute_until", stage.bob.user_id, stage.room_id);
    stage.server.put_as(&stage.bob, &path, content).await.ok();
}

/// The rule by which clients mute the room.
async fn rule(stage: &Stage) -> Option<Value> {
    let rules = stage.server.get_as(&stage.bob, "/_matrix/client/v3/pushrules/").await.ok();
    let rules = rules["global"]["override"].as_array().unwrap().clone();
    rules.into_iter().find(|rule| rule["rule_id"] == stage.room_id)
}

#[tokio::test]
async fn a_room_is_muted_for_a_while() {
    let stage = stage().await;
    mute(&stage, json!({ "until_ts": START_MS + 3_600_000 })).await;
    let shown = rule(&stage).await.unwrap();
    assert_eq!((&shown["actions"], &shown["enabled"]), (&json!([]), &json!(true)), "all clients see it");
    assert_eq!(shown["conditions"], json!([{ "kind": "event_match", "key": "room_id", "pattern": stage.room_id }]));
    stage.say("hush").await;
    assert!(stage.told().await.is_empty());
    let elsewhere = super::shared_room(&stage.server, &stage.alice, &stage.bob).await;
    stage.told().await;
    stage.server.say(&stage.alice, &elsewhere, "elsewhere", "hello").await;
    assert_eq!(stage.told().await.len(), 1, "other rooms are not");
    stage.server.clock.advance(Duration::from_mins(59));
    assert_eq!(stage.server.engine.end_mutes().await.unwrap(), 0);
    stage.server.clock.advance(Duration::from_mins(1));
    assert_eq!(stage.server.engine.end_mutes().await.unwrap(), 1);
    assert_eq!((rule(&stage).await, stage.server.engine.end_mutes().await.unwrap()), (None, 0));
    stage.say("and now").await;
    assert_eq!(stage.told().await.len(), 1);
}

#[tokio::test]
async fn a_mute_ends_early_and_what_the_user_muted_stays() {
    let stage = stage().await;
    mute(&stage, json!({ "until_ts": START_MS + 3_600_000 })).await;
    mute(&stage, json!({})).await;
    assert_eq!(rule(&stage).await, None, "taken back");
    mute(&stage, json!({ "until_ts": START_MS - 1 })).await;
    mute(&stage, json!({ "until_ts": "soon" })).await;
    assert_eq!(rule(&stage).await, None, "no time to come");
    // The user mutes the room for good, before and while it is muted for a while.
    let path = format!("/_matrix/client/v3/pushrules/global/override/{}", stage.room_id);
    let own =
        json!({ "actions": [], "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": stage.room_id }] });
    let hour_ms = 3_600_000;
    for (round, order) in [[true, false], [false, true]].into_iter().enumerate() {
        let until_ms = START_MS + hour_ms * (3 * round as u64 + 1);
        for is_own in order {
            if is_own {
                stage.server.put_as(&stage.bob, &path, own.clone()).await.ok();
            } else {
                mute(&stage, json!({ "until_ts": until_ms })).await;
            }
        }
        stage.server.clock.advance(Duration::from_hours(3));
        stage.server.engine.end_mutes().await.unwrap();
        assert!(rule(&stage).await.is_some(), "{order:?}");
        stage.server.send(axum::http::Method::DELETE, &path, Some(&stage.bob.token), &json!({})).await.ok();
    }
    // The user unmutes it with a client that knows nothing of the time.
    mute(&stage, json!({ "until_ts": START_MS + hour_ms * 7 })).await;
    stage.server.send(axum::http::Method::DELETE, &path, Some(&stage.bob.token), &json!({})).await.ok();
    stage.say("hello").await;
    assert_eq!(stage.told().await.len(), 1);
    stage.server.clock.advance(Duration::from_hours(2));
    assert_eq!(stage.server.engine.end_mutes().await.unwrap(), 1);
}

fn own_rule_path(stage: &Stage) -> String {
    format!("/_matrix/client/v3/pushrules/global/override/{}", stage.room_id)
}

#[tokio::test]
async fn a_rule_that_is_refused_changes_nothing_and_one_that_is_disabled_mutes_nothing() {
    let stage = stage().await;
    let own =
        json!({ "actions": [], "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": stage.room_id }] });
    mute(&stage, json!({ "until_ts": START_MS + 3_600_000 })).await;
    let refused = format!("{}?before=nothing", own_rule_path(&stage));
    assert_eq!(stage.server.put_as(&stage.bob, &refused, own.clone()).await.status, 400);
    stage.server.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.server.engine.end_mutes().await.unwrap(), 1);
    assert_eq!(rule(&stage).await, None, "the server takes back what it made");
    stage.server.put_as(&stage.bob, &own_rule_path(&stage), own).await.ok();
    let enabled = format!("{}/enabled", own_rule_path(&stage));
    stage.server.put_as(&stage.bob, &enabled, json!({ "enabled": false })).await.ok();
    mute(&stage, json!({ "until_ts": START_MS + 2 * 3_600_000 })).await;
    assert_eq!(rule(&stage).await.unwrap()["enabled"], true);
    stage.say("hush").await;
    assert!(stage.told().await.is_empty());
}

#[tokio::test]
async fn what_was_muted_before_the_server_knew_of_it_is_muted_after_the_start() {
    let stage = stage().await;
    mute(&stage, json!({ "until_ts": START_MS + 3_600_000 })).await;
    // As it was then, or when the server was killed in between: account data that nobody acted on.
    let (user_id, room_id) =
        (stage.bob.user_id.as_str().try_into().unwrap(), stage.room_id.as_str().try_into().unwrap());
    assert!(stage.server.engine.storage().forget_mute(user_id, room_id).await.unwrap());
    stage
        .server
        .send(axum::http::Method::DELETE, &own_rule_path(&stage), Some(&stage.bob.token), &json!({}))
        .await
        .ok();
    stage.server.engine.take_up_mutes().await.unwrap();
    stage.say("hush").await;
    assert!(stage.told().await.is_empty());
    // Who unmutes it is not muted again by the next start.
    stage
        .server
        .send(axum::http::Method::DELETE, &own_rule_path(&stage), Some(&stage.bob.token), &json!({}))
        .await
        .ok();
    stage.server.engine.take_up_mutes().await.unwrap();
    assert_eq!(rule(&stage).await, None);
    stage.server.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.server.engine.end_mutes().await.unwrap(), 1);
    stage.server.engine.take_up_mutes().await.unwrap();
    assert_eq!(rule(&stage).await, None, "its time is over");
}

#[tokio::test]
async fn who_takes_their_own_rule_back_is_not_muted_again_by_the_next_start() {
    let own = |stage: &Stage| json!({ "actions": [], "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": stage.room_id }] });
    for own_rule_first in [true, false] {
        let stage = stage().await;
        if own_rule_first {
            stage.server.put_as(&stage.bob, &own_rule_path(&stage), own(&stage)).await.ok();
        }
        mute(&stage, json!({ "until_ts": START_MS + 3_600_000 })).await;
        if !own_rule_first {
            stage.server.put_as(&stage.bob, &own_rule_path(&stage), own(&stage)).await.ok();
        }
        stage.server.engine.take_up_mutes().await.unwrap();
        assert!(rule(&stage).await.is_some());
        let method = axum::http::Method::DELETE;
        stage.server.send(method, &own_rule_path(&stage), Some(&stage.bob.token), &json!({})).await.ok();
        stage.server.engine.take_up_mutes().await.unwrap();
        assert_eq!(rule(&stage).await, None, "own rule first: {own_rule_first}");
        // Another wish is followed.
        mute(&stage, json!({ "until_ts": START_MS + 7_200_000 })).await;
        assert!(rule(&stage).await.is_some());
        stage.server.clock.advance(Duration::from_hours(2));
        assert_eq!(stage.server.engine.end_mutes().await.unwrap(), 1);
        assert_eq!(rule(&stage).await, None);
    }
}
