//! The loop that follows the log.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;
use crate::support::unreachable;

/// Runs the sender beside a test.
fn run(sender: &Sender) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(sender.clone().run(async {
        stopped.await.ok();
    }));
    (stop, running)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    until_async(what, async || done()).await;
}

async fn until_async(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..12_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

fn delivered(room: &Room) -> Vec<u64> {
    room.transactions().iter().flat_map(bodies).collect()
}

#[tokio::test]
async fn new_events_are_delivered_without_being_asked_to() {
    let other = server_name!("other.test");
    let mut room = Room::with(&[there(), other], accepting()).await;
    let (stop, running) = run(&room.sender);
    for round in 1..=5 {
        room.send(1).await;
        until("both have it", || room.bench.wire.count() >= 2 * round).await;
    }
    for server in [there(), other] {
        let sent: Vec<_> = room.transactions().into_iter().filter(|sent| sent.destination == server).collect();
        assert_eq!(sent.iter().flat_map(bodies).collect::<Vec<_>>(), [2, 3, 4, 5, 6], "{server}");
    }
    room.sender.queue_ephemeral(vec![there().to_owned()], "a".to_owned(), typing(1));
    until("typing arrives", || room.bench.wire.count() >= 11).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(room.transactions().iter().all(|sent| sent.destination != here()));
}

#[tokio::test]
async fn what_was_left_is_delivered_at_the_start() {
    let mut room = Room::there(accepting()).await;
    room.send(60).await;
    let (_stop, _running) = run(&room.sender);
    until("all is delivered", || delivered(&room).len() >= 60).await;
    assert_eq!(delivered(&room), (2..=61).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_comes_back_is_sent_what_it_missed() {
    let mut room = Room::there(Wire::dead()).await;
    let (_stop, _running) = run(&room.sender);
    room.send(3).await;
    until_async("the failure is written down", async || {
        room.bench.storage.destination(there()).await.unwrap().failures > 0
    })
    .await;
    room.send(3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(room.bench.wire.count(), 1, "news do not end the pause");
    room.bench.wire.set(|_, _| ok(&json!({})));
    // A contact in the very moment in which the pause is looked up ends nothing; the next one does.
    until_async("all is delivered", async || {
        room.sender.contact(there()).await;
        delivered(&room).contains(&7)
    })
    .await;
    let mut after: Vec<u64> = room.transactions().iter().skip(1).flat_map(bodies).collect();
    after.dedup();
    assert_eq!(after, [2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_pause_ends_by_itself() {
    // That something was sent does not say that it was answered: the first answer is a failure by its number, not by when
    // the test sees what was sent.
    let answers = AtomicUsize::new(0);
    let wire = Wire::new(
        move |_, _| {
            if answers.fetch_add(1, Ordering::SeqCst) == 0 { Err(unreachable()) } else { ok(&json!({})) }
        },
    );
    let mut room = Room::there(wire).await;
    let (_stop, _running) = run(&room.sender);
    room.send(1).await;
    until("it was tried", || room.bench.wire.count() >= 1).await;
    // The loop sleeps for at most the pause that it read from the clock, which is about a second, and begins when the
    // failure is written down.
    until("it was tried again", || {
        room.bench.clock.advance(1_000);
        room.bench.wire.count() >= 2
    })
    .await;
    assert_eq!(bodies(&room.transactions()[1]), [2]);
}

#[tokio::test]
async fn a_pause_outlives_a_restart() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(1).await;
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    let sender = Sender::new(room.bench.restarted(), OPTIONS);
    let (_stop, _running) = run(&sender);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(room.bench.wire.count(), 1);
    sender.contact(there()).await;
    until("contact ends it", || room.bench.wire.count() >= 2).await;
}

#[tokio::test]
async fn s_096_black_holes_do_not_delay_the_others() {
    let names: Vec<OwnedServerName> =
        (0..100).map(|index| ServerName::parse(format!("hole{index}.test")).unwrap()).collect();
    let servers: Vec<&ServerName> = names.iter().map(|name| &**name).chain([there()]).collect();
    let in_flight = Arc::new(AtomicUsize::new(0));
    let mut room = Room::with(&servers, Wire::new(|_, _| Err(unreachable()))).await;
    let most = Arc::clone(&in_flight);
    room.bench.wire.set(move |destination, _| {
        most.fetch_add(1, Ordering::SeqCst);
        if destination == there() { ok(&json!({})) } else { Err(unreachable()) }
    });
    let (_stop, _running) = run(&room.sender);
    room.send(1).await;
    until("everybody was tried", || in_flight.load(Ordering::SeqCst) >= 101).await;
    for number in 3..=5 {
        room.send(1).await;
        until("the one that is up has it", || {
            let sent = room.transactions();
            sent.iter().any(|sent| sent.destination == there() && bodies(sent).contains(&number))
        })
        .await;
    }
    let holes = room.transactions().iter().filter(|sent| sent.destination != there()).count();
    assert_eq!(holes, 100, "those that are failing are not tried at each event");
}

#[tokio::test]
async fn s_096_servers_that_never_answer_do_not_hold_up_those_that_do() {
    let names: Vec<OwnedServerName> =
        (0..20).map(|index| ServerName::parse(format!("hole{index}.test")).unwrap()).collect();
    let servers: Vec<&ServerName> = names.iter().map(|name| &**name).chain([there()]).collect();
    let mut room = Room::with(&servers, accepting()).await;
    room.bench.wire.swallow(|name| name.as_str().starts_with("hole"));
    let (_stop, _running) = run(&room.sender);
    room.send(1).await;
    until("all workers have begun", || room.bench.wire.count() >= OPTIONS.workers_max).await;
    // No time has passed: what was begun may yet end.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(room.bench.wire.count() <= OPTIONS.workers_max + 1);
    until("the one that is up has it", || {
        room.bench.clock.advance(1_000);
        // Has the loop look at the clock.
        room.sender.queue_ephemeral(vec![names[0].clone()], "a".to_owned(), typing(1));
        room.transactions().iter().any(|sent| sent.destination == there())
    })
    .await;
    assert!(room.bench.wire.count() <= 21, "each is being sent to once");
}

#[tokio::test]
async fn r_34_servers_that_never_answer_leave_connections_to_other_calls() {
    const CONNECTIONS: usize = 32;
    let names: Vec<OwnedServerName> =
        (0..60).map(|index| ServerName::parse(format!("hole{index}.test")).unwrap()).collect();
    let servers: Vec<&ServerName> = names.iter().map(|name| &**name).collect();
    let mut room = Room::with(&servers, accepting()).await;
    room.bench.wire.swallow(|_| true);
    room.send(1).await;
    let options = SenderOptions { workers_max: 256, ..OPTIONS }.within(CONNECTIONS);
    let sender = Sender::new(room.bench.federation.clone(), options);
    let (_stop, _running) = run(&sender);
    let mut rounds_after = 0;
    until("others had their turn as well", || {
        room.bench.clock.advance(1_000);
        // Has the loop look at the clock.
        sender.queue_ephemeral(vec![names[0].clone()], "a".to_owned(), typing(1));
        rounds_after += usize::from(room.bench.wire.count() > OPTIONS.workers_max);
        rounds_after > 20
    })
    .await;
    let taken = room.bench.wire.count();
    assert!(taken <= CONNECTIONS * 3 / 4, "{taken} connections");
}

#[tokio::test]
async fn what_was_failing_before_a_restart_is_in_no_other_s_way_after_it() {
    let names: Vec<OwnedServerName> =
        (0..20).map(|index| ServerName::parse(format!("hole{index}.test")).unwrap()).collect();
    let servers: Vec<&ServerName> = names.iter().map(|name| &**name).chain([there()]).collect();
    let mut room = Room::with(&servers, Wire::dead()).await;
    room.send(1).await;
    for server in &servers {
        assert_eq!(room.sender.flush(server).await.unwrap(), FlushOutcome::Failed);
    }
    room.bench.storage.save_destination(&storage::Destination::new(there().to_owned())).await.unwrap();
    // Their pauses are over, and from now on they do not even refuse.
    room.bench.clock.advance(60_000);
    room.bench.wire.set(|_, _| ok(&json!({})));
    room.bench.wire.swallow(|name| name.as_str().starts_with("hole"));
    let (before, sender) = (room.bench.wire.count(), Sender::new(room.bench.restarted(), OPTIONS));
    let (_stop, _running) = run(&sender);
    until("the one that is up has it", || room.transactions()[before..].iter().any(|sent| sent.destination == there()))
        .await;
    let holes = room.transactions()[before..].iter().filter(|sent| sent.destination != there()).count();
    assert!(holes <= OPTIONS.workers_max / 4, "{holes} at the same time");
}

/// How many servers there are in the room of the test below: 10,000 take minutes.
fn destinations() -> u32 {
    std::env::var("NUDGE_TEST_DESTINATIONS").map_or(1_000, |count| count.parse().expect("a number of servers"))
}

/// What arrived where.
#[derive(Default)]
struct Arrived {
    dead: AtomicUsize,
    live: AtomicUsize,
}

#[tokio::test]
async fn r_25_a_third_of_all_servers_being_dead_costs_the_others_nothing() {
    const MESSAGES: usize = 3;
    let count = destinations();
    let names: Vec<OwnedServerName> =
        (0..count).map(|index| ServerName::parse(format!("server{index}.test")).unwrap()).collect();
    let servers: Vec<&ServerName> = names.iter().map(|name| &**name).collect();
    let is_dead = |name: &ServerName| name.as_str().trim_end_matches(".test").ends_with(['1', '2', '3']);
    let arrived = Arc::new(Arrived::default());
    let counted = Arc::clone(&arrived);
    let wire = Wire::new(move |destination, _| {
        let (of_kind, answer) =
            if is_dead(destination) { (&counted.dead, Err(unreachable())) } else { (&counted.live, ok(&json!({}))) };
        of_kind.fetch_add(1, Ordering::SeqCst);
        answer
    });
    let mut room = Room::with(&servers, wire).await;
    let (_stop, _running) = run(&room.sender);
    let live = names.iter().filter(|name| !is_dead(name)).count();
    let dead = names.len() - live;
    for number in 1..=MESSAGES {
        let started = std::time::Instant::now();
        room.send(1).await;
        // With as much patience for each thousand of servers as others have for one.
        for _ in 0..count.div_ceil(1_000) {
            for _ in 0..12_000 {
                let all =
                    arrived.live.load(Ordering::SeqCst) == number * live && arrived.dead.load(Ordering::SeqCst) == dead;
                if all {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        println!("message {number} to {count} servers: {:?}", started.elapsed());
    }
    assert_eq!(arrived.live.load(Ordering::SeqCst), MESSAGES * live, "those that are up have all");
    // Time stands still: each of the dead was tried once, each of the others was sent each message once.
    assert_eq!(arrived.dead.load(Ordering::SeqCst), dead);
    assert_eq!(room.bench.wire.count(), dead + MESSAGES * live);
    let bodies: Vec<u64> =
        room.transactions().iter().filter(|sent| sent.destination == names[0]).flat_map(bodies).collect();
    assert_eq!(bodies, [2, 3, 4]);
}
