//! `/_matrix/client/v3/room_keys/version`

use keyserver::NewBackup;
use ruma::{
    UInt,
    api::client::backup::{
        BackupAlgorithm, create_backup_version::v3 as create_backup_version,
        delete_backup_version::v3 as delete_backup_version, get_backup_info::v3 as get_backup_info,
        get_latest_backup_info::v3 as get_latest_backup_info, update_backup_version::v3 as update_backup_version,
    },
    serde::Raw,
};
use serde::Deserialize;

use crate::{Arguments, Door, Result, error::ApiError};

/// What ruma's type does not hold of an update.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    version: Option<String>,
}

pub(crate) async fn post(
    door: Door,
    asked: Arguments<create_backup_version::Request>,
) -> Result<create_backup_version::Response> {
    let new = read(&asked.request.algorithm)?;
    let version = door.engine.create_key_backup(&asked.requester.user_id, new).await?;
    Ok(create_backup_version::Response::new(version))
}

pub(crate) async fn latest(
    door: Door,
    asked: Arguments<get_latest_backup_info::Request>,
) -> Result<get_latest_backup_info::Response> {
    let found = door.engine.key_backup(&asked.requester.user_id, None).await?;
    let (algorithm, count) = (Raw::from_json(found.algorithm), UInt::new_saturating(found.count));
    Ok(get_latest_backup_info::Response::new(algorithm, count, found.etag, found.version))
}

pub(crate) async fn get(door: Door, asked: Arguments<get_backup_info::Request>) -> Result<get_backup_info::Response> {
    let found = door.engine.key_backup(&asked.requester.user_id, Some(&asked.request.version)).await?;
    let (algorithm, count) = (Raw::from_json(found.algorithm), UInt::new_saturating(found.count));
    Ok(get_backup_info::Response::new(algorithm, count, found.etag, found.version))
}

pub(crate) async fn put(
    door: Door,
    asked: Arguments<update_backup_version::Request>,
) -> Result<update_backup_version::Response> {
    let update_backup_version::Request { version, algorithm, .. } = asked.request;
    let named: Named = serde_json::from_slice(&asked.body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    if named.version.is_some_and(|named| named != version) {
        return Err(ApiError::invalid_param("The body is of another version than the path"));
    }
    door.engine.update_key_backup(&asked.requester.user_id, &version, read(&algorithm)?).await?;
    Ok(update_backup_version::Response::new())
}

pub(crate) async fn delete(
    door: Door,
    asked: Arguments<delete_backup_version::Request>,
) -> Result<delete_backup_version::Response> {
    door.engine.delete_key_backup(&asked.requester.user_id, &asked.request.version).await?;
    Ok(delete_backup_version::Response::new())
}

fn read(algorithm: &Raw<BackupAlgorithm>) -> Result<NewBackup> {
    serde_json::from_str(algorithm.json().get()).map_err(|error| ApiError::bad_json(error.to_string()))
}
