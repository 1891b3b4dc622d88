//! Invitations of e-mail addresses and the like that our users have made, once an identity server knows whose address
//! it is: the server of that user asks us to make a real invitation of it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use rules::room::member::{self, Action};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId, ServerName, UserId};

use crate::{Engine, EngineError, Result};

impl Engine {
    /// Makes the invitation of a user of `origin`, on the strength of what an identity server has signed. Whether that
    /// holds is for the authorisation rules: the room has the key.
    pub async fn federation_exchange_third_party_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        sender: &UserId,
        target: &UserId,
        third_party_invite: &CanonicalJsonObject,
    ) -> Result<()> {
        if target.server_name() != origin {
            return Err(EngineError::forbidden("The user does not belong to the asking server"));
        }
        let room = self.resident_room(room_id).await?;
        let room = room.ok_or_else(|| EngineError::not_found("This server is not in that room"))?;
        self.require_acl(&room, origin).await?;
        if !self.is_local(sender) {
            return Err(EngineError::forbidden("The one who invites is not a user of this server"));
        }
        Self::require_joined(&room, sender)?;
        let signed = third_party_invite.get("signed").and_then(|signed| signed.as_object());
        let signed_for = signed.and_then(|signed| signed.get("mxid")).and_then(|user_id| user_id.as_str());
        if signed_for != Some(target.as_str()) {
            return Err(EngineError::forbidden("The identity server has signed for another user"));
        }
        let invite = CanonicalJsonValue::Object(third_party_invite.clone());
        let content = CanonicalJsonObject::from([("third_party_invite".to_owned(), invite)]);
        let intent = member::intent(&room, Action::Invite, sender, target, content)
            .map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        self.invite_elsewhere(&room, target, intent).await
    }
}
