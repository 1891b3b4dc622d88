//! `POST /_matrix/client/v3/keys/claim`

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId, OwnedOneTimeKeyId, api::client::keys::claim_keys::v3 as claim_keys, encryption::OneTimeKey,
    serde::Raw,
};
use serde_json::value::RawValue;

use super::failures;
use crate::{Arguments, Door, Result};

pub(crate) async fn claim(door: Door, asked: Arguments<claim_keys::Request>) -> Result<claim_keys::Response> {
    let claim_keys::Request { timeout, one_time_keys, .. } = asked.request;
    let wanted = one_time_keys.into_iter().map(|(user_id, devices)| {
        let devices = devices.into_iter().map(|(device_id, algorithm)| (device_id, algorithm.to_string()));
        (user_id, devices.collect())
    });
    let claimed = door.engine.claim_keys(wanted.collect(), timeout).await?;
    let keys = claimed.keys.into_iter().map(|(user_id, devices)| (user_id, of_devices(devices)));
    let mut response = claim_keys::Response::new(keys.collect());
    response.failures = failures(claimed.failures);
    Ok(response)
}

fn of_devices(devices: BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>) -> claim_keys::OneTimeKeys {
    let named = |(name, key): (String, Box<RawValue>)| {
        Some((OwnedOneTimeKeyId::try_from(name).ok()?, Raw::<OneTimeKey>::from_json(key)))
    };
    devices.into_iter().map(|(device_id, keys)| (device_id, keys.into_iter().filter_map(named).collect())).collect()
}
