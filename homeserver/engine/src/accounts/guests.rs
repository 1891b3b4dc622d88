//! Guests: accounts without a password that may do little, until they become users.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#guest-access>

use ruma::{OwnedUserId, UserId};
use storage::{AccountCreation, NewAccount};

use super::{NewDevice, Registered, username};
use crate::{Engine, EngineError, Result};

/// How many letters and digits a guest's name has.
const GUEST_NAME_LENGTH: usize = 20;

impl Engine {
    /// Creates an account for a guest and logs its device in.
    pub async fn register_guest(&self, display_name: Option<String>) -> Result<Registered> {
        if !self.settings().accounts.guests {
            return Err(EngineError::GuestForbidden("This server has no guest accounts".to_owned()));
        }
        let device = NewDevice { device_id: None, display_name, wants_refresh_token: false };
        device.check()?;
        let name = self.world().random_string(GUEST_NAME_LENGTH).to_ascii_lowercase();
        let user_id = username::new_user_id(&format!("guest-{name}"), self.server_name())?;
        let account = NewAccount {
            user_id: user_id.clone(),
            password_hash: None,
            display_name: None,
            created_ts: self.world().clock.now_ms(),
            guest: true,
            admin: false,
        };
        match self.storage().create_account(account, None).await? {
            AccountCreation::Created => tracing::info!(user.id = %user_id, "guest registered"),
            AccountCreation::UserIdTaken | AccountCreation::TokenSpent => return Err(EngineError::UserInUse),
        }
        let session = self.open_session(user_id.clone(), device).await?;
        Ok(Registered { user_id, session: Some(session) })
    }

    /// The guest that wants to become a user: whose token it is, if the name is theirs.
    pub(super) async fn guest_to_upgrade(&self, token: &str, user_id: &UserId) -> Result<OwnedUserId> {
        let refusal = || EngineError::forbidden("The guest's access token is not valid, or is another guest's");
        let guest = self.authenticate(token).await.map_err(|_| refusal())?;
        if guest.guest && !guest.locked && !guest.suspended && guest.requester.user_id == *user_id {
            Ok(guest.requester.user_id)
        } else {
            Err(refusal())
        }
    }

    /// Whether it is a guest of this server.
    pub(crate) async fn is_guest(&self, user_id: &UserId) -> Result<bool> {
        if !self.settings().accounts.guests || !self.is_local(user_id) {
            return Ok(false);
        }
        Ok(self.storage().account(user_id).await?.is_some_and(|account| account.guest))
    }
}
