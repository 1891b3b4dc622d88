//! What is done in a room costs the same whether few are in it or many; what tells of all of them is read in few steps.
//! What is counted is how often the database is read and how many rows are written, which does not depend on how busy
//! the machine is.

use engine::Requester;
use ruma::{
    OwnedRoomId,
    events::{receipt::ReceiptType, room::member::MembershipState},
};
use serde_json::json;

use crate::stage::{Stage, token};

const FEW: usize = 8;
/// Enough for whatever is done for each of them to show.
const MANY: usize = 250;
/// How often each is measured. The least counts, for other tasks of the server may read meanwhile.
const ROUNDS: usize = 6;
/// How often the database is read at most for the list of many members.
const READS_OF_LIST_MAX: u64 = 12;

/// How often the database was read, and how many rows were written.
type Cost = (u64, u64);

#[derive(Debug, PartialEq, Eq)]
struct Costs {
    join: Cost,
    message_to_all: Cost,
    receipt: Cost,
    one_of_the_state: Cost,
    sync: Cost,
}

struct Room {
    stage: Stage,
    id: OwnedRoomId,
    alice: Requester,
}

fn member(number: usize) -> Requester {
    Requester { user_id: format!("@member{number}:test").try_into().unwrap(), device_id: "D".into() }
}

impl Room {
    async fn of(members: usize) -> Self {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let id = stage.room(&alice, "shared").await;
        for number in 0..members {
            stage.join(&member(number), &id).await;
        }
        Self { stage, id, alice }
    }

    /// The least that something costs that is done for different users.
    async fn least(&self, act: impl AsyncFn(usize)) -> Cost {
        let mut least = (u64::MAX, u64::MAX);
        let storage = self.stage.engine.storage();
        for round in 0..ROUNDS {
            let before = (storage.reads(), storage.inserted_rows());
            act(round).await;
            least = (least.0.min(storage.reads() - before.0), least.1.min(storage.inserted_rows() - before.1));
        }
        least
    }

    async fn shout(&self) {
        let content = json!({ "msgtype": "m.text", "body": "@room: hello", "m.mentions": { "room": true } });
        let command = engine::SendCommand {
            room_id: self.id.clone(),
            event_type: "m.room.message".into(),
            content: serde_json::value::to_raw_value(&content).unwrap(),
            transaction_id: None,
        };
        self.stage.engine.send(&self.alice, command).await.unwrap();
    }

    async fn costs(&self) -> Costs {
        let (stage, id) = (&self.stage, &self.id);
        self.shout().await;
        let join = self.least(async |round| stage.join(&member(1_000 + round), id).await).await;
        let message_to_all = self.least(async |_| self.shout().await).await;
        let unread = stage.engine.unread(&member(3).user_id, id).await.unwrap().total();
        assert_eq!((unread.notifications, unread.highlights), (ROUNDS as u64 + 1, ROUNDS as u64 + 1));
        let last = stage.send(&self.alice, id, "read this").await;
        let receipt = self
            .least(async |round| {
                let reader = member(round);
                stage.engine.receipt(&reader, id, ReceiptType::Read, &last, None).await.unwrap();
            })
            .await;
        let one_of_the_state = self
            .least(async |round| {
                let key = member(round).user_id;
                stage.engine.state_event(&self.alice, id, &"m.room.member".into(), key.as_str()).await.unwrap();
            })
            .await;
        let mut since = token(&stage.sync(&self.alice, None).await);
        let mut sync = (u64::MAX, u64::MAX);
        for _ in 0..ROUNDS {
            stage.send(&member(2), id, "hello").await;
            let before = (stage.engine.storage().reads(), stage.engine.storage().inserted_rows());
            since = token(&stage.sync(&self.alice, Some(&since)).await);
            let after = (stage.engine.storage().reads(), stage.engine.storage().inserted_rows());
            sync = (sync.0.min(after.0 - before.0), sync.1.min(after.1 - before.1));
        }
        Costs { join, message_to_all, receipt, one_of_the_state, sync }
    }
}

#[tokio::test]
async fn s_155_what_is_done_in_a_large_room_costs_what_it_does_in_a_small_one() {
    let few = Room::of(FEW).await.costs().await;
    let large = Room::of(MANY).await;
    assert_eq!(large.costs().await, few);
    let before = large.stage.engine.storage().reads();
    let joined = Some(MembershipState::Join);
    let members = large.stage.engine.members(&large.alice, &large.id, None, joined, None).await.unwrap();
    assert_eq!(members.len(), MANY + ROUNDS + 1);
    let state = large.stage.engine.state(&large.alice, &large.id).await.unwrap();
    assert!(state.len() > MANY + ROUNDS);
    let reads = large.stage.engine.storage().reads() - before;
    assert!(reads <= READS_OF_LIST_MAX, "{reads}");
}
