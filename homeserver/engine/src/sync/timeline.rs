//! Reading a room's timeline through a user's eyes, and the part of it that one sync shows.

use std::sync::Arc;

use rules::{
    Pdu,
    change::{Position, Standing},
};
use ruma::{RoomId, UserId, events::room::member::MembershipState};
use storage::{Direction, StoredEvent, TimelineRange};

use super::token::TimelineToken;
use crate::{
    Engine, Result,
    rooms::{RoomView, SeenEvent},
};

/// How many rows one reading goes through at most, so that a filter that nothing fits, or history that the user may
/// not see, does not make one request read a whole room.
const SCANNED_ROWS_MAX: usize = 1_000;
/// How many rows are fetched at once, at least and at most.
const BATCH_ROWS: std::ops::RangeInclusive<usize> = 12..=200;

/// Through whose eyes a timeline is read.
#[derive(Clone, Copy)]
pub(crate) enum Eyes<'a> {
    /// Of somebody who was joined at every event that is read: such a user may see all of them, whatever the history
    /// visibility, so there is nothing to look up.
    Joined,
    /// Of anybody else.
    View(&'a RoomView),
}

impl Eyes<'_> {
    fn see(self, event: Arc<StoredEvent>) -> Option<SeenEvent> {
        match self {
            Self::View(view) => view.see(event),
            Self::Joined => {
                (event.standing == Standing::Accepted).then_some(SeenEvent { event, membership: MembershipState::Join })
            }
        }
    }
}

/// What a reading came to.
pub(crate) struct Scanned {
    /// The events, in the direction of reading, no more than were asked for.
    pub(crate) events: Vec<SeenEvent>,
    /// From where to read on.
    pub(crate) reached: Option<TimelineToken>,
    /// Whether nothing is left in the range.
    pub(crate) exhausted: bool,
}

/// The part of a room's timeline that one sync shows.
pub(crate) struct Window {
    /// The events, oldest first.
    pub(crate) events: Vec<SeenEvent>,
    /// Whether events before these were left out.
    pub(crate) limited: bool,
    /// The point just before the first of them.
    pub(crate) start: TimelineToken,
}

/// Which part of a timeline a window may show.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// The room.
    pub(crate) room_id: &'a RoomId,
    /// For whom.
    pub(crate) user_id: &'a UserId,
    /// Only what is later; `None` for all.
    pub(crate) after: Option<i64>,
    /// Only what is not later.
    pub(crate) until: i64,
    /// From which position on the user is known to be joined, up to the end of the span.
    pub(crate) joined_since: Option<Position>,
}

impl Engine {
    /// Reads a part of a timeline until `range.limit` events are found that the user may see and that are wanted, or
    /// enough has been read for one time.
    pub(crate) async fn scan_timeline(
        &self,
        room_id: &RoomId,
        mut range: TimelineRange,
        eyes: Eyes<'_>,
        wanted: &(dyn Fn(&Pdu) -> bool + Sync),
    ) -> Result<Scanned> {
        let limit = range.limit;
        let mut scanned = Scanned { events: Vec::new(), reached: None, exhausted: false };
        let mut rows_read = 0;
        while rows_read < SCANNED_ROWS_MAX && scanned.events.len() < limit {
            let missing = limit - scanned.events.len() + 1;
            range.limit = missing.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
            let rows = self.storage().timeline(room_id, range).await?;
            let is_last = rows.len() < range.limit;
            rows_read += rows.len();
            for row in rows {
                if scanned.events.len() == limit {
                    return Ok(scanned);
                }
                let Some(order) = row.order else { continue };
                let reached = beyond(&mut range, order);
                scanned.reached = Some(reached);
                if wanted(&row.pdu) {
                    scanned.events.extend(eyes.see(row));
                }
            }
            if is_last {
                scanned.exhausted = true;
                break;
            }
        }
        Ok(scanned)
    }

    /// The last `limit` wanted events of a span that the user may see.
    pub(crate) async fn window(
        &self,
        span: Span<'_>,
        limit: usize,
        wanted: &(dyn Fn(&Pdu) -> bool + Sync),
    ) -> Result<Window> {
        let mut found = Vec::new();
        let mut until = span.until;
        // One more than is shown tells whether something is left out.
        let enough = limit + 1;
        let mut exhausted = true;
        if let Some(joined_since) = span.joined_since {
            let after = span.after.map_or(joined_since, |after| after.max(joined_since));
            let range = backward(Some(after), until, enough);
            let scanned = self.scan_timeline(span.room_id, range, Eyes::Joined, wanted).await?;
            exhausted = scanned.exhausted;
            found = scanned.events;
            until = after;
        }
        let is_more_below = span.after.is_none_or(|after| after < until);
        if exhausted && found.len() < enough && is_more_below {
            let view = self.view_unchecked(span.room_id, span.user_id).await?;
            let range = backward(span.after, until, enough - found.len());
            let scanned = self.scan_timeline(span.room_id, range, Eyes::View(&view), wanted).await?;
            exhausted = scanned.exhausted;
            found.extend(scanned.events);
        }
        let mut window = Window::new(found, exhausted, limit, span.until);
        if let Some(gap) = self.last_gap(&window).await? {
            window.cut_before(gap);
        }
        Ok(window)
    }

