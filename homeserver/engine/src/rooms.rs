//! Rooms: their current state in memory, one lock each, and the verbs that read and change them.

mod aliases;
mod bundles;
mod carry_over;
mod chain;
mod changes;
mod create;
mod delayed;
mod directory;
mod events;
mod guests;
mod hierarchy;
mod initial_sync;
mod invite;
mod invite_by_address;
mod join;
mod knock;
mod leave;
mod members;
mod messages;
mod moderate;
mod peek;
mod policy;
mod profile;
mod public;
mod receipts;
mod recent_sends;
mod redact;
mod relations;
mod remote;
mod report;
mod restricted;
mod send;
mod snapshot;
mod space;
mod state;
mod sticky;
mod summary;
mod thread_subscription;
mod threads;
mod timestamp;
mod typing;
mod upgrade;
mod view;

use std::sync::Arc;

use moka::{policy::EvictionPolicy, sync::Cache};
use rules::RoomSnapshot;
use ruma::{OwnedRoomId, OwnedServerName, OwnedServerSigningKeyId, RoomId, room::RoomSummary, serde::Base64};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::{federation::Completing, locks::Locks};

pub(crate) use self::{
    bundles::Bundling,
    changes::{Decision, MAX_ATTEMPTS},
    policy::{NEVER_ASKED, NOT_ASKED, NOT_RECOMMENDED, is_not_asked},
    receipts::MAIN_THREAD,
    recent_sends::DeviceSends,
    remote::{commit_error, map_call_error},
    space::MAX_CHILDREN,
    sticky::StickyCursor,
    summary::Viewer,
    thread_subscription::{PAGE_SUBSCRIPTIONS_MAX, Untold},
    typing::Typing,
    view::{RoomView, SeenEvent},
};
use self::{chain::Chain, recent_sends::RecentSends};
pub use self::{
    create::{CreateRoomCommand, InitialState},
    delayed::{DelayAction, DelayCommand},
    events::{Context, EventFilter},
    hierarchy::{HierarchyPage, HierarchyQuery, HierarchyRoom},
    initial_sync::InitialRoom,
    invite_by_address::AddressInvite,
    messages::{MessagesPage, MessagesQuery},
    moderate::Manner,
    policy::PolicyRefusal,
    public::{PublicRoomsPage, PublicRoomsQuery},
    relations::{RelationsPage, RelationsQuery},
    remote::ROOM_VERSIONS,
    report::Reported,
    send::{SendCommand, SendOptions},
    thread_subscription::{ThreadSubscription, ThreadSubscriptionChanges, ThreadUnsubscription},
    threads::ThreadsPage,
    timestamp::EventAtTime,
};

/// How many rooms' current states are kept in memory. A room of two costs some kilobytes, one of ten thousand some
/// megabytes; those not used for ten minutes are dropped.
const SNAPSHOT_CACHE_CAPACITY: u64 = 2_000;
const SNAPSHOT_CACHE_IDLE: std::time::Duration = std::time::Duration::from_mins(10);

/// How many rooms' descriptions are kept: as many as the directory lists. Each has some hundred bytes.
const SUMMARY_CACHE_CAPACITY: u64 = 10_000;
/// How many answers of other servers about spaces are kept, and for how long: they may be as large as a megabyte.
const REMOTE_SPACE_CACHE_CAPACITY: u64 = 200;
const REMOTE_SPACE_CACHE_LIFETIME: std::time::Duration = std::time::Duration::from_mins(5);
/// How many walks through spaces are kept for their next page, and for how long.
const WALK_CACHE_CAPACITY: u64 = 500;
const WALK_CACHE_LIFETIME: std::time::Duration = std::time::Duration::from_mins(10);
/// How many keys of identity servers are remembered, and for how long.
const IDENTITY_KEY_CACHE_CAPACITY: u64 = 100;
const IDENTITY_KEY_CACHE_LIFETIME: std::time::Duration = std::time::Duration::from_hours(1);

/// What the engine keeps in memory about rooms.
pub(crate) struct Rooms {
    summaries: Cache<OwnedRoomId, (i64, Arc<RoomSummary>)>,
    /// By room, and whether only what is suggested was asked for.
    remote_spaces: Cache<(OwnedRoomId, bool), Arc<space::RemoteSpace>>,
    walks: Cache<String, Arc<hierarchy::Walk>>,
    snapshots: Cache<OwnedRoomId, Arc<RoomSnapshot>>,
    locks: Locks<RwLock<Chain>>,
    pub(crate) recent_sends: RecentSends,
    pub(crate) typing: Typing,
    pub(crate) completing: Completing,
    delayed: delayed::Delayed,
    policy_answers: policy::PolicyAnswers,
    /// The keys with which identity servers sign.
    pub(crate) identity_keys: Cache<(OwnedServerName, OwnedServerSigningKeyId), Base64>,
}

impl Rooms {
    pub(crate) fn new() -> Self {
        Self {
            snapshots: Cache::builder()
                .max_capacity(SNAPSHOT_CACHE_CAPACITY)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(SNAPSHOT_CACHE_IDLE)
                .build(),
            locks: Locks::default(),
            recent_sends: RecentSends::default(),
            typing: Typing::new(),
            completing: Completing::default(),
            delayed: delayed::Delayed::default(),
            policy_answers: policy::PolicyAnswers::default(),
            identity_keys: Cache::builder()
                .max_capacity(IDENTITY_KEY_CACHE_CAPACITY)
                .time_to_live(IDENTITY_KEY_CACHE_LIFETIME)
                .build(),
            summaries: Cache::new(SUMMARY_CACHE_CAPACITY),
            remote_spaces: Cache::builder()
                .max_capacity(REMOTE_SPACE_CACHE_CAPACITY)
                .time_to_live(REMOTE_SPACE_CACHE_LIFETIME)
                .build(),
            walks: Cache::builder()
                .max_capacity(WALK_CACHE_CAPACITY)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(WALK_CACHE_LIFETIME)
                .build(),
        }
    }

    /// Waits until nobody else in this process changes the room.
    pub(crate) async fn lock(&self, room_id: &RoomId) -> OwnedRwLockWriteGuard<Chain> {
        self.locks.of(room_id.as_str()).write_owned().await
    }

    /// Waits until nobody in this process changes the room but by adding to its chain.
    async fn chain(&self, room_id: &RoomId) -> OwnedRwLockReadGuard<Chain> {
        self.locks.of(room_id.as_str()).read_owned().await
    }

    /// The description of a room, if it is as new as the revision.
    fn summary(&self, room_id: &RoomId, revision: i64) -> Option<Arc<RoomSummary>> {
        self.summaries.get(room_id).filter(|(of, _)| *of == revision).map(|(_, summary)| summary)
    }

    fn remember_summary(&self, revision: i64, summary: Arc<RoomSummary>) {
        self.summaries.insert(summary.room_id.clone(), (revision, summary));
    }
}
