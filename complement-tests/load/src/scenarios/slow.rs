//! Clients that are slow: they say a byte of their request now and then.

use std::time::{Duration, Instant};

use faults::Client;
use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

use super::{Scale, shared_rooms};
use crate::{
    figures::{Figure, Latencies},
    target::Target,
};

/// Those who behave.
const SENDERS: usize = 8;
/// How often each of the slow ones says another byte.
const BYTE_EVERY: Duration = Duration::from_secs(5);
/// How they begin: half of them with a head, half with a body.
const BEGINNINGS: [&str; 2] = [
    "GET /_matrix/client/versions HTTP/1.1\r\nX-Slow: ",
    "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n",
];

/// How long those who behave wait for their messages to be taken, without the slow ones and beside them.
pub(crate) async fn clients(target: &Target, scale: Scale) -> Vec<Figure> {
    let (count, messages) = (scale.of(5_000), scale.of(1_000));
    let people = target.people(SENDERS).await;
    let room_id = shared_rooms(&people, 1).await.remove(0);
    // What is done for the first time takes longer.
    send(&people, &room_id, "warm", messages / 10).await;
    let without = send(&people, &room_id, "without", messages).await;
    let mut slow = Vec::with_capacity(count);
    for beginning in BEGINNINGS.iter().cycle().take(count) {
        let mut connection = TcpStream::connect(target.address()).await.expect("the server listens");
        connection.write_all(beginning.as_bytes()).await.expect("the server reads");
        slow.push(connection);
    }
    let talking = tokio::spawn(talk(slow));
    let beside = send(&people, &room_id, "beside", messages).await;
    talking.abort();
    let [p50_without, p99_without] = [50, 99].map(|percent| without.percentile_ms(percent));
    let [p50_beside, p99_beside] = [50, 99].map(|percent| beside.percentile_ms(percent));
    vec![
        Figure::new("p50 without them, ms", p50_without),
        Figure::new("p50 beside them, ms", p50_beside),
        Figure::new("p99 without them, ms", p99_without),
        Figure::new("p99 beside them, ms", p99_beside),
        Figure::new("times the p99", p99_beside / p99_without),
    ]
}

/// Each of these people sends one message after the other, until all are sent.
async fn send(people: &[Client], room_id: &str, phase: &str, messages: usize) -> Latencies {
    let send_some = |first: usize| async move {
        let mut latencies = Vec::new();
        for number in (first..messages).step_by(people.len()) {
            let (text, since) = (format!("{phase}-{number}"), Instant::now());
            assert!(people[first].send(room_id, &text, &text).await.is_some(), "a message was not taken");
            latencies.push(since.elapsed());
        }
        latencies
    };
    Latencies::of(join_all((0..people.len()).map(send_some)).await.into_iter().flatten())
}

/// Says a byte on each connection now and then. Those that the server has given up are none of its clients any more.
async fn talk(mut slow: Vec<TcpStream>) {
    loop {
        sleep(BYTE_EVERY).await;
        let mut kept = Vec::with_capacity(slow.len());
        for mut connection in slow.drain(..) {
            if connection.write_all(b"x").await.is_ok() {
                kept.push(connection);
            }
        }
        slow = kept;
    }
}
