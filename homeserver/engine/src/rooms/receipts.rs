//! Read receipts and the fully-read marker: up to where users have read. They only move forward.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#receipts>,
//! <https://spec.matrix.org/v1.19/server-server-api/#receipts>

mod inbound;

use std::sync::Arc;

use rules::{Change, Pdu};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId, events::receipt::ReceiptType};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use storage::{StoredEvent, Submission};

use crate::{Engine, EngineError, Requester, Result, rooms::commit_error};

/// The thread of everything that is in no thread.
pub(crate) const MAIN_THREAD: &str = "main";
/// How many relations are followed from an event to the thread that it is in.
/// <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts> recommends three.
const THREAD_HOPS_MAX: usize = 3;
/// The account data type of the marker.
const FULLY_READ: &str = "m.fully_read";

#[derive(Deserialize, Serialize)]
struct FullyRead {
    event_id: OwnedEventId,
}

#[derive(Deserialize)]
struct Related {
    #[serde(rename = "m.relates_to")]
    relates_to: Relation,
}

#[derive(Deserialize)]
struct Relation {
    rel_type: Option<String>,
    event_id: Option<OwnedEventId>,
}

impl Engine {
    /// The asker has read a room, or one thread of it, up to an event.
    pub async fn receipt(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        receipt_type: ReceiptType,
        event_id: &EventId,
        thread_id: Option<String>,
    ) -> Result<()> {
        if !matches!(receipt_type, ReceiptType::Read | ReceiptType::ReadPrivate) {
            return Err(EngineError::invalid_param("Unknown type of receipt"));
        }
        let event = self.event_to_mark(requester, room_id, event_id).await?;
        if let Some(thread_id) = &thread_id {
            self.check_thread(thread_id, &event.pdu).await?;
        }
        let _lock = self.inner.sync.receipts.lock(&format!("{room_id} {}", requester.user_id)).await;
        let ts = self.world().clock.now();
        let read = read_up_to(&event, &requester.user_id, thread_id.clone());
        let change = self.receipt_change(&event, &requester.user_id, receipt_type, thread_id, ts).await?;
        self.commit_markers(change.into_iter().flat_map(|change| [change, read.clone()]).collect()).await?;
        self.note_activity(requester);
        Ok(())
    }

    /// Sets several markers of the asker at once.
    pub async fn read_markers(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        fully_read: Option<OwnedEventId>,
        read: Option<OwnedEventId>,
        read_private: Option<OwnedEventId>,
    ) -> Result<()> {
        let _lock = self.inner.sync.receipts.lock(&format!("{room_id} {}", requester.user_id)).await;
        let ts = self.world().clock.now();
        let mut changes = Vec::new();
        if let Some(event_id) = fully_read {
            let event = self.event_to_mark(requester, room_id, &event_id).await?;
            changes.extend(self.fully_read_change(&event, &requester.user_id).await?);
        }
        for (receipt_type, event_id) in [(ReceiptType::Read, read), (ReceiptType::ReadPrivate, read_private)] {
            let Some(event_id) = event_id else { continue };
            let event = self.event_to_mark(requester, room_id, &event_id).await?;
            let receipt = self.receipt_change(&event, &requester.user_id, receipt_type, None, ts).await?;
            let read = read_up_to(&event, &requester.user_id, None);
            changes.extend(receipt.into_iter().flat_map(|receipt| [receipt, read.clone()]));
        }
        self.commit_markers(changes).await
    }

