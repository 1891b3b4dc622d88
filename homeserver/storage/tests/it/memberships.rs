//! Local users' relations to rooms.

use rules::Change;
use ruma::{RoomVersionId, events::room::member::MembershipState, owned_room_id};
use serde_json::json;

use crate::stage::{
    event_id, extremities, initial_state, live, member, membership, on_each_database, outlier, room, set_state, user,
};

#[tokio::test]
async fn the_last_membership_counts() {
    on_each_database(async |stage| {
        let alice = user("@alice:here");
        assert!(stage.storage.membership(&alice, &room()).await.unwrap().is_none());
        let invite = Change::Membership {
            user_id: alice.clone(),
            room_id: owned_room_id!("!elsewhere:far"),
            membership: MembershipState::Invite,
            event_id: event_id("$invite"),
            sender: user("@bob:far"),
            stripped_state: Some(serde_json::value::to_raw_value(&json!([{ "type": "m.room.name" }])).unwrap()),
        };
        stage.commit_unguarded(vec![invite, membership("@alice:here", "join", "$j")]).await.unwrap();
        stage.commit_unguarded(vec![membership("@alice:here", "leave", "$l")]).await.unwrap();
        stage.commit_unguarded(vec![membership("@carol:here", "join", "$c")]).await.unwrap();
        let mut records = stage.storage.memberships(&alice).await.unwrap();
        records.sort_by_key(|record| record.position);
        assert_eq!(records.len(), 2);
        let (invited, left) = (&records[0], &records[1]);
        assert_eq!((invited.position, &invited.membership), (1, &MembershipState::Invite));
        assert_eq!(invited.room_id, "!elsewhere:far", "a room that we know nothing else of");
        assert_eq!(invited.sender, user("@bob:far"));
        assert_eq!(invited.stripped_state.as_ref().unwrap().get(), r#"[{"type":"m.room.name"}]"#);
        assert_eq!((left.position, &left.membership), (3, &MembershipState::Leave));
        assert_eq!((&left.event_id, &left.user_id), (&event_id("$l"), &alice));
        let one = stage.storage.membership(&alice, &room()).await.unwrap().unwrap();
        assert_eq!(one.position, 3);
    })
    .await;
}

#[tokio::test]
async fn a_forgotten_room_comes_back_with_a_new_membership() {
    on_each_database(async |stage| {
        let alice = user("@alice:here");
        stage.commit_unguarded(vec![membership("@alice:here", "leave", "$l")]).await.unwrap();
        stage.commit_unguarded(vec![membership("@bob:here", "leave", "$l")]).await.unwrap();
        stage.storage.forget_room(&alice, &room()).await.unwrap();
        assert!(stage.storage.memberships(&alice).await.unwrap()[0].forgotten);
        let bob = stage.storage.membership(&user("@bob:here"), &room()).await.unwrap().unwrap();
        assert!(!bob.forgotten, "others remember");
        stage.commit_unguarded(vec![membership("@alice:here", "invite", "$i")]).await.unwrap();
        assert!(!stage.storage.memberships(&alice).await.unwrap()[0].forgotten);
    })
    .await;
}

#[tokio::test]
async fn who_was_in_a_room_before_us_is_found_by_name_too() {
    on_each_database(async |stage| {
        let far = member("$far", "@rita:far", "join", &[]);
        let joined = member("$joined", "@alice:here", "join", &["$far"]);
        let room_change = Change::Room { room_id: room(), version: RoomVersionId::V11 };
        let entered = vec![
            room_change,
            outlier(&far),
            initial_state(&[&far]),
            live(&joined),
            set_state(&[&joined]),
            extremities(&["$joined"]),
            membership("@alice:here", "join", "$joined"),
        ];
        stage.commit_unguarded(entered).await.unwrap();
        while stage.storage.index_members().await.unwrap() > 0 {}
        let found = async |text: &str| {
            let found = stage.storage.members_like(&user("@alice:here"), text, 10).await.unwrap();
            found.into_iter().map(|(user_id, _)| user_id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("rita").await, ["@rita:far"]);
        assert_eq!(found("alice").await, ["@alice:here"]);
    })
    .await;
}
