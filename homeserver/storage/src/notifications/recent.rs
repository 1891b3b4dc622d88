//! What the last commits did to what users have not read.
//!
//! A message is told to all who wait in its room at the same moment, and to each with how much they have not read. What
//! that was before the message is in memory, and so is what the message comes to for them: nobody has to ask the database.

use std::collections::BTreeMap;

use rules::change::{Notice, Notified, Position};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{CountedRoom, UnreadCounts};
use crate::log::Bus;

/// For how many users an event may come to something else than for everyone, to be kept here.
const OTHERS_MAX: usize = 32;
/// How many positions of the log are looked through for one room. When more happened, asking the database takes less time.
const POSITIONS_MAX: Position = 1_000;
/// The thread of everything that is in no thread.
pub(crate) const MAIN_THREAD: &str = "main";

/// One thing that a commit did.
#[derive(Debug)]
pub(crate) enum UnreadChange {
    /// It notified users of an event.
    Notified(RecentNotice),
    /// A user has read something.
    Read(RecentRead),
    /// It changed what was counted before: of one user or of all, in one room or in all.
    Anew(Option<OwnedUserId>, Option<OwnedRoomId>),
}

/// What an event comes to, and for whom.
#[derive(Debug)]
pub(crate) struct RecentNotice {
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    thread_root: Option<OwnedEventId>,
    everyone: Option<Notice>,
    others: Vec<Notified>,
}

/// How far a user has read a thread of a room, or all of it.
#[derive(Debug)]
pub(crate) struct RecentRead {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) user_id: OwnedUserId,
    pub(crate) thread_id: Option<String>,
    pub(crate) up_to: Position,
}

/// What happened since something was counted, as far as it concerns a user in a room.
#[derive(Default)]
struct Since<'a> {
    notices: Vec<(Position, &'a RecentNotice, Notice)>,
    reads: Vec<&'a RecentRead>,
}

impl UnreadChange {
    /// What is kept of a notification.
    pub(crate) fn notified(
        (room_id, sender): (&RoomId, &UserId),
        thread_root: Option<&OwnedEventId>,
        everyone: Option<Notice>,
        others: &[Notified],
    ) -> Self {
        let room_id = room_id.to_owned();
        if others.len() > OTHERS_MAX {
            return Self::Anew(None, Some(room_id));
        }
        let (sender, others) = (sender.to_owned(), others.to_vec());
        Self::Notified(RecentNotice { room_id, sender, thread_root: thread_root.cloned(), everyone, others })
    }
}

impl RecentNotice {
    /// What it comes to for a user, if the user is notified.
    fn notice_of(&self, user_id: &UserId, joined: bool) -> Option<Notice> {
        match self.others.iter().find(|other| other.user_id == user_id) {
            Some(other) => other.notice,
            None => self.everyone.filter(|_| joined && self.sender != user_id),
        }
    }

    fn thread_id(&self) -> &str {
        self.thread_root.as_ref().map_or(MAIN_THREAD, |root| root.as_str())
    }
}

impl CountedRoom {
    /// What the user has not read of the room by now, by thread, if memory tells.
    pub(super) fn counted_on(
        &self,
        (user_id, room_id): (&UserId, &RoomId),
        bus: &Bus,
        now: Position,
    ) -> Option<BTreeMap<String, UnreadCounts>> {
        if now - self.up_to > POSITIONS_MAX {
            return None;
        }
        bus.unread_changes_since(self.up_to, |changes| {
            let mut since = Since::default();
            for (position, change) in changes {
                match change {
                    UnreadChange::Anew(whose, of) => {
                        let is_this = whose.as_deref().is_none_or(|whose| whose == user_id)
                            && of.as_deref().is_none_or(|of| of == room_id);
                        if is_this {
                            return None;
                        }
                    }
                    UnreadChange::Read(read) if read.user_id == user_id && read.room_id == room_id => {
                        since.reads.push(read);
                    }
                    UnreadChange::Notified(event) if event.room_id == room_id => {
                        let notice = event.notice_of(user_id, self.joined);
                        if let Some(notice) = notice.filter(|_| self.up_to < *position && *position <= now) {
                            since.notices.push((*position, event, notice));
                        }
                    }
                    UnreadChange::Read(_) | UnreadChange::Notified(_) => {}
                }
            }
            since.added_to(self)
        })?
    }
}

impl Since<'_> {
    /// What is unread by now, unless only some of what was counted is read: it is not known which.
    fn added_to(&self, counted: &CountedRoom) -> Option<BTreeMap<String, UnreadCounts>> {
        let mut threads = BTreeMap::new();
        for (thread_id, counts) in &counted.threads {
            match self.read_up_to(thread_id) {
                None => drop(threads.insert(thread_id.clone(), *counts)),
                Some(position) if position >= counted.up_to => {}
                Some(_) => return None,
            }
        }
        for (position, event, notice) in &self.notices {
            if self.read_up_to(event.thread_id()).is_none_or(|read| read < *position) {
                let counts: &mut UnreadCounts = threads.entry(event.thread_id().to_owned()).or_default();
                *counts += UnreadCounts { notifications: 1, highlights: u64::from(notice.highlight) };
            }
        }
        Some(threads)
    }

    /// Up to where a thread was read meanwhile, if it was.
    fn read_up_to(&self, thread_id: &str) -> Option<Position> {
        let is_of_thread = |read: &&&RecentRead| read.thread_id.as_deref().is_none_or(|of| of == thread_id);
        self.reads.iter().filter(is_of_thread).map(|read| read.up_to).max()
    }
}
