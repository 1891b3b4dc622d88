//! What a device does for end-to-end encryption, as a state machine without input or output.
//!
//! A [`Machine`] is told what a sync brought and what requests were answered; it gives the requests to send, decrypts
//! events and encrypts them. It opens no connection and no file, and has no clock: its owner sends the requests, with
//! whatever client it has, and keeps the records that the machine seals.
//!
//! Whatever the machine gives that may leave the process comes as [`Held`]: with the changes to store *before*. A process
//! that dies at any moment thus never encrypts twice with the same state of a ratchet.
//!
//! The cryptography is vodozemac's, which takes its randomness from the operating system. Chance that the machine needs
//! itself (names, nonces of its store) comes from the [`rules::world::World`] that it is given.

mod account;
mod attachment;
mod backup;
mod cross_signing;
mod devices;
mod inbound;
mod key_request;
mod machine;
mod notice;
mod olm;
mod outbound;
mod request;
mod rooms;
mod secret_storage;
mod secrets;
mod signed_json;
mod store;
mod sync;
mod verification;

pub use attachment::{AttachmentError, AttachmentKey, JsonWebKey, decrypt_attachment, encrypt_attachment};
pub use backup::RecoveryKeyError;
pub use cross_signing::CrossSigningStatus;
pub use devices::{Device, DeviceError, LocalTrust};
pub use inbound::{DecryptError, Decrypted, Verdict, WithheldCode};
pub use machine::{LoadError, Machine};
pub use notice::{Notice, ToDevice};
pub use olm::OlmError;
pub use outbound::{Audience, EncryptError, Readiness};
pub use request::{Answer, AnswerError, Request, RequestBody, RequestId, RoomEvent};
pub use rooms::RoomSettings;
pub use secret_storage::{DEFAULT_KEY, STORED_SECRETS, SecretStorageError, SecretStorageKey, default_key_id};
pub use store::{
    Batch, Change, FileStore, FileStoreError, Held, MemoryStore, Record, Store, StoreKey, StoreKeyError, Table,
};
pub use sync::SyncParts;
pub use verification::{Emoji, FlowId, Stage, Verification};
