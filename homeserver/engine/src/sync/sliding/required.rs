//! Which state of a room a client wants.

use std::collections::HashSet;

use rules::room::StateKey;
use ruma::{UserId, events::StateEventType};

/// Which state of a room is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequiredState {
    exact: HashSet<StateKey>,
    /// Of these types all.
    types: HashSet<StateEventType>,
    /// With these state keys of all types.
    keys: HashSet<String>,
    everything: bool,
    /// Members as they are needed.
    pub(super) lazy: bool,
}

impl RequiredState {
    pub(super) fn add(&mut self, entries: &[(String, String)], user_id: &UserId) {
        for (event_type, state_key) in entries {
            let state_key = if state_key == "$ME" { user_id.as_str() } else { state_key };
            match (event_type.as_str(), state_key) {
                ("*", "*") => self.everything = true,
                ("m.room.member", "$LAZY") => self.lazy = true,
                // Has a meaning for members only.
                (_, "$LAZY") => {}
                ("*", key) => drop(self.keys.insert(key.to_owned())),
                (event_type, "*") => drop(self.types.insert(event_type.into())),
                (event_type, key) => drop(self.exact.insert((event_type.into(), key.to_owned()))),
            }
        }
    }

    /// Whether a key is wanted, however the members that are loaded lazily are.
    pub(super) fn wants(&self, key: &StateKey) -> bool {
        self.everything || self.exact.contains(key) || self.types.contains(&key.0) || self.keys.contains(&key.1)
    }

    /// Whether all members are wanted, not only as they are needed.
    pub(super) fn wants_all_members(&self) -> bool {
        self.everything || self.types.contains(&StateEventType::RoomMember)
    }

    /// Whether everything that another wants is wanted here.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let lazily = self.lazy || !other.lazy;
        lazily
            && (self.everything
                || !other.everything
                    && other.types.is_subset(&self.types)
                    && other.keys.is_subset(&self.keys)
                    && other.exact.iter().all(|key| self.wants(key)))
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn required(entries: &[(&str, &str)]) -> RequiredState {
        let entries: Vec<_> = entries.iter().map(|(one, two)| ((*one).to_owned(), (*two).to_owned())).collect();
        let mut required = RequiredState::default();
        required.add(&entries, user_id!("@me:test"));
        required
    }

    #[test]
    fn required_state_knows_its_wildcards() {
        let key = |event_type: &str, state_key: &str| (StateEventType::from(event_type), state_key.to_owned());
        let some =
            required(&[("m.room.member", "$ME"), ("m.room.member", "$LAZY"), ("m.space.child", "*"), ("*", "k")]);
        assert!(some.lazy && some.wants(&key("m.room.member", "@me:test")));
        assert!(!some.wants(&key("m.room.member", "@other:test")));
        assert!(some.wants(&key("m.space.child", "!any:test")) && some.wants(&key("any", "k")));
        assert!(!some.wants(&key("m.room.name", "")));
        let all = required(&[("*", "*")]);
        assert!(all.wants(&key("m.room.name", "")) && !all.lazy);
        assert!(all.wants_all_members() && required(&[("m.room.member", "*")]).wants_all_members());
        assert!(!some.wants_all_members());
        assert!(!all.includes(&some) && !some.includes(&all));
        assert!(some.includes(&required(&[("m.space.child", "!one:test"), ("m.room.member", "$LAZY")])));
        assert!(all.includes(&required(&[("m.room.name", "")])));
    }
}
