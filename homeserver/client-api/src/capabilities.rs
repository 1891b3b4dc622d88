//! `GET /_matrix/client/v3/capabilities`

use engine::ROOM_VERSIONS;
use ruma::api::client::discovery::get_capabilities::v3::{
    AccountModerationCapability, Capabilities, ChangePasswordCapability, GetLoginTokenCapability,
    ProfileFieldsCapability, Request, Response, RoomVersionStability, RoomVersionsCapability,
    ThirdPartyIdChangesCapability,
};

use crate::{Arguments, Door, Result};

pub(crate) async fn capabilities(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let settings = door.engine.settings();
    let default = settings.default_room_version.clone();
    let available = ROOM_VERSIONS.into_iter().map(|version| (version, RoomVersionStability::Stable)).collect();
    let moderates = door.engine.is_admin(&asked.requester.user_id).await?;
    let mut capabilities = Capabilities::new();
    capabilities.change_password = ChangePasswordCapability::new(!asked.guest);
    capabilities.room_versions = RoomVersionsCapability::new(default, available);
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(door.engine.sends_letters());
    capabilities.get_login_token = GetLoginTokenCapability::new(settings.accounts.login_tokens);
    capabilities.profile_fields = Some(ProfileFieldsCapability::new(true));
    capabilities.account_moderation = AccountModerationCapability::new(moderates, moderates);
    Ok(Response::new(capabilities))
}
