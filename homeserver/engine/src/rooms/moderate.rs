//! What a user does to the membership of another: kick, ban, unban; and member state set directly.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms>

use rules::room::member::{self, Action, MAX_REASON_BYTES};
use ruma::{CanonicalJsonObject, OwnedEventId, RoomId, UserId, events::room::member::MembershipState};

use super::send::text;
use crate::{Engine, EngineError, Requester, Result};

impl Engine {
    /// Removes a user from a room, or takes back an invitation.
    pub async fn kick(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        self.act(requester, room_id, Action::Kick, target, reason).await.map(drop)
    }

    /// Removes a user from a room and keeps them out.
    pub async fn ban(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        self.act(requester, room_id, Action::Ban, target, reason).await.map(drop)
    }

    /// Lets a banned user back in, if they are invited or may join.
    pub async fn unban(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        self.act(requester, room_id, Action::Unban, target, reason).await.map(drop)
    }

    /// Does one of the actions that need no other server.
    pub(crate) async fn act(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        action: Action,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<OwnedEventId> {
        check_reason(reason.as_deref())?;
        let room = self.known_room(room_id).await?;
        if action != Action::Leave {
            Self::require_joined(&room, &requester.user_id)?;
        }
        let content = member::content(None, None, reason.as_deref(), None);
        let intent = member::intent(&room, action, &requester.user_id, target, content)
            .map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        self.send_intent(room_id, intent, None).await
    }

    /// A member event set as state: the same as the verb that it stands for.
    pub(crate) async fn set_member_state(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        state_key: &str,
        content: CanonicalJsonObject,
    ) -> Result<OwnedEventId> {
        let target = <&UserId>::try_from(state_key)
            .map_err(|error| EngineError::BadJson(format!("state key {state_key:?}: {error}")))?;
        let reason = text(&content, "reason");
        let room = self.known_room(room_id).await?;
        let membership = text(&content, "membership").map(MembershipState::from);
        match membership {
            Some(MembershipState::Join) if room.membership(target) == MembershipState::Join => {
                let mut content = content;
                // Nobody has to authorise who is there already.
                content.remove("join_authorised_via_users_server");
                let intent = member::change(&requester.user_id, target, &MembershipState::Join, content);
                return self.send_intent(room_id, intent, None).await;
            }
            Some(MembershipState::Join) if target == requester.user_id => {
                self.join_with(requester, room_id, &[], reason, content).await?;
            }
            Some(MembershipState::Knock) if target == requester.user_id => {
                self.knock(requester, room_id, &[], reason).await?;
            }
            Some(MembershipState::Join | MembershipState::Knock) => {
                return Err(EngineError::forbidden("You cannot join or knock for somebody else"));
            }
            Some(MembershipState::Invite) => self.invite(requester, room_id, target, reason).await?,
            Some(MembershipState::Leave) if target == requester.user_id => {
                self.leave(requester, room_id, reason).await?;
            }
            Some(MembershipState::Leave) if room.membership(target) == MembershipState::Ban => {
                return self.act(requester, room_id, Action::Unban, target, reason).await;
            }
            Some(MembershipState::Leave) => {
                return self.act(requester, room_id, Action::Kick, target, reason).await;
            }
            Some(MembershipState::Ban) => return self.act(requester, room_id, Action::Ban, target, reason).await,
            _ => return Err(EngineError::BadJson("`membership` is missing or unknown".to_owned())),
        }
        let room = self.known_room(room_id).await?;
        let event_id = room.state_event_id(&ruma::events::StateEventType::RoomMember, state_key);
        event_id.map(ToOwned::to_owned).ok_or_else(|| EngineError::internal("a membership was set but is not there"))
    }
}

/// Refuses reasons that are too long.
pub(crate) fn check_reason(reason: Option<&str>) -> Result<()> {
    if reason.is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
        return Err(EngineError::InvalidParam(format!("The reason is longer than {MAX_REASON_BYTES} bytes")));
    }
    Ok(())
}
