//! Events of which something that they build upon is not to be had now: kept aside, and judged again when it has come,
//! and from time to time.
//!
//! A server that is away for a moment, or its key, says nothing about an event. Such an event is neither rejected nor
//! forgotten: nobody may ever send it again, for its server has been told that we have it.

use std::collections::HashSet;

use rules::{Pdu, event::read_pdu};
use ruma::{OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;
use storage::SetAsideEvent;

use super::verify::Dropped;
use crate::{Engine, Result};

/// How many events of a room are kept aside: as many as a transaction may hold. What comes on top is refused.
const MAX_IN_ROOM: usize = 50;
/// How many events of a room are judged again in one go.
const MAX_JUDGED: usize = 10;
/// How many rooms are looked at in one round.
const MAX_ROOMS: usize = 50;
/// After how long an event is tried again; twice as long each time.
const FIRST_PAUSE_MS: u64 = 60 * 1_000;
/// The longest time between two tries.
const PAUSE_MAX_MS: u64 = 6 * 3_600 * 1_000;
/// How long an event is kept: servers that are to come back have come back after a week.
const KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;

impl Engine {
    /// Keeps an event aside for which something is missing. What becomes of it: [`Dropped::SetAside`] if it is kept.
    pub(super) async fn set_aside(&self, origin: &ServerName, pdu: &Pdu) -> Dropped {
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
        match self.storage().set_event_aside(&event, MAX_IN_ROOM).await {
            Ok(true) => Dropped::SetAside,
            Ok(false) => Dropped::MissingAncestors,
            Err(error) => error.into(),
        }
    }

    /// Judges events again whose time has come, in some of the rooms. Returns how many were judged.
    pub async fn judge_set_aside(&self) -> Result<usize> {
        let now_ms = self.world().clock.now_ms();
        let mut judged = 0;
        for room_id in self.storage().rooms_with_due_events(now_ms, MAX_ROOMS).await? {
            judged += self.judge_set_aside_of(&room_id).await?;
        }
        Ok(judged)
    }

    /// Judges events of a room again whose time has come, or of which everything is there now.
    pub(super) async fn judge_set_aside_of(&self, room_id: &RoomId) -> Result<usize> {
        let waiting = self.storage().events_set_aside(room_id).await?;
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
            if event.next_ts <= now_ms || self.lacks_nothing(&pdu).await? {
                self.judge_again(event, now_ms).await?;
                judged += 1;
            }
            if judged >= MAX_JUDGED {
                break;
            }
        }
        Ok(judged)
    }

    async fn judge_again(&self, event: SetAsideEvent, now_ms: u64) -> Result<()> {
        let raw = RawValue::from_string(event.json.clone()).map_err(crate::EngineError::internal)?;
        let is_old = now_ms.saturating_sub(event.since_ts) >= KEPT_MS;
        match self.receive(&event.origin, &event.room_id, &raw).await {
            Err(Dropped::SetAside | Dropped::MissingAncestors | Dropped::Signatures(_)) if !is_old => {
                let pause_ms = FIRST_PAUSE_MS.saturating_mul(2_u64.saturating_pow(event.attempts + 1));
                let next_ts = now_ms.saturating_add(pause_ms.min(PAUSE_MAX_MS));
                let later = SetAsideEvent { attempts: event.attempts.saturating_add(1), next_ts, ..event };
                self.storage().set_event_aside(&later, MAX_IN_ROOM).await?;
                return Ok(());
            }
            Err(Dropped::Engine(error)) => return Err(error),
            Err(reason) => tracing::info!(event.id = %event.event_id, %reason, "event set aside is given up"),
            Ok(standing) => tracing::info!(event.id = %event.event_id, ?standing, "event set aside is judged"),
        }
        self.storage().forget_event_set_aside(&event.event_id).await?;
        Ok(())
    }

    /// Whether all events that an event builds upon are there: the auth events, and the others with their states.
    async fn lacks_nothing(&self, pdu: &Pdu) -> Result<bool> {
        let named: HashSet<OwnedEventId> = pdu.auth_events.iter().cloned().collect();
        let known = self.storage().event_ids_known(&pdu.auth_events).await?;
        Ok(named.iter().all(|event_id| known.contains(event_id)) && self.missing_prev(pdu).await?.is_empty())
    }
}
