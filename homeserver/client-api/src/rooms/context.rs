//! `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`

use engine::EventFilter;
use ruma::api::client::context::get_context::v3::{Request, Response};

use super::raw;
use crate::{Arguments, Door, Result, query};

pub(crate) async fn context(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let filter = EventFilter { events: asked.request.filter.clone(), relations: query::json(&asked.query, "filter")? };
    let Arguments { request, requester, .. } = asked;
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let context = door.engine.context(&requester, &request.room_id, &request.event_id, limit, filter).await?;
    let mut response = Response::new();
    response.start = Some(context.start);
    response.end = Some(context.end);
    response.event = Some(context.event.into_raw());
    response.events_before = raw(context.before);
    response.events_after = raw(context.after);
    response.state = raw(context.state);
    Ok(response)
}
