//! Rooms that were entered without their members.

use rules::{
    Change,
    change::{CompleteState, Standing},
};
use serde_json::json;

use crate::{
    notifications::notification,
    stage::{
        Stage, backfilled, entries, entry, event_id, extremities, initial_state, live, member, membership, message,
        on_each_database, outlier, room, server, set_state, state_event, user,
    },
};

/// Enters the room by the join of `@bob:here`, knowing only its create event. Returns the position of the join.
async fn enter(stage: &Stage) -> i64 {
    let create = state_event("$create", "m.room.create", "", json!({ "room_version": "11" }));
    let join = member("$bob_joins", "@bob:here", "join", &["$last"]);
    let committed = stage
        .commit(vec![
            Change::Room { room_id: room(), version: ruma::RoomVersionId::V11 },
            outlier(&create),
            initial_state(&[&create]),
            server("there", true),
            server("elsewhere", true),
            live(&join),
            set_state(&[&join]),
            server("here", true),
            membership("@bob:here", "join", "$bob_joins"),
            extremities(&["$bob_joins"]),
            Change::PartialState {
                room_id: room(),
                event_id: event_id("$bob_joins"),
                entered_by: "there".try_into().unwrap(),
                servers: vec!["there".try_into().unwrap(), "elsewhere".try_into().unwrap()],
                unverified: vec![event_id("$unreadable")],
                now_ms: 500,
            },
        ])
        .await;
    committed.positions[0].1
}

#[tokio::test]
async fn a_partial_state_is_remembered_until_it_is_complete() {
    on_each_database(async |stage| {
        let joined_at = enter(&stage).await;
        stage.assert_sound().await;
        let mut record = stage.storage.partial_state(&room()).await.unwrap().unwrap();
        assert_eq!((record.position, record.failures, record.servers.len()), (joined_at, 0, 2));
        assert_eq!((record.retry_at_ts, &*record.unverified), (500, &[event_id("$unreadable")][..]));
        stage.storage.postpone_partial_state(&record, 1_000).await.unwrap();
        (record.failures, record.retry_at_ts) = (1, 1_000);
        let stage = stage.reopen().await;
        assert_eq!(stage.storage.partial_states(1_000, 10).await.unwrap(), [record.clone()]);
        assert!(stage.storage.partial_states(999, 10).await.unwrap().is_empty());
        stage.storage.hasten_partial_state(&room(), 700).await.unwrap();
        stage.storage.postpone_partial_state(&record, 9_000).await.unwrap();
        (record.failures, record.retry_at_ts) = (2, 700);
        assert_eq!(
            stage.storage.partial_states(1_000, 10).await.unwrap(),
            [record.clone()],
            "it was hastened meanwhile"
        );
        record.event_id = event_id("$another_join");
        stage.storage.postpone_partial_state(&record, 9_000).await.unwrap();
        assert_eq!(stage.storage.partial_state(&room()).await.unwrap().unwrap().failures, 2, "another join");
    })
    .await;
}

#[tokio::test]
async fn only_servers_of_rooms_whose_members_are_known_share_whole_rooms() {
    on_each_database(async |stage| {
        let joined_at = enter(&stage).await;
        let (bob, storage) = (user("@bob:here"), &stage.storage);
        let mut sharing = storage.servers_sharing_rooms(&bob).await.unwrap();
        sharing.sort();
        assert_eq!(sharing, ["elsewhere", "there"]);
        assert!(storage.servers_sharing_whole_rooms(&bob, i64::MAX).await.unwrap().is_empty());
        let whole = ruma::owned_room_id!("!whole:there");
        let there = |server: &str| Change::RoomServer {
            room_id: whole.clone(),
            server: server.try_into().unwrap(),
            present: true,
        };
        let changes = vec![
            Change::Room { room_id: whole.clone(), version: ruma::RoomVersionId::V11 },
            there("there"),
            there("here"),
            Change::Membership {
                user_id: bob.clone(),
                room_id: whole.clone(),
                membership: "join".into(),
                event_id: event_id("$bob_joins_too"),
                sender: bob.clone(),
                stripped_state: None,
            },
        ];
        stage.commit_unguarded(changes).await.unwrap();
        assert_eq!(storage.servers_sharing_whole_rooms(&bob, i64::MAX).await.unwrap(), ["there"]);
        assert!(storage.servers_sharing_whole_rooms(&bob, joined_at).await.unwrap().is_empty(), "not since then");
    })
    .await;
}

