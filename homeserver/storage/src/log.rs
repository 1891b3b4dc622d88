//! Reading the log, and being woken when it grows.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, events::room::member::MembershipState};
use tokio::sync::watch;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, list, parsed},
    names::{decode, encode},
    notifications::UnreadChange,
};

/// How many of the latest entries are kept in memory for readers that are not far behind: at some 600 bytes each, with
/// what goes with them, 10 MB.
const RECENT_MAX: usize = 16_384;
/// How many changes of what is unread are kept with them. Messages bring one or two each; only who says again and again
/// that they have read the same brings more.
const UNREAD_CHANGES_MAX: usize = 4 * RECENT_MAX;

/// What kind of change a log entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// A live event of a room's timeline.
    Event,
    /// A local user's relation to a room.
    Membership,
    /// A read receipt.
    Receipt,
    /// Account data of a local user.
    AccountData,
    /// Which threads a local user follows.
    ThreadSubscription,
    /// The devices of a user, local or remote, or their keys; or what one local user, who is named then, sees of them.
    DeviceList,
    /// A message to a device of a local user.
    ToDevice,
    /// Something for other servers only.
    Edu,
    /// A stored event, again, for servers that came into its room later.
    Resend,
    /// All members of a room that was entered without are known.
    CompleteState,
}

/// One entry of the log: what changed, not the change itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub position: Position,
    /// What kind of change it is.
    pub kind: LogKind,
    /// The room concerned; `None` for global account data.
    pub room_id: Option<OwnedRoomId>,
    /// The user concerned; the sender of an event.
    pub user_id: Option<OwnedUserId>,
    /// The event: the live one, the member event, or the one that a receipt points to if it is stored.
    pub event_id: Option<OwnedEventId>,
    /// Whether the servers in the room are to be sent it by us.
    pub outbound: bool,
    /// For [`LogKind::Membership`]: the membership.
    pub membership: Option<MembershipState>,
}

impl LogEntry {
    /// The room of whose timeline it is an event.
    fn event_room(&self) -> Option<&OwnedRoomId> {
        self.room_id.as_ref().filter(|_| self.kind == LogKind::Event)
    }
}

impl LogKind {
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Event => 1,
            Self::Membership => 2,
            Self::Receipt => 3,
            Self::AccountData => 4,
            Self::ThreadSubscription => 5,
            Self::CompleteState => 6,
            Self::DeviceList => 20,
            Self::ToDevice => 21,
            Self::Edu => 22,
            Self::Resend => 23,
        }
    }

    fn from_code(code: i16) -> Option<Self> {
        [
            Self::Event,
            Self::Membership,
            Self::Receipt,
            Self::AccountData,
            Self::ThreadSubscription,
            Self::DeviceList,
            Self::ToDevice,
            Self::Edu,
            Self::Resend,
            Self::CompleteState,
        ]
        .into_iter()
        .find(|kind| kind.code() == i64::from(code))
    }
}

/// Tells readers that there is more, and what, as far as they are not far behind.
///
/// This one serves one process. For several processes on one database, each has to be told when another has committed:
/// then the head is advanced by reading the log, and so is what is recent.
pub(crate) struct Bus {
    head: AtomicI64,
    /// The head as those were told who wait for it to grow.
    told: watch::Sender<Position>,
    recent: RwLock<Recent>,
}

/// The latest entries, without gaps, and where among them the events of each room are; and at the positions of some of them
/// the rooms whose state changed, and what changed of what is unread. All ascending.
#[derive(Default)]
struct Recent {
    entries: VecDeque<LogEntry>,
    events: HashMap<OwnedRoomId, VecDeque<Position>>,
    state_changes: VecDeque<(Position, OwnedRoomId)>,
    unread_changes: VecDeque<(Position, UnreadChange)>,
}

