//! The summary of a room: how many members it has, and who stands for them when it has no name.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::sync::Arc;

use rules::{RoomSnapshot, change::StateEntry};
use ruma::{
    OwnedEventId, OwnedUserId, UInt, UserId,
    api::client::sync::sync_events::v3::RoomSummary,
    events::{StateEventType, room::member::MembershipState},
};
use storage::StoredEvent;

use crate::{Engine, Result};

/// How many heroes a room has.
const HEROES_MAX: usize = 5;
/// Up to how many members are put into the order in which they came. Clients name larger rooms by their count anyway.
const ORDERED_MEMBERS_MAX: usize = 32;

/// Whether changes of the state change the summary.
pub(crate) fn is_affected(changes: &[StateEntry]) -> bool {
    let matters = [StateEventType::RoomMember, StateEventType::RoomName, StateEventType::RoomCanonicalAlias];
    changes.iter().any(|entry| matters.contains(&entry.event_type))
}

impl Engine {
    /// The summary of a room for a user.
    pub(crate) async fn summary(&self, room: &RoomSnapshot, user_id: &UserId) -> Result<RoomSummary> {
        let mut summary = RoomSummary::new();
        summary.joined_member_count = Some(UInt::new_saturating(room.joined_count()));
        summary.invited_member_count = Some(UInt::new_saturating(room.invited_count()));
        if !self.has_name(room).await? {
            summary.heroes = self.heroes(room, user_id).await?;
        }
        Ok(summary)
    }

    async fn has_name(&self, room: &RoomSnapshot) -> Result<bool> {
        let name = self.state_pdu(room, &StateEventType::RoomName, "").await?;
        if name.and_then(|event| event.content_str("name")).is_some_and(|name| !name.is_empty()) {
            return Ok(true);
        }
        let alias = self.state_pdu(room, &StateEventType::RoomCanonicalAlias, "").await?;
        Ok(alias.and_then(|event| event.content_str("alias")).is_some_and(|alias| !alias.is_empty()))
    }

    async fn heroes(&self, room: &RoomSnapshot, user_id: &UserId) -> Result<Vec<OwnedUserId>> {
        let present = [MembershipState::Join, MembershipState::Invite];
        let past = [MembershipState::Leave, MembershipState::Ban];
        let mut heroes = others(room, user_id, &present);
        if heroes.is_empty() {
            heroes = others(room, user_id, &past);
        }
        if heroes.len() <= ORDERED_MEMBERS_MAX {
            heroes = self.in_order_of_arrival(room, heroes).await?;
        }
        heroes.truncate(HEROES_MAX);
        Ok(heroes)
    }

    async fn in_order_of_arrival(&self, room: &RoomSnapshot, users: Vec<OwnedUserId>) -> Result<Vec<OwnedUserId>> {
        let member = |user_id: &OwnedUserId| room.state_event_id(&StateEventType::RoomMember, user_id.as_str());
        let event_ids: Vec<OwnedEventId> = users.iter().filter_map(member).map(ToOwned::to_owned).collect();
        let events = self.storage().readable_events(&event_ids).await?;
        let arrival = |event: &Arc<StoredEvent>| Some((event.order, event.pdu.membership()?.0));
        let mut arrivals: Vec<(Option<i64>, OwnedUserId)> = events.iter().filter_map(arrival).collect();
        arrivals.sort_unstable();
        Ok(arrivals.into_iter().map(|(_, user_id)| user_id).collect())
    }
}

/// All but the user who have one of the memberships, by their ids.
fn others(room: &RoomSnapshot, user_id: &UserId, memberships: &[MembershipState]) -> Vec<OwnedUserId> {
    let members = memberships.iter().flat_map(|membership| room.members(membership));
    let mut others: Vec<OwnedUserId> = members.filter(|member| member != user_id).collect();
    others.sort_unstable();
    others
}
