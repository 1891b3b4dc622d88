//! What other servers ask about our users and aliases.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId};

use crate::{Engine, EngineError, Result};

impl Engine {
    /// The room that an alias of ours points to, and servers that are in it.
    pub async fn federation_query_directory(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        if alias.server_name() != self.server_name() {
            return Err(EngineError::not_found(format!("There is no alias {alias} on this server")));
        }
        self.resolve_local_alias(alias).await
    }
}
