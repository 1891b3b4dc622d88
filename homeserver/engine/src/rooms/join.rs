//! Joining rooms: those that this server is in, and, by way of another server, those that it is not.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#joining-rooms>

use std::collections::HashSet;

use rules::{RoomSnapshot, change::Position, room::member};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomId,
    RoomOrAliasId, ServerName, UserId, events::room::member::MembershipState,
};

use super::{
    moderate::{Manner, check_reason},
    remote::WayIn,
};
use crate::{Engine, EngineError, Requester, Result, federation::servers_shown};

/// The field of a join that names the user by whose authority it is.
const AUTHORISER: &str = "join_authorised_via_users_server";

/// What of a join is not for the client to write: the server does, or it has its place elsewhere.
const NOT_THE_CLIENTS: [&str; 5] = ["membership", "reason", "third_party_signed", "third_party_invite", AUTHORISER];

/// How many servers are asked to let our user in before we give up.
const MAX_SERVERS_ASKED: usize = 5;

impl Engine {
    /// Joins a room by its id or an alias, with fields of the client's own in the member event.
    pub async fn join_by_alias_or_id(
        &self,
        requester: &Requester,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
        reason: Option<String>,
        more: CanonicalJsonObject,
    ) -> Result<OwnedRoomId> {
        let (room_id, servers) = self.find_room(room, via).await?;
        self.join_with(requester, &room_id, &servers, reason, more).await?;
        Ok(room_id)
    }

    /// The id of a room named by its id or an alias, and servers that may be in it.
    pub(crate) async fn find_room(
        &self,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let (room_id, mut servers) = match <&RoomId>::try_from(room) {
            Ok(room_id) => (room_id.to_owned(), Vec::new()),
            Err(alias) => self.resolve_alias(alias).await?,
        };
        servers.splice(0..0, via.iter().cloned());
        Ok((room_id, servers))
    }

    /// Joins a room. `via` names servers that are in it.
    pub async fn join(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        via: &[OwnedServerName],
        reason: Option<String>,
    ) -> Result<()> {
        self.join_with(requester, room_id, via, reason, CanonicalJsonObject::new()).await
    }

    /// The same, with fields of the client's own in the member event.
    pub async fn join_with(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        via: &[OwnedServerName],
        manner: impl Into<Manner> + Send,
        more: CanonicalJsonObject,
    ) -> Result<()> {
        let Manner { reason, origin_server_ts } = manner.into();
        check_reason(reason.as_deref())?;
        self.refuse_unwanted_guest(&requester.user_id, room_id).await?;
        let mut content = self.member_content(&requester.user_id, reason.as_deref()).await?;
        content.extend(more.into_iter().filter(|(field, _)| !NOT_THE_CLIENTS.contains(&field.as_str())));
        let room = self.resident_room(room_id).await?;
        let is_alone = room.as_ref().is_some_and(|room| room.servers().all(|server| server == self.server_name()));
        let following = if is_alone {
            Vec::new()
        } else {
            self.storage().servers_sharing_whole_rooms(&requester.user_id, Position::MAX).await?
        };
        if room.as_ref().is_some_and(|room| room.membership(&requester.user_id) == MembershipState::Join) {
            return Ok(());
        }
        // Who may join is decided where all members are known.
        if let Some(room) = room.filter(|room| !room.is_partial()) {
            Box::pin(self.join_here(requester, &room, via, content, origin_server_ts)).await?;
        } else {
            let mut via = via.to_vec();
            if let Some(partial) = self.storage().partial_state(room_id).await? {
                via.push(partial.entered_by);
                via.extend(partial.servers);
            }
            let servers = self.servers_to_join_by(requester, room_id, &via).await?;
            if servers.is_empty() {
                return Err(EngineError::not_found("This server knows no such room, nor a server that might"));
            }
            let user_id = &requester.user_id;
            self.enter_by_servers(WayIn::Join, user_id, room_id, &servers, content, origin_server_ts).await?;
        }
        self.carry_over_after_join(requester, room_id).await;
        self.introduce_after_join(requester, room_id, &following).await;
        Ok(())
    }

