//! What other servers are to be sent that is of no room, and messages to devices here.

use homeserver_storage::{OutboundItem, Storage, Submission};
use rules::Change;
use ruma::{
    MilliSecondsSinceUnixEpoch, device_id, owned_device_id, owned_server_name, owned_user_id, server_name, uint,
    user_id,
};

use crate::stage::on_each_database;

async fn commit(storage: &Storage, changes: Vec<Change>) -> i64 {
    storage.commit(Submission { room: None, changes }).await.unwrap().position
}

fn list_change(device_id: &str) -> Change {
    Change::DeviceList {
        user_id: owned_user_id!("@alice:a"),
        device_id: Some(device_id.into()),
        viewer: None,
        servers: vec![owned_server_name!("b")],
    }
}

/// Alice's device is made known to this server alone.
fn introduction(device_id: &str, server: &str) -> Change {
    Change::DeviceList {
        user_id: owned_user_id!("@alice:a"),
        device_id: Some(device_id.into()),
        viewer: Some(owned_user_id!("@alice:a")),
        servers: vec![server.try_into().unwrap()],
    }
}

fn edu(content: &str) -> Change {
    Change::Edu {
        servers: vec![owned_server_name!("b"), owned_server_name!("c")],
        edu_type: "m.test".to_owned(),
        content: serde_json::from_str(content).unwrap(),
    }
}

/// What b is to be sent: numbers of updates with those before them, and contents of EDUs.
async fn outbound(storage: &Storage, cursor: i64, max: usize) -> (Vec<String>, bool) {
    let outbound = storage.outbound_since(server_name!("b"), cursor, None, 50, max, 0).await.unwrap();
    let items = outbound.items.iter().map(|item| match item {
        OutboundItem::DeviceList(_, update) => format!("{} after {}", update.stream_id, update.previous),
        OutboundItem::Edu(position, edu) => format!("{position} {}", edu.content),
        OutboundItem::Event(position, _) | OutboundItem::Receipt(position, _) => format!("{position}?"),
    });
    (items.collect(), outbound.is_complete)
}

#[tokio::test]
async fn s_086_changes_of_a_device_are_one_update_each_upon_the_one_before() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        for device in ["D1", "D2", "D1", "D1", "D2"] {
            commit(storage, vec![list_change(device)]).await;
        }
        commit(storage, vec![edu("{\"n\":1}")]).await;
        assert_eq!(storage.destinations_behind().await.unwrap(), ["b", "c"]);
        let all = ["4 after 0", "5 after 4", "6 {\"n\":1}"].map(str::to_owned).to_vec();
        assert_eq!(outbound(storage, 0, 9).await, (all.clone(), true));
        assert_eq!(outbound(storage, 0, 2).await, (all[..2].to_vec(), false));
        let mut destination = storage.destination(server_name!("b")).await.unwrap();
        destination.cursor = 5;
        storage.save_destination(&destination).await.unwrap();
        let stage = stage.reopen().await;
        let storage = &stage.storage;
        assert_eq!(outbound(storage, 5, 9).await, (all[2..].to_vec(), true));
        commit(storage, vec![list_change("D1")]).await;
        assert_eq!(outbound(storage, 6, 9).await.0, ["7 after 5"]);
        assert_eq!(storage.device_list_position(user_id!("@alice:a")).await.unwrap(), 7);
        for server in ["b", "c"] {
            let mut destination = storage.destination(server.try_into().unwrap()).await.unwrap();
            destination.cursor = 7;
            storage.save_destination(&destination).await.unwrap();
        }
        assert!(storage.destinations_behind().await.unwrap().is_empty());
        let left = stage.query("SELECT content FROM outbound_edus").await;
        assert!(left.is_empty(), "{left:?}");
    })
    .await;
}

