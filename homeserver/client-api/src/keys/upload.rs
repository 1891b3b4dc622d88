//! `POST /_matrix/client/v3/keys/upload`

use std::collections::BTreeMap;

use keyserver::Upload;
use ruma::{OwnedOneTimeKeyId, api::client::keys::upload_keys::v3 as upload_keys, serde::Raw};
use serde_json::value::RawValue;

use super::counts;
use crate::{Arguments, Door, Result};

pub(crate) async fn upload(door: Door, asked: Arguments<upload_keys::Request>) -> Result<upload_keys::Response> {
    let Arguments { request, requester, .. } = asked;
    let upload = Upload {
        device_keys: request.device_keys.map(Raw::into_json),
        one_time_keys: by_name(request.one_time_keys),
        fallback_keys: by_name(request.fallback_keys),
    };
    let left = door.engine.upload_keys(&requester, upload).await?;
    Ok(upload_keys::Response::new(counts(left.one_time_keys)))
}

fn by_name<T>(keys: BTreeMap<OwnedOneTimeKeyId, Raw<T>>) -> BTreeMap<String, Box<RawValue>> {
    keys.into_iter().map(|(name, key)| (name.to_string(), key.into_json())).collect()
}
