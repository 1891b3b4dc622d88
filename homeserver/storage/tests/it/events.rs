//! Events by id, redaction, and the graph between events.

use rules::{
    Change,
    change::{Placement, Standing, StateReference},
};
use serde_json::json;

use crate::stage::{
    backfilled, entry, event, event_id, event_ids, extremities, live, member, message, new_event, no_value,
    on_each_database, outlier, room, state_event, stored_as,
};

#[tokio::test]
async fn events_come_in_the_order_asked() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.send("$a", "$alice_joins").await;
        let check = async |stage: &crate::stage::Stage| {
            let asked = event_ids(&["$a", "$unknown", "$create", "$a"]);
            let found = stage.storage.events(&asked).await.unwrap();
            let found: Vec<_> = found.iter().map(|event| event.pdu.event_id.as_str()).collect();
            assert_eq!(found, ["$a", "$create", "$a"]);
        };
        check(&stage).await;
        check(&stage.reopen().await).await;
    })
    .await;
}

#[tokio::test]
async fn many_events_are_read_in_turns() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.send("$a", "$alice_joins").await;
        let other = tokio::spawn(async {});
        assert_eq!(stage.storage.events(&event_ids(&["$a"; 10])).await.unwrap().len(), 10);
        assert!(!other.is_finished(), "few that are in memory are there at once");
        assert_eq!(stage.storage.events(&event_ids(&vec!["$a"; 1_100])).await.unwrap().len(), 1_100);
        assert!(other.is_finished());
    })
    .await;
}

#[tokio::test]
async fn a_redaction_is_for_good() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.send("$secret", "$alice_joins").await;
        assert!(stage.stored("$secret").await.unwrap().pdu.json.contains("body"), "it is in the cache now");
        let remains = event("$secret", json!({ "prev_events": ["$alice_joins"], "auth_events": ["$create"] }));
        let redaction = Change::Redaction {
            event_id: event_id("$secret"),
            redacted_by: event_id("$redaction"),
            json: remains.json.clone(),
        };
        stage.commit(vec![live(&message("$redaction", "$secret")), redaction, extremities(&["$redaction"])]).await;
        let check = async |stage: &crate::stage::Stage| {
            let stored = stage.stored("$secret").await.unwrap();
            assert!(!stored.pdu.json.contains("body"), "{}", stored.pdu.json);
            assert_eq!(stored.redacted_by, Some(event_id("$redaction")));
            assert_eq!(stored.standing, Standing::Accepted);
        };
        check(&stage).await;
        let stage = stage.reopen().await;
        check(&stage).await;
        let again = stage.commit(vec![outlier(&message("$secret", "$alice_joins"))]).await;
        assert_eq!(again.positions, []);
        check(&stage).await;
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_and_its_redaction_may_come_together() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let remains = event("$secret", json!({ "prev_events": ["$alice_joins"], "auth_events": ["$create"] }));
        let changes = vec![
            live(&message("$secret", "$alice_joins")),
            Change::Redaction {
                event_id: event_id("$secret"),
                redacted_by: event_id("$redaction"),
                json: remains.json.clone(),
            },
            extremities(&["$secret"]),
        ];
        stage.commit(changes).await;
        assert!(!stage.stored("$secret").await.unwrap().pdu.json.contains("body"));
    })
    .await;
}

#[tokio::test]
async fn redactions_wait_for_their_events() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let awaited =
            |event: &str, by: &str| Change::AwaitedRedaction { event_id: event_id(event), redacted_by: event_id(by) };
        stage.commit(vec![awaited("$late", "$r1"), awaited("$late", "$r1"), awaited("$other", "$r2")]).await;
        let pairs = async || {
            let asked = event_ids(&["$late", "$other", "$none"]);
            stage.storage.awaited_redactions(&asked).await.unwrap()
        };
        let other = (event_id("$other"), event_id("$r2"));
        assert_eq!(pairs().await, [(event_id("$late"), event_id("$r1")), other.clone()]);
        let late = message("$late", "$alice_joins");
        let redaction = Change::Redaction {
            event_id: event_id("$late"),
            redacted_by: event_id("$r1"),
            json: late.json.replace("body", "gone").into(),
        };
        stage.commit(vec![live(&late), redaction, extremities(&["$late"])]).await;
        assert_eq!(pairs().await, [other]);
    })
    .await;
}

