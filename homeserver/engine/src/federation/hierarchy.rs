//! Spaces of ours, for other servers.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#spaces>

use ruma::{OwnedRoomId, RoomId, ServerName, room::RoomSummary};

use crate::{
    Engine, EngineError, HierarchyRoom, Result,
    rooms::{MAX_CHILDREN, Viewer},
};

/// How many children are described. The others the asking server finds by itself.
const MAX_CHILDREN_DESCRIBED: usize = 100;

/// A space, and what we may tell of its rooms.
#[derive(Clone, Debug)]
pub struct HierarchyReply {
    /// The space.
    pub room: HierarchyRoom,
    /// Its rooms that we are in and the asker may see.
    pub children: Vec<RoomSummary>,
    /// Its rooms that we are in and the asker may not see.
    pub inaccessible_children: Vec<OwnedRoomId>,
}

impl Engine {
    /// Describes a room and the rooms in it, as far as the asking server may see them.
    pub async fn federation_hierarchy(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<HierarchyReply> {
        let room = self.resident_room(room_id).await?.ok_or_else(not_found)?;
        self.require_acl(&room, origin).await?;
        if !self.may_preview(&room, Viewer::Server(origin)).await? {
            return Err(not_found());
        }
        let children = self.children_of(&room, suggested_only).await?;
        let (mut described, mut inaccessible_children) = (Vec::new(), Vec::new());
        for child in children.iter().take(MAX_CHILDREN_DESCRIBED) {
            let Some(child) = self.resident_room(&child.room_id).await? else { continue };
            if self.acl_allows(&child, origin).await? && self.may_preview(&child, Viewer::Server(origin)).await? {
                described.push(RoomSummary::clone(&*self.summary_of(&child).await?));
            } else {
                inaccessible_children.push(child.room_id.clone());
            }
        }
        let children_state = children.into_iter().take(MAX_CHILDREN).map(|child| child.event).collect();
        let summary = RoomSummary::clone(&*self.summary_of(&room).await?);
        Ok(HierarchyReply {
            room: HierarchyRoom { summary, children_state },
            children: described,
            inaccessible_children,
        })
    }
}

fn not_found() -> EngineError {
    EngineError::not_found("Room not found")
}