#[tokio::test]
async fn what_is_complete_is_written_anew_from_the_join_on() {
    on_each_database(async |stage| {
        let joined_at = enter(&stage).await;
        let create = state_event("$create", "m.room.create", "", json!({ "room_version": "11" }));
        let bob = member("$bob_joins", "@bob:here", "join", &["$last"]);
        // Meanwhile history is read, a member is learned, and a topic is set by one who was not in the room.
        let old_topic = state_event("$old_topic", "m.room.topic", "", json!({ "topic": "old" }));
        stage
            .commit(vec![
                backfilled(&old_topic),
                Change::HistoricState {
                    room_id: room(),
                    event_type: "m.room.topic".into(),
                    state_key: String::new(),
                    before: None,
                },
            ])
            .await;
        let learned = member("$carol_was_in", "@carol:there", "join", &[]);
        let topic = state_event("$topic", "m.room.topic", "", json!({ "topic": "false" }));
        let changes = vec![outlier(&learned), initial_state(&[&learned]), live(&topic), set_state(&[&topic])];
        let noted = notification("$topic", None, &[("@bob:here", true)]);
        let wrong = stage.commit([changes, vec![extremities(&["$topic"]), noted]].concat()).await.positions[0].1;
        let later = message("$later", "$topic");
        let last = stage.commit(vec![live(&later), extremities(&["$later"])]).await.position;

        assert_eq!(stage.storage.unread_joined(&user("@bob:here")).await.unwrap().notifications, 1);
        assert!(!stage.storage.is_followed_since(&user("@carol:there"), last).await.unwrap());

        let carol = member("$carol_left", "@carol:there", "leave", &[]);
        let dave = member("$dave_joins", "@dave:there", "join", &[]);
        stage.commit_unguarded(vec![outlier(&carol), outlier(&dave)]).await.unwrap();
        let gone = crate::stage::no_value("m.room.topic", "");
        let complete = CompleteState {
            room_id: room(),
            joined_at,
            before: vec![entry(&create), entry(&carol), entry(&dave)],
            since: vec![(joined_at, vec![entry(&bob)])],
            corrected: vec![gone, entry(&carol)],
        };
        let standing = Standing::Rejected("not in the room".to_owned());
        let refusal = Change::Rejudged { event_id: event_id("$topic"), standing, state_before: None };
        let changes = vec![
            Change::CompleteState(Box::new(complete)),
            refusal,
            server("elsewhere", false),
            extremities(&["$later"]),
        ];
        let completed = stage.commit(changes).await.position;

        stage.assert_sound().await;
        assert_eq!(completed, last + 1);
        assert_eq!(stage.storage.partial_state(&room()).await.unwrap(), None);
        assert_eq!(stage.storage.rooms_completed(last, completed).await.unwrap(), [room()]);
        assert!(stage.storage.rooms_completed(completed, completed + 9).await.unwrap().is_empty());
        let members = ["m.room.member @carol:there=$carol_left", "m.room.member @dave:there=$dave_joins"];
        let whole = ["m.room.create =$create", "m.room.member @bob:here=$bob_joins", members[0], members[1]];
        for position in [joined_at, wrong, last, completed] {
            assert_eq!(stage.state_at(position).await, whole, "at {position}");
        }
        assert_eq!(stage.state_at(joined_at - 1).await, ["m.room.create =$create", members[0], members[1]]);
        let told = stage.storage.state_changes(&room(), last, completed).await.unwrap();
        assert_eq!(entries(told), [members[0], "m.room.topic =nothing"]);
        assert_eq!(stage.storage.unread_joined(&user("@bob:here")).await.unwrap().notifications, 0);
        let dave = user("@dave:there");
        assert!(!stage.storage.is_followed_since(&dave, last).await.unwrap(), "who was not known was not heard");
        assert!(stage.storage.is_followed_since(&dave, completed).await.unwrap());
        assert!(stage.stored("$topic").await.unwrap().pdu.rejected);
    })
    .await;
}

/// Of members some are told of as they come, and the others when all are known: of those who spoke before that, too.
#[tokio::test]
async fn who_was_not_told_of_is_found_and_who_was_is_lost() {
    on_each_database(async |stage| {
        let joined_at = enter(&stage).await;
        let create = state_event("$create", "m.room.create", "", json!({ "room_version": "11" }));
        let bob = member("$bob_joins", "@bob:here", "join", &["$last"]);
        // Carol was there and speaks, and Erin and Frank come in. Of Dave nothing is heard.
        let carol = member("$carol_was_in", "@carol:there", "join", &[]);
        let learned = vec![outlier(&carol), initial_state(&[&carol]), live(&message("$spoken", "$bob_joins"))];
        stage.commit(learned).await;
        let mut told = joined_at;
        for name in ["erin", "frank"] {
            let join = member(&format!("${name}_joins"), &format!("@{name}:there"), "join", &["$spoken"]);
            told = stage.commit(vec![live(&join), set_state(&[&join])]).await.position;
        }
        let erin = member("$erin_joins", "@erin:there", "join", &["$spoken"]);
        let dave = member("$dave_was_in", "@dave:there", "join", &[]);
        stage.commit_unguarded(vec![outlier(&dave)]).await.unwrap();
        let complete = CompleteState {
            room_id: room(),
            joined_at,
            before: vec![entry(&create), entry(&carol), entry(&dave)],
            since: vec![(joined_at, vec![entry(&bob)]), (told - 1, vec![entry(&erin)])],
            corrected: vec![crate::stage::no_value("m.room.member", "@frank:there")],
        };
        let completed = stage.commit(vec![Change::CompleteState(Box::new(complete))]).await.position;

        let sorted = |mut users: Vec<ruma::OwnedUserId>| {
            users.sort_unstable();
            users.iter().map(|user_id| user_id.localpart().to_owned()).collect::<Vec<_>>()
        };
        let found = async |since| sorted(stage.storage.members_found(&[room()], since, completed).await.unwrap());
        let lost = async |since| sorted(stage.storage.members_lost(&[room()], since, completed).await.unwrap());
        assert_eq!(found(told).await, ["carol", "dave"]);
        assert_eq!(found(joined_at).await, ["carol", "dave", "erin"], "who was told of nobody yet but Bob");
        assert_eq!(found(joined_at - 1).await, ["bob", "carol", "dave", "erin"]);
        assert_eq!(lost(told).await, ["frank"], "who was told that he is there");
        assert!(lost(joined_at).await.is_empty());
    })
    .await;
}
