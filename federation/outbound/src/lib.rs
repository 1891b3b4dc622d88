//! Every call this homeserver makes to other servers: finding them, signing, their keys, fetching, and the queue of
//! transactions.
//!
//! [`Federation`] makes single calls and judges signatures; [`Sender`] reads the log and delivers. Both speak through a
//! [`Transport`]: [`HttpTransport`] in the server, a network in memory in the simulation.

pub mod calls;
pub mod discovery;
pub mod egress;
pub mod http_transport;
pub mod key_ring;
pub mod queue;
pub mod transport;
pub mod x_matrix;

pub use self::{
    calls::{
        CallError, DirectoryAnswer, Federation, FederationOptions, HashDetails, HierarchyAnswer, InviteKey,
        ProfileAnswer, PublicRoomsAnswer, PublicRoomsAsked, RemoteMedia, SendJoinAnswer, StateAnswer, StateIdsAnswer,
        StoredInvite, Template, Web,
    },
    egress::{Egress, EgressError, EgressOptions, Network},
    http_transport::HttpTransport,
    key_ring::{KeyNeeds, KeyQueries, KeyQuery, KeyRing, VerifyError},
    queue::{EduJson, FlushOutcome, Sender, SenderOptions},
    transport::{ByteStream, CallLimits, Transport, TransportError},
    x_matrix::{AuthenticateError, Claim},
};

/// A number of things as metrics want it.
fn gauge_value(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
