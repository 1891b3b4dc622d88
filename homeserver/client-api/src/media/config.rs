//! `GET /_matrix/client/v1/media/config`, `GET /_matrix/media/v3/config`

use ruma::{
    UInt,
    api::client::{authenticated_media::get_media_config as current, media::get_media_config as before},
};

use crate::{Arguments, Door, Result};

pub(crate) async fn config(door: Door, _: Arguments<current::v1::Request>) -> Result<current::v1::Response> {
    Ok(current::v1::Response::new(upload_size(&door)))
}

#[expect(deprecated, reason = "the endpoint is")]
pub(crate) async fn config_before(door: Door, _: Arguments<before::v3::Request>) -> Result<before::v3::Response> {
    Ok(before::v3::Response::new(upload_size(&door)))
}

fn upload_size(door: &Door) -> UInt {
    UInt::new_saturating(door.engine.settings().media.upload_max_bytes)
}
