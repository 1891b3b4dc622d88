//! Server access control lists.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms>

use rules::RoomSnapshot;
use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use serde_json::Value;

use crate::{Engine, EngineError, Result};

impl Engine {
    /// Whether the room's list lets a server take part. A room without a list lets every server; a field of a list that
    /// makes no sense counts as absent, as it does on other servers.
    pub(crate) async fn acl_allows(&self, room: &RoomSnapshot, server: &ServerName) -> Result<bool> {
        let acl = self.state_pdu(room, &StateEventType::RoomServerAcl, "").await?;
        let acl = acl.map(|event| read(&event.content_as().unwrap_or_default()));
        Ok(acl.is_none_or(|acl| acl.is_allowed(server)))
    }

    /// Fails unless the server may take part in the room.
    pub(crate) async fn require_acl(&self, room: &RoomSnapshot, server: &ServerName) -> Result<()> {
        if self.acl_allows(room, server).await? {
            return Ok(());
        }
        Err(EngineError::forbidden("The server is banned from the room"))
    }
}

fn read(content: &serde_json::Map<String, Value>) -> RoomServerAclEventContent {
    let list = |field| {
        let entries = content.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        entries.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let allow_ip_literals = content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true);
    RoomServerAclEventContent::new(allow_ip_literals, list("allow"), list("deny"))
}
