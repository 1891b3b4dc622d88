//! Accounts of local users, and their profiles.

use ruma::{OwnedUserId, UserId};

use crate::{Result, Storage};

/// An account to be created.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The user.
    pub user_id: OwnedUserId,
    /// The hash of the password; `None` for users without one (application services, guests).
    pub password_hash: Option<String>,
    /// When, in milliseconds since the epoch.
    pub created_ts: u64,
    /// Whether it is a guest.
    pub guest: bool,
    /// Whether the user may administrate the server.
    pub admin: bool,
}

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub user_id: OwnedUserId,
    /// The hash of the password, if the user has one.
    pub password_hash: Option<String>,
    /// When it was created, in milliseconds since the epoch.
    pub created_ts: u64,
    /// Whether it is a guest.
    pub guest: bool,
    /// Whether the user may administrate the server.
    pub admin: bool,
    /// Whether it was deactivated: the user id stays taken, nobody can log in.
    pub deactivated: bool,
}

/// What became of the wish for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountCreation {
    /// The account exists now.
    Created,
    /// Somebody has, or had, that user id.
    UserIdTaken,
    /// The registration token is unknown, spent or expired.
    TokenSpent,
}

/// What a user shows of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar, an `mxc:` URI.
    pub avatar_url: Option<String>,
}

impl Storage {
    /// Creates an account, spending one use of a registration token in the same transaction. Whether the token is
    /// expired is decided against `created_ts`.
    pub async fn create_account(
        &self,
        account: NewAccount,
        registration_token: Option<&str>,
    ) -> Result<AccountCreation> {
        todo!()
    }

    /// An account.
    pub async fn account(&self, user_id: &UserId) -> Result<Option<Account>> {
        todo!()
    }

    /// Replaces the hash of the password.
    pub async fn set_password(&self, user_id: &UserId, hash: &str) -> Result<()> {
        todo!()
    }

    /// Deactivates an account: its password and all of its sessions are gone.
    pub async fn deactivate_account(&self, user_id: &UserId) -> Result<()> {
        todo!()
    }

    /// The profile of a local user; `None` when there is no such account.
    pub async fn profile(&self, user_id: &UserId) -> Result<Option<Profile>> {
        todo!()
    }

    /// Sets or removes the display name.
    pub async fn set_display_name(&self, user_id: &UserId, display_name: Option<&str>) -> Result<()> {
        todo!()
    }

    /// Sets or removes the avatar.
    pub async fn set_avatar_url(&self, user_id: &UserId, avatar_url: Option<&str>) -> Result<()> {
        todo!()
    }
}
