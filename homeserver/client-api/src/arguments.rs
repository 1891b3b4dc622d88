//! What a handler is given: who asks, from where, and what, as one of ruma's request types.
//!
//! Only [`Arguments::parse`] is generic; all else is compiled once.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    body::Bytes,
    extract::{FromRequestParts, RawPathParams, Request},
    http::{self, request::Parts},
};
use engine::{AskingService, Authenticated, EngineError, Requester};
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::{IncomingRequest, IncomingRequestExt},
};

use crate::{
    ClientAddress, Door, Result, access_token, body, error::ApiError, interactive::Attempt, query, rate_limits::Class,
    routes::Endpoint, standing,
};

/// What is asked by a user.
pub(crate) struct Arguments<T, Asker = Requester> {
    /// What is asked.
    pub(crate) request: T,
    /// The query as it came, for what ruma's type does not hold of it.
    pub(crate) query: String,
    /// The body as it came, likewise.
    pub(crate) body: Bytes,
    /// Who asks.
    pub(crate) requester: Asker,
    /// Whether a guest asks.
    pub(crate) guest: bool,
    /// Whether a user asks who is suspended.
    pub(crate) suspended: bool,
    /// The application service that asks for the requester, or, where there is no requester, for itself.
    pub(crate) service: Option<AskingService>,
    /// Whether there was anything that wants to be an access token.
    pub(crate) has_token: bool,
    /// From where.
    pub(crate) address: IpAddr,
    /// With what confirmation, where the endpoint asks for one.
    pub(crate) attempt: Attempt,
}

/// What anybody may ask.
pub(crate) type Open<T> = Arguments<T, ()>;

/// A request of which all is known but its type.
pub(crate) struct Received<Asker> {
    head: Parts,
    path: Vec<String>,
    body: Bytes,
    requester: Asker,
    guest: bool,
    suspended: bool,
    service: Option<AskingService>,
    has_token: bool,
    address: IpAddr,
    attempt: Attempt,
}

/// Receives a request that needs no access token. One that comes along is not looked at, unless an application service
/// shows who it is by it.
pub(crate) async fn receive_open(door: &Door, endpoint: &Endpoint, request: Request) -> Result<Received<()>> {
    let (mut head, body) = request.into_parts();
    let address = address(&head);
    let has_token = access_token::is_given(&head.headers, &head.uri);
    let service = service(door, &head);
    if service.is_none() {
        door.inner.rate_limits.take(Class::Address, address, door.now_ms())?;
        door.inner.rate_limits.take(endpoint.class, address, door.now_ms())?;
    }
    let path = path(&mut head).await?.into_iter().map(|(_, value)| value).collect();
    let (attempt, body) = read_body(&head, body, endpoint).await?;
    let (guest, suspended) = (false, false);
    Ok(Received { head, path, body, requester: (), guest, suspended, service, has_token, address, attempt })
}

/// Receives a request that may have an access token, and may do without.
pub(crate) async fn receive_either(
    door: &Door,
    endpoint: &Endpoint,
    request: Request,
) -> Result<Received<Option<Requester>>> {
    if access_token::is_given(request.headers(), request.uri()) {
        return Ok(receive(door, endpoint, request).await?.asked_by(Some));
    }
    Ok(receive_open(door, endpoint, request).await?.asked_by(|()| None))
}

impl<Asker> Received<Asker> {
    /// The same, with something else made of who asks.
    fn asked_by<Other>(self, who: impl FnOnce(Asker) -> Other) -> Received<Other> {
        let Self { head, path, body, requester, guest, suspended, service, has_token, address, attempt } = self;
        let requester = who(requester);
        Received { head, path, body, requester, guest, suspended, service, has_token, address, attempt }
    }
}

/// Receives a request that needs an access token. A user's id in its path must be the requester's own,
/// unless the endpoint says otherwise.
pub(crate) async fn receive(door: &Door, endpoint: &Endpoint, request: Request) -> Result<Received<Requester>> {
    let (mut received, body) = receive_head(door, endpoint, request).await?;
    (received.attempt, received.body) = read_body(&received.head, body, endpoint).await?;
    Ok(received)
}

