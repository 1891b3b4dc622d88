//! What is cut off in the middle, as by the end of the process: it leaves nothing half done, and can be done again.

use std::{
    pin::pin,
    task::{Context, Poll},
};

use fake_homeserver::{Room, RoomSettings};
use ruma::{OwnedRoomId, RoomVersionId};
use serde_json::json;

use crate::stage::Stage;

/// How many members the room has that is joined.
const MEMBERS: usize = 100;

/// Lets something go on so many times, and drops it then. What came of it, if it was done before.
async fn cut_off<F: Future>(work: F, mut times: usize) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|context: &mut Context<'_>| {
        if times == 0 {
            return Poll::Ready(None);
        }
        times -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// Cuts something off ever later, until it is done. How often it was cut off.
async fn until_done<T>(stage: &Stage, mut work: impl AsyncFnMut() -> engine::Result<T>) -> (usize, T) {
    for times in 1..1_000 {
        let done = cut_off(work(), times).await;
        let violations = stage.engine.storage().fsck().await.unwrap();
        assert!(violations.is_empty(), "cut off after {times}: {violations:?}");
        if let Some(done) = done {
            return (times - 1, done.unwrap());
        }
    }
    panic!("it never was done");
}

fn large_room(stage: &Stage) -> Room {
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    for number in 0..MEMBERS {
        let user = stage.remote.user(&format!("member{number}"));
        room.send_state(&stage.remote, &user, "m.room.member", user.as_str(), json!({"membership": "join"}));
    }
    room
}

#[tokio::test]
async fn r_27_a_join_that_is_cut_off_leaves_no_half_room_and_can_be_done_again() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = large_room(&stage);
    let (cuts, ()) = until_done(&stage, async || {
        let done = stage.join(&alice, &room.id).await;
        // Either the whole room or none of it.
        let state = stage.engine.storage().current_state(&room.id).await.unwrap().len();
        assert!(state == 0 || state > MEMBERS, "{state} entries");
        done
    })
    .await;
    assert!(cuts > 3, "it was cut off {cuts} times");
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("join"));
    let own = stage.send(&alice, &room.id, "here").await;
    assert!(stage.sees(&alice, &room.id, &own).await);
}

#[tokio::test]
async fn r_27_a_leave_that_is_cut_off_can_be_done_again() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = large_room(&stage);
    stage.join(&alice, &room.id).await.unwrap();
    let (cuts, ()) = until_done(&stage, async || {
        if stage.membership(&room.id, &alice.user_id).await.as_deref() == Some("leave") {
            return Ok(());
        }
        stage.engine.leave(&alice, &room.id, None).await
    })
    .await;
    assert!(cuts > 0, "it was cut off {cuts} times");
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("leave"));
}

#[tokio::test]
async fn r_27_an_upgrade_that_is_cut_off_can_be_done_again() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |_| {}).await;
    let (cuts, replacement) = until_done(&stage, async || -> engine::Result<OwnedRoomId> {
        stage.engine.upgrade_room(&alice, &room_id, RoomVersionId::V12, Vec::new()).await
    })
    .await;
    assert!(cuts > 3, "it was cut off {cuts} times");
    let tombstone = stage.current(&room_id, "m.room.tombstone", "").await.expect("the old room says where to go");
    assert_eq!(stage.stored(&tombstone).await["content"]["replacement_room"], replacement.as_str());
    assert_eq!(stage.membership(&replacement, &alice.user_id).await.as_deref(), Some("join"));
    let own = stage.send(&alice, &replacement, "here").await;
    assert!(stage.sees(&alice, &replacement, &own).await);
}
