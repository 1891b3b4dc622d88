//! Who in a room has to be asked one by one what an event comes to for them. For all others it comes to the same, so that
//! an event in a room of ten thousand asks no more people than one in a room of ten.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use rpds::{HashTrieMapSync, HashTrieSetSync, ListSync};
use rules::{Change, Pdu, RoomSnapshot, push::PushEvent, push::names};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId, events::StateEventType};

use super::preferences::lower_case;
use crate::{Engine, Result};

/// How much memory the audiences of all rooms take, by estimate; those not used for a while are dropped with their rooms.
const CACHE_MAX_BYTES: u64 = 64 * 1024 * 1024;
const CACHE_IDLE: Duration = Duration::from_mins(10);
/// What a user takes who is asked one by one, what a name does, and what a room does in any case.
const INDIVIDUAL_BYTES: usize = 100;
const NAME_BYTES: usize = 200;
const ROOM_BYTES: usize = 500;
/// How many changes of preferences are remembered for audiences to hear of. One that missed some is made anew.
const CHANGES_MAX: usize = 1_000;
/// How many more than there are members may be kept from before, beside as many as there are.
const STALE_MAX: usize = 100;

/// The local members of a room as of one revision, as far as anything sets them apart. Cloning shares all of it.
///
/// It may name some who no longer belong to it, and who then are asked in vain.
#[derive(Clone, Default)]
pub(crate) struct Audience {
    revision: i64,
    /// How many changes of preferences it has heard of.
    heard: u64,
    /// Who has rules of their own, or ignores somebody.
    individuals: HashTrieSetSync<OwnedUserId>,
    /// Who may be meant by a text; made when there is one to look through.
    names: Option<Names>,
}

/// Users by the keys of their names.
#[derive(Clone, Default)]
struct Names {
    by_key: HashTrieMapSync<Box<str>, ListSync<OwnedUserId>>,
    count: usize,
}

impl Names {
    fn add(&mut self, user_id: &OwnedUserId, name: &str) {
        let Some(key) = names::key_of(name) else { return };
        let users = self.by_key.get(key).cloned().unwrap_or_default().push_front(user_id.clone());
        self.by_key.insert_mut(key.into(), users);
        self.count += 1;
    }
}

impl Audience {
    fn bytes(&self) -> usize {
        let names = self.names.as_ref().map_or(0, |names| names.count);
        ROOM_BYTES + self.individuals.size() * INDIVIDUAL_BYTES + names * NAME_BYTES
    }

    /// The same, for the room as of another revision.
    pub(crate) fn as_of(&self, revision: i64) -> Self {
        Self { revision, ..self.clone() }
    }

    /// Whether too many of those it names have left or changed their names.
    fn is_stale(&self, room: &RoomSnapshot) -> bool {
        let names = self.names.as_ref().map_or(0, |names| names.count);
        // Each member has two names.
        self.individuals.size().max(names / 2) > 2 * room.resident_count() + STALE_MAX
    }
}

/// The audiences of rooms in use.
pub(super) struct Audiences {
    rooms: Cache<OwnedRoomId, Arc<Audience>>,
    changes: Mutex<PreferenceChanges>,
}

/// Whose preferences changed last, and how many did before.
#[derive(Default)]
struct PreferenceChanges {
    before: u64,
    user_ids: VecDeque<OwnedUserId>,
}

impl PreferenceChanges {
    fn count(&self) -> u64 {
        self.before + u64::try_from(self.user_ids.len()).unwrap_or(u64::MAX)
    }
}

impl Audiences {
    pub(super) fn new() -> Self {
        let bytes = |_: &OwnedRoomId, audience: &Arc<Audience>| u32::try_from(audience.bytes()).unwrap_or(u32::MAX);
        let rooms = Cache::builder().max_capacity(CACHE_MAX_BYTES).weigher(bytes).time_to_idle(CACHE_IDLE).build();
        Self { rooms, changes: Mutex::default() }
    }

    /// A user's preferences changed.
    pub(super) fn heed(&self, user_id: &UserId) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.user_ids.push_back(user_id.to_owned());
        if changes.user_ids.len() > CHANGES_MAX {
            changes.user_ids.pop_front();
            changes.before += 1;
        }
    }

    /// How many preferences have changed so far.
    fn changes(&self) -> u64 {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).count()
    }

    /// Whose preferences changed since so many had, if that is still known.
    fn changed_since(&self, heard: u64) -> Option<Vec<OwnedUserId>> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = usize::try_from(heard.checked_sub(changes.before)?).ok()?;
        Some(changes.user_ids.iter().skip(known).cloned().collect())
    }
}

