//! `GET /_matrix/client/v3/events` with a `room_id`: listening to a room that anybody may read. Without one the
//! specification has deprecated it since its first release; see `docs/deprecated-endpoints.md`.

use engine::{ClientEvent, MessagesPage};
use ruma::api::client::peeking::listen_to_new_events::v3::Request;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Arguments, Door, Result, json::Json};

/// The list is there even when it is empty.
#[derive(Serialize)]
pub(crate) struct Heard {
    chunk: Vec<Box<RawValue>>,
    start: String,
    end: String,
}

pub(crate) async fn listen(door: Door, asked: Arguments<Request>) -> Result<Json<Heard>> {
    let Arguments { request: Request { from, room_id, timeout, .. }, requester, .. } = asked;
    let page = door.engine.peek(&requester, &room_id, from.as_deref(), timeout.unwrap_or_default()).await?;
    let MessagesPage { start, end, chunk, .. } = page;
    let end = end.unwrap_or_else(|| start.clone());
    Ok(Json(Heard { chunk: chunk.iter().map(|event: &ClientEvent| event.raw().to_owned()).collect(), start, end }))
}
