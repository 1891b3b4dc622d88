//! The commit: positions, compare-and-swap, idempotence, and that each submission stands for itself.

use std::collections::BTreeSet;

use homeserver_storage::{CommitError, Committed, RoomGuard, Storage, StorageError, Submission};
use rules::{
    Change,
    change::{Placement, Standing},
};
use ruma::{RoomVersionId, owned_device_id, owned_room_id};
use serde_json::json;
use tokio::task::JoinSet;

use crate::stage::{
    event, event_id, event_ids, extremities, live, message, on_each_database, outlier, room, set_state, state_event,
    stored_as, user,
};

fn account_data(user_id: &str, value: u64) -> Change {
    Change::AccountData {
        user_id: user(user_id),
        room_id: None,
        event_type: "test".to_owned(),
        content: serde_json::value::to_raw_value(&json!({ "value": value })).unwrap(),
    }
}

fn transaction(id: &str, event: &str) -> Change {
    Change::TransactionId {
        user_id: user("@alice:here"),
        device_id: owned_device_id!("PHONE"),
        scope: "send !room:here m.room.message".to_owned(),
        transaction_id: id.to_owned(),
        event_id: event_id(event),
        ts: 1_000,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_have_no_gaps_with_many_submitters() {
    on_each_database(async |stage| {
        let mut submitters = JoinSet::new();
        for submitter in 0..50 {
            let storage = stage.storage.clone();
            submitters.spawn(async move {
                let mut positions = Vec::new();
                for value in 0..20 {
                    let changes = vec![account_data(&format!("@user{submitter}:here"), value)];
                    let committed = storage.commit(Submission { room: None, changes }).await.unwrap();
                    positions.push(committed.position);
                }
                assert!(positions.is_sorted(), "one submitter's positions ascend");
                positions
            });
        }
        let positions: BTreeSet<i64> = submitters.join_all().await.into_iter().flatten().collect();
        assert_eq!(positions, (1..=1000).collect(), "every position from 1 on, once");
        assert_eq!(stage.storage.head(), 1000);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_commits_can_prepare_before_the_log_tells() {
    on_each_database(async |stage| {
        let changes = || vec![account_data("@alice:here", 1)];
        let (told, heard) = std::sync::mpsc::channel();
        let (storage, before_news) = (stage.storage.clone(), told.clone());
        let note = move |committed: &Committed| before_news.send((committed.position, storage.head())).unwrap();
        stage.storage.commit_and(Submission { room: None, changes: changes() }, note).await.unwrap();
        assert_eq!(heard.try_recv(), Ok((1, 0)), "it is committed, and the log is still silent");
        assert_eq!(stage.storage.head(), 1);

        let guard = Some(RoomGuard { room_id: room(), revision: 7, follows: None });
        let note = move |committed: &Committed| told.send((committed.position, 0)).unwrap();
        let refused = stage.storage.commit_and(Submission { room: guard, changes: changes() }, note).await;
        assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
        heard.try_recv().expect_err("nothing was committed");
    })
    .await;
}

#[tokio::test]
async fn who_decided_against_an_older_room_loses() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let submission = |id: &str| Submission {
            room: Some(RoomGuard { room_id: room(), revision: 1, follows: None }),
            changes: vec![live(&message(id, "$alice_joins")), extremities(&[id])],
        };
        let (first, second) =
            tokio::join!(stage.storage.commit(submission("$one")), stage.storage.commit(submission("$two")));
        assert_eq!(first.unwrap().revision, Some(2));
        assert!(matches!(second, Err(CommitError::Conflict)), "{second:?}");
        assert!(stage.stored("$two").await.is_none(), "nothing of it is written");
        assert_eq!(stage.storage.room(&room()).await.unwrap().unwrap().revision, 2);
        stage.assert_sound().await;
    })
    .await;
}

/// Submissions for the room as it will be, one after the other, each with a message that follows the one before.
fn chain(ids: &[&str], first_revision: i64) -> Vec<Submission> {
    let (mut submissions, mut before) = (Vec::new(), None);
    for (id, revision) in ids.iter().zip(first_revision..) {
        let guard = RoomGuard { room_id: room(), revision, follows: before.map(event_id) };
        let message = message(id, before.unwrap_or("$alice_joins"));
        submissions.push(Submission { room: Some(guard), changes: vec![live(&message), extremities(&[id])] });
        before = Some(id);
    }
    submissions
}

/// What became of commits that were asked for at once, in this order.
async fn commit_at_once(storage: &Storage, submissions: Vec<Submission>) -> Vec<Result<Committed, CommitError>> {
    let mut outcomes = Vec::new();
    for submission in submissions {
        outcomes.push(storage.place().await.unwrap().commit(submission, None));
    }
    futures_util::future::join_all(outcomes).await
}

#[tokio::test]
async fn commits_that_follow_each_other_share_a_transaction() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let before = stage.storage.transactions();
        let outcomes = commit_at_once(&stage.storage, chain(&["$one", "$two", "$three"], 1)).await;
        let revisions: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().revision).collect();
        assert_eq!(revisions, [Some(2), Some(3), Some(4)]);
        assert_eq!(stage.storage.transactions() - before, 1);
        let room = stage.storage.room(&room()).await.unwrap().unwrap();
        assert_eq!((room.revision, &*room.forward_extremities[0].0), (4, &*event_id("$three")));
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn what_follows_a_failed_commit_fails() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let mut submissions = chain(&["$one", "$two", "$three", "$four"], 1);
        submissions[1].changes.push(transaction("no text\0", "$two"));
        // Another takes the place of the one that fails, so that the revision alone would let what follows in.
        let mut instead = chain(&["$one", "$instead"], 1).remove(1);
        instead.changes.push(transaction("t1", "$instead"));
        submissions.insert(2, instead);
        let outcomes = commit_at_once(&stage.storage, submissions).await;
        assert!(matches!(outcomes[1], Err(CommitError::Storage(StorageError::Unstorable(_)))), "{outcomes:?}");
        assert_eq!([0, 2].map(|index| outcomes[index].as_ref().unwrap().revision), [Some(2), Some(3)]);
        for outcome in &outcomes[3..] {
            assert!(matches!(outcome, Err(CommitError::Conflict)), "{outcomes:?}");
        }
        assert!(stage.stored("$three").await.is_none());
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn what_follows_a_commit_that_the_database_refuses_fails() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let refuse = if stage.storage.backend() == "SQLite" {
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_id = '$two'
                BEGIN SELECT RAISE(ABORT, 'refused'); END"
        } else {
            "ALTER TABLE events ADD CONSTRAINT refuse CHECK (event_id <> '$two')"
        };
        stage.execute(refuse).await;
        let outcomes = commit_at_once(&stage.storage, chain(&["$one", "$two", "$three"], 1)).await;
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
        assert!(matches!(outcomes[1], Err(CommitError::Storage(_))), "{outcomes:?}");
        assert!(matches!(outcomes[2], Err(CommitError::Conflict)), "{outcomes:?}");
        assert!(stage.stored("$three").await.is_none());
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn who_commits_hears_of_failures_before_who_asked() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let (told, heard) = std::sync::mpsc::channel();
        let mut outcomes = Vec::new();
        for submission in chain(&["$one", "$two"], 7) {
            let told = told.clone();
            let note = move |outcome: Result<&Committed, &CommitError>| told.send(outcome.is_err()).unwrap();
            outcomes.push(stage.storage.place().await.unwrap().commit(submission, Some(Box::new(note))));
        }
        assert!(matches!(outcomes.remove(0).await, Err(CommitError::Conflict)));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [true, true], "of both, as both were tried");
    })
    .await;
}

