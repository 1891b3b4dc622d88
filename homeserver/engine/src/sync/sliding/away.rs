//! Rooms that the user is not in, as sliding sync shows them: those that were left, and invitations and knocks.

use std::collections::BTreeSet;

use rules::change::Position;
use ruma::{RoomId, events::StateEventType};

use super::{
    request::Wanted,
    response::SlidingRoom,
    room::{Asked, Asking},
};
use crate::{
    ClientEvent, Engine, Result,
    sync::{
        stays::Stays,
        timeline::{Span, Window},
    },
};

/// How many events are told at most of a room that the user left, when the client does not look at it.
const LEFT_TIMELINE_LIMIT: usize = 10;

impl Engine {
    /// A room that the user has left, or was removed from: what happened after a position, up to then. Of one that is
    /// new to the client, the state that is wanted, too.
    pub(super) async fn sliding_left(
        &self,
        asked: &Asked<'_>,
        room_id: &RoomId,
        after: Option<Position>,
        wanted: Option<&Wanted>,
    ) -> Result<Option<SlidingRoom>> {
        let user_id = &asked.requester.user_id;
        let Some(record) = self.storage().membership(user_id, room_id).await? else { return Ok(None) };
        let history = self.storage().state_history(room_id, &StateEventType::RoomMember, user_id.as_str()).await?;
        let left_at = Stays::new(&history, after, asked.now).left_since;
        let limit = wanted.map_or(LEFT_TIMELINE_LIMIT, |wanted| wanted.timeline_limit);
        let window = match left_at {
            Some(until) => {
                let span = Span { room_id, user_id, after, until, joined_since: None };
                self.window(span, limit, &|pdu| asked.wants(pdu)).await?
            }
            None => Window::empty(asked.now),
        };
        let mut event_ids = BTreeSet::from([record.event_id]);
        if let (None, Some(left_at), Some(wanted)) = (after, left_at, wanted) {
            event_ids.extend(self.values(room_id, left_at, &|key| wanted.required.wants(key)).await?);
        }
        let mut room = SlidingRoom {
            initial: after.is_none().then_some(true),
            limited: Some(window.limited),
            prev_batch: Some(window.start.to_string()),
            num_live: Some(if after.is_some() { window.events.len() as u64 } else { 0 }),
            bump_stamp: u64::try_from(record.position).ok(),
            ..SlidingRoom::default()
        };
        let events = self.client_events(asked.requester, &window.events, false).await?;
        room.timeline = events.into_iter().map(ClientEvent::into_raw).collect();
        let state = self.storage().readable_events(&event_ids.into_iter().collect::<Vec<_>>()).await?;
        room.required_state = self.raw_state(&state).await?;
        Ok(Some(room))
    }

    /// A room that the user is invited to, or has knocked on. Nothing if that was taken back meanwhile.
    pub(super) async fn sliding_invited(&self, asked: &Asked<'_>, asking: &Asking<'_>) -> Result<Option<SlidingRoom>> {
        let entry = asking.entry;
        let record = self.storage().membership(&asked.requester.user_id, &entry.room_id).await?;
        let Some(record) = record.filter(|record| record.membership == entry.membership) else { return Ok(None) };
        Ok(Some(SlidingRoom {
            bump_stamp: u64::try_from(entry.bump).ok(),
            name: entry.traits.name.clone(),
            initial: Some(true),
            is_dm: entry.is_dm.then_some(true),
            invite_state: Some(self.stripped_state_of(&record).await?),
            ..SlidingRoom::default()
        }))
    }
}
