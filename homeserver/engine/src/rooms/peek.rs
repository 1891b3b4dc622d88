//! Listening to a room that one is not in, but may read.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#peeking_get_matrixclientv3events>

use std::time::Duration;

use ruma::{RoomId, api::client::filter::RoomEventFilter};
use tokio::time::Instant;

use super::{MessagesPage, MessagesQuery};
use crate::{
    Engine, EngineError, Requester, Result,
    sync::{CATCH_UP_MAX, TimelineToken},
};

/// How many events are told at once.
const EVENTS_MAX: usize = 100;
/// The longest wait, whatever the client asks for.
const WAIT_MAX: Duration = Duration::from_mins(1);

impl Engine {
    /// What happened in a room after a point in its timeline, as far as the asker may see it. Where nothing did, waits
    /// until something does, or the time is over. Without a point, only what happens from now on is told.
    pub async fn peek(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        from: Option<&str>,
        timeout: Duration,
    ) -> Result<MessagesPage> {
        let mut log = self.storage().subscribe();
        let mut stopping = self.inner.sync.stopping();
        let mut start = from.map_or_else(|| TimelineToken(self.storage().head()).to_string(), ToOwned::to_owned);
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        let mut looked_at = None;
        loop {
            let head = *log.borrow_and_update();
            // The log grows before the room as it is kept in memory does.
            if !self.inner.sync.caught_up(head, CATCH_UP_MAX).await {
                return Err(EngineError::Busy);
            }
            let room = self.resident_room(room_id).await?;
            let room = room.ok_or_else(|| EngineError::forbidden("This server is not in that room"))?;
            if looked_at.replace(room.revision) != Some(room.revision) {
                let page = self.peek_now(requester, room_id, &start).await?;
                match page.end.as_ref().filter(|reached| **reached != start) {
                    // Much was there that the asker may not see; what they may see can be behind it.
                    Some(reached) if page.chunk.is_empty() => {
                        start.clone_from(reached);
                        looked_at = None;
                        continue;
                    }
                    Some(_) => return Ok(page),
                    None => {}
                }
            }
            tokio::select! {
                _ = log.changed() => {}
                () = tokio::time::sleep_until(deadline) => break,
                () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => break,
            }
        }
        let mut page = self.peek_now(requester, room_id, &start).await?;
        page.end.get_or_insert(start);
        Ok(page)
    }

    /// What happened up to now, with no end where nothing did. What happens meanwhile is for the next question.
    async fn peek_now(&self, requester: &Requester, room_id: &RoomId, from: &str) -> Result<MessagesPage> {
        let query = MessagesQuery {
            room_id: room_id.to_owned(),
            from: Some(from.to_owned()),
            to: Some(TimelineToken(self.storage().head()).to_string()),
            forward: true,
            limit: EVENTS_MAX,
            filter: RoomEventFilter::default(),
        };
        self.messages(requester, query).await
    }
}
