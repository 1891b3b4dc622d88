//! `GET /_matrix/client/v3/voip/turnServer`

use ruma::api::client::voip::get_turn_server_info::v3::Request;
use serde_json::{Value, json};

use crate::{Arguments, Door, Result, json::Json};

/// Where there is no relay, the answer is empty, as clients know it from other servers: one that names no addresses
/// would make browsers refuse the call.
pub(crate) async fn turn_server(door: Door, asked: Arguments<Request>) -> Result<Json<Value>> {
    let Some(credentials) = door.engine.turn_credentials(&asked.requester.user_id) else {
        return Ok(Json(json!({})));
    };
    Ok(Json(json!({
        "username": credentials.username,
        "password": credentials.password,
        "uris": credentials.uris,
        "ttl": credentials.lifetime_ms / 1000,
    })))
}
