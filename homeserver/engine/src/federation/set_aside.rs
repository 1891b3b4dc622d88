//! Events of which something that they build upon is not to be had now: kept aside, and judged again when it has come,
//! and from time to time.
//!
//! A server that is away for a moment, or its key, says nothing about an event. Such an event is neither rejected nor
//! forgotten: nobody may ever send it again, for its server has been told that we have it.

use std::{collections::HashSet, time::Duration};

use rules::{Pdu, RoomSnapshot, change::Standing, event::read_pdu};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use serde_json::value::RawValue;
use storage::SetAsideEvent;

use super::{receive::Claims, verify::Dropped};
use crate::{
    Engine, EngineError, Result,
    rooms::{NEVER_ASKED, NOT_ASKED, is_not_asked},
};

/// How many events of a room are kept aside: as many as a transaction may hold. What comes on top is refused.
const MAX_IN_ROOM: usize = 50;
/// How many of these lack something, or are sticky and not allowed now, and come from one server, so that it cannot take
/// the places of all others.
const MAX_LACKING_OF_ORIGIN: usize = 10;
/// How many events of a room are judged again in one go.
const MAX_JUDGED: usize = 10;
/// How many rooms are looked at in one round.
const MAX_ROOMS: usize = 50;
/// How long one event may hold up its room when it is judged again.
const DEADLINE: Duration = Duration::from_secs(20);
/// After how long an event is tried again; twice as long each time.
const FIRST_PAUSE_MS: u64 = 60 * 1_000;
/// The longest time between two tries.
const PAUSE_MAX_MS: u64 = 6 * 3_600 * 1_000;
/// How long an event is kept: servers that are to come back have come back after a week.
const KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// What trying an event again led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is judged.
    Judged,
    /// It never can be.
    GivenUp,
    /// It is to be tried again later.
    Waits,
}

impl Engine {
    /// Keeps an event aside for which something is missing. What becomes of it: [`Dropped::SetAside`] if it is kept.
    pub(super) async fn set_aside(&self, origin: &ServerName, pdu: &Pdu) -> Dropped {
        match self.keep_until_judged(origin, pdu, MAX_LACKING_OF_ORIGIN).await {
            Ok(true) => Dropped::SetAside,
            Ok(false) => Dropped::MissingAncestors,
            Err(error) => error.into(),
        }
    }

    /// Keeps an event aside, besides among those that were soft-failed, that may pass yet. Nothing of it is missing: the
    /// policy server of the room could not be asked, or it is sticky and the state of the room may come to allow it.
    pub(super) async fn set_aside_soft_failed(&self, origin: &ServerName, pdu: &Pdu, reason: &str) -> Result<()> {
        let now_ms = self.world().clock.now_ms();
        let is_not_asked = is_not_asked(reason);
        if !is_not_asked && !is_sticky(pdu, now_ms) {
            return Ok(());
        }
        let max_of_origin = if is_not_asked { MAX_IN_ROOM } else { MAX_LACKING_OF_ORIGIN };
        if !self.keep_until_judged(origin, pdu, max_of_origin).await? {
            tracing::info!(room.id = %pdu.room_id, event.id = %pdu.event_id, "too many soft-failed events wait");
        }
        Ok(())
    }

    async fn keep_until_judged(&self, origin: &ServerName, pdu: &Pdu, max_of_origin: usize) -> Result<bool> {
        let now_ms = self.world().clock.now_ms();
        let event = SetAsideEvent {
            event_id: pdu.event_id.clone(),
            room_id: pdu.room_id.clone(),
            origin: origin.to_owned(),
            json: pdu.json.to_string(),
            since_ts: now_ms,
            attempts: 0,
            next_ts: now_ms.saturating_add(FIRST_PAUSE_MS),
        };
        Ok(self.storage().set_event_aside(&event, MAX_IN_ROOM, max_of_origin).await?)
    }

    /// Judges events again whose time has come, in some of the rooms. Returns how many were judged.
    pub async fn judge_set_aside(&self) -> Result<usize> {
        let now_ms = self.world().clock.now_ms();
        let mut judged = 0;
        for room_id in self.storage().rooms_with_due_events(now_ms, MAX_ROOMS).await? {
            match self.judge_set_aside_of(&room_id, true).await {
                Ok(in_room) => judged += in_room,
                Err(error) => tracing::warn!(room.id = %room_id, %error, "events set aside cannot be judged now"),
            }
        }
        Ok(judged)
    }

    /// Judges events of a room again of which everything is there now; and, if others are to be asked, those whose time
    /// has come. Whoever waits for an answer of ours must not wait for other servers in turn.
    pub(super) async fn judge_set_aside_of(&self, room_id: &RoomId, ask: bool) -> Result<usize> {
        let mut waiting = self.storage().events_set_aside(room_id).await?;
        // Those first that were not tried for long: however many there are, each has its turn.
        waiting.sort_by_key(|event| event.next_ts);
        if waiting.is_empty() {
            return Ok(0);
        }
        let Some(room) = self.resident_room(room_id).await? else {
            for event in waiting {
                self.storage().forget_event_set_aside(&event.event_id).await?;
            }
            return Ok(0);
        };
        let now_ms = self.world().clock.now_ms();
        let mut judged = 0;
        for event in waiting {
            let Ok((pdu, _)) = read_pdu(&event.json, &room.rules) else {
                self.storage().forget_event_set_aside(&event.event_id).await?;
                continue;
            };
            if (ask && event.next_ts <= now_ms) || self.lacks_nothing(&room, &pdu).await? {
                self.judge_again(event, &pdu, now_ms).await?;
                judged += 1;
            }
            if judged >= MAX_JUDGED {
                break;
            }
        }
        Ok(judged)
    }

