//! `POST /_matrix/client/v3/rooms/{roomId}/invite`

use ruma::api::client::membership::invite_user::v3::{InvitationRecipient, Request, Response};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn invite(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let InvitationRecipient::UserId(invited) = request.recipient else {
        return Err(ApiError::forbidden("Inviting by e-mail or phone number is not possible here"));
    };
    door.engine.invite(&requester, &request.room_id, &invited.user_id, invited.reason).await?;
    Ok(Response::new())
}
