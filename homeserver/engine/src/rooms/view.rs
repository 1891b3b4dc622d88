//! What one user may see of one room: the capability that every read path goes through.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::sync::Arc;

use rules::change::Standing;
use rules::{
    RoomSnapshot,
    room::visibility::{Circumstances, may_see, more_involved, more_open},
};
use ruma::{
    OwnedUserId, RoomId, UserId,
    events::{
        TimelineEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};
use storage::{StateSpan, StoredEvent};

use crate::{Engine, EngineError, Result};

/// A user's eyes on a room.
pub(crate) struct RoomView {
    /// The room as it is now.
    pub(crate) room: Arc<RoomSnapshot>,
    /// Who looks.
    pub(crate) user_id: OwnedUserId,
    /// The user's membership through time, oldest first.
    memberships: Vec<StateSpan>,
    /// The room's history visibility through time, oldest first.
    visibilities: Vec<(StateSpan, HistoryVisibility)>,
}

/// An event that the user may see, and what the user was in the room when it happened.
#[derive(Clone)]
pub(crate) struct SeenEvent {
    pub(crate) event: Arc<StoredEvent>,
    pub(crate) membership: MembershipState,
}

impl Engine {
    /// The view of a user on a room, if the user is or was in it, or anyone may read it.
    pub(crate) async fn view(&self, room_id: &RoomId, user_id: &UserId) -> Result<RoomView> {
        let view = self.view_unchecked(room_id, user_id).await?;
        if view.was_ever_joined() || view.is_world_readable() {
            return Ok(view);
        }
        Err(EngineError::forbidden("You are not in this room"))
    }

    /// The view of a user on a room that the user may have nothing to do with: it shows what may be seen, if anything.
    pub(crate) async fn view_unchecked(&self, room_id: &RoomId, user_id: &UserId) -> Result<RoomView> {
        let room = self.known_room(room_id).await?;
        let (memberships, spans) = self.storage().sight_history(room_id, user_id).await?;
        let mut visibilities = Vec::with_capacity(spans.len());
        for span in spans {
            let visibility = self.visibility_of(&span).await?;
            visibilities.push((span, visibility));
        }
        Ok(RoomView { room, user_id: user_id.to_owned(), memberships, visibilities })
    }

    async fn visibility_of(&self, span: &StateSpan) -> Result<HistoryVisibility> {
        let Some(event_id) = &span.event_id else {
            // Before a backfilled change, the setting is not known: assume the strictest.
            return Ok(HistoryVisibility::Joined);
        };
        let event = self.stored_event(event_id).await?;
        let value = event.and_then(|event| event.pdu.content_str("history_visibility"));
        Ok(value.map_or(HistoryVisibility::Shared, Into::into))
    }
}

impl RoomView {
    /// Whether the user is joined now.
    pub(crate) fn is_joined(&self) -> bool {
        self.room.membership(&self.user_id) == MembershipState::Join
    }

    /// Whether the user is or was joined.
    pub(crate) fn was_ever_joined(&self) -> bool {
        self.memberships.iter().any(|span| span.membership == Some(MembershipState::Join))
    }

    /// The order at which the user first joined.
    pub(crate) fn first_joined_at(&self) -> Option<i64> {
        self.memberships.iter().find(|span| span.membership == Some(MembershipState::Join)).map(|span| span.since)
    }

    /// Whether anyone may read the room as it is now.
    pub(crate) fn is_world_readable(&self) -> bool {
        self.visibilities
            .last()
            .is_some_and(|(span, visibility)| span.until.is_none() && *visibility == HistoryVisibility::WorldReadable)
    }

    /// The last order at which the user was joined: `None` when joined now, or never.
    pub(crate) fn left_at(&self) -> Option<i64> {
        if self.is_joined() {
            return None;
        }
        let joined = self.memberships.iter().rev().find(|span| span.membership == Some(MembershipState::Join))?;
        joined.until
    }

    /// The event, if the user may see it.
    pub(crate) fn see(&self, event: Arc<StoredEvent>) -> Option<SeenEvent> {
        if event.standing != Standing::Accepted || event.pdu.room_id != self.room.room_id {
            return None;
        }
        let order = event.order?;
        let circumstances = self.circumstances(&event, order);
        let membership = circumstances.membership_then.clone();
        may_see(&circumstances).then_some(SeenEvent { event, membership })
    }

    fn circumstances(&self, event: &StoredEvent, order: i64) -> Circumstances {
        let mut history_visibility = self.visibility_at(order);
        let mut membership_then = self.membership_at(order);
        if event.pdu.is_state(&TimelineEventType::RoomHistoryVisibility) {
            history_visibility = more_open(history_visibility, self.visibility_at(order - 1));
        }
        let is_own_member_event = event.pdu.event_type == TimelineEventType::RoomMember
            && event.pdu.state_key.as_deref() == Some(self.user_id.as_str());
        if is_own_member_event {
            membership_then = more_involved(membership_then, self.membership_at(order - 1));
        }
        Circumstances { history_visibility, membership_then, joined_since: self.joined_since(order) }
    }

    fn visibility_at(&self, order: i64) -> HistoryVisibility {
        let at = self.visibilities.iter().find(|(span, _)| span.contains(order));
        at.map_or(HistoryVisibility::Shared, |(_, visibility)| visibility.clone())
    }

    pub(crate) fn membership_at(&self, order: i64) -> MembershipState {
        let at = self.memberships.iter().find(|span| span.contains(order));
        at.and_then(|span| span.membership.clone()).unwrap_or(MembershipState::Leave)
    }

    fn joined_since(&self, order: i64) -> bool {
        self.memberships
            .iter()
            .any(|span| span.membership == Some(MembershipState::Join) && span.until.is_none_or(|until| until > order))
    }
}
