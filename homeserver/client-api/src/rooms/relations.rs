//! `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]`

use engine::{RelationsPage, RelationsQuery};
use ruma::{
    OwnedEventId, OwnedRoomId, UInt,
    api::{
        Direction,
        client::relations::{
            get_relating_events::v1 as all, get_relating_events_with_rel_type::v1 as of_kind,
            get_relating_events_with_rel_type_and_event_type::v1 as of_kind_and_type,
        },
    },
};

use super::raw;
use crate::{Arguments, Door, Result};

/// What all three ask alike.
macro_rules! query {
    ($request:ident, $rel_type:expr, $event_type:expr) => {
        Asked {
            room_id: $request.room_id,
            event_id: $request.event_id,
            from: $request.from,
            to: $request.to,
            direction: $request.dir,
            limit: $request.limit,
            recurse: $request.recurse,
        }
        .into_query($rel_type, $event_type)
    };
}

/// What all three answer alike.
macro_rules! answer {
    ($response:path, $page:ident) => {{
        let mut response = $response(raw($page.chunk));
        response.next_batch = $page.next_batch;
        response.prev_batch = $page.prev_batch;
        response.recursion_depth = $page.recursion_depth.map(UInt::from);
        Ok(response)
    }};
}

pub(crate) async fn relations(door: Door, asked: Arguments<all::Request>) -> Result<all::Response> {
    let Arguments { request, requester, .. } = asked;
    let page: RelationsPage = door.engine.relations(&requester, query!(request, None, None)).await?;
    answer!(all::Response::new, page)
}

pub(crate) async fn relations_of_kind(door: Door, asked: Arguments<of_kind::Request>) -> Result<of_kind::Response> {
    let Arguments { request, requester, .. } = asked;
    let query = query!(request, Some(request.rel_type.to_string()), None);
    let page = door.engine.relations(&requester, query).await?;
    answer!(of_kind::Response::new, page)
}

pub(crate) async fn relations_of_kind_and_type(
    door: Door,
    asked: Arguments<of_kind_and_type::Request>,
) -> Result<of_kind_and_type::Response> {
    let Arguments { request, requester, .. } = asked;
    let (rel_type, event_type) = (request.rel_type.to_string(), request.event_type.to_string());
    let query = query!(request, Some(rel_type), Some(event_type));
    let page = door.engine.relations(&requester, query).await?;
    answer!(of_kind_and_type::Response::new, page)
}

struct Asked {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    from: Option<String>,
    to: Option<String>,
    direction: Direction,
    limit: Option<UInt>,
    recurse: bool,
}

impl Asked {
    fn into_query(self, rel_type: Option<String>, event_type: Option<String>) -> RelationsQuery {
        RelationsQuery {
            room_id: self.room_id,
            event_id: self.event_id,
            rel_type,
            event_type,
            from: self.from,
            to: self.to,
            forward: self.direction == Direction::Forward,
            limit: self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            recurse: self.recurse,
        }
    }
}
