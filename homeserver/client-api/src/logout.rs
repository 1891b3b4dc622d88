//! `POST /_matrix/client/v3/logout` and `/logout/all`

use ruma::api::client::session::{logout::v3 as logout, logout_all::v3 as logout_all};

use crate::{Arguments, Door, Result};

pub(crate) async fn logout(door: Door, asked: Arguments<logout::Request>) -> Result<logout::Response> {
    door.engine.logout(&asked.requester).await?;
    Ok(logout::Response::new())
}

pub(crate) async fn all(door: Door, asked: Arguments<logout_all::Request>) -> Result<logout_all::Response> {
    door.engine.logout_all(&asked.requester.user_id).await?;
    Ok(logout_all::Response::new())
}
