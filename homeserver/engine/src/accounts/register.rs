//! Registration of new users. Every way to an account of one's own leads through [`Engine::register`].
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-registration-and-management>

use ruma::OwnedUserId;
use storage::{AccountCreation, NewAccount};

use super::{NewDevice, Session, ValidatedAddress, username};
use crate::{Engine, EngineError, Registration, Result};

/// How many characters a user id has that we choose.
const RANDOM_USERNAME_LENGTH: usize = 16;

/// A wish for an account.
#[derive(Clone)]
pub struct RegisterCommand {
    /// The user id, as [`Engine::registration_check`] gave it.
    pub user_id: OwnedUserId,
    /// The password; without one, nobody can log in with a password.
    pub password: Option<String>,
    /// The first device.
    pub device: NewDevice,
    /// The registration token, where one is asked for.
    pub registration_token: Option<String>,
    /// The access token of the guest who is to become this user.
    pub guest_access_token: Option<String>,
    /// Addresses that the user has shown to be theirs.
    pub addresses: Vec<ValidatedAddress>,
    /// Whether the user does not want to be logged in.
    pub inhibit_login: bool,
}

/// A new user.
#[derive(Clone)]
pub struct Registered {
    /// The user.
    pub user_id: OwnedUserId,
    /// The session, unless log-in was inhibited.
    pub session: Option<Session>,
}

impl Engine {
    /// The user id that somebody would get who registers with this user name, or with none.
    pub async fn registration_check(&self, username: Option<&str>) -> Result<OwnedUserId> {
        self.refuse_unless_registration_is_possible()?;
        let user_id = self.user_id_of(username)?;
        if self.services().is_users_of_another(&user_id, None) {
            return Err(EngineError::Exclusive("This user ID belongs to an application service".to_owned()));
        }
        if self.storage().account(&user_id).await?.is_some() {
            return Err(EngineError::UserInUse);
        }
        Ok(user_id)
    }

    /// The same for a guest who wants to become a user, and has to keep the name.
    pub async fn upgrade_check(&self, username: Option<&str>, guest_access_token: &str) -> Result<OwnedUserId> {
        self.refuse_unless_registration_is_possible()?;
        let Some(username) = username else {
            return Err(EngineError::MissingParam("A guest keeps the name: `username` is missing".to_owned()));
        };
        let user_id = self.user_id_of(Some(username))?;
        self.guest_to_upgrade(guest_access_token, &user_id).await
    }

    fn user_id_of(&self, username: Option<&str>) -> Result<OwnedUserId> {
        let random = || self.world().random_string(RANDOM_USERNAME_LENGTH).to_ascii_lowercase();
        let username = username.map_or_else(random, str::to_ascii_lowercase);
        username::new_user_id(&username, self.server_name())
    }

    /// Whether somebody could register with this registration token now.
    pub async fn registration_token_valid(&self, token: &str) -> Result<bool> {
        let Some(token) = self.storage().registration_token(token).await? else { return Ok(false) };
        let expired = token.expires_ts.is_some_and(|expires_ts| expires_ts <= self.world().clock.now_ms());
        let spent = token.uses_allowed.is_some_and(|uses_allowed| token.uses >= uses_allowed);
        Ok(!expired && !spent)
    }

    /// Creates an account, spends the registration token and logs the first device in.
    pub async fn register(&self, command: RegisterCommand) -> Result<Registered> {
        self.check_registration(&command)?;
        let password_hash = match &command.password {
            Some(password) => Some(self.hash_password(password).await?),
            None => None,
        };
        match &command.guest_access_token {
            Some(token) => self.upgrade(token, &command, password_hash.as_deref()).await?,
            None => self.create(&command, password_hash).await?,
        }
        let RegisterCommand { user_id, device, inhibit_login, addresses, .. } = command;
        for address in addresses {
            // The account is there already; an address that somebody else was faster with is missing from it.
            if let Err(error) = self.add_validated_address(&user_id, &address).await {
                tracing::warn!(user.id = %user_id, %error, "the address given at registration could not be added");
            }
        }
        let session = if inhibit_login { None } else { Some(self.open_session(user_id.clone(), device).await?) };
        Ok(Registered { user_id, session })
    }

    async fn create(&self, command: &RegisterCommand, password_hash: Option<String>) -> Result<()> {
        let user_id = &command.user_id;
        let account = NewAccount {
            user_id: user_id.clone(),
            password_hash,
            display_name: Some(user_id.localpart().to_owned()),
            created_ts: self.world().clock.now_ms(),
            guest: false,
            admin: false,
        };
        let token = command.registration_token.as_deref();
        let token_to_spend = token.filter(|_| self.settings().registration == Registration::Token);
        match self.storage().create_account(account, token_to_spend).await? {
            AccountCreation::Created => tracing::info!(user.id = %user_id, "account registered"),
            AccountCreation::UserIdTaken => return Err(EngineError::UserInUse),
            AccountCreation::TokenSpent => return Err(EngineError::forbidden("Invalid registration token")),
        }
        Ok(())
    }

    async fn upgrade(&self, token: &str, command: &RegisterCommand, password_hash: Option<&str>) -> Result<()> {
        let user_id = self.guest_to_upgrade(token, &command.user_id).await?;
        if !self.storage().upgrade_guest(&user_id, password_hash).await? {
            return Err(EngineError::UserInUse);
        }
        tracing::info!(user.id = %user_id, "a guest became a user");
        Ok(())
    }

    /// All that can be refused before a hash is spent on it.
    fn check_registration(&self, command: &RegisterCommand) -> Result<()> {
        self.refuse_unless_registration_is_possible()?;
        if self.services().is_users_of_another(&command.user_id, None) {
            return Err(EngineError::Exclusive("This user ID belongs to an application service".to_owned()));
        }
        if self.settings().registration == Registration::Token && command.registration_token.is_none() {
            return Err(EngineError::forbidden("Registration requires a registration token"));
        }
        if !self.is_local(&command.user_id) {
            return Err(EngineError::ForeignUser(command.user_id.clone()));
        }
        username::check(command.user_id.localpart(), self.server_name())?;
        command.device.check()?;
        command.password.as_deref().map_or(Ok(()), |password| self.check_strength(password))
    }

    fn refuse_unless_registration_is_possible(&self) -> Result<()> {
        match self.settings().registration {
            Registration::Open | Registration::Token => Ok(()),
            Registration::Closed => Err(EngineError::forbidden("Registration is disabled")),
        }
    }
}