#[tokio::test]
async fn revision_0_means_that_the_room_must_not_exist() {
    on_each_database(async |stage| {
        assert_eq!(stage.create_room().await.revision, Some(1));
        let again = Submission {
            room: Some(RoomGuard { room_id: room(), revision: 0, follows: None }),
            changes: vec![Change::Room { room_id: room(), version: RoomVersionId::V10 }],
        };
        assert!(matches!(stage.storage.commit(again).await, Err(CommitError::Conflict)));
        assert_eq!(stage.storage.room(&room()).await.unwrap().unwrap().version, RoomVersionId::V11);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_id_counts_once() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let submission = |id: &str, revision| Submission {
            room: Some(RoomGuard { room_id: room(), revision, follows: None }),
            changes: vec![live(&message(id, "$alice_joins")), extremities(&[id]), transaction("t1", id)],
        };
        let head = stage.storage.commit(submission("$one", 1)).await.unwrap().position;
        // The revision is outdated as well: that the request was answered comes before that.
        for revision in [1, 2] {
            let outcome = stage.storage.commit(submission("$two", revision)).await;
            assert!(matches!(&outcome, Err(CommitError::AlreadyDone(id)) if *id == event_id("$one")), "{outcome:?}");
        }
        assert!(stage.stored("$two").await.is_none());
        assert_eq!(stage.storage.head(), head, "nothing was given a position");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_id_that_races_counts_once() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let mut racers = JoinSet::new();
        for racer in 0..20 {
            let storage = stage.storage.clone();
            racers.spawn(async move {
                let id = format!("$racer{racer}");
                let changes = vec![account_data("@alice:here", racer), transaction("t1", &id)];
                storage.commit(Submission { room: None, changes }).await
            });
        }
        let outcomes = racers.join_all().await;
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(won.len(), 1);
        let winner = stage
            .storage
            .transaction(&user("@alice:here"), &owned_device_id!("PHONE"), "send !room:here m.room.message", "t1")
            .await
            .unwrap()
            .unwrap();
        for outcome in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(&outcome, CommitError::AlreadyDone(id) if *id == winner), "{outcome:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn changes_get_positions_in_their_order() {
    on_each_database(async |stage| {
        let created = stage.create_room().await;
        let expected = vec![(event_id("$create"), 1), (event_id("$alice_joins"), 2)];
        assert_eq!(created.positions, expected);
        assert_eq!(created.position, 3, "the membership comes last");
        let nothing = stage.commit_unguarded(vec![]).await.unwrap();
        assert_eq!((nothing.position, nothing.revision), (3, None), "the head, when nothing got a position");
    })
    .await;
}

#[tokio::test]
async fn one_bad_submission_does_not_spoil_the_others() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let good = |value| stage.commit_unguarded(vec![account_data("@alice:here", value)]);
        let bad = stage.commit_unguarded(vec![account_data("@alice:here", 9), extremities(&["$unknown"])]);
        let (first, bad, second) = tokio::join!(biased; good(1), bad, good(2));
        let (first, second) = (first.unwrap().position, second.unwrap().position);
        assert!(matches!(bad, Err(CommitError::Storage(StorageError::NotStored(_)))), "{bad:?}");
        assert_eq!((first, second), (4, 5), "the bad one got no position");
    })
    .await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let position = stage.send("$one", "$alice_joins").await;
        let log = stage.storage.log_since(0, 100).await.unwrap();
        let stage = stage.reopen().await;
        assert_eq!(stage.storage.head(), position);
        let stored = stage.stored("$one").await.unwrap();
        assert_eq!(stored.order, Some(position));
        assert_eq!(*stored.pdu.json, *message("$one", "$alice_joins").json, "byte for byte");
        assert_eq!(stage.storage.log_since(0, 100).await.unwrap(), log, "from the database as it was from memory");
        assert_eq!(stage.send("$two", "$one").await, position + 1);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn after_closing_nothing_is_accepted() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.storage.close().await;
        let outcome = stage.commit_unguarded(vec![account_data("@alice:here", 1)]).await;
        assert!(matches!(outcome, Err(CommitError::Storage(StorageError::Closed))), "{outcome:?}");
        assert!(matches!(stage.storage.ping().await, Err(StorageError::Closed)));
        let stage = stage.reopen().await;
        assert_eq!(stage.storage.head(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_stored_twice_stays_as_it_was() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let position = stage.send("$one", "$alice_joins").await;
        let again = stage.commit(vec![live(&message("$one", "$alice_joins"))]).await;
        assert_eq!(again.positions, vec![(event_id("$one"), position)], "where it is");
        assert_eq!(stage.storage.head(), position, "and no new position");
        let rejected = Standing::Rejected("because".to_owned());
        stage.commit(vec![stored_as(&message("$one", "$alice_joins"), rejected, Placement::None)]).await;
        assert_eq!(stage.stored("$one").await.unwrap().standing, Standing::Accepted);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn an_outlier_that_arrives_becomes_a_part_of_the_timeline() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let pdu = message("$one", "$alice_joins");
        stage.commit(vec![outlier(&pdu)]).await;
        let stored = stage.stored("$one").await.unwrap();
        assert_eq!((&stored.standing, stored.order), (&Standing::Outlier, None));
        let position = stage.send("$one", "$alice_joins").await;
        let stored = stage.stored("$one").await.unwrap();
        assert_eq!((&stored.standing, stored.order), (&Standing::Accepted, Some(position)));
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn within_one_submission_an_outlier_can_arrive_too() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let topic = state_event("$topic", "m.room.topic", "", json!({ "topic": "one" }));
        let topic = event("$topic", {
            let mut json: serde_json::Value = serde_json::from_str(&topic.json).unwrap();
            json["prev_events"] = json!(["$alice_joins"]);
            json
        });
        let changes = vec![outlier(&topic), live(&topic), set_state(&[&topic]), extremities(&["$topic"])];
        let committed = stage.commit(changes).await;
        assert_eq!(stage.stored("$topic").await.unwrap().order, Some(committed.position));
        let known = stage.storage.event_ids_known(&event_ids(&["$topic", "$none"])).await.unwrap();
        assert_eq!(known, [event_id("$topic")].into());
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_submission_of_thousands_of_changes_is_committed() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let joins = |n| crate::stage::member(&format!("$m{n}"), &format!("@u{n}:far{}", n % 50), "join", &[]);
        let members: Vec<_> = (0..3000).map(joins).collect();
        let mut changes: Vec<Change> = members.iter().map(outlier).collect();
        changes.push(set_state(&members.iter().collect::<Vec<_>>()));
        changes.extend((0..50).map(|n| crate::stage::server(&format!("far{n}"), true)));
        stage.commit(changes).await;
        assert_eq!(stage.storage.current_state(&room()).await.unwrap().len(), 3002);
        assert_eq!(stage.storage.room_servers(&room()).await.unwrap().len(), 51);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_room_may_be_unknown_to_a_guard() {
    on_each_database(async |stage| {
        let guard = |revision| Some(RoomGuard { room_id: owned_room_id!("!other:far"), revision, follows: None });
        let changes = || vec![account_data("@alice:here", 1)];
        let first = stage.storage.commit(Submission { room: guard(0), changes: changes() }).await.unwrap();
        assert_eq!(first.revision, Some(0), "there is no room that could have been changed");
        let outcome = stage.storage.commit(Submission { room: guard(3), changes: changes() }).await;
        assert!(matches!(outcome, Err(CommitError::Conflict)));
    })
    .await;
}
