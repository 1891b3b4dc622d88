//! A look into a room: its state and its latest events at once. Deprecated but for rooms that anybody may read.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidinitialsync>

use ruma::{RoomId, api::client::filter::RoomEventFilter, events::room::member::MembershipState};
use serde_json::value::RawValue;

use super::{MessagesPage, MessagesQuery};
use crate::{ClientEvent, Engine, Requester, Result};

/// How many events are shown, when the client does not say, and at most.
const EVENTS: usize = 20;
const EVENTS_MAX: usize = 100;

/// What is seen of a room at once.
#[derive(Clone, Debug)]
pub struct InitialRoom {
    /// What the asker is in it; `None` for somebody who never had to do with it.
    pub membership: Option<MembershipState>,
    /// The latest events, oldest first; `start` is before them, `end` after.
    pub messages: MessagesPage,
    /// The state.
    pub state: Vec<ClientEvent>,
    /// Whether the room is listed in the directory.
    pub published: bool,
    /// The asker's data of the room: type and content.
    pub account_data: Vec<(String, Box<RawValue>)>,
}

impl Engine {
    /// A look into a room.
    pub async fn initial_sync(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        limit: Option<u64>,
    ) -> Result<InitialRoom> {
        let state = self.state(requester, room_id).await?;
        let limit = limit.map_or(EVENTS, |limit| usize::try_from(limit).unwrap_or(usize::MAX)).clamp(1, EVENTS_MAX);
        let query = MessagesQuery {
            room_id: room_id.to_owned(),
            from: None,
            to: None,
            forward: false,
            limit,
            filter: RoomEventFilter::default(),
        };
        let mut messages = self.messages(requester, query).await?;
        messages.chunk.reverse();
        let newest = std::mem::take(&mut messages.start);
        messages.start = messages.end.replace(newest).unwrap_or_default();
        let record = self.storage().membership(&requester.user_id, room_id).await?;
        let data = self.storage().account_data_since(&requester.user_id, 0, self.storage().head()).await?;
        let data = data.into_iter().filter(|record| record.room_id.as_deref() == Some(room_id));
        Ok(InitialRoom {
            membership: record.map(|record| record.membership),
            messages,
            state,
            published: self.room_published(room_id).await?,
            account_data: data.map(|record| (record.event_type, record.content)).collect(),
        })
    }
}