/// What readers of the log learn from a commit.
#[derive(Default)]
pub(crate) struct Published {
    /// What was appended.
    pub(crate) entries: Vec<LogEntry>,
    /// The rooms whose state changed, and from which position on.
    pub(crate) state_changes: BTreeSet<(Position, OwnedRoomId)>,
    /// What changed of what users have not read.
    pub(crate) unread_changes: Vec<(Position, UnreadChange)>,
}

impl Recent {
    fn push(&mut self, entry: LogEntry) {
        // Another process committed in between: what came before does not connect any more.
        if self.entries.back().is_some_and(|last| last.position + 1 != entry.position) {
            *self = Self::default();
        }
        if self.entries.len() == RECENT_MAX {
            self.forget_oldest();
        }
        if let Some(room_id) = entry.event_room() {
            match self.events.get_mut(room_id) {
                Some(positions) => positions.push_back(entry.position),
                None => drop(self.events.insert(room_id.clone(), [entry.position].into())),
            }
        }
        self.entries.push_back(entry);
        let oldest = self.entries.front().map_or(0, |entry| entry.position);
        while self.state_changes.front().is_some_and(|(position, _)| *position < oldest) {
            self.state_changes.pop_front();
        }
        while self.unread_changes.front().is_some_and(|(position, _)| *position < oldest) {
            self.unread_changes.pop_front();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        let Some(room_id) = oldest.event_room() else { return };
        if let Some(positions) = self.events.get_mut(room_id) {
            positions.pop_front();
            if positions.is_empty() {
                self.events.remove(room_id);
            }
        }
    }

    /// The events of a room with `since < position <= until`, as far as memory reaches back.
    fn events_between(
        &self,
        room_id: &RoomId,
        since: Position,
        until: Position,
    ) -> impl DoubleEndedIterator<Item = &OwnedEventId> {
        let oldest = self.entries.front().map_or(0, |entry| entry.position);
        let positions = self.events.get(room_id).into_iter().flat_map(move |positions| {
            let end = positions.partition_point(|position| *position <= until);
            let start = positions.partition_point(|position| *position <= since).min(end);
            positions.range(start..end)
        });
        let entry = move |position: &Position| self.entries.get(usize::try_from(position - oldest).ok()?);
        positions.filter_map(entry).filter_map(|entry| entry.event_id.as_ref())
    }

    /// The entries with `since < position <= until`, if memory reaches back that far. `head` is the end of the log.
    fn between(
        &self,
        since: Position,
        until: Position,
        head: Position,
    ) -> Option<impl DoubleEndedIterator<Item = &LogEntry>> {
        let oldest = self.entries.front().map_or(head + 1, |entry| entry.position);
        // Clients may name any number.
        let first = usize::try_from(since.checked_add(1)?.checked_sub(oldest)?).ok()?.min(self.entries.len());
        let count = usize::try_from(until.saturating_sub(since)).unwrap_or(0).min(self.entries.len() - first);
        Some(self.entries.range(first..first + count))
    }
}

impl Bus {
    pub(crate) fn new(head: Position) -> Self {
        Self { head: AtomicI64::new(head), told: watch::Sender::new(head), recent: RwLock::default() }
    }

    /// Takes in what was committed, for all to see who look. Positions ascend from call to call.
    pub(crate) fn publish(&self, mut published: Published, head: Position) {
        published.unread_changes.sort_by_key(|(position, _)| *position);
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        published.entries.into_iter().for_each(|entry| recent.push(entry));
        recent.state_changes.extend(published.state_changes);
        recent.unread_changes.extend(published.unread_changes);
        if recent.unread_changes.len() > UNREAD_CHANGES_MAX {
            *recent = Recent::default();
        }
        drop(recent);
        self.head.fetch_max(head, Ordering::Release);
    }

    /// Wakes who waits for what was published.
    pub(crate) fn wake(&self) {
        let head = self.head();
        self.told.send_if_modified(|told| std::mem::replace(told, head) < head);
    }

    fn head(&self) -> Position {
        self.head.load(Ordering::Acquire)
    }

    fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `read` makes of the entries with `since < position <= until`, if memory reaches back that far.
    pub(crate) fn read<T>(
        &self,
        since: Position,
        until: Position,
        read: impl FnOnce(&mut dyn DoubleEndedIterator<Item = &LogEntry>) -> T,
    ) -> Option<T> {
        let recent = self.recent();
        let mut entries = recent.between(since, until, self.head())?;
        Some(read(&mut entries))
    }

    /// What `read` makes of the events of a room with `since < position <= until`, if memory reaches back that far.
    pub(crate) fn read_events<T>(
        &self,
        room_id: &RoomId,
        since: Position,
        until: Position,
        read: impl FnOnce(&mut dyn DoubleEndedIterator<Item = &OwnedEventId>) -> T,
    ) -> Option<T> {
        let recent = self.recent();
        let reaches_back = recent.between(since, until, self.head()).is_some();
        reaches_back.then(|| read(&mut recent.events_between(room_id, since, until)))
    }

    /// Whether it is known that there is no such entry with `since < position <= until`.
    pub(crate) fn has_none(&self, since: Position, until: Position, such: impl Fn(&LogEntry) -> bool) -> bool {
        let recent = self.recent();
        recent.between(since, until, self.head()).is_some_and(|mut entries| !entries.any(such))
    }

    /// Whether it is known that the state of a room did not change with `since < position <= until`.
    pub(crate) fn keeps_state(&self, room_id: &RoomId, since: Position, until: Position) -> bool {
        let recent = self.recent();
        let mut later = recent.state_changes.iter().rev().take_while(|(position, _)| *position > since);
        recent.between(since, until, self.head()).is_some()
            && !later.any(|(position, changed)| *position <= until && changed == room_id)
    }

    /// What `read` makes of what changed of what is unread, at a position or later, the latest first, if memory reaches
    /// back that far.
    pub(crate) fn unread_changes_since<T>(
        &self,
        position: Position,
        read: impl FnOnce(&mut dyn Iterator<Item = &(Position, UnreadChange)>) -> T,
    ) -> Option<T> {
        let recent = self.recent();
        // The position itself is part of it, for reading has none of its own.
        let reaches_back = recent.between(position.checked_sub(1)?, position, self.head()).is_some();
        let mut changes = recent.unread_changes.iter().rev().take_while(|(at, _)| *at >= position);
        reaches_back.then(|| read(&mut changes))
    }
}

impl Storage {
    /// The newest committed position that this process has seen.
    pub fn head(&self) -> Position {
        self.shared.bus.head()
    }

    /// A receiver that changes whenever the log grows, holding the head.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.shared.bus.told.subscribe()
    }

    /// Up to `limit` log entries after `position`, ascending.
    pub async fn log_since(&self, position: Position, limit: usize) -> Result<Vec<LogEntry>> {
        const SQL: &str = "SELECT l.position, l.kind, r.name, u.name, l.event_id, l.outbound, l.membership
            FROM log l LEFT JOIN names r ON r.name_nid = l.room_nid LEFT JOIN names u ON u.name_nid = l.user_nid
            WHERE l.position > $1 ORDER BY l.position LIMIT +$2";
        let recent = self.shared.bus.read(position, Position::MAX, |entries| entries.take(limit).cloned().collect());
        if let Some(recent) = recent {
            return Ok(recent);
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<Row> =
            db!(self.read(), |pool| { sqlx::query_as(SQL).bind(position).bind(limit).fetch_all(pool).await })?;
        Ok(rows.into_iter().filter_map(readable_entry).collect())
    }

    /// Those of `rooms` that have a log entry with `since < position <= until`.
    pub async fn rooms_changed(
        &self,
        rooms: &[OwnedRoomId],
        since: Position,
        until: Position,
    ) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT n.name FROM names n WHERE n.name IN (SELECT value FROM json_each($1)) AND EXISTS
            (SELECT 1 FROM log l WHERE l.room_nid = n.name_nid AND l.position > $2 AND l.position <= $3)";
        let seen: Option<HashSet<OwnedRoomId>> =
            self.shared.bus.read(since, until, |entries| entries.filter_map(|entry| entry.room_id.clone()).collect());
        if let Some(changed) = seen {
            return Ok(rooms.iter().filter(|room_id| changed.contains(*room_id)).cloned().collect());
        }
        let asked: Vec<_> = rooms.iter().map(|room_id| encode(room_id.as_str())).collect();
        let asked = list(asked.iter().map(|room_id| &**room_id));
        let found: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(asked).bind(since).bind(until).fetch_all(pool).await
        })?;
        found.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }
}

