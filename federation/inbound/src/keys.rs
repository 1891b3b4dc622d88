//! Our keys, and what we know of the keys of others.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use axum::extract::State;
use engine::EngineError;
use outbound::{KeyQueries, KeyQuery};
use ruma::{
    CanonicalJsonObject,
    api::federation::discovery::{get_remote_server_keys, get_remote_server_keys_batch},
};
use serde::Serialize;

use crate::{Door, error::DoorError, reply::Json, request::Open};

/// How many servers one request may ask about: each may cost us a request of our own. A server that joins a large room
/// asks for some hundred at once and can ask again.
const QUERY_SERVERS_MAX: usize = 100;

/// How many keys of one server a request may name. Servers have one or two.
const QUERY_KEYS_MAX: usize = 20;

#[derive(Serialize)]
pub(crate) struct ServerKeys {
    server_keys: Vec<CanonicalJsonObject>,
}

pub(crate) async fn own(State(door): State<Door>) -> Result<Json<CanonicalJsonObject>, DoorError> {
    let keys = door.engine.federation().key_ring().server_keys_response().await;
    Ok(Json(keys.map_err(EngineError::from)?))
}

pub(crate) async fn of_server(
    State(door): State<Door>,
    Open(asked): Open<get_remote_server_keys::v2::Request>,
) -> Result<Json<ServerKeys>, DoorError> {
    let query = KeyQuery { key_ids: Vec::new(), valid_until_ms: Some(asked.minimum_valid_until_ts.get().into()) };
    answer(&door, KeyQueries::from([(asked.server_name, query)])).await
}

pub(crate) async fn of_servers(
    State(door): State<Door>,
    Open(asked): Open<get_remote_server_keys_batch::v2::Request>,
) -> Result<Json<ServerKeys>, DoorError> {
    let too_many = asked.server_keys.values().any(|keys| keys.len() > QUERY_KEYS_MAX);
    if too_many || asked.server_keys.len() > QUERY_SERVERS_MAX {
        let text = format!("at most {QUERY_SERVERS_MAX} servers and {QUERY_KEYS_MAX} keys of each may be asked for");
        return Err(DoorError::InvalidParam(text));
    }
    let queries = asked.server_keys.into_iter().map(|(server, keys)| {
        let least = keys.values().filter_map(|criteria| criteria.minimum_valid_until_ts).max();
        let valid_until_ms = least.map(|time| time.get().into());
        (server, KeyQuery { key_ids: keys.into_keys().collect(), valid_until_ms })
    });
    answer(&door, queries.collect()).await
}

async fn answer(door: &Door, queries: KeyQueries) -> Result<Json<ServerKeys>, DoorError> {
    let server_keys = door.engine.federation().key_ring().notary_response(queries).await;
    Ok(Json(ServerKeys { server_keys: server_keys.map_err(EngineError::from)? }))
}
