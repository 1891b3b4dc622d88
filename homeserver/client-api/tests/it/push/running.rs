//! The loop that tells pushers, while much is under way.

use std::time::Duration;

use push_gateway::Answer;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{GATEWAY, Stage, pusher, set};

/// The loop, until it is stopped.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(stage: &Stage) -> Self {
        let engine = stage.server.engine.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move { engine.run_pushers(async { drop(stopped.await) }).await });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// Waits for something to become true. It does, unless something is broken: how long that takes says nothing.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if is_true().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn gateways_that_say_nothing_leave_room_for_others() {
    let stage = Stage::new().await;
    for number in 0..12 {
        set(&stage.server, &stage.bob, pusher(&format!("bob{number}"), "slow.test")).await.ok();
    }
    stage.gateways.answer("slow.test", Answer::Held);
    let running = Running::start(&stage);
    stage.say("hello").await;
    until("four calls for one user", async || stage.gateways.held("slow.test").len() == 4).await;
    // Others at the same gateway, and elsewhere.
    let carol = stage.server.register("carol").await;
    let room_id = super::shared_room(&stage.server, &stage.alice, &carol).await;
    set(&stage.server, &carol, pusher("carol", GATEWAY)).await.ok();
    set(&stage.server, &carol, pusher("carol's slow", "slow.test")).await.ok();
    stage.server.say(&stage.alice, &room_id, "carol", "hello, Carol").await;
    let mut told = Vec::new();
    until("Carol is told", async || {
        told.extend(stage.gateways.take());
        told.iter().any(|told| told.pushkey() == "carol")
    })
    .await;
    until("Carol's second call", async || stage.gateways.held("slow.test").len() == 5).await;
    let held = stage.gateways.held("slow.test");
    assert_eq!(held.iter().filter(|pushkey| pushkey.starts_with("bob")).count(), 4, "{held:?}");
    stage.gateways.answer("slow.test", Answer::Delivered);
    until("all are told", async || {
        told.extend(stage.gateways.take());
        (0..12).all(|number| told.iter().filter(|told| told.pushkey() == format!("bob{number}")).count() == 1)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_under_way_does_not_undo_that_a_pusher_was_set_again() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", "old.test")).await.ok();
    stage.gateways.answer("old.test", Answer::Held);
    let running = Running::start(&stage);
    let event_id = stage.say("hello").await;
    until("the old gateway is called", async || !stage.gateways.held("old.test").is_empty()).await;
    set(&stage.server, &stage.bob, pusher("key", "new.test")).await.ok();
    stage.gateways.answer("old.test", Answer::Gone);
    let mut told = Vec::new();
    // The clock stands still: nothing comes of waiting for the old gateway.
    until("the new gateway is told", async || {
        told.extend(stage.gateways.take());
        !told.is_empty()
    })
    .await;
    assert_eq!((told[0].host.as_str(), told[0].event_id()), ("new.test", Some(&*event_id)));
    running.stop().await;
    let key = storage::PusherKey {
        user_id: (&*stage.bob.user_id).try_into().unwrap(),
        app_id: "org.example.app".to_owned(),
        pushkey: "key".to_owned(),
    };
    let queue = stage.server.engine.storage().pusher_queue(&key).await.unwrap().unwrap();
    assert_eq!((queue.failures, queue.retry_at_ts), (0, None));
}

#[tokio::test]
async fn a_stop_waits_for_what_ends_soon_and_gives_up_the_rest() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("quick", "quick.test")).await.ok();
    set(&stage.server, &stage.bob, pusher("slow", "slow.test")).await.ok();
    for host in ["quick.test", "slow.test"] {
        stage.gateways.answer(host, Answer::Held);
    }
    let running = Running::start(&stage);
    let event_id = stage.say("hello").await;
    until("both are called", async || {
        stage.gateways.held("quick.test").len() + stage.gateways.held("slow.test").len() == 2
    })
    .await;
    running.stop.send(()).unwrap();
    stage.gateways.answer("quick.test", Answer::Delivered);
    running.task.await.unwrap();
    assert!(stage.gateways.held("slow.test").is_empty(), "given up");
    stage.gateways.answer("slow.test", Answer::Delivered);
    let told_before: Vec<String> = stage.gateways.take().iter().map(|told| told.pushkey().to_owned()).collect();
    assert_eq!(told_before, ["quick"]);
    let told = stage.told().await;
    let told: Vec<_> = told.iter().map(|told| (told.pushkey(), told.event_id())).collect();
    assert_eq!(told, [("slow", Some(&*event_id))], "after the start; the other was written down");
}

#[tokio::test]
async fn the_log_is_noted_as_read_up_to_what_is_under_way() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", "slow.test")).await.ok();
    stage.gateways.answer("slow.test", Answer::Held);
    let running = Running::start(&stage);
    stage.say("hello").await;
    until("it is called", async || !stage.gateways.held("slow.test").is_empty()).await;
    let storage = stage.server.engine.storage();
    let begun = storage.head();
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.example.much", stage.alice.user_id);
    for number in 0..1_100 {
        stage.server.put_as(&stage.alice, &path, serde_json::json!({ "number": number })).await.ok();
    }
    // Others are told, so the loop has read that far.
    let carol = stage.server.register("carol").await;
    let room_id = super::shared_room(&stage.server, &stage.alice, &carol).await;
    set(&stage.server, &carol, pusher("carol", GATEWAY)).await.ok();
    stage.server.say(&stage.alice, &room_id, "carol", "hello, Carol").await;
    until("Carol is told", async || !stage.gateways.take().is_empty()).await;
    assert!(storage.pushers_read().await.unwrap() < begun, "after a crash it is looked at again");
    stage.gateways.answer("slow.test", Answer::Delivered);
    until("it is noted", async || storage.pushers_read().await.unwrap() > begun).await;
    running.stop().await;
}
