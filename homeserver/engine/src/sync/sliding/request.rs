//! What a client asks of sliding sync.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use ruma::{OwnedRoomId, events::TimelineEventType, presence::PresenceState};
use serde::Deserialize;

use super::required::RequiredState;
use crate::{EngineError, Result};

/// How many lists, and how many ranges in each: a client shows a handful.
const LISTS_MAX: usize = 100;
const RANGES_MAX: usize = 100;
/// How many rooms may be subscribed to by themselves.
const SUBSCRIPTIONS_MAX: usize = 2_000;
/// How many entries a `required_state` may have.
const REQUIRED_STATE_MAX: usize = 500;
/// The longest name of a list or connection, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// How many timeline events of a room are shown at most, as in the other kind of sync.
const TIMELINE_LIMIT_MAX: u64 = 100;

/// What a client asks of sliding sync.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlidingQuery {
    /// Where the last answer ended; `None` to start anew.
    pub pos: Option<String>,
    /// Which of the device's connections this is about.
    pub conn_id: Option<String>,
    /// Comes back in the answer.
    pub txn_id: Option<String>,
    /// Windows on the rooms of the user, latest first.
    pub lists: BTreeMap<String, List>,
    /// Rooms that are wanted wherever they are in the lists.
    pub room_subscriptions: BTreeMap<OwnedRoomId, RoomDetails>,
    /// What is wanted besides rooms.
    pub extensions: Extensions,
    /// How long to wait for something to happen, in milliseconds.
    #[serde(skip)]
    pub timeout_ms: u64,
    /// What this sync makes the device's presence; `None` to leave it alone.
    #[serde(skip)]
    pub set_presence: Option<PresenceState>,
}

/// A window on the rooms of the user.
#[derive(Clone, Debug, Default, Deserialize, Hash)]
#[serde(default)]
pub struct List {
    /// Which places of the list are wanted, first and last included. Who names none wants all.
    pub ranges: Vec<(u64, u64)>,
    /// One range, for clients that write it so.
    pub range: Option<(u64, u64)>,
    /// What is wanted of each room.
    #[serde(flatten)]
    pub details: RoomDetails,
    /// Which rooms are in the list.
    pub filters: ListFilters,
}

/// What is wanted of a room.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
pub struct RoomDetails {
    /// Pairs of event type and state key, with `*`, `$ME` and `$LAZY`.
    pub required_state: Vec<(String, String)>,
    /// How many timeline events.
    pub timeline_limit: u64,
}

/// Which rooms are in a list. All that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
pub struct ListFilters {
    /// Whether the room is marked as a direct chat.
    pub is_dm: Option<bool>,
    /// The room is a child of one of these spaces.
    pub spaces: Option<Vec<OwnedRoomId>>,
    /// Whether the room is encrypted.
    pub is_encrypted: Option<bool>,
    /// Whether the user is invited only.
    #[serde(alias = "is_invited")]
    pub is_invite: Option<bool>,
    /// The types of rooms; `null` for rooms without.
    pub room_types: Option<Vec<Option<String>>>,
    /// The types that rooms may not have.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// A part of the room's name, in capitals or not.
    pub room_name_like: Option<String>,
    /// The room has one of these tags.
    pub tags: Option<Vec<String>>,
    /// The room has none of these tags.
    pub not_tags: Option<Vec<String>>,
}

/// What is wanted besides rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Account data.
    pub account_data: RoomExtension,
    /// Read receipts.
    pub receipts: RoomExtension,
    /// Who is typing.
    pub typing: RoomExtension,
    /// Which threads the user follows.
    #[serde(rename = "io.element.msc4308.thread_subscriptions")]
    pub thread_subscriptions: LimitedExtension,
    /// What is sticky in rooms.
    #[serde(rename = "org.matrix.msc4354.sticky_events")]
    pub sticky_events: TokenQuery,
    /// Messages to the device.
    pub to_device: TokenQuery,
    /// What end-to-end encryption needs to know.
    pub e2ee: Switch,
}

/// Something that is wanted in pages.
#[derive(Clone, Debug, Default, Deserialize, Hash)]
#[serde(default)]
pub struct LimitedExtension {
    /// Whether it is wanted at all.
    pub enabled: bool,
    /// How much of it at once; `None` for as much as there may be.
    pub limit: Option<usize>,
}

/// Something that is wanted with tokens of its own: messages to the device, or sticky events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TokenQuery {
    /// Whether they are wanted at all.
    pub enabled: bool,
    /// How many at most.
    pub limit: Option<u64>,
    /// Up to where the client has them: messages to the device are not kept any longer. `None` for none.
    pub since: Option<String>,
}

/// Something that is wanted or not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Hash)]
#[serde(default)]
pub struct Switch {
    /// Whether it is.
    pub enabled: bool,
}

/// Something that is wanted of rooms.
#[derive(Clone, Debug, Default, Deserialize, Hash)]
#[serde(default)]
pub struct RoomExtension {
    /// Whether it is wanted at all.
    pub enabled: bool,
    /// For the rooms of which lists; `None` for all.
    pub lists: Option<Vec<String>>,
    /// For which of the rooms that are subscribed to, `*` for all; `None` for all.
    pub rooms: Option<Vec<String>>,
}

