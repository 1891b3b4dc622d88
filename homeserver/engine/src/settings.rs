//! What the operator can choose about the engine.

use ruma::{OwnedServerName, RoomVersionId};

use crate::MediaSettings;

/// Settings of the engine.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
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
    /// Whether other servers may read the directory of public rooms.
    pub lists_rooms_to_servers: bool,
    /// Whether other servers are told the names of our users' devices.
    pub federation_device_names: bool,
    /// Whether rooms of other servers are usable before all of their members are known.
    pub partial_state_joins: bool,
    /// Whether users see who of those they share rooms with is there.
    pub presence: bool,
    /// What accounts can do.
    pub accounts: AccountSettings,
    /// The localpart of the user who speaks for the server to its users; `None`: nobody does.
    pub server_notices_user: Option<String>,
    /// The application services.
    pub services: appservices::Services,
    /// What users upload and other servers send.
    pub media: MediaSettings,
}

/// The fewest characters of a new password, if the operator does not say otherwise.
const PASSWORD_CHARACTERS_MIN: usize = 8;

/// What accounts can do. By default all that needs another service, or opens a door, is off.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// The fewest characters of a new password.
    pub password_characters_min: usize,
    /// Whether guests may register.
    pub guests: bool,
    /// Whether a session may ask for a token that logs in another one.
    pub login_tokens: bool,
    /// How letters are sent; `None`: not at all.
    pub mail: Option<MailSettings>,
    /// Whose signed tokens log users in.
    pub jwt: Option<JwtSettings>,
    /// The relay for calls.
    pub turn: Option<TurnSettings>,
    /// The identity servers by which users may invite e-mail addresses and phone numbers.
    pub identity_servers: Vec<OwnedServerName>,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            password_characters_min: PASSWORD_CHARACTERS_MIN,
            guests: false,
            login_tokens: false,
            mail: None,
            jwt: None,
            turn: None,
            identity_servers: Vec::new(),
        }
    }
}

/// How letters are sent.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: MailSecurity,
    /// User and password at the mail server.
    pub credentials: Option<(String, Hidden)>,
    /// The sender's address, perhaps with a name: `Nudge <nudge@example.org>`.
    pub from: String,
    /// Where people reach this server with a browser; links in letters start with it.
    pub link_base_url: String,
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// TLS from the start.
    Tls,
    /// TLS after `STARTTLS`, which the mail server must offer.
    StartTls,
    /// Not at all: for a mail server on this machine.
    None,
}

/// Whose signed tokens log users in.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// The secret that they are signed with.
    pub secret: Hidden,
    /// The algorithm that they are signed with; no other is accepted.
    pub algorithm: JwtAlgorithm,
    /// What their `iss` must be.
    pub issuer: Option<String>,
    /// What their `aud` must be, or have among them.
    pub audience: Option<String>,
}

/// How a JSON Web Token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// The relay for calls.
#[derive(Clone, Debug)]
pub struct TurnSettings {
    /// Its addresses, such as `turn:turn.example.org?transport=udp`.
    pub uris: Vec<String>,
    /// How users prove that they may use it.
    pub access: TurnAccess,
    /// How long credentials are good for, in milliseconds.
    pub lifetime_ms: u64,
}

/// How users prove that they may use the relay.
#[derive(Clone, Debug)]
pub enum TurnAccess {
    /// By a password that we make for each of them with the secret that we share with the relay.
    SharedSecret(Hidden),
    /// All by the same user name and password.
    Password(String, Hidden),
}

/// A secret. Logs show that it is there, not what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(secret)")
    }
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
