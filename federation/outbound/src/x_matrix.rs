//! x
use http::{HeaderMap, Method};
use ruma::{OwnedServerName, OwnedServerSigningKeyId};

use crate::{Federation, VerifyError};

/// What the `Authorization` header of a request claims: not yet checked.
#[derive(Clone)]
pub struct Claim {
    /// The server that says it made the request.
    pub origin: OwnedServerName,
    /// The key it says it signed with.
    pub key_id: OwnedServerSigningKeyId,
    pub(crate) signature: Vec<u8>,
}

/// Why a request is not taken to be from the server that it names.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// There is no `Authorization` header.
    #[error("the request is not signed")]
    Missing,
    /// There are several.
    #[error("the request has several Authorization headers")]
    Several,
    /// It is not understood.
    #[error("the Authorization header is not understood: {0}")]
    Malformed(String),
    /// It is meant for another server.
    #[error("the request is meant for {0:?}")]
    WrongDestination(String),
    /// It claims to be from ourselves.
    #[error("the request claims to be from this server")]
    FromOurselves,
    /// The body is not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// The server's key is not to be had, or not valid now.
    #[error(transparent)]
    Key(VerifyError),
    /// The signature is wrong.
    #[error("the signature of {0} is wrong")]
    Signature(OwnedServerName),
}

impl Federation {
    /// What a request claims: the cheap refusals, possible before its body is read.
    pub fn claim(&self, headers: &HeaderMap) -> Result<Claim, AuthenticateError> {
        todo!()
    }

    /// Checks a claim. `raw_target` is path and query exactly as they came, before any routing; an absent body is empty.
    pub async fn check_claim(
        &self,
        claim: Claim,
        method: &Method,
        raw_target: &str,
        body: &[u8],
    ) -> Result<OwnedServerName, AuthenticateError> {
        todo!()
    }

    /// Both in one: which server made this request.
    pub async fn authenticate(
        &self,
        method: &Method,
        raw_target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<OwnedServerName, AuthenticateError> {
        self.check_claim(self.claim(headers)?, method, raw_target, body).await
    }
}
