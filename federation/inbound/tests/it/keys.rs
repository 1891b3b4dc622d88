//! Our keys, and those of others.

use fake_homeserver::body_of;
use http::Method;
use ruma::{
    CanonicalJsonObject, ServerName,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet, verify_json},
};
use serde_json::{Value, json};

use crate::stage::{Stage, Verdict};

const KEYS: &str = "/_matrix/key/v2/server";

async fn asks_successfully(stage: &Stage) -> bool {
    let target = "/_matrix/federation/v1/query/profile?user_id=@alice:test";
    stage.remote.get(&stage.name, target).await.status() == 200
}

#[tokio::test]
async fn our_keys_are_signed_by_themselves() {
    let stage = Stage::new().await;
    for target in [KEYS.to_owned(), format!("{KEYS}/ed25519:test")] {
        let keys = body_of(&stage.remote.get(&stage.name, &target).await);
        assert_eq!(keys["server_name"], "test");
        let (key_id, key) = keys["verify_keys"].as_object().unwrap().iter().next().unwrap();
        let key = Base64::parse(key["key"].as_str().unwrap()).unwrap();
        let map = PublicKeyMap::from([("test".to_owned(), PublicKeySet::from([(key_id.clone(), key)]))]);
        verify_json(&map, &serde_json::from_value::<CanonicalJsonObject>(keys.clone()).unwrap()).unwrap();
        assert!(keys["valid_until_ts"].as_u64().unwrap() > 1_790_000_000_000);
        assert!(keys["old_verify_keys"].is_object());
    }
}

#[tokio::test]
async fn s_011_keys_that_do_not_hold_up_are_not_believed() {
    type Change = fn(&mut Value);
    let wrong: Vec<(&str, Change)> = vec![
        ("of another server", |keys| keys["server_name"] = json!("other")),
        ("unsigned", |keys| keys["signatures"] = json!({})),
        ("signed by another", |keys| keys["signatures"] = json!({"other": keys["signatures"]["remote"]})),
        ("altered", |keys| keys["valid_until_ts"] = json!(4_000_000_000_000_u64)),
        ("another key beside", |keys| {
            keys["verify_keys"]["ed25519:second"] = json!({"key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"});
        }),
        ("no keys", |keys| keys["verify_keys"] = json!({})),
        ("not an object", |keys| *keys = json!([])),
        ("key too short", |keys| keys["verify_keys"]["ed25519:fake"]["key"] = json!("AAAA")),
    ];
    for (why, change) in wrong {
        let stage = Stage::new().await;
        stage.user("alice").await;
        stage.remote.on_answer(KEYS, change);
        assert!(!asks_successfully(&stage).await, "{why}");
        assert!(stage.engine.storage().server_keys(stage.remote.name()).await.unwrap().is_empty(), "{why}");
    }
    let stage = Stage::new().await;
    stage.user("alice").await;
    assert!(asks_successfully(&stage).await);
}

#[tokio::test]
async fn s_011_a_key_once_known_never_changes() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    assert!(asks_successfully(&stage).await);
    let known = stage.engine.storage().server_keys(stage.remote.name()).await.unwrap();
    // Another key under the same name: whoever has taken over the address, say.
    stage.remote.change_key("fake");
    assert!(!asks_successfully(&stage).await);
    stage.clock.advance(std::time::Duration::from_hours(8 * 24));
    assert!(!asks_successfully(&stage).await);
    let now = stage.engine.storage().server_keys(stage.remote.name()).await.unwrap();
    let bytes =
        |records: &[storage::ServerKeyRecord]| -> Vec<_> { records.iter().map(|key| key.public_key.clone()).collect() };
    assert_eq!(bytes(&now), bytes(&known));
    let forged = room.send_message(&stage.remote, &stage.remote.user("rita"), "forged");
    stage.remote.send_pdus(&stage.name, &[&forged]).await;
    assert_eq!(stage.verdict(&forged.event_id).await, Verdict::Unknown);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_used() {
    let stage = Stage::new().await;
    stage.user("alice").await;
    assert!(asks_successfully(&stage).await);
    stage.remote.change_key("second");
    // It may have asked just now; in a while it asks again.
    stage.clock.advance(std::time::Duration::from_hours(1));
    assert!(asks_successfully(&stage).await);
}

#[tokio::test]
async fn s_012_a_notary_answers_with_what_the_server_says_and_signs_it() {
    let stage = Stage::new().await;
    let other = stage.network.add_fake("other");
    let by_get = body_of(&stage.remote.get(&stage.name, "/_matrix/key/v2/query/other").await);
    let query = json!({"server_keys": {"other": {"ed25519:fake": {"minimum_valid_until_ts": 1}}, "test": {}}});
    let by_post = body_of(&stage.remote.ask(&stage.name, Method::POST, "/_matrix/key/v2/query", Some(&query)).await);
    for answer in [&by_get, &by_post] {
        let keys = answer["server_keys"].as_array().unwrap();
        let of_other = keys.iter().find(|keys| keys["server_name"] == "other").unwrap();
        assert!(of_other["verify_keys"][other.key().key_id().as_str()].is_object(), "{answer}");
        assert!(of_other["signatures"]["other"].is_object() && of_other["signatures"]["test"].is_object(), "{answer}");
    }
    assert!(by_post["server_keys"].as_array().unwrap().iter().any(|keys| keys["server_name"] == "test"), "{by_post}");
}

#[tokio::test]
async fn s_012_a_notary_is_not_to_be_worn_out() {
    let stage = Stage::new().await;
    let many = |count: usize| -> Value {
        let servers: serde_json::Map<_, _> = (0..count).map(|number| (format!("s{number}"), json!({}))).collect();
        json!({"server_keys": servers})
    };
    let response = stage.remote.ask(&stage.name, Method::POST, "/_matrix/key/v2/query", Some(&many(10_000))).await;
    assert_eq!(response.status(), 400);
    let gone = <&ServerName>::try_from("gone").unwrap();
    for _ in 0..3 {
        let answer = body_of(&stage.remote.get(&stage.name, "/_matrix/key/v2/query/gone").await);
        assert_eq!(answer, json!({"server_keys": []}));
    }
    assert!(stage.network.recorded_to(gone, KEYS).len() <= 1);
}
