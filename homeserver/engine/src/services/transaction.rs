//! What stands in a transaction.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#put_matrixappv1transactionstxnid>, with the encryption
//! parts of MSC3202 and MSC4203.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{EngineError, Result};

/// What a service is sent at once.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) events: Vec<Box<RawValue>>,
    pub(super) ephemeral: Vec<Box<RawValue>>,
    pub(super) to_device: Vec<Box<RawValue>>,
    /// Users whose devices changed.
    pub(super) changed_devices: BTreeSet<OwnedUserId>,
    /// Users with whom the service's users share no room any more.
    pub(super) left_devices: BTreeSet<OwnedUserId>,
    /// What devices of the service's users have left of one-time keys.
    pub(super) one_time_keys: PerDevice<BTreeMap<String, u64>>,
    /// And of fallback keys, by algorithm.
    pub(super) fallback_keys: PerDevice<Vec<String>>,
    /// How much of that there is.
    pub(super) bytes: usize,
}

/// By user and device.
pub(super) type PerDevice<T> = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, T>>;

#[derive(Serialize)]
struct DeviceLists<'a> {
    changed: &'a BTreeSet<OwnedUserId>,
    left: &'a BTreeSet<OwnedUserId>,
}

/// What is not in the specification, or was not from the beginning, stands under both of its names.
#[derive(Serialize)]
struct Body<'a> {
    events: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ephemeral: &'a [Box<RawValue>],
    #[serde(rename = "de.sorunome.msc2409.ephemeral", skip_serializing_if = "<[_]>::is_empty")]
    ephemeral_msc2409: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    to_device: &'a [Box<RawValue>],
    #[serde(rename = "de.sorunome.msc2409.to_device", skip_serializing_if = "<[_]>::is_empty")]
    to_device_msc2409: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "Option::is_none")]
    device_lists: Option<DeviceLists<'a>>,
    #[serde(rename = "org.matrix.msc3202.device_lists", skip_serializing_if = "Option::is_none")]
    device_lists_msc3202: Option<DeviceLists<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    device_one_time_keys_count: &'a PerDevice<BTreeMap<String, u64>>,
    #[serde(rename = "org.matrix.msc3202.device_one_time_keys_count", skip_serializing_if = "BTreeMap::is_empty")]
    device_one_time_keys_count_msc3202: &'a PerDevice<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    device_unused_fallback_key_types: &'a PerDevice<Vec<String>>,
    #[serde(
        rename = "org.matrix.msc3202.device_unused_fallback_key_types",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    device_unused_fallback_key_types_msc3202: &'a PerDevice<Vec<String>>,
}

impl Contents {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.ephemeral.is_empty()
            && self.to_device.is_empty()
            && self.changed_devices.is_empty()
            && self.left_devices.is_empty()
    }

    pub(super) fn add_event(&mut self, event: Box<RawValue>) {
        self.bytes += event.get().len();
        self.events.push(event);
    }

    pub(super) fn add_ephemeral(&mut self, event: Box<RawValue>) {
        self.bytes += event.get().len();
        self.ephemeral.push(event);
    }

    pub(super) fn add_to_device(&mut self, message: Box<RawValue>) {
        self.bytes += message.get().len();
        self.to_device.push(message);
    }

    /// The body of the request.
    pub(super) fn body(&self) -> Result<String> {
        let (changed, left) = (&self.changed_devices, &self.left_devices);
        let has_lists = !changed.is_empty() || !left.is_empty();
        let device_lists = || has_lists.then_some(DeviceLists { changed, left });
        let body = Body {
            events: &self.events,
            ephemeral: &self.ephemeral,
            ephemeral_msc2409: &self.ephemeral,
            to_device: &self.to_device,
            to_device_msc2409: &self.to_device,
            device_lists: device_lists(),
            device_lists_msc3202: device_lists(),
            device_one_time_keys_count: &self.one_time_keys,
            device_one_time_keys_count_msc3202: &self.one_time_keys,
            device_unused_fallback_key_types: &self.fallback_keys,
            device_unused_fallback_key_types_msc3202: &self.fallback_keys,
        };
        serde_json::to_string(&body).map_err(EngineError::internal)
    }
}
