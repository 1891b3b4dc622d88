//! What changed for one user between two positions: which rooms, and what the client knows of each.
//!
//! Says nothing of how it is shown: that is for the kinds of sync to decide.

use std::collections::{HashMap, HashSet};

use rules::change::Position;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use storage::{AccountDataRecord, Direction, MembershipRecord, TimelineRange};

use super::{active::ChangedPresences, recent::Parts, state::Base, stays::Stays, token::SyncToken};
use crate::{
    Engine, Result,
    accounts::is_deleted,
    push::{PUSH_RULES, shown_rules},
};

/// The account data that lists whom a user does not want to hear of.
/// <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>
pub(crate) const IGNORED_USERS: &str = "m.ignored_user_list";

/// Which rooms are of interest.
pub(crate) struct Selection<'a> {
    /// Whether a room is.
    pub(crate) room: &'a (dyn Fn(&OwnedRoomId) -> bool + Sync),
    /// Whether rooms that were left long ago are.
    pub(crate) left: bool,
    /// Whether all joined rooms are, even those in which nothing happened.
    pub(crate) unchanged: bool,
}

/// What changed.
pub(crate) struct Changes {
    /// Up to where.
    pub(crate) now: SyncToken,
    /// The rooms in which something happened.
    pub(crate) rooms: Vec<RoomChanges>,
    /// The user's account data that is of no room.
    pub(crate) account_data: Vec<AccountDataRecord>,
    /// Whom the user does not want to hear of.
    pub(crate) ignored: HashSet<OwnedUserId>,
    /// Whose presence changed.
    pub(crate) presences: ChangedPresences,
}

/// What changed in one room.
pub(crate) struct RoomChanges {
    /// The user's relation to it.
    pub(crate) record: MembershipRecord,
    /// What the client knows of its state.
    pub(crate) base: Base,
    /// Up to which order the client may have been told its timeline.
    pub(crate) told: Option<i64>,
    /// The order of the event by which the user left last, if the client was not told of that.
    pub(crate) left_at: Option<i64>,
    /// Which parts changed.
    pub(crate) parts: Parts,
    /// The user's account data of the room.
    pub(crate) account_data: Vec<AccountDataRecord>,
    /// Who is typing, if that changed.
    pub(crate) typing: Option<Vec<OwnedUserId>>,
}

/// Who is typing in which room.
type TypingByRoom = HashMap<OwnedRoomId, Vec<OwnedUserId>>;

#[derive(Deserialize)]
struct IgnoredUserList {
    /// By user id; what is not a user id ignores nobody.
    ignored_users: HashMap<String, serde_json::Value>,
}

impl Engine {
    /// What changed for a user after `since`, up to now.
    pub(crate) async fn changes(
        &self,
        user_id: &UserId,
        since: Option<SyncToken>,
        selection: &Selection<'_>,
    ) -> Result<Changes> {
        let position = self.inner.sync.seen();
        let (presences, presence) = self.inner.sync.users.presences(user_id, since.map_or(0, |since| since.presence));
        let now = SyncToken { presence, ..SyncToken::new(position, self.inner.rooms.typing.count()) };
        let typing = self.typing_since(since);
        if let Some(since) = since.filter(|_| !selection.unchanged)
            && let Some(recent) = self.recent_changes(user_id, since, now, selection, &typing).await?
        {
            return Ok(Changes { presences, ..recent });
        }
        let records = self.storage().memberships(user_id).await?;
        count_considered(records.len());
        // The memberships may be newer than what was seen before they were read. Then all before the newest of them is
        // committed too, and up to there they are exact.
        let newest = records.iter().map(|record| record.position).max().unwrap_or(0);
        let now = SyncToken { presence, ..SyncToken::new(now.position.max(newest), now.typing) };
        let records = records.into_iter().filter(|record| (selection.room)(&record.room_id)).collect();
        let mut rooms = self.changed_rooms(records, since, now.position, selection, &typing).await?;
        let account_data = self.add_account_data(user_id, since, now.position, &mut rooms).await?;
        self.add_typing(typing, &mut rooms);
        Ok(Changes { now, rooms, account_data, ignored: self.ignored_users(user_id).await?, presences })
    }

