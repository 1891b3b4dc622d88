//! From where on the log has to be read again after a crash.

use std::collections::BTreeMap;

use rules::change::Position;
use storage::PusherKey;

/// The pushers that the log has something for, from which position on at the earliest, until storage knows of it: by
/// what they have been told, or by when they are to be tried again.
#[derive(Default)]
pub(super) struct UnderWay {
    since: BTreeMap<PusherKey, Position>,
    counts: BTreeMap<Position, usize>,
}

impl UnderWay {
    /// The log has something for a pusher after a position.
    pub(super) fn begin(&mut self, key: &PusherKey, since: Position) {
        if !self.since.contains_key(key) {
            self.since.insert(key.clone(), since);
            *self.counts.entry(since).or_default() += 1;
        }
    }

    /// Storage knows how far the pusher is.
    pub(super) fn end(&mut self, key: &PusherKey) {
        let Some(since) = self.since.remove(key) else { return };
        if let Some(count) = self.counts.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&since);
            }
        }
    }

    /// What comes up to this position needs not be read again.
    pub(super) fn lowest(&self) -> Option<Position> {
        self.counts.first_key_value().map(|(since, _)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_is_that_of_whoever_is_not_told_yet() {
        let key = |name: &str| PusherKey {
            user_id: "@a:here".try_into().unwrap(),
            app_id: "app".to_owned(),
            pushkey: name.to_owned(),
        };
        let mut under_way = UnderWay::default();
        assert_eq!(under_way.lowest(), None);
        for (name, since) in [("slow", 5), ("quick", 7), ("also quick", 7), ("slow", 9)] {
            under_way.begin(&key(name), since);
        }
        under_way.end(&key("quick"));
        assert_eq!(under_way.lowest(), Some(5), "what came for it later is told later");
        under_way.end(&key("slow"));
        under_way.end(&key("slow"));
        assert_eq!(under_way.lowest(), Some(7));
        under_way.end(&key("also quick"));
        assert_eq!(under_way.lowest(), None);
    }
}
