//! What other servers know: profiles of their users, rooms behind their aliases.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

/// The answer to a query for a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileAnswer {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar.
    pub avatar_url: Option<String>,
    /// All other fields.
    pub fields: BTreeMap<String, Value>,
}

/// The answer to a query for an alias.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers in it.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub servers: Vec<OwnedServerName>,
}

impl Federation {
    /// The profile of a user of that server. A display name or avatar that is no text is left out.
    pub async fn query_profile(&self, destination: &ServerName, user_id: &UserId) -> Result<ProfileAnswer, CallError> {
        let target = Target::new("/_matrix/federation/v1/query/profile").query("user_id", user_id.as_str());
        let mut profile: Map<String, Value> = self.get(destination, target, CallLimits::QUERY).await?;
        let mut text = |field: &str| match profile.remove(field) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (display_name, avatar_url) = (text("displayname"), text("avatar_url"));
        Ok(ProfileAnswer { display_name, avatar_url, fields: profile.into_iter().collect() })
    }

    /// The room that an alias of that server stands for.
    pub async fn query_directory(
        &self,
        destination: &ServerName,
        alias: &RoomAliasId,
    ) -> Result<DirectoryAnswer, CallError> {
        let target = Target::new("/_matrix/federation/v1/query/directory").query("room_alias", alias.as_str());
        self.get(destination, target, CallLimits::QUERY).await
    }
}
