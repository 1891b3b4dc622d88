//! Rooms that the user is joined to.

use std::collections::BTreeSet;

use rules::change::{Position, StateEntry};
use ruma::{
    OwnedUserId,
    api::client::sync::sync_events::v3::{Ephemeral, JoinedRoom, RoomSummary, Timeline},
};
use storage::ReceiptRecord;

use super::{Asked, account_data};
use crate::{
    ClientEvent, Engine, Result,
    push::shown,
    sync::{
        changes::RoomChanges,
        ephemeral,
        filter::{allows_room_type, covers_room, lazy_loads, timeline_limit, wants_redundant_members},
        state::{Base, StateQuery, senders},
        summary,
        timeline::{Span, Window},
    },
};

impl Engine {
    /// A room, and what is sticky there beside its timeline.
    pub(super) async fn v3_joined(
        &self,
        asked: &Asked<'_>,
        changes: &RoomChanges,
        receipts: Vec<ReceiptRecord>,
    ) -> Result<(Option<JoinedRoom>, Vec<ClientEvent>)> {
        let filter = &asked.query.filter.room;
        let base = asked.base(changes);
        let mut window = if changes.parts.timeline {
            self.v3_window(asked, changes, asked.now, Some(changes.record.position)).await?
        } else {
            Window::empty(asked.now)
        };
        // A room that is new to a client that has synced before begins with a gap: what it may have shown of an earlier
        // stay does not lead up to this.
        window.limited |= changes.base == Base::Nothing && asked.since.is_some();
        let delta = self.v3_changed_state(changes, base, asked.now).await?;
        let summary = self.v3_summary(asked, changes, base, &delta).await?;
        let members = lazy_loads(&filter.state).then(|| self.v3_members(asked, changes, &window, base, &summary));
        let state = self
            .state_section(&StateQuery {
                room_id: &changes.record.room_id,
                base,
                window: &window,
                until: asked.now,
                has_changes: base == Base::Nothing || !delta.is_empty(),
                at_end: asked.query.use_state_after,
                filter: &filter.state,
                members: members.as_ref(),
            })
            .await?;
        if members.is_some() {
            let told = state.iter().filter_map(|event| Some(event.pdu.membership()?.0));
            self.inner.sync.lazy_members.note(asked.requester, &changes.record.room_id, asked.now, told);
        }
        let mut room = JoinedRoom::new();
        room.summary = summary;
        room.state = self.v3_state(asked, &state).await?;
        room.ephemeral = v3_ephemeral(asked, changes, receipts)?;
        room.account_data = account_data::of_room(&changes.account_data, &filter.account_data)?;
        let must_show = base == Base::Nothing;
        let sticky = self.v3_sticky(asked, changes, base, &window).await?;
        room.timeline = self.v3_timeline(asked, window, must_show).await?;
        if !must_show && room.is_empty() && sticky.is_empty() && !self.has_read_since(asked, changes).await? {
            return Ok((None, sticky));
        }
        self.add_unread(asked, changes, &mut room).await?;
        Ok((Some(room), sticky))
    }

    async fn v3_sticky(
        &self,
        asked: &Asked<'_>,
        changes: &RoomChanges,
        base: Base,
        window: &Window,
    ) -> Result<Vec<ClientEvent>> {
        let after = if let Base::Known(since) = base { since } else { 0 };
        if !changes.parts.timeline && base != Base::Nothing {
            return Ok(Vec::new());
        }
        let (room_id, between) = (&changes.record.room_id, (after, asked.now));
        let sticky = self.sticky_in_room(asked.requester, room_id, between, &window.events, &asked.ignored).await?;
        asked.cut(sticky)
    }

    /// Whether the user has read on in the room, of which a filter may hide the receipts.
    async fn has_read_since(&self, asked: &Asked<'_>, changes: &RoomChanges) -> Result<bool> {
        let Base::Known(since) = changes.base else { return Ok(false) };
        let (user_id, room_id) = (&asked.requester.user_id, &changes.record.room_id);
        Ok(changes.parts.receipts && self.storage().read_changed(user_id, room_id).await? > since)
    }

