//! Who is in a room, and in which rooms a user is.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use std::sync::Arc;

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use storage::{Profile, StoredEvent};

use super::RoomView;
use crate::{ClientEvent, Engine, Requester, Result, sync::TimelineToken};

/// What a member event says of a profile; each field is read by itself, since others may write anything there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MemberProfile {
    displayname: serde_json::Value,
    avatar_url: serde_json::Value,
}

impl Engine {
    /// The member events of a room, now or at a point in the past. With both conditions, one of them is enough.
    pub async fn members(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        at: Option<&str>,
        membership: Option<MembershipState>,
        not_membership: Option<MembershipState>,
    ) -> Result<Vec<ClientEvent>> {
        let at = at.map(TimelineToken::parse).transpose()?.map(|token| token.0);
        self.reading_view(requester, room_id).await?;
        self.whole_room(room_id).await?;
        let view = self.reading_view(requester, room_id).await?;
        let until = [at, view.reads_until()].into_iter().flatten().min();
        let is_member = |event_type: &StateEventType, _: &str| *event_type == StateEventType::RoomMember;
        let mut event_ids = self.readable_state(&view, until, is_member).await?;
        if event_ids.is_empty() && view.reads_until().is_none() {
            // The token of a timeline that begins with the room itself: its first member is its creator.
            let first = self.first_join(&view).await?;
            event_ids = self.readable_state(&view, first, is_member).await?;
        }
        let mut events = self.storage().readable_events(&event_ids).await?;
        let choosing = self.apart(events.len(), move || {
            events.retain(|event| {
                let found = event.pdu.membership().map(|(_, membership)| membership);
                found.is_some_and(|found| is_wanted(&found, membership.as_ref(), not_membership.as_ref()))
            });
            events
        });
        self.client_state(&choosing.await, true).await
    }

    /// The order at which the creator of a room first joined it, or else the asker did, as far as that is known.
    async fn first_join(&self, view: &RoomView) -> Result<Option<i64>> {
        let create = self.state_pdu(&view.room, &StateEventType::RoomCreate, "").await?;
        let creator = create.as_ref().map_or(&view.user_id, |create| &create.sender);
        let member = StateEventType::RoomMember;
        let history = self.storage().state_history(&view.room.room_id, &member, creator.as_str()).await?;
        let is_join = |span: &&storage::StateSpan| span.membership == Some(MembershipState::Join);
        Ok(history.iter().find(is_join).map(|span| span.since).or_else(|| view.first_joined_at()))
    }

    /// The users who are joined to a room, with their profiles in it. For those who are joined too.
    pub async fn joined_members(&self, requester: &Requester, room_id: &RoomId) -> Result<Vec<(OwnedUserId, Profile)>> {
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        let room = self.whole_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        let joined = room.state().filter(|((event_type, _), value)| {
            *event_type == StateEventType::RoomMember && value.membership == Some(MembershipState::Join)
        });
        let event_ids: Vec<OwnedEventId> = joined.map(|(_, value)| value.event_id.clone()).collect();
        let events = self.storage().readable_events(&event_ids).await?;
        Ok(self.apart(events.len(), move || events.iter().filter_map(profile).collect()).await)
    }

    /// The rooms that the asker is joined to.
    pub async fn joined_rooms(&self, requester: &Requester) -> Result<Vec<OwnedRoomId>> {
        let records = self.storage().memberships(&requester.user_id).await?;
        let joined = records.into_iter().filter(|record| record.membership == MembershipState::Join);
        Ok(joined.map(|record| record.room_id).collect())
    }
}

fn is_wanted(found: &MembershipState, wanted: Option<&MembershipState>, unwanted: Option<&MembershipState>) -> bool {
    match (wanted, unwanted) {
        (None, None) => true,
        (wanted, unwanted) => wanted == Some(found) || unwanted.is_some_and(|unwanted| unwanted != found),
    }
}

fn profile(event: &Arc<StoredEvent>) -> Option<(OwnedUserId, Profile)> {
    let (user_id, _) = event.pdu.membership()?;
    let member: MemberProfile = event.pdu.content_as().unwrap_or_default();
    let text = |value: serde_json::Value| value.as_str().map(ToOwned::to_owned);
    Some((user_id, Profile { display_name: text(member.displayname), avatar_url: text(member.avatar_url) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_condition_is_enough() {
        use MembershipState as M;
        for (wanted, unwanted, expected) in [
            (None, None, [true, true, true]),
            (Some(M::Join), None, [true, false, false]),
            (None, Some(M::Leave), [true, true, false]),
            (Some(M::Leave), Some(M::Leave), [true, true, true]),
            (Some(M::Join), Some(M::Invite), [true, false, true]),
        ] {
            let found =
                [M::Join, M::Invite, M::Leave].map(|found| is_wanted(&found, wanted.as_ref(), unwanted.as_ref()));
            assert_eq!(found, expected, "{wanted:?} {unwanted:?}");
        }
    }
}
