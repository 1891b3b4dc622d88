//! Accounts, their sessions and devices, profiles, account data and filters.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-authentication>

mod account_data;
mod authenticate;
mod deactivate;
mod devices;
mod directory;
mod erasure;
mod filters;
mod guests;
mod hashing;
mod invitations;
mod jwt;
mod login;
mod login_token;
mod logout;
mod mail;
mod moderate;
mod open_id;
mod password;
mod profile;
mod refresh;
mod register;
mod register_by_operator;
mod session;
mod tags;
mod third_party_ids;
mod turn_server;
mod username;

use ruma::{OwnedDeviceId, OwnedUserId};
use tracing::Instrument;

pub(crate) use self::{
    account_data::is_deleted,
    invitations::{InvitationRules, Verdict, hides_invitations},
    mail::{DIGESTS_AT_ONCE, Letter, escaped},
    tags::TAGS,
    username::check_of_service,
};
pub use self::{
    authenticate::{AskingService, Authenticated},
    directory::{FoundUsers, MutualRooms},
    mail::MailError,
    profile::UserProfile,
    register::{RegisterCommand, Registered},
    register_by_operator::OperatorRegistration,
    session::{NewDevice, Session},
    third_party_ids::{AddressPurpose, LetterRequest, ValidatedAddress},
    turn_server::TurnCredentials,
};
use crate::{EngineError, Result, Settings, locks::Locks};

/// Who asks: a local user, on one of their devices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device; empty for an application service that speaks for a user without naming one.
    pub device_id: OwnedDeviceId,
}

impl Requester {
    /// Whether there is a device. Endpoints that are about one refuse who has none.
    pub fn has_device(&self) -> bool {
        !self.device_id.as_str().is_empty()
    }

    pub(crate) fn require_device(&self) -> Result<()> {
        if self.has_device() { Ok(()) } else { Err(EngineError::NoDevice) }
    }
}

/// What this chapter keeps in memory.
pub(crate) struct Accounts {
    hashing: hashing::Hashing,
    recently_seen: authenticate::RecentlySeen,
    remote_profiles: profile::RemoteProfiles,
    mailer: Option<mail::Mailer>,
    /// Two changes of one profile wait for each other.
    profile_locks: Locks,
}

impl Accounts {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            mailer: settings.accounts.mail.as_ref().and_then(mail::Mailer::new),
            hashing: hashing::Hashing::new(settings.password_hashing),
            profile_locks: Locks::default(),
            recently_seen: authenticate::recently_seen(),
            remote_profiles: profile::remote_profiles(),
        }
    }
}

/// Does `work` to its end even when the client who waits for it hangs up: it must not stay half done.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    tokio::spawn(work.in_current_span()).await.map_err(EngineError::internal)
}

/// Refuses text with NUL characters, which one of the two databases cannot store.
fn refuse_nul(text: &str, what: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(EngineError::invalid_param(format!("{what} must not contain NUL characters")));
    }
    Ok(())
}

fn show_cache_size(cache: &'static str, entries: u64) {
    metrics::gauge!("engine_cache_entries", "cache" => cache).set(u32::try_from(entries).unwrap_or(u32::MAX));
}
