//! Finding the one item that a server refuses, so that what is behind it gets through; and what of the queue is passed over
//! for a server that was away for long.

use rules::change::Position;

/// So many items in a row may be left out. A server that refuses more than that refuses everything: it is broken, and
/// what we have for it waits until it is not.
const SKIPS_IN_A_ROW_MAX: u32 = 3;

/// Where the search stands. The default is: not searching.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// How many items a transaction may have.
    limit: Option<usize>,
    /// The end of what was refused.
    until: Position,
    skips_in_a_row: u32,
    /// Up to where only the latest event of each room is sent.
    latest_until: Position,
}

/// What to do about a refused transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send less.
    Split,
    /// It was one item: leave it out.
    Skip,
    /// Too many were left out: wait.
    GiveUp,
}

impl Isolation {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    pub(super) fn is_over(&self) -> bool {
        self.limit.is_none() && self.skips_in_a_row == 0 && self.latest_until == 0
    }

    /// From now on, up to that position, only the latest event of each room is sent.
    pub(super) fn leap(&mut self, until: Position) {
        self.latest_until = until;
    }

    /// Up to where only the latest event of each room is sent; 0 when all are.
    pub(super) fn latest_until(&self) -> Position {
        self.latest_until
    }

    /// A transaction of so many items, up to that position, was refused for what is in it.
    pub(super) fn refused(&mut self, items: usize, until: Position) -> Next {
        if items > 1 {
            self.until = self.until.max(until);
            self.limit = Some(items / 2);
            return Next::Split;
        }
        if self.skips_in_a_row < SKIPS_IN_A_ROW_MAX {
            self.skips_in_a_row += 1;
            self.pass(until);
            return Next::Skip;
        }
        self.skips_in_a_row = 0;
        Next::GiveUp
    }

    /// Everything up to that position was delivered.
    pub(super) fn delivered(&mut self, until: Position) {
        self.skips_in_a_row = 0;
        self.limit = self.limit.map(|limit| limit.saturating_mul(2));
        self.pass(until);
    }

    fn pass(&mut self, until: Position) {
        if until >= self.until {
            self.limit = None;
            self.until = 0;
        }
        if until >= self.latest_until {
            self.latest_until = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends items 1 to `count` to a server that refuses some of them, and says what it got after how many attempts.
    fn deliver(count: i64, poison: &[i64]) -> (Vec<i64>, usize) {
        let (mut isolation, mut cursor, mut delivered) = (Isolation::default(), 0, Vec::new());
        for attempt in 0.. {
            let batch: Vec<i64> = (cursor + 1..=count).take(isolation.limit().min(50)).collect();
            let Some(until) = batch.last().copied() else { return (delivered, attempt) };
            if batch.iter().any(|item| poison.contains(item)) {
                match isolation.refused(batch.len(), until) {
                    Next::Split => {}
                    Next::Skip => cursor = until,
                    Next::GiveUp => return (delivered, attempt),
                }
            } else {
                isolation.delivered(until);
                delivered.extend(batch);
                cursor = until;
            }
        }
        unreachable!("it ends when everything is delivered")
    }

    #[test]
    fn s_075_everything_but_the_poison_is_delivered() {
        for poison in [vec![], vec![1], vec![25], vec![50], vec![51], vec![120], vec![3, 40, 41, 90]] {
            let (delivered, attempts) = deliver(120, &poison);
            let expected: Vec<i64> = (1..=120).filter(|item| !poison.contains(item)).collect();
            assert_eq!(delivered, expected, "{poison:?}");
            assert!(attempts <= 3 + 16 * poison.len(), "{poison:?} took {attempts} attempts");
        }
    }

    #[test]
    fn a_server_that_refuses_everything_is_waited_for() {
        let everything: Vec<i64> = (1..=120).collect();
        let (delivered, attempts) = deliver(120, &everything);
        assert!(delivered.is_empty());
        assert_eq!(attempts, 5 + 3, "five halvings of 50, and three items left out");
    }
}
