//! The one HTTP client: where it may connect to, whom it believes, how much it reads, and for how long.
//!
//! The address policy is applied to what a name resolves to, at the moment of connecting, so that no answer of DNS
//! gets past it; addresses written out in a URL are checked before. Nothing is ever sent without TLS, but for questions
//! for public pages, which say no more than that somebody asks, and to push gateways in networks that the operator has
//! named.

pub mod names;
pub mod policy;
mod resolver;
mod streamed;
mod tls;

use std::{collections::HashMap, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Client, ClientBuilder, Url, redirect};
use ruma::OwnedServerName;

pub use self::{names::SystemNames, policy::Network};
use self::{
    names::{Names, host_address},
    policy::{AddressPolicy, Denied},
    resolver::{PolicyResolver, Target},
};
use crate::{ByteStream, CallLimits, TransportError};

/// How long a TCP and TLS handshake may take. A server that needs longer is as good as down.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a service of the operator's may say nothing in the middle of an answer.
const SERVICE_SILENT_MAX: Duration = Duration::from_mins(1);
/// How often, while nothing comes, the other end's machine is asked whether it is still there, and how many such questions
/// are left open until it is gone: the longest calls wait for minutes, and who has lost its power says nothing.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVES_OPEN_MAX: u32 = 3;
/// How long an unused connection is kept: longer than the pause between two messages of a conversation, short enough
/// that thousands of destinations do not hold thousands of sockets.
const IDLE_CONNECTION: Duration = Duration::from_secs(45);
/// Unused connections kept per server. Transactions go one at a time, other calls rarely overlap.
const IDLE_CONNECTIONS_PER_HOST: usize = 4;
/// How many redirects are followed where they are followed at all.
const REDIRECTS_MAX: usize = 5;
/// Clients kept for servers whose certificate names another host than the one to connect to. Each is a small
/// connection pool; one that is evicted is made anew.
const PINNED_CLIENTS_MAX: u64 = 512;
/// How long such a client is kept unused: a bit longer than its connections.
const PINNED_CLIENT_IDLE: Duration = Duration::from_mins(2);

/// The settings that allow what the policies refuse.
const SETTING: &str = "federation.allow_private_addresses";
const WEB_SETTING: &str = "media.preview_allow_private_addresses";
const PUSH_SETTING: &str = "push.allow_private_addresses";

/// How to reach the outside.
#[derive(Clone, Debug, Default)]
pub struct EgressOptions {
    /// Certificate authorities to trust besides those of the operating system, each text with one or more in PEM.
    pub extra_root_certificates_pem: Vec<Vec<u8>>,
    /// Servers to be reached at a fixed address, without discovery; the names for `Host` and certificate remain.
    /// Where the server name is an IP address, the certificate must be valid for the address given here instead.
    pub overrides: HashMap<OwnedServerName, SocketAddr>,
    /// Ranges of addresses where servers would not be called otherwise, such as `10.0.0.0/8`.
    pub allow_private_addresses: Vec<Network>,
    /// Ranges of addresses where pages and files would not be asked for otherwise. Users name those, and so would see
    /// what is in our own network.
    pub allow_private_pages: Vec<Network>,
    /// Ranges of addresses where push gateways would not be called otherwise. There they may be called without TLS too.
    pub allow_private_push_gateways: Vec<Network>,
    /// Whether a connection is closed after each call, because few may be open.
    pub closes_connections: bool,
    /// What we call ourselves.
    pub user_agent: String,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
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
    /// The system's name resolution cannot be set up.
    #[error("cannot set up name resolution from the system's configuration: {0}")]
    Resolver(String),
}

/// Where a request goes, what it says, and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The `Host` header.
    pub host: String,
    /// The name or address that the certificate must be valid for, an IPv6 address in brackets.
    pub certificate_name: String,
    /// Where to connect, in this order, until one can be connected to.
    pub endpoints: Vec<Endpoint>,
}

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name, or an IP address as a server name has it; subject to the address policy.
    Host {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
    /// An address that the operator has set; not subject to the policy.
    Fixed(SocketAddr),
}