    /// Judges an event again. That it waits for the next time is noted before: nothing that happens meanwhile makes it
    /// come up again at once.
    async fn judge_again(&self, event: SetAsideEvent, pdu: &Pdu, now_ms: u64) -> Result<()> {
        let pause_ms = FIRST_PAUSE_MS.saturating_mul(2_u64.saturating_pow(event.attempts.saturating_add(1)));
        let next_ts = now_ms.saturating_add(pause_ms.min(PAUSE_MAX_MS));
        let event_id = &event.event_id;
        self.storage().postpone_set_aside(event_id, event.attempts.saturating_add(1), next_ts).await?;
        let is_old = now_ms.saturating_sub(event.since_ts) >= KEPT_MS;
        let was_not_asked = self.is_soft_failed_for_now(event_id).await?;
        let outcome = self.try_again(&event, is_sticky(pdu, now_ms)).await?;
        if outcome == Outcome::Waits && !is_old {
            return Ok(());
        }
        if outcome != Outcome::Judged {
            // It must not be found again among those of which the policy server is to be asked: it would come back for
            // ever.
            return Ok(self.storage().give_up_soft_failed(event_id, NOT_ASKED, NEVER_ASKED).await?);
        }
        self.storage().forget_event_set_aside(event_id).await?;
        if was_not_asked { self.keep_more_not_asked(&event.room_id).await } else { Ok(()) }
    }

    /// Whether an event is soft-failed only until the policy server of its room can be asked.
    async fn is_soft_failed_for_now(&self, event_id: &EventId) -> Result<bool> {
        let stored = self.stored_event(event_id).await?;
        Ok(stored
            .is_some_and(|stored| matches!(&stored.standing, Standing::SoftFailed(reason) if is_not_asked(reason))))
    }

    /// Keeps more events of a room aside of which the policy server could not be asked, when it can be again: for those
    /// that came while it was silent there may not have been room for all.
    async fn keep_more_not_asked(&self, room_id: &RoomId) -> Result<()> {
        let left = self.storage().soft_failed_for(room_id, NOT_ASKED, MAX_IN_ROOM).await?;
        for event in self.storage().events(&left).await? {
            self.keep_until_judged(event.pdu.sender.server_name(), &event.pdu, MAX_IN_ROOM).await?;
        }
        Ok(())
    }

    /// Tries an event again. Another server than the one that sent it may not know it, or tell of a state that is not
    /// the one before it: what speaks against the event counts only when the one that sent it is asked.
    async fn try_again(&self, event: &SetAsideEvent, is_sticky: bool) -> Result<Outcome> {
        let event_id = &event.event_id;
        let raw = RawValue::from_string(event.json.clone()).map_err(EngineError::internal)?;
        let server = self.whom_to_ask(event).await?;
        let is_third = server != event.origin;
        let claims = if is_third { Claims::of_third() } else { Claims::of_sender() };
        match tokio::time::timeout(DEADLINE, self.receive_with(&server, &event.room_id, &raw, claims)).await {
            Err(_) => tracing::info!(event.id = %event_id, "event set aside could not be judged in time"),
            Ok(Err(Dropped::Engine(EngineError::Storage(error)))) => return Err(error.into()),
            Ok(Err(
                Dropped::SetAside | Dropped::MissingAncestors | Dropped::UnverifiedState | Dropped::Signatures(_),
            )) => {}
            Ok(Err(Dropped::Withheld)) if is_third => {}
            Ok(Err(Dropped::Engine(error))) => {
                tracing::warn!(event.id = %event_id, %error, "event set aside cannot be judged now");
            }
            Ok(Ok(Standing::SoftFailed(reason))) if is_third || is_sticky || is_not_asked(&reason) => {}
            Ok(Err(reason)) => {
                tracing::info!(event.id = %event_id, %reason, "event set aside is given up");
                return Ok(Outcome::GivenUp);
            }
            Ok(Ok(standing)) => {
                tracing::info!(event.id = %event_id, ?standing, "event set aside is judged");
                return Ok(Outcome::Judged);
            }
        }
        Ok(Outcome::Waits)
    }

    /// Which server is asked for what an event lacks: in turn the one that sent it, which may be gone, and one more of
    /// those in the room.
    async fn whom_to_ask(&self, event: &SetAsideEvent) -> Result<OwnedServerName> {
        let Some(room) = self.resident_room(&event.room_id).await? else { return Ok(event.origin.clone()) };
        let is_other = |server: &&ServerName| *server != self.server_name() && *server != event.origin;
        let mut others: Vec<&ServerName> = room.servers().filter(is_other).collect();
        others.sort_unstable();
        let turn = event.attempts as usize;
        if turn.is_multiple_of(2) || others.is_empty() {
            return Ok(event.origin.clone());
        }
        Ok(others[(turn / 2) % others.len()].to_owned())
    }

    /// Whether all events that an event builds upon are there, and were not when it was set aside: the auth events, and
    /// the others with their states. What was soft-failed does not wait for any of them.
    async fn lacks_nothing(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<bool> {
        let stored = self.stored_event(&pdu.event_id).await?;
        if stored.is_some_and(|stored| matches!(stored.standing, Standing::SoftFailed(_))) {
            return Ok(false);
        }
        let named: HashSet<OwnedEventId> = pdu.auth_events.iter().cloned().collect();
        let known = self.storage().event_ids_known(&pdu.auth_events).await?;
        Ok(named.iter().all(|event_id| known.contains(event_id)) && self.missing_prev(room, pdu).await?.is_empty())
    }
}

fn is_sticky(pdu: &Pdu, now_ms: u64) -> bool {
    pdu.sticky_until_ms(now_ms).is_some_and(|until_ms| until_ms > now_ms)
}
