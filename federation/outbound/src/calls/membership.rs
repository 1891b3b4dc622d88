//! What joins and leaves have in common: a template from the other server, and the answers of version 1, which stand
//! beside a status.

use http::Method;
use rules::{Pdu, event::read_json};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId, RoomVersionId, ServerName, UserId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{CallError, Federation, exchange::event_body, path::Target};
use crate::CallLimits;

/// The answer to `make_join`, `make_knock` or `make_leave`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The version of the room.
    pub room_version: RoomVersionId,
    /// An event to take `prev_events`, `auth_events` and `depth` from.
    pub event: CanonicalJsonObject,
}

#[derive(Deserialize)]
struct TemplateBody {
    room_version: Option<RoomVersionId>,
    event: Box<RawValue>,
}

/// `[200, {...}]`
#[derive(Deserialize)]
pub(super) struct WithStatus<T>(pub(super) serde::de::IgnoredAny, pub(super) T);

impl Federation {
    /// `verb` is `make_join`, `make_knock` or `make_leave`.
    pub(super) async fn template(
        &self,
        destination: &ServerName,
        verb: &str,
        room_id: &RoomId,
        user_id: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<Template, CallError> {
        let path = Target::new(&format!("/_matrix/federation/v1/{verb}"));
        let path = path.segment(room_id.as_str()).segment(user_id.as_str());
        let target = versions.iter().fold(path, |target, version| target.query("ver", version.as_str()));
        let body: TemplateBody = self.get(destination, target, CallLimits::MAKE_MEMBERSHIP).await?;
        let event = read_json(body.event.get()).map_err(|error| CallError::Malformed(error.to_string()))?;
        // Servers from before there were versions say none.
        Ok(Template { room_version: body.room_version.unwrap_or(RoomVersionId::V1), event })
    }

    /// `verb` is `send_join` or `send_leave`. By version 2, or by version 1 where the server does not know it. `flag` names
    /// a parameter that is to be true.
    pub(super) async fn hand_in<T: DeserializeOwned + Send + 'static>(
        &self,
        destination: &ServerName,
        verb: &str,
        event: &Pdu,
        flag: Option<&str>,
        limits: CallLimits,
    ) -> Result<T, CallError> {
        let body = event_body(&event.json)?;
        let target = |version| {
            let path = Target::new(&format!("/_matrix/federation/{version}/{verb}"));
            let path = path.segment(event.room_id.as_str()).segment(event.event_id.as_str());
            flag.into_iter().fold(path, |path, flag| path.query(flag, "true"))
        };
        match self.call(destination, Method::PUT, target("v2"), Some(body.clone()), limits).await {
            Err(error) if error.is_unknown_endpoint() => {
                let WithStatus(_, answer) =
                    self.call(destination, Method::PUT, target("v1"), Some(body), limits).await?;
                Ok(answer)
            }
            answer => answer,
        }
    }
}

/// Raw JSON as part of a body.
pub(super) fn canonical(raw: &RawValue) -> Result<CanonicalJsonValue, CallError> {
    serde_json::from_str(raw.get()).map_err(|error| CallError::Malformed(format!("our own event: {error}")))
}