type Row = (Position, i16, Option<String>, Option<String>, Option<String>, bool, Option<String>);

/// One entry that cannot be read is one that nobody hears of; those who read on are not held up by it.
fn readable_entry(row: Row) -> Option<LogEntry> {
    let read = entry(row);
    read.inspect_err(|error| tracing::error!(%error, "an entry of the log cannot be read; passing it over")).ok()
}

fn entry((position, kind, room_id, user_id, event_id, outbound, membership): Row) -> Result<LogEntry> {
    let kind = LogKind::from_code(kind)
        .ok_or_else(|| StorageError::corrupt("log", "kind", position.to_string(), &"no such kind"))?;
    Ok(LogEntry {
        position,
        kind,
        room_id: room_id.map(|id| parsed(&decode(id), "log", "room_nid")).transpose()?,
        user_id: user_id.map(|id| parsed(&decode(id), "log", "user_nid")).transpose()?,
        event_id: event_id.map(|id| parsed(&id, "log", "event_id")).transpose()?,
        outbound,
        membership: membership.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, room_id};

    use super::*;

    fn entry(position: Position) -> LogEntry {
        let kind = if position % 5 == 0 { LogKind::Receipt } else { LogKind::Event };
        let room_id = if position % 3 == 0 { owned_room_id!("!three:test") } else { owned_room_id!("!other:test") };
        LogEntry {
            position,
            kind,
            room_id: Some(room_id),
            user_id: None,
            event_id: Some(format!("${position}").try_into().unwrap()),
            outbound: false,
            membership: None,
        }
    }

    fn publish(bus: &Bus, positions: impl Iterator<Item = Position>) {
        let entries: Vec<LogEntry> = positions.map(entry).collect();
        let head = entries.last().map_or(0, |last| last.position);
        bus.publish(Published { entries, ..Published::default() }, head);
    }

    #[test]
    fn the_events_of_a_room_are_found_among_others_for_as_long_as_these_are_kept() {
        let bus = Bus::new(0);
        let found = |room_id: &RoomId, since, until| {
            bus.read_events(room_id, since, until, |events| events.map(ToString::to_string).collect::<Vec<_>>())
        };
        publish(&bus, 1..=20);
        assert_eq!(found(room_id!("!three:test"), 3, 18).unwrap(), ["$6", "$9", "$12", "$18"]);
        assert_eq!(found(room_id!("!other:test"), 0, 4).unwrap(), ["$1", "$2", "$4"]);
        assert!(found(room_id!("!nobody:test"), 0, 20).unwrap().is_empty());
        assert!(found(room_id!("!three:test"), 18, 3).unwrap().is_empty());
        let more = RECENT_MAX as Position;
        publish(&bus, 21..=20 + more);
        assert_eq!(found(room_id!("!three:test"), 3, 30), None);
        assert_eq!(found(room_id!("!three:test"), 20, 27).unwrap(), ["$21", "$24", "$27"]);
        // What another process committed is not known: nothing before it connects.
        publish(&bus, std::iter::once(more + 30));
        assert_eq!(found(room_id!("!three:test"), 20, 27), None);
        assert_eq!(bus.recent().events.len(), usize::from((more + 30) % 5 != 0));
    }
}
