//! Timelines: one order, live events upwards, backfilled ones downwards.

use homeserver_storage::{Direction, TimelineRange};
use rules::change::{Placement, Standing};

use crate::stage::{backfilled, message, on_each_database, outlier, room, stored_as};

async fn read(stage: &crate::stage::Stage, range: TimelineRange) -> String {
    let events = stage.storage.timeline(&room(), range).await.unwrap();
    events.iter().map(|event| event.pdu.event_id.to_string()).collect::<Vec<_>>().join(" ")
}

fn range(after: Option<i64>, until: Option<i64>, direction: Direction, limit: usize) -> TimelineRange {
    TimelineRange { after, until, direction, limit }
}

#[tokio::test]
async fn backfilled_events_come_before_all_others() {
    on_each_database(async |stage| {
        assert_eq!(stage.storage.timeline_start(&room()).await.unwrap(), None);
        stage.create_room().await;
        assert_eq!(stage.storage.timeline_start(&room()).await.unwrap(), Some(1));
        stage.commit(vec![backfilled(&message("$old", "$older")), backfilled(&message("$older", "$oldest"))]).await;
        stage.commit(vec![backfilled(&message("$oldest", "$create"))]).await;
        let live = stage.send("$new", "$alice_joins").await;
        let orders: Vec<_> = ["$oldest", "$older", "$old"].map(|id| stage.stored(id)).into_iter().collect();
        for (stored, order) in orders.into_iter().zip([-3, -2, -1]) {
            assert_eq!(stored.await.unwrap().order, Some(order));
        }
        assert_eq!(stage.storage.timeline_start(&room()).await.unwrap(), Some(-3));
        assert_eq!(stage.storage.head(), live, "history gets no positions");
        let all = read(&stage, range(None, None, Direction::Forward, 100)).await;
        assert_eq!(all, "$oldest $older $old $create $alice_joins $new");
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn ranges_exclude_their_lower_end_and_include_their_upper_one() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.send("$a", "$alice_joins").await;
        stage.send("$b", "$a").await;
        stage.send("$c", "$b").await;
        let (forward, backward) = (Direction::Forward, Direction::Backward);
        assert_eq!(read(&stage, range(Some(2), None, forward, 2)).await, "$a $b");
        assert_eq!(read(&stage, range(Some(4), Some(5), forward, 9)).await, "$b");
        assert_eq!(read(&stage, range(None, None, backward, 2)).await, "$c $b");
        assert_eq!(read(&stage, range(None, Some(5), backward, 2)).await, "$b $a");
        assert_eq!(read(&stage, range(Some(4), Some(5), backward, 9)).await, "$b");
        assert_eq!(read(&stage, range(Some(6), None, forward, 9)).await, "");
        assert_eq!(read(&stage, range(None, None, forward, 0)).await, "");
    })
    .await;
}

#[tokio::test]
async fn only_accepted_events_have_a_place() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let soft_failed = Standing::SoftFailed("banned".to_owned());
        let rejected = Standing::Rejected("forged".to_owned());
        stage.commit(vec![stored_as(&message("$soft", "$alice_joins"), soft_failed.clone(), Placement::None)]).await;
        stage.commit(vec![stored_as(&message("$bad", "$alice_joins"), rejected.clone(), Placement::None)]).await;
        stage.commit(vec![outlier(&message("$outlier", "$alice_joins"))]).await;
        assert_eq!(read(&stage, range(None, None, Direction::Forward, 100)).await, "$create $alice_joins");
        assert_eq!(stage.stored("$soft").await.unwrap().standing, soft_failed);
        let bad = stage.stored("$bad").await.unwrap();
        assert_eq!((&bad.standing, bad.pdu.rejected), (&rejected, true));
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_soft_failed_event_may_be_accepted_later() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let event = message("$soft", "$alice_joins");
        stage.commit(vec![stored_as(&event, Standing::SoftFailed("banned".to_owned()), Placement::None)]).await;
        let position = stage.send("$soft", "$alice_joins").await;
        let stored = stage.stored("$soft").await.unwrap();
        assert_eq!((&stored.standing, stored.order), (&Standing::Accepted, Some(position)));
        stage.assert_sound().await;
    })
    .await;
}
