//! `POST /_matrix/client/v3/rooms/{roomId}/report` and `/report/{eventId}`

use engine::Reported;
use ruma::api::client::room::{report_content::v3 as report_event, report_room::v3 as report_room};
use serde::Deserialize;

use crate::{Arguments, Door, Result};

/// What older clients say of an event beside the reason.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Score {
    score: Option<i64>,
}

pub(crate) async fn event(door: Door, asked: Arguments<report_event::Request>) -> Result<report_event::Response> {
    let Arguments { request, requester, body, .. } = asked;
    let reported = Reported::Event(&request.room_id, &request.event_id);
    let Score { score } = serde_json::from_slice(&body).unwrap_or_default();
    door.engine.report(&requester, reported, request.reason, score).await?;
    Ok(report_event::Response::new())
}

pub(crate) async fn room(door: Door, asked: Arguments<report_room::Request>) -> Result<report_room::Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.report(&requester, Reported::Room(&request.room_id), Some(request.reason), None).await?;
    Ok(report_room::Response::new())
}
