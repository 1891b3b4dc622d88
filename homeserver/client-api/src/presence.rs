//! `/_matrix/client/v3/presence/{userId}/status`

use std::time::Duration;

use ruma::api::client::presence::{get_presence, set_presence};

use crate::{Arguments, Door, Result};

pub(crate) async fn get(door: Door, asked: Arguments<get_presence::v3::Request>) -> Result<get_presence::v3::Response> {
    let presence = door.engine.presence(&asked.requester, &asked.request.user_id).await?;
    let ago_ms = door.now_ms().saturating_sub(presence.last_active_ms);
    let mut response = get_presence::v3::Response::new(presence.state);
    response.status_msg = presence.status_msg;
    response.currently_active = Some(presence.currently_active);
    response.last_active_ago = (presence.last_active_ms > 0).then(|| Duration::from_millis(ago_ms));
    Ok(response)
}

pub(crate) async fn put(door: Door, asked: Arguments<set_presence::v3::Request>) -> Result<set_presence::v3::Response> {
    let set_presence::v3::Request { presence, status_msg, .. } = asked.request;
    door.engine.set_presence(&asked.requester, &presence, status_msg).await?;
    Ok(set_presence::v3::Response::new())
}
