//! What sliding sync tells of sticky events, of all rooms that the user is in, whichever the client looks at.
//!
//! Proposals: <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>,
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4480>

use std::collections::{BTreeMap, HashSet};

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId};

use super::{
    extensions::Telling,
    response::{StickyEventsExtension, StickyRoom},
};
use crate::{ClientEvent, Engine, EngineError, Result, rooms::StickyCursor};

impl Engine {
    /// What is sticky and new to the client, but for what the timelines of the same answer show. Nothing where there is
    /// nothing.
    pub(super) async fn sticky_events_extension(&self, telling: &Telling<'_>) -> Result<Option<StickyEventsExtension>> {
        let wanted = &telling.query.extensions.sticky_events;
        let mut after = told(wanted.since.as_deref(), self.storage().head())?;
        let limit = wanted.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let until = telling.changes.now.position;
        let mut rooms = BTreeMap::new();
        let mut has_looked = false;
        // A page of which nothing is left to be told must not keep the client from the next.
        while rooms.is_empty() && after < (until, Position::MAX) {
            let page = self.sticky_page(telling.requester, after, until, limit).await?;
            has_looked |= !page.events.is_empty();
            let mut by_room: BTreeMap<OwnedRoomId, Vec<OwnedEventId>> = BTreeMap::new();
            for event in page.events {
                by_room.entry(event.room_id).or_default().push(event.event_id);
            }
            for (room_id, event_ids) in by_room {
                let room = self.sticky_room(telling, &room_id, event_ids).await?;
                rooms.extend(room.map(|room| (room_id, room)));
            }
            after = page.until;
        }
        Ok(has_looked.then(|| StickyEventsExtension { next_batch: token(after), rooms }))
    }

    async fn sticky_room(
        &self,
        telling: &Telling<'_>,
        room_id: &OwnedRoomId,
        mut event_ids: Vec<OwnedEventId>,
    ) -> Result<Option<StickyRoom>> {
        let shown = telling.rooms.get(room_id).into_iter().flat_map(|room| &room.timeline);
        let shown: HashSet<OwnedEventId> =
            shown.filter_map(|event| event.get_field("event_id").ok().flatten()).collect();
        event_ids.retain(|event_id| !shown.contains(event_id));
        let mut events = self.still_sticky(&event_ids).await?;
        events.retain(|event| !telling.changes.ignored.contains(&event.pdu.sender));
        if events.is_empty() {
            return Ok(None);
        }
        let events = self.sticky_client_events(telling.requester, room_id, events).await?;
        Ok(Some(StickyRoom { events: events.into_iter().map(ClientEvent::into_raw).collect() }))
    }
}

/// Up to where the client has them. What this server never said, since its database was restored from a backup, counts
/// for nothing.
pub(super) fn told(since: Option<&str>, head: Position) -> Result<StickyCursor> {
    const START: StickyCursor = (0, Position::MAX);
    let Some(since) = since else { return Ok(START) };
    let position = |text: &str| text.parse::<Position>().ok().filter(|position| *position >= 0);
    let cursor = match since.split_once('_') {
        Some((since, position_of_event)) => position(since).zip(position(position_of_event)),
        None => position(since).map(|since| (since, Position::MAX)),
    };
    let cursor = cursor.ok_or_else(|| EngineError::invalid_param("`since` is no token of that extension"))?;
    Ok(if cursor.0 > head { START } else { cursor })
}

fn token((since, position): StickyCursor) -> String {
    if position == Position::MAX { since.to_string() } else { format!("{since}_{position}") }
}
