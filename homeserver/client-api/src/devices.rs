//! `/_matrix/client/v3/devices` and `/delete_devices`

use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::device::{
        Device, delete_device::v3 as delete_device, delete_devices::v3 as delete_devices, get_device::v3 as get_device,
        get_devices::v3 as get_devices, update_device::v3 as update_device,
    },
};

use crate::{Arguments, Door, Result, json::Made};

pub(crate) async fn list(door: Door, asked: Arguments<get_devices::Request>) -> Result<get_devices::Response> {
    let devices = door.engine.devices(&asked.requester.user_id).await?;
    Ok(get_devices::Response::new(devices.into_iter().map(shown).collect()))
}

pub(crate) async fn get(door: Door, asked: Arguments<get_device::Request>) -> Result<get_device::Response> {
    let device = door.engine.device(&asked.requester.user_id, &asked.request.device_id).await?;
    Ok(get_device::Response::new(shown(device)))
}

/// Application services may make devices in this way, without logging them in.
pub(crate) async fn put(door: Door, asked: Arguments<update_device::Request>) -> Result<Made> {
    let Arguments { request, requester, service, .. } = asked;
    let (user_id, display_name) = (&requester.user_id, request.display_name.as_deref());
    if service.is_some() {
        return Ok(Made(door.engine.put_service_device(user_id, &request.device_id, display_name).await?));
    }
    door.engine.rename_device(user_id, &request.device_id, display_name).await?;
    Ok(Made(false))
}

pub(crate) async fn delete(door: Door, asked: Arguments<delete_device::Request>) -> Result<delete_device::Response> {
    confirm(&door, &asked).await?;
    door.engine.delete_devices(&asked.requester.user_id, &[asked.request.device_id]).await?;
    Ok(delete_device::Response::new())
}

pub(crate) async fn delete_several(
    door: Door,
    asked: Arguments<delete_devices::Request>,
) -> Result<delete_devices::Response> {
    confirm(&door, &asked).await?;
    door.engine.delete_devices(&asked.requester.user_id, &asked.request.devices).await?;
    Ok(delete_devices::Response::new())
}

/// Application services need not confirm what they do.
async fn confirm<T>(door: &Door, asked: &Arguments<T>) -> Result<()> {
    if asked.service.is_some() {
        return Ok(());
    }
    door.confirm_password(&asked.requester, &asked.attempt, asked.address).await
}

fn shown(device: storage::Device) -> Device {
    let mut shown = Device::new(device.device_id);
    shown.display_name = device.display_name;
    shown.last_seen_ip = device.last_seen_ip;
    shown.last_seen_ts = device.last_seen_ts.map(|ts| MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts)));
    shown
}
