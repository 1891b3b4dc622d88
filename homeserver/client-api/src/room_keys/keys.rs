//! `/_matrix/client/v3/room_keys/keys`, of all rooms, of one, and of one session

use std::collections::BTreeMap;

use engine::EngineError;
use ruma::{
    UInt,
    api::client::backup::{
        KeyBackupData, RoomKeyBackup, add_backup_keys::v3 as add_backup_keys,
        add_backup_keys_for_room::v3 as add_backup_keys_for_room,
        add_backup_keys_for_session::v3 as add_backup_keys_for_session, delete_backup_keys::v3 as delete_backup_keys,
        delete_backup_keys_for_room::v3 as delete_backup_keys_for_room,
        delete_backup_keys_for_session::v3 as delete_backup_keys_for_session, get_backup_keys::v3 as get_backup_keys,
        get_backup_keys_for_room::v3 as get_backup_keys_for_room,
        get_backup_keys_for_session::v3 as get_backup_keys_for_session,
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::{Arguments, Door, Result};

pub(crate) async fn put(door: Door, asked: Arguments<add_backup_keys::Request>) -> Result<add_backup_keys::Response> {
    let add_backup_keys::Request { version, rooms, .. } = asked.request;
    let keys = rooms.into_iter().map(|(room_id, backup)| (room_id, plain(backup.sessions))).collect();
    let done = door.engine.add_backup_keys(&asked.requester.user_id, &version, keys).await?;
    Ok(add_backup_keys::Response::new(done.etag, UInt::new_saturating(done.count)))
}

pub(crate) async fn put_of_room(
    door: Door,
    asked: Arguments<add_backup_keys_for_room::Request>,
) -> Result<add_backup_keys_for_room::Response> {
    let add_backup_keys_for_room::Request { version, room_id, sessions, .. } = asked.request;
    let keys = [(room_id, plain(sessions))].into();
    let done = door.engine.add_backup_keys(&asked.requester.user_id, &version, keys).await?;
    Ok(add_backup_keys_for_room::Response::new(done.etag, UInt::new_saturating(done.count)))
}

pub(crate) async fn put_one(
    door: Door,
    asked: Arguments<add_backup_keys_for_session::Request>,
) -> Result<add_backup_keys_for_session::Response> {
    let add_backup_keys_for_session::Request { version, room_id, session_id, session_data, .. } = asked.request;
    let keys = [(room_id, [(session_id, session_data.into_json())].into())].into();
    let done = door.engine.add_backup_keys(&asked.requester.user_id, &version, keys).await?;
    Ok(add_backup_keys_for_session::Response::new(done.etag, UInt::new_saturating(done.count)))
}

pub(crate) async fn get(door: Door, asked: Arguments<get_backup_keys::Request>) -> Result<get_backup_keys::Response> {
    let keys = door.engine.backup_keys(&asked.requester.user_id, &asked.request.version, None, None).await?;
    let rooms = keys.into_iter().map(|(room_id, sessions)| (room_id, RoomKeyBackup::new(shown(sessions))));
    Ok(get_backup_keys::Response::new(rooms.collect()))
}

pub(crate) async fn get_of_room(
    door: Door,
    asked: Arguments<get_backup_keys_for_room::Request>,
) -> Result<get_backup_keys_for_room::Response> {
    let get_backup_keys_for_room::Request { version, room_id, .. } = asked.request;
    let mut keys = door.engine.backup_keys(&asked.requester.user_id, &version, Some(&room_id), None).await?;
    Ok(get_backup_keys_for_room::Response::new(shown(keys.remove(&room_id).unwrap_or_default())))
}

pub(crate) async fn get_one(
    door: Door,
    asked: Arguments<get_backup_keys_for_session::Request>,
) -> Result<get_backup_keys_for_session::Response> {
    let get_backup_keys_for_session::Request { version, room_id, session_id, .. } = asked.request;
    let user_id = &asked.requester.user_id;
    let mut keys = door.engine.backup_keys(user_id, &version, Some(&room_id), Some(&session_id)).await?;
    let key = keys.remove(&room_id).and_then(|mut sessions| sessions.remove(&session_id));
    let key = key.ok_or_else(|| EngineError::NotFound("No such key in the backup".to_owned()))?;
    Ok(get_backup_keys_for_session::Response::new(Raw::from_json(key)))
}

pub(crate) async fn delete(
    door: Door,
    asked: Arguments<delete_backup_keys::Request>,
) -> Result<delete_backup_keys::Response> {
    let done = door.engine.delete_backup_keys(&asked.requester.user_id, &asked.request.version, None, None).await?;
    Ok(delete_backup_keys::Response::new(done.etag, UInt::new_saturating(done.count)))
}

pub(crate) async fn delete_of_room(
    door: Door,
    asked: Arguments<delete_backup_keys_for_room::Request>,
) -> Result<delete_backup_keys_for_room::Response> {
    let delete_backup_keys_for_room::Request { version, room_id, .. } = asked.request;
    let done = door.engine.delete_backup_keys(&asked.requester.user_id, &version, Some(&room_id), None).await?;
    Ok(delete_backup_keys_for_room::Response::new(done.etag, UInt::new_saturating(done.count)))
}

pub(crate) async fn delete_one(
    door: Door,
    asked: Arguments<delete_backup_keys_for_session::Request>,
) -> Result<delete_backup_keys_for_session::Response> {
    let delete_backup_keys_for_session::Request { version, room_id, session_id, .. } = asked.request;
    let user_id = &asked.requester.user_id;
    let done = door.engine.delete_backup_keys(user_id, &version, Some(&room_id), Some(&session_id)).await?;
    Ok(delete_backup_keys_for_session::Response::new(done.etag, UInt::new_saturating(done.count)))
}

fn plain(sessions: BTreeMap<String, Raw<KeyBackupData>>) -> BTreeMap<String, Box<RawValue>> {
    sessions.into_iter().map(|(session_id, key)| (session_id, key.into_json())).collect()
}

fn shown(sessions: BTreeMap<String, Box<RawValue>>) -> BTreeMap<String, Raw<KeyBackupData>> {
    sessions.into_iter().map(|(session_id, key)| (session_id, Raw::from_json(key))).collect()
}
