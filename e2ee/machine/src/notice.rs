//! What the owner of a machine may want to know or to show.

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};

use crate::devices::DeviceError;
use crate::inbound::WithheldCode;
use crate::olm::OlmError;
use crate::signed_json::Object;
use crate::verification::FlowId;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A key came: events of this session that could not be decrypted may be tried again.
    RoomKey {
        /// The room.
        room_id: OwnedRoomId,
        /// The session.
        session_id: String,
    },
    /// Somebody will not give us a key.
    RoomKeyWithheld {
        /// Who says so (this is not authenticated).
        sender: OwnedUserId,
        /// The room.
        room_id: OwnedRoomId,
        /// The session.
        session_id: String,
        /// Why.
        code: WithheldCode,
    },
    /// Our user has another device. If the user does not know of it, the account is in danger.
    OwnDeviceAdded {
        /// The device.
        device_id: OwnedDeviceId,
    },
    /// The server gave keys for a device that cannot be the device's.
    DeviceRefused {
        /// The user.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
        /// What is wrong with them.
        reason: DeviceError,
    },
    /// A user has another identity than before. Either the user made it anew, or somebody stands in between.
    IdentityChanged {
        /// The user.
        user_id: OwnedUserId,
        /// Whether we had verified the one before.
        was_verified: bool,
    },
    /// The state of a verification changed.
    Verification {
        /// Which.
        flow_id: FlowId,
    },
    /// A secret came from another device of ours: a key of cross-signing, or that of the backup.
    SecretReceived {
        /// The name of the secret.
        name: String,
    },
    /// An encrypted event to this device was not accepted.
    OlmRefused {
        /// Who says to have sent it.
        sender: OwnedUserId,
        /// Why.
        reason: OlmError,
    },
    /// The server's key backup is not one that we have the key of.
    BackupUnusable {
        /// Its version.
        version: String,
    },
    /// The server refused signatures.
    SignaturesRefused,
    /// An event to this device that the machine has no use for itself.
    ToDevice(ToDevice),
}

/// An event to this device.
#[derive(Clone, Debug, PartialEq)]
pub struct ToDevice {
    /// Who sent it. Authenticated only as far as `sender_key` names a known device.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its content.
    pub content: Object,
    /// The Curve25519 key of the device that encrypted it; `None` when it came in the clear.
    pub sender_key: Option<String>,
}
