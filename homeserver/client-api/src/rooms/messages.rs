//! `GET /_matrix/client/v3/rooms/{roomId}/messages`

use engine::MessagesQuery;
use ruma::api::{
    Direction,
    client::message::get_message_events::v3::{Request, Response},
};

use super::raw;
use crate::{Arguments, Door, Result, query};

pub(crate) async fn messages(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let relations = query::json(&asked.query, "filter")?;
    let request = asked.request;
    let query = MessagesQuery {
        room_id: request.room_id,
        from: request.from,
        to: request.to,
        forward: request.dir == Direction::Forward,
        limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
        filter: request.filter,
    };
    let page = door.engine.related_messages(&asked.requester, query, relations).await?;
    let mut response = Response::new();
    response.start = page.start;
    response.end = page.end;
    response.chunk = raw(page.chunk);
    response.state = raw(page.state);
    Ok(response)
}
