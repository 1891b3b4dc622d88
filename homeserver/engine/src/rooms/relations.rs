//! The events that relate to an event; and which relations clients may not make.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use rules::{
    event::{
        Relation,
        relation::{ANNOTATION, THREAD},
    },
    room::send::Intent,
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde_json::value::to_raw_value;
use storage::{Direction, RelatedEvent, RelationsRange};

use super::{RoomView, SeenEvent};
use crate::{ClientEvent, Engine, EngineError, Requester, Result, sync::TimelineToken};

/// How many events a page has at most, and when the client does not say.
const PAGE_EVENTS_MAX: usize = 100;
const PAGE_EVENTS_DEFAULT: usize = 50;
/// How many relations one request goes through at most, when the user may not see most of them.
const SCANNED_MAX: usize = 1_000;

/// Which relations are wanted.
#[derive(Clone, Debug)]
pub struct RelationsQuery {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event that the others relate to.
    pub event_id: OwnedEventId,
    /// Only relations of this kind.
    pub rel_type: Option<String>,
    /// Only events of this type.
    pub event_type: Option<String>,
    /// From where to read.
    pub from: Option<String>,
    /// Up to where.
    pub to: Option<String>,
    /// Whether to read forwards.
    pub forward: bool,
    /// How many events.
    pub limit: Option<usize>,
    /// Whether relations of relations are wanted too.
    pub recurse: bool,
}

/// A page of relations.
#[derive(Clone, Debug)]
pub struct RelationsPage {
    /// The events, in the direction of reading.
    pub chunk: Vec<ClientEvent>,
    /// From where to read on; `None` when there is nothing more.
    pub next_batch: Option<String>,
    /// Where the page starts.
    pub prev_batch: Option<String>,
    /// How far relations of relations were followed, if they were.
    pub recursion_depth: Option<u32>,
}

impl Engine {
    /// A page of the events that relate to an event.
    pub async fn relations(&self, requester: &Requester, query: RelationsQuery) -> Result<RelationsPage> {
        let from = query.from.as_deref().map(TimelineToken::parse).transpose()?.map(|token| token.0);
        let to = query.to.as_deref().map(TimelineToken::parse).transpose()?.map(|token| token.0);
        let (view, parent) = self.event_in_view(requester, &query.room_id, &query.event_id).await?;
        view.see(parent).ok_or_else(|| EngineError::not_found("Event not found"))?;
        let (after, until) = if query.forward { (from, to) } else { (to, from) };
        let limit = query.limit.unwrap_or(PAGE_EVENTS_DEFAULT).clamp(1, PAGE_EVENTS_MAX);
        let range = RelationsRange {
            after,
            until: [until, view.reads_until()].into_iter().flatten().min(),
            direction: if query.forward { Direction::Forward } else { Direction::Backward },
            limit,
            rel_type: query.rel_type.as_deref(),
            event_type: query.event_type.as_deref(),
            recurse: query.recurse,
        };
        let (seen, reached) = self.scan_relations(requester, &view, &query.event_id, range).await?;
        Ok(RelationsPage {
            chunk: self.client_events(requester, &seen, true).await?,
            next_batch: reached.map(|token| token.to_string()),
            prev_batch: query.from,
            recursion_depth: query.recurse.then(|| self.storage().relations_depth_max()),
        })
    }

    /// Reads relations until enough are found that the user may see. Says from where to read on, if there is more.
    async fn scan_relations(
        &self,
        requester: &Requester,
        view: &RoomView,
        event_id: &EventId,
        mut range: RelationsRange<'_>,
    ) -> Result<(Vec<SeenEvent>, Option<TimelineToken>)> {
        let limit = range.limit;
        let ignored = self.ignored_users(&requester.user_id).await?;
        let (mut seen, mut scanned) = (Vec::new(), 0);
        loop {
            // One more than is shown tells whether there is more.
            range.limit = limit - seen.len() + 1;
            let rows = self.storage().relations(&view.room.room_id, event_id, range).await?;
            let is_last = rows.len() < range.limit;
            scanned += rows.len();
            let event_ids: Vec<OwnedEventId> = rows.iter().map(|row: &RelatedEvent| row.event_id.clone()).collect();
            for event in self.storage().readable_events(&event_ids).await? {
                let Some(order) = event.order else { continue };
                if seen.len() == limit {
                    return Ok((seen, Some(reached(&range))));
                }
                match range.direction {
                    Direction::Forward => range.after = Some(order),
                    Direction::Backward => range.until = Some(order - 1),
                }
                if !ignored.contains(&event.pdu.sender) {
                    seen.extend(view.see(event));
                }
            }
            if is_last {
                return Ok((seen, None));
            }
            if scanned >= SCANNED_MAX {
                return Ok((seen, Some(reached(&range))));
            }
        }
    }

    /// Refuses events that relate to another one in a way that the specification does not want.
    pub(crate) async fn check_relation(&self, room_id: &RoomId, intent: &Intent) -> Result<()> {
        let Some(relation) = relation_of(intent) else { return Ok(()) };
        match relation.rel_type.as_str() {
            THREAD => self.check_thread_root(room_id, &relation.event_id).await,
            ANNOTATION => {
                let Some(key) = &relation.key else { return Ok(()) };
                let sender: &UserId = &intent.sender;
                let event_type = intent.event_type.to_string();
                let parent = &relation.event_id;
                if self.storage().is_annotated(room_id, parent, sender, &event_type, key).await? {
                    return Err(EngineError::DuplicateAnnotation);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#validation-of-mthread-relationships>
    async fn check_thread_root(&self, room_id: &RoomId, parent_id: &EventId) -> Result<()> {
        match self.stored_event(parent_id).await? {
            Some(root) if root.pdu.room_id == room_id && root.pdu.relation().is_some() => Err(EngineError::BadRequest(
                "A thread cannot begin with an event that relates to another one".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

fn relation_of(intent: &Intent) -> Option<Relation> {
    if !intent.content.contains_key("m.relates_to") {
        return None;
    }
    Relation::of(&to_raw_value(&intent.content).ok()?)
}

/// Whether an event is to be an annotation.
pub(super) fn is_annotation(intent: &Intent) -> bool {
    relation_of(intent).is_some_and(|relation| relation.rel_type == ANNOTATION)
}

/// The point up to which a range was read.
fn reached(range: &RelationsRange<'_>) -> TimelineToken {
    TimelineToken(match range.direction {
        Direction::Forward => range.after.unwrap_or(-i64::MAX),
        Direction::Backward => range.until.unwrap_or(i64::MAX),
    })
}
