//! What the operator can choose about the engine.

use ruma::{OwnedServerName, RoomVersionId};

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this server: the part after the colon in its users' ids.
    pub server_name: OwnedServerName,
    /// Who may register.
    pub registration: Registration,
    /// The version of new rooms.
    pub default_room_version: RoomVersionId,
    /// How long access tokens live, in milliseconds, for clients that can refresh them.
    pub access_token_lifetime_ms: u64,
    /// What a password hash costs.
    pub password_hashing: PasswordHashing,
    /// Whether other servers are told the names of our users' devices.
    pub federation_device_names: bool,
}

/// Who may register an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Everybody.
    Open,
    /// Who has a registration token.
    Token,
    /// Nobody.
    Closed,
}

/// What a password hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordHashing {
    /// Argon2id with 19 MiB and two passes: some 18 ms.
    Strong,
    /// The least that Argon2id allows: for tests that register many users, never for people.
    Cheap,
}