    /// The join stands, whatever becomes of this: a server that is not told of the devices asks for them when one of its
    /// users writes.
    ///
    /// Spec: <https://spec.matrix.org/v1.19/server-server-api/#device-management>
    async fn introduce_after_join(&self, requester: &Requester, room_id: &RoomId, following: &[OwnedServerName]) {
        if let Err(error) = self.introduce_devices(&requester.user_id, room_id, following).await {
            tracing::warn!(room.id = %room_id, %error, "a user's devices were not made known to the room's servers");
        }
    }

    /// Makes the devices of a user known to the servers of a room that were not following them. Where not all members are
    /// known, that is done when they are.
    async fn introduce_devices(&self, user_id: &UserId, room_id: &RoomId, following: &[OwnedServerName]) -> Result<()> {
        match self.resident_room(room_id).await? {
            Some(room) if !room.is_partial() => {
                let servers = self.servers_besides(&room, following);
                Ok(self.key_server().introduce_devices(user_id, &servers).await?)
            }
            _ => Ok(()),
        }
    }

    /// The other servers in a room, without some.
    pub(crate) fn servers_besides(&self, room: &RoomSnapshot, known: &[OwnedServerName]) -> Vec<OwnedServerName> {
        let known: HashSet<&ServerName> = known.iter().map(|server| &**server).collect();
        let is_new = |server: &&ServerName| *server != self.server_name() && !known.contains(server);
        let mut servers: Vec<OwnedServerName> = room.servers().filter(is_new).map(ToOwned::to_owned).collect();
        servers.sort();
        servers
    }

    /// The join stands, whatever becomes of the settings.
    async fn carry_over_after_join(&self, requester: &Requester, room_id: &RoomId) {
        if let Err(error) = self.carry_over(&requester.user_id, room_id).await {
            tracing::warn!(room.id = %room_id, %error, "a user's settings were not carried over to the new room");
        }
    }

    /// Joins a room that this server is in. Where its join rule asks for an authority that we do not have, another server
    /// in the room may.
    async fn join_here(
        &self,
        requester: &Requester,
        room: &RoomSnapshot,
        via: &[OwnedServerName],
        mut content: CanonicalJsonObject,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<()> {
        let (user_id, room_id) = (&requester.user_id, &room.room_id);
        match self.join_authoriser(room, user_id).await {
            Ok(authoriser) => {
                let authoriser = authoriser.map(|user_id| CanonicalJsonValue::String(user_id.to_string()));
                content.extend(authoriser.map(|user_id| (AUTHORISER.to_owned(), user_id)));
                let mut intent = member::change(user_id, user_id, &MembershipState::Join, content);
                intent.origin_server_ts = origin_server_ts;
                self.send_intent(room_id, intent, None).await.map(drop)
            }
            Err(reason @ (EngineError::UnableToAuthoriseJoin | EngineError::UnableToGrantJoin)) => {
                let mut servers = via.to_vec();
                servers.extend(self.servers_that_may_invite(room, MAX_SERVERS_ASKED).await?);
                let servers = self.servers_to_join_by(requester, room_id, &servers).await?;
                if servers.is_empty() {
                    return Err(reason);
                }
                self.enter_by_servers(WayIn::Join, user_id, room_id, &servers, content, origin_server_ts).await
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn servers_to_join_by(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>> {
        let mut servers = via.to_vec();
        if let Some(record) = self.storage().membership(&requester.user_id, room_id).await? {
            servers.push(record.sender.server_name().to_owned());
            servers.extend(servers_shown(&record));
        }
        if servers.is_empty() {
            // Who names servers has a reason; the one in the room's id may long have left.
            servers.extend(room_id.server_name().map(ToOwned::to_owned));
        }
        let mut seen = HashSet::new();
        servers.retain(|server| server != self.server_name() && seen.insert(server.clone()));
        servers.truncate(MAX_SERVERS_ASKED);
        Ok(servers)
    }
}
