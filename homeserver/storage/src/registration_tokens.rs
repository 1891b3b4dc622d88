//! Registration tokens: who has one may create an account.

use crate::{Result, Storage};

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// How many accounts may be created with it; `None` for any number.
    pub uses_allowed: Option<u32>,
    /// How many were.
    pub uses: u32,
    /// Until when it may be used, in milliseconds since the epoch.
    pub expires_ts: Option<u64>,
}

impl Storage {
    /// Creates a token; `false` when there is one with that text.
    pub async fn create_registration_token(&self, token: &RegistrationToken) -> Result<bool> {
        todo!()
    }

    /// A token.
    pub async fn registration_token(&self, token: &str) -> Result<Option<RegistrationToken>> {
        todo!()
    }

    /// All tokens.
    pub async fn registration_tokens(&self) -> Result<Vec<RegistrationToken>> {
        todo!()
    }

    /// Deletes a token; `false` when there is none.
    pub async fn delete_registration_token(&self, token: &str) -> Result<bool> {
        todo!()
    }
}
