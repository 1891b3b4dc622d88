//! The queues of application services, and the rooms that they list.

use homeserver_storage::{ServiceQueue, ServiceTransaction};

use crate::stage::{on_each_database, user};

#[tokio::test]
async fn what_is_on_its_way_is_kept_word_for_word() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        assert_eq!(storage.service_queue("irc").await.unwrap(), None);
        let mut queue = ServiceQueue { service: "irc".to_owned(), position: 3, in_flight: None };
        storage.save_service_queue(&queue).await.unwrap();
        queue.in_flight = Some(ServiceTransaction {
            transaction_id: "a1".to_owned(),
            until: 7,
            body: format!(r#"{{"events":[{{"body":"\u0000 {}"}}]}}"#, "\u{e9}".repeat(2_000_000)),
            to_devices: vec![(user("@bot:here"), "BOT".into(), 5)],
        });
        storage.save_service_queue(&queue).await.unwrap();
        assert_eq!(storage.service_queue("irc").await.unwrap().as_ref(), Some(&queue));
        queue = ServiceQueue { position: 7, in_flight: None, ..queue };
        storage.save_service_queue(&queue).await.unwrap();
        assert_eq!(storage.service_queue("irc").await.unwrap(), Some(queue));
        assert_eq!(storage.service_queue("xmpp").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn rooms_are_listed_by_network() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let (one, other) = (ruma::owned_room_id!("!a:here"), ruma::owned_room_id!("!b:here"));
        for (service, network, room) in [("irc", "oftc", &one), ("irc", "libera", &other), ("x", "oftc", &other)] {
            storage.set_service_room(service, network, room, true).await.unwrap();
            storage.set_service_room(service, network, room, true).await.unwrap();
        }
        assert_eq!(storage.service_rooms(Some(("irc", "oftc")), 10).await.unwrap(), std::slice::from_ref(&one));
        assert_eq!(storage.service_rooms(None, 10).await.unwrap(), [one.clone(), other]);
        assert_eq!(storage.service_rooms(None, 1).await.unwrap().len(), 1);
        storage.set_service_room("irc", "oftc", &one, false).await.unwrap();
        assert!(storage.service_rooms(Some(("irc", "oftc")), 10).await.unwrap().is_empty());
        assert!(storage.service_rooms(Some(("x", "nul\0")), 10).await.unwrap().is_empty());
    })
    .await;
}
