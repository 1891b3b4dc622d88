//! What a sync costs does not grow with the number of the user's rooms. What is counted is how often the database is
//! read and how many rooms are considered, which does not depend on how busy the machine is.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use engine::{Extensions, List, Requester, RoomDetails, RoomExtension, SlidingQuery, SlidingResponse, Switch};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use ruma::OwnedRoomId;
use serde_json::json;

use crate::stage::{Stage, query, token};

/// More than are read at once anywhere.
const MANY_ROOMS: usize = 120;
/// How often each is measured. The least counts, for other tasks of the server may read meanwhile.
const ROUNDS: usize = 8;
/// What a connection may keep in memory while it waits, in bytes.
const WAITING_BYTES_MAX: usize = 3 * 1024;

/// Somebody in so many rooms, of which one has another member.
struct Account {
    stage: Stage,
    reader: Requester,
    writer: Requester,
    shared: OwnedRoomId,
    considered: Arc<AtomicU64>,
}

/// How often the database was read for an answer, and how many rooms were considered.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    nothing_new: (u64, u64),
    one_message: (u64, u64),
}

impl Cost {
    const UNKNOWN: Self = Self { nothing_new: (u64::MAX, u64::MAX), one_message: (u64::MAX, u64::MAX) };
}

/// Counts the rooms that are considered.
#[derive(Default)]
struct Considered(Arc<AtomicU64>);

impl Recorder for Considered {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "sync_rooms_considered_total" { Counter::from_arc(self.0.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Account {
    async fn new(rooms: usize, considered: Arc<AtomicU64>) -> Self {
        let stage = Stage::new().await;
        let (reader, writer) = (stage.user("reader").await, stage.user("writer").await);
        let mut shared = None;
        for _ in 0..rooms {
            shared = Some(stage.room(&reader, "shared").await);
        }
        let shared = shared.unwrap();
        stage.join(&writer, &shared).await;
        stage.send(&writer, &shared, "first").await;
        Self { stage, reader, writer, shared, considered }
    }

    fn spent(&self) -> (u64, u64) {
        (self.stage.engine.storage().reads(), self.considered.load(Ordering::Relaxed))
    }

    /// What was spent since, or what was spent before if that is less.
    fn least(&self, since: (u64, u64), least: (u64, u64)) -> (u64, u64) {
        let now = self.spent();
        (least.0.min(now.0 - since.0), least.1.min(now.1 - since.1))
    }

    async fn classic(&self) -> Cost {
        let mut since = token(&self.stage.sync(&self.reader, None).await);
        let mut cost = Cost::UNKNOWN;
        for _ in 0..ROUNDS {
            let before = self.spent();
            since = token(&self.stage.sync(&self.reader, Some(&since)).await);
            cost.nothing_new = self.least(before, cost.nothing_new);
            self.stage.send(&self.writer, &self.shared, "hello").await;
            let before = self.spent();
            let answer = self.stage.sync(&self.reader, Some(&since)).await;
            cost.one_message = self.least(before, cost.one_message);
            assert_eq!(answer["rooms"]["join"].as_object().unwrap().len(), 1, "{answer}");
            since = token(&answer);
        }
        cost
    }

    async fn slide(&self, pos: Option<String>) -> SlidingResponse {
        // All rooms are in the window, as with a client that was open for a while.
        let details = RoomDetails {
            required_state: vec![
                ("m.room.member".to_owned(), "$LAZY".to_owned()),
                ("m.room.name".to_owned(), String::new()),
            ],
            timeline_limit: 1,
        };
        let list = List { ranges: vec![(0, 9_999)], details, ..List::default() };
        let on = || RoomExtension { enabled: true, ..RoomExtension::default() };
        let extensions = Extensions {
            account_data: on(),
            receipts: on(),
            typing: on(),
            e2ee: Switch { enabled: true },
            ..Extensions::default()
        };
        let query =
            SlidingQuery { pos, lists: [("all".to_owned(), list)].into(), extensions, ..SlidingQuery::default() };
        self.stage.engine.sliding_sync(&self.reader, &query).await.unwrap()
    }

    async fn sliding(&self) -> Cost {
        let mut pos = self.slide(None).await.pos;
        let mut cost = Cost::UNKNOWN;
        for _ in 0..ROUNDS {
            let before = self.spent();
            let answer = self.slide(Some(pos)).await;
            cost.nothing_new = self.least(before, cost.nothing_new);
            assert!(answer.rooms.is_empty());
            self.stage.send(&self.writer, &self.shared, "hello").await;
            let before = self.spent();
            let answer = self.slide(Some(answer.pos)).await;
            cost.one_message = self.least(before, cost.one_message);
            assert_eq!(answer.rooms.keys().collect::<Vec<_>>(), [&self.shared]);
            pos = answer.pos;
        }
        cost
    }
}

#[test]
fn a_sync_costs_the_same_in_few_rooms_and_in_many() {
    let recorder = Considered::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let measured = async {
        let few = Account::new(3, recorder.0.clone()).await;
        let (classic, sliding) = (few.classic().await, few.sliding().await);
        drop(few);
        let many = Account::new(MANY_ROOMS, recorder.0.clone()).await;
        assert_eq!(many.classic().await, classic);
        assert_eq!(many.sliding().await, sliding);
        (classic, sliding)
    };
    let (classic, sliding) = metrics::with_local_recorder(&recorder, || runtime.block_on(measured));
    for cost in [&classic, &sliding] {
        let ((reads, considered), (_, of_one)) = (cost.nothing_new, cost.one_message);
        assert!(reads <= 2 && considered == 0 && (1..=3).contains(&of_one), "{classic:?} {sliding:?}");
    }
}

#[tokio::test]
async fn who_waits_keeps_little_in_memory() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let since = token(&stage.sync(&alice, None).await);
    let query = query(Some(&since), &json!({}));
    let classic = stage.engine.sync(&alice, &query);
    assert!(size_of_val(&classic) < WAITING_BYTES_MAX, "{}", size_of_val(&classic));
    let query = SlidingQuery::default();
    let sliding = stage.engine.sliding_sync(&alice, &query);
    assert!(size_of_val(&sliding) < WAITING_BYTES_MAX, "{}", size_of_val(&sliding));
}