    async fn add_unread(&self, asked: &Asked<'_>, changes: &RoomChanges, room: &mut JoinedRoom) -> Result<()> {
        let unread = self.unread(&asked.requester.user_id, &changes.record.room_id).await?;
        if asked.query.filter.room.timeline.unread_thread_notifications {
            room.unread_notifications = shown(unread.main);
            let threads = unread.threads.into_iter().map(|(root, counts)| (root, shown(counts)));
            room.unread_thread_notifications = threads.collect();
        } else {
            room.unread_notifications = shown(unread.total());
        }
        Ok(())
    }

    /// The part of the timeline that the client was not told yet, up to an order.
    pub(super) async fn v3_window(
        &self,
        asked: &Asked<'_>,
        changes: &RoomChanges,
        until: i64,
        joined_since: Option<Position>,
    ) -> Result<Window> {
        let room_id = &changes.record.room_id;
        let span = Span { room_id, user_id: &asked.requester.user_id, after: changes.told, until, joined_since };
        let limit = timeline_limit(&asked.query.filter.room.timeline);
        let mut window = self.window(span, limit, &|pdu| asked.wants(room_id, pdu)).await?;
        window.events = self.retain_related(&asked.query.relations, window.events).await?;
        Ok(window)
    }

    pub(super) async fn v3_timeline(&self, asked: &Asked<'_>, window: Window, must_show: bool) -> Result<Timeline> {
        let mut timeline = Timeline::new();
        if must_show || window.limited || !window.events.is_empty() {
            timeline.prev_batch = Some(window.start.to_string());
        }
        timeline.limited = window.limited;
        let events = self.client_events(asked.requester, &window.events, false).await?;
        timeline.events = asked.cut(events)?.into_iter().map(ClientEvent::into_raw).collect();
        Ok(timeline)
    }

    /// What of the state changed since what the client knows, if it knows anything.
    async fn v3_changed_state(&self, changes: &RoomChanges, base: Base, now: Position) -> Result<Vec<StateEntry>> {
        match base {
            Base::Known(since) if since < now && changes.parts.timeline => {
                Ok(self.storage().state_changes(&changes.record.room_id, since, now).await?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The summary, if it may have changed.
    async fn v3_summary(
        &self,
        asked: &Asked<'_>,
        changes: &RoomChanges,
        base: Base,
        delta: &[StateEntry],
    ) -> Result<RoomSummary> {
        let room_id = &changes.record.room_id;
        if let Base::Known(since) = base
            && !summary::is_affected(delta)
            && !self.members_known(room_id).await?.became_known_after(since)
        {
            return Ok(RoomSummary::new());
        }
        match self.room(room_id).await? {
            Some(room) => self.summary(&room, &asked.requester.user_id).await,
            None => Ok(RoomSummary::new()),
        }
    }

    /// Whose member events matter to a client that loads members lazily: those of whoever it sees, and, where it knows
    /// nothing yet, of the user and of those who give the room its name. Not those that it was told before.
    fn v3_members(
        &self,
        asked: &Asked<'_>,
        changes: &RoomChanges,
        window: &Window,
        base: Base,
        summary: &RoomSummary,
    ) -> BTreeSet<OwnedUserId> {
        let mut members = senders(&window.events);
        members.extend(summary.heroes.iter().cloned());
        let room_id = &changes.record.room_id;
        match base {
            Base::Nothing => {
                members.insert(asked.requester.user_id.clone());
                self.inner.sync.lazy_members.forget(asked.requester, room_id);
            }
            Base::Known(since) => {
                if !wants_redundant_members(&asked.query.filter.room.state) {
                    self.inner.sync.lazy_members.leave_out(asked.requester, room_id, since, &mut members);
                }
            }
        }
        members
    }
}

fn v3_ephemeral(asked: &Asked<'_>, changes: &RoomChanges, receipts: Vec<ReceiptRecord>) -> Result<Ephemeral> {
    let filter = &asked.query.filter.room.ephemeral;
    let mut shown = Ephemeral::new();
    shown.events = ephemeral::receipts(receipts, &asked.requester.user_id)?;
    if let Some(users) = &changes.typing
        && covers_room(filter, &changes.record.room_id)
        && allows_room_type(filter, "m.typing")
    {
        shown.events.push(ephemeral::typing(users)?);
    }
    Ok(shown)
}