#[tokio::test]
async fn auth_chains_reach_back_to_the_beginning() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let with_auth = |id: &str, auth: &[&str]| {
            event(id, json!({ "type": "m.room.power_levels", "state_key": "", "auth_events": auth }))
        };
        let changes = vec![
            outlier(&with_auth("$levels1", &["$create", "$alice_joins"])),
            outlier(&with_auth("$levels2", &["$create", "$levels1", "$unknown"])),
            outlier(&with_auth("$elsewhere", &["$create"])),
            live(&event("$m", json!({ "auth_events": ["$levels2"], "prev_events": ["$alice_joins"] }))),
            extremities(&["$m"]),
        ];
        stage.commit(changes).await;
        let chain = async |ids: &[&str]| {
            let mut chain = stage.storage.auth_chain(&event_ids(ids)).await.unwrap();
            chain.sort();
            chain
        };
        let expected = event_ids(&["$alice_joins", "$create", "$levels1", "$levels2", "$m"]);
        assert_eq!(chain(&["$m"]).await, expected, "of a message too");
        assert_eq!(chain(&["$levels1"]).await, event_ids(&["$alice_joins", "$create", "$levels1"]));
        assert_eq!(chain(&["$create", "$unknown"]).await, event_ids(&["$create"]));
        assert!(chain(&[]).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn events_that_are_missing_are_known_to_be() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let missing = async || {
            let mut missing = stage.storage.missing_prev_events(&room()).await.unwrap();
            missing.sort();
            missing.iter().map(|(id, by, depth)| format!("{id} by {by} at {depth}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(missing().await, "");
        let event = event("$m", json!({ "depth": 9, "prev_events": ["$alice_joins", "$gap1", "$gap2"] }));
        stage.commit(vec![outlier(&message("$gap1", "$alice_joins")), live(&event), extremities(&["$m"])]).await;
        assert_eq!(missing().await, "$gap1 by $m at 9, $gap2 by $m at 9", "an outlier does not fill a gap");
        stage.assert_sound().await;
        stage.commit(vec![backfilled(&message("$gap1", "$gap0"))]).await;
        assert_eq!(missing().await, "$gap0 by $gap1 at 5, $gap2 by $m at 9");
        let rejected = Standing::Rejected("forged".to_owned());
        stage.commit(vec![stored_as(&message("$gap2", "$before"), rejected, Placement::None)]).await;
        assert_eq!(missing().await, "$gap0 by $gap1 at 5", "a rejected event does, and asks for no more");
        stage.commit(vec![backfilled(&message("$gap0", "$x")), backfilled(&message("$x", "$alice_joins"))]).await;
        assert_eq!(missing().await, "");
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_fork_keeps_the_state_before_it() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let topic = state_event("$topic", "m.room.topic", "", json!({}));
        let bob = member("$bob", "@bob:b", "ban", &[]);
        let delta = vec![entry(&topic), entry(&bob), no_value("m.room.name", "")];
        let state_before = StateReference { base: 2, delta };
        let fork = message("$fork", "$create");
        let changes = vec![
            new_event(&fork, Standing::Accepted, Placement::Live, Some(state_before.clone())),
            extremities(&["$alice_joins", "$fork"]),
        ];
        stage.commit(changes).await;
        let check = async |stage: &crate::stage::Stage| {
            let stored = stage.stored("$fork").await.unwrap();
            let found = stored.state_before.clone().unwrap();
            assert_eq!(found.base, 2);
            assert_eq!(found.delta.len(), 3);
            assert!(state_before.delta.iter().all(|entry| found.delta.contains(entry)), "{found:?}");
            assert_eq!(stage.stored("$create").await.unwrap().state_before, None);
        };
        check(&stage).await;
        check(&stage.reopen().await).await;
    })
    .await;
}