/// The one HTTP client. Cloning shares it.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    options: EgressOptions,
    policy: Arc<AddressPolicy>,
    /// The one for pages and files of whatever servers.
    web_policy: Arc<AddressPolicy>,
    names: Arc<dyn Names>,
    tls: rustls::ClientConfig,
    /// For requests to the host that the certificate names.
    signed: Client,
    /// For requests that are not signed, which may be redirected.
    unsigned: Client,
    /// For pages of whatever servers. Redirects are for the asker to judge.
    web: Client,
    pinned: moka::sync::Cache<(String, Target), Client>,
    push: PushClients,
}

/// For push gateways, which users name: with TLS, and without it where the operator allows that.
struct PushClients {
    policy: Arc<AddressPolicy>,
    tls: Client,
    plain_policy: Arc<AddressPolicy>,
    plain: Client,
}

impl PushClients {
    fn new(options: &EgressOptions, tls: &rustls::ClientConfig, names: &Arc<dyn Names>) -> Result<Self, EgressError> {
        let allowed = &options.allow_private_push_gateways;
        let policy = Arc::new(AddressPolicy::new(allowed.clone(), PUSH_SETTING));
        let plain_policy = Arc::new(AddressPolicy::only(allowed.clone(), PUSH_SETTING));
        let resolver = |policy: &Arc<AddressPolicy>| PolicyResolver::new(Arc::clone(names), Arc::clone(policy), None);
        let with_tls = client(options, tls.clone(), resolver(&policy), redirect::Policy::none())?;
        let plain = builder(options, tls.clone(), resolver(&plain_policy), redirect::Policy::none()).https_only(false);
        Ok(Self { tls: with_tls, plain: build(plain)?, policy, plain_policy })
    }
}

