//! What those who may enter a room are shown of it before they do.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>

use std::sync::Arc;

use rules::RoomSnapshot;
use ruma::{
    OwnedMxcUri, OwnedRoomAliasId, OwnedServerName, RoomId, RoomOrAliasId, ServerName, UInt, UserId,
    events::{StateEventType, room::member::MembershipState},
    room::{JoinRule, JoinRuleSummary, RoomSummary},
};

use crate::{Engine, EngineError, Requester, Result};

/// How many servers are asked about one room.
pub(super) const MAX_SERVERS_ASKED: usize = 3;

/// Who wants to see what a room is.
#[derive(Clone, Copy)]
pub(crate) enum Viewer<'a> {
    /// One of our users.
    User(&'a UserId),
    /// Another server, for its users.
    Server(&'a ServerName),
    /// Somebody without an account here.
    Anybody,
}

impl Engine {
    /// A short description of a room, and what the asker is in it. Of a room that we are not in, other servers are asked.
    pub async fn room_summary(
        &self,
        requester: &Requester,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
    ) -> Result<(RoomSummary, MembershipState)> {
        let (room_id, servers) = self.find_room(room, via).await?;
        let user_id = &requester.user_id;
        let record = self.storage().membership(user_id, &room_id).await?;
        let membership = record.map_or(MembershipState::Leave, |record| record.membership);
        if let Some(room) = self.resident_room(&room_id).await? {
            if !self.may_preview(&room, Viewer::User(user_id)).await? {
                return Err(not_found());
            }
            return Ok((RoomSummary::clone(&*self.summary_of(&room).await?), membership));
        }
        let servers = self.servers_to_join_by(requester, &room_id, &servers).await?;
        let space = self.remote_space(&room_id, &servers, false).await?.ok_or_else(not_found)?;
        if self.may_preview_remote(&space.summary, user_id).await? {
            return Ok((space.summary.clone(), membership));
        }
        Err(not_found())
    }

    /// The same for somebody without an account: rooms that we are in, and that anybody may enter, knock at or read. No
    /// other server is asked.
    pub async fn room_summary_for_anybody(&self, room: &RoomOrAliasId) -> Result<RoomSummary> {
        let room_id = match <&RoomId>::try_from(room) {
            Ok(room_id) => room_id.to_owned(),
            Err(alias) if alias.server_name() == self.server_name() => self.resolve_alias(alias).await?.0,
            Err(_) => return Err(not_found()),
        };
        let room = self.resident_room(&room_id).await?.ok_or_else(not_found)?;
        if !self.may_preview(&room, Viewer::Anybody).await? {
            return Err(not_found());
        }
        Ok(RoomSummary::clone(&*self.summary_of(&room).await?))
    }

    /// Whether somebody may see what a room of ours is: who is in it, may enter it, or may ask to.
    pub(crate) async fn may_preview(&self, room: &RoomSnapshot, viewer: Viewer<'_>) -> Result<bool> {
        let is_involved = match viewer {
            Viewer::User(user_id) => {
                matches!(room.membership(user_id), MembershipState::Join | MembershipState::Invite)
            }
            Viewer::Server(server) => {
                room.has_server(server)
                    || room.members(&MembershipState::Invite).any(|user_id| user_id.server_name() == server)
            }
            Viewer::Anybody => false,
        };
        let summary = self.summary_of(room).await?;
        if is_involved || summary.world_readable {
            return Ok(true);
        }
        if let Viewer::User(user_id) = viewer
            && room.membership(user_id) == MembershipState::Ban
        {
            return Ok(false);
        }
        let rules = &room.rules.authorization;
        match &summary.join_rule {
            JoinRuleSummary::Public => Ok(true),
            JoinRuleSummary::Knock => Ok(rules.knocking),
            JoinRuleSummary::KnockRestricted(_) => Ok(rules.knock_restricted_join_rule),
            JoinRuleSummary::Restricted(_) => match viewer {
                Viewer::User(user_id) => self.meets_condition(room, user_id).await,
                Viewer::Server(server) => self.server_meets_condition(room, server).await,
                Viewer::Anybody => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// The same for a room that only other servers know, as far as their word goes.
    pub(super) async fn may_preview_remote(&self, summary: &RoomSummary, user_id: &UserId) -> Result<bool> {
        let record = self.storage().membership(user_id, &summary.room_id).await?;
        match record.map(|record| record.membership) {
            Some(MembershipState::Join | MembershipState::Invite) => return Ok(true),
            Some(MembershipState::Ban) => return Ok(summary.world_readable),
            _ => {}
        }
        Ok(summary.world_readable
            || match &summary.join_rule {
                JoinRuleSummary::Public | JoinRuleSummary::Knock | JoinRuleSummary::KnockRestricted(_) => true,
                JoinRuleSummary::Restricted(restricted) => {
                    self.is_in_one_of(&restricted.allowed_room_ids, user_id).await?
                }
                _ => false,
            })
    }

    /// The description of a room of ours, worked out once for each of its revisions.
    pub(crate) async fn summary_of(&self, room: &RoomSnapshot) -> Result<Arc<RoomSummary>> {
        if let Some(summary) = self.inner.rooms.summary(&room.room_id, room.revision) {
            return Ok(summary);
        }
        let summary = Arc::new(self.make_summary(room).await?);
        self.inner.rooms.remember_summary(room.revision, summary.clone());
        Ok(summary)
    }

    async fn make_summary(&self, room: &RoomSnapshot) -> Result<RoomSummary> {
        let join_rules = self.state_pdu(room, &StateEventType::RoomJoinRules, "").await?;
        let join_rule = join_rules.and_then(|event| event.content_as::<JoinRule>()).unwrap_or(JoinRule::Invite);
        let guest_access = self.state_text(room, StateEventType::RoomGuestAccess, "guest_access").await?;
        let visibility = self.state_text(room, StateEventType::RoomHistoryVisibility, "history_visibility").await?;
        let mut summary = RoomSummary::new(
            room.room_id.clone(),
            join_rule.into(),
            guest_access.as_deref() == Some("can_join"),
            UInt::new_saturating(room.joined_count()),
            visibility.as_deref() == Some("world_readable"),
        );
        let alias = self.state_text(room, StateEventType::RoomCanonicalAlias, "alias").await?;
        summary.canonical_alias = alias.and_then(|alias| OwnedRoomAliasId::try_from(alias).ok());
        summary.name = self.state_text(room, StateEventType::RoomName, "name").await?;
        summary.topic = self.state_text(room, StateEventType::RoomTopic, "topic").await?;
        summary.avatar_url = self.state_text(room, StateEventType::RoomAvatar, "url").await?.map(OwnedMxcUri::from);
        summary.room_type = self.state_text(room, StateEventType::RoomCreate, "type").await?.map(Into::into);
        summary.encryption = self.state_text(room, StateEventType::RoomEncryption, "algorithm").await?.map(Into::into);
        summary.room_version = Some(room.version.clone());
        Ok(summary)
    }

    /// A text in the content of a state event with an empty key; an empty one counts as none.
    pub(crate) async fn state_text(
        &self,
        room: &RoomSnapshot,
        event_type: StateEventType,
        field: &str,
    ) -> Result<Option<String>> {
        let event = self.state_pdu(room, &event_type, "").await?;
        Ok(event.and_then(|event| event.content_str(field)).filter(|text| !text.is_empty()))
    }

    async fn is_in_one_of(&self, rooms: &[ruma::OwnedRoomId], user_id: &UserId) -> Result<bool> {
        for room_id in rooms.iter().take(MAX_ROOMS_LOOKED_AT) {
            if self.is_member_of(room_id, user_id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_member_of(&self, room_id: &RoomId, user_id: &UserId) -> Result<bool> {
        let record = self.storage().membership(user_id, room_id).await?;
        Ok(record.is_some_and(|record| record.membership == MembershipState::Join))
    }
}

/// How many of the rooms whose members another server's room lets in are looked at.
const MAX_ROOMS_LOOKED_AT: usize = 50;

fn not_found() -> EngineError {
    EngineError::not_found("Room not found")
}
