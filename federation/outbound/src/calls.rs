//! Calls to other servers, one file per chapter. Each signs, sends, and reads the answer; none believes it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/>

mod events;
mod exchange;
mod identity;
mod invite;
mod join;
mod keys;
mod knock;
mod leave;
mod media;
mod membership;
mod path;
mod policy;
mod public_rooms;
mod push_gateway;
mod query;
mod space;
mod state;
mod third_party;
mod transaction;
mod web;

use std::{fmt, sync::Arc};

use rules::{event::ServerKey, world::World};
use ruma::{OwnedServerName, RoomVersionId, ServerName};
use storage::Storage;
use tokio::sync::Semaphore;

pub(crate) use self::transaction::TransactionAnswer;
pub use self::{
    identity::{HashDetails, InviteKey, StoredInvite},
    join::SendJoinAnswer,
    media::RemoteMedia,
    membership::Template,
    public_rooms::{PublicRoomsAnswer, PublicRoomsAsked},
    query::{DirectoryAnswer, ProfileAnswer},
    space::HierarchyAnswer,
    state::{StateAnswer, StateIdsAnswer},
    web::Web,
};
use crate::{KeyRing, Transport, x_matrix::LARGE_BODIES_AT_ONCE};

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
pub struct Federation {
    inner: Arc<Inner>,
}

struct Inner {
    key: Arc<ServerKey>,
    storage: Storage,
    transport: Arc<dyn Transport>,
    world: World,
    key_ring: KeyRing,
    /// Places for those who check large bodies.
    large_bodies: Arc<Semaphore>,
}

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
        /// The `room_version`, if the answer has one: that of a room which does not fit what was offered.
        room_version: Option<RoomVersionId>,
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

impl Federation {
    /// Starts nothing; tasks run only within calls.
    pub fn new(options: FederationOptions) -> Self {
        let FederationOptions { key, storage, transport, world, notaries } = options;
        let key_ring = KeyRing::new(Arc::clone(&key), storage.clone(), Arc::clone(&transport), world.clone(), notaries);
        let large_bodies = Arc::new(Semaphore::new(LARGE_BODIES_AT_ONCE));
        Self { inner: Arc::new(Inner { key, storage, transport, world, key_ring, large_bodies }) }
    }

    /// Our name.
    pub fn server_name(&self) -> &ServerName {
        self.inner.key.server_name()
    }

    /// Our signing key.
    pub fn key(&self) -> &ServerKey {
        &self.inner.key
    }

    /// The keys of other servers, and our own.
    pub fn key_ring(&self) -> &KeyRing {
        &self.inner.key_ring
    }

    pub(crate) fn large_bodies(&self) -> &Arc<Semaphore> {
        &self.inner.large_bodies
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    pub(crate) fn world(&self) -> &World {
        &self.inner.world
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Federation").field("server_name", &self.server_name()).finish_non_exhaustive()
    }
}

impl CallError {
    /// Whether the server does not know the endpoint, as opposed to what was asked for.
    pub(crate) fn is_unknown_endpoint(&self) -> bool {
        match self {
            Self::Refused { status: 404 | 405, errcode, .. } => {
                errcode.as_ref().is_none_or(|errcode| errcode == "M_UNRECOGNIZED")
            }
            _ => false,
        }
    }
}
