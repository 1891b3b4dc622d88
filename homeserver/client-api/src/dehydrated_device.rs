//! `/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`: the device that a user leaves behind.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use std::collections::BTreeMap;

use keyserver::{NewDehydratedDevice, Upload};
use ruma::{OwnedDeviceId, api::auth_scheme::AccessToken, events::AnyToDeviceEvent, serde::Raw};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    Arguments, Door, Result,
    error::ApiError,
    json::Json,
    own_request::{OwnRequest, own_request},
    query,
};

own_request!(
    /// Leave a device behind.
    Put,
    PUT "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
    AccessToken
);

own_request!(
    /// Which device did I leave behind?
    Get,
    GET "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
    AccessToken
);

own_request!(
    /// Forget the device that I left behind.
    Delete,
    DELETE "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
    AccessToken
);

own_request!(
    /// What did it receive?
    Events,
    GET "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
    AccessToken
);

own_request!(
    /// The same, as earlier drafts of the proposal had it.
    EventsByBody,
    POST "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
    AccessToken
);

/// A device as it is left behind.
#[derive(Deserialize)]
struct New {
    device_id: OwnedDeviceId,
    device_data: Box<RawValue>,
    #[serde(default)]
    initial_device_display_name: Option<String>,
    #[serde(default)]
    device_keys: Option<Box<RawValue>>,
    #[serde(default)]
    one_time_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    fallback_keys: BTreeMap<String, Box<RawValue>>,
}

/// A device by its name.
#[derive(Serialize)]
pub(crate) struct Named {
    device_id: OwnedDeviceId,
}

/// A device with what brings it back to life.
#[derive(Serialize)]
pub(crate) struct Found {
    device_id: OwnedDeviceId,
    device_data: Box<RawValue>,
}

/// Some of what it received.
#[derive(Serialize)]
pub(crate) struct Received {
    events: Vec<Raw<AnyToDeviceEvent>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    next_batch: Option<String>,
}

pub(crate) async fn put(door: Door, asked: Arguments<Put>) -> Result<Json<Named>> {
    let new: New = read(&asked.body)?;
    let device_id = new.device_id.clone();
    let keys =
        Upload { device_keys: new.device_keys, one_time_keys: new.one_time_keys, fallback_keys: new.fallback_keys };
    let new = NewDehydratedDevice {
        device_id: new.device_id,
        device_data: new.device_data,
        display_name: new.initial_device_display_name,
        keys,
    };
    door.engine.put_dehydrated_device(&asked.requester.user_id, new).await?;
    Ok(Json(Named { device_id }))
}

pub(crate) async fn get(door: Door, asked: Arguments<Get>) -> Result<Json<Found>> {
    let device = door.engine.dehydrated_device(&asked.requester.user_id).await?;
    Ok(Json(Found { device_id: device.device_id, device_data: device.device_data }))
}

pub(crate) async fn delete(door: Door, asked: Arguments<Delete>) -> Result<Json<Named>> {
    let device_id = door.engine.delete_dehydrated_device(&asked.requester.user_id).await?;
    Ok(Json(Named { device_id }))
}

/// There is a `next_batch` for as long as there is more.
pub(crate) async fn events(door: Door, asked: Arguments<Events>) -> Result<Json<Received>> {
    let from = query::parameter(&asked.query, "from")?;
    let limit = query::parameter(&asked.query, "limit")?;
    let limit = limit.map(|limit| limit.parse().map_err(|_| ApiError::invalid_param("`limit` is no number")));
    let (user_id, device_id) = (&asked.requester.user_id, asked.request.parameter(0).into());
    let found = door.engine.dehydrated_messages(user_id, device_id, from.as_deref(), limit.transpose()?).await?;
    Ok(Json(Received { events: found.events, next_batch: Some(found.next_batch).filter(|_| found.has_more) }))
}

/// There always is a `next_batch`; who asks so ends with an answer that has no events.
pub(crate) async fn events_by_body(door: Door, asked: Arguments<EventsByBody>) -> Result<Json<Received>> {
    let After { next_batch } = read(&asked.body)?;
    let (user_id, device_id) = (&asked.requester.user_id, asked.request.parameter(0).into());
    let found = door.engine.dehydrated_messages(user_id, device_id, next_batch.as_deref(), None).await?;
    Ok(Json(Received { events: found.events, next_batch: Some(found.next_batch) }))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_json(error.to_string()))
}
