//! `GET /_matrix/client/v3/rooms/{roomId}/initialSync`, for which ruma has no types.

use engine::{ClientEvent, InitialRoom};
use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::{
    OwnedRoomId,
    api::{
        BytesBody, IncomingRequest, Metadata, OutgoingResponse,
        auth_scheme::AccessToken,
        error::{DeserializationError, Error, IntoHttpError},
        path_builder::SinglePath,
    },
    events::room::member::MembershipState,
};
use serde::{Deserialize as _, Serialize, de::value::SeqDeserializer};
use serde_json::value::RawValue;

use crate::{Arguments, Door, Result, error::ApiError};

/// A look into a room.
pub(crate) struct Request {
    room_id: OwnedRoomId,
    limit: Option<u64>,
}

/// What is seen.
pub(crate) struct Response(Vec<u8>);

impl Metadata for Request {
    const METHOD: http::Method = http::Method::GET;
    const RATE_LIMITED: bool = false;
    type Authentication = AccessToken;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new("/_matrix/client/v3/rooms/{room_id}/initialSync");
}

impl IncomingRequest for Request {
    type EndpointError = Error;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let arguments = SeqDeserializer::<_, serde::de::value::Error>::new(path_args.iter().copied());
        let (room_id,) = <(OwnedRoomId,)>::deserialize(arguments)?;
        let pairs = request.uri().query().unwrap_or_default().split('&');
        let limit = pairs.filter_map(|pair| pair.strip_prefix("limit=")).find_map(|limit| limit.parse().ok());
        Ok(Self { room_id, limit })
    }
}

impl OutgoingResponse for Response {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(self.0));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

#[derive(Serialize)]
struct Room<'a> {
    #[serde(rename = "room_id")]
    id: &'a ruma::RoomId,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'a str>,
    messages: Messages<'a>,
    state: Vec<&'a RawValue>,
    visibility: &'static str,
    account_data: Vec<AccountData<'a>>,
}

#[derive(Serialize)]
struct Messages<'a> {
    start: &'a str,
    end: &'a str,
    chunk: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct AccountData<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
}

pub(crate) async fn initial_sync(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Request { room_id, limit } = asked.request;
    let found = door.engine.initial_sync(&asked.requester, &room_id, limit).await?;
    let InitialRoom { membership, messages, state, published, account_data } = &found;
    let room = Room {
        id: &room_id,
        membership: membership.as_ref().map(MembershipState::as_str),
        messages: Messages {
            start: &messages.start,
            end: messages.end.as_deref().unwrap_or_default(),
            chunk: messages.chunk.iter().map(ClientEvent::raw).collect(),
        },
        state: state.iter().map(ClientEvent::raw).collect(),
        visibility: if *published { "public" } else { "private" },
        account_data: account_data.iter().map(|(event_type, content)| AccountData { event_type, content }).collect(),
    };
    serde_json::to_vec(&room).map(Response).map_err(ApiError::internal)
}
