//! Room state through time.

use homeserver_storage::StateSpan;
use rules::Change;
use ruma::events::{StateEventType, room::member::MembershipState};
use serde_json::json;

use crate::stage::{
    backfilled, entries, entry, event, event_id, extremities, initial_state, live, member, no_value, on_each_database,
    outlier, room, set_state, state_event, user,
};

const BEGINNING: i64 = -(1 << 62);

fn topic(id: &str) -> std::sync::Arc<rules::Pdu> {
    state_event(id, "m.room.topic", "", json!({ "topic": id }))
}

#[tokio::test]
async fn each_position_has_its_state() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let first = stage.commit(vec![live(&topic("$first")), set_state(&[&topic("$first")])]).await.position;
        let between = stage.send("$one", "$first").await;
        let second = stage.commit(vec![live(&topic("$second")), set_state(&[&topic("$second")])]).await.position;
        let removal = vec![
            live(&topic("$third")),
            Change::State { room_id: room(), entries: vec![no_value("m.room.topic", "")] },
        ];
        let removed = stage.commit(removal).await.position;

        let base = ["m.room.create =$create", "m.room.member @alice:here=$alice_joins"];
        let with = |topic: &str| [base[0], base[1], topic].map(ToOwned::to_owned).to_vec();
        assert!(stage.state_at(0).await.is_empty());
        assert_eq!(stage.state_at(1).await, base[..1]);
        assert_eq!(stage.state_at(first - 1).await, base);
        assert_eq!(stage.state_at(first).await, with("m.room.topic =$first"));
        assert_eq!(stage.state_at(between).await, with("m.room.topic =$first"));
        assert_eq!(stage.state_at(second).await, with("m.room.topic =$second"));
        assert_eq!(stage.state_at(removed).await, base);
        assert_eq!(entries(stage.storage.current_state(&room()).await.unwrap()), base);

        let value = async |order| {
            let found = stage.storage.state_entry_at(&room(), &StateEventType::RoomTopic, "", order).await.unwrap();
            found.map(|entry| entry.event_id.unwrap().to_string())
        };
        assert_eq!(value(first - 1).await, None);
        assert_eq!(value(between).await.as_deref(), Some("$first"));
        assert_eq!(value(second).await.as_deref(), Some("$second"));
        assert_eq!(value(removed).await, None);
    })
    .await;
}

