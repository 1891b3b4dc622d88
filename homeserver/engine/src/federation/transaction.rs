//! Transactions from other servers: done once, rooms independent of each other.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use ruma::{OwnedRoomId, RoomId, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::verify::Dropped;
use crate::{Engine, EngineError, Result};

/// How long the events of one room may hold up a transaction: less than senders wait, which is a minute. What is not done
/// by then is dropped; the next event of the room makes us fetch it again.
const ROOM_DEADLINE: Duration = Duration::from_secs(45);

/// How many events of a room that we are not in are looked at in one transaction: as many as one may have.
const MAX_EVENTS_ELSEWHERE: usize = 50;

/// What became of each event: an empty object, or an error.
pub type PduOutcomes = BTreeMap<String, PduOutcome>;

/// What became of an event of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PduOutcome {
    /// Why it was dropped, if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct EventRoom {
    room_id: Option<OwnedRoomId>,
}

impl Engine {
    /// Takes a transaction. The same again gives the same answer and changes nothing.
    pub async fn federation_transaction(
        &self,
        origin: &ServerName,
        transaction_id: &str,
        pdus: &[Box<RawValue>],
        edus: &[Box<RawValue>],
    ) -> Result<PduOutcomes> {
        let _turn = self.inner.ingest.lock(origin.as_str()).await;
        if let Some(answer) = self.storage().received_transaction(origin, transaction_id).await? {
            return serde_json::from_str(&answer).map_err(EngineError::internal);
        }
        let (outcomes, ()) = futures_util::join!(self.receive_pdus(origin, pdus), self.receive_edus(origin, edus));
        let outcomes = outcomes?;
        // A receipt may be for an event of the same transaction, which was not known the first time.
        if !pdus.is_empty() {
            self.receive_receipt_edus(origin, edus).await;
        }
        let answer = serde_json::to_string(&outcomes).map_err(EngineError::internal)?;
        let now_ms = self.world().clock.now_ms();
        self.storage().record_received_transaction(origin, transaction_id, &answer, now_ms).await?;
        Ok(outcomes)
    }

    async fn receive_pdus(&self, origin: &ServerName, pdus: &[Box<RawValue>]) -> Result<PduOutcomes> {
        let mut by_room: BTreeMap<OwnedRoomId, Vec<&RawValue>> = BTreeMap::new();
        for pdu in pdus {
            if let Ok(EventRoom { room_id: Some(room_id) }) = serde_json::from_str(pdu.get()) {
                by_room.entry(room_id).or_default().push(pdu);
            }
        }
        let rooms = by_room.iter().map(|(room_id, pdus)| self.receive_room(origin, room_id, pdus));
        let mut outcomes = PduOutcomes::new();
        for room in join_all(rooms).await {
            outcomes.extend(room?);
        }
        Ok(outcomes)
    }

    /// Events of a room that we are not in: only the ends of our users' invitations and knocks concern us.
    async fn receive_elsewhere(&self, room_id: &RoomId, pdus: &[&RawValue]) -> Result<PduOutcomes> {
        let mut outcomes = PduOutcomes::new();
        for pdu in pdus.iter().take(MAX_EVENTS_ELSEWHERE) {
            let event_id = self.event_id_elsewhere(room_id, pdu).await;
            match self.receive_rescission(room_id, pdu).await {
                Err(Dropped::Engine(EngineError::Storage(error))) => return Err(error.into()),
                Err(reason) => tracing::debug!(room.id = %room_id, %reason, "event of a room that we are not in"),
                Ok(()) => outcomes.extend(event_id.map(|event_id| (event_id, PduOutcome::default()))),
            }
        }
        Ok(outcomes)
    }

    async fn receive_room(&self, origin: &ServerName, room_id: &RoomId, pdus: &[&RawValue]) -> Result<PduOutcomes> {
        let mut outcomes = PduOutcomes::new();
        let Some(room) = self.resident_room(room_id).await? else { return self.receive_elsewhere(room_id, pdus).await };
        let deadline = tokio::time::Instant::now() + ROOM_DEADLINE;
        let mut any_taken = false;
        for pdu in pdus {
            let received = tokio::time::timeout_at(deadline, self.receive(origin, room_id, pdu)).await;
            let error = match received {
                // What is set aside is ours to look after: its server need not send it again.
                Ok(Ok(_) | Err(Dropped::SetAside)) => None,
                Ok(Err(Dropped::Engine(EngineError::Storage(error)))) => return Err(error.into()),
                Ok(Err(Dropped::Engine(EngineError::Busy))) => return Err(EngineError::Busy),
                Ok(Err(reason)) => Some(reason.to_string()),
                Err(_) => Some("not done in time".to_owned()),
            };
            any_taken |= error.is_none();
            let event_id = rules::event::read_pdu(pdu.get(), &room.rules).map(|(pdu, _)| pdu.event_id.to_string());
            if let Some(reason) = &error {
                let event_id = event_id.as_deref().unwrap_or("unreadable");
                tracing::info!(%origin, room.id = %room_id, event.id = event_id, reason, "event dropped");
            }
            outcomes.extend(event_id.ok().map(|event_id| (event_id, PduOutcome { error })));
        }
        if any_taken {
            // What is not done in time waits for the next event, or its own time.
            let judged = tokio::time::timeout_at(deadline, self.judge_set_aside_of(room_id, false)).await;
            judged.unwrap_or(Ok(0))?;
        }
        Ok(outcomes)
    }
}
