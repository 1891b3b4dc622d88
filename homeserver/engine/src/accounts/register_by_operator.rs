//! Registration by somebody whom the operator trusts: whoever may register otherwise, and as administrator if wished.

use ruma::OwnedUserId;
use storage::{AccountCreation, NewAccount};

use super::{NewDevice, Registered, username};
use crate::{Engine, EngineError, Result};

/// An account that the operator wants.
#[derive(Clone)]
pub struct OperatorRegistration {
    /// The name of the user.
    pub username: String,
    /// The password.
    pub password: String,
    /// Whether it is to be an administrator.
    pub admin: bool,
    /// Whether the user is not to be logged in.
    pub inhibit_login: bool,
}

impl Engine {
    /// Creates the account and logs a first device in.
    pub async fn register_by_operator(&self, wanted: OperatorRegistration) -> Result<Registered> {
        let user_id = username::new_user_id(&wanted.username.to_ascii_lowercase(), self.server_name())?;
        self.check_strength(&wanted.password)?;
        self.create_for_operator(&user_id, &wanted).await?;
        let inhibit_login = wanted.inhibit_login;
        let device = NewDevice::default();
        let session = if inhibit_login { None } else { Some(self.open_session(user_id.clone(), device).await?) };
        Ok(Registered { user_id, session })
    }

    async fn create_for_operator(&self, user_id: &OwnedUserId, wanted: &OperatorRegistration) -> Result<()> {
        let account = NewAccount {
            user_id: user_id.clone(),
            password_hash: Some(self.hash_password(&wanted.password).await?),
            display_name: Some(user_id.localpart().to_owned()),
            created_ts: self.world().clock.now_ms(),
            guest: false,
            admin: wanted.admin,
        };
        match self.storage().create_account(account, None).await? {
            AccountCreation::Created => {
                tracing::info!(user.id = %user_id, admin = wanted.admin, "account registered by the operator");
                Ok(())
            }
            AccountCreation::UserIdTaken => Err(EngineError::UserInUse),
            AccountCreation::TokenSpent => Err(EngineError::internal("an account without a token needed one")),
        }
    }
}
