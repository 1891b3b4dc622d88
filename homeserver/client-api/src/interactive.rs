//! User-interactive authentication: the user confirms an action with a password, a token, an address, or by trying
//! again.
//!
//! A session belongs to one asker, one endpoint (method and path) and one body without its `auth`; with any other it
//! is as unknown as one that expired. Only who registers may change the body: clients ask for the stages before the user
//! has chosen a name, and there is no account yet that something could be done to. Only a digest of the three is kept,
//! so no password rests here. A session remembers which stages are done; the action is done, and the session over, when
//! they make up one of its flows.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

mod stages;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{body::Bytes, http::request::Parts};
use engine::{Requester, ValidatedAddress};
use moka::{policy::EvictionPolicy, sync::Cache};
use ruma::{
    OwnedUserId,
    api::client::uiaa::{AuthType, UserIdentifier},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use crate::{Door, Result, error::ApiError};

/// How a user can confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// With the account's password.
    Password,
    /// With a registration token.
    RegistrationToken,
    /// By accepting the terms.
    Terms,
    /// With an e-mail address.
    Email,
    /// By asking twice.
    Dummy,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Password, Self::RegistrationToken, Self::Terms, Self::Email, Self::Dummy];

    pub(crate) fn auth_type(self) -> AuthType {
        match self {
            Self::Password => AuthType::Password,
            Self::RegistrationToken => AuthType::RegistrationToken,
            Self::Terms => AuthType::Terms,
            Self::Email => AuthType::EmailIdentity,
            Self::Dummy => AuthType::Dummy,
        }
    }

    pub(crate) fn of(auth_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.auth_type().as_str() == auth_type)
    }
}

/// Stages that together confirm.
pub(crate) type Flow = Vec<Stage>;

/// What the client is to do first.
#[derive(Debug)]
pub(crate) struct Challenge {
    /// The flows of which one is to be done.
    pub(crate) flows: Vec<Flow>,
    /// What is done of them.
    pub(crate) completed: Vec<Stage>,
    /// What the client needs to know for the stages.
    pub(crate) params: Value,
    /// The session in which to do it.
    pub(crate) session: String,
    /// Why the last attempt did not count.
    pub(crate) refusal: Option<&'static str>,
}

/// What was shown by the stages that are done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proofs {
    pub(crate) stages: Vec<Stage>,
    pub(crate) registration_token: Option<String>,
    pub(crate) address: Option<ValidatedAddress>,
}

/// Who confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A user, on a device.
    Requester(Requester),
    /// Somebody who has no session, but an account.
    Forgetful,
    /// Somebody who has no account.
    Newcomer,
}

impl Owner {
    fn name(&self) -> String {
        match self {
            Self::Requester(requester) => format!("{} {}", requester.user_id, requester.device_id),
            Self::Forgetful => "forgetful".to_owned(),
            Self::Newcomer => "registration".to_owned(),
        }
    }

    pub(crate) fn user_id(&self) -> Option<&OwnedUserId> {
        match self {
            Self::Requester(requester) => Some(&requester.user_id),
            Self::Forgetful | Self::Newcomer => None,
        }
    }
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
    #[serde(alias = "threepidCreds")]
    threepid_creds: Option<AddressSession>,
}

/// The session in which somebody shows that an address is theirs.
#[derive(Deserialize)]
struct AddressSession {
    sid: String,
    client_secret: String,
}

/// An attempt to do what must be confirmed.
pub(crate) struct Attempt {
    auth: Option<Auth>,
    /// Method and path.
    endpoint: [u8; 32],
    /// The body without `auth`.
    body: [u8; 32],
}

impl Attempt {
    /// Of an endpoint that asks for no confirmation.
    pub(crate) fn none() -> Self {
        Self { auth: None, endpoint: [0; 32], body: [0; 32] }
    }

    /// Takes `auth` out of the body; the rest is what is to be done.
    pub(crate) fn read(head: &Parts, body: &Bytes) -> Result<(Self, Bytes)> {
        let shape = |error: serde_json::Error| ApiError::bad_json(error.to_string());
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(shape)?;
        let auth = fields.remove("auth");
        let auth = auth.map_or(Ok(None), |auth| serde_json::from_str(auth.get())).map_err(shape)?;
        let rest = serde_json::to_vec(&fields).map_err(ApiError::internal)?;
        let endpoint = digest(&[head.method.as_str().as_bytes(), head.uri.path().as_bytes()]);
        Ok((Self { auth, endpoint, body: digest(&[&rest]) }, rest.into()))
    }

    /// What a session for this attempt belongs to.
    fn binding(&self, owner: &Owner) -> [u8; 32] {
        let body: &[u8] = if *owner == Owner::Newcomer { &[] } else { &self.body };
        digest(&[owner.name().as_bytes(), &self.endpoint, body])
    }
}

/// Far longer than anybody types.
const SESSION_LIFETIME: Duration = Duration::from_mins(10);

/// Some 2 MiB. Sessions cost an attacker one request each, and the oldest of them make room.
const SESSIONS_MAX: u64 = 10_000;

const SESSION_LENGTH: usize = 24;

/// The sessions that wait for their stages.
pub(crate) struct Sessions {
    open: Cache<String, Arc<Session>>,
}

/// One that waits.
pub(crate) struct Session {
    binding: [u8; 32],
    expires_ts: u64,
    pub(crate) owner: Owner,
    pub(crate) flows: Vec<Flow>,
    proofs: Mutex<Proofs>,
}

impl Session {
    fn proofs(&self) -> Proofs {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, proofs: Proofs) {
        *self.proofs.lock().unwrap_or_else(PoisonError::into_inner) = proofs;
    }
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            open: Cache::builder()
                .max_capacity(SESSIONS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(SESSION_LIFETIME)
                .build(),
        }
    }
}

