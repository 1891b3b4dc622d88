//! The answer to `/sync` with every list in it, empty ones too.
//!
//! The specification calls these fields optional, and ruma leaves out what is empty. Clients in use disagree: matrix-nio
//! refuses a left room without `state.events`, and other servers have always sent them.

use ruma::{
    api::{
        OutgoingResponse,
        client::sync::sync_events::v3::{InviteState, JoinedRoom, KnockState, LeftRoom, Response, State, Timeline},
        error::IntoHttpError,
    },
    serde::Raw,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::to_raw_value;

/// An answer to `/sync` that leaves out nothing.
pub(crate) struct Complete(pub(crate) Response);

impl OutgoingResponse for Complete {
    type Body = <Response as OutgoingResponse>::Body;

    fn try_into_http_response_inner(self) -> Result<http::Response<Self::Body>, IntoHttpError> {
        self.0.try_into_http_response_inner()
    }
}