impl Egress {
    /// The client, resolving names by `names`.
    pub fn new(options: EgressOptions, names: Arc<dyn Names>) -> Result<Self, EgressError> {
        let tls = tls::client_config(&options.extra_root_certificates_pem)?;
        let policy = Arc::new(AddressPolicy::new(options.allow_private_addresses.clone(), SETTING));
        let web_policy = Arc::new(AddressPolicy::new(options.allow_private_pages.clone(), WEB_SETTING));
        let web_resolver = PolicyResolver::new(Arc::clone(&names), Arc::clone(&web_policy), None);
        let resolver = PolicyResolver::new(Arc::clone(&names), Arc::clone(&policy), None);
        let signed = client(&options, tls.clone(), resolver.clone(), redirect::Policy::none())?;
        let web = build(builder(&options, tls.clone(), web_resolver, redirect::Policy::none()).https_only(false))?;
        let unsigned = client(&options, tls.clone(), resolver, redirects(Arc::clone(&policy)))?;
        let pinned =
            moka::sync::Cache::builder().max_capacity(PINNED_CLIENTS_MAX).time_to_idle(PINNED_CLIENT_IDLE).build();
        let push = PushClients::new(&options, &tls, &names)?;
        let inner = Inner { options, policy, web_policy, names, tls, signed, unsigned, web, pinned, push };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How this client was set up.
    pub fn options(&self) -> &EgressOptions {
        &self.inner.options
    }

    /// Sends a request, whose URI is a path and a query only, along a route. Follows no redirects.
    pub async fn send(
        &self,
        route: &Route,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, TransportError> {
        within(limits, async { read(self.try_endpoints(route, request).await?, limits).await }).await
    }

    /// The same, but the answer is read while it comes.
    pub(crate) async fn stream(
        &self,
        route: &Route,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<ByteStream>, TransportError> {
        streamed::read(self.try_endpoints(route, request), limits).await
    }

    /// Asks for a page or a file, by `http:` or `https:`, without any authentication. Follows no redirects.
    pub async fn fetch(&self, url: &str, limits: CallLimits) -> Result<http::Response<ByteStream>, TransportError> {
        let url = Url::parse(url).map_err(|error| TransportError::Unreachable(format!("not a URL: {error}")))?;
        let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        if !plain {
            return Err(TransportError::Denied("only web pages without credentials are asked for".to_owned()));
        }
        check_literal(&url, &self.inner.web_policy)?;
        let asking = async { self.inner.web.get(url).send().await.map_err(transport_error) };
        streamed::read(asking, limits).await
    }

    /// A client for a service that the operator has set: where it may connect to is not judged.
    pub fn service_client(&self) -> Result<Client, EgressError> {
        let Inner { options, tls, .. } = &*self.inner;
        let builder = Client::builder().tls_backend_preconfigured(tls.clone()).user_agent(&options.user_agent);
        let builder = builder.no_proxy().redirect(redirect::Policy::none()).read_timeout(SERVICE_SILENT_MAX);
        build(connecting(builder).referer(false))
    }

    /// Fetches an `https` URL without any authentication, following up to five redirects.
    pub async fn get(&self, url: &str, limits: CallLimits) -> Result<http::Response<Bytes>, TransportError> {
        let url = parse_url(url)?;
        check_literal(&url, &self.inner.policy)?;
        let asking = async { self.inner.unsigned.get(url).send().await.map_err(transport_error) };
        within(limits, async { read(asking.await?, limits).await }).await
    }

    /// Sends a request without a signature of ours to the `https` URL that it names. Follows no redirects: what it says
    /// is for that host alone.
    pub async fn send_unsigned(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let url = parse_url(&request.uri().to_string())?;
        check_literal(&url, &self.inner.policy)?;
        let (head, body) = request.into_parts();
        let sending = self.inner.signed.request(head.method, url).headers(head.headers).body(body).send();
        within(limits, async { read(sending.await.map_err(transport_error)?, limits).await }).await
    }

    /// Sends a request to the URL of a push gateway: by `https:`, or by `http:` to addresses that the operator has named
    /// for it. Follows no redirects.
    pub async fn notify(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let url = request.uri().to_string();
        let url = Url::parse(&url).map_err(|error| TransportError::Unreachable(format!("not a URL: {error}")))?;
        let push = &self.inner.push;
        let (client, policy) = match url.scheme() {
            "http" => (&push.plain, &push.plain_policy),
            _ => (&push.tls, &push.policy),
        };
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(TransportError::Denied("only web addresses without credentials are called".to_owned()));
        }
        check_literal(&url, policy)?;
        let (head, body) = request.into_parts();
        let sending = client.request(head.method, url).headers(head.headers).body(body).send();
        within(limits, async { read(sending.await.map_err(transport_error)?, limits).await }).await
    }

    async fn try_endpoints(
        &self,
        route: &Route,
        request: http::Request<Bytes>,
    ) -> Result<reqwest::Response, TransportError> {
        let mut failure = TransportError::Unreachable("no address to connect to".to_owned());
        for endpoint in &route.endpoints {
            let (client, url) = self.prepare(route, endpoint, request.uri())?;
            let sending = client
                .request(request.method().clone(), url)
                .headers(request.headers().clone())
                .header(http::header::HOST, &route.host)
                .body(request.body().clone())
                .send();
            match sending.await {
                // Nothing was sent, so that the next place may be tried.
                Err(error) if error.is_connect() => failure = transport_error(error),
                answer => return answer.map_err(transport_error),
            }
        }
        Err(failure)
    }

    /// The client that connects to the endpoint and checks the certificate of the route, and the URL to give it.
    fn prepare(
        &self,
        route: &Route,
        endpoint: &Endpoint,
        path_and_query: &http::Uri,
    ) -> Result<(Client, Url), TransportError> {
        let (authority, target) = match endpoint {
            Endpoint::Host { name, port } if *name == route.certificate_name => (format!("{name}:{port}"), None),
            Endpoint::Host { name, port } => {
                (format!("{}:{port}", route.certificate_name), Some(Target::Name(name.clone())))
            }
            // The client would connect to an address in the URL without asking the resolver.
            Endpoint::Fixed(address) if host_address(&route.certificate_name).is_some() => {
                let url = parse_url(&format!("https://{address}{path_and_query}"))?;
                check_target(&url, path_and_query)?;
                return Ok((self.inner.signed.clone(), url));
            }
            Endpoint::Fixed(address) => {
                (format!("{}:{}", route.certificate_name, address.port()), Some(Target::Address(address.ip())))
            }
        };
        let url = parse_url(&format!("https://{authority}{path_and_query}"))?;
        check_target(&url, path_and_query)?;
        if !matches!(endpoint, Endpoint::Fixed(_)) {
            check_literal(&url, &self.inner.policy)?;
        }
        let client = match target {
            Some(target) => self.pinned(&route.certificate_name, target)?,
            None => self.inner.signed.clone(),
        };
        Ok((client, url))
    }

    fn pinned(&self, certificate_name: &str, target: Target) -> Result<Client, TransportError> {
        let Inner { options, policy, names, tls, pinned, .. } = &*self.inner;
        let key = (certificate_name.to_owned(), target.clone());
        let make = || {
            let resolver = PolicyResolver::new(Arc::clone(names), Arc::clone(policy), Some(target));
            client(options, tls.clone(), resolver, redirect::Policy::none())
        };
        pinned.try_get_with(key, make).map_err(|error| TransportError::Unreachable(error.to_string()))
    }
}

/// Judges an address in a URL. It does so after the URL was parsed, which turns `0x7f.1` into `127.0.0.1`.
fn check_literal(url: &Url, policy: &AddressPolicy) -> Result<(), TransportError> {
    let address = url.host_str().and_then(host_address);
    let verdict = address.map_or(Ok(()), |address| policy.check(address));
    verdict.map_err(|denied| TransportError::Denied(denied.to_string()))
}

fn client(
    options: &EgressOptions,
    tls: rustls::ClientConfig,
    resolver: PolicyResolver,
    redirects: redirect::Policy,
) -> Result<Client, EgressError> {
    build(builder(options, tls, resolver, redirects))
}

fn build(builder: ClientBuilder) -> Result<Client, EgressError> {
    builder.build().map_err(|error| EgressError::Client(chain(&error)))
}

fn builder(
    options: &EgressOptions,
    tls: rustls::ClientConfig,
    resolver: PolicyResolver,
    redirects: redirect::Policy,
) -> ClientBuilder {
    connecting(Client::builder())
        .tls_backend_preconfigured(tls)
        .https_only(true)
        // With HTTP/2 the name of the host would come from the URL, which names what the certificate must name; with
        // HTTP/1.1 it is ours to set.
        .http1_only()
        .no_proxy()
        .dns_resolver(resolver)
        .redirect(redirects)
        .referer(false)
        .user_agent(&options.user_agent)
        .pool_max_idle_per_host(if options.closes_connections { 0 } else { IDLE_CONNECTIONS_PER_HOST })
}

/// How connections are made and given up, whoever is at the other end.
fn connecting(builder: ClientBuilder) -> ClientBuilder {
    builder
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_keepalive(KEEPALIVE_INTERVAL)
        .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(KEEPALIVES_OPEN_MAX)
        .pool_idle_timeout(IDLE_CONNECTION)
}

/// Redirects to the same port over HTTPS, never to an address that the policy refuses.
fn redirects(policy: Arc<AddressPolicy>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error("too many redirects");
        }
        let first = attempt.previous().first();
        let same_port = first.is_some_and(|url| url.port_or_known_default() == attempt.url().port_or_known_default());
        if attempt.url().scheme() != "https" || !same_port {
            return attempt.error("redirected to another protocol or port");
        }
        match attempt.url().host_str().and_then(host_address).map(|address| policy.check(address)) {
            Some(Err(denied)) => attempt.error(denied),
            _ => attempt.follow(),
        }
    })
}

