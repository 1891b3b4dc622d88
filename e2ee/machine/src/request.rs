//! What the machine wants to be sent to the homeserver, and what it takes as answers.
//!
//! A request has an id. Its owner sends it, as often as needed, and brings the answer by that id; or gives it up, and the
//! machine makes another when it still wants it.

use ruma::api::client::backup::{add_backup_keys, create_backup_version};
use ruma::api::client::keys::{claim_keys, get_keys, upload_keys, upload_signatures, upload_signing_keys};
use ruma::api::client::to_device::send_event_to_device;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Names a request until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) String);

impl RequestId {
    /// The id as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// By this the answer is brought.
    pub id: RequestId,
    /// What to send.
    pub body: RequestBody,
}

/// What to send. Each variant is one endpoint.
#[derive(Clone, Debug)]
pub enum RequestBody {
    /// `POST /keys/upload`
    KeysUpload(upload_keys::v3::Request),
    /// `POST /keys/query`
    KeysQuery(get_keys::v3::Request),
    /// `POST /keys/claim`
    KeysClaim(claim_keys::v3::Request),
    /// `PUT /sendToDevice/{eventType}/{txnId}`
    ToDevice(send_event_to_device::v3::Request),
    /// `POST /keys/signatures/upload`
    SignaturesUpload(upload_signatures::v3::Request),
    /// `POST /keys/device_signing/upload`: when the server asks for more authentication, the owner fills in `auth`.
    SigningKeysUpload(upload_signing_keys::v3::Request),
    /// An event for a room. The owner encrypts it first when the room is encrypted.
    RoomEvent(RoomEvent),
    /// `POST /room_keys/version`
    BackupCreate(create_backup_version::v3::Request),
    /// `PUT /room_keys/keys`
    BackupKeys(add_backup_keys::v3::Request),
}

/// An event that the machine wants in a room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomEvent {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The type.
    pub event_type: String,
    /// The content, not encrypted.
    pub content: Map<String, Value>,
    /// For sending it again without doubling it.
    pub transaction_id: OwnedTransactionId,
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`RequestBody::KeysUpload`].
    KeysUpload(upload_keys::v3::Response),
    /// To [`RequestBody::KeysQuery`].
    KeysQuery(get_keys::v3::Response),
    /// To [`RequestBody::KeysClaim`].
    KeysClaim(claim_keys::v3::Response),
    /// To [`RequestBody::SignaturesUpload`].
    SignaturesUpload(upload_signatures::v3::Response),
    /// To [`RequestBody::RoomEvent`]: the id of the event.
    RoomEvent(OwnedEventId),
    /// To [`RequestBody::BackupCreate`].
    BackupCreate(create_backup_version::v3::Response),
    /// To requests whose answer says nothing: [`RequestBody::ToDevice`], [`RequestBody::SigningKeysUpload`],
    /// [`RequestBody::BackupKeys`].
    Done,
}

/// An answer that does not fit its request, or to a request that the machine does not wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No request of this id is open: it was answered, given up, or made before a restart.
    #[error("no request of this id is open")]
    UnknownRequest,
    /// The answer is of another endpoint.
    #[error("the answer is of another endpoint")]
    OtherEndpoint,
}

/// A device of a user.
pub(crate) type Place = (OwnedUserId, OwnedDeviceId);

/// What a request was for, until it is answered.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    KeysUpload,
    /// The users asked about, each with the count of changes that it had then.
    KeysQuery(BTreeMap<OwnedUserId, u64>),
    KeysClaim(BTreeSet<Place>),
    /// A room key, for these devices.
    Share {
        room_id: OwnedRoomId,
        session_id: String,
        recipients: BTreeSet<Place>,
    },
    ToDevice,
    SignaturesUpload,
    SigningKeysUpload,
    /// The event that asks for a verification in a room, by the transaction id that the flow has until it has an event.
    VerificationRequest(String),
    RoomEvent,
    BackupCreate,
    BackupKeys(BTreeSet<String>),
}