/// The same, but the body is left to be read: for what is too large to be held in memory.
pub(crate) async fn receive_head(
    door: &Door,
    endpoint: &Endpoint,
    request: Request,
) -> Result<(Received<Requester>, axum::body::Body)> {
    let (mut head, body) = request.into_parts();
    let address = address(&head);
    let limits = &door.inner.rate_limits;
    let asker = if let Some(service) = service(door, &head) {
        masquerade(door, &service, &head).await?
    } else {
        limits.take(Class::Address, address, door.now_ms())?;
        authenticate(door, &head, address).await?
    };
    standing::check(&asker, &head.method, endpoint.section)?;
    let Authenticated { requester, guest, suspended, service, .. } = asker;
    let span = tracing::Span::current();
    span.record("user.id", requester.user_id.as_str()).record("device.id", requester.device_id.as_str());
    let known_address = head.extensions.get::<ClientAddress>().map(|address| address.0.to_string());
    door.engine.touch(&requester, known_address.as_deref()).await;
    let is_limited = service.as_ref().is_none_or(|service| service.rate_limited);
    if is_limited && !limits.exempts(&requester.user_id) {
        limits.take(Class::Device, &requester, door.now_ms())?;
        limits.take(endpoint.class, &*requester.user_id, door.now_ms())?;
    }
    let path = path(&mut head).await?;
    if !endpoint.about_anybody && path.iter().any(|(name, value)| name == "user_id" && *value != requester.user_id) {
        return Err(ApiError::forbidden("The user in the path is not the one the access token belongs to"));
    }
    let path = path.into_iter().map(|(_, value)| value).collect();
    let (attempt, has_token, nothing) = (Attempt::none(), true, Bytes::new());
    let received =
        Received { head, path, body: nothing, requester, guest, suspended, service, has_token, address, attempt };
    Ok((received, body))
}

/// The application service whose token the request carries.
fn service(door: &Door, head: &Parts) -> Option<AskingService> {
    if door.engine.services().all().is_empty() {
        return None;
    }
    door.engine.service_of_token(&access_token::access_token(head).ok()?)
}

/// The user, and perhaps the device, that an application service speaks for.
/// <https://spec.matrix.org/v1.19/application-service-api/#identity-assertion>
async fn masquerade(door: &Door, service: &AskingService, head: &Parts) -> Result<Authenticated> {
    let text = head.uri.query().unwrap_or_default();
    let user_id = query::parameter(text, "user_id")?;
    let device_id = match query::parameter(text, "device_id")? {
        Some(device_id) => Some(device_id),
        None => query::parameter(text, "org.matrix.msc3202.device_id")?,
    };
    Ok(door.engine.masquerade(service, user_id.as_deref(), device_id.as_deref()).await?)
}

/// Who asks. Whoever tries out tokens is soon told to wait.
async fn authenticate(door: &Door, head: &Parts, address: IpAddr) -> Result<Authenticated> {
    let outcome = door.engine.authenticate(&access_token::access_token(head)?).await;
    if let Err(EngineError::UnknownToken { soft_logout: false }) = outcome {
        door.inner.rate_limits.take(Class::UnknownToken, address, door.now_ms())?;
    }
    Ok(outcome?)
}

fn address(head: &Parts) -> IpAddr {
    head.extensions.get::<ClientAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.0)
}

/// The parameters of the path with their names, percent-decoded. The router takes `//` for an empty parameter.
async fn path(head: &mut Parts) -> Result<Vec<(String, String)>> {
    let parameters = RawPathParams::from_request_parts(head, &()).await;
    let parameters = parameters.map_err(|error| ApiError::invalid_param(error.to_string()))?;
    if parameters.iter().any(|(_, value)| value.is_empty()) {
        return Err(ApiError::Unrecognized);
    }
    Ok(parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

async fn read_body(head: &Parts, body: axum::body::Body, endpoint: &Endpoint) -> Result<(Attempt, Bytes)> {
    let mut body = body::read(head, body, endpoint.body_max_bytes).await?;
    if let Some(mend) = endpoint.mend {
        body = body::mended(&body, mend)?;
    }
    if endpoint.interactive { Attempt::read(head, &body) } else { Ok((Attempt::none(), body)) }
}

impl<T, Asker> Arguments<T, Asker> {
    /// The application service, where nobody else may ask.
    pub(crate) fn service(&self) -> Result<AskingService> {
        match (&self.service, self.has_token) {
            (Some(service), _) => Ok(service.clone()),
            (None, true) => Err(EngineError::UnknownToken { soft_logout: false }.into()),
            (None, false) => Err(ApiError::MissingToken("Missing access token")),
        }
    }

    /// What time an event is to bear, for application services alone.
    /// <https://spec.matrix.org/v1.19/application-service-api/#timestamp-massaging>
    pub(crate) fn origin_server_ts(&self) -> Result<Option<MilliSecondsSinceUnixEpoch>> {
        if self.service.is_none() {
            return Ok(None);
        }
        let Some(text) = query::parameter(&self.query, "ts")? else { return Ok(None) };
        let ts = text.parse().ok().and_then(UInt::new).map(MilliSecondsSinceUnixEpoch);
        ts.map(Some).ok_or_else(|| ApiError::invalid_param("ts: write milliseconds since the epoch"))
    }
}

impl<T: IncomingRequest, Asker> Arguments<T, Asker> {
    /// Reads the request as a `T`.
    pub(crate) fn parse(received: Received<Asker>) -> Result<Self> {
        let Received { head, path, body, requester, guest, suspended, service, has_token, address, attempt } = received;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let request = T::try_from_http_request(http::Request::from_parts(head, &*body), &path)?;
        Ok(Self { request, query, body, requester, guest, suspended, service, has_token, address, attempt })
    }
}
