//! The users who sync: which rooms they are in, and how they are woken.
//!
//! A message in a room costs as much as there are members who sync right now, however many there are otherwise; and a
//! user who waits is woken through one channel, whatever happens in however many rooms.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use storage::MembershipRecord;
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit, watch},
    time::Instant,
};

use super::token::SyncToken;
use crate::{EngineError, Result};

/// How many syncs of one user are worked on at the same time. Those that wait for something to happen do not count.
const BUILDING_PER_USER: usize = 5;
/// How long a user counts as active after their last sync: clients ask anew within the minute.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// How many users may be active. Each costs some hundred bytes, and as much again for each room.
const ACTIVE_USERS_MAX: usize = 200_000;
/// How many changes of others' presence are kept for a user who syncs. Who missed more is told of everybody present.
const PRESENCES_MAX: usize = 1_000;

/// What happened to a user, as far as waiting goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The position of the last log entry that concerns the user.
    pub(crate) position: Position,
    /// The count of the last change of who is typing in one of the user's rooms.
    pub(crate) typing: u64,
    /// The user's own count of changes of others' presence.
    pub(crate) presence: u64,
}

/// Whose presence changed, for one user who syncs.
struct PresenceNews {
    /// From where on this tells everything.
    since: u64,
    count: u64,
    by_count: BTreeMap<u64, OwnedUserId>,
    counts: HashMap<OwnedUserId, u64>,
}

impl PresenceNews {
    fn new(since: u64) -> Self {
        Self { since, count: since, by_count: BTreeMap::new(), counts: HashMap::new() }
    }

    fn add(&mut self, user_id: &UserId) {
        self.count += 1;
        if let Some(before) = self.counts.insert(user_id.to_owned(), self.count) {
            self.by_count.remove(&before);
        }
        self.by_count.insert(self.count, user_id.to_owned());
        if self.by_count.len() > PRESENCES_MAX
            && let Some((count, user_id)) = self.by_count.pop_first()
        {
            self.since = count;
            self.counts.remove(&user_id);
        }
    }

    fn after(&self, since: u64) -> ChangedPresences {
        if since < self.since || since > self.count {
            return ChangedPresences::Unknown;
        }
        ChangedPresences::Of(self.by_count.range(since + 1..).map(|(_, user_id)| user_id.clone()).collect())
    }
}

/// Whose presence changed since somebody asked last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangedPresences {
    /// That is not known: anybody's.
    Unknown,
    /// That of these users.
    Of(Vec<OwnedUserId>),
}

/// A user who syncs.
pub(crate) struct ActiveUser {
    news: watch::Sender<News>,
    presences: Mutex<PresenceNews>,
    building: Semaphore,
    loaded: OnceCell<()>,
    /// From where on `news` tells everything.
    complete_since: (AtomicI64, AtomicU64),
}

/// All users who sync.
#[derive(Default)]
pub(crate) struct ActiveUsers {
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    users: HashMap<OwnedUserId, Entry>,
    by_room: HashMap<OwnedRoomId, HashMap<OwnedUserId, Arc<ActiveUser>>>,
}

struct Entry {
    user: Arc<ActiveUser>,
    rooms: HashMap<OwnedRoomId, Joined>,
    last_used: Instant,
}

/// A user in a room.
#[derive(Default)]
struct Joined {
    /// The position of the last change of the membership that was heard; 0 if none was.
    changed: Position,
    /// The membership, once it was asked for.
    record: Option<MembershipRecord>,
}

/// One sync's ear: what happens from its making on is heard.
pub(crate) struct Listener {
    user: Arc<ActiveUser>,
    news: watch::Receiver<News>,
}

impl ActiveUsers {
    /// Starts to listen for a user. A user who is new here has missed all presence up to the count `presence`.
    pub(crate) fn listen(&self, user_id: &UserId, presence: u64) -> Result<Listener> {
        let mut index = self.lock();
        if !index.users.contains_key(user_id) {
            index.make_room()?;
            let user = Arc::new(ActiveUser::new(presence));
            let entry = Entry { user, rooms: HashMap::new(), last_used: Instant::now() };
            index.users.insert(user_id.to_owned(), entry);
            index.show_count();
        }
        let entry = index.users.get_mut(user_id).ok_or(EngineError::Busy)?;
        entry.last_used = Instant::now();
        // Subscribing under the lock keeps the entry: one with listeners is never dropped.
        Ok(Listener { news: entry.user.news.subscribe(), user: entry.user.clone() })
    }

