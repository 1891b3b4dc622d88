//! `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4186>. The types are our own: ruma's lack some of
//! the filters.

use engine::{SlidingQuery, SlidingResponse};
use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::{
    api::{
        BytesBody, IncomingRequest, Metadata, OutgoingResponse,
        auth_scheme::AccessToken,
        error::{DeserializationError, Error, IntoHttpError},
        path_builder::SinglePath,
    },
    exports::serde_html_form,
    presence::PresenceState,
};
use serde::Deserialize;

use crate::{Arguments, Door, Result};

/// A request for sliding sync.
pub(crate) struct Request(Box<SlidingQuery>);

/// What stands in the query of the URL.
#[derive(Deserialize)]
struct Parameters {
    pos: Option<String>,
    timeout: Option<u64>,
    #[serde(default)]
    set_presence: PresenceState,
}

/// The answer.
pub(crate) struct Response(SlidingResponse);

impl Metadata for Request {
    const METHOD: http::Method = http::Method::POST;
    const RATE_LIMITED: bool = false;
    type Authentication = AccessToken;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync");
}

impl IncomingRequest for Request {
    type EndpointError = Error;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(request: http::Request<&[u8]>, _: &[&str]) -> Result<Self, DeserializationError> {
        let parameters: Parameters = serde_html_form::from_str(request.uri().query().unwrap_or_default())?;
        let mut query: Box<SlidingQuery> = match *request.body() {
            [] => Box::default(),
            body => serde_json::from_slice(body)?,
        };
        query.pos = parameters.pos.or(query.pos).filter(|pos| !pos.is_empty());
        query.timeout_ms = parameters.timeout.unwrap_or_default();
        query.set_presence = Some(parameters.set_presence);
        Ok(Self(query))
    }
}

impl OutgoingResponse for Response {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(serde_json::to_vec(&self.0)?));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// Whoever waits keeps room for nothing but the query, not for the rest of the request.
pub(crate) fn sliding_sync(door: Door, asked: Arguments<Request>) -> impl Future<Output = Result<Response>> {
    let (requester, query) = (asked.requester, asked.request.0);
    async move { Ok(Response(door.engine.sliding_sync(&requester, &query).await?)) }
}
