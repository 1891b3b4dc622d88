//! Who is told next, so that nobody takes up all the room there is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::OwnedUserId;
use storage::{ConcernedPusher, PusherKey};

use crate::{accounts::DIGESTS_AT_ONCE, push::pushers::EMAIL};

/// How many pushers are told something at the same time.
const WORKERS_MAX: usize = 256;
/// How many of these may lead to one host, so that one that is slow leaves room for the others.
const WORKERS_PER_HOST_MAX: usize = 32;
/// How many of these may be one user's, who names the gateways: many that are slow leave room for other users.
const WORKERS_PER_USER_MAX: usize = 4;

/// What has a bound of its own for how many workers there may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Host(String),
    User(OwnedUserId),
}

impl Lane {
    /// The lanes that a worker of a pusher takes up. A host is one however many ports are named.
    fn of(pusher: &ConcernedPusher) -> [Self; 2] {
        let host = pusher.gateway.rsplit_once(':').map_or(&*pusher.gateway, |(host, _)| host);
        [Self::Host(host.to_owned()), Self::User(pusher.key.user_id.clone())]
    }

    fn workers_max(&self) -> usize {
        match self {
            Self::Host(host) if host == EMAIL => DIGESTS_AT_ONCE,
            Self::Host(_) => WORKERS_PER_HOST_MAX,
            Self::User(_) => WORKERS_PER_USER_MAX,
        }
    }
}

/// The pushers that are to be told something, and how many of each lane have a worker.
#[derive(Default)]
pub(super) struct Lanes {
    /// How many workers there are, and in which lanes.
    active: usize,
    active_in: BTreeMap<Lane, usize>,
    /// The pushers whose turn comes next, and those that wait for room in a lane: there are some only while it is full,
    /// or while one of them is among those whose turn comes next.
    ready: VecDeque<ConcernedPusher>,
    parked: BTreeMap<Lane, VecDeque<ConcernedPusher>>,
    queued: BTreeSet<PusherKey>,
}

impl Lanes {
    /// Queues a pusher, once.
    pub(super) fn queue(&mut self, pusher: ConcernedPusher) {
        if self.queued.insert(pusher.key.clone()) {
            self.ready.push_back(pusher);
        }
    }

    /// How many wait for their turn.
    pub(super) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// How many have a worker.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// The next pusher that may have a worker, for whom there is one worker more now.
    pub(super) fn enter(&mut self) -> Option<ConcernedPusher> {
        while self.active < WORKERS_MAX {
            let pusher = self.ready.pop_front()?;
            let lanes = Lane::of(&pusher);
            if let Some(full) = lanes.iter().find(|lane| !self.has_room(lane)) {
                self.parked.entry(full.clone()).or_default().push_back(pusher);
                // It leaves its turn in the other lane to the next there.
                for lane in &lanes {
                    self.unpark(lane);
                }
                continue;
            }
            for lane in lanes {
                *self.active_in.entry(lane).or_default() += 1;
            }
            self.active += 1;
            self.queued.remove(&pusher.key);
            return Some(pusher);
        }
        None
    }

    /// The worker of a pusher has ended.
    pub(super) fn leave(&mut self, pusher: &ConcernedPusher) {
        self.active = self.active.saturating_sub(1);
        for lane in &Lane::of(pusher) {
            if let Some(count) = self.active_in.get_mut(lane) {
                *count -= 1;
                if *count == 0 {
                    self.active_in.remove(lane);
                }
            }
            self.unpark(lane);
        }
    }

    fn has_room(&self, lane: &Lane) -> bool {
        self.active_in.get(lane).is_none_or(|count| *count < lane.workers_max())
    }

    /// The next of those who wait for a lane comes first, if there is room.
    fn unpark(&mut self, lane: &Lane) {
        if !self.has_room(lane) {
            return;
        }
        let Some(parked) = self.parked.get_mut(lane) else { return };
        let next = parked.pop_front();
        if parked.is_empty() {
            self.parked.remove(lane);
        }
        if let Some(pusher) = next {
            self.ready.push_front(pusher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pusher(user: usize, number: usize, gateway: &str) -> ConcernedPusher {
        let user_id = OwnedUserId::try_from(format!("@u{user}:here")).unwrap();
        let key = PusherKey { user_id, app_id: "app".to_owned(), pushkey: number.to_string() };
        ConcernedPusher { key, gateway: gateway.to_owned(), retry_at_ts: None }
    }

    fn all(lanes: &mut Lanes) -> Vec<ConcernedPusher> {
        std::iter::from_fn(|| lanes.enter()).collect()
    }

    #[test]
    fn a_host_a_user_and_all_together_have_their_bounds() {
        let mut lanes = Lanes::default();
        for user in 0..100 {
            lanes.queue(pusher(user, 0, &format!("slow.test:{user}")));
            lanes.queue(pusher(user, 0, &format!("slow.test:{user}")));
        }
        assert_eq!(lanes.queued(), 100, "each once");
        let at_slow = all(&mut lanes);
        assert_eq!(at_slow.len(), WORKERS_PER_HOST_MAX, "one host, however many ports");
        for number in 1..100 {
            lanes.queue(pusher(0, number, &format!("host{number}.test:443")));
        }
        let of_one_user = all(&mut lanes);
        assert_eq!(of_one_user.len(), WORKERS_PER_USER_MAX - 1, "and one at the slow host");
        for user in 1_000..2_000 {
            lanes.queue(pusher(user, 0, &format!("{user}.test:443")));
        }
        assert_eq!(all(&mut lanes).len(), WORKERS_MAX - WORKERS_PER_HOST_MAX - (WORKERS_PER_USER_MAX - 1));
        assert_eq!(lanes.active(), WORKERS_MAX);
    }

    #[test]
    fn letters_have_few_places() {
        let mut lanes = Lanes::default();
        (0..10).for_each(|user| lanes.queue(pusher(user, 0, EMAIL)));
        assert_eq!(all(&mut lanes).len(), DIGESTS_AT_ONCE);
    }

    #[test]
    fn everybody_has_a_turn_in_the_end() {
        let mut lanes = Lanes::default();
        for number in 0..500 {
            lanes.queue(pusher(number % 7, number, ["a.test:1", "b.test:1", "c.test:1"][number % 3]));
        }
        let (mut at_work, mut told) = (VecDeque::new(), BTreeSet::new());
        loop {
            at_work.extend(all(&mut lanes));
            let Some(pusher) = at_work.pop_front() else { break };
            assert!(told.insert(pusher.key.clone()), "{:?} twice", pusher.key);
            lanes.leave(&pusher);
        }
        assert_eq!((told.len(), lanes.queued(), lanes.active()), (500, 0, 0));
        assert!(lanes.active_in.is_empty() && lanes.parked.is_empty());
    }
}
