//! `POST /_matrix/client/v3/users/{userId}/report`

use engine::Reported;
use ruma::api::client::reporting::report_user::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn user(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.report(&requester, Reported::User(&request.user_id), Some(request.reason), None).await?;
    Ok(Response::new())
}
