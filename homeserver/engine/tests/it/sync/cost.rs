//! What a sync costs does not grow with the number of the user's rooms. What is counted is how often the database is
//! read, which does not depend on how busy the machine is.

use engine::{Extensions, List, Requester, RoomDetails, RoomExtension, SlidingQuery, SlidingResponse, Switch};
use ruma::OwnedRoomId;
use serde_json::json;

use crate::stage::{Stage, query, token};

/// More than are read at once anywhere.
const MANY_ROOMS: usize = 120;
/// How often each is measured. The least counts, for other tasks of the server may read meanwhile.
const ROUNDS: usize = 8;
/// What a connection may keep in memory while it waits, in bytes.
const WAITING_BYTES_MAX: usize = 8 * 1024;

/// Somebody in so many rooms, of which one has another member.
struct Account {
    stage: Stage,
    reader: Requester,
    writer: Requester,
    shared: OwnedRoomId,
}

/// How often the database was read for an answer.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    nothing_new: u64,
    one_message: u64,
}

impl Account {
    async fn new(rooms: usize) -> Self {
        let stage = Stage::new().await;
        let (reader, writer) = (stage.user("reader").await, stage.user("writer").await);
        let mut shared = None;
        for _ in 0..rooms {
            shared = Some(stage.room(&reader, "shared").await);
        }
        let shared = shared.unwrap();
        stage.join(&writer, &shared).await;
        stage.send(&writer, &shared, "first").await;
        Self { stage, reader, writer, shared }
    }

    fn reads(&self) -> u64 {
        self.stage.engine.storage().reads()
    }

    async fn classic(&self) -> Cost {
        let mut since = token(&self.stage.sync(&self.reader, None).await);
        let mut cost = Cost { nothing_new: u64::MAX, one_message: u64::MAX };
        for _ in 0..ROUNDS {
            let before = self.reads();
            since = token(&self.stage.sync(&self.reader, Some(&since)).await);
            cost.nothing_new = cost.nothing_new.min(self.reads() - before);
            self.stage.send(&self.writer, &self.shared, "hello").await;
            let before = self.reads();
            let answer = self.stage.sync(&self.reader, Some(&since)).await;
            cost.one_message = cost.one_message.min(self.reads() - before);
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
        self.stage.engine.sliding_sync(&self.reader, query).await.unwrap()
    }

    async fn sliding(&self) -> Cost {
        let mut pos = self.slide(None).await.pos;
        let mut cost = Cost { nothing_new: u64::MAX, one_message: u64::MAX };
        for _ in 0..ROUNDS {
            let before = self.reads();
            let answer = self.slide(Some(pos)).await;
            cost.nothing_new = cost.nothing_new.min(self.reads() - before);
            assert!(answer.rooms.is_empty());
            self.stage.send(&self.writer, &self.shared, "hello").await;
            let before = self.reads();
            let answer = self.slide(Some(answer.pos)).await;
            cost.one_message = cost.one_message.min(self.reads() - before);
            assert_eq!(answer.rooms.keys().collect::<Vec<_>>(), [&self.shared]);
            pos = answer.pos;
        }
        cost
    }
}

#[tokio::test]
async fn a_sync_costs_the_same_in_few_rooms_and_in_many() {
    let (few, many) = (Account::new(2).await, Account::new(MANY_ROOMS).await);
    let classic = (few.classic().await, many.classic().await);
    assert_eq!(classic.0, classic.1);
    assert!(classic.0.nothing_new <= 2, "{classic:?}");
    let sliding = (few.sliding().await, many.sliding().await);
    assert_eq!(sliding.0, sliding.1);
    assert!(sliding.0.nothing_new <= 2, "{sliding:?}");
}

#[tokio::test]
async fn who_waits_keeps_little_in_memory() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let since = token(&stage.sync(&alice, None).await);
    let classic = stage.engine.sync(&alice, query(Some(&since), &json!({})));
    assert!(size_of_val(&classic) < WAITING_BYTES_MAX, "{}", size_of_val(&classic));
    let sliding = stage.engine.sliding_sync(&alice, SlidingQuery::default());
    assert!(size_of_val(&sliding) < WAITING_BYTES_MAX, "{}", size_of_val(&sliding));
}
