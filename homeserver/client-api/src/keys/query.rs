//! `POST /_matrix/client/v3/keys/query`

use ruma::api::client::keys::get_keys::v3 as get_keys;

use super::{failures, raw_values};
use crate::{Arguments, Door, Result};

pub(crate) async fn query(door: Door, asked: Arguments<get_keys::Request>) -> Result<get_keys::Response> {
    let Arguments { request, requester, .. } = asked;
    let found = door.engine.query_keys(&requester, request.device_keys, request.timeout).await?;
    let mut response = get_keys::Response::new();
    response.failures = failures(found.failures);
    let devices = found.keys.device_keys.into_iter();
    response.device_keys = devices.map(|(user_id, devices)| (user_id, raw_values(devices))).collect();
    response.master_keys = raw_values(found.keys.master_keys);
    response.self_signing_keys = raw_values(found.keys.self_signing_keys);
    response.user_signing_keys = raw_values(found.keys.user_signing_keys);
    Ok(response)
}
