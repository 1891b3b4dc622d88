//! What other servers say of when something happened.

use fake_homeserver::text_of;
use rules::event::read_pdu;
use ruma::CanonicalJsonValue;
use serde_json::{Value, json};

use crate::stage::Stage;

/// 2^53 - 1, the largest number that there is.
const LAST: i64 = (1 << 53) - 1;

#[tokio::test]
async fn s_052_the_first_and_the_last_of_all_times_break_nothing() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let said_at = |ts: i64| {
        let draft =
            room.draft(&stage.remote, &rita, "m.room.message", None, json!({ "body": ts, "msgtype": "m.text" }));
        let mut object = draft.into_object(&room.rules);
        let ts = CanonicalJsonValue::Integer(ts.try_into().unwrap());
        object.insert("origin_server_ts".to_owned(), ts);
        let sticky = json!({ "duration_ms": 3_600_000 });
        object.insert("msc4354_sticky".to_owned(), serde_json::from_value(sticky).unwrap());
        stage.remote.seal(object, &room.rules)
    };
    for ts in [0, 1] {
        let (pdu, _) = read_pdu(&text_of(&said_at(ts)), &room.rules).unwrap();
        assert_eq!(stage.receive(&[&pdu]).await[pdu.event_id.as_str()], json!({}), "{ts}");
        assert!(stage.sees(&alice, &room.id, &pdu.event_id).await, "{ts}");
        let closest = stage.engine.timestamp_to_event(&alice, &room.id, u64::try_from(ts).unwrap(), ts > 1).await;
        assert!(closest.is_ok(), "{ts}: {closest:?}");
    }
    // By then, no key of today is good.
    let (last, _) = read_pdu(&text_of(&said_at(LAST)), &room.rules).unwrap();
    assert!(stage.receive(&[&last]).await[last.event_id.as_str()]["error"].is_string());
    assert!(read_pdu(&text_of(&said_at(-1)), &room.rules).is_err());
    for far in [LAST as u64 + 1, u64::MAX] {
        assert!(stage.engine.timestamp_to_event(&alice, &room.id, far, false).await.is_ok(), "{far}");
        assert!(stage.engine.timestamp_to_event(&alice, &room.id, far, true).await.is_err(), "{far}");
    }
    let told = stage.sync(&alice).await["rooms"]["join"][room.id.as_str()]["timeline"]["events"].clone();
    let bodies: Vec<&Value> = told.as_array().unwrap().iter().map(|event| &event["content"]["body"]).collect();
    assert!(bodies.ends_with(&[&json!(0), &json!(1)]), "{told}");
    // What was sticky in 1970 is no longer.
    assert!(told.as_array().unwrap().last().unwrap()["unsigned"]["msc4354_sticky_duration_ttl_ms"].is_null());
}
