//! User-interactive authentication: the user confirms an action with a password, a token, or by trying again.
//!
//! A session belongs to one asker, one endpoint (method and path) and one body without its `auth`; with any other it
//! is as unknown as one that expired. Only a digest of the three is kept, so no password rests here. Each of our flows
//! has one stage: what completes it ends the session.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use axum::{body::Bytes, http::request::Parts};
use engine::Requester;
use moka::sync::Cache;
use ruma::{
    UserId,
    api::client::uiaa::{AuthType, UserIdentifier},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{Door, Result, error::ApiError, rate_limits::Class};

/// How a user can confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// With the account's password.
    Password,
    /// With a registration token.
    RegistrationToken,
    /// By asking twice.
    Dummy,
}

impl Stage {
    pub(crate) fn auth_type(self) -> AuthType {
        match self {
            Self::Password => AuthType::Password,
            Self::RegistrationToken => AuthType::RegistrationToken,
            Self::Dummy => AuthType::Dummy,
        }
    }
}

/// What the client is to do first.
#[derive(Debug)]
pub(crate) struct Challenge {
    /// The only stage of the only flow.
    pub(crate) stage: Stage,
    /// The session in which to do it.
    pub(crate) session: String,
    /// Why the last attempt did not count.
    pub(crate) refusal: Option<&'static str>,
}

/// The `auth` of a request. Read leniently: some clients still send `user` where `identifier` belongs.
#[derive(Deserialize)]
pub(crate) struct Auth {
    #[serde(rename = "type")]
    stage: Option<String>,
    session: Option<String>,
    identifier: Option<UserIdentifier>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

/// An attempt to do what must be confirmed.
pub(crate) struct Attempt {
    auth: Option<Auth>,
    /// Method, path and body.
    action: [u8; 32],
}

impl Attempt {
    /// Of an endpoint that asks for no confirmation.
    pub(crate) fn none() -> Self {
        Self { auth: None, action: [0; 32] }
    }

    /// Takes `auth` out of the body; the rest is what is to be done.
    pub(crate) fn read(head: &Parts, body: &Bytes) -> Result<(Self, Bytes)> {
        let shape = |error: serde_json::Error| ApiError::bad_json(error.to_string());
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(shape)?;
        let auth = fields.remove("auth");
        let auth = auth.map_or(Ok(None), |auth| serde_json::from_str(auth.get())).map_err(shape)?;
        let rest = serde_json::to_vec(&fields).map_err(ApiError::internal)?;
        let action = digest(&[head.method.as_str().as_bytes(), head.uri.path().as_bytes(), &rest]);
        Ok((Self { auth, action }, rest.into()))
    }
}

/// Far longer than anybody types.
const SESSION_LIFETIME: Duration = Duration::from_mins(10);

/// Some 2 MiB. Sessions cost an attacker one request each, and the oldest of them make room.
const SESSIONS_MAX: u64 = 10_000;

const SESSION_LENGTH: usize = 24;

/// The sessions that wait for their stage.
pub(crate) struct Sessions {
    open: Cache<String, Session>,
}

#[derive(Clone)]
struct Session {
    binding: [u8; 32],
    expires_ts: u64,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { open: Cache::builder().max_capacity(SESSIONS_MAX).time_to_live(SESSION_LIFETIME).build() }
    }
}

/// An attempt whose stage may be looked at.
struct Running<'a> {
    door: &'a Door,
    stage: Stage,
    binding: [u8; 32],
    auth: &'a Auth,
}

impl Door {
    /// Done when the requester has given the account's password.
    pub(crate) async fn confirm_password(
        &self,
        requester: &Requester,
        attempt: &Attempt,
        address: IpAddr,
    ) -> Result<()> {
        let owner = format!("{} {}", requester.user_id, requester.device_id);
        let running = self.resume(Stage::Password, &owner, attempt)?;
        let limits = &self.inner.rate_limits;
        limits.check(Class::WrongPassword, address, self.now_ms())?;
        let right = match running.auth.password.as_deref() {
            Some(password) if self.names(running.auth, &requester.user_id) => {
                self.engine.check_password(&requester.user_id, password).await?
            }
            _ => false,
        };
        if right {
            return running.complete();
        }
        limits.take(Class::WrongPassword, address, self.now_ms())?;
        Err(running.refuse("Wrong user or password"))
    }

