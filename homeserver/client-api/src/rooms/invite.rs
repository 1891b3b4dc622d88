//! `POST /_matrix/client/v3/rooms/{roomId}/invite`

use engine::AddressInvite;
use ruma::api::client::membership::{
    Invite3pid,
    invite_user::v3::{InvitationRecipient, Request, Response},
};
use serde::Deserialize;

use crate::{Arguments, Door, Result, error::ApiError};

/// What ruma does not read of an invitation by address.
#[derive(Deserialize)]
struct Further {
    reason: Option<String>,
}

pub(crate) async fn invite(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, body, .. } = asked;
    match request.recipient {
        InvitationRecipient::UserId(invited) => {
            door.engine.invite(&requester, &request.room_id, &invited.user_id, invited.reason).await?;
        }
        InvitationRecipient::ThirdPartyId(invited) => {
            let further: Further =
                serde_json::from_slice(&body).map_err(|error| ApiError::bad_json(error.to_string()))?;
            let invite = address_invite(invited);
            door.engine.invite_by_address(&requester, &request.room_id, invite, further.reason).await?;
        }
        _ => return Err(ApiError::bad_json("Neither a user nor an address is named")),
    }
    Ok(Response::new())
}

pub(crate) fn address_invite(invite: Invite3pid) -> AddressInvite {
    let Invite3pid { id_server, id_access_token, medium, address, .. } = invite;
    AddressInvite { medium: medium.to_string(), address, id_server, id_access_token }
}
