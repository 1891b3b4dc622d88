//! The list of what a user was notified of.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>

use rules::change::Position;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, push::Action};

use crate::{ClientEvent, Engine, EngineError, Requester, Result, rooms::SeenEvent};

/// How many notifications a page has when the client does not say.
const PAGE_DEFAULT: usize = 20;
/// How many at most.
const PAGE_MAX: usize = 100;

/// Which notifications are wanted.
#[derive(Clone, Debug, Default)]
pub struct NotificationsQuery {
    /// Where the last page ended; `None` for the latest.
    pub from: Option<String>,
    /// How many.
    pub limit: Option<usize>,
    /// Whether only those that stand out are wanted.
    pub only_highlights: bool,
}

/// One page, the latest first.
#[derive(Clone, Debug)]
pub struct NotificationsPage {
    /// The notifications. There may be none although there are more pages.
    pub notifications: Vec<Told>,
    /// Where to go on, unless this is the end.
    pub next: Option<String>,
}

/// One event that the user was notified of.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was to be done about it.
    pub actions: Vec<Action>,
    /// The event.
    pub event: ClientEvent,
    /// Whether the user has read it since.
    pub read: bool,
    /// The room.
    pub room_id: OwnedRoomId,
    /// When.
    pub ts: MilliSecondsSinceUnixEpoch,
}

impl Engine {
    /// What the asker was notified of. Events that they may not see any more are left out.
    pub async fn notifications(&self, requester: &Requester, query: NotificationsQuery) -> Result<NotificationsPage> {
        let before = match query.from {
            None => Position::MAX,
            Some(token) => token.parse().map_err(|_| EngineError::invalid_param("`from` is no token of ours"))?,
        };
        let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let user_id = &requester.user_id;
        let (records, more) = self.storage().notifications(user_id, before, limit, query.only_highlights).await?;
        let mut notifications = Vec::with_capacity(records.len());
        for record in records {
            let Some(event) = self.seen_event(requester, &record.room_id, &record.event_id).await? else { continue };
            let Some(event) = self.client_events(requester, &[event], true).await?.pop() else { continue };
            let actions = serde_json::from_str(record.actions.get()).map_err(EngineError::internal)?;
            let (room_id, ts) = (record.room_id, record.ts);
            notifications.push(Told { actions, event, read: record.read, room_id, ts });
        }
        Ok(NotificationsPage { notifications, next: more.map(|position| position.to_string()) })
    }

    /// An event that the asker may see.
    async fn seen_event(
        &self,
        requester: &Requester,
        room_id: &ruma::RoomId,
        event_id: &ruma::EventId,
    ) -> Result<Option<SeenEvent>> {
        let Some(event) = self.stored_event(event_id).await? else { return Ok(None) };
        match self.view(room_id, &requester.user_id).await {
            Ok(view) => Ok(view.see(event)),
            Err(EngineError::Forbidden(_) | EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
