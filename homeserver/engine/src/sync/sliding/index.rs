//! The rooms of a user as far as lists need them. They are kept from one answer to the next, each list in its order, so
//! that what happens in one room costs the same however many others there are.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use storage::{AccountDataRecord, MembershipRecord};
use tokio::sync::Mutex;

use super::{
    entry::{Entry, TAG},
    ordered::OrderedList,
};
use crate::{
    Engine, Result,
    accounts::hides_invitations,
    sync::{
        changes::{Changes, IGNORED_USERS, RoomChanges, Selection},
        token::SyncToken,
    },
};

/// The account data that says which rooms are direct chats.
const DIRECT: &str = "m.direct";
/// For how many users the rooms are kept, and how long for one who does not ask: then they are looked up anew.
const USERS_MAX: u64 = 10_000;
const USERS_IDLE: Duration = Duration::from_mins(30);

/// All rooms but those that were left long ago, as far as something happened there.
pub(super) const ALL_ROOMS: Selection<'_> = Selection { room: &|_| true, left: false, unchanged: false };

/// The rooms of all users who use sliding sync.
pub(crate) struct Indexes(Cache<OwnedUserId, Arc<Mutex<RoomIndex>>>);

/// The rooms of a user.
#[derive(Default)]
pub(crate) struct RoomIndex {
    /// Up to where it is complete; `None` before it is made.
    position: Option<Position>,
    pub(super) rooms: HashMap<OwnedRoomId, Arc<Entry>>,
    pub(super) lists: Vec<OrderedList>,
    direct: HashSet<OwnedRoomId>,
}

impl Indexes {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(USERS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(USERS_IDLE)
                .build(),
        )
    }

    pub(super) fn of(&self, user_id: &UserId) -> Arc<Mutex<RoomIndex>> {
        self.0.get_with_by_ref(user_id, Arc::default)
    }

    /// Forgets the rooms of a user, because of something that is not in the log. To be called after it became true:
    /// whoever looks right now has rooms that nobody will look at again.
    pub(crate) fn forget(&self, user_id: &UserId) {
        self.0.invalidate(user_id);
    }
}

impl RoomIndex {
    /// Whether all that happened up to a position is in here, or can be put in from what happened since.
    fn reaches(&self, since: Position) -> bool {
        self.position.is_some_and(|position| position >= since)
    }

    fn replace(&mut self, room_id: &OwnedRoomId, entry: Option<&Arc<Entry>>) {
        let before = match entry {
            Some(entry) => self.rooms.insert(room_id.clone(), entry.clone()),
            None => self.rooms.remove(room_id),
        };
        for list in &mut self.lists {
            if let Some(before) = &before {
                list.remove(before);
            }
            if let Some(entry) = entry {
                list.insert(entry);
            }
        }
    }
}

impl Engine {
    /// Brings the rooms of a user up to date with what changed after `since`. Returns whether any may have changed, since
    /// they were looked up anew, or because of what happened before `since`.
    pub(super) async fn refresh_index(
        &self,
        user_id: &UserId,
        index: &mut RoomIndex,
        since: Option<SyncToken>,
        changes: &Changes,
    ) -> Result<bool> {
        if since.is_some_and(|since| index.reaches(since.position)) {
            return self.advance_index(user_id, index, changes).await;
        }
        // Whoever begins anew is told of all rooms, but what is known of them is kept.
        match index.position {
            Some(position) => {
                let since = SyncToken::new(position, self.inner.rooms.typing.count());
                let changes = self.changes(user_id, Some(since), &ALL_ROOMS).await?;
                self.advance_index(user_id, index, &changes).await?;
            }
            None => *index = self.room_index(user_id, changes).await?,
        }
        Ok(true)
    }

    /// Puts into the rooms of a user what changed since they were complete, or since before that.
    async fn advance_index(&self, user_id: &UserId, index: &mut RoomIndex, changes: &Changes) -> Result<bool> {
        let selects = |record: &AccountDataRecord| {
            [DIRECT, IGNORED_USERS].contains(&record.event_type.as_str()) || hides_invitations(&record.event_type)
        };
        if changes.account_data.iter().any(selects) {
            *index = self.room_index(user_id, changes).await?;
            return Ok(true);
        }
        let is_tag = |record: &AccountDataRecord| record.event_type == TAG;
        let matters = |room: &&RoomChanges| room.parts.timeline || room.account_data.iter().any(is_tag);
        let rooms: Vec<&RoomChanges> = changes.rooms.iter().filter(matters).collect();
        let records: Vec<MembershipRecord> = rooms.iter().map(|room| room.record.clone()).collect();
        let mut entries = self.entries(user_id, records, &index.direct, &changes.ignored).await?;
        for room in &rooms {
            let room_id = &room.record.room_id;
            index.replace(room_id, entries.remove(room_id).map(Arc::new).as_ref());
        }
        let ids: HashSet<&OwnedRoomId> = rooms.iter().map(|room| &room.record.room_id).collect();
        let known = index.lists.len();
        index.lists.retain(|list| !list.depends_on(&ids));
        index.position = index.position.max(Some(changes.now.position));
        Ok(index.lists.len() < known)
    }

    /// Looks up all rooms of a user.
    async fn room_index(&self, user_id: &UserId, changes: &Changes) -> Result<RoomIndex> {
        let direct = self.direct_rooms(user_id).await?;
        let mut index = RoomIndex { direct, ..RoomIndex::default() };
        let records = self.storage().memberships(user_id).await?;
        let entries = self.entries(user_id, records, &index.direct, &changes.ignored).await?;
        index.rooms = entries.into_iter().map(|(room_id, entry)| (room_id, Arc::new(entry))).collect();
        index.position = Some(changes.now.position);
        Ok(index)
    }

    /// Which rooms are direct chats.
    async fn direct_rooms(&self, user_id: &UserId) -> Result<HashSet<OwnedRoomId>> {
        let record = self.storage().account_data(user_id, None, DIRECT).await?;
        let by_user: HashMap<String, serde_json::Value> =
            record.and_then(|record| serde_json::from_str(record.content.get()).ok()).unwrap_or_default();
        let rooms = by_user.values().filter_map(serde_json::Value::as_array).flatten();
        Ok(rooms.filter_map(|room_id| OwnedRoomId::try_from(room_id.as_str()?).ok()).collect())
    }
}
