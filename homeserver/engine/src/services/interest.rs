//! What a service hears of.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#registration>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appservices::Service;
use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};

use crate::{Engine, Result};

/// Of how many rooms it is remembered which of the service's users are in it.
const ROOMS_MAX: usize = 10_000;

/// What a service hears of, as of the position that its queue has read.
pub(super) struct Interest {
    service: Arc<Service>,
    /// The service's users that are joined to a room, for rooms that were asked for.
    members: BTreeMap<OwnedRoomId, BTreeSet<OwnedUserId>>,
    /// Whether a room has an alias of the service, for rooms that were asked for in this batch.
    aliases: BTreeMap<OwnedRoomId, bool>,
}

impl Interest {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service, members: BTreeMap::new(), aliases: BTreeMap::new() }
    }

    /// A new batch of log entries begins: aliases may have changed, which no log tells of.
    pub(super) fn begin(&mut self) {
        self.aliases.clear();
    }

    /// All is to be looked up again, since the log is read again from somewhere before.
    pub(super) fn forget(&mut self) {
        self.members.clear();
    }

    /// Whether the service hears what happens in a room at a position.
    pub(super) async fn in_room(&mut self, engine: &Engine, room_id: &RoomId, position: Position) -> Result<bool> {
        Ok(self.service.covers_room(room_id)
            || !self.members(engine, room_id, position).await?.is_empty()
            || self.by_alias(engine, room_id).await?)
    }

    /// Whether the service hears of what a user does, wherever that is.
    pub(super) fn in_user(&self, user_id: Option<&UserId>) -> bool {
        user_id.is_some_and(|user_id| self.service.covers_user(user_id))
    }

    /// The service's users who are in a room at a position.
    pub(super) async fn members(
        &mut self,
        engine: &Engine,
        room_id: &RoomId,
        position: Position,
    ) -> Result<&BTreeSet<OwnedUserId>> {
        if !self.members.contains_key(room_id) {
            if self.members.len() >= ROOMS_MAX {
                self.members.clear();
            }
            let members = engine.storage().local_members_at(room_id, position).await?;
            let covered = Engine::covered(&self.service, members).collect();
            self.members.insert(room_id.to_owned(), covered);
        }
        Ok(self.members.entry(room_id.to_owned()).or_default())
    }

    /// A user's membership changed at the position that is read now.
    pub(super) fn note_membership(&mut self, room_id: &RoomId, user_id: &UserId, membership: Option<&MembershipState>) {
        let Some(members) = self.members.get_mut(room_id) else { return };
        if membership == Some(&MembershipState::Join) {
            members.insert(user_id.to_owned());
        } else {
            members.remove(user_id);
        }
    }

    async fn by_alias(&mut self, engine: &Engine, room_id: &RoomId) -> Result<bool> {
        if self.service.registration().aliases.is_empty() {
            return Ok(false);
        }
        if let Some(known) = self.aliases.get(room_id) {
            return Ok(*known);
        }
        let aliases = engine.storage().aliases_of(room_id).await?;
        let is_covered = aliases.iter().any(|alias| self.service.covers_alias(alias));
        self.aliases.insert(room_id.to_owned(), is_covered);
        Ok(is_covered)
    }
}
