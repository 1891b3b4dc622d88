//! `GET /_matrix/client/v3/capabilities`

use std::collections::BTreeMap;

use engine::ROOM_VERSIONS;
use ruma::api::client::discovery::get_capabilities::v3::{
    AccountModerationCapability, Capabilities, ChangePasswordCapability, GetLoginTokenCapability,
    ProfileFieldsCapability, Request, RoomVersionStability, RoomVersionsCapability, ThirdPartyIdChangesCapability,
};
use serde::Serialize;
use serde_json::Value;

use crate::{Arguments, Door, Result, error::ApiError, json::Json};

/// The answer as it is written.
#[derive(Serialize)]
pub(crate) struct Answer {
    capabilities: BTreeMap<String, Value>,
}

pub(crate) async fn capabilities(door: Door, asked: Arguments<Request>) -> Result<Json<Answer>> {
    let settings = door.engine.settings();
    let default = settings.default_room_version.clone();
    let available = ROOM_VERSIONS.into_iter().map(|version| (version, RoomVersionStability::Stable)).collect();
    let moderates = door.engine.is_admin(&asked.requester.user_id).await?;
    let mut capabilities = Capabilities::new();
    capabilities.room_versions = RoomVersionsCapability::new(default, available);
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(door.engine.sends_letters());
    capabilities.get_login_token = GetLoginTokenCapability::new(settings.accounts.login_tokens);
    capabilities.profile_fields = Some(ProfileFieldsCapability::new(true));
    capabilities.account_moderation = AccountModerationCapability::new(moderates, moderates);
    let capabilities = serde_json::to_value(capabilities).and_then(serde_json::from_value);
    let mut capabilities: BTreeMap<String, Value> = capabilities.map_err(ApiError::internal)?;
    // ruma leaves this one out where it says what is so without it; clients ask for it by name.
    let change_password = serde_json::to_value(ChangePasswordCapability::new(!asked.guest));
    capabilities.insert("m.change_password".to_owned(), change_password.map_err(ApiError::internal)?);
    Ok(Json(Answer { capabilities }))
}
