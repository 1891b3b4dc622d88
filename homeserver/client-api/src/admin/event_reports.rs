//! `/_synapse/admin/v1/event_reports`: what users complained of.

use ruma::api::auth_scheme::AccessToken;
use serde::Serialize;
use storage::Report;

use crate::{
    Arguments, Door, Result,
    error::ApiError,
    json::Json,
    own_request::{OwnRequest, own_request},
    query,
};

/// How many complaints a page has when the administrator does not say.
const PAGE_DEFAULT: usize = 100;

/// A page of complaints.
#[derive(Serialize)]
pub(crate) struct Page {
    event_reports: Vec<Complaint>,
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<u64>,
}

/// One complaint: about an event, a room or a user.
#[derive(Serialize)]
pub(crate) struct Complaint {
    id: i64,
    received_ts: u64,
    user_id: ruma::OwnedUserId,
    room_id: Option<ruma::OwnedRoomId>,
    event_id: Option<ruma::OwnedEventId>,
    reported_user_id: Option<ruma::OwnedUserId>,
    reason: Option<String>,
    score: Option<i64>,
}

impl From<Report> for Complaint {
    fn from(report: Report) -> Self {
        let Report { report_id, report } = report;
        Self {
            id: report_id,
            received_ts: report.received_ts,
            user_id: report.user_id,
            room_id: report.room_id,
            event_id: report.event_id,
            reported_user_id: report.reported_user_id,
            reason: report.reason,
            score: report.score,
        }
    }
}

own_request!(
    /// Which complaints are there? `from` leaves some out, `limit` bounds the page, `dir` is `b`, the latest first, or `f`.
    List,
    GET "/_synapse/admin/v1/event_reports",
    AccessToken
);

own_request!(
    /// What does one complaint say?
    One,
    GET "/_synapse/admin/v1/event_reports/{report_id}",
    AccessToken
);

pub(crate) async fn list(door: Door, asked: Arguments<List>) -> Result<Json<Page>> {
    let from = number(&asked.query, "from")?.unwrap_or(0);
    let limit =
        number(&asked.query, "limit")?.map_or(PAGE_DEFAULT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let latest_first = query::parameter(&asked.query, "dir")?.as_deref() != Some("f");
    let (reports, total) = door.engine.reports(&asked.requester, from, limit, latest_first).await?;
    let reached = from + reports.len() as u64;
    let next_token = (reached < total).then_some(reached);
    Ok(Json(Page { event_reports: reports.into_iter().map(Into::into).collect(), total, next_token }))
}

pub(crate) async fn one(door: Door, asked: Arguments<One>) -> Result<Json<Complaint>> {
    let unfit = |_| ApiError::invalid_param("The id of a report is a number");
    let report_id = asked.request.parameter(0).parse().map_err(unfit)?;
    Ok(Json(door.engine.report_by_id(&asked.requester, report_id).await?.into()))
}

fn number(query: &str, name: &str) -> Result<Option<u64>> {
    let text = query::parameter(query, name)?;
    let number: Option<u32> = text
        .map(|text| text.parse().map_err(|_| ApiError::invalid_param(format!("{name} is no number"))))
        .transpose()?;
    Ok(number.map(u64::from))
}