    /// The same, where only little happened, and no relation of the user to a room changed.
    async fn recent_changes(
        &self,
        user_id: &UserId,
        since: SyncToken,
        now: SyncToken,
        selection: &Selection<'_>,
        typing: &TypingByRoom,
    ) -> Result<Option<Changes>> {
        let Some(recent) = self.recent(user_id, since.position, now.position).await? else { return Ok(None) };
        let selected = recent.rooms.keys().chain(typing.keys()).filter(|room_id| (selection.room)(room_id));
        let Some(joined) = self.joined_among(user_id, selected.cloned().collect(), now.position).await? else {
            return Ok(None);
        };
        let mut rooms = Vec::with_capacity(joined.len());
        count_considered(joined.len());
        for record in joined {
            let parts = recent.rooms.get(&record.room_id).copied().unwrap_or(Parts::NONE);
            rooms.push(RoomChanges {
                parts,
                ..RoomChanges::new(record, Base::Known(since.position), Some(since.position))
            });
        }
        let account_data = if recent.account_data {
            self.add_account_data(user_id, Some(since), now.position, &mut rooms).await?
        } else {
            Vec::new()
        };
        self.add_typing(typing.clone(), &mut rooms);
        let ignored = self.ignored_users(user_id).await?;
        let presences = ChangedPresences::Of(Vec::new());
        Ok(Some(Changes { now, rooms, account_data, ignored, presences }))
    }

    async fn changed_rooms(
        &self,
        records: Vec<MembershipRecord>,
        since: Option<SyncToken>,
        now: Position,
        selection: &Selection<'_>,
        typing: &TypingByRoom,
    ) -> Result<Vec<RoomChanges>> {
        let since = since.map(|since| since.position);
        let is_new = |record: &MembershipRecord| match since {
            Some(since) => record.position > since,
            None => is_shown_at_first(record, selection.left),
        };
        let (new, old): (Vec<_>, Vec<_>) = records.into_iter().partition(is_new);
        let mut rooms = Vec::new();
        for record in new {
            rooms.push(self.newly_related(record, since, now).await?);
        }
        let Some(since) = since else { return Ok(rooms) };
        let mut joined: Vec<_> = old.into_iter().filter(|old| old.membership == MembershipState::Join).collect();
        if !selection.unchanged {
            self.retain_changed(&mut joined, since, now, typing).await?;
        }
        rooms.extend(joined.into_iter().map(|record| RoomChanges::new(record, Base::Known(since), Some(since))));
        Ok(rooms)
    }

    /// Keeps those of the rooms in which something happened.
    async fn retain_changed(
        &self,
        joined: &mut Vec<MembershipRecord>,
        since: Position,
        now: Position,
        typing: &TypingByRoom,
    ) -> Result<()> {
        let mut changed = HashSet::new();
        if since < now && !joined.is_empty() {
            let room_ids: Vec<OwnedRoomId> = joined.iter().map(|record| record.room_id.clone()).collect();
            changed.extend(self.storage().rooms_changed(&room_ids, since, now).await?);
        }
        joined.retain(|record| changed.contains(&record.room_id) || typing.contains_key(&record.room_id));
        Ok(())
    }

    /// A room that the user's relation to has changed: the client knows its state if the user was joined before too.
    async fn newly_related(
        &self,
        record: MembershipRecord,
        since: Option<Position>,
        now: Position,
    ) -> Result<RoomChanges> {
        if since.is_none() && record.membership == MembershipState::Join {
            return Ok(RoomChanges::new(record, Base::Nothing, None));
        }
        let member = StateEventType::RoomMember;
        let history = self.storage().state_history(&record.room_id, &member, record.user_id.as_str()).await?;
        let stays = Stays::new(&history, since, now);
        let (base, told) = match since {
            Some(since) if stays.was_in && self.was_known(&record.room_id, since).await? => {
                (Base::Known(since), Some(since))
            }
            _ => (Base::Nothing, stays.left_before),
        };
        Ok(RoomChanges { left_at: stays.left_since, ..RoomChanges::new(record, base, told) })
    }

    /// Whether this server was in a room at a position. Other servers may have taken a user of ours for joined before: when
    /// their answer to the join was lost.
    async fn was_known(&self, room_id: &RoomId, position: Position) -> Result<bool> {
        let live = TimelineRange { after: Some(0), until: Some(position), direction: Direction::Forward, limit: 1 };
        Ok(!self.storage().timeline(room_id, live).await?.is_empty())
    }

