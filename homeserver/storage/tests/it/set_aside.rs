//! Events that wait for what they build upon.

use homeserver_storage::SetAsideEvent;
use ruma::{owned_room_id, owned_server_name};

use crate::stage::{event_id, on_each_database};

fn waiting(id: &str, room: &str, next_ts: u64) -> SetAsideEvent {
    SetAsideEvent {
        event_id: event_id(id),
        room_id: room.try_into().unwrap(),
        origin: owned_server_name!("far"),
        json: r#"{"a":"b"}"#.to_owned(),
        since_ts: 1_000,
        attempts: 0,
        next_ts,
    }
}

#[tokio::test]
async fn events_wait_until_they_are_forgotten_so_many_in_a_room() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        assert!(storage.set_event_aside(&waiting("$a", "!r:far", 2_000), 2, 9).await.unwrap());
        assert!(storage.set_event_aside(&waiting("$b", "!r:far", 3_000), 2, 9).await.unwrap());
        assert!(!storage.set_event_aside(&waiting("$c", "!r:far", 3_000), 2, 9).await.unwrap());
        assert!(!storage.set_event_aside(&waiting("$c", "!r:far", 3_000), 9, 2).await.unwrap(), "of one server");
        assert!(storage.set_event_aside(&waiting("$d", "!s:far", 1_500), 2, 9).await.unwrap());
        // What waits already stays as it is when it comes again, however many there are.
        assert!(storage.set_event_aside(&waiting("$a", "!r:far", 9_000), 2, 2).await.unwrap());
        storage.postpone_set_aside(&event_id("$a"), 1, 5_000).await.unwrap();
        let later = SetAsideEvent { attempts: 1, ..waiting("$a", "!r:far", 5_000) };
        let room = owned_room_id!("!r:far");
        assert_eq!(storage.events_set_aside(&room).await.unwrap(), [later, waiting("$b", "!r:far", 3_000)]);
        assert_eq!(storage.rooms_with_due_events(1_499, 9).await.unwrap(), [] as [ruma::OwnedRoomId; 0]);
        assert_eq!(storage.rooms_with_due_events(9_000, 9).await.unwrap().len(), 2);
        let longest = storage.rooms_with_due_events(9_000, 1).await.unwrap();
        assert_eq!(longest, [owned_room_id!("!s:far")], "who waits longest comes first");
        storage.forget_event_set_aside(&event_id("$a")).await.unwrap();
        storage.forget_event_set_aside(&event_id("$b")).await.unwrap();
        assert!(storage.events_set_aside(&room).await.unwrap().is_empty());
    })
    .await;
}
