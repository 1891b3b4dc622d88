//! `/_matrix/client/v3/admin/whois/...`, `/_matrix/client/v1/admin/...`, and what administrators ask for at the paths
//! `/_synapse/admin/v1/...`, which their tools know.

pub(crate) mod event_reports;
pub(crate) mod send_server_notice;

use std::collections::BTreeMap;

use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::admin::{
        get_user_info::v3::{self as whois, ConnectionInfo, DeviceInfo, SessionInfo},
        is_user_locked::v1 as is_locked,
        is_user_suspended::v1 as is_suspended,
        lock_user::v1 as lock,
        suspend_user::v1 as suspend,
    },
};

use crate::{Arguments, Door, Result};

pub(crate) async fn whois(door: Door, asked: Arguments<whois::Request>) -> Result<whois::Response> {
    let user_id = asked.request.user_id;
    let devices = door.engine.whois(&asked.requester, &user_id).await?;
    let devices: BTreeMap<_, _> =
        devices.into_iter().map(|device| (device.device_id.to_string(), shown(device))).collect();
    let mut response = whois::Response::new();
    response.user_id = Some(user_id);
    response.devices = devices;
    Ok(response)
}

fn shown(device: storage::Device) -> DeviceInfo {
    let mut connection = ConnectionInfo::new();
    connection.ip = device.last_seen_ip;
    connection.last_seen = device.last_seen_ts.map(|ts| MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts)));
    let mut session = SessionInfo::new();
    session.connections = vec![connection];
    let mut info = DeviceInfo::new();
    info.sessions = vec![session];
    info
}

pub(crate) async fn is_locked(door: Door, asked: Arguments<is_locked::Request>) -> Result<is_locked::Response> {
    let locked = door.engine.is_locked(&asked.requester, &asked.request.user_id).await?;
    Ok(is_locked::Response::new(locked))
}

pub(crate) async fn lock(door: Door, asked: Arguments<lock::Request>) -> Result<lock::Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.lock(&requester, &request.user_id, request.locked).await?;
    Ok(lock::Response::new(request.locked))
}

pub(crate) async fn is_suspended(
    door: Door,
    asked: Arguments<is_suspended::Request>,
) -> Result<is_suspended::Response> {
    let suspended = door.engine.is_suspended(&asked.requester, &asked.request.user_id).await?;
    Ok(is_suspended::Response::new(suspended))
}

pub(crate) async fn suspend(door: Door, asked: Arguments<suspend::Request>) -> Result<suspend::Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.suspend(&requester, &request.user_id, request.suspended).await?;
    Ok(suspend::Response::new(request.suspended))
}
