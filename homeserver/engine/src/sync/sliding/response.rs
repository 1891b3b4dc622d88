//! What sliding sync answers.

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::sync::sync_events::{DeviceLists, UnreadNotificationsCount},
    events::{
        AnyGlobalAccountDataEvent, AnyRoomAccountDataEvent, AnyStrippedStateEvent, AnySyncEphemeralRoomEvent,
        AnySyncStateEvent, AnySyncTimelineEvent, AnyToDeviceEvent,
    },
    serde::Raw,
};
use serde::Serialize;

use crate::ThreadSubscriptionChanges;

/// What sliding sync answers.
#[derive(Debug, Default, Serialize)]
pub struct SlidingResponse {
    /// Where the answer ends.
    pub pos: String,
    /// As it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn_id: Option<String>,
    /// How many rooms are in each list.
    pub lists: BTreeMap<String, ListCount>,
    /// The rooms in which something happened, or that the client was not told of before.
    pub rooms: BTreeMap<OwnedRoomId, SlidingRoom>,
    /// What happened besides.
    pub extensions: SlidingExtensions,
}

/// How many rooms are in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ListCount {
    /// All of them, not only those in the window.
    pub count: u64,
}

/// What is told of a room.
#[derive(Debug, Default, Serialize)]
pub struct SlidingRoom {
    /// When somebody said something last; larger is later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bump_stamp: Option<u64>,
    /// The name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL of the avatar; JSON's `null` when it was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<serde_json::Value>,
    /// Who stands for the room when it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<Hero>>,
    /// Whether this replaces all that the client was told before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<bool>,
    /// Whether the user marked it as a direct chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_dm: Option<bool>,
    /// For invitations and knocks: the stripped state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_state: Option<Vec<Raw<AnyStrippedStateEvent>>>,
    /// The state that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_state: Vec<Raw<AnySyncStateEvent>>,
    /// The latest events, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Raw<AnySyncTimelineEvent>>,
    /// Whether the timeline begins earlier than what the client was told before, because it asks for more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unstable_expanded_timeline: bool,
    /// From where to read on backwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    /// Whether events before the timeline are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited: Option<bool>,
    /// How many users are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined_count: Option<u64>,
    /// How many users are invited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invited_count: Option<u64>,
    /// How much is unread.
    #[serde(flatten)]
    pub unread: UnreadNotificationsCount,
    /// How many of the timeline's events, from its end, are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_live: Option<u64>,
}

/// Somebody who stands for a room without a name.
#[derive(Debug, Serialize)]
pub struct Hero {
    /// The user.
    pub user_id: OwnedUserId,
    /// The name in that room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displayname: Option<String>,
    /// The avatar in that room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// What happened besides rooms.
#[derive(Debug, Default, Serialize)]
pub struct SlidingExtensions {
    /// Account data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_data: Option<AccountDataExtension>,
    /// Read receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipts: Option<RoomsExtension>,
    /// Who is typing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typing: Option<RoomsExtension>,
    /// Which threads the user follows.
    #[serde(rename = "io.element.msc4308.thread_subscriptions", skip_serializing_if = "Option::is_none")]
    pub thread_subscriptions: Option<ThreadSubscriptionsExtension>,
    /// What is sticky in rooms.
    #[serde(rename = "org.matrix.msc4354.sticky_events", skip_serializing_if = "Option::is_none")]
    pub sticky_events: Option<StickyEventsExtension>,
    /// Messages to the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_device: Option<ToDeviceExtension>,
    /// What end-to-end encryption needs to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2ee: Option<EncryptionExtension>,
}

/// Which threads the user follows.
#[derive(Debug, Default, Serialize)]
pub struct ThreadSubscriptionsExtension {
    /// What changed last.
    #[serde(flatten)]
    pub changes: ThreadSubscriptionChanges,
    /// Where what changed before is to be asked for, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
}

/// What is sticky in rooms, and not in their timelines.
#[derive(Debug, Serialize)]
pub struct StickyEventsExtension {
    /// What to say next time, for these not to come again.
    pub next_batch: String,
    /// By room.
    pub rooms: BTreeMap<OwnedRoomId, StickyRoom>,
}

/// What is sticky in one room.
#[derive(Debug, Default, Serialize)]
pub struct StickyRoom {
    /// The events, oldest first.
    pub events: Vec<Raw<AnySyncTimelineEvent>>,
}

/// Messages to the device.
#[derive(Debug, Serialize)]
pub struct ToDeviceExtension {
    /// What to say next time, for these not to come again.
    pub next_batch: String,
    /// The messages, in order.
    pub events: Vec<Raw<AnyToDeviceEvent>>,
}

/// What end-to-end encryption needs to know.
#[derive(Debug, Default, Serialize)]
pub struct EncryptionExtension {
    /// Whose devices are to be looked at again.
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub device_lists: DeviceLists,
    /// How many one-time keys the device has left, by algorithm.
    pub device_one_time_keys_count: BTreeMap<String, u64>,
    /// Of which algorithms there is a fallback key that was not used yet.
    pub device_unused_fallback_key_types: Vec<String>,
}

/// Account data.
#[derive(Debug, Default, Serialize)]
pub struct AccountDataExtension {
    /// Of no room.
    pub global: Vec<Raw<AnyGlobalAccountDataEvent>>,
    /// Of rooms.
    pub rooms: BTreeMap<OwnedRoomId, Vec<Raw<AnyRoomAccountDataEvent>>>,
}

/// One ephemeral event for each room.
#[derive(Debug, Default, Serialize)]
pub struct RoomsExtension {
    /// By room.
    pub rooms: BTreeMap<OwnedRoomId, Raw<AnySyncEphemeralRoomEvent>>,
}

impl SlidingResponse {
    /// Whether it is worth being sent before its time.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.extensions.is_empty()
    }
}

impl SlidingExtensions {
    pub(super) fn is_empty(&self) -> bool {
        let has_account_data =
            self.account_data.as_ref().is_some_and(|data| !data.global.is_empty() || !data.rooms.is_empty());
        let has_rooms = |extension: &Option<RoomsExtension>| extension.as_ref().is_some_and(|it| !it.rooms.is_empty());
        let has_messages = self.to_device.as_ref().is_some_and(|extension| !extension.events.is_empty());
        // Counts of keys are in every answer, and are no news.
        let has_lists = self.e2ee.as_ref().is_some_and(|extension| !extension.device_lists.is_empty());
        let has_threads = self.thread_subscriptions.is_some();
        let has_sticky = self.sticky_events.as_ref().is_some_and(|extension| !extension.rooms.is_empty());
        let has_rooms_news = has_account_data || has_rooms(&self.receipts) || has_rooms(&self.typing);
        !has_rooms_news && !has_messages && !has_lists && !has_threads && !has_sticky
    }
}
