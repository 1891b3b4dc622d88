//! `GET /_matrix/client/v3/keys/changes`

use ruma::api::client::keys::get_key_changes::v3 as get_key_changes;

use crate::{Arguments, Door, Result};

pub(crate) async fn changes(
    door: Door,
    asked: Arguments<get_key_changes::Request>,
) -> Result<get_key_changes::Response> {
    let Arguments { request, requester, .. } = asked;
    let found = door.engine.key_changes(&requester, &request.from, &request.to).await?;
    Ok(get_key_changes::Response::new(found.changed.into_iter().collect(), found.left.into_iter().collect()))
}
