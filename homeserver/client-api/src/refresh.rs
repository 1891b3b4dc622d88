//! `POST /_matrix/client/v3/refresh`

use ruma::api::client::session::refresh_token::v3::{Request, Response};

use crate::{Door, Result, arguments::Open, login::milliseconds};

pub(crate) async fn refresh(door: Door, asked: Open<Request>) -> Result<Response> {
    let session = door.engine.refresh(&asked.request.refresh_token).await?;
    let mut response = Response::new(session.access_token);
    response.refresh_token = session.refresh_token;
    response.expires_in_ms = milliseconds(session.expires_in_ms);
    Ok(response)
}
