//! The one HTTP client of this program: whom it believes, how much it reads, and how long it waits.
//!
//! It calls only what the operator has set: the homeserver, providers of completions, tool servers. Users can not make
//! it call anything else, so it has no address policy; redirects are not followed, because they could carry a key to
//! somebody whom the operator has not set. The usual variables (`HTTPS_PROXY`, `NO_PROXY`) are obeyed.

use std::{error::Error as _, future::Future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// How long a TCP and TLS handshake may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long an unused connection is kept: longer than the pause between two messages of a lively conversation.
const IDLE_CONNECTION: Duration = Duration::from_secs(45);
/// Unused connections kept per server: about as many as there are conversations at once.
const IDLE_CONNECTIONS_PER_HOST: usize = 8;

/// How to reach the outside.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Certificate authorities to trust besides those of the operating system, each text with one or more in PEM.
    pub extra_root_certificates_pem: Vec<Vec<u8>>,
    /// What we call ourselves.
    pub user_agent: String,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// A configured certificate authority cannot be read.
    #[error("certificate {index} of the extra root certificates is not understood: {reason}")]
    Certificate {
        /// Which text, counted from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// TLS or HTTP cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

/// Why a call has no reply. None of the texts holds a URL, which could hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// There is no connection, or it broke.
    #[error("no connection")]
    Unreachable,
    /// No reply in time, or silence in the middle of one.
    #[error("no reply in time")]
    Timeout,
    /// The reply is larger than it may be.
    #[error("the reply is too large")]
    TooLarge,
}

/// The one HTTP client. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
}

impl Http {
    /// The client.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpSetupError> {
        let builder = Client::builder()
            .tls_backend_preconfigured(tls(&options.extra_root_certificates_pem)?)
            .redirect(redirect::Policy::none())
            .referer(false)
            .user_agent(&options.user_agent)
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST);
        let client = builder.build().map_err(|error| HttpSetupError::Client(error.to_string()))?;
        Ok(Self { client })
    }

    /// The beginning of a request.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }
}

/// Sends the request and waits for the head of the reply.
pub async fn send(request: RequestBuilder, deadline: Duration) -> Result<Response, HttpFault> {
    within(deadline, request.send()).await
}

/// The next piece of the reply's body, `None` at its end.
pub async fn chunk(response: &mut Response, silence_max: Duration) -> Result<Option<Bytes>, HttpFault> {
    within(silence_max, response.chunk()).await
}

/// The whole body, if it is not larger than `bytes_max`, all within `deadline`.
pub async fn body(mut response: Response, bytes_max: usize, deadline: Duration) -> Result<Bytes, HttpFault> {
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(HttpFault::TooLarge);
    }
    let read = async {
        let mut whole = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| fault(&error))? {
            if whole.len() + piece.len() > bytes_max {
                return Err(HttpFault::TooLarge);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    };
    tokio::time::timeout(deadline, read).await.unwrap_or(Err(HttpFault::Timeout))
}

async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T, reqwest::Error>>) -> Result<T, HttpFault> {
    match tokio::time::timeout(deadline, call).await {
        Ok(outcome) => outcome.map_err(|error| fault(&error)),
        Err(_) => Err(HttpFault::Timeout),
    }
}

fn fault(error: &reqwest::Error) -> HttpFault {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::debug!(reason, "an HTTP call failed");
    if error.is_timeout() { HttpFault::Timeout } else { HttpFault::Unreachable }
}

fn tls(extra_pem: &[Vec<u8>]) -> Result<ClientConfig, HttpSetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    for (index, pem) in extra_pem.iter().enumerate() {
        add(&mut roots, pem).map_err(|reason| HttpSetupError::Certificate { index, reason })?;
    }
    if added == 0 && extra_pem.is_empty() {
        tracing::warn!("the system has no certificate authorities; nobody can be called over TLS");
    }
    // The provider is named, so that nothing depends on which one the process has installed as its default.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpSetupError::Client(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        any = true;
    }
    if any { Ok(()) } else { Err("it holds no certificate in PEM".to_owned()) }
}
