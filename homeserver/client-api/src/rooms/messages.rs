//! `GET /_matrix/client/v3/rooms/{roomId}/messages`

use engine::MessagesQuery;
use http::uri::{PathAndQuery, Uri};
use ruma::{
    api::{
        Direction, IncomingRequest, Metadata,
        client::message::get_message_events::v3::{self, Response},
        error::DeserializationError,
    },
    exports::http,
};

use super::raw;
use crate::{Arguments, Door, Result, query};

/// The request. Without `dir` it reads forwards: the specification demands one, but servers in use do not, and there are
/// clients that rely on it.
pub(crate) struct Request(v3::Request);

impl Metadata for Request {
    const METHOD: http::Method = v3::Request::METHOD;
    const RATE_LIMITED: bool = v3::Request::RATE_LIMITED;
    type Authentication = <v3::Request as Metadata>::Authentication;
    type PathBuilder = <v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        v3::Request::try_from_http_request_inner(with_direction(request), path_args).map(Self)
    }
}

fn with_direction(mut request: http::Request<&[u8]>) -> http::Request<&[u8]> {
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| pair.split('=').next() == Some("dir")) {
        return request;
    }
    let with_direction = format!("{}?{query}&dir=f", request.uri().path());
    // What was an address stays one with this appended, unless it is as long as an address can be.
    if let Ok(path_and_query) = with_direction.parse::<PathAndQuery>() {
        *request.uri_mut() = Uri::from(path_and_query);
    }
    request
}

pub(crate) async fn messages(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let relations = query::json(&asked.query, "filter")?;
    let Request(request) = asked.request;
    let query = MessagesQuery {
        room_id: request.room_id,
        from: request.from,
        to: request.to,
        forward: request.dir == Direction::Forward,
        limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
        filter: request.filter,
    };
    let page = door.engine.related_messages(&asked.requester, query, relations).await?;
    let mut response = Response::new();
    response.start = page.start;
    response.end = page.end;
    response.chunk = raw(page.chunk);
    response.state = raw(page.state);
    Ok(response)
}