/// Parsing a URL also tidies it up. The target is signed, and must go out as it is.
fn check_target(url: &Url, path_and_query: &http::Uri) -> Result<(), TransportError> {
    if url.path() == path_and_query.path() && url.query() == path_and_query.query() {
        return Ok(());
    }
    Err(TransportError::Denied("the target has characters that are to be encoded".to_owned()))
}

fn parse_url(url: &str) -> Result<Url, TransportError> {
    let url = Url::parse(url).map_err(|error| TransportError::Unreachable(format!("not a URL: {error}")))?;
    let plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
    if plain { Ok(url) } else { Err(TransportError::Denied("only https URLs without credentials are called".into())) }
}

async fn within<T>(
    limits: CallLimits,
    call: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    tokio::time::timeout(limits.deadline, call).await.unwrap_or(Err(TransportError::Deadline(limits.deadline)))
}

/// Reads an answer to its end or to the limit, whichever comes first.
async fn read(mut answer: reqwest::Response, limits: CallLimits) -> Result<http::Response<Bytes>, TransportError> {
    let too_large = TransportError::TooLarge { limit_bytes: limits.body_max_bytes };
    if answer.content_length().is_some_and(|length| length > limits.body_max_bytes as u64) {
        return Err(too_large);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(transport_error)? {
        if body.len() + chunk.len() > limits.body_max_bytes {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = http::Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

fn transport_error(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(denied) = cause.downcast_ref::<Denied>() {
            return TransportError::Denied(denied.to_string());
        }
        source = cause.source();
    }
    TransportError::Unreachable(chain(&error))
}

/// An error with its causes, which is where the reason is.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
