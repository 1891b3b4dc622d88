//! Credentials for the relay that calls go through.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver>, and for how the relay checks
//! them <https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00>

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ruma::UserId;
use sha1::Sha1;

use crate::{Engine, TurnAccess};

/// What a client shows to the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// Where the relay is.
    pub uris: Vec<String>,
    /// How long they are good for, in milliseconds.
    pub lifetime_ms: u64,
}

impl Engine {
    /// Credentials for a user; `None` when there is no relay.
    pub fn turn_credentials(&self, user_id: &UserId) -> Option<TurnCredentials> {
        let settings = self.settings().accounts.turn.as_ref()?;
        let (username, password) = match &settings.access {
            TurnAccess::Password(username, password) => (username.clone(), password.0.clone()),
            TurnAccess::SharedSecret(secret) => {
                let expires_s = (self.world().clock.now_ms() + settings.lifetime_ms) / 1000;
                let username = format!("{expires_s}:{user_id}");
                let password = password_of(&username, &secret.0);
                (username, password)
            }
        };
        Some(TurnCredentials { username, password, uris: settings.uris.clone(), lifetime_ms: settings.lifetime_ms })
    }
}

fn password_of(username: &str, secret: &str) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    STANDARD.encode(mac.chain_update(username.as_bytes()).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with: `printf 1443779631:@user:example.com | openssl dgst -sha1 -hmac secret -binary | base64`
    #[test]
    fn passwords_are_what_the_relay_computes() {
        assert_eq!(password_of("1443779631:@user:example.com", "secret"), "Xm0lErj7sx/fpxQLH9q1I3FF0uw=");
    }
}
