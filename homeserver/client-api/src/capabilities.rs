//! `GET /_matrix/client/v3/capabilities`

use engine::ROOM_VERSIONS;
use ruma::{
    api::client::discovery::get_capabilities::v3::{
        Capabilities, ChangePasswordCapability, ProfileFieldsCapability, Request, Response, RoomVersionStability,
        RoomVersionsCapability, ThirdPartyIdChangesCapability,
    },
    profile::ProfileFieldName,
};

use crate::{Arguments, Door, Result};

pub(crate) async fn capabilities(door: Door, _: Arguments<Request>) -> Result<Response> {
    let default = door.engine.settings().default_room_version.clone();
    let available = ROOM_VERSIONS.into_iter().map(|version| (version, RoomVersionStability::Stable)).collect();
    let mut profile_fields = ProfileFieldsCapability::new(true);
    profile_fields.allowed = Some(vec![ProfileFieldName::DisplayName, ProfileFieldName::AvatarUrl]);
    let mut capabilities = Capabilities::new();
    capabilities.change_password = ChangePasswordCapability::new(true);
    capabilities.room_versions = RoomVersionsCapability::new(default, available);
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    capabilities.profile_fields = Some(profile_fields);
    Ok(Response::new(capabilities))
}
