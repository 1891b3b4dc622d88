//! `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`

use ruma::{
    api::client::typing::create_typing_event::v3::{Request, Response, Typing},
    serde::JsonObject,
};
use serde_json::json;

use crate::{Arguments, Door, Result};

/// For clients that do not say for how long.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// ruma wants a timeout, the specification does not.
#[expect(clippy::unnecessary_wraps, reason = "other bodies are refused at this place")]
pub(crate) fn with_timeout(body: &mut JsonObject) -> Result<()> {
    if body.get("timeout").is_none_or(serde_json::Value::is_null) {
        body.insert("timeout".to_owned(), json!(DEFAULT_TIMEOUT_MS));
    }
    Ok(())
}

pub(crate) async fn typing(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let timeout_ms = match asked.request.state {
        Typing::Yes(info) => Some(u64::try_from(info.timeout.as_millis()).unwrap_or(u64::MAX)),
        Typing::No => None,
    };
    door.engine.typing(&asked.requester, &asked.request.room_id, timeout_ms).await?;
    Ok(Response::new())
}
