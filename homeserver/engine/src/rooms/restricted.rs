//! Joining rooms whose join rule lets in the members of other rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>

use std::collections::HashSet;

use rules::RoomSnapshot;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::Value;

use crate::{Engine, EngineError, Result};

/// How many conditions of one join rule are looked at. Rooms with more than a handful are not made by hand.
const MAX_CONDITIONS: usize = 50;

impl Engine {
    /// The user of this server by whose authority somebody may join; `None` when the join needs none, because the rule
    /// is another one, because the user is invited or joined, or because no authority helps.
    pub(crate) async fn join_authoriser(&self, room: &RoomSnapshot, user_id: &UserId) -> Result<Option<OwnedUserId>> {
        use MembershipState::{Ban, Invite, Join};
        if matches!(room.membership(user_id), Ban | Invite | Join) {
            return Ok(None);
        }
        let Some(conditions) = self.conditions(room).await? else { return Ok(None) };
        self.require_condition(&conditions, user_id).await?;
        let authoriser = self.local_inviter(room).await?;
        authoriser.map(Some).ok_or(EngineError::UnableToGrantJoin)
    }

    /// Fails unless the user of another server may join a restricted room by our authority, which does not depend on
    /// who of our users gives it.
    pub(crate) async fn require_condition_met(&self, room: &RoomSnapshot, user_id: &UserId) -> Result<()> {
        if matches!(room.membership(user_id), MembershipState::Invite | MembershipState::Join) {
            return Ok(());
        }
        match self.conditions(room).await? {
            Some(conditions) => self.require_condition(&conditions, user_id).await,
            None => Ok(()),
        }
    }

    /// Whether the user is in one of the rooms whose members a room lets in, as far as this server can tell.
    pub(crate) async fn meets_condition(&self, room: &RoomSnapshot, user_id: &UserId) -> Result<bool> {
        let Some(conditions) = self.conditions(room).await? else { return Ok(false) };
        match self.require_condition(&conditions, user_id).await {
            Ok(()) => Ok(true),
            Err(EngineError::Forbidden(_) | EngineError::UnableToAuthoriseJoin) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The rooms whose members a room lets in; `None` when its rule is not of that kind.
    pub(crate) async fn conditions(&self, room: &RoomSnapshot) -> Result<Option<Vec<OwnedRoomId>>> {
        let rules = &room.rules.authorization;
        let Some(event) = self.state_pdu(room, &StateEventType::RoomJoinRules, "").await? else { return Ok(None) };
        let is_of_that_kind = match event.content_str("join_rule").as_deref() {
            Some("restricted") => rules.restricted_join_rule,
            Some("knock_restricted") => rules.knock_restricted_join_rule,
            _ => false,
        };
        let content: serde_json::Map<String, Value> = event.content_as().unwrap_or_default();
        Ok(is_of_that_kind.then(|| allowed_rooms(content.get("allow"))))
    }

    /// Fails unless the user is in one of the rooms.
    async fn require_condition(&self, rooms: &[OwnedRoomId], user_id: &UserId) -> Result<()> {
        let mut is_unknown = false;
        for room_id in rooms {
            match self.resident_room(room_id).await? {
                Some(room) if room.membership(user_id) == MembershipState::Join => return Ok(()),
                Some(room) if !room.is_partial() => {}
                _ => is_unknown = true,
            }
        }
        if is_unknown {
            return Err(EngineError::UnableToAuthoriseJoin);
        }
        Err(EngineError::forbidden("You are in none of the rooms whose members may join this room"))
    }

    /// A user of ours in the room who may invite. The same one each time.
    async fn local_inviter(&self, room: &RoomSnapshot) -> Result<Option<OwnedUserId>> {
        let levels = self.power_levels(room).await?;
        let local = room.members(&MembershipState::Join).filter(|user_id| self.is_local(user_id));
        Ok(local.filter(|user_id| levels.may_invite(user_id)).min())
    }

    /// Other servers in the room that have somebody who may invite: those first that are most likely to be there.
    pub(crate) async fn servers_that_may_invite(
        &self,
        room: &RoomSnapshot,
        limit: usize,
    ) -> Result<Vec<OwnedServerName>> {
        let levels = self.power_levels(room).await?;
        let joined = room.members(&MembershipState::Join);
        let inviters = joined.filter(|user_id| !self.is_local(user_id) && levels.may_invite(user_id));
        let authorised: HashSet<OwnedServerName> = inviters.map(|user_id| user_id.server_name().to_owned()).collect();
        let mut servers = room.servers_by_size();
        servers.retain(|server| authorised.contains(*server));
        servers.sort_by_key(|server| self.sender().is_failing(server));
        Ok(servers.into_iter().take(limit).map(ToOwned::to_owned).collect())
    }

    /// Whether users of a server are in one of the rooms whose members a room lets in.
    pub(crate) async fn server_meets_condition(&self, room: &RoomSnapshot, server: &ServerName) -> Result<bool> {
        for room_id in self.conditions(room).await?.unwrap_or_default() {
            if self.resident_room(&room_id).await?.is_some_and(|allowed| allowed.has_server(server)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn allowed_rooms(allow: Option<&Value>) -> Vec<OwnedRoomId> {
    let conditions = allow.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let room_id = |condition: &Value| {
        let is_membership = condition.get("type").and_then(Value::as_str) == Some("m.room_membership");
        let room_id = condition.get("room_id").and_then(Value::as_str).filter(|_| is_membership)?;
        RoomId::parse(room_id).ok()
    };
    conditions.iter().take(MAX_CONDITIONS).filter_map(room_id).collect()
}
