//! Sending, as fast as it goes.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use super::shared_rooms;
use crate::{
    figures::{Figure, Latencies, Meter},
    target::Target,
};

/// How many of what.
pub(crate) struct Size {
    pub(crate) users: usize,
    pub(crate) rooms: usize,
    pub(crate) at_once: usize,
    pub(crate) messages: usize,
}

/// Each of `at_once` senders takes the next message, user and room until all are sent.
pub(crate) async fn send(target: &Target, size: Size) -> Vec<Figure> {
    let people = target.people(size.users).await;
    let rooms = shared_rooms(&people, size.rooms).await;
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let sender = async || {
        let mut latencies: Vec<Duration> = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= size.messages {
                return latencies;
            }
            let (person, room_id) = (&people[number % people.len()], &rooms[number % rooms.len()]);
            let since = Instant::now();
            match person
                .send(room_id, &format!("send-{number}"), &format!("this is message number {number} of many"))
                .await
            {
                Some(_) => latencies.push(since.elapsed()),
                None => drop(failed.fetch_add(1, Ordering::Relaxed)),
            }
        }
    };
    let meter = Meter::start(target);
    let latencies = join_all((0..size.at_once).map(|_| sender())).await;
    let mut figures: Vec<Figure> = meter.figures("messages/s", size.messages).into();
    figures.extend(Latencies::of(latencies.into_iter().flatten()).figures());
    figures.push(Figure::count("failed", failed.into_inner()));
    figures
}