impl SlidingQuery {
    /// Fails on what no client needs and would cost too much.
    pub(super) fn check(&self) -> Result<()> {
        let names = self.lists.keys().chain(&self.conn_id);
        let details = self.lists.values().map(|list| &list.details).chain(self.room_subscriptions.values());
        if self.lists.len() > LISTS_MAX || self.room_subscriptions.len() > SUBSCRIPTIONS_MAX {
            return Err(EngineError::invalid_param("Too many lists or subscriptions"));
        }
        if names.into_iter().any(|name| name.len() > NAME_BYTES_MAX) {
            let text = format!("`conn_id` and names of lists must not be longer than {NAME_BYTES_MAX} bytes");
            return Err(EngineError::invalid_param(text));
        }
        if details.into_iter().any(|details| details.required_state.len() > REQUIRED_STATE_MAX) {
            return Err(EngineError::invalid_param("Too many entries in `required_state`"));
        }
        let of_lists: usize = self.lists.values().map(|list| list.details.required_state.len()).sum();
        if of_lists > REQUIRED_STATE_MAX {
            return Err(EngineError::invalid_param("Too many entries in `required_state` of all lists together"));
        }
        for list in self.lists.values() {
            if list.ranges.len() > RANGES_MAX || list.all_ranges().any(|(first, last)| first > last) {
                return Err(EngineError::invalid_param("A range must not end before it begins, and there may be few"));
            }
        }
        Ok(())
    }

    /// Whether any rooms are wanted.
    pub(super) fn wants_rooms(&self) -> bool {
        !self.lists.is_empty() || !self.room_subscriptions.is_empty()
    }

    /// What tells two questions apart, but for where they start.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lists.hash(&mut hasher);
        self.room_subscriptions.hash(&mut hasher);
        let Extensions { account_data, receipts, typing, thread_subscriptions, sticky_events, to_device, e2ee } =
            &self.extensions;
        (account_data, receipts, typing, thread_subscriptions, e2ee).hash(&mut hasher);
        // What of these was told, each question says anew.
        (sticky_events.enabled, to_device.enabled).hash(&mut hasher);
        hasher.finish()
    }
}

impl List {
    pub(super) fn all_ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let named = self.ranges.iter().copied().chain(self.range);
        let all = (self.ranges.is_empty() && self.range.is_none()).then_some((0, u64::MAX));
        named.chain(all)
    }
}

impl RoomDetails {
    pub(super) fn timeline_limit(&self) -> usize {
        self.timeline_limit.min(TIMELINE_LIMIT_MAX) as usize
    }
}

impl RoomExtension {
    /// Whether it is wanted for a room that is in these lists, or subscribed to.
    pub(super) fn covers(&self, room_id: &str, lists: &[String], is_subscribed: bool) -> bool {
        let by_list = self.lists.as_ref().map_or(!lists.is_empty(), |wanted| {
            wanted.iter().any(|name| lists.contains(name)) || wanted.iter().any(|name| name == "*") && !lists.is_empty()
        });
        let by_room = self
            .rooms
            .as_ref()
            .map_or(is_subscribed, |wanted| wanted.iter().any(|name| name == room_id || name == "*" && is_subscribed));
        self.enabled && (by_list || by_room)
    }
}

/// What is wanted of one room, put together from its lists and subscription.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) timeline_limit: usize,
    pub(super) required: Arc<RequiredState>,
    pub(super) lists: Vec<String>,
    pub(super) is_subscribed: bool,
}

/// The events that move a room up in the lists: what people say to each other.
pub(super) fn bumps() -> [TimelineEventType; 8] {
    [
        "m.room.create",
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.call.invite",
        "m.poll.start",
        "org.matrix.msc3381.poll.start",
        "m.beacon_info",
    ]
    .map(TimelineEventType::from)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn query(json: Value) -> SlidingQuery {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn s_130_questions_are_bounded() {
        let list = |ranges: Value| json!({"lists": {"all": {"ranges": ranges, "timeline_limit": 1}}});
        assert!(query(list(json!([[0, 99], [50, 1_000_000_000]]))).check().is_ok());
        assert!(query(list(json!([[5, 4]]))).check().is_err());
        assert!(query(list(json!(vec![[0, 1]; 101]))).check().is_err());
        assert!(query(json!({"conn_id": "x".repeat(65)})).check().is_err());
        assert!(query(json!({"lists": {"x".repeat(65): {}}})).check().is_err());
        let many: Vec<_> = (0..501).map(|number| [format!("t{number}"), String::new()]).collect();
        assert!(query(json!({"lists": {"all": {"required_state": many}}})).check().is_err());
        assert!(serde_json::from_value::<SlidingQuery>(list(json!([[-1, 5]]))).is_err());
    }

    #[test]
    fn extensions_are_for_lists_and_rooms() {
        let of = |json: Value| serde_json::from_value::<RoomExtension>(json).unwrap();
        let lists = ["a".to_owned()];
        let any = of(json!({"enabled": true}));
        assert!(any.covers("!r:test", &lists, false) && any.covers("!r:test", &[], true));
        assert!(!any.covers("!r:test", &[], false));
        let none = of(json!({"enabled": true, "lists": [], "rooms": []}));
        assert!(!none.covers("!r:test", &lists, true));
        let one = of(json!({"enabled": true, "lists": ["b"], "rooms": ["!r:test"]}));
        assert!(one.covers("!r:test", &lists, false) && !one.covers("!other:test", &lists, true));
        assert!(!of(json!({"lists": ["a"]})).covers("!r:test", &lists, true));
    }
}
