//! Updates of device lists as other servers are sent them: as the devices are by then.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#definition-mdevice_list_update>

use rules::change::Position;
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::DeviceListUpdate;

#[derive(Serialize)]
struct Content {
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_display_name: Option<String>,
    stream_id: Position,
    prev_id: Vec<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Box<RawValue>>,
}

/// The content of the EDU. Positions of the log serve as stream ids: they ascend, and each stands for one change.
pub(super) fn content(update: &DeviceListUpdate, names: bool) -> Option<Box<RawValue>> {
    let name = update.display_name.as_deref().filter(|_| names);
    let signatures = update.signatures.iter();
    let signatures =
        signatures.map(|signed| (signed.signer.as_str(), signed.key_id.as_str(), signed.signature.as_str()));
    let content = Content {
        user_id: update.user_id.clone(),
        device_id: update.device_id.clone(),
        device_display_name: name.map(ToOwned::to_owned),
        stream_id: update.stream_id,
        prev_id: Some(update.previous).filter(|previous| *previous > 0).into_iter().collect(),
        deleted: update.deleted.then_some(true),
        keys: update.keys.as_ref().and_then(|record| rules::keys::shown_of_device(&record.keys, signatures, name)),
    };
    to_raw_value(&content).ok()
}
