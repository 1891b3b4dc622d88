//! Read receipts: one per room, user, type and thread.

use rules::Change;
use ruma::{MilliSecondsSinceUnixEpoch, UInt, events::receipt::ReceiptType};

use crate::stage::{event_id, on_each_database, room, user};

fn receipt(user_id: &str, thread: Option<&str>, event: &str, ts: u32) -> Change {
    Change::Receipt {
        room_id: room(),
        user_id: user(user_id),
        receipt_type: ReceiptType::Read,
        thread_id: thread.map(ToOwned::to_owned),
        event_id: event_id(event),
        ts: MilliSecondsSinceUnixEpoch(UInt::from(ts)),
    }
}

#[tokio::test]
async fn a_receipt_takes_the_place_of_the_one_before() {
    on_each_database(async |stage| {
        let (alice, bob) = ("@alice:here", "@bob:far");
        // Twice in one submission, and again in the next.
        let changes = vec![receipt(alice, None, "$1", 1), receipt(bob, None, "$1", 2), receipt(alice, None, "$2", 3)];
        stage.commit_unguarded(changes).await.unwrap();
        stage.commit_unguarded(vec![receipt(alice, Some("main"), "$1", 4)]).await.unwrap();
        stage.commit_unguarded(vec![receipt(alice, None, "$3", 5)]).await.unwrap();

        let since = async |since, until| {
            let receipts = stage.storage.receipts_since(&room(), since, until).await.unwrap();
            receipts.iter().map(|receipt| (receipt.position, receipt.event_id.to_string())).collect::<Vec<_>>()
        };
        let expected = [(2, "$1"), (4, "$1"), (5, "$3")].map(|(position, id)| (position, id.to_owned()));
        assert_eq!(since(0, 9).await, expected);
        assert_eq!(since(2, 4).await, expected[1..2]);
        assert!(since(5, 9).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn receipts_are_told_apart() {
    on_each_database(async |stage| {
        let alice = user("@alice:here");
        let private = match receipt("@alice:here", None, "$p", 3) {
            Change::Receipt { room_id, user_id, thread_id, event_id, ts, .. } => {
                Change::Receipt { room_id, user_id, receipt_type: ReceiptType::ReadPrivate, thread_id, event_id, ts }
            }
            other => other,
        };
        let thread = receipt("@alice:here", Some("$root"), "$t", 2);
        stage.commit_unguarded(vec![receipt("@alice:here", None, "$u", 1), thread, private]).await.unwrap();
        let one = async |receipt_type: ReceiptType, thread: Option<&str>| {
            let found = stage.storage.receipt(&room(), &alice, &receipt_type, thread).await.unwrap();
            found.map(|receipt| (receipt.event_id.to_string(), receipt.thread_id, receipt.ts.0.into()))
        };
        assert_eq!(one(ReceiptType::Read, None).await, Some(("$u".to_owned(), None, 1_u64)));
        let threaded = Some(("$t".to_owned(), Some("$root".to_owned()), 2));
        assert_eq!(one(ReceiptType::Read, Some("$root")).await, threaded);
        assert_eq!(one(ReceiptType::ReadPrivate, None).await, Some(("$p".to_owned(), None, 3)));
        assert_eq!(one(ReceiptType::ReadPrivate, Some("$root")).await, None);
    })
    .await;
}
