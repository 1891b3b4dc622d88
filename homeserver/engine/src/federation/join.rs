//! Letting users of other servers into rooms of ours.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{collections::HashSet, sync::Arc};

use rules::{
    Pdu, RoomSnapshot,
    event::{build::countersign, read_pdu},
    room::{StateMap, member, template::UnexpectedTemplate},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName,
    UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::value::{RawValue, to_raw_value};

use super::append::Provenance;
use crate::{Engine, EngineError, Result};

/// A template for a member event.
#[derive(Clone, Debug)]
pub struct JoinTemplate {
    /// The version of the room.
    pub room_version: RoomVersionId,
    /// The event, without hashes and signatures.
    pub event: CanonicalJsonObject,
}

/// What a server that joined gets.
#[derive(Clone, Debug)]
pub struct SendJoinReply {
    /// Its event.
    pub event: Box<RawValue>,
    /// The state before the join.
    pub state: Vec<Box<RawValue>>,
    /// The ancestors of the state by `auth_events`.
    pub auth_chain: Vec<Box<RawValue>>,
    /// The servers in the room before the join.
    pub servers_in_room: Vec<OwnedServerName>,
    /// Whether members are left out of `state`.
    pub members_omitted: bool,
}

impl Engine {
    /// A template for the join of a user of `origin`.
    pub async fn federation_make_join(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<JoinTemplate> {
        let room = self.room_for_server(origin, room_id, user_id).await?;
        if !versions.contains(&room.version) {
            return Err(EngineError::IncompatibleRoomVersion(room.version.clone()));
        }
        let authoriser = self.join_authoriser(&room, user_id).await?;
        self.member_template(&room, user_id, &MembershipState::Join, authoriser.as_ref()).await
    }

    /// Takes the join that a server made from our template, sends it to the other servers, and answers with the state.
    pub async fn federation_send_join(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        raw: &RawValue,
        omit_members: bool,
    ) -> Result<SendJoinReply> {
        let was_in_room = self.resident_room(room_id).await?.is_some_and(|room| room.has_server(origin));
        let pdu = self.member_event_from(origin, room_id, event_id, raw, &MembershipState::Join).await?;
        self.append(&pdu, Provenance::Relayed).await?;
        // Not taken before, for the room may have changed until then: the server would not know of those who came in.
        let room = self.known_room(room_id).await?;
        let mut servers_in_room: Vec<OwnedServerName> = room.servers().map(ToOwned::to_owned).collect();
        servers_in_room.retain(|server| was_in_room || server != origin);
        servers_in_room.sort_unstable();
        let stored = self.stored_event(&pdu.event_id).await?;
        let stored = stored.ok_or_else(|| EngineError::internal("an appended event is not stored"))?;
        let before = self.stored_state_before(&room, &stored).await?.unwrap_or_default();
        let (state, members_omitted) = if omit_members {
            self.without_members(&room, &pdu.sender, before).await?
        } else {
            let mut state: Vec<OwnedEventId> = before.into_values().collect();
            state.sort_unstable();
            (state, false)
        };
        let roots: Vec<OwnedEventId> = state.iter().chain(&pdu.auth_events).cloned().collect();
        let mut chain = self.storage().auth_chain(&roots).await?;
        if omit_members {
            // What is in the state need not come twice.
            let state: HashSet<&OwnedEventId> = state.iter().collect();
            chain.retain(|event_id| !state.contains(event_id));
        }
        Ok(SendJoinReply {
            event: pdu.to_raw_json(),
            state: self.raw_events(&state).await?,
            auth_chain: self.raw_events(&chain).await?,
            servers_in_room,
            members_omitted,
        })
    }

    /// A state without its members but for those who stand for a room that has no name, as `user_id` sees it; and whether
    /// any is left out.
    async fn without_members(
        &self,
        room: &RoomSnapshot,
        user_id: &UserId,
        state: StateMap,
    ) -> Result<(Vec<OwnedEventId>, bool)> {
        let heroes = self.summary(room, user_id).await?.heroes;
        let all = state.len();
        let kept = state.into_iter().filter(|((event_type, key), _)| {
            *event_type != StateEventType::RoomMember || heroes.iter().any(|user_id| user_id.as_str() == key)
        });
        let mut kept: Vec<OwnedEventId> = kept.map(|(_, event_id)| event_id).collect();
        kept.sort_unstable();
        let is_less = kept.len() < all;
        Ok((kept, is_less))
    }

    /// The room, if we are in it and know all of it, the server may take part, and the user is the server's.
    pub(crate) async fn room_for_server(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<Arc<RoomSnapshot>> {
        if user_id.server_name() != origin {
            return Err(EngineError::forbidden("The user does not belong to the asking server"));
        }
        let room = self.resident_room(room_id).await?;
        let room = room.filter(|room| !room.is_partial());
        let room = room.ok_or_else(|| EngineError::not_found("This server is not in that room"))?;
        self.require_acl(&room, origin).await?;
        Ok(room)
    }

    /// A template for a user's own member event, if it would be allowed.
    pub(crate) async fn member_template(
        &self,
        room: &RoomSnapshot,
        user_id: &UserId,
        membership: &MembershipState,
        authoriser: Option<&OwnedUserId>,
    ) -> Result<JoinTemplate> {
        let content = member::content(None, None, None, authoriser);
        let intent = member::change(user_id, user_id, membership, content);
        let keys =
            rules::room::send::keys_for(room, &intent).map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        let events = self.events_for_keys(room, &keys).await?;
        let event = rules::room::template::offer(room, intent, self.world().clock.now(), &events)
            .map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        Ok(JoinTemplate { room_version: room.version.clone(), event })
    }

    /// The member event that a server hands in for one of its users, with what the path says checked against it.
    pub(crate) async fn member_event_from(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        raw: &RawValue,
        membership: &MembershipState,
    ) -> Result<Arc<Pdu>> {
        let room = self.resident_room(room_id).await?.filter(|room| !room.is_partial());
        let room = room.ok_or_else(|| EngineError::not_found("This server is not in that room"))?;
        self.require_acl(&room, origin).await?;
        if !self.may_know_of(&room, origin).await? {
            return Err(EngineError::forbidden("The server may not send events into that room"));
        }
        let unfit = |reason: String| EngineError::InvalidParam(format!("The event does not fit: {reason}"));
        let countersigned = self.countersigned_join_of(&room, raw).await?;
        let raw = countersigned.as_deref().unwrap_or(raw);
        let pdu = self.verified(room_id, &room.rules, raw).await.map_err(|reason| unfit(reason.to_string()))?;
        if pdu.event_id != event_id {
            return Err(unfit(format!("its id is {}", pdu.event_id)));
        }
        let (target, given) = pdu.membership().ok_or_else(|| unfit("it is no member event".to_owned()))?;
        if target != pdu.sender {
            return Err(unfit("it is about another user than its sender".to_owned()));
        }
        if target.server_name() != origin {
            return Err(unfit("its sender is not a user of the asking server".to_owned()));
        }
        if given != *membership {
            return Err(unfit(format!("its membership is {given}")));
        }
        self.fetch_auth_events(origin, &room, &pdu).await.map_err(|reason| unfit(reason.to_string()))?;
        if !self.missing_prev(&room, &pdu).await?.is_empty() {
            return Err(unfit("it builds on events that are not in the room".to_owned()));
        }
        Ok(pdu)
    }

    /// A restricted join with our signature, if it is by the authority of one of our users and its user may join. It is
    /// given away only once all else of the event has been checked.
    async fn countersigned_join_of(&self, room: &RoomSnapshot, raw: &RawValue) -> Result<Option<Box<RawValue>>> {
        if !room.rules.signatures.check_join_authorised_via_users_server {
            return Ok(None);
        }
        let unfit = |reason: String| EngineError::InvalidParam(format!("The event does not fit: {reason}"));
        let (pdu, mut object) = read_pdu(raw.get(), &room.rules).map_err(|error| unfit(error.to_string()))?;
        let Some((target, MembershipState::Join)) = pdu.membership() else { return Ok(None) };
        let Some(authoriser) = pdu.content_str("join_authorised_via_users_server") else { return Ok(None) };
        let authoriser = <&UserId>::try_from(authoriser.as_str()).map_err(|error| unfit(error.to_string()))?;
        if !self.is_local(authoriser) {
            return Ok(None);
        }
        self.require_condition_met(room, &target).await?;
        countersign(&mut object, &room.rules, self.federation().key())?;
        to_raw_value(&object).map(Some).map_err(EngineError::internal)
    }

    /// Whether a server has business with a room: it is in it, one of its users is invited, or anybody may try to enter.
    async fn may_know_of(&self, room: &RoomSnapshot, origin: &ServerName) -> Result<bool> {
        if room.has_server(origin) {
            return Ok(true);
        }
        let join_rules = self.state_pdu(room, &StateEventType::RoomJoinRules, "").await?;
        let join_rule = join_rules.and_then(|event| event.content_str("join_rule"));
        let is_closed = matches!(join_rule.as_deref(), None | Some("invite" | "private"));
        let mut related = [MembershipState::Invite, MembershipState::Knock].into_iter();
        Ok(!is_closed || related.any(|membership| room.members(&membership).any(|user| user.server_name() == origin)))
    }

    /// Stored events as other servers get them.
    pub(crate) async fn raw_events(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Box<RawValue>>> {
        let events = self.storage().events(event_ids).await?;
        Ok(self.apart(events.len(), move || events.iter().map(|event| event.pdu.to_raw_json()).collect()).await)
    }
}

impl From<UnexpectedTemplate> for EngineError {
    fn from(error: UnexpectedTemplate) -> Self {
        Self::CannotFederate(error.to_string())
    }
}
