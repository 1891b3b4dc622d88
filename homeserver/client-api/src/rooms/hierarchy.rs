//! `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`

use engine::HierarchyQuery;
use ruma::api::client::space::{
    SpaceHierarchyRoomsChunk,
    get_hierarchy::v1::{Request, Response},
};

use crate::{Arguments, Door, Result};

pub(crate) async fn hierarchy(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let query = HierarchyQuery {
        room_id: request.room_id,
        from: request.from,
        limit: request.limit.map(u64::from),
        max_depth: request.max_depth.map(u64::from),
        suggested_only: request.suggested_only,
    };
    let page = door.engine.hierarchy(&requester, query).await?;
    let mut response = Response::new();
    response.next_batch = page.next_batch;
    let rooms = page.rooms.into_iter().map(|room| SpaceHierarchyRoomsChunk::new(room.summary, room.children_state));
    response.rooms = rooms.collect();
    Ok(response)
}
