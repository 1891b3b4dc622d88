//! What other servers ask of our users' devices and their keys.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#device-management>,
//! <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use std::collections::BTreeMap;

use axum::extract::State;
use keyserver::{ClaimedKeys, RemoteDevices};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::federation::{device::get_devices, keys::claim_keys, keys::get_keys},
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Door, error::DoorError, reply::Json, signed::Federation};

/// Keys of users and their devices.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the specification's words")]
pub(crate) struct Keys {
    device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Box<RawValue>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    master_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    self_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
}

/// Keys that were handed out.
#[derive(Serialize)]
pub(crate) struct Claimed {
    one_time_keys: ClaimedKeys,
}

pub(crate) async fn devices(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_devices::v1::Request>,
) -> Result<Json<RemoteDevices>, DoorError> {
    Ok(Json(door.engine.federation_user_devices(&body.user_id).await?))
}

pub(crate) async fn query_keys(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_keys::v1::Request>,
) -> Result<Json<Keys>, DoorError> {
    let found = door.engine.federation_query_keys(body.device_keys).await?;
    Ok(Json(Keys {
        device_keys: found.device_keys,
        master_keys: found.master_keys,
        self_signing_keys: found.self_signing_keys,
    }))
}

pub(crate) async fn claim_keys(
    State(door): State<Door>,
    Federation { body, .. }: Federation<claim_keys::v1::Request>,
) -> Result<Json<Claimed>, DoorError> {
    let wanted = body.one_time_keys.into_iter().map(|(user_id, devices)| {
        let devices = devices.into_iter().map(|(device_id, algorithm)| (device_id, algorithm.to_string()));
        (user_id, devices.collect())
    });
    Ok(Json(Claimed { one_time_keys: door.engine.claim_local_keys(wanted.collect()).await? }))
}
