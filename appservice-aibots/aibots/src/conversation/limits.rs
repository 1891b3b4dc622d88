//! How much bots say: in a conversation all of them together, and where that is wished for, to one user and by one bot;
//! within windows that slide.

use std::collections::VecDeque;

/// The window.
const WINDOW_MS: u64 = 60_000;

/// The replies of one conversation, to one user or by one bot within the last minute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    replies_ms: VecDeque<u64>,
    told_ms: Option<u64>,
}

/// Whether a reply may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// It may, and counts.
    Granted,
    /// Not now, and the people are to be told once.
    RefusedFirst,
    /// Not now, and they know.
    Refused,
}

impl Window {
    /// Whether there is room for one reply more, out of `replies_max` a minute.
    pub(crate) fn has_room(&mut self, now_ms: u64, replies_max: usize) -> bool {
        while self.replies_ms.front().is_some_and(|reply_ms| reply_ms.saturating_add(WINDOW_MS) <= now_ms) {
            self.replies_ms.pop_front();
        }
        self.replies_ms.len() < replies_max
    }

    /// Counts a reply.
    pub(crate) fn take(&mut self, now_ms: u64) {
        self.replies_ms.push_back(now_ms);
    }

    /// Refuses a reply.
    pub(crate) fn refuse(&mut self, now_ms: u64) -> Permission {
        if self.told_ms.is_some_and(|told_ms| now_ms < told_ms.saturating_add(WINDOW_MS)) {
            return Permission::Refused;
        }
        self.told_ms = Some(now_ms);
        Permission::RefusedFirst
    }

    /// Whether there is nothing in it that counts any more.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        self.replies_ms.iter().chain(&self.told_ms).all(|at_ms| at_ms.saturating_add(WINDOW_MS) <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::{Permission, Window};

    fn ask(window: &mut Window, now_ms: u64) -> Permission {
        if !window.has_room(now_ms, 10) {
            return window.refuse(now_ms);
        }
        window.take(now_ms);
        Permission::Granted
    }

    #[test]
    fn the_eleventh_reply_in_a_minute_is_refused_and_told_once() {
        let mut window = Window::default();
        for second in 0..10 {
            assert_eq!(ask(&mut window, second * 1000), Permission::Granted);
        }
        assert_eq!(ask(&mut window, 10_000), Permission::RefusedFirst);
        assert_eq!(ask(&mut window, 11_000), Permission::Refused);
        assert_eq!(ask(&mut window, 60_000), Permission::Granted, "the first of them is a minute ago");
        assert_eq!(ask(&mut window, 60_500), Permission::Refused);
        assert_eq!(ask(&mut window, 61_000), Permission::Granted);
    }
}
