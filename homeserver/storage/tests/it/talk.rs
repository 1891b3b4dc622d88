//! What clients do with events: relations, searching, complaints, events that wait.

use homeserver_storage::{DelayedEvent, Direction, NewReport, OutboundItem, RelationsRange, SearchQuery, ThreadsRange};
use rules::{Change, event::search::SearchField};
use ruma::{OwnedEventId, owned_user_id, user_id};
use serde_json::{Value, json, value::to_raw_value};

use crate::stage::{Stage, event, event_id, extremities, live, on_each_database, room};

/// Stores a message after all others and returns its id.
async fn say(stage: &Stage, number: u32, body: &str, relation: Option<(&str, &str, &str)>) -> OwnedEventId {
    let mut content = json!({ "body": body });
    if let Some((rel_type, event_id, key)) = relation {
        content["m.relates_to"] = json!({ "rel_type": rel_type, "event_id": event_id, "key": key });
    }
    let id = format!("$m{number}");
    let after = if number == 1 { "$alice_joins".to_owned() } else { format!("$m{}", number - 1) };
    let message = event(&id, json!({ "prev_events": [after], "auth_events": ["$create"], "content": content }));
    stage.commit(vec![live(&message), extremities(&[&id])]).await;
    event_id(&id)
}

fn range(limit: usize) -> RelationsRange<'static> {
    RelationsRange {
        after: None,
        until: None,
        direction: Direction::Backward,
        limit,
        rel_type: None,
        event_type: None,
        recurse: false,
    }
}

#[tokio::test]
async fn relations_are_read_and_forgotten_with_their_events() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let root = say(&stage, 1, "root", None).await;
        let unrelated = stage.storage.relation_counts(&room(), std::slice::from_ref(&root), i64::MAX, false).await;
        assert_eq!(unrelated.unwrap(), []);
        let reads = stage.storage.reads();
        let unrelated = stage.storage.relation_counts(&room(), std::slice::from_ref(&root), i64::MAX, false).await;
        assert_eq!((unrelated.unwrap(), stage.storage.reads()), (vec![], reads), "that is known");
        let reply = say(&stage, 2, "reply", Some(("m.thread", root.as_str(), ""))).await;
        let thumb = say(&stage, 3, "", Some(("m.annotation", root.as_str(), "+1"))).await;
        let edit = say(&stage, 4, "edit", Some(("m.replace", reply.as_str(), ""))).await;
        let storage = &stage.storage;
        let ids = async |range| {
            let found = storage.relations(&room(), &root, range).await.unwrap();
            found.into_iter().map(|event| event.event_id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ids(range(10)).await, [thumb.as_str(), reply.as_str()]);
        assert_eq!(ids(range(1)).await, [thumb.as_str()]);
        assert_eq!(ids(RelationsRange { rel_type: Some("m.thread"), ..range(10) }).await, [reply.as_str()]);
        assert_eq!(ids(RelationsRange { event_type: Some("m.other"), ..range(10) }).await, Vec::<String>::new());
        let all = RelationsRange { recurse: true, direction: Direction::Forward, ..range(10) };
        assert_eq!(ids(all).await, [reply.as_str(), thumb.as_str(), edit.as_str()]);
        let counts = storage.relation_counts(&room(), &[root.clone(), reply.clone()], i64::MAX, false).await.unwrap();
        assert_eq!(counts.len(), 2, "{counts:?}");
        let counts = storage.relation_counts(&room(), std::slice::from_ref(&root), i64::MAX, true).await.unwrap();
        assert_eq!(counts.len(), 2, "{counts:?}");
        let sender = user_id!("@alice:here");
        assert!(storage.is_annotated(&room(), &root, sender, "m.room.message", "+1").await.unwrap());
        assert!(!storage.is_annotated(&room(), &root, sender, "m.room.message", "-1").await.unwrap());
        assert!(!storage.is_annotated(&room(), &root, sender, "m.room.message", "\0").await.unwrap());
        let threads = async |participant, ignored: &[ruma::OwnedUserId]| {
            let range = ThreadsRange { until: i64::MAX, visible_until: i64::MAX, limit: 5, participant, ignored };
            storage.threads(&room(), range).await.unwrap().len()
        };
        assert_eq!(threads(None, &[]).await, 1);
        assert_eq!(threads(Some(sender), &[]).await, 1);
        assert_eq!(threads(Some(user_id!("@bob:here")), &[]).await, 0);
        assert_eq!(threads(None, &[sender.to_owned()]).await, 0);
        stage.commit(vec![redaction(&reply, &thumb)]).await;
        assert_eq!(ids(range(10)).await, [thumb.as_str()]);
        assert_eq!(threads(None, &[]).await, 0);
    })
    .await;
}

