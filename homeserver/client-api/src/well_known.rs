//! `GET /.well-known/matrix/client`

use engine::EngineError;
use ruma::api::client::discovery::discover_homeserver::{HomeserverInfo, Request, Response};

use crate::{Door, Result, arguments::Open};

pub(crate) async fn client(door: Door, _: Open<Request>) -> Result<Response> {
    match &door.inner.well_known_base_url {
        Some(base_url) => Ok(Response::new(HomeserverInfo::new(base_url.clone()))),
        None => Err(EngineError::NotFound("Discovery is not served here".to_owned()).into()),
    }
}
