//! Servers that do not answer, refuse, or come back.

use std::sync::Mutex;

use super::*;
use crate::support::{DAY_MS, error, status, unreachable};

#[tokio::test]
async fn a_failing_server_is_tried_less_and_less() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(1).await;
    let mut waits = Vec::new();
    for attempt in 1..=10 {
        assert_eq!(room.flush().await, FlushOutcome::Failed);
        assert_eq!(room.bench.wire.count(), attempt);
        let FlushOutcome::BackingOff { until_ms } = room.flush().await else { panic!("no pause") };
        assert_eq!(room.bench.wire.count(), attempt, "nothing is sent during the pause");
        waits.push(until_ms - room.bench.now_ms());
        room.bench.clock.advance(until_ms - room.bench.now_ms());
    }
    for (index, wait_ms) in waits.iter().enumerate() {
        let middle = (1_000_u64 << index).min(60_000);
        assert!((middle * 3 / 4..=middle * 5 / 4).contains(wait_ms), "{index}: {waits:?}");
    }
    let destination = room.bench.storage.destination(there()).await.unwrap();
    assert_eq!((destination.failures, destination.failing_since_ts), (10, Some(START_MS)));
    room.bench.wire.set(|_, _| ok(&json!({})));
    assert!(matches!(room.flush().await, FlushOutcome::Sent { .. }));
    let destination = room.bench.storage.destination(there()).await.unwrap();
    assert_eq!((destination.failures, destination.failing_since_ts, destination.retry_at_ts), (0, None, None));
}

#[tokio::test]
async fn r_21_what_was_in_flight_is_sent_again_under_the_same_id() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(3).await;
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    // More happens meanwhile, and the server is restarted.
    room.send(3).await;
    room.bench.clock.advance(DAY_MS);
    room.bench.wire.set(|_, _| ok(&json!({})));
    room.sender = Sender::new(room.bench.restarted(), OPTIONS);
    assert_eq!(room.flush().await, SENT_MORE);
    assert_eq!(room.flush().await, SENT);
    let sent = room.transactions();
    assert_eq!(sent[0].target, sent[1].target);
    assert_ne!(sent[1].target, sent[2].target);
    assert_eq!(sent[0].json()["pdus"], sent[1].json()["pdus"]);
    assert_eq!(bodies(&sent[1]), [2, 3, 4]);
    assert_eq!(bodies(&sent[2]), [5, 6, 7]);
}

#[tokio::test]
async fn what_is_in_flight_is_stored_before_it_is_sent() {
    let room = Arc::new(tokio::sync::Mutex::new(None::<storage::Storage>));
    let mut setup = Room::there(accepting()).await;
    let position = setup.send(1).await;
    *room.lock().await = Some(setup.bench.storage.clone());
    // The attempt is given up in the middle, as when the process is killed.
    let flushing = setup.sender.flush(there());
    tokio::select! {
        biased;
        outcome = flushing => panic!("the wire was too fast: {outcome:?}"),
        () = until_sent(&setup.bench.wire) => {}
    }
    let destination = setup.bench.storage.destination(there()).await.unwrap();
    let (id, until) = destination.in_flight.unwrap();
    assert_eq!(until, position);
    assert!(setup.transactions()[0].target.ends_with(&id));
}

async fn until_sent(wire: &Wire) {
    while wire.count() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn contact_ends_the_pause() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(1).await;
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    assert!(matches!(room.flush().await, FlushOutcome::BackingOff { .. }));
    room.sender.contact(server_name!("else.test")).await;
    assert!(matches!(room.flush().await, FlushOutcome::BackingOff { .. }));
    room.sender.contact(there()).await;
    room.bench.wire.set(|_, _| ok(&json!({})));
    assert_eq!(room.flush().await, SENT_MORE);
    assert_eq!(bodies(&room.transactions()[1]), [2]);
}

#[tokio::test]
async fn contact_during_an_attempt_that_fails_ends_the_pause_after_it() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(1).await;
    for attempt in 1..=3 {
        let contact = async {
            while room.bench.wire.count() < attempt {
                tokio::task::yield_now().await;
            }
            room.sender.contact(there()).await;
        };
        let (outcome, ()) = tokio::join!(room.sender.flush(there()), contact);
        assert_eq!(outcome.unwrap(), FlushOutcome::Failed);
        assert!(!room.sender.is_failing(there()), "after attempt {attempt}");
    }
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    assert!(matches!(room.flush().await, FlushOutcome::BackingOff { .. }), "the contact counts once");
}