impl Proofs {
    fn complete(&self, flows: &[Flow]) -> bool {
        flows.iter().any(|flow| flow.iter().all(|stage| self.stages.contains(stage)))
    }

    fn add(&mut self, stage: Stage) {
        if !self.stages.contains(&stage) {
            self.stages.push(stage);
        }
    }
}

impl Door {
    /// Done when the requester has given the account's password, or shown an address of the account.
    pub(crate) async fn confirm_password(
        &self,
        requester: &Requester,
        attempt: &Attempt,
        address: IpAddr,
    ) -> Result<()> {
        let mut flows = vec![vec![Stage::Password]];
        if self.engine.sends_letters() && !self.engine.third_party_ids(&requester.user_id).await?.is_empty() {
            flows.push(vec![Stage::Email]);
        }
        let proofs = self.confirm(flows, Owner::Requester(requester.clone()), attempt, address).await?;
        match proofs.address {
            Some(address) => Ok(self.engine.spend_address(&address).await?),
            None => Ok(()),
        }
    }

    /// Done when somebody without a session has shown an address of an account. Returns whose it is.
    pub(crate) async fn confirm_address(&self, attempt: &Attempt, address: IpAddr) -> Result<OwnedUserId> {
        if !self.engine.sends_letters() {
            return Err(ApiError::MissingToken("Missing access token"));
        }
        let proofs = self.confirm(vec![vec![Stage::Email]], Owner::Forgetful, attempt, address).await?;
        let refusal = || ApiError::forbidden("No account has this address");
        let shown = proofs.address.ok_or_else(refusal)?;
        let owner = self.engine.owner_of_address(&shown.medium, &shown.address).await?.ok_or_else(refusal)?;
        self.engine.spend_address(&shown).await?;
        Ok(owner)
    }

    /// Done when one of the flows is done. Clients may also give what a flow of one stage asks for at once, without a
    /// session.
    pub(crate) async fn confirm(
        &self,
        flows: Vec<Flow>,
        owner: Owner,
        attempt: &Attempt,
        address: IpAddr,
    ) -> Result<Proofs> {
        let binding = attempt.binding(&owner);
        let expires_ts = self.now_ms() + SESSION_LIFETIME.as_millis() as u64;
        let fresh = || Session { binding, expires_ts, owner, flows, proofs: Mutex::default() };
        let Some(auth) = &attempt.auth else { return Err(self.challenge(&Arc::new(fresh()), None, None)) };
        let session = match &auth.session {
            None => Arc::new(fresh()),
            Some(id) => {
                let Some(session) = self.session(id).filter(|known| known.binding == binding) else {
                    let text = "The session is unknown, expired, or belongs to another request";
                    return Err(self.challenge(&Arc::new(fresh()), None, Some(text)));
                };
                session
            }
        };
        if let Err(refusal) = self.pass_named(&session, auth, address).await? {
            return Err(self.challenge(&session, auth.session.as_deref(), Some(refusal)));
        }
        let proofs = session.proofs();
        if !proofs.complete(&session.flows) {
            return Err(self.challenge(&session, auth.session.as_deref(), None));
        }
        self.end(&session, auth.session.as_deref())?;
        Ok(proofs)
    }

    /// A session that goes on.
    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.inner.sessions.open.get(id).filter(|session| session.expires_ts > self.now_ms())
    }

    /// The stage that the client named. One that names none asks how far it is.
    async fn pass_named(&self, session: &Session, auth: &Auth, address: IpAddr) -> Result<Result<(), &'static str>> {
        let Some(name) = &auth.stage else { return Ok(Ok(())) };
        let stage = Stage::of(name).filter(|stage| session.flows.iter().flatten().any(|other| other == stage));
        let Some(stage) = stage else { return Ok(Err("There is no flow with this stage here")) };
        self.pass(session, stage, auth, address).await
    }

    /// Ends the session. Of two requests that race for one session, one is refused.
    fn end(&self, session: &Arc<Session>, id: Option<&str>) -> Result<()> {
        match id {
            Some(id) if self.inner.sessions.open.remove(id).is_none() => {
                session.keep(Proofs::default());
                Err(self.challenge(session, None, Some("The session was used meanwhile")))
            }
            _ => Ok(()),
        }
    }

    /// Asks for the stages, in a session that is remembered from now on.
    fn challenge(&self, session: &Arc<Session>, id: Option<&str>, refusal: Option<&'static str>) -> ApiError {
        let id = id.map_or_else(
            || {
                let id = self.engine.world().random_string(SESSION_LENGTH);
                let sessions = &self.inner.sessions.open;
                sessions.insert(id.clone(), Arc::clone(session));
                metrics::gauge!("client_api_interactive_sessions")
                    .set(u32::try_from(sessions.entry_count()).unwrap_or(u32::MAX));
                id
            },
            ToOwned::to_owned,
        );
        ApiError::Challenge(Box::new(Challenge {
            flows: session.flows.clone(),
            completed: session.proofs().stages,
            params: self.params(session),
            session: id,
            refusal,
        }))
    }

    /// What the client needs to know for the stages.
    fn params(&self, session: &Session) -> Value {
        let asked = session.flows.iter().flatten().any(|stage| *stage == Stage::Terms);
        match &self.inner.options.terms {
            Some(terms) if asked => {
                let text = serde_json::json!({ "name": terms.name, "url": terms.url });
                let policy = serde_json::json!({ "version": terms.version, "en": text });
                serde_json::json!({ "m.login.terms": { "policies": { "terms_of_use": policy } } })
            }
            _ => serde_json::json!({}),
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
