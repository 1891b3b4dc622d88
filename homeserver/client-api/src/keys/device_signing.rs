//! `POST /_matrix/client/v3/keys/device_signing/upload`

use keyserver::CrossSigningKeys;
use ruma::{api::client::keys::upload_signing_keys::v3 as upload_signing_keys, serde::Raw};

use crate::{Arguments, Door, Result};

pub(crate) async fn upload(
    door: Door,
    asked: Arguments<upload_signing_keys::Request>,
) -> Result<upload_signing_keys::Response> {
    let Arguments { request, requester, service, address, attempt, .. } = asked;
    let keys = CrossSigningKeys {
        master: request.master_key.map(Raw::into_json),
        self_signing: request.self_signing_key.map(Raw::into_json),
        user_signing: request.user_signing_key.map(Raw::into_json),
    };
    let upload = door.engine.check_cross_signing(&requester, keys).await?;
    // Application services need not confirm what they do.
    if upload.needs_confirmation && service.is_none() {
        door.confirm_password(&requester, &attempt, address).await?;
    }
    door.engine.store_cross_signing(&requester, upload).await?;
    Ok(upload_signing_keys::Response::new())
}
