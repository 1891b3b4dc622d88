//! Rooms that the user has left or was removed from: what happened up to then, and nothing after.

use ruma::api::client::sync::sync_events::v3::LeftRoom;

use super::{Asked, account_data};
use crate::{
    Engine, Result,
    rooms::SeenEvent,
    sync::{
        changes::RoomChanges,
        filter::{lazy_loads, timeline_limit},
        state::{StateQuery, senders},
        timeline::Window,
        token::TimelineToken,
    },
};

impl Engine {
    pub(super) async fn v3_left(&self, asked: &Asked<'_>, changes: &RoomChanges) -> Result<LeftRoom> {
        let mut room = match changes.left_at {
            Some(order) => self.v3_left_after_stay(asked, changes, order).await?,
            None => self.v3_never_joined(asked, changes).await?,
        };
        let filter = &asked.query.filter.room.account_data;
        room.account_data = account_data::of_room(&changes.account_data, filter)?;
        Ok(room)
    }

    /// The user was in the room, until the event of that order.
    async fn v3_left_after_stay(&self, asked: &Asked<'_>, changes: &RoomChanges, order: i64) -> Result<LeftRoom> {
        let filter = &asked.query.filter.room;
        let window = self.v3_window(asked, changes, order, None).await?;
        let members = lazy_loads(&filter.state).then(|| {
            let mut members = senders(&window.events);
            members.insert(changes.record.user_id.clone());
            members
        });
        let state = self
            .state_section(&StateQuery {
                room_id: &changes.record.room_id,
                base: asked.base(changes),
                window: &window,
                until: order,
                has_changes: true,
                at_end: asked.query.use_state_after,
                filter: &filter.state,
                members: members.as_ref(),
            })
            .await?;
        let mut room = LeftRoom::new();
        room.state = self.v3_state(asked, &state).await?;
        room.timeline = self.v3_timeline(asked, window, true).await?;
        Ok(room)
    }

    /// An invitation was turned down or taken back, or a user banned who was not there: all there is to tell is that.
    async fn v3_never_joined(&self, asked: &Asked<'_>, changes: &RoomChanges) -> Result<LeftRoom> {
        let record = &changes.record;
        let event = self.stored_event(&record.event_id).await?;
        let event = event.filter(|event| {
            // When no server could be told that an invitation was turned down, the record has only the invitation.
            let membership = event.pdu.membership();
            let is_it = membership.is_some_and(|(user_id, now)| user_id == record.user_id && now == record.membership);
            // An invitation that lost against an earlier leave when branches of the room were resolved.
            let is_told = event.order.is_some_and(|order| asked.since.is_some_and(|since| order <= since));
            is_it && !is_told && asked.wants(&record.room_id, &event.pdu)
        });
        let limit = timeline_limit(&asked.query.filter.room.timeline);
        let events = event.map(|event| SeenEvent { event, membership: record.membership.clone() });
        let events: Vec<SeenEvent> = events.into_iter().take(limit).collect();
        let window = Window { events, limited: false, start: TimelineToken(asked.now) };
        let mut room = LeftRoom::new();
        room.state = self.v3_state(asked, &[]).await?;
        room.timeline = self.v3_timeline(asked, window, false).await?;
        Ok(room)
    }
}