impl Engine {
    /// The audience of a room as it is after these changes. It is made from all members when the one before is neither
    /// given nor in memory, and follows the changes when it is.
    pub(super) async fn audience(
        &self,
        before: &RoomSnapshot,
        after: &RoomSnapshot,
        changes: &[Change],
        known: Option<Audience>,
    ) -> Result<Audience> {
        let audiences = &self.inner.push.audiences;
        // Noted before preferences are read: what changes meanwhile is heard of the next time.
        let heard = audiences.changes();
        let known = known.map(Arc::new).or_else(|| audiences.rooms.get(&after.room_id));
        let known = known.filter(|audience| audience.revision == before.revision && !audience.is_stale(after));
        let known = known.and_then(|known| Some((audiences.changed_since(known.heard)?, known)));
        let Some((reconsidered, known)) = known else {
            let mut audience = Audience { heard, ..Audience::default() };
            self.note_individuals(&mut audience, after.residents().cloned().collect()).await?;
            return Ok(audience);
        };
        let mut audience = Audience { heard, ..(*known).clone() };
        let members: Vec<OwnedUserId> = changes.iter().filter_map(member).filter(|it| after.is_resident(it)).collect();
        if let Some(names) = &mut audience.names {
            // Their events are not stored yet.
            changes
                .iter()
                .filter_map(named)
                .filter(|(it, _)| after.is_resident(it))
                .for_each(|(user_id, name)| names.add(&user_id, &name));
            self.add_names(&mut audience, after, &members).await?;
        }
        let reconsidered = reconsidered.into_iter().filter(|user_id| after.is_resident(user_id));
        self.note_individuals(&mut audience, members.into_iter().chain(reconsidered).collect()).await?;
        Ok(audience)
    }

    /// Keeps an audience for the room as it is now.
    pub(crate) fn remember_audience(&self, room: &RoomSnapshot, audience: &Audience) {
        self.inner.push.audiences.rooms.insert(room.room_id.clone(), Arc::new(audience.as_of(room.revision)));
    }

    /// The audience of a room of which no member is changed, if memory holds it.
    pub(super) fn unchanged_audience(&self, before: &RoomSnapshot, changes: &[Change]) -> Option<Audience> {
        let known = self.inner.push.audiences.rooms.get(&before.room_id)?;
        let is_same = known.revision == before.revision && changes.iter().all(|change| member(change).is_none());
        is_same.then(|| (*known).clone())
    }

    /// Those whose preferences or names an event may depend on: members of ours, and whom it invites.
    pub(super) async fn asked(
        &self,
        room: &RoomSnapshot,
        pdu: &Pdu,
        event: &PushEvent,
        audience: &mut Audience,
    ) -> Result<BTreeSet<OwnedUserId>> {
        let mut asked: BTreeSet<OwnedUserId> = audience.individuals.iter().cloned().collect();
        asked.extend(event.named());
        if let Some(text) = event.text_with_names() {
            if audience.names.is_none() {
                audience.names = Some(Names::default());
                let members: Vec<OwnedUserId> = room.residents().cloned().collect();
                self.add_names(audience, room, &members).await?;
            }
            let by_key = audience.names.iter().map(|names| &names.by_key);
            let keys = by_key.flat_map(|by_key| names::keys_in(text).into_iter().filter_map(|key| by_key.get(key)));
            asked.extend(keys.flatten().cloned());
        }
        asked.retain(|user_id| *user_id != pdu.sender && room.is_resident(user_id));
        Ok(asked)
    }

    /// Finds out who of these is to be asked one by one.
    async fn note_individuals(&self, audience: &mut Audience, user_ids: BTreeSet<OwnedUserId>) -> Result<()> {
        let user_ids: Vec<OwnedUserId> = user_ids.into_iter().collect();
        let preferences = self.preferences(&user_ids).await?;
        for (user_id, preferences) in user_ids.into_iter().zip(preferences) {
            if !Arc::ptr_eq(&preferences, &self.inner.push.unchanged) {
                audience.individuals.insert_mut(user_id);
            }
        }
        Ok(())
    }

    async fn add_names(&self, audience: &mut Audience, room: &RoomSnapshot, members: &[OwnedUserId]) -> Result<()> {
        let event_id = |user_id: &UserId| room.state_event_id(&StateEventType::RoomMember, user_id.as_str());
        let event_ids: Vec<OwnedEventId> =
            members.iter().filter_map(|user_id| Some(event_id(user_id)?.to_owned())).collect();
        let display_names = self.display_names(&event_ids).await?;
        let Some(names) = &mut audience.names else { return Ok(()) };
        for user_id in members {
            names.add(user_id, &user_id.localpart().to_lowercase());
            if let Some(name) = event_id(user_id).and_then(|event_id| display_names.get(event_id)) {
                names.add(user_id, name);
            }
        }
        Ok(())
    }
}

/// The name that a new member event gives.
fn named(change: &Change) -> Option<(OwnedUserId, String)> {
    let Change::Event(new) = change else { return None };
    let (user_id, _) = new.pdu.membership()?;
    Some((user_id, lower_case(&new.pdu.content_str("displayname").unwrap_or_default())))
}

/// Whose membership or name changes.
fn member(change: &Change) -> Option<OwnedUserId> {
    match change {
        Change::Membership { user_id, .. } => Some(user_id.clone()),
        _ => None,
    }
}
