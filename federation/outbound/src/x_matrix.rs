//! Requests signed by servers: signing ours, and finding out who made the ones that come in.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

mod canonical;
mod header;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
use rules::event::{ServerKey, weak::proves};
use ruma::{CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName, signatures::KeyPair};

use crate::{Federation, VerifyError};

/// The longest header that is looked at. Two server names, a key id and a signature come to less than 1 KiB.
const HEADER_MAX_BYTES: usize = 4_096;
/// Up to this size a body is checked on the spot, in about a millisecond. The largest take some hundred, and while they are
/// a tree, many times their size: on a thread of their own, and few at the same time.
const CHECKED_INLINE_MAX_BYTES: usize = 128 * 1024;
/// How many larger ones at the same time.
pub(crate) const LARGE_BODIES_AT_ONCE: usize = 2;

/// What the `Authorization` header of a request claims: not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The server that says it made the request.
    pub origin: OwnedServerName,
    /// The key it says it signed with.
    pub key_id: OwnedServerSigningKeyId,
    signature: Vec<u8>,
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
        read_claim(headers, self.server_name())
    }

    /// Checks a claim. `raw_target` is path and query exactly as they came, before any routing; an absent body is empty.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub async fn check_claim(
        &self,
        claim: Claim,
        method: &Method,
        raw_target: &str,
        body: &Bytes,
    ) -> Result<OwnedServerName, AuthenticateError> {
        // The key comes first: for a server that has none, the body is not worth parsing.
        let key = self.key_ring().request_key(&claim.origin, &claim.key_id).await.map_err(AuthenticateError::Key)?;
        let destination = self.server_name();
        if body.len() <= CHECKED_INLINE_MAX_BYTES {
            return check_signature(claim, &key, (destination, method, raw_target), body);
        }
        let place = Arc::clone(self.large_bodies()).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let (destination, method, raw_target) = (destination.to_owned(), method.clone(), raw_target.to_owned());
        let body = body.clone();
        let checking = tokio::task::spawn_blocking(move || {
            // What is begun cannot be stopped, so that its place is taken until it is done, whoever has hung up.
            let _place = place;
            check_signature(claim, &key, (&destination, &method, &raw_target), &body)
        });
        // A body at which the parser falls over is none.
        checking.await.unwrap_or(Err(AuthenticateError::NotJson))
    }

    /// Both in one: which server made this request.
    pub async fn authenticate(
        &self,
        method: &Method,
        raw_target: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<OwnedServerName, AuthenticateError> {
        self.check_claim(self.claim(headers)?, method, raw_target, body).await
    }
}

/// Whether a claim is true of a request: of its destination, method and target, and its body.
fn check_signature(
    claim: Claim,
    key: &[u8],
    (destination, method, raw_target): (&ServerName, &Method, &str),
    body: &[u8],
) -> Result<OwnedServerName, AuthenticateError> {
    let content = match body {
        [] => None,
        body => Some(canonical::canonicalise(body).ok_or(AuthenticateError::NotJson)?),
    };
    let (content, origin) = (content.as_deref(), &*claim.origin);
    let signed = Signed { content, destination, method: method.as_str(), origin, uri: raw_target };
    if !proves(key, &claim.signature, signed.canonical_json().as_bytes()) {
        return Err(AuthenticateError::Signature(claim.origin));
    }
    Ok(claim.origin)
}

/// The `Authorization` header for a request of ours. `content` is the body, in its canonical form.
#[expect(clippy::missing_panics_doc, reason = "it cannot")]
pub fn sign_request(
    key: &ServerKey,
    destination: &ServerName,
    method: &Method,
    raw_target: &str,
    content: Option<&str>,
) -> HeaderValue {
    let origin = key.server_name();
    let signed = Signed { content, destination, method: method.as_str(), origin, uri: raw_target };
    let signature = key.sign(signed.canonical_json().as_bytes()).base64();
    // Neither names nor key ids nor base64 have anything in them that would have to be escaped.
    let key_id = key.key_id();
    let header = format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{key_id}",sig="{signature}""#);
    let mut header = HeaderValue::from_str(&header).expect("the grammars of its parts allow visible ASCII only");
    header.set_sensitive(true);
    header
}

/// What the signature is made over.
struct Signed<'a> {
    content: Option<&'a str>,
    destination: &'a ServerName,
    method: &'a str,
    origin: &'a ServerName,
    uri: &'a str,
}

impl Signed<'_> {
    /// Written out by hand, in the order of the keys, so that a body need not be parsed again.
    fn canonical_json(&self) -> String {
        let string = |text: &str| CanonicalJsonValue::String(text.to_owned()).to_string();
        let content = self.content.map(|content| format!(r#""content":{content},"#)).unwrap_or_default();
        let (destination, method) = (string(self.destination.as_str()), string(self.method));
        let (origin, uri) = (string(self.origin.as_str()), string(self.uri));
        format!(r#"{{{content}"destination":{destination},"method":{method},"origin":{origin},"uri":{uri}}}"#)
    }
}

fn read_claim(headers: &HeaderMap, own_name: &ServerName) -> Result<Claim, AuthenticateError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthenticateError::Missing)?;
    if values.next().is_some() {
        return Err(AuthenticateError::Several);
    }
    if value.len() > HEADER_MAX_BYTES {
        return Err(AuthenticateError::Malformed("too long".to_owned()));
    }
    let text = value.to_str().map_err(|_| AuthenticateError::Malformed("not ASCII".to_owned()))?;
    let header::XMatrix { origin, destination, key_id, signature } =
        header::parse(text).map_err(AuthenticateError::Malformed)?;
    match destination {
        Some(destination) if destination != own_name.as_str() => {
            return Err(AuthenticateError::WrongDestination(destination));
        }
        Some(_) => {}
        // Servers older than version 1.3 of the specification do not say; it is part of what they sign all the same.
        None => tracing::info!(%origin, "a server does not name the destination of its requests"),
    }
    if *origin == *own_name {
        return Err(AuthenticateError::FromOurselves);
    }
    Ok(Claim { origin, key_id, signature })
}