#[tokio::test]
async fn nobody_types_at_a_server_that_is_gone() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(1).await;
    room.sender.queue_ephemeral(vec![there().to_owned()], "a".to_owned(), typing(1));
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    room.sender.queue_ephemeral(vec![there().to_owned()], "b".to_owned(), typing(2));
    room.bench.clock.advance(DAY_MS);
    room.bench.wire.set(|_, _| ok(&json!({})));
    room.flush_all(5).await;
    assert!(room.transactions().iter().skip(1).all(|sent| sent.json()["edus"] == json!([])));
}

#[tokio::test]
async fn s_075_r_24_an_item_that_is_refused_is_left_out() {
    let mut room = Room::there(Wire::new(|_, request| {
        let text = std::str::from_utf8(request.body()).unwrap();
        if text.contains(r#""body":"30""#) { error(400, "M_BAD_JSON") } else { ok(&json!({})) }
    }))
    .await;
    room.send(100).await;
    room.flush_all(30).await;
    let delivered: Vec<u64> =
        room.transactions().iter().filter(|sent| !bodies(sent).contains(&30)).flat_map(bodies).collect();
    assert_eq!(delivered, (2..=101).filter(|number| *number != 30).collect::<Vec<_>>());
    let destination = room.bench.storage.destination(there()).await.unwrap();
    assert_eq!((destination.failures, destination.retry_at_ts), (0, None), "nobody had to wait");
    let targets: std::collections::HashSet<_> = room.transactions().into_iter().map(|sent| sent.target).collect();
    assert_eq!(targets.len(), room.bench.wire.count(), "other content, other id");
    assert!(room.bench.wire.count() <= 20, "found within {} tries", room.bench.wire.count());
}

#[tokio::test]
async fn s_075_a_refused_receipt_is_left_out_too() {
    let mut room = Room::there(Wire::new(|_, request| {
        let text = std::str::from_utf8(request.body()).unwrap();
        if text.contains("@bad:here.test") { error(413, "M_TOO_LARGE") } else { ok(&json!({})) }
    }))
    .await;
    room.send(3).await;
    room.receipt("@bad:here.test", None, "$x").await;
    room.receipt("@good:here.test", None, "$x").await;
    room.send(3).await;
    room.flush_all(20).await;
    let accepted: Vec<_> =
        room.transactions().into_iter().filter(|sent| !sent.json().to_string().contains("@bad")).collect();
    assert_eq!(accepted.iter().flat_map(bodies).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    assert!(accepted.iter().any(|sent| sent.json().to_string().contains("@good")));
}

#[tokio::test]
async fn s_075_a_server_that_refuses_everything_loses_little_and_is_not_hammered() {
    let mut room = Room::there(Wire::new(|_, _| error(400, "M_UNKNOWN"))).await;
    room.send(50).await;
    let mut failures = 0;
    while !matches!(room.flush().await, FlushOutcome::BackingOff { .. }) {
        failures += 1;
        assert!(failures < 20);
    }
    room.bench.wire.set(|_, _| ok(&json!({})));
    room.bench.clock.advance(DAY_MS);
    let refused = room.bench.wire.count();
    room.flush_all(30).await;
    let delivered: Vec<u64> = room.transactions().iter().skip(refused).flat_map(bodies).collect();
    assert_eq!(delivered, (5..=51).collect::<Vec<_>>(), "three were given up");
}

#[tokio::test]
async fn refusals_that_are_not_about_the_content_are_waited_out() {
    for answer in [
        || error(401, "M_UNAUTHORIZED"),
        || error(403, "M_FORBIDDEN"),
        || error(404, "M_UNRECOGNIZED"),
        || error(429, "M_LIMIT_EXCEEDED"),
        || error(500, "M_UNKNOWN"),
        || status(502, &"Bad Gateway"),
        || status(400, &"a proxy says no"),
        || status(302, &""),
        || Err(unreachable()),
    ] {
        let answer = Mutex::new(answer);
        let mut room = Room::there(Wire::new(move |_, _| (answer.lock().unwrap())())).await;
        room.send(2).await;
        assert_eq!(room.flush().await, FlushOutcome::Failed);
        assert!(matches!(room.flush().await, FlushOutcome::BackingOff { .. }));
        room.bench.wire.set(|_, _| ok(&json!({})));
        room.bench.clock.advance(DAY_MS);
        room.flush_all(3).await;
        assert_eq!(bodies(&room.transactions()[1]), [2, 3], "nothing is lost");
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_answer() {
    for body in ["", "<html>", "[]", r#"{"pdus": 5}"#] {
        let mut room =
            Room::there(Wire::new(move |_, _| Ok(http::Response::new(bytes::Bytes::from_static(body.as_bytes())))))
                .await;
        room.send(1).await;
        assert_eq!(room.flush().await, SENT, "{body}");
    }
}

#[tokio::test]
async fn a_transaction_that_may_have_arrived_takes_nothing_new_along() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(1).await;
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    room.sender.contact(there()).await;
    room.sender.queue_ephemeral(vec![there().to_owned()], "a".to_owned(), typing(1));
    room.bench.wire.set(|_, _| ok(&json!({})));
    assert_eq!([room.flush().await, room.flush().await], [SENT_MORE, SENT]);
    let edus: Vec<usize> =
        room.transactions().iter().map(|sent| sent.json()["edus"].as_array().unwrap().len()).collect();
    assert_eq!(edus, [0, 0, 1]);
}

#[tokio::test]
async fn r_20_after_six_hours_everything_is_there_in_order() {
    let mut room = Room::there(Wire::dead()).await;
    let end_ms = room.bench.now_ms() + DAY_MS / 4;
    let mut attempts = 0;
    while room.bench.now_ms() < end_ms {
        room.send(1).await;
        let (servers, number) = (vec![there().to_owned()], room.events);
        let content = serde_json::value::to_raw_value(&json!({ "n": number })).unwrap();
        room.commit(vec![Change::Edu { servers, edu_type: "m.direct_to_device".to_owned(), content }]).await;
        attempts += usize::from(room.flush().await == FlushOutcome::Failed);
        room.bench.clock.advance(5 * 60_000);
    }
    // The longest pause of this test is about a minute: it is tried each time, and the first is not lost among the rest.
    assert_eq!(attempts, 72);
    let sent = u64::try_from(room.bench.wire.count()).unwrap();
    room.bench.wire.set(|_, _| ok(&json!({})));
    room.sender.contact(there()).await;
    room.flush_all(30).await;
    let transactions: Vec<Sent> = room.transactions().split_off(usize::try_from(sent).unwrap());
    let expected: Vec<u64> = (2..=room.events).collect();
    assert_eq!(transactions.iter().flat_map(bodies).collect::<Vec<_>>(), expected);
    let numbers = |sent: &Sent| -> Vec<u64> {
        let json = sent.json();
        json["edus"].as_array().unwrap().iter().map(|edu| edu["content"]["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(transactions.iter().flat_map(numbers).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn after_a_long_absence_only_what_is_latest_is_sent_of_events() {
    let mut room = Room::there(Wire::dead()).await;
    room.send(3).await;
    assert_eq!(room.flush().await, FlushOutcome::Failed);
    room.send(200).await;
    for number in 0..3 {
        let servers = vec![there().to_owned()];
        let content = serde_json::value::to_raw_value(&json!({ "n": number })).unwrap();
        room.commit(vec![Change::Edu { servers, edu_type: "m.direct_to_device".to_owned(), content }]).await;
    }
    room.bench.clock.advance(4 * DAY_MS);
    room.bench.wire.set(|_, _| ok(&json!({})));
    room.flush_all(4).await;
    let transactions = room.transactions().split_off(1);
    // What was in flight, then what is latest, with all that nobody could find out otherwise.
    assert_eq!(transactions.iter().map(bodies).collect::<Vec<_>>(), [vec![2, 3, 4], vec![204]]);
    assert_eq!(transactions[1].json()["edus"].as_array().unwrap().len(), 3);
    // From then on it is told everything again.
    room.send(2).await;
    room.flush_all(2).await;
    assert_eq!(bodies(room.transactions().last().unwrap()), [205, 206]);
    assert_eq!(room.bench.storage.destination(there()).await.unwrap().cursor, room.bench.storage.head());
}

#[tokio::test]
async fn one_transaction_at_a_time_is_on_its_way() {
    let mut room = Room::there(accepting()).await;
    room.send(120).await;
    let (one, two, three) = tokio::join!(room.flush(), room.flush(), room.flush());
    assert_eq!([one, two, three], [SENT_MORE, SENT_MORE, SENT]);
    let all: Vec<u64> = room.transactions().iter().flat_map(bodies).collect();
    assert_eq!(all, (2..=121).collect::<Vec<_>>(), "nothing twice, nothing out of order");
}
