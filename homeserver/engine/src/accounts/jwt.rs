//! Log-in with a signed token of another service that knows the user: a JSON Web Token.
//!
//! Only HMAC signatures, and only of the one algorithm that the operator named: a token cannot choose how it is checked.
//! <https://www.rfc-editor.org/rfc/rfc7519>

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Sha256, Sha384, Sha512};
use storage::{AccountCreation, NewAccount};

use super::{NewDevice, Session, username};
use crate::{Engine, EngineError, JwtAlgorithm, JwtSettings, Result};

/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn holds(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

impl Engine {
    /// Logs in the user whose name a token's `sub` says. A user who is not there yet is created, without a password.
    pub async fn login_jwt(&self, token: &str, device: NewDevice) -> Result<Session> {
        device.check()?;
        let Some(settings) = &self.settings().accounts.jwt else {
            return Err(EngineError::invalid_param("There is no such type of login here"));
        };
        let name = subject(token, settings, self.world().clock.now_ms()).ok_or(EngineError::WrongCredentials)?;
        let user_id = username::new_user_id(&name.to_ascii_lowercase(), self.server_name())?;
        if self.services().is_users_of_another(&user_id, None) {
            return Err(EngineError::Exclusive("This user ID belongs to an application service".to_owned()));
        }
        let account = NewAccount {
            user_id: user_id.clone(),
            password_hash: None,
            display_name: Some(user_id.localpart().to_owned()),
            created_ts: self.world().clock.now_ms(),
            guest: false,
            admin: false,
        };
        if let AccountCreation::Created = self.storage().create_account(account, None).await? {
            tracing::info!(user.id = %user_id, "account registered at log-in with a token of another service");
        }
        self.open_session_if_allowed(user_id, device).await
    }
}

/// Who the token is about, if it is good now.
fn subject(token: &str, settings: &JwtSettings, now_ms: u64) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = decoded(header)?;
    if header.alg != name_of(settings.algorithm) || header.crit.is_some() {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !is_signature(settings, signed.as_bytes(), &signature) {
        return None;
    }
    let claims: Claims = decoded(claims)?;
    let now_seconds = Duration::from_millis(now_ms).as_secs_f64();
    let in_time = claims.exp.is_none_or(|exp| exp > now_seconds) && claims.nbf.is_none_or(|nbf| nbf <= now_seconds);
    let from_whom = settings.issuer.as_ref().is_none_or(|issuer| claims.iss.as_ref() == Some(issuer));
    let for_whom = match &settings.audience {
        Some(audience) => claims.aud.as_ref().is_some_and(|claimed| claimed.holds(audience)),
        // A token that names whom it is for is for nobody else.
        None => claims.aud.is_none(),
    };
    (in_time && from_whom && for_whom).then_some(claims.sub)
}

fn decoded<T: for<'a> Deserialize<'a>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

const fn name_of(algorithm: JwtAlgorithm) -> &'static str {
    match algorithm {
        JwtAlgorithm::Hs256 => "HS256",
        JwtAlgorithm::Hs384 => "HS384",
        JwtAlgorithm::Hs512 => "HS512",
    }
}

/// Compares in constant time.
fn is_signature(settings: &JwtSettings, signed: &[u8], signature: &[u8]) -> bool {
    const ANY_LENGTH: &str = "HMAC takes keys of any length";
    let key = settings.secret.0.as_bytes();
    match settings.algorithm {
        JwtAlgorithm::Hs256 => {
            Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH).chain_update(signed).verify_slice(signature).is_ok()
        }
        JwtAlgorithm::Hs384 => {
            Hmac::<Sha384>::new_from_slice(key).expect(ANY_LENGTH).chain_update(signed).verify_slice(signature).is_ok()
        }
        JwtAlgorithm::Hs512 => {
            Hmac::<Sha512>::new_from_slice(key).expect(ANY_LENGTH).chain_update(signed).verify_slice(signature).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hidden;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn settings() -> JwtSettings {
        JwtSettings {
            secret: Hidden("a secret that only two know".to_owned()),
            algorithm: JwtAlgorithm::Hs256,
            issuer: Some("login.example".to_owned()),
            audience: None,
        }
    }

    fn token(header: &str, claims: &str, secret: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(signed.as_bytes()).finalize();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
    }

    #[test]
    fn a_token_is_good_for_whom_and_when_it_says() {
        let settings = settings();
        let secret = settings.secret.0.clone();
        let good = |claims: &str| subject(&token(r#"{"alg":"HS256"}"#, claims, &secret), &settings, NOW_MS);
        assert_eq!(good(r#"{"sub":"alice","iss":"login.example"}"#).as_deref(), Some("alice"));
        assert_eq!(good(r#"{"sub":"alice","iss":"login.example","exp":1700000001,"nbf":1}"#).as_deref(), Some("alice"));
        for claims in [
            r#"{"sub":"alice","iss":"login.example","exp":1700000000}"#,
            r#"{"sub":"alice","iss":"login.example","nbf":1700000001}"#,
            r#"{"sub":"alice","iss":"evil.example"}"#,
            r#"{"sub":"alice"}"#,
            r#"{"sub":"alice","iss":"login.example","aud":"another"}"#,
            r#"{"iss":"login.example"}"#,
            "[]",
        ] {
            assert_eq!(good(claims), None, "{claims}");
        }
        let for_us = JwtSettings { audience: Some("us".to_owned()), ..settings.clone() };
        let claims = r#"{"sub":"alice","iss":"login.example","aud":["them","us"]}"#;
        assert!(subject(&token(r#"{"alg":"HS256"}"#, claims, &secret), &for_us, NOW_MS).is_some());
    }

    #[test]
    fn s_124_a_token_does_not_choose_how_it_is_checked() {
        let settings = settings();
        let claims = r#"{"sub":"alice","iss":"login.example"}"#;
        let secret = settings.secret.0.clone();
        for header in
            [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"HS256","crit":["b64"]}"#]
        {
            assert_eq!(subject(&token(header, claims, &secret), &settings, NOW_MS), None, "{header}");
        }
        let good = token(r#"{"alg":"HS256"}"#, claims, &secret);
        assert!(subject(&good, &settings, NOW_MS).is_some());
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        let forged = token(r#"{"alg":"HS256"}"#, claims, "guessed");
        for bad in
            [&forged, unsigned, &format!("{unsigned}."), "", ".", "..", &good.replace('.', ""), &"a".repeat(20_000)]
        {
            assert_eq!(subject(bad, &settings, NOW_MS), None, "{bad}");
        }
    }
}