    /// Hands out the account data of rooms, and returns that of none.
    async fn add_account_data(
        &self,
        user_id: &UserId,
        since: Option<SyncToken>,
        now: Position,
        rooms: &mut [RoomChanges],
    ) -> Result<Vec<AccountDataRecord>> {
        let since = since.map_or(0, |since| since.position);
        let mut records = Vec::new();
        let unknown = rooms.iter().filter(|room| room.base == Base::Nothing).map(|room| &room.record.room_id);
        let unknown: HashSet<&OwnedRoomId> = unknown.collect();
        if since > 0 && !unknown.is_empty() {
            let old = self.storage().account_data_since(user_id, 0, since).await?;
            let of_unknown =
                |record: &AccountDataRecord| record.room_id.as_ref().is_some_and(|id| unknown.contains(id));
            records.extend(old.into_iter().filter(of_unknown));
        }
        // Who was told nothing need not hear of what is gone.
        records.retain(|record| !is_deleted(&record.content));
        if since < now {
            let new = self.storage().account_data_since(user_id, since, now).await?;
            records.extend(new.into_iter().filter(|record| since > 0 || !is_deleted(&record.content)));
        }
        show_push_rules(user_id, since, now, &mut records)?;
        let mut by_room: HashMap<Option<OwnedRoomId>, Vec<AccountDataRecord>> = HashMap::new();
        for record in records {
            by_room.entry(record.room_id.clone()).or_default().push(record);
        }
        for room in rooms {
            room.account_data = by_room.remove(&Some(room.record.room_id.clone())).unwrap_or_default();
        }
        Ok(by_room.remove(&None).unwrap_or_default())
    }

    /// What a user has noted of a room, for who was told nothing of it.
    pub(super) async fn room_account_data(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        now: Position,
    ) -> Result<Vec<AccountDataRecord>> {
        let mut records = self.storage().account_data_since(user_id, 0, now).await?;
        records.retain(|record| record.room_id.as_deref() == Some(room_id) && !is_deleted(&record.content));
        Ok(records)
    }

    /// Who is typing, in the rooms in which that changed. Somebody who starts anew is told room by room.
    fn typing_since(&self, since: Option<SyncToken>) -> TypingByRoom {
        let now_ms = self.world().clock.now_ms();
        let changed = since.map(|since| self.inner.rooms.typing.changed_since(since.typing, now_ms));
        changed.unwrap_or_default().into_iter().collect()
    }

    fn add_typing(&self, mut changed: TypingByRoom, rooms: &mut [RoomChanges]) {
        let now_ms = self.world().clock.now_ms();
        for room in rooms.iter_mut().filter(|room| room.record.membership == MembershipState::Join) {
            let room_id = &room.record.room_id;
            room.typing = match room.base {
                Base::Known(_) => changed.remove(room_id),
                Base::Nothing => {
                    let users = self.inner.rooms.typing.users(room_id, now_ms);
                    (!users.is_empty()).then_some(users)
                }
            };
        }
    }
}

/// Counts rooms that were considered for an answer: with an account in many rooms, few of them should be.
pub(crate) fn count_considered(rooms: usize) {
    metrics::counter!("sync_rooms_considered_total").increment(rooms as u64);
}

/// Puts in the push rules as they apply. Who changed none has the default ones, and is told so at the beginning.
pub(crate) fn show_push_rules(
    user_id: &UserId,
    since: Position,
    now: Position,
    records: &mut Vec<AccountDataRecord>,
) -> Result<()> {
    let is_rules = |record: &&mut AccountDataRecord| record.room_id.is_none() && record.event_type == PUSH_RULES;
    if let Some(record) = records.iter_mut().find(is_rules) {
        record.content = shown_rules(user_id, Some(&record.content))?;
    } else if since == 0 {
        let (event_type, content) = (PUSH_RULES.to_owned(), shown_rules(user_id, None)?);
        records.push(AccountDataRecord { room_id: None, event_type, content, position: now });
    }
    Ok(())
}

/// Whom a user does not want to hear of, by their account data of the type [`IGNORED_USERS`].
pub(crate) fn ignored_by(user_id: &UserId, record: &AccountDataRecord) -> HashSet<OwnedUserId> {
    let list = serde_json::from_str::<IgnoredUserList>(record.content.get()).ok();
    let names = list.map(|list| list.ignored_users).unwrap_or_default().into_keys();
    names.filter_map(|name| OwnedUserId::try_from(name).ok()).filter(|ignored| ignored != user_id).collect()
}

impl RoomChanges {
    fn new(record: MembershipRecord, base: Base, told: Option<i64>) -> Self {
        Self { record, base, told, left_at: None, parts: Parts::ALL, account_data: Vec::new(), typing: None }
    }
}

/// Whether a client that starts anew is told of a room.
fn is_shown_at_first(record: &MembershipRecord, left: bool) -> bool {
    match record.membership {
        MembershipState::Join | MembershipState::Invite | MembershipState::Knock => true,
        _ => left && !record.forgotten,
    }
}
