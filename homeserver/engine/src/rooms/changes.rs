//! Making a decision about a room true.

use std::sync::Arc;

use rules::{
    Change, Pdu, RoomSnapshot,
    room::{EventsById, advance::keep_local_memberships, redact},
};
use ruma::{
    OwnedEventId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::value::{RawValue, to_raw_value};
use storage::{CommitError, Committed, RoomGuard, StorageError, StoredEvent, Submission};

use crate::{
    Engine, EngineError, Result,
    client_event::stripped,
    push::{Audience, Movers},
};

/// How often a decision is made anew because another process changed the room meanwhile.
pub(crate) const MAX_ATTEMPTS: usize = 10;

/// The state that invited and knocking users are shown.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
const STRIPPED_STATE: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];

/// What was decided about a room.
pub(crate) struct Decision {
    /// What is to become true.
    pub(crate) changes: Vec<Change>,
    /// The room as it will be.
    pub(crate) room: RoomSnapshot,
}

/// What else a decision starts from than the room.
#[derive(Default)]
pub(super) struct Start {
    /// The event that the room ends with, if that is not stored yet.
    pub(super) follows: Option<OwnedEventId>,
    /// The room's audience, if that is not in memory yet.
    pub(super) audience: Option<Audience>,
}

/// A decision with all that follows from it.
pub(super) struct Prepared {
    pub(super) submission: Submission,
    /// The room as it will be, but for its position and revision.
    pub(super) room: RoomSnapshot,
    pub(super) audience: Option<Audience>,
    pub(super) movers: Option<Movers>,
}

impl Engine {
    /// Commits a decision that was made about `before`, and puts the room as it is then into memory.
    pub(crate) async fn commit_decision(
        &self,
        before: &RoomSnapshot,
        decision: Decision,
    ) -> Result<Committed, CommitError> {
        let Prepared { submission, mut room, audience, movers } =
            self.prepare(before, Start::default(), decision).await?;
        let engine = self.clone();
        let becomes_whole = before.is_partial() && !room.is_partial();
        let remember = move |committed: &Committed| {
            if becomes_whole {
                room.complete_since = committed.position;
            }
            engine.remember_change(room, audience, committed);
        };
        let committed = self.storage().commit_and(submission, remember).await;
        match &committed {
            Ok(_) => {
                if becomes_whole {
                    // The position is that of one change among several: storage knows which.
                    self.forget_snapshot(&before.room_id);
                }
                if let Some(movers) = movers {
                    self.carry_rules_over(movers).await;
                }
            }
            Err(_) => self.forget_snapshot(&before.room_id),
        }
        committed
    }

    /// Works out what else a decision changes.
    pub(super) async fn prepare(
        &self,
        before: &RoomSnapshot,
        start: Start,
        decision: Decision,
    ) -> Result<Prepared, StorageError> {
        let Decision { mut changes, room } = decision;
        keep_local_memberships(&mut changes, self.server_name());
        for change in &mut changes {
            if let Change::Membership { membership, sender, stripped_state, .. } = change
                && matches!(membership, MembershipState::Invite | MembershipState::Knock)
                && stripped_state.is_none()
            {
                let events = self.stripped_state(&room, sender).await.unwrap_or_default();
                *stripped_state = to_raw_value(&events).ok();
            }
        }
        let audience = match self.for_readers(before, &room, &changes, start.audience).await {
            Ok((following, audience)) => {
                changes.extend(following);
                audience
            }
            Err(EngineError::Storage(error)) => return Err(error),
            Err(error) => {
                // The event matters more than who is notified of it.
                tracing::error!(room.id = %room.room_id, %error, "nobody is notified");
                None
            }
        };
        match self.sticky_changes(&room, &changes).await {
            Ok(following) => changes.extend(following),
            Err(EngineError::Storage(error)) => return Err(error),
            Err(error) => tracing::error!(room.id = %room.room_id, %error, "nothing is sticky"),
        }
        let movers = self.movers(before, &room, &changes).await;
        let room_id = before.room_id.clone();
        let guard = RoomGuard { room_id, revision: before.revision, follows: start.follows };
        Ok(Prepared { submission: Submission { room: Some(guard), changes }, room, audience, movers })
    }

    /// Puts a room as a commit left it into memory. `room` is as it was decided to be.
    pub(super) fn remember_change(&self, mut room: RoomSnapshot, audience: Option<Audience>, committed: &Committed) {
        room.revision = committed.revision.unwrap_or(room.revision + 1);
        room.position = committed.position;
        if let Some(audience) = audience {
            self.remember_audience(&room, &audience);
        }
        self.remember_room(room);
    }

    /// The state that a user invited by `sender` is shown, stripped.
    async fn stripped_state(&self, room: &RoomSnapshot, sender: &ruma::UserId) -> Result<Vec<Box<RawValue>>> {
        Ok(self.shown_state(room, sender).await?.iter().filter_map(|event| stripped(&event.pdu)).collect())
    }

    /// The state that a user invited by `sender` is shown, in full.
    pub(crate) async fn shown_state(
        &self,
        room: &RoomSnapshot,
        sender: &ruma::UserId,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let mut event_ids: Vec<OwnedEventId> = STRIPPED_STATE
            .iter()
            .filter_map(|event_type| room.state_event_id(event_type, "").map(ToOwned::to_owned))
            .collect();
        let member = room.state_event_id(&StateEventType::RoomMember, sender.as_str());
        event_ids.extend(member.map(ToOwned::to_owned));
        Ok(self.storage().events(&event_ids).await?)
    }

    /// What a redaction event changes: the target's JSON, when the sender may; when the target is not known yet, that it
    /// is awaited.
    pub(crate) async fn redaction_change(&self, room: &RoomSnapshot, redaction: &Pdu) -> Result<Option<Change>> {
        let Some(target_id) = redaction.redaction_target(room.rules.redaction.content_field_redacts) else {
            return Ok(None);
        };
        let Some(target) = self.stored_event(&target_id).await? else {
            let redacted_by = redaction.event_id.clone();
            return Ok(Some(Change::AwaitedRedaction { event_id: target_id, redacted_by }));
        };
        let levels = self.power_levels(room).await?;
        if target.redacted_by.is_some() || !redact::takes_effect(redaction, &target.pdu, &levels) {
            return Ok(None);
        }
        Ok(redact::change(redaction, &target.pdu, &room.rules))
    }

    /// What users may do in the room as it is.
    pub(crate) async fn power_levels(&self, room: &RoomSnapshot) -> Result<rules::room::authorise::PowerLevels> {
        let create = self
            .state_pdu(room, &StateEventType::RoomCreate, "")
            .await?
            .ok_or_else(|| EngineError::internal(format!("room {} has no create event", room.room_id)))?;
        let levels = self.state_pdu(room, &StateEventType::RoomPowerLevels, "").await?;
        Ok(rules::room::authorise::PowerLevels::new(&room.rules.authorization, create, levels))
    }

    /// The events of the current state for the given keys.
    pub(crate) async fn events_for_keys(
        &self,
        room: &RoomSnapshot,
        keys: &[rules::room::StateKey],
    ) -> Result<EventsById> {
        let ids: Vec<OwnedEventId> = keys
            .iter()
            .filter_map(|(event_type, key)| room.state_event_id(event_type, key).map(ToOwned::to_owned))
            .collect();
        self.events_by_id(&ids).await
    }
}
