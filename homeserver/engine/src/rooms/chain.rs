//! Messages that follow each other without waiting for the disk.
//!
//! What decides about others (members, levels, redactions) is decided by one alone, who holds the room until it is true.
//! A message decides about nothing: the next one only has to name it. So each is decided on the room that the one before
//! will leave while that still waits for its commit, and all that wait share one: a room takes more messages a second
//! than the disk takes flushes.
//!
//! The commits are done in the order of the decisions. When one fails, all that follow it fail as well, since the room
//! does not end with what they follow, and are decided anew ([`storage::RoomGuard::follows`]). Who adds to a chain shares
//! the lock of the room until the outcome is known, also if nobody waits for it any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rules::{RoomSnapshot, room::policy::POLICY_EVENT_TYPE, room::send::Intent};
use ruma::{OwnedEventId, RoomId, events::TimelineEventType, room_version_rules::EventsReferenceFormatVersion};
use storage::{CommitError, Committed};
use tokio::sync::OwnedMutexGuard;

use super::{
    changes::{Prepared, Start},
    relations::is_annotation,
    send::Request,
};
use crate::{Engine, Result, push::Audience};

/// What of a room is decided, but maybe not true yet.
#[derive(Default)]
pub(crate) struct Chain {
    /// Held while the next event is decided upon, until it waits for its commit.
    deciding: Arc<tokio::sync::Mutex<()>>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// How often a commit has failed that others may have followed.
    breaks: u64,
    link: Option<Link>,
}

/// The room as it will be after the last event that waits.
#[derive(Clone)]
struct Link {
    room: Arc<RoomSnapshot>,
    audience: Option<Audience>,
}

impl Chain {
    /// Waits until nobody else decides what follows.
    async fn turn(&self) -> OwnedMutexGuard<()> {
        self.deciding.clone().lock_owned().await
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others follow the event that leads to this room, unless what it follows has failed meanwhile. It is to be
    /// done by who has the turn.
    fn follow_with(&self, breaks: u64, after: &RoomSnapshot, audience: Option<&Audience>) -> bool {
        let mut last = self.last();
        if last.breaks != breaks {
            return false;
        }
        let mut room = after.clone();
        room.revision += 1;
        let audience = audience.map(|audience| audience.as_of(room.revision));
        last.link = Some(Link { room: Arc::new(room), audience });
        true
    }

    /// A commit has failed. Says whether it is the first of those that follow each other.
    fn break_off(&self, breaks: u64) -> bool {
        let mut last = self.last();
        let is_first = last.breaks == breaks;
        if is_first {
            *last = Last { breaks: breaks + 1, link: None };
        }
        is_first
    }
}

/// Whether an event depends on nothing that others do at the same time. The same annotation counts once, so that each is
/// decided when the one before is stored.
pub(super) fn may_follow(intent: &Intent) -> bool {
    let is_message = intent.state_key.is_none() && intent.event_type != TimelineEventType::RoomRedaction;
    is_message && intent.redacts.is_none() && !is_annotation(intent)
}

/// Whether events can follow each other before they are stored. In versions 1 and 2 an event names the hash of the one
/// before; a policy server is to see no event that may never be.
pub(super) fn has_chain(room: &RoomSnapshot) -> bool {
    !matches!(room.rules.events_reference_format, EventsReferenceFormatVersion::V1)
        && room.state_event_id(&POLICY_EVENT_TYPE.into(), "").is_none()
}

impl Engine {
    /// Sends an event right after those that wait for their commits. There is none when one of them failed, or somebody
    /// else changed the room.
    pub(super) async fn send_following(
        &self,
        room_id: &RoomId,
        intent: &Intent,
        request: Option<&Request>,
    ) -> Result<Option<OwnedEventId>> {
        let chain = self.inner.rooms.chain(room_id).await;
        let turn = chain.turn().await;
        let (breaks, link) = {
            let last = chain.last();
            (last.breaks, last.link.clone())
        };
        let stored = self.room(room_id).await?;
        let link = link.filter(|link| stored.as_ref().is_none_or(|stored| stored.revision < link.room.revision));
        let (room, start) = match link {
            Some(Link { room, audience }) => {
                let follows = room.forward_extremities.first().map(|(event_id, _)| event_id.clone());
                (Some(room), Start { follows, audience })
            }
            None => (stored, Start::default()),
        };
        let room = self.changeable(room)?;
        if !has_chain(&room) {
            return Ok(None);
        }
        self.check_relation(room_id, intent).await?;
        let (pdu, mut decision) = self.decide_send(&room, intent.clone()).await?;
        decision.changes.extend(request.map(|request| request.done_by(&pdu, self.world().clock.now_ms())));
        let prepared = self.prepare(&room, start, decision).await?;
        let place = self.storage().place().await?;

        // From here on nothing waits, until it is both under way and followed.
        let Prepared { submission, room: after, audience, movers: _ } = prepared;
        if !chain.follow_with(breaks, &after, audience.as_ref()) {
            return Ok(None);
        }
        let (engine, request, event_id) = (self.clone(), request.cloned(), pdu.event_id.clone());
        let before_news = move |outcome: Result<&Committed, &CommitError>| {
            match outcome {
                Ok(committed) => {
                    engine.remember_request(request, &event_id);
                    engine.remember_change(after, audience, committed);
                }
                Err(error) => {
                    let is_cause = chain.break_off(breaks);
                    if is_cause && !matches!(error, CommitError::AlreadyDone(_)) {
                        engine.forget_snapshot(&after.room_id);
                    }
                }
            }
            drop(chain);
        };
        let committed = place.commit(submission, Some(Box::new(before_news)));
        drop(turn);
        match committed.await {
            Ok(_) => Ok(Some(pdu.event_id.clone())),
            Err(CommitError::AlreadyDone(event_id)) => Ok(Some(event_id)),
            Err(CommitError::Conflict) => Ok(None),
            Err(CommitError::Storage(error)) => Err(error.into()),
        }
    }
}