    /// Done when the request was repeated with the stage that asks for nothing.
    pub(crate) fn confirm_dummy(&self, attempt: &Attempt) -> Result<()> {
        self.resume(Stage::Dummy, "registration", attempt)?.complete()
    }

    /// The registration token that was given, if it is valid.
    pub(crate) async fn confirm_registration_token(&self, attempt: &Attempt, address: IpAddr) -> Result<String> {
        let running = self.resume(Stage::RegistrationToken, "registration", attempt)?;
        self.inner.rate_limits.take(Class::RegistrationToken, address, self.now_ms())?;
        match &running.auth.token {
            Some(token) if self.engine.registration_token_valid(token).await? => {
                running.complete().map(|()| token.clone())
            }
            _ => Err(running.refuse("The registration token is not valid")),
        }
    }

    fn names(&self, auth: &Auth, user_id: &UserId) -> bool {
        let user = match (&auth.identifier, &auth.user) {
            (Some(UserIdentifier::Matrix(identifier)), _) => &identifier.user,
            (None, Some(user)) => user,
            _ => return false,
        };
        UserId::parse_with_server_name(user.as_str(), self.engine.server_name()).is_ok_and(|named| named == *user_id)
    }

    /// Finds the session again; or, where there is none, opens one and asks for the stage.
    fn resume<'a>(&'a self, stage: Stage, owner: &str, attempt: &'a Attempt) -> Result<Running<'a>> {
        let binding = digest(&[owner.as_bytes(), &attempt.action]);
        let Some(auth) = &attempt.auth else { return Err(self.challenge(stage, None, binding, None)) };
        if let Some(session) = &auth.session {
            let known = self.inner.sessions.open.get(session);
            if !known.is_some_and(|known| known.binding == binding && known.expires_ts > self.now_ms()) {
                let text = "The session is unknown, expired, or belongs to another request";
                return Err(self.challenge(stage, None, binding, Some(text)));
            }
        }
        let running = Running { door: self, stage, binding, auth };
        match &auth.stage {
            Some(name) if *name == stage.auth_type().as_str() => Ok(running),
            Some(_) => Err(running.refuse("There is no flow with this stage here")),
            // "Is it done?" It never is: what completes a stage ends the session.
            None => Err(self.challenge(stage, auth.session.clone(), binding, None)),
        }
    }

    fn challenge(
        &self,
        stage: Stage,
        session: Option<String>,
        binding: [u8; 32],
        refusal: Option<&'static str>,
    ) -> ApiError {
        let session = session.unwrap_or_else(|| {
            let session = self.engine.world().random_string(SESSION_LENGTH);
            let expires_ts = self.now_ms() + SESSION_LIFETIME.as_millis() as u64;
            let sessions = &self.inner.sessions.open;
            sessions.insert(session.clone(), Session { binding, expires_ts });
            metrics::gauge!("client_api_interactive_sessions")
                .set(u32::try_from(sessions.entry_count()).unwrap_or(u32::MAX));
            session
        });
        ApiError::Challenge(Box::new(Challenge { stage, session, refusal }))
    }
}

impl Running<'_> {
    fn refuse(&self, text: &'static str) -> ApiError {
        self.door.challenge(self.stage, self.auth.session.clone(), self.binding, Some(text))
    }

    /// Ends the session. Of two requests that race for one session, one is refused. Clients may also give what is
    /// asked for at once, without a session.
    fn complete(&self) -> Result<()> {
        match &self.auth.session {
            Some(session) if self.door.inner.sessions.open.remove(session).is_none() => {
                Err(self.door.challenge(self.stage, None, self.binding, Some("The session was used meanwhile")))
            }
            _ => Ok(()),
        }
    }
}

/// Of parts with their lengths, so that nothing can move from one part into the next.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
