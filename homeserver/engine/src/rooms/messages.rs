//! Reading a room's timeline page by page.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::{collections::HashSet, sync::Arc};

use rules::Pdu;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, api::client::filter::RoomEventFilter};
use storage::{Direction, StoredEvent, TimelineRange};

use super::{RoomView, SeenEvent};
use crate::{
    ClientEvent, Engine, RelationFilter, Requester, Result,
    sync::{Eyes, Scanned, TimelineToken, allows, lazy_loads, senders},
};

/// How many events a page has at most.
const PAGE_EVENTS_MAX: usize = 1_000;
/// How often other servers are asked for earlier events on behalf of one page.
const BACKFILLS_PER_PAGE_MAX: usize = 5;

/// Which page is wanted.
#[derive(Clone, Debug)]
pub struct MessagesQuery {
    /// The room.
    pub room_id: OwnedRoomId,
    /// From where to read; `None` for the end of the room that the reading goes away from.
    pub from: Option<String>,
    /// Up to where to read.
    pub to: Option<String>,
    /// Whether to read forwards.
    pub forward: bool,
    /// How many events to show, from 1 to 1000.
    pub limit: usize,
    /// Which events to show.
    pub filter: RoomEventFilter,
}

/// A page of a room's timeline.
#[derive(Clone, Debug)]
pub struct MessagesPage {
    /// Where it starts.
    pub start: String,
    /// From where to read on; `None` when there is nothing more.
    pub end: Option<String>,
    /// The events, in the direction of reading.
    pub chunk: Vec<ClientEvent>,
    /// With lazy loading: the member events of those who sent them.
    pub state: Vec<ClientEvent>,
}

/// A page being filled.
struct Page<'a> {
    room_id: &'a RoomId,
    filter: &'a RoomEventFilter,
    relations: RelationFilter,
    ignored: HashSet<OwnedUserId>,
    /// What is left to be read, and how many events are missing.
    range: TimelineRange,
    events: Vec<SeenEvent>,
    /// From where to read on.
    reached: Option<TimelineToken>,
}

impl Engine {
    /// A page of what the asker may see of a room's timeline.
    pub async fn messages(&self, requester: &Requester, query: MessagesQuery) -> Result<MessagesPage> {
        self.related_messages(requester, query, RelationFilter::default()).await
    }

    /// The same, only of events that relate to others, and others to them, as is wanted.
    pub async fn related_messages(
        &self,
        requester: &Requester,
        query: MessagesQuery,
        relations: RelationFilter,
    ) -> Result<MessagesPage> {
        let from = query.from.as_deref().map(TimelineToken::parse).transpose()?;
        let to = query.to.as_deref().map(TimelineToken::parse).transpose()?;
        let mut view = self.reading_view(requester, &query.room_id).await?;
        let mut page = Page {
            room_id: &query.room_id,
            filter: &query.filter,
            relations,
            ignored: self.ignored_users(&requester.user_id).await?,
            range: self.page_range(&view, from, to, &query),
            events: Vec::new(),
            reached: None,
        };
        let start = start(&page.range);
        let mut exhausted = self.fill(&mut page, &view).await?;
        let mut backfills = 0;
        while exhausted && page.wants_older() && to.is_none() && backfills < BACKFILLS_PER_PAGE_MAX {
            if !self.backfill(&view.room, page.range.limit).await? {
                break;
            }
            backfills += 1;
            // What was learned of the past decides too about what may be seen of it, and of what came after.
            view = self.view(&query.room_id, &requester.user_id).await?;
            page.events.retain(|seen| view.see(seen.event.clone()).is_some());
            exhausted = self.fill(&mut page, &view).await?;
        }
        let is_end = exhausted
            && match to {
                // Where the reading was to stop, not where the room does: there may be more, if there was something here.
                Some(_) => page.reached.is_none(),
                None => !self.has_more_elsewhere(&page, backfills).await?,
            };
        let end = if is_end { None } else { Some(page.reached.unwrap_or(start)) };
        let state = self.page_state(&page).await?;
        Ok(MessagesPage {
            start: query.from.unwrap_or_else(|| start.to_string()),
            end: end.map(|end| end.to_string()),
            chunk: self.client_events(requester, &page.events, true).await?,
            state: self.client_state(&state, true).await?,
        })
    }

    /// What is to be read. Of what happened after a user left, not even that it happened is shown.
    fn page_range(
        &self,
        view: &RoomView,
        from: Option<TimelineToken>,
        to: Option<TimelineToken>,
        query: &MessagesQuery,
    ) -> TimelineRange {
        let (after, until) = if query.forward { (from, to) } else { (to, from) };
        let last = [until.map(|token| token.0), view.reads_until()].into_iter().flatten().min();
        TimelineRange {
            after: after.map(|token| token.0),
            until: last.or_else(|| (!query.forward).then(|| self.storage().head())),
            direction: if query.forward { Direction::Forward } else { Direction::Backward },
            limit: query.limit.clamp(1, PAGE_EVENTS_MAX),
        }
    }

    /// Reads on, and says whether nothing is left in the range.
    async fn fill(&self, page: &mut Page<'_>, view: &RoomView) -> Result<bool> {
        let wanted = |pdu: &Pdu| page.wants(pdu);
        let scanned = self.scan_timeline(page.room_id, page.range, Eyes::View(view), &wanted).await?;
        let Scanned { events, reached, exhausted } = scanned;
        let events = self.retain_related(&page.relations, events).await?;
        page.range.limit -= events.len();
        page.events.extend(events);
        if let Some(reached) = reached {
            match page.range.direction {
                Direction::Forward => page.range.after = Some(reached.0),
                Direction::Backward => page.range.until = Some(reached.0),
            }
            page.reached = Some(reached);
        }
        Ok(exhausted)
    }

    /// Whether other servers have earlier events that were not asked for, because the page was full before.
    async fn has_more_elsewhere(&self, page: &Page<'_>, backfills: usize) -> Result<bool> {
        let gave_up = page.wants_older() && backfills < BACKFILLS_PER_PAGE_MAX;
        if page.range.direction == Direction::Forward || gave_up {
            return Ok(false);
        }
        Ok(!self.storage().missing_prev_events(page.room_id).await?.is_empty())
    }

    async fn page_state(&self, page: &Page<'_>) -> Result<Vec<Arc<StoredEvent>>> {
        let latest = page.events.iter().filter_map(SeenEvent::order).max();
        match latest {
            Some(order) if lazy_loads(page.filter) => {
                self.members_of(page.room_id, &senders(&page.events), TimelineToken(order)).await
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Page<'_> {
    /// Whether the page has room for events from before those that we have.
    fn wants_older(&self) -> bool {
        self.range.direction == Direction::Backward && self.range.limit > 0
    }

    fn wants(&self, pdu: &Pdu) -> bool {
        let is_ignored = pdu.state_key.is_none() && self.ignored.contains(&pdu.sender);
        !is_ignored && allows(self.filter, pdu) && self.relations.allows(pdu)
    }
}

/// The point at which a range starts to be read.
fn start(range: &TimelineRange) -> TimelineToken {
    TimelineToken(match range.direction {
        Direction::Forward => range.after.unwrap_or(-i64::MAX),
        Direction::Backward => range.until.unwrap_or(i64::MAX),
    })
}
