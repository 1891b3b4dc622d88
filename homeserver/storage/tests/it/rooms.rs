//! Rooms, and which servers are in them when.

use ruma::{RoomVersionId, room_id};

use crate::stage::{event_id, live, message, on_each_database, room, server};

#[tokio::test]
async fn a_room_is_what_was_committed() {
    on_each_database(async |stage| {
        assert!(stage.storage.room(&room()).await.unwrap().is_none());
        stage.create_room().await;
        let position = stage.send("$one", "$alice_joins").await;
        let record = stage.storage.room(&room()).await.unwrap().unwrap();
        assert_eq!(record.room_id, room());
        assert_eq!(record.version, RoomVersionId::V11);
        assert_eq!((record.revision, record.position), (2, position));
        assert_eq!(record.forward_extremities, [(event_id("$one"), 5)]);
        assert!(!record.published);
    })
    .await;
}

#[tokio::test]
async fn published_rooms_are_listed_until_they_are_not() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.storage.set_room_published(&room(), true).await.unwrap();
        stage.storage.set_room_published(room_id!("!unknown:here"), true).await.unwrap();
        let published = stage.storage.published_rooms(10).await.unwrap();
        assert_eq!(published, [(room(), stage.storage.room(&room()).await.unwrap().unwrap().revision)]);
        let asked = [room(), room_id!("!unknown:here").to_owned()];
        assert_eq!(stage.storage.room_revisions(&asked).await.unwrap(), published);
        stage.send("$one", "$alice_joins").await;
        assert!(stage.storage.room(&room()).await.unwrap().unwrap().published, "events do not change that");
        stage.storage.set_room_published(&room(), false).await.unwrap();
        assert!(stage.storage.published_rooms(10).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn servers_are_present_between_their_first_join_and_their_last_leave() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let joins = stage.commit(vec![live(&message("$b_joins", "$alice_joins")), server("b", true)]).await.position;
        let between = stage.send("$one", "$b_joins").await;
        let leaves = stage.commit(vec![live(&message("$b_leaves", "$one")), server("b", false)]).await.position;
        let after = stage.send("$two", "$b_leaves").await;
        let again = stage.commit(vec![live(&message("$b_again", "$two")), server("b", true)]).await.position;
        let at = async |position| {
            let mut servers = stage.storage.room_servers_at(&room(), position).await.unwrap();
            servers.sort();
            servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(at(joins).await, "here", "it brought its own join");
        assert_eq!(at(between).await, "b here");
        assert_eq!(at(leaves).await, "b here", "it is told that it left");
        assert_eq!(at(after).await, "here");
        assert_eq!(at(again).await, "here");
        assert_eq!(at(again + 1).await, "b here");
        let stays = stage.storage.room_servers_since(&room(), 0).await.unwrap();
        for position in [joins, between, leaves, after, again, again + 1] {
            let there = stays.iter().filter(|stay| stay.contains(position)).map(|stay| stay.server.to_string());
            let mut there: Vec<_> = there.collect();
            there.sort();
            assert_eq!(there.join(" "), at(position).await, "at {position}");
        }
        let later = stage.storage.room_servers_since(&room(), leaves).await.unwrap();
        assert_eq!(later, [&stays[0], &stays[2]].map(Clone::clone), "what is over by then is left out");
        assert_eq!(stage.storage.room_servers(&room()).await.unwrap().len(), 2);
        assert_eq!(stage.commit(vec![server("b", true)]).await.position, again, "said twice, nothing changes");
        assert_eq!(stage.storage.room_servers(&room()).await.unwrap().len(), 2);
    })
    .await;
}
