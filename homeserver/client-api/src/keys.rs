//! `/_matrix/client/v3/keys/...`: the keys of devices and users.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedServerName, UInt, serde::Raw};
use serde_json::value::RawValue;

pub(crate) mod changes;
pub(crate) mod claim;
pub(crate) mod device_signing;
pub(crate) mod query;
pub(crate) mod signatures;
pub(crate) mod upload;

/// Servers that did not answer, as clients want to read it. Why they did not is not the client's business.
fn failures(servers: BTreeSet<OwnedServerName>) -> BTreeMap<String, serde_json::Value> {
    let failure = serde_json::json!({ "errcode": "M_UNKNOWN", "error": "The server does not answer", "status": 503 });
    servers.into_iter().map(|server| (server.to_string(), failure.clone())).collect()
}

/// JSON under the type that a reply wants, by whatever it is listed by.
fn raw_values<K: Ord, T>(values: BTreeMap<K, Box<RawValue>>) -> BTreeMap<K, Raw<T>> {
    values.into_iter().map(|(key, json)| (key, Raw::from_json(json))).collect()
}

/// Numbers of keys by algorithm.
fn counts<A: From<String> + Ord>(counts: BTreeMap<String, u64>) -> BTreeMap<A, UInt> {
    counts.into_iter().map(|(algorithm, count)| (algorithm.into(), UInt::new_saturating(count))).collect()
}
