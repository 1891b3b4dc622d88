//! Knocking: asking to be let in.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#knocking-on-rooms>

use rules::{Change, change::Standing, room::member};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomId, RoomOrAliasId, ServerName,
    UserId, events::room::member::MembershipState,
};
use storage::Submission;

use super::{
    moderate::{Manner, check_reason},
    remote::{ROOM_VERSIONS, WayIn, commit_error, map_call_error},
};
use crate::{
    Engine, EngineError, Requester, Result,
    federation::{outlier_change, stripped_with},
};

impl Engine {
    /// Knocks on a room, named by its id or an alias.
    pub async fn knock_by_alias_or_id(
        &self,
        requester: &Requester,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
        reason: Option<String>,
    ) -> Result<OwnedRoomId> {
        let (room_id, servers) = self.find_room(room, via).await?;
        self.knock(requester, &room_id, &servers, reason).await?;
        Ok(room_id)
    }

    /// Knocks on a room. `via` names servers that are in it.
    pub async fn knock(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        via: &[OwnedServerName],
        manner: impl Into<Manner> + Send,
    ) -> Result<()> {
        let Manner { reason, origin_server_ts } = manner.into();
        check_reason(reason.as_deref())?;
        let user_id = &requester.user_id;
        let content = self.member_content(user_id, reason.as_deref()).await?;
        if let Some(room) = self.resident_room(room_id).await? {
            match room.membership(user_id) {
                MembershipState::Join => return Err(EngineError::forbidden("You are in this room already")),
                MembershipState::Invite => return Err(EngineError::forbidden("You are invited to this room already")),
                _ => {}
            }
            let mut intent = member::change(user_id, user_id, &MembershipState::Knock, content);
            intent.origin_server_ts = origin_server_ts;
            return self.send_intent(room_id, intent, None).await.map(drop);
        }
        let servers = self.servers_to_join_by(requester, room_id, via).await?;
        if servers.is_empty() {
            return Err(EngineError::not_found("This server knows no such room, nor a server that might"));
        }
        self.enter_by_servers(WayIn::Knock, user_id, room_id, &servers, content, origin_server_ts).await
    }

    /// Knocks by one server, and remembers what it shows of the room.
    pub(super) async fn knock_by(
        &self,
        server: &ServerName,
        user_id: &UserId,
        room_id: &RoomId,
        content: CanonicalJsonObject,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<()> {
        let offer = self.federation().make_knock(server, room_id, user_id, &ROOM_VERSIONS).await;
        let offer = offer.map_err(|error| map_call_error(server, &error))?;
        let wanted = self.wanted(server, room_id, user_id, MembershipState::Knock, content, origin_server_ts);
        let (pdu, rules) = self.build_by_template(wanted, &offer.event, &offer.room_version)?;
        let shown = self.federation().send_knock(server, &pdu).await.map_err(|error| map_call_error(server, &error))?;
        let shown = self.verified_to_show(room_id, &rules, &shown).await;
        let change = Change::Membership {
            user_id: user_id.to_owned(),
            room_id: room_id.to_owned(),
            membership: MembershipState::Knock,
            event_id: pdu.event_id.clone(),
            sender: user_id.to_owned(),
            stripped_state: Some(stripped_with(&pdu, &shown)?),
        };
        // A service that the user belongs to is sent the event itself.
        let changes = vec![outlier_change(pdu, Standing::Outlier), change];
        let _lock = self.inner.rooms.lock(room_id).await;
        let submission = Submission { room: None, changes };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }
}