fn redaction(event_id: &OwnedEventId, redacted_by: &OwnedEventId) -> Change {
    let json: Value = json!({
        "room_id": room(), "sender": "@alice:here", "type": "m.room.message", "content": {},
        "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
    });
    let (event_id, redacted_by) = (event_id.clone(), redacted_by.clone());
    Change::Redaction { event_id, redacted_by, json: json.to_string().into() }
}

#[tokio::test]
async fn s_032_texts_are_found_in_blocks_and_outside_and_gone_when_redacted() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let first = say(&stage, 1, "The Quick brown fox", None).await;
        for number in 2..140 {
            say(&stage, number, &format!("filler {number}"), None).await;
        }
        let search = async |terms: &[&str]| {
            let query = SearchQuery {
                rooms: vec![room()],
                terms: terms.iter().map(|term| (*term).to_owned()).collect(),
                fields: vec![SearchField::Body],
                until: None,
                limit: 50,
            };
            stage
                .storage
                .search(&query)
                .await
                .unwrap()
                .into_iter()
                .map(|hit| hit.event_id.to_string())
                .collect::<Vec<_>>()
        };
        for blocks in [0, 1] {
            assert_eq!(search(&["quick", "fox"]).await, [first.as_str()], "{blocks}");
            assert_eq!(search(&["quickly"]).await, Vec::<String>::new(), "{blocks}");
            assert_eq!(search(&["filler 139"]).await.len(), 1, "{blocks}");
            assert_eq!(search(&["qu"]).await, [first.as_str()], "{blocks}");
            assert_eq!(search(&["filler"]).await.len(), 50, "{blocks}");
            assert_eq!(stage.storage.seal_search_texts().await.unwrap(), 1 - blocks);
        }
        stage.commit(vec![redaction(&first, &first)]).await;
        assert_eq!(search(&["quick"]).await, Vec::<String>::new());
        assert_eq!(stage.query("SELECT text FROM search_texts WHERE text LIKE '%quick%'").await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn s_044_complaints_hold_any_text() {
    on_each_database(async |stage| {
        let report = |reason: &str| NewReport {
            received_ts: 5,
            user_id: owned_user_id!("@alice:here"),
            room_id: Some(room()),
            event_id: None,
            reported_user_id: None,
            reason: Some(reason.to_owned()),
            score: Some(-100),
        };
        assert_eq!(stage.storage.store_report(&report("one")).await.unwrap(), 1);
        assert_eq!(stage.storage.store_report(&report("t\0wo")).await.unwrap(), 2);
        let reports = stage.storage.reports(0, 1, true).await.unwrap();
        assert_eq!((reports.len(), reports[0].report_id, reports[0].report.score), (1, 2, Some(-100)));
        assert_eq!(stage.storage.reports(1, 5, false).await.unwrap()[0].report_id, 2);
        assert_eq!(stage.storage.reports_by(user_id!("@alice:here"), 5).await.unwrap(), 2);
        assert_eq!(stage.storage.reports_by(user_id!("@alice:here"), 6).await.unwrap(), 0);
        assert!(stage.storage.report(3).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn events_wait_and_are_taken_once() {
    on_each_database(async |stage| {
        let later = |delay_id: &str, send_ts: u64, state_key: Option<&str>| DelayedEvent {
            delay_id: delay_id.to_owned(),
            user_id: owned_user_id!("@alice:here"),
            device_id: "DEVICE".into(),
            room_id: room(),
            event_type: "com.test".to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: to_raw_value(&json!({})).unwrap(),
            delay_ms: 10,
            running_since_ts: send_ts - 10,
            send_ts,
            transaction_id: Some(delay_id.to_owned()),
            sticky_duration_ms: Some(60_000),
        };
        let storage = &stage.storage;
        for event in [later("a", 20, None), later("b", 10, Some("k")), later("c", 30, Some("k"))] {
            storage.store_delayed_event(&event).await.unwrap();
        }
        assert!(storage.store_delayed_event(&later("a", 40, None)).await.is_err());
        let alice = user_id!("@alice:here");
        let waiting = storage.delayed_events(alice).await.unwrap();
        assert_eq!(waiting.iter().map(|event| &*event.delay_id).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(storage.next_delayed_event_ts().await.unwrap(), Some(10));
        assert_eq!(storage.due_delayed_events(20, 10).await.unwrap().len(), 2);
        let done = storage.delayed_event_of_transaction(alice, "DEVICE".into(), &room(), "a").await.unwrap();
        assert_eq!(done.unwrap().delay_id, "a");
        assert!(storage.restart_delayed_event("b", 100).await.unwrap());
        assert_eq!(storage.delayed_event("b").await.unwrap().unwrap().send_ts, 110);
        assert_eq!(storage.rooms_with_delayed_state().await.unwrap(), [room()]);
        assert_eq!(storage.cancel_delayed_state(&room(), "com.test", "k", Some(alice)).await.unwrap(), 0);
        let bob = user_id!("@bob:here");
        assert_eq!(storage.cancel_delayed_state(&room(), "com.test", "k", Some(bob)).await.unwrap(), 2);
        assert!(storage.take_delayed_event("a").await.unwrap());
        assert!(!storage.take_delayed_event("a").await.unwrap());
        assert_eq!(storage.next_delayed_event_ts().await.unwrap(), None);
        assert!(storage.server_notice_room(alice).await.unwrap().is_none());
        storage.set_server_notice_room(alice, &room()).await.unwrap();
        assert_eq!(storage.server_notice_room(alice).await.unwrap(), Some(room()));
    })
    .await;
}

#[tokio::test]
async fn what_is_sticky_is_found_until_it_is_not_and_sent_again() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let first = say(&stage, 1, "first", None).await;
        let (storage, alice) = (&stage.storage, user_id!("@alice:here"));
        let head = storage.head();
        assert_eq!(storage.sticky_events(&room(), 0, head, 0, 9).await.unwrap(), Vec::<OwnedEventId>::new());
        let message = event(
            "$m2",
            json!({ "prev_events": ["$m1"], "auth_events": ["$create"], "content": { "body": "second" } }),
        );
        let second = event_id("$m2");
        let sticky = Change::Sticky { room_id: room(), event_id: second.clone(), until_ms: 500 };
        let elsewhere = Change::Sticky { room_id: room(), event_id: first, until_ms: 500 };
        let servers = vec!["b".try_into().unwrap()];
        let resend = Change::Resend { event_id: second.clone(), servers };
        stage.commit(vec![live(&message), extremities(&["$m2"]), sticky, elsewhere, resend]).await;
        let position = storage.event(&second).await.unwrap().unwrap().order.unwrap();
        let found = async |after, now_ms| storage.sticky_events(&room(), after, position, now_ms, 9).await.unwrap();
        assert_eq!(found(0, 499).await, std::slice::from_ref(&second), "only the new one");
        assert_eq!((found(0, 500).await.len(), found(position, 499).await.len()), (0, 0));
        let for_alice = async |after| storage.sticky_events_for(alice, after, position, 499, 9).await.unwrap();
        let told: Vec<_> = for_alice((0, 0)).await.into_iter().map(|event| (event.event_id, event.since)).collect();
        assert_eq!(told, [(second.clone(), position)]);
        assert_eq!(for_alice((position, position - 1)).await.len(), 1, "not all since then were told");
        assert!(for_alice((position, position)).await.is_empty());
        assert_eq!(storage.sticky_until(&room(), &second), Some(500));
        let server = ruma::server_name!("b");
        let outbound = storage.outbound_since(server, position, None, 9, 9, 0).await.unwrap().items;
        assert!(matches!(&outbound[..], [OutboundItem::Event(_, pdu)] if pdu.event_id == second), "{outbound:?}");
        assert_eq!(storage.prune_sticky_events(500).await.unwrap(), 1);
        assert!(for_alice((0, 0)).await.is_empty());
        assert_eq!(storage.sticky_until(&room(), &second), None);
    })
    .await;
}
