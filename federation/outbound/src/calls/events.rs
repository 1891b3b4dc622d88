//! Events that this server lacks.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, RoomId, ServerName, UInt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

#[derive(Deserialize)]
struct Pdus {
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pdus: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Events {
    // Some servers leave out a list that is empty.
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    events: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct AuthChain {
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    auth_chain: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct AtTime {
    event_id: OwnedEventId,
    origin_server_ts: u64,
}

impl Federation {
    /// Events before the given ones.
    pub async fn backfill(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>, CallError> {
        let path = Target::new("/_matrix/federation/v1/backfill").segment(room_id.as_str());
        let target = from.iter().fold(path, |target, event_id| target.query("v", event_id.as_str()));
        let target = target.query("limit", &limit.to_string());
        let Pdus { pdus } = self.get(destination, target, CallLimits::BACKFILL).await?;
        Ok(pdus)
    }

    /// Events between `earliest`, which we have, and `latest`.
    pub async fn missing_events(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
        min_depth: u64,
    ) -> Result<Vec<Box<RawValue>>, CallError> {
        let ids = |ids: &[OwnedEventId]| {
            CanonicalJsonValue::Array(ids.iter().map(|id| CanonicalJsonValue::String(id.to_string())).collect())
        };
        let integer = |value: u64| CanonicalJsonValue::Integer(UInt::new_saturating(value).into());
        let body = CanonicalJsonObject::from([
            ("earliest_events".to_owned(), ids(earliest)),
            ("latest_events".to_owned(), ids(latest)),
            ("limit".to_owned(), integer(limit as u64)),
            ("min_depth".to_owned(), integer(min_depth)),
        ]);
        let target = Target::new("/_matrix/federation/v1/get_missing_events").segment(room_id.as_str());
        let Events { events } =
            self.call(destination, Method::POST, target, Some(body), CallLimits::MISSING_EVENTS).await?;
        Ok(events)
    }

    /// One event.
    pub async fn event(&self, destination: &ServerName, event_id: &EventId) -> Result<Box<RawValue>, CallError> {
        let target = Target::new("/_matrix/federation/v1/event").segment(event_id.as_str());
        let Pdus { mut pdus } = self.get(destination, target, CallLimits::EVENT).await?;
        match (pdus.pop(), pdus.is_empty()) {
            (Some(event), true) => Ok(event),
            _ => Err(CallError::Malformed("not exactly one event".to_owned())),
        }
    }

    /// The event of a room that is closest to a time, at it or after, or at it or before; with its time.
    pub async fn timestamp_to_event(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        ts: u64,
        forward: bool,
    ) -> Result<(OwnedEventId, u64), CallError> {
        let target = Target::new("/_matrix/federation/v1/timestamp_to_event").segment(room_id.as_str());
        let target = target.query("ts", &ts.to_string()).query("dir", if forward { "f" } else { "b" });
        let AtTime { event_id, origin_server_ts } = self.get(destination, target, CallLimits::QUERY).await?;
        Ok((event_id, origin_server_ts))
    }

    /// The auth chain of an event.
    pub async fn event_auth(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Box<RawValue>>, CallError> {
        let path = Target::new("/_matrix/federation/v1/event_auth");
        let target = path.segment(room_id.as_str()).segment(event_id.as_str());
        let AuthChain { auth_chain } = self.get(destination, target, CallLimits::EVENT_AUTH).await?;
        Ok(auth_chain)
    }
}
