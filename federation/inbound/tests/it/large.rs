//! What takes as long as a room is large is not done by the threads that serve: counted is how often it goes to others.

use fake_homeserver::{Room, RoomSettings};
use rules::Pdu;
use serde_json::json;

use crate::stage::{Stage, Verdict, encode};

/// More than are gone through on the spot.
const MANY: usize = 600;

/// How often something went to another thread.
#[derive(Debug, Default, PartialEq, Eq)]
struct Went {
    entering: u64,
    fork: u64,
    state: u64,
    state_ids: u64,
    letting_in: u64,
    loading: u64,
}

/// A topic after what the room ends with, which goes on without it.
fn topic(stage: &Stage, room: &Room, text: &str) -> Pdu {
    let draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.topic", Some(""), json!({"topic": text}));
    stage.remote.build(draft, &room.rules)
}

async fn room_of(members: usize) -> Went {
    let mut stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    room.let_in(&stage.remote, (0..members).map(|number| stage.remote.user(&format!("member{number}"))));
    let engine = stage.engine.clone();
    let before = std::cell::Cell::new(engine.done_apart());
    let went = || engine.done_apart() - before.replace(engine.done_apart());

    stage.join(&alice, &room.id).await.unwrap();
    let entering = went();
    let (one, other) = (topic(&stage, &room, "one"), topic(&stage, &room, "other"));
    stage.receive(&[&one, &other]).await;
    assert_eq!(stage.verdict(&other.event_id).await, Verdict::Accepted);
    let fork = went();
    let ask = async |what: &str| {
        let target = format!("/_matrix/federation/v1/{what}/{}?event_id={}", encode(&room.id), encode(&other.event_id));
        let answer = stage.remote.get(&stage.name, &target).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
    };
    ask("state").await;
    let state = went();
    ask("state_ids").await;
    let state_ids = went();
    let otto = stage.network.add_fake("other");
    let joined = otto.join(&stage.name, &room.id, &otto.user("otto")).await.unwrap();
    assert_eq!(joined.joined_users().len(), members + 3);
    let letting_in = went();
    stage.restart();
    stage.engine.state_event(&alice, &room.id, &"m.room.topic".into(), "").await.unwrap();
    Went { entering, fork, state, state_ids, letting_in, loading: stage.engine.done_apart() }
}

#[tokio::test]
async fn r_35_what_takes_as_long_as_a_room_is_large_keeps_nobody_waiting() {
    assert_eq!(room_of(3).await, Went::default(), "a small room is not worth the way");
    let expected = Went { entering: 2, fork: 6, state: 4, state_ids: 2, letting_in: 4, loading: 1 };
    assert_eq!(room_of(MANY).await, expected);
}