    /// The last event shown that builds on events which this server lacks, because another server did not tell of them
    /// in time. What is shown must hang together, so nothing before it can be.
    async fn last_gap(&self, window: &Window) -> Result<Option<i64>> {
        let shown =
            || window.events.iter().map(|seen| &seen.event).filter(|event| event.order.is_some_and(|at| at > 0));
        let Some(event) = shown().next() else { return Ok(None) };
        // In a room that no other server ever was in, there is nothing to lack.
        if shown().all(|event| event.pdu.sender.server_name() == self.server_name()) {
            return Ok(None);
        }
        let missing = self.storage().missing_prev_events(&event.pdu.room_id).await?;
        let lacks = |event: &&Arc<StoredEvent>| missing.iter().any(|(_, known, _)| *known == event.pdu.event_id);
        Ok(shown().filter(lacks).filter_map(|event| event.order).max())
    }
}

impl Window {
    /// Nothing happened, up to an order.
    pub(crate) fn empty(until: i64) -> Self {
        Self { events: Vec::new(), limited: false, start: TimelineToken(until) }
    }

    /// Leaves out what is before an order.
    fn cut_before(&mut self, order: i64) {
        self.events.retain(|seen| seen.event.order.is_some_and(|at| at >= order));
        self.limited = true;
        self.start = TimelineToken(order - 1);
    }

    /// Out of the events found, latest first, of which there may be more than are to be shown.
    fn new(mut found: Vec<SeenEvent>, exhausted: bool, limit: usize, until: i64) -> Self {
        let limited = found.len() > limit || !exhausted;
        found.truncate(limit);
        found.reverse();
        let first = found.first().and_then(|seen| seen.event.order);
        Self { events: found, limited, start: TimelineToken(first.map_or(until, |order| order - 1)) }
    }
}

fn backward(after: Option<i64>, until: i64, limit: usize) -> TimelineRange {
    TimelineRange { after, until: Some(until), direction: Direction::Backward, limit }
}

/// Narrows a range to what lies beyond an event that was read, and names the point between the two.
fn beyond(range: &mut TimelineRange, order: i64) -> TimelineToken {
    match range.direction {
        Direction::Forward => {
            range.after = Some(order);
            TimelineToken(order)
        }
        Direction::Backward => {
            range.until = Some(order - 1);
            TimelineToken(order - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(order: i64) -> SeenEvent {
        let json = json!({
            "room_id": "!room:test", "sender": "@a:test", "type": "m.room.message", "content": {},
            "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
        });
        let pdu = Pdu::from_json("$event".try_into().unwrap(), json.to_string().into(), false).unwrap();
        let event = StoredEvent {
            pdu: Arc::new(pdu),
            standing: Standing::Accepted,
            order: Some(order),
            state_before: None,
            redacted_by: None,
        };
        SeenEvent { event: Arc::new(event), membership: MembershipState::Join }
    }

    fn orders(window: &Window) -> Vec<i64> {
        window.events.iter().filter_map(|seen| seen.event.order).collect()
    }

    #[test]
    fn a_window_shows_the_latest_events_oldest_first() {
        let window = Window::new(vec![seen(9), seen(7), seen(4)], true, 2, 9);
        assert_eq!((orders(&window), window.limited, window.start), (vec![7, 9], true, TimelineToken(6)));
        let window = Window::new(vec![seen(9), seen(7)], true, 2, 9);
        assert_eq!((orders(&window), window.limited, window.start), (vec![7, 9], false, TimelineToken(6)));
    }

    #[test]
    fn a_window_that_shows_nothing_starts_at_its_end() {
        let window = Window::new(vec![seen(9)], false, 0, 12);
        assert_eq!((orders(&window), window.limited, window.start), (vec![], true, TimelineToken(12)));
        let window = Window::new(vec![], true, 10, 12);
        assert_eq!((window.limited, window.start), (false, TimelineToken(12)));
        // Not everything was read: what was left out may hold something.
        assert!(Window::new(vec![], false, 10, 12).limited);
    }

    #[test]
    fn reading_goes_on_beyond_what_was_read() {
        let mut range = backward(Some(1), 9, 5);
        assert_eq!(beyond(&mut range, 7), TimelineToken(6));
        assert_eq!((range.after, range.until), (Some(1), Some(6)));
        range.direction = Direction::Forward;
        assert_eq!(beyond(&mut range, 3), TimelineToken(3));
        assert_eq!((range.after, range.until), (Some(3), Some(6)));
    }
}
