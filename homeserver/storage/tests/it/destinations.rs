//! What other servers are still to be sent.

use homeserver_storage::{Destination, OutboundItem};
use rules::{
    Change,
    change::{NewEvent, Placement, Standing},
};
use ruma::{MilliSecondsSinceUnixEpoch, events::receipt::ReceiptType, owned_server_name, server_name, uint};
use serde_json::json;

use crate::stage::{Stage, event, event_id, extremities, live, message, on_each_database, room, server, user};

fn receipt(user_id: &str, event: &str) -> Change {
    Change::Receipt {
        room_id: room(),
        user_id: user(user_id),
        receipt_type: ReceiptType::Read,
        thread_id: None,
        event_id: event_id(event),
        ts: MilliSecondsSinceUnixEpoch(uint!(1)),
    }
}

async fn outbound(stage: &Stage, cursor: i64, until: Option<i64>, max_events: usize, max_receipts: usize) -> String {
    let outbound = stage.storage.outbound_since(server_name!("b"), cursor, until, max_events, max_receipts, 0).await;
    let items = outbound.unwrap().items;
    let item = |item| match item {
        OutboundItem::Event(position, pdu) => format!("{position} {}", pdu.event_id),
        OutboundItem::Receipt(position, receipt) => format!("{position} {} read {}", receipt.user_id, receipt.event_id),
        OutboundItem::DeviceList(position, update) => format!("{position} {} {}", update.device_id, update.previous),
        OutboundItem::Edu(position, edu) => format!("{position} {}", edu.edu_type),
    };
    items.into_iter().map(item).collect::<Vec<_>>().join(", ")
}

/// Positions 1 to 3 create the room; 4: before B; 5: B joins; 6: ours; 7: of B; 8, 9, 10: receipts; 11: B leaves; 12:
/// without B; 13: B joins again; 14: ours.
async fn with_history(stage: &Stage) {
    stage.create_room().await;
    stage.send("$before", "$alice_joins").await;
    stage.commit(vec![live(&of_b("$b_joins", "$before")), server("b", true)]).await;
    stage.send("$ours", "$b_joins").await;
    stage.commit(vec![live(&of_b("$theirs", "$ours"))]).await;
    stage.commit_unguarded(vec![receipt("@alice:here", "$ours"), receipt("@bob:b", "$ours")]).await.unwrap();
    stage.commit_unguarded(vec![receipt("@alice:here", "$theirs")]).await.unwrap();
    stage.commit(vec![live(&message("$b_leaves", "$theirs")), server("b", false)]).await;
    stage.send("$without", "$b_leaves").await;
    // Of B, but it entered the room through us, who have to tell the others.
    let join = NewEvent {
        pdu: of_b("$b_again", "$without"),
        standing: Standing::Accepted,
        placement: Placement::Live,
        state_before: None,
        outbound: true,
    };
    stage.commit(vec![Change::Event(Box::new(join)), server("b", true)]).await;
    stage.commit(vec![live(&message("$after", "$b_again")), extremities(&["$after"])]).await;
}

fn of_b(id: &str, after: &str) -> std::sync::Arc<rules::Pdu> {
    event(id, json!({ "sender": "@bob:b", "prev_events": [after], "auth_events": ["$create"] }))
}

#[tokio::test]
async fn a_server_is_sent_what_it_was_there_for() {
    on_each_database(async |stage| {
        with_history(&stage).await;
        let all = "6 $ours, 10 @alice:here read $theirs, 11 $b_leaves, 14 $after";
        assert_eq!(outbound(&stage, 0, None, 50, 100).await, all, "and of a moved receipt only the last place");
        assert_eq!(outbound(&stage, 6, Some(11), 50, 100).await, "10 @alice:here read $theirs, 11 $b_leaves");
        assert_eq!(outbound(&stage, 14, None, 50, 100).await, "");
        assert_eq!(outbound(&stage, 0, None, 1, 100).await, "6 $ours, 10 @alice:here read $theirs");
        assert_eq!(outbound(&stage, 0, None, 50, 0).await, "6 $ours", "what comes after a receipt has to wait");
        let far = stage.storage.outbound_since(server_name!("unknown"), 0, None, 9, 9, 0).await.unwrap().items;
        assert!(far.is_empty());
    })
    .await;
}

#[tokio::test]
async fn servers_that_are_behind_are_found() {
    on_each_database(async |stage| {
        with_history(&stage).await;
        let behind = async || {
            let mut servers = stage.storage.destinations_behind().await.unwrap();
            servers.retain(|server| server != "here");
            servers
        };
        assert_eq!(behind().await, ["b"]);
        let mut destination = stage.storage.destination(server_name!("b")).await.unwrap();
        assert_eq!(destination, Destination::new(owned_server_name!("b")));
        destination.cursor = 13;
        stage.storage.save_destination(&destination).await.unwrap();
        assert_eq!(behind().await, ["b"]);
        destination.cursor = 14;
        stage.storage.save_destination(&destination).await.unwrap();
        assert!(behind().await.is_empty());
        stage.commit(vec![live(&message("$b_out", "$after")), server("b", false), extremities(&["$b_out"])]).await;
        assert_eq!(behind().await, ["b"], "it is to hear that it left");
        destination.cursor = 15;
        stage.storage.save_destination(&destination).await.unwrap();
        stage.send("$alone", "$b_out").await;
        assert!(behind().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn many_destinations_are_saved_at_once_and_each_in_its_order() {
    const SERVERS: i64 = 200;
    on_each_database(async |stage| {
        let row = |number: i64, cursor: i64| Destination {
            cursor,
            ..Destination::new(format!("server{number}").try_into().unwrap())
        };
        // Of each server the later one is asked for last, while the earlier one still waits.
        let rows = (1..=3).flat_map(|cursor| (0..SERVERS).map(move |number| (number, cursor)));
        let saves = rows.map(|(number, cursor)| {
            let (storage, row) = (stage.storage.clone(), row(number, cursor));
            async move { storage.save_destination(&row).await }
        });
        // The runtime would let some of them go first.
        for saved in tokio::task::unconstrained(futures_util::future::join_all(saves)).await {
            saved.unwrap();
        }
        let mut found = stage.storage.destinations().await.unwrap();
        found.sort_by(|one, other| one.server.cmp(&other.server));
        let mut expected: Vec<_> = (0..SERVERS).map(|number| row(number, 3)).collect();
        expected.sort_by(|one, other| one.server.cmp(&other.server));
        assert_eq!(found, expected);
    })
    .await;
}

#[tokio::test]
async fn a_destination_is_kept_as_it_was_saved() {
    on_each_database(async |stage| {
        let destination = Destination {
            server: owned_server_name!("b"),
            cursor: 4,
            in_flight: Some(("txn1".to_owned(), 9)),
            failing_since_ts: Some(1000),
            retry_at_ts: Some(2000),
            failures: 3,
        };
        stage.storage.save_destination(&destination).await.unwrap();
        let stage = stage.reopen().await;
        assert_eq!(stage.storage.destination(server_name!("b")).await.unwrap(), destination);
        assert_eq!(stage.storage.destinations().await.unwrap(), [destination]);
        let well = Destination { cursor: 9, ..Destination::new(owned_server_name!("b")) };
        stage.storage.save_destination(&well).await.unwrap();
        assert_eq!(stage.storage.destinations().await.unwrap(), [well]);
    })
    .await;
}
