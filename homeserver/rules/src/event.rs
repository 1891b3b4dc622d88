//! Events as signed JSON objects: reading them from outside, checking their form, building and signing our own.

pub mod build;
pub mod key;
pub mod read;
pub mod relation;
pub mod search;
pub(crate) mod shown;
pub mod sticky;
pub mod weak;

pub use self::{
    build::{BuildError, Draft, build},
    key::{KeyError, ServerKey},
    read::{ReadError, event_id, read_json, read_pdu},
    relation::Relation,
};

/// The size that no event exceeds, in bytes of canonical JSON with signatures.
/// <https://spec.matrix.org/v1.19/client-server-api/#size-limits>
pub const MAX_PDU_BYTES: usize = 65_536;