    /// Takes in the rooms that a user is joined to. From `head` on, which must be read after this, all is heard.
    pub(crate) fn add_rooms(&self, user_id: &UserId, rooms: impl IntoIterator<Item = OwnedRoomId>) {
        let mut index = self.lock();
        for room_id in rooms {
            index.enter(user_id, room_id, 0);
        }
    }

    /// A user's membership of a room changed: the user joined it, or is no longer joined to it.
    pub(crate) fn set_joined(&self, user_id: &UserId, room_id: &RoomId, joined: bool, position: Position) {
        let mut index = self.lock();
        if joined {
            index.enter(user_id, room_id.to_owned(), position);
        } else {
            index.leave(user_id, room_id);
        }
    }

    /// Those of the rooms that a user is joined to, and maybe some that the user was joined to before.
    pub(crate) fn joined_among(&self, user_id: &UserId, mut rooms: HashSet<OwnedRoomId>) -> HashSet<OwnedRoomId> {
        let index = self.lock();
        rooms.retain(|room_id| index.users.get(user_id).is_some_and(|entry| entry.rooms.contains_key(room_id)));
        rooms
    }

    /// A user's membership of a room that the user is joined to, as far as it was heard, if it was asked for before.
    pub(crate) fn membership(&self, user_id: &UserId, room_id: &RoomId) -> Option<MembershipRecord> {
        self.lock().users.get(user_id)?.rooms.get(room_id)?.record.clone()
    }

    /// Keeps a membership for whoever asks next, unless it has changed since it was read.
    pub(crate) fn keep_membership(&self, record: &MembershipRecord) {
        let mut index = self.lock();
        let entry = index.users.get_mut(&record.user_id);
        if let Some(joined) = entry.and_then(|entry| entry.rooms.get_mut(&record.room_id))
            && record.position >= joined.changed
        {
            joined.record = Some(record.clone());
        }
    }

    /// Wakes one user.
    pub(crate) fn wake_user(&self, user_id: &UserId, position: Position) {
        let user = self.lock().users.get(user_id).map(|entry| entry.user.clone());
        if let Some(user) = user {
            user.hear(News { position, ..News::default() });
        }
    }

    /// Wakes those in some rooms, because the presence of a user changed, but not that user.
    pub(crate) fn wake_for_presence<'a>(&self, about: &UserId, rooms: impl Iterator<Item = &'a RoomId>) {
        let index = self.lock();
        let mut users: HashMap<&UserId, &Arc<ActiveUser>> = HashMap::new();
        for in_room in rooms.filter_map(|room_id| index.by_room.get(room_id)) {
            users.extend(in_room.iter().map(|(user_id, user)| (&**user_id, user)));
        }
        users.remove(about);
        let users: Vec<Arc<ActiveUser>> = users.into_values().cloned().collect();
        drop(index);
        for user in users {
            user.hear_presence(std::iter::once(about));
        }
    }

    /// Wakes a user, because there are others whose presence the user has not been told.
    pub(crate) fn wake_for_presences(&self, user_id: &UserId, others: &[OwnedUserId]) {
        let user = self.lock().users.get(user_id).map(|entry| entry.user.clone());
        if let Some(user) = user.filter(|_| !others.is_empty()) {
            user.hear_presence(others.iter().map(|other| &**other));
        }
    }

    /// Whose presence changed for a user after a count, and up to which count that goes.
    pub(crate) fn presences(&self, user_id: &UserId, since: u64) -> (ChangedPresences, u64) {
        let user = self.lock().users.get(user_id).map(|entry| entry.user.clone());
        user.map_or((ChangedPresences::Unknown, since), |user| {
            let presences = user.presences();
            (presences.after(since), presences.count)
        })
    }

    /// The rooms that a user who syncs is joined to.
    pub(crate) fn rooms(&self, user_id: &UserId) -> Vec<OwnedRoomId> {
        let index = self.lock();
        index.users.get(user_id).map(|entry| entry.rooms.keys().cloned().collect()).unwrap_or_default()
    }

    /// Wakes the users in a room.
    pub(crate) fn wake_room(&self, room_id: &RoomId, news: News) {
        let users: Vec<Arc<ActiveUser>> =
            self.lock().by_room.get(room_id).map(|users| users.values().cloned().collect()).unwrap_or_default();
        for user in users {
            user.hear(news);
        }
    }

    /// Drops the users who have not synced for long.
    pub(crate) fn sweep(&self) {
        let mut index = self.lock();
        index.drop_idle(IDLE_MAX);
        index.show_count();
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn make_room(&mut self) -> Result<()> {
        if self.users.len() >= ACTIVE_USERS_MAX {
            self.drop_idle(Duration::ZERO);
        }
        if self.users.len() >= ACTIVE_USERS_MAX {
            return Err(EngineError::Busy);
        }
        Ok(())
    }

    fn drop_idle(&mut self, idle_max: Duration) {
        let is_idle = |entry: &Entry| entry.user.news.receiver_count() == 0 && entry.last_used.elapsed() >= idle_max;
        let idle = self.users.iter().filter(|(_, entry)| is_idle(entry));
        let idle: Vec<OwnedUserId> = idle.map(|(user_id, _)| user_id.clone()).collect();
        for user_id in idle {
            for room_id in self.users.remove(&user_id).map(|entry| entry.rooms).unwrap_or_default().into_keys() {
                self.take_out(&user_id, &room_id);
            }
        }
    }

    fn enter(&mut self, user_id: &UserId, room_id: OwnedRoomId, changed: Position) {
        let Some(entry) = self.users.get_mut(user_id) else { return };
        self.by_room.entry(room_id.clone()).or_default().insert(user_id.to_owned(), entry.user.clone());
        let joined = entry.rooms.entry(room_id).or_default();
        if changed > joined.changed {
            *joined = Joined { changed, record: None };
        }
    }

    fn leave(&mut self, user_id: &UserId, room_id: &RoomId) {
        if let Some(entry) = self.users.get_mut(user_id) {
            entry.rooms.remove(room_id);
            self.take_out(user_id, room_id);
        }
    }

    fn take_out(&mut self, user_id: &UserId, room_id: &RoomId) {
        let Some(users) = self.by_room.get_mut(room_id) else { return };
        users.remove(user_id);
        if users.is_empty() {
            self.by_room.remove(room_id);
        }
    }

    fn show_count(&self) {
        metrics::gauge!("sync_active_users").set(u32::try_from(self.users.len()).unwrap_or(u32::MAX));
    }
}

