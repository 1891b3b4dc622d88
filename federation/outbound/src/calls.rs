//! x
use std::sync::Arc;

use rules::{Pdu, event::ServerKey, world::World};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId,
    ServerName, UserId,
};
use serde_json::value::RawValue;
use storage::Storage;

use crate::{KeyRing, Transport};

/// What the calls need.
pub struct FederationOptions {
    /// Our key; it knows our name.
    pub key: Arc<ServerKey>,
    /// Where keys of other servers are kept.
    pub storage: Storage,
    /// How requests get to other servers.
    pub transport: Arc<dyn Transport>,
    /// Time and chance.
    pub world: World,
    /// Servers to ask for keys of servers that do not answer themselves.
    pub notaries: Vec<OwnedServerName>,
}

/// Calls to other servers, and the check of calls by them. Cloning shares it.
#[derive(Clone)]
pub struct Federation {}

/// Why a call came to nothing. Never to be passed on to a client as it is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// The server does not answer.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The server refuses, or is broken.
    #[error("refused with status {status}: {errcode:?} {error:?}")]
    Refused {
        /// The status.
        status: u16,
        /// The `errcode`, if the answer has one.
        errcode: Option<String>,
        /// The `error`, if the answer has one, cut to a length fit for a log.
        error: Option<String>,
    },
    /// The answer is not what the specification says.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// The answer is larger than the call allows.
    #[error("the answer is too large")]
    TooLarge,
    /// The call took too long.
    #[error("no complete answer in time")]
    Deadline,
    /// The server is at an address that we do not connect to, or is ourselves.
    #[error("not called: {0}")]
    Denied(String),
}

/// The answer to `make_join` or `make_leave`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The version of the room.
    pub room_version: RoomVersionId,
    /// An event to take `prev_events`, `auth_events` and `depth` from.
    pub event: CanonicalJsonObject,
}

/// The answer to `send_join`: nothing of it is checked.
#[derive(Clone, Debug)]
pub struct SendJoinAnswer {
    /// The state before the join.
    pub state: Vec<Box<RawValue>>,
    /// The ancestors of the state and the join.
    pub auth_chain: Vec<Box<RawValue>>,
    /// Our event with the other server's signature, where it gave one.
    pub event: Option<Box<RawValue>>,
    /// Whether `state` lacks members.
    pub members_omitted: bool,
    /// The servers in the room before the join.
    pub servers_in_room: Option<Vec<OwnedServerName>>,
}

/// The answer to `state_ids`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateIdsAnswer {
    /// The state before the event.
    pub pdu_ids: Vec<OwnedEventId>,
    /// Its ancestors.
    pub auth_chain_ids: Vec<OwnedEventId>,
}

/// The answer to `state`.
#[derive(Clone, Debug)]
pub struct StateAnswer {
    /// The state before the event.
    pub pdus: Vec<Box<RawValue>>,
    /// Its ancestors.
    pub auth_chain: Vec<Box<RawValue>>,
}

/// The answer to a query for a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileAnswer {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar.
    pub avatar_url: Option<String>,
}

/// The answer to a query for an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers in it.
    pub servers: Vec<OwnedServerName>,
}

impl Federation {
    /// Starts nothing; tasks run only within calls.
    pub fn new(options: FederationOptions) -> Self {
        todo!()
    }

    /// Our name.
    pub fn server_name(&self) -> &ServerName {
        todo!()
    }

    /// The keys of other servers, and our own.
    pub fn key_ring(&self) -> &KeyRing {
        todo!()
    }

    /// Asks for the template of a join event, naming the room versions that we know.
    pub async fn make_join(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<Template, CallError> {
        todo!()
    }

    /// Hands in a signed join event and gets the state of the room.
    pub async fn send_join(&self, destination: &ServerName, event: &Pdu) -> Result<SendJoinAnswer, CallError> {
        todo!()
    }

    /// Asks for the template of a leave event, to refuse an invite to a room that we are not in.
    pub async fn make_leave(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<Template, CallError> {
        todo!()
    }

    /// Hands in a signed leave event.
    pub async fn send_leave(&self, destination: &ServerName, event: &Pdu) -> Result<(), CallError> {
        todo!()
    }

    /// Hands an invite for one of its users to a server, and gets it back with that server's signature.
    pub async fn invite(
        &self,
        destination: &ServerName,
        event: &Pdu,
        room_version: &RoomVersionId,
        invite_room_state: &[Box<RawValue>],
    ) -> Result<Box<RawValue>, CallError> {
        todo!()
    }

    /// Events before the given ones.
    pub async fn backfill(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>, CallError> {
        todo!()
    }

    /// Events between `earliest`, which we have, and `latest`.
    pub async fn missing_events(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
        min_depth: u64,
    ) -> Result<Vec<Box<RawValue>>, CallError> {
        todo!()
    }

    /// One event.
    pub async fn event(&self, destination: &ServerName, event_id: &EventId) -> Result<Box<RawValue>, CallError> {
        todo!()
    }

    /// The ids of the state before an event.
    pub async fn state_ids(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateIdsAnswer, CallError> {
        todo!()
    }

    /// The state before an event.
    pub async fn state(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateAnswer, CallError> {
        todo!()
    }

    /// The auth chain of an event.
    pub async fn event_auth(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Box<RawValue>>, CallError> {
        todo!()
    }

    /// The profile of a user of that server.
    pub async fn query_profile(&self, destination: &ServerName, user_id: &UserId) -> Result<ProfileAnswer, CallError> {
        todo!()
    }

    /// The room that an alias of that server stands for.
    pub async fn query_directory(
        &self,
        destination: &ServerName,
        alias: &RoomAliasId,
    ) -> Result<DirectoryAnswer, CallError> {
        todo!()
    }
}