#[tokio::test]
async fn s_086_changes_of_devices_are_pruned_and_nobody_is_told_less() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let alice = user_id!("@alice:a");
        let rows = async || -> i64 {
            stage.query("SELECT CAST(COUNT(*) AS TEXT) FROM device_list_log").await[0].parse().unwrap()
        };
        for device in ["D1", "D2", "D1", "D1", "D2"] {
            commit(storage, vec![list_change(device)]).await;
        }
        commit(storage, vec![introduction("D1", "c")]).await;
        // What b was sent and has not acknowledged is sent again as it was.
        let mut destination = storage.destination(server_name!("b")).await.unwrap();
        destination.in_flight = Some(("t1".to_owned(), 1));
        storage.save_destination(&destination).await.unwrap();
        let before = outbound(storage, 0, 9).await.0;
        assert_eq!(
            storage.prune_device_lists(0, 3, 9).await.unwrap(),
            (Some(3), 0),
            "3 is the latest but for later ones"
        );
        assert_eq!(storage.prune_device_lists(0, 6, 4).await.unwrap(), (Some(4), 2));
        assert_eq!(storage.prune_device_lists(4, 6, 4).await.unwrap(), (Some(6), 0));
        assert_eq!(storage.prune_device_lists(6, 6, 4).await.unwrap(), (None, 0));
        assert_eq!(rows().await, 4, "one that is in flight, the latest of two devices, and who was told alone");
        assert_eq!(outbound(storage, 0, 9).await.0, before);
        for since in 0..5 {
            let changed = storage.device_lists_changed(alice, since, 6).await.unwrap();
            assert_eq!(changed, [alice], "since {since}");
        }
        assert_eq!(storage.device_list_position(alice).await.unwrap(), 5);
        // Then b has all.
        destination.cursor = 6;
        destination.in_flight = None;
        storage.save_destination(&destination).await.unwrap();
        commit(storage, vec![list_change("D1")]).await;
        assert_eq!(storage.prune_device_lists(0, 7, 9).await.unwrap(), (Some(7), 2));
        assert_eq!(outbound(storage, 6, 9).await.0, ["7 after 5"]);
        // What other servers' users have is one whatever of their devices changed.
        let remote = |viewer| Change::DeviceList {
            user_id: owned_user_id!("@bob:b"),
            device_id: None,
            viewer,
            servers: Vec::new(),
        };
        for viewer in [None, Some(owned_user_id!("@alice:a")), None, None] {
            commit(storage, vec![remote(viewer)]).await;
        }
        assert_eq!(storage.prune_device_lists(0, 11, 100).await.unwrap(), (Some(11), 2));
        assert!(storage.fsck().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_device_is_made_known_to_a_server_under_the_number_that_the_others_have() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        commit(storage, vec![list_change("D1")]).await;
        commit(storage, vec![introduction("D1", "c")]).await;
        assert_eq!(storage.device_list_position(user_id!("@alice:a")).await.unwrap(), 1, "nothing has changed since");
        let changed = async |since| storage.devices_changed_since(user_id!("@alice:a"), since).await.unwrap();
        assert_eq!((changed(0).await.len(), changed(1).await.len()), (1, 0));
        commit(storage, vec![list_change("D2")]).await;
        // For b, it is not between the two.
        assert_eq!(outbound(storage, 0, 9).await.0, ["1 after 0", "3 after 1"]);
        let mut destination = storage.destination(server_name!("b")).await.unwrap();
        destination.cursor = 3;
        storage.save_destination(&destination).await.unwrap();
        commit(storage, vec![introduction("D1", "b"), introduction("D3", "b")]).await;
        commit(storage, vec![list_change("D2")]).await;
        // Of the third device there was nothing to be told so far.
        assert_eq!(outbound(storage, 3, 9).await.0, ["1 after 0", "5 after 0", "6 after 3"]);
    })
    .await;
}

#[tokio::test]
async fn r_18_messages_to_devices_stay_until_they_are_acknowledged() {
    on_each_database(async |stage| {
        let message = |n: u64| Change::ToDevice {
            user_id: owned_user_id!("@alice:a"),
            device_id: owned_device_id!("D1"),
            sender: owned_user_id!("@bob:b"),
            event_type: "m.test".to_owned(),
            content: serde_json::value::to_raw_value(&n).unwrap(),
        };
        let id = Change::ToDeviceId {
            sender: "b".to_owned(),
            message_id: "m1".to_owned(),
            ts: MilliSecondsSinceUnixEpoch(uint!(5)),
        };
        commit(&stage.storage, vec![message(1), message(2), id]).await;
        commit(&stage.storage, vec![message(3)]).await;
        let stage = stage.reopen().await;
        let storage = &stage.storage;
        let (alice, device) = (user_id!("@alice:a"), device_id!("D1"));
        let waiting = async |after: i64, until: i64, limit: usize| {
            let messages = storage.to_device(alice, device, after, until, limit).await.unwrap();
            messages.iter().map(|message| message.content.get().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(waiting(0, 9, 9).await, ["1", "2", "3"]);
        assert_eq!(waiting(0, 9, 2).await, ["1", "2"]);
        assert_eq!(waiting(0, 2, 9).await, ["1", "2"]);
        storage.acknowledge_to_device(alice, device, 2).await.unwrap();
        assert_eq!(waiting(0, 9, 9).await, ["3"]);
        for n in 4..7 {
            // A position that is yet to come says nothing of what will come before it.
            storage.acknowledge_to_device(alice, device, 99).await.unwrap();
            storage.acknowledge_to_device(alice, device, 99).await.unwrap();
            assert_eq!(waiting(0, 99, 9).await, [""; 0]);
            commit(storage, vec![message(n)]).await;
            assert_eq!(waiting(0, 99, 9).await, [n.to_string()]);
        }
        assert!(storage.is_to_device_id_known("b", "m1").await.unwrap());
        assert!(!storage.is_to_device_id_known("c", "m1").await.unwrap());
        storage.prune_to_device_ids(6).await.unwrap();
        assert!(!storage.is_to_device_id_known("b", "m1").await.unwrap());
    })
    .await;
}