#[tokio::test]
async fn changes_are_told_as_of_the_end() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let first = stage.commit(vec![live(&topic("$first")), set_state(&[&topic("$first")])]).await.position;
        let second = stage.commit(vec![live(&topic("$second")), set_state(&[&topic("$second")])]).await.position;
        let removal = vec![
            live(&topic("$third")),
            Change::State { room_id: room(), entries: vec![no_value("m.room.topic", "")] },
        ];
        let removed = stage.commit(removal).await.position;
        let changes =
            async |since, until| entries(stage.storage.state_changes(&room(), since, until).await.unwrap()).join(", ");
        assert_eq!(changes(first - 1, first).await, "m.room.topic =$first");
        assert_eq!(changes(first - 1, second).await, "m.room.topic =$second", "the value at the end");
        assert_eq!(changes(first, second).await, "m.room.topic =$second");
        assert_eq!(changes(second, removed).await, "m.room.topic =nothing");
        assert_eq!(changes(removed, removed + 9).await, "");
        assert_eq!(changes(0, 1).await, "m.room.create =$create");
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_set_twice_at_once_has_its_last_value() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let changes = vec![
            live(&topic("$first")),
            set_state(&[&topic("$first")]),
            set_state(&[&topic("$second")]),
            live(&topic("$third")),
            set_state(&[&topic("$third")]),
        ];
        let third = stage.commit(changes).await.position;
        let value = async |order| stage.state_at(order).await.pop().unwrap();
        assert_eq!(value(third - 1).await, "m.room.topic =$second");
        assert_eq!(value(third).await, "m.room.topic =$third");
        assert_eq!(stage.storage.current_state(&room()).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn members_are_found_by_their_membership() {
    on_each_database(async |stage| {
        stage.create_room().await;
        for (user_id, membership) in [("@bob:b", "join"), ("@carol:c", "invite"), ("@dave:d", "leave")] {
            let event = member(&format!("${membership}"), user_id, membership, &["$alice_joins"]);
            stage.commit(vec![live(&event), set_state(&[&event])]).await;
        }
        let with = async |memberships: &[MembershipState]| {
            let mut users = stage.storage.members_with(&room(), memberships).await.unwrap();
            users.sort();
            users
        };
        assert_eq!(with(&[MembershipState::Join]).await, [user("@alice:here"), user("@bob:b")]);
        let both = [MembershipState::Invite, MembershipState::Leave];
        assert_eq!(with(&both).await, [user("@carol:c"), user("@dave:d")]);
        assert!(with(&[MembershipState::Ban]).await.is_empty());
    })
    .await;
}

/// A room that we enter by way of another server: its state was there before us.
async fn enter_room(stage: &crate::stage::Stage) -> i64 {
    let create = state_event("$create", "m.room.create", "", json!({}));
    let invite = event(
        "$invite",
        json!({ "type": "m.room.member", "state_key": "@alice:here", "content": { "membership": "invite" } }),
    );
    let bob = member("$bob_joins", "@bob:b", "join", &[]);
    let alice = member("$alice_joins", "@alice:here", "join", &["$before"]);
    let before = [&create, &bob, &topic("$topic2"), &invite];
    let mut changes = vec![Change::Room { room_id: room(), version: ruma::RoomVersionId::V11 }];
    changes.extend(before.iter().map(|event| outlier(event)));
    changes.extend([
        initial_state(&before),
        crate::stage::server("b", true),
        live(&alice),
        set_state(&[&alice]),
        crate::stage::server("here", true),
        crate::stage::membership("@alice:here", "join", "$alice_joins"),
        extremities(&["$alice_joins"]),
    ]);
    stage.commit(changes).await.positions[0].1
}

fn historic(event: &std::sync::Arc<rules::Pdu>, before: Option<&str>) -> Change {
    let entry = entry(event);
    Change::HistoricState {
        room_id: room(),
        event_type: entry.event_type,
        state_key: entry.state_key,
        before: before.map(event_id),
    }
}

#[tokio::test]
async fn the_first_state_holds_for_all_history_before() {
    on_each_database(async |stage| {
        let joined = enter_room(&stage).await;
        let after = stage.state_at(joined).await;
        assert!(after.contains(&"m.room.member @alice:here=$alice_joins".to_owned()), "{after:?}");
        let before = stage.state_at(-5).await;
        assert!(before.contains(&"m.room.topic =$topic2".to_owned()), "{before:?}");
        assert!(before.contains(&"m.room.member @alice:here=$invite".to_owned()), "our join is not older than itself");
        assert_eq!(before.len(), after.len());
        let changes = entries(stage.storage.state_changes(&room(), 0, joined).await.unwrap());
        assert_eq!(changes, ["m.room.member @alice:here=$alice_joins"]);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn reading_backwards_teaches_what_was_before() {
    on_each_database(async |stage| {
        enter_room(&stage).await;
        let message = crate::stage::message("$m", "$topic2");
        let topic1 = state_event("$topic1", "m.room.topic", "", json!({ "topic": "1" }));
        // Newest first: -1 a message, -2 the second topic, -3 another message, -4 the first topic.
        let older = crate::stage::message("$n", "$topic1");
        stage.commit(vec![backfilled(&message)]).await;
        stage.commit(vec![backfilled(&topic("$topic2")), historic(&topic("$topic2"), Some("$topic1"))]).await;
        stage.commit(vec![backfilled(&older), backfilled(&topic1), historic(&topic1, None)]).await;

        let topic_at = async |order| {
            let found = stage.storage.state_entry_at(&room(), &StateEventType::RoomTopic, "", order).await.unwrap();
            found.map_or("none".to_owned(), |entry| entry.event_id.unwrap().to_string())
        };
        assert_eq!(topic_at(-1).await, "$topic2");
        assert_eq!(topic_at(-2).await, "$topic2");
        assert_eq!(topic_at(-3).await, "$topic1");
        assert_eq!(topic_at(-4).await, "$topic1");
        assert_eq!(topic_at(-5).await, "none");
        assert_eq!(topic_at(9).await, "$topic2", "the present is as it was");

        let span = |since, until, id: &str| StateSpan { since, until, event_id: Some(event_id(id)), membership: None };
        let history = stage.storage.state_history(&room(), &StateEventType::RoomTopic, "").await.unwrap();
        assert_eq!(history, [span(-4, Some(-2), "$topic1"), span(-2, None, "$topic2")]);
        assert!(history[0].contains(-3) && !history[0].contains(-2));
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_membership_before_ours_is_learned_with_what_it_says() {
    on_each_database(async |stage| {
        let joined = enter_room(&stage).await;
        let invite = event(
            "$invite",
            json!({ "type": "m.room.member", "state_key": "@alice:here", "content": { "membership": "invite" } }),
        );
        let left = member("$left", "@alice:here", "leave", &[]);
        let learned = vec![outlier(&left), backfilled(&invite), historic(&invite, Some("$left"))];
        stage.commit(learned).await;
        let history = stage.storage.state_history(&room(), &StateEventType::RoomMember, "@alice:here").await.unwrap();
        let spans: Vec<_> = history
            .iter()
            .map(|span| (span.since, span.until, span.membership.as_ref().map(MembershipState::as_str)))
            .collect();
        let expected =
            [(BEGINNING, Some(-1), Some("leave")), (-1, Some(joined), Some("invite")), (joined, None, Some("join"))];
        assert_eq!(spans, expected);
    })
    .await;
}

#[tokio::test]
async fn a_value_that_later_history_contradicts_stands_for_its_moment_only() {
    on_each_database(async |stage| {
        enter_room(&stage).await;
        let lost = state_event("$lost", "m.room.topic", "", json!({}));
        let name = state_event("$name", "m.room.name", "", json!({}));
        let changes = vec![
            backfilled(&crate::stage::message("$m", "$lost")),
            backfilled(&lost),
            historic(&lost, Some("$topic0")),
            backfilled(&name),
            historic(&name, None),
        ];
        stage.commit(changes).await;
        let at = async |event_type: StateEventType, order| {
            let found = stage.storage.state_entry_at(&room(), &event_type, "", order).await.unwrap();
            found.map_or("none".to_owned(), |entry| entry.event_id.unwrap().to_string())
        };
        assert_eq!(at(StateEventType::RoomTopic, -1).await, "$topic2", "what is known of later");
        assert_eq!(at(StateEventType::RoomTopic, -2).await, "$lost");
        assert_eq!(at(StateEventType::RoomTopic, -3).await, "$topic0");
        assert_eq!(at(StateEventType::RoomName, -3).await, "$name");
        assert_eq!(at(StateEventType::RoomName, -2).await, "none", "gone by then, as the present has no name");
        assert_eq!(at(StateEventType::RoomName, -4).await, "none");
        assert!(stage.state_at(1000).await.iter().all(|line| !line.contains("name")), "the present is as it was");
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn rooms_are_found_by_who_is_in_them_and_told_by_their_state() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let alice = user("@alice:here");
        let joined = async |user_id: &str| stage.storage.joined_rooms(&user(user_id)).await.unwrap();
        assert_eq!(joined("@alice:here").await, [room()]);
        assert!(joined("@bob:there").await.is_empty());
        let bob = member("$bob", "@bob:there", "join", &["$alice_joins"]);
        stage.commit(vec![live(&bob), set_state(&[&bob])]).await;
        assert_eq!(joined("@bob:there").await, [room()]);
        let gone = member("$gone", alice.as_str(), "leave", &["$bob"]);
        stage.commit(vec![live(&gone), set_state(&[&gone])]).await;
        assert!(joined("@alice:here").await.is_empty());

        let first = stage.commit(vec![live(&topic("$first")), set_state(&[&topic("$first")])]).await.position;
        stage.send("$one", "$first").await;
        let rooms = [room(), "!nothing:here".try_into().unwrap()];
        let of = async |event_type: &str| stage.storage.current_state_of(&rooms, &event_type.into()).await.unwrap();
        assert_eq!(of("m.room.topic").await, [(room(), event_id("$first"))]);
        assert!(of("m.room.name").await.is_empty());
        let last = async |types: &[&str]| {
            let types: Vec<_> = types.iter().map(|event_type| (*event_type).into()).collect();
            stage.storage.last_of_types(&rooms, &types).await.unwrap().get(&room()).copied()
        };
        assert_eq!(last(&["m.room.topic", "m.room.create"]).await, Some(first));
        assert_eq!(last(&["m.room.name"]).await, None);
    })
    .await;
}