impl ActiveUser {
    fn new(presence: u64) -> Self {
        Self {
            news: watch::Sender::new(News::default()),
            presences: Mutex::new(PresenceNews::new(presence)),
            building: Semaphore::new(BUILDING_PER_USER),
            loaded: OnceCell::new(),
            complete_since: (AtomicI64::new(Position::MAX), AtomicU64::new(u64::MAX)),
        }
    }

    fn hear(&self, heard: News) {
        self.news.send_if_modified(|news| {
            let before = *news;
            news.position = news.position.max(heard.position);
            news.typing = news.typing.max(heard.typing);
            news.presence = news.presence.max(heard.presence);
            *news != before
        });
    }

    fn hear_presence<'a>(&self, users: impl Iterator<Item = &'a UserId>) {
        let mut presences = self.presences();
        for user_id in users {
            presences.add(user_id);
        }
        let presence = presences.count;
        drop(presences);
        self.hear(News { presence, ..News::default() });
    }

    fn presences(&self) -> MutexGuard<'_, PresenceNews> {
        self.presences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Does `load` unless it was done for this user. Until then nothing is known about what the user may have missed.
    pub(crate) async fn load_once(&self, load: impl Future<Output = Result<SyncToken>>) -> Result<()> {
        let loading = async {
            let complete_since = load.await?;
            self.user.complete_since.1.store(complete_since.typing, Ordering::Release);
            self.user.complete_since.0.store(complete_since.position, Ordering::Release);
            Ok(())
        };
        self.user.loaded.get_or_try_init(|| loading).await.copied()
    }

    /// Whether something may have happened since `token`. What happens after this call ends the next
    /// [`Listener::changed`].
    pub(crate) fn may_have_news(&mut self, token: SyncToken) -> bool {
        let news = *self.news.borrow_and_update();
        let (position, typing) = &self.user.complete_since;
        news.position > token.position
            || news.typing > token.typing
            || news.presence > token.presence
            || token.presence < self.user.presences().since
            || token.position < position.load(Ordering::Acquire)
            || token.typing < typing.load(Ordering::Acquire)
    }

    /// The position of the last log entry that concerns the user, of those that were heard.
    pub(crate) fn position(&self) -> Position {
        self.news.borrow().position
    }

    /// The user's count of changes of others' presence.
    pub(crate) fn presence(&self) -> u64 {
        self.user.presences().count
    }

    /// Waits for something to happen.
    pub(crate) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // The other end lives as long as `self.user`; were it gone, nothing would ever happen.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a turn to work.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        self.user.building.acquire().await.map_err(EngineError::internal)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    fn token(position: Position, typing: u64) -> SyncToken {
        SyncToken { presence: 7, ..SyncToken::new(position, typing) }
    }

    async fn loaded(users: &ActiveUsers, user_id: &UserId, head: Position) -> Listener {
        let listener = users.listen(user_id, 7).unwrap();
        listener.load_once(async { Ok(token(head, 0)) }).await.unwrap();
        listener
    }

    #[tokio::test]
    async fn only_those_concerned_are_woken() {
        let users = ActiveUsers::default();
        let (alice, bob, room) = (user_id!("@alice:test"), user_id!("@bob:test"), room_id!("!room:test"));
        let mut of_alice = loaded(&users, alice, 5).await;
        let mut of_bob = loaded(&users, bob, 5).await;
        users.add_rooms(alice, [room.to_owned()]);
        users.wake_room(room, News { position: 6, ..News::default() });
        assert!(of_alice.may_have_news(token(5, 0)));
        assert!(!of_alice.may_have_news(token(6, 0)));
        assert!(!of_bob.may_have_news(token(5, 0)));
        users.set_joined(bob, room, true, 1);
        users.set_joined(alice, room, false, 2);
        users.wake_room(room, News { typing: 3, ..News::default() });
        assert!(of_bob.may_have_news(token(6, 2)) && !of_alice.may_have_news(token(6, 2)));
        users.wake_user(alice, 9);
        assert!(of_alice.may_have_news(token(8, 0)));
    }

    #[tokio::test]
    async fn r_16_what_happens_after_looking_ends_the_wait() {
        let users = ActiveUsers::default();
        let alice = user_id!("@alice:test");
        let mut listener = loaded(&users, alice, 5).await;
        assert!(!listener.may_have_news(token(5, 0)));
        users.wake_user(alice, 6);
        tokio::time::timeout(Duration::from_secs(5), listener.changed()).await.unwrap();
        assert!(listener.may_have_news(token(5, 0)));
    }

    #[tokio::test]
    async fn what_happened_before_a_user_was_active_is_not_known() {
        let users = ActiveUsers::default();
        let mut listener = users.listen(user_id!("@alice:test"), 7).unwrap();
        assert!(listener.may_have_news(token(100, 100)));
        listener.load_once(async { Ok(token(50, 2)) }).await.unwrap();
        assert!(listener.may_have_news(token(49, 2)) && listener.may_have_news(token(50, 1)));
        assert!(!listener.may_have_news(token(50, 2)));
    }

    #[tokio::test]
    async fn presence_is_heard_by_those_who_share_a_room() {
        let users = ActiveUsers::default();
        let (alice, bob, room) = (user_id!("@alice:test"), user_id!("@bob:test"), room_id!("!room:test"));
        let mut of_alice = loaded(&users, alice, 5).await;
        users.add_rooms(alice, [room.to_owned()]);
        assert_eq!(users.presences(alice, 7), (ChangedPresences::Of(vec![]), 7));
        users.wake_for_presence(bob, [room].into_iter());
        assert!(of_alice.may_have_news(token(5, 0)));
        users.wake_for_presence(bob, [room].into_iter());
        assert_eq!(users.presences(alice, 7), (ChangedPresences::Of(vec![bob.to_owned()]), 9));
        users.wake_for_presence(bob, [room_id!("!other:test")].into_iter());
        assert_eq!(users.presences(alice, 9), (ChangedPresences::Of(vec![]), 9));
        // Before a restart, or made up.
        assert_eq!(users.presences(alice, 6).0, ChangedPresences::Unknown);
        assert_eq!(users.presences(alice, 10).0, ChangedPresences::Unknown);
        for number in 0..PRESENCES_MAX {
            let other = OwnedUserId::try_from(format!("@{number}:test")).unwrap();
            users.wake_for_presence(&other, [room].into_iter());
        }
        assert_eq!(users.presences(alice, 8).0, ChangedPresences::Unknown);
    }

    #[tokio::test]
    async fn idle_users_are_dropped_and_listening_ones_are_not() {
        let users = ActiveUsers::default();
        let (alice, bob, room) = (user_id!("@alice:test"), user_id!("@bob:test"), room_id!("!room:test"));
        let _listener = loaded(&users, alice, 5).await;
        drop(loaded(&users, bob, 5).await);
        users.add_rooms(alice, [room.to_owned()]);
        users.add_rooms(bob, [room.to_owned()]);
        users.sweep();
        let mut index = users.lock();
        assert_eq!(index.users.len(), 2);
        index.drop_idle(Duration::ZERO);
        assert_eq!(index.users.keys().collect::<Vec<_>>(), [alice]);
        assert_eq!(index.by_room[room].keys().collect::<Vec<_>>(), [alice]);
    }
}
