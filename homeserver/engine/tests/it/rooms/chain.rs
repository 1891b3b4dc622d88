//! Messages of one room that are sent at once: one line of events, each stored once, whatever fails among them.

use std::collections::HashSet;

use engine::{EngineError, Requester, SendCommand};
use futures_util::{FutureExt, future::join_all};
use ruma::{OwnedEventId, RoomId, RoomVersionId, events::TimelineEventType};
use serde_json::json;
use storage::{CommitError, Direction, RoomGuard, Storage, StoredEvent, Submission, TimelineRange};

use crate::stage::{Stage, raw};

const SENDERS: usize = 64;

fn message(room_id: &RoomId, body: usize, transaction_id: &str) -> SendCommand {
    SendCommand {
        room_id: room_id.to_owned(),
        event_type: TimelineEventType::RoomMessage,
        content: raw(&json!({"msgtype": "m.text", "body": body.to_string()})),
        transaction_id: Some(transaction_id.to_owned()),
    }
}

fn reaction(room_id: &RoomId, to: &OwnedEventId) -> SendCommand {
    SendCommand {
        room_id: room_id.to_owned(),
        event_type: TimelineEventType::Reaction,
        content: raw(&json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": to, "key": "+"}})),
        transaction_id: None,
    }
}

/// The events of a room after the first of them, which are one line, with no event twice.
async fn line(stage: &Stage, room_id: &RoomId, first: &OwnedEventId) -> Vec<OwnedEventId> {
    let range = TimelineRange { after: None, until: None, direction: Direction::Forward, limit: 100_000 };
    let events = stage.engine.storage().timeline(room_id, range).await.unwrap();
    let events: Vec<_> = events.into_iter().skip_while(|event| event.pdu.event_id != *first).collect();
    for pair in events.windows(2) {
        let [before, after]: &[std::sync::Arc<StoredEvent>; 2] = pair.try_into().unwrap();
        assert_eq!(after.pdu.prev_events, std::slice::from_ref(&before.pdu.event_id), "each names the one before it");
        assert_eq!(after.pdu.depth, before.pdu.depth + 1);
    }
    let ids: Vec<OwnedEventId> = events[1..].iter().map(|event| event.pdu.event_id.clone()).collect();
    assert_eq!(set(&ids).len(), ids.len(), "no event is there twice");
    assert!(stage.engine.storage().fsck().await.unwrap().is_empty());
    ids
}

fn set(ids: &[OwnedEventId]) -> HashSet<&OwnedEventId> {
    ids.iter().collect()
}

async fn stage_with_senders() -> (Stage, Vec<Requester>, ruma::OwnedRoomId, OwnedEventId) {
    let stage = Stage::new().await;
    let mut senders = Vec::new();
    for number in 0..4 {
        senders.push(stage.user(&format!("sender{number}")).await);
    }
    let room_id = stage.room(&senders[0], "shared").await;
    for sender in &senders[1..] {
        stage.join(sender, &room_id).await;
    }
    // What decides is in memory from then on.
    let first = stage.send(&senders[0], &room_id, "first").await;
    (stage, senders, room_id, first)
}

/// Another process changes the room.
async fn change_elsewhere(storage: &Storage, room_id: &RoomId) {
    loop {
        let revision = storage.room(room_id).await.unwrap().unwrap().revision;
        let guard = RoomGuard { room_id: room_id.to_owned(), revision, follows: None };
        match storage.commit(Submission { room: Some(guard), changes: Vec::new() }).await {
            Ok(_) => return,
            Err(error) => assert!(matches!(error, CommitError::Conflict), "{error}"),
        }
    }
}

#[tokio::test]
async fn messages_of_one_room_share_transactions() {
    let (stage, senders, room_id, first) = stage_with_senders().await;
    let before = stage.engine.storage().transactions();
    let sends = (0..SENDERS).map(|number| {
        let command = message(&room_id, number, &format!("t{number}"));
        stage.engine.send(&senders[number % senders.len()], command)
    });
    let sent: Vec<OwnedEventId> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
    let transactions = stage.engine.storage().transactions() - before;
    assert_eq!(set(&line(&stage, &room_id, &first).await), set(&sent));
    assert!(transactions < SENDERS as u64 / 4, "{transactions} transactions");
}

#[tokio::test]
async fn each_sender_hears_what_became_of_its_message() {
    let (stage, senders, room_id, first) = stage_with_senders().await;
    let sends = (0..SENDERS).map(|number| {
        let transaction_id = match number {
            10 => "a transaction id that cannot be stored: \0".to_owned(),
            // The same sender, the same id.
            20 | 36 => "t4".to_owned(),
            _ => format!("t{number}"),
        };
        let command = message(&room_id, number, &transaction_id);
        let (engine, sender, room_id) = (&stage.engine, &senders[number % senders.len()], &room_id);
        async move {
            if number == 30 {
                change_elsewhere(engine.storage(), room_id).await;
            }
            engine.send(sender, command).await
        }
    });
    let mut sent = join_all(sends).await;
    assert_eq!(sent[20].as_ref().unwrap(), sent[4].as_ref().unwrap(), "a request that waits is done once");
    assert_eq!(sent[36].as_ref().unwrap(), sent[4].as_ref().unwrap());
    assert!(matches!(sent[10], Err(EngineError::Storage(_))), "{:?}", sent[10]);
    for number in [36, 20, 10] {
        drop(sent.remove(number));
    }
    let acknowledged: Vec<OwnedEventId> = sent.into_iter().map(Result::unwrap).collect();
    assert_eq!(set(&line(&stage, &room_id, &first).await), set(&acknowledged));
}

#[tokio::test]
async fn who_goes_away_takes_no_message_along() {
    let (stage, senders, room_id, first) = stage_with_senders().await;
    let sends = (0..SENDERS).map(|number| {
        let command = message(&room_id, number, &format!("t{number}"));
        let send = stage.engine.send(&senders[number % senders.len()], command);
        // Every other is asked for and given up at once.
        async move { if number % 2 == 0 { send.now_or_never() } else { Some(send.await) } }
    });
    let sent: Vec<_> = join_all(sends).await;
    let line = line(&stage, &room_id, &first).await;
    let acknowledged: Vec<OwnedEventId> = sent.into_iter().flatten().map(Result::unwrap).collect();
    assert_eq!(acknowledged.len(), SENDERS / 2);
    for event_id in &acknowledged {
        assert!(line.contains(event_id), "what is acknowledged is stored");
    }
    // What was given up is there once or not at all, and then the same request does it.
    for number in 0..SENDERS {
        let command = message(&room_id, number, &format!("t{number}"));
        stage.engine.send(&senders[number % senders.len()], command).await.unwrap();
    }
    assert_eq!(self::line(&stage, &room_id, &first).await.len(), SENDERS);
}

#[tokio::test]
async fn what_decides_about_others_waits_for_them() {
    let (stage, senders, room_id, first) = stage_with_senders().await;
    let (engine, alice, bob) = (&stage.engine, &senders[0], &senders[1]);
    let messages = (0..SENDERS).map(|number| {
        let command = message(&room_id, number, &format!("t{number}"));
        engine.send(&senders[number % senders.len()], command)
    });
    let reactions = (0..3).map(|_| engine.send(alice, reaction(&room_id, &first)));
    let topic = raw(&json!({"topic": "what is said at once"}));
    let topic = engine.set_state(alice, &room_id, "m.room.topic".into(), "", &topic);
    let bans = async {
        engine.ban(alice, &room_id, &bob.user_id, None).await.unwrap();
        engine.send(bob, message(&room_id, 0, "too late")).await
    };
    let (sent, reacted, topic, too_late) = tokio::join!(join_all(messages), join_all(reactions), topic, bans);

    assert!(matches!(too_late, Err(EngineError::Forbidden(_))), "{too_late:?}");
    let refused: Vec<_> = reacted.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(matches!(refused[..], [EngineError::DuplicateAnnotation, EngineError::DuplicateAnnotation]), "{refused:?}");
    let line = line(&stage, &room_id, &first).await;
    assert!(line.contains(&topic.unwrap()));
    // Who was banned meanwhile may have come too late.
    for (number, sent) in sent.into_iter().enumerate() {
        match sent {
            Ok(event_id) => assert!(line.contains(&event_id)),
            Err(error) => assert!(number % senders.len() == 1, "{error}"),
        }
    }
}

#[tokio::test]
async fn rooms_of_version_2_have_a_line_as_well() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room_with(&alice, |command| command.version = Some(RoomVersionId::V2)).await;
    let first = stage.send(&alice, &room_id, "first").await;
    let sends = (0..8).map(|number| stage.engine.send(&alice, message(&room_id, number, &format!("t{number}"))));
    let sent: Vec<OwnedEventId> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(set(&line(&stage, &room_id, &first).await), set(&sent));
}
