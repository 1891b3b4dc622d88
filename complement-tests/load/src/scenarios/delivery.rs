//! From sending to the receivers' `/sync`.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use faults::Client;
use futures_util::future::join_all;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Scale, shared_rooms};
use crate::{
    figures::{Figure, Latencies, Meter},
    target::Target,
};

/// How long to wait for what has not arrived.
const LATE_MAX: Duration = Duration::from_secs(30);

/// A message was seen on a connection.
pub(super) struct Receipt {
    connection: usize,
    room_id: String,
    /// Which message it is: its text.
    pub(super) number: usize,
    /// When its whole answer was there.
    pub(super) at: Instant,
}

/// Connections that wait in `/sync`, again and again, until this is dropped.
pub(super) struct Listeners {
    told: mpsc::UnboundedReceiver<Receipt>,
    connections: JoinSet<()>,
}

impl Listeners {
    /// So many connections of each of these people, who know all that was before, and are `online` or `offline`.
    pub(super) async fn start(people: &[Client], each: usize, presence: &'static str) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let mut connections = JoinSet::new();
        for person in people {
            // Asked at once, so that as many connections are open, and person by person, so that the server accepts them
            // as fast as they come.
            for since in join_all((0..each).map(|_| person.now())).await {
                connections.spawn(listen(connections.len(), person.clone(), presence, since, tell.clone()));
            }
        }
        Self { told, connections }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    /// So many receipts, or fewer if no more come.
    pub(super) async fn hear(&mut self, count: usize) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(count);
        while receipts.len() < count
            && let Ok(Some(receipt)) = timeout(LATE_MAX, self.told.recv()).await
        {
            receipts.push(receipt);
        }
        receipts
    }
}

/// At a pace that leaves the server time, so that what is measured is the way and not a queue.
pub(crate) async fn delivery(target: &Target, scale: Scale) -> Vec<Figure> {
    let people = target.people(20).await;
    let rooms = shared_rooms(&people, 10).await;
    deliver(target, &people, &rooms, scale.of(100), Some(Duration::from_millis(200))).await
}

/// As fast as one sender goes.
pub(crate) async fn fan_out(target: &Target, scale: Scale) -> Vec<Figure> {
    let people = target.people(scale.of(100)).await;
    let rooms = shared_rooms(&people, 1).await;
    deliver(target, &people, &rooms, scale.of(100), None).await
}

async fn deliver(
    target: &Target,
    people: &[Client],
    rooms: &[String],
    messages: usize,
    pace: Option<Duration>,
) -> Vec<Figure> {
    let mut listeners = Listeners::start(people, 1, "online").await;
    let meter = Meter::start(target);
    let mut sent = Vec::with_capacity(messages);
    for number in 0..messages {
        let (person, room_id) = (&people[number % people.len()], &rooms[number % rooms.len()]);
        sent.push(Instant::now());
        let done = person.send(room_id, &format!("deliver-{number}"), &number.to_string()).await;
        assert!(done.is_some(), "a message was not taken");
        if let Some(pace) = pace {
            tokio::time::sleep(pace.saturating_sub(sent[number].elapsed())).await;
        }
    }
    let receipts = listeners.hear(messages * people.len()).await;
    let [deliveries, each] = meter.figures("deliveries/s", receipts.len());
    let [_, per_message] = meter.figures("messages/s", messages);
    let mut figures: Vec<Figure> = if pace.is_none() { vec![deliveries, each] } else { vec![per_message] };
    figures.extend(Latencies::of(receipts.iter().map(|receipt| receipt.at - sent[receipt.number])).figures());
    figures.extend(faults_of(&receipts, messages * people.len()));
    figures
}

/// Waits in `/sync`, again and again, and tells of each message.
async fn listen(
    connection: usize,
    person: Client,
    presence: &'static str,
    mut since: String,
    tell: mpsc::UnboundedSender<Receipt>,
) {
    loop {
        let path = format!("/_matrix/client/v3/sync?timeout=30000&set_presence={presence}&since={since}");
        let answer = person.get(&path).await;
        let at = Instant::now();
        for (room_id, room) in answer["rooms"]["join"].as_object().into_iter().flatten() {
            for event in room["timeline"]["events"].as_array().into_iter().flatten() {
                let body = event["content"]["body"].as_str().and_then(|body| body.parse().ok());
                let Some(number) = body else { continue };
                // Nobody listens any more once all has arrived.
                tell.send(Receipt { connection, room_id: room_id.clone(), number, at }).ok();
            }
        }
        answer["next_batch"].as_str().expect("a sync has a token").clone_into(&mut since);
    }
}

/// What was lost, doubled, or told in another order than it was sent in, for each connection and room.
pub(super) fn faults_of(receipts: &[Receipt], expected: usize) -> [Figure; 3] {
    let mut seen = HashSet::new();
    let mut last = std::collections::HashMap::new();
    let (mut doubled, mut disordered) = (0, 0);
    for receipt in receipts {
        if !seen.insert((receipt.connection, receipt.number)) {
            doubled += 1;
        }
        let before = last.insert((receipt.connection, &receipt.room_id), receipt.number);
        disordered += usize::from(before.is_some_and(|before| before > receipt.number));
    }
    [
        Figure::count("lost", expected - seen.len()),
        Figure::count("doubled", doubled),
        Figure::count("out of order", disordered),
    ]
}
