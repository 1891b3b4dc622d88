//! What a user does to the membership of another: kick, ban, unban; and member state set directly.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms>

use rules::room::member::{self, Action, MAX_REASON_BYTES};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId,
    events::room::member::MembershipState,
};

use super::send::text;
use crate::{Engine, EngineError, Requester, Result};

/// In what manner a membership is changed.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Why, if somebody said so.
    pub reason: Option<String>,
    /// What time the event is to bear, if not that of its making. For application services only.
    pub origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl From<Option<String>> for Manner {
    /// Now, and why.
    fn from(reason: Option<String>) -> Self {
        Self { reason, origin_server_ts: None }
    }
}

impl Manner {
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

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
        manner: impl Into<Manner> + Send,
    ) -> Result<OwnedEventId> {
        let manner = manner.into();
        check_reason(manner.reason())?;
        let room = self.known_room(room_id).await?;
        if action != Action::Leave {
            Self::require_joined(&room, &requester.user_id)?;
        }
        let room = self.room_with_member(room, target).await?;
        let content = member::content(None, None, manner.reason(), None);
        let mut intent = member::intent(&room, action, &requester.user_id, target, content)
            .map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        intent.origin_server_ts = manner.origin_server_ts;
        self.send_intent(room_id, intent, None).await
    }

    /// A member event set as state: the same as the verb that it stands for.
    pub(crate) async fn set_member_state(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        state_key: &str,
        content: CanonicalJsonObject,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<OwnedEventId> {
        let target = <&UserId>::try_from(state_key)
            .map_err(|error| EngineError::BadJson(format!("state key {state_key:?}: {error}")))?;
        let manner = Manner { reason: text(&content, "reason"), origin_server_ts };
        let room = self.known_room(room_id).await?;
        let membership = text(&content, "membership").map(MembershipState::from);
        match membership {
            Some(MembershipState::Join) if room.membership(target) == MembershipState::Join => {
                let mut content = content;
                // Nobody has to authorise who is there already.
                content.remove("join_authorised_via_users_server");
                let mut intent = member::change(&requester.user_id, target, &MembershipState::Join, content);
                intent.origin_server_ts = origin_server_ts;
                return self.send_intent(room_id, intent, None).await;
            }
            Some(MembershipState::Join) if target == requester.user_id => {
                self.join_with(requester, room_id, &[], manner, content).await?;
            }
            Some(MembershipState::Knock) if target == requester.user_id => {
                self.knock(requester, room_id, &[], manner).await?;
            }
            Some(MembershipState::Join | MembershipState::Knock) => {
                return Err(EngineError::forbidden("You cannot join or knock for somebody else"));
            }
            Some(MembershipState::Invite) => self.invite(requester, room_id, target, manner).await?,
            Some(MembershipState::Leave) if target == requester.user_id => {
                self.leave(requester, room_id, manner).await?;
            }
            Some(MembershipState::Leave) if room.membership(target) == MembershipState::Ban => {
                return self.act(requester, room_id, Action::Unban, target, manner).await;
            }
            Some(MembershipState::Leave) => {
                return self.act(requester, room_id, Action::Kick, target, manner).await;
            }
            Some(MembershipState::Ban) => return self.act(requester, room_id, Action::Ban, target, manner).await,
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
