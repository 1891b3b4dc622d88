//! Server access control lists.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms>

use rules::RoomSnapshot;
use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};

use crate::{Engine, EngineError, Result};

impl Engine {
    /// Whether the room's list lets a server take part. A room without a list, or with one that makes no sense, lets
    /// every server.
    pub(crate) async fn acl_allows(&self, room: &RoomSnapshot, server: &ServerName) -> Result<bool> {
        let acl = self.state_pdu(room, &StateEventType::RoomServerAcl, "").await?;
        let acl = acl.and_then(|event| event.content_as::<RoomServerAclEventContent>());
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
