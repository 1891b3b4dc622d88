//! `POST /_matrix/client/v3/search`

use engine::SearchCommand;
use ruma::api::client::search::search_events::v3::{Request, ResultCategories, ResultRoomEvents};
use serde::Serialize;

use crate::{Arguments, Door, Result, json::Json};

/// The list of results is there even when it is empty: clients read it without asking.
#[derive(Serialize)]
pub(crate) struct Found {
    search_categories: Categories,
}

#[derive(Serialize)]
struct Categories {
    #[serde(skip_serializing_if = "Option::is_none")]
    room_events: Option<serde_json::Value>,
}

pub(crate) async fn search(door: Door, asked: Arguments<Request>) -> Result<Json<Found>> {
    let Arguments { request, requester, body, .. } = asked;
    let Some(criteria) = request.search_categories.room_events else {
        return Ok(Json(Found { search_categories: Categories { room_events: None } }));
    };
    let relations = relations(&body);
    let command = SearchCommand { criteria, relations, next_batch: request.next_batch };
    let found = door.engine.search(&requester, command).await?;
    let room_events = Some(complete(found)?);
    Ok(Json(Found { search_categories: Categories { room_events } }))
}

fn complete(found: ResultRoomEvents) -> Result<serde_json::Value> {
    let mut categories = ResultCategories::new();
    categories.room_events = found;
    let mut written = serde_json::to_value(&categories).map_err(crate::error::ApiError::internal)?;
    let mut room_events = written["room_events"].take();
    for (name, empty) in [("results", serde_json::json!([])), ("highlights", serde_json::json!([]))] {
        if room_events.get(name).is_none() {
            room_events[name] = empty;
        }
    }
    Ok(room_events)
}

/// The part of the filter that ruma does not read. What is not of the right shape was refused before, or is no filter.
fn relations(body: &[u8]) -> engine::RelationFilter {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let filter = body.pointer("/search_categories/room_events/filter").cloned().unwrap_or_default();
    serde_json::from_value(filter).unwrap_or_default()
}