    /// The event of that room's timeline that a member of the room marks.
    async fn event_to_mark(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Arc<StoredEvent>> {
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        let event = self.stored_event(event_id).await?;
        let event = event.filter(|event| event.pdu.room_id == room_id && event.order.is_some());
        event.ok_or_else(|| EngineError::not_found("No such event in this room"))
    }

    /// Refuses names of threads that the event is not in. The root, and what relates to it, are in the main timeline, but
    /// shown with the thread too, where they may be what was read last.
    async fn check_thread(&self, thread_id: &str, pdu: &Arc<Pdu>) -> Result<()> {
        if thread_id == pdu.event_id || self.relates_to(pdu, thread_id).await? {
            return Ok(());
        }
        let thread = self.thread_of(pdu).await?;
        if thread.as_ref().map_or(MAIN_THREAD, |root| root.as_str()) == thread_id {
            return Ok(());
        }
        Err(EngineError::invalid_param("`thread_id` is not the thread of the event"))
    }

    /// Whether an event relates to another, or to one that does.
    async fn relates_to(&self, pdu: &Arc<Pdu>, event_id: &str) -> Result<bool> {
        let mut current = pdu.clone();
        for _ in 0..THREAD_HOPS_MAX {
            let Some(relation) = current.relation() else { return Ok(false) };
            if relation.event_id == event_id {
                return Ok(true);
            }
            match self.stored_event(&relation.event_id).await? {
                Some(event) if event.pdu.room_id == pdu.room_id => current = event.pdu.clone(),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// The root of the thread that an event is in, if it is in one.
    pub(crate) async fn thread_of(&self, pdu: &Arc<Pdu>) -> Result<Option<OwnedEventId>> {
        let mut current = pdu.clone();
        for _ in 0..THREAD_HOPS_MAX {
            let Some(Related { relates_to }) = current.content_as() else { return Ok(None) };
            let Some(parent) = relates_to.event_id else { return Ok(None) };
            if relates_to.rel_type.as_deref() == Some("m.thread") {
                return Ok(Some(parent));
            }
            match self.stored_event(&parent).await? {
                Some(event) if event.pdu.room_id == pdu.room_id => current = event.pdu.clone(),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The change that moves a receipt to an event, unless it is there or further already.
    async fn receipt_change(
        &self,
        event: &StoredEvent,
        user_id: &UserId,
        receipt_type: ReceiptType,
        thread_id: Option<String>,
        ts: MilliSecondsSinceUnixEpoch,
    ) -> Result<Option<Change>> {
        let room_id = &event.pdu.room_id;
        let existing = self.storage().receipt(room_id, user_id, &receipt_type, thread_id.as_deref()).await?;
        if let Some(existing) = existing
            && !self.is_ahead(event, &existing.event_id).await?
        {
            return Ok(None);
        }
        Ok(Some(Change::Receipt {
            room_id: room_id.clone(),
            user_id: user_id.to_owned(),
            receipt_type,
            thread_id,
            event_id: event.pdu.event_id.clone(),
            ts,
        }))
    }

    async fn fully_read_change(&self, event: &StoredEvent, user_id: &UserId) -> Result<Option<Change>> {
        let room_id = &event.pdu.room_id;
        let existing = self.storage().account_data(user_id, Some(room_id), FULLY_READ).await?;
        let existing = existing.and_then(|record| serde_json::from_str::<FullyRead>(record.content.get()).ok());
        if let Some(FullyRead { event_id }) = existing
            && !self.is_ahead(event, &event_id).await?
        {
            return Ok(None);
        }
        let content = to_raw_value(&FullyRead { event_id: event.pdu.event_id.clone() });
        Ok(Some(Change::AccountData {
            user_id: user_id.to_owned(),
            room_id: Some(room_id.clone()),
            event_type: FULLY_READ.to_owned(),
            content: content.map_err(EngineError::internal)?,
        }))
    }

    /// Whether an event is later in its room's timeline than the one marked before. One that the timeline does not
    /// have is before everything.
    async fn is_ahead(&self, event: &StoredEvent, marked: &EventId) -> Result<bool> {
        let marked = self.stored_event(marked).await?;
        Ok(event.order > marked.and_then(|marked| marked.order))
    }

    async fn commit_markers(&self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let submission = Submission { room: None, changes };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }
}

/// Whoever sent the receipt has read so far.
fn read_up_to(event: &StoredEvent, user_id: &UserId, thread_id: Option<String>) -> Change {
    Change::Read { room_id: event.pdu.room_id.clone(), user_id: user_id.to_owned(), thread_id, up_to: event.order }
}
