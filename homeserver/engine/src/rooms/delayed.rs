//! Events that are sent later, unless somebody prevents it: a call ends for who does not say any more that they are in it.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>, as clients use it at this time.

mod worker;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{
    OwnedRoomId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue;
use storage::DelayedEvent;
use tokio::sync::Notify;

use super::send::{object, request};
use crate::{Engine, EngineError, Requester, Result};

/// The longest delay: a day, in milliseconds.
const DELAY_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// How many events of one user wait at most.
const WAITING_MAX: usize = 100;
/// The largest content, in bytes: as much as an event may have.
const CONTENT_BYTES_MAX: usize = 65_536;
/// How long the name of one is, in characters: who knows it may use it.
const DELAY_ID_LENGTH: usize = 24;

/// An event that is to be sent later.
#[derive(Clone, Debug)]
pub struct DelayCommand {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event type.
    pub event_type: TimelineEventType,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// The content: a JSON object.
    pub content: Box<RawValue>,
    /// How much later, in milliseconds.
    pub delay_ms: u64,
    /// The client's transaction id.
    pub transaction_id: Option<String>,
    /// For how long it will be sticky, in milliseconds, if it will.
    pub sticky_duration_ms: Option<u32>,
}

/// What is done with an event that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayAction {
    /// It is never sent.
    Cancel,
    /// It waits anew from now on.
    Restart,
    /// It is sent now.
    Send,
}

/// What is kept in memory of events that wait.
#[derive(Default)]
pub(crate) struct Delayed {
    /// When the next one is due may have changed.
    changed: Arc<Notify>,
    /// Rooms of which state waits to be set, and maybe some of which none does any more.
    rooms_with_state: Mutex<HashSet<OwnedRoomId>>,
}

impl Delayed {
    fn note_state(&self, room_id: &OwnedRoomId) {
        self.rooms_with_state.lock().unwrap_or_else(PoisonError::into_inner).insert(room_id.clone());
    }

    fn has_none(&self) -> bool {
        self.rooms_with_state.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn has_state(&self, room_id: &ruma::RoomId) -> bool {
        self.rooms_with_state.lock().unwrap_or_else(PoisonError::into_inner).contains(room_id)
    }
}

impl Engine {
    /// Keeps an event to be sent later, and returns the name of it.
    pub async fn delay(&self, requester: &Requester, command: DelayCommand) -> Result<String> {
        let Requester { user_id, device_id } = requester;
        let lock = format!("delayed {user_id}");
        let _lock = self.inner.account_data.lock(&lock).await;
        if let Some(transaction_id) = command.transaction_id.as_deref() {
            request(requester, String::new(), Some(transaction_id.to_owned()))?;
            let done = self.storage();
            let done = done.delayed_event_of_transaction(user_id, device_id, &command.room_id, transaction_id).await?;
            if let Some(event) = done {
                return Ok(event.delay_id);
            }
        }
        self.check_delay(requester, &command).await?;
        let now_ts = self.world().clock.now_ms();
        let event = DelayedEvent {
            delay_id: self.world().random_string(DELAY_ID_LENGTH),
            user_id: user_id.clone(),
            device_id: device_id.clone(),
            room_id: command.room_id,
            event_type: command.event_type.to_string(),
            state_key: command.state_key,
            content: command.content,
            delay_ms: command.delay_ms,
            running_since_ts: now_ts,
            send_ts: now_ts + command.delay_ms,
            transaction_id: command.transaction_id,
            sticky_duration_ms: command.sticky_duration_ms,
        };
        if event.state_key.is_some() {
            self.inner.rooms.delayed.note_state(&event.room_id);
        }
        self.storage().store_delayed_event(&event).await?;
        self.inner.rooms.delayed.changed.notify_one();
        Ok(event.delay_id)
    }

    async fn check_delay(&self, requester: &Requester, command: &DelayCommand) -> Result<()> {
        if !(1..=DELAY_MAX_MS).contains(&command.delay_ms) {
            return Err(EngineError::BadRequest(format!("The delay must be between 1 and {DELAY_MAX_MS} ms")));
        }
        if command.content.get().len() > CONTENT_BYTES_MAX {
            return Err(EngineError::TooLarge(format!("The content is larger than {CONTENT_BYTES_MAX} bytes")));
        }
        object(&command.content)?;
        let room = self.known_room(&command.room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        if self.storage().delayed_events(&requester.user_id).await?.len() >= WAITING_MAX {
            return Err(EngineError::BadRequest(format!("More than {WAITING_MAX} of your events are waiting")));
        }
        Ok(())
    }

    /// The asker's events that wait, the next one first.
    pub async fn delayed_events(&self, requester: &Requester) -> Result<Vec<DelayedEvent>> {
        Ok(self.storage().delayed_events(&requester.user_id).await?)
    }

    /// One of the asker's events that wait.
    pub async fn delayed_event(&self, requester: &Requester, delay_id: &str) -> Result<DelayedEvent> {
        let event = self.storage().delayed_event(delay_id).await?;
        event.filter(|event| event.user_id == requester.user_id).ok_or_else(not_found)
    }

    /// Does something with an event that waits, on behalf of whoever knows its name.
    pub async fn update_delayed_event(&self, delay_id: &str, action: DelayAction) -> Result<()> {
        let event = self.storage().delayed_event(delay_id).await?.ok_or_else(not_found)?;
        match action {
            DelayAction::Cancel => {
                if !self.storage().take_delayed_event(delay_id).await? {
                    return Err(not_found());
                }
            }
            DelayAction::Restart => {
                if !self.storage().restart_delayed_event(delay_id, self.world().clock.now_ms()).await? {
                    return Err(not_found());
                }
            }
            DelayAction::Send => self.send_delayed(&event).await?,
        }
        self.inner.rooms.delayed.changed.notify_one();
        Ok(())
    }

    /// Sends an event that waited, once: a second attempt, after the process stopped between sending and forgetting,
    /// finds the first one's transaction id, or the state set already.
    async fn send_delayed(&self, event: &DelayedEvent) -> Result<()> {
        let requester = Requester { user_id: event.user_id.clone(), device_id: event.device_id.clone() };
        let _lock = self.inner.account_data.lock(&format!("delayed event {}", event.delay_id)).await;
        if self.storage().delayed_event(&event.delay_id).await?.is_none() {
            return Err(not_found());
        }
        let sent = self.send_now(&requester, event).await;
        if let Err(EngineError::Busy | EngineError::Storage(_)) = &sent {
            return sent;
        }
        self.storage().take_delayed_event(&event.delay_id).await?;
        sent
    }

    async fn send_now(&self, requester: &Requester, event: &DelayedEvent) -> Result<()> {
        if let Some(state_key) = &event.state_key {
            let event_type = StateEventType::from(event.event_type.clone());
            let (room_id, content, sticky) = (&event.room_id, &event.content, event.sticky_duration_ms);
            let set = self.set_sticky_state(requester, room_id, event_type, state_key, content, sticky);
            return set.await.map(drop);
        }
        let command = crate::SendCommand {
            room_id: event.room_id.clone(),
            event_type: event.event_type.clone().into(),
            content: event.content.clone(),
            transaction_id: Some(format!("delayed {}", event.delay_id)),
        };
        self.send_sticky(requester, command, event.sticky_duration_ms).await.map(drop)
    }
}

fn not_found() -> EngineError {
    EngineError::not_found("No such event is waiting")
}
