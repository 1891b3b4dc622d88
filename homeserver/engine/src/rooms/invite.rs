//! Inviting users, of this server and of others.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::sync::Arc;

use rules::{
    Pdu, RoomSnapshot,
    event::read_pdu,
    room::{
        member::{self, Action},
        send::Intent,
    },
};
use ruma::{CanonicalJsonValue, RoomId, UserId};

use super::moderate::{Manner, check_reason};
use crate::{
    Engine, EngineError, Requester, Result, accounts::Verdict, federation::Provenance, rooms::remote::map_call_error,
};

impl Engine {
    /// Invites a user into a room. For a user of another server, that server is asked to sign first.
    pub async fn invite(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        target: &UserId,
        manner: impl Into<Manner> + Send,
    ) -> Result<()> {
        self.invite_as(requester, room_id, target, manner.into(), false).await
    }

    pub(crate) async fn invite_as(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        target: &UserId,
        manner: Manner,
        is_direct: bool,
    ) -> Result<()> {
        let Manner { reason, origin_server_ts } = manner;
        check_reason(reason.as_deref())?;
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        let room = self.room_with_member(room, target).await?;
        if self.is_local(target) && !self.is_notices_user(&requester.user_id) {
            let verdict = self.invitation_rules(target).await?.verdict(&requester.user_id);
            if verdict == Verdict::Block {
                return Err(EngineError::InviteBlocked);
            }
        }
        if self.is_local(target) && self.storage().account(target).await?.is_none() {
            // Who is not there yet can be invited all the same; a service that is away hears of it later.
            match self.ask_services_for_user(target).await {
                Ok(_) | Err(EngineError::SilentService) => {}
                Err(error) => return Err(error),
            }
        }
        let mut content = if self.is_local(target) {
            self.member_content(target, reason.as_deref()).await?
        } else {
            member::content(None, None, reason.as_deref(), None)
        };
        if is_direct {
            content.insert("is_direct".to_owned(), CanonicalJsonValue::Bool(true));
        }
        let mut intent = member::intent(&room, Action::Invite, &requester.user_id, target, content)
            .map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        intent.origin_server_ts = origin_server_ts;
        if self.is_local(target) {
            return self.send_intent(room_id, intent, None).await.map(drop);
        }
        self.invite_elsewhere(&room, target, intent).await
    }

    /// Makes the invitation of a user of another server, which signs it first.
    pub(crate) async fn invite_elsewhere(&self, room: &RoomSnapshot, target: &UserId, intent: Intent) -> Result<()> {
        let pdu = self.make_event(room, intent).await?;
        let pdu = self.with_recommendation(room, pdu).await?;
        let signed = self.signed_by_invited_server(room, target, &pdu).await?;
        self.append(&signed, Provenance::Ours).await
    }

    /// The invitation with the signature of the invited user's server. Made without holding the room, which would wait
    /// for a slow server.
    async fn signed_by_invited_server(&self, room: &RoomSnapshot, target: &UserId, pdu: &Arc<Pdu>) -> Result<Arc<Pdu>> {
        let shown = self.shown_state(room, &pdu.sender).await?;
        let shown: Vec<_> = shown.iter().map(|event| event.pdu.to_raw_json()).collect();
        let answer = self
            .federation()
            .invite(target.server_name(), pdu, &room.version, &shown)
            .await
            .map_err(|error| map_call_error(target.server_name(), &error))?;
        let nonsense = |reason: String| {
            tracing::warn!(destination = %target.server_name(), reason, "answer to an invitation is not used");
            EngineError::CannotFederate("The invited user's server gave an answer that makes no sense".to_owned())
        };
        let (signed, _) = read_pdu(answer.get(), &room.rules).map_err(|error| nonsense(error.to_string()))?;
        if signed.event_id != pdu.event_id {
            return Err(nonsense("another event came back".to_owned()));
        }
        Ok(Arc::new(signed))
    }
}
