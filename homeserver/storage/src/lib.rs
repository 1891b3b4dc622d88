//! The one memory of the homeserver: SQLite and PostgreSQL behind one interface, one commit.
//!
//! Everything that somebody must hear about goes through [`Storage::commit`], which gives it a position in one log.
//! Private bookkeeping (tokens, filters, queues' cursors) is a plain method.
//!
//! Integer ids exist only inside of the database; this interface speaks in the identifiers of the spec.

mod account_data;
mod accounts;
mod aliases;
mod batches;
mod cache;
mod claims;
mod commit;
mod database;
mod dehydrated_devices;
mod delayed_events;
mod destinations;
mod device_keys;
mod device_lists;
mod devices;
mod dialect;
mod error;
mod events;
mod filters;
mod finding;
mod fsck;
mod insert;
mod key_backups;
mod log;
mod media;
mod memberships;
mod mutes;
mod names;
mod notifications;
mod one_time_keys;
mod partial_states;
mod postgres;
mod presence;
mod profile_fields;
mod pushers;
mod readers;
mod receipts;
mod registration_tokens;
mod relations;
mod reports;
mod rooms;
mod search;
mod server_keys;
mod server_notices;
mod services;
mod set_aside;
mod short_lived_tokens;
mod state;
mod state_history;
mod sticky_events;
mod superseded_devices;
mod tasks;
mod third_party_ids;
mod thread_subscriptions;
mod timeline;
mod to_device;
mod transactions;
mod turns;
mod user_directory;
mod writer;

pub use self::{
    account_data::AccountDataRecord,
    accounts::{Account, AccountCreation, NewAccount, Profile},
    commit::{BeforeNews, CommitError, Committed, Place, RoomGuard, Submission},
    database::{CopyError, Durability, Options, Storage},
    dehydrated_devices::DehydratedDevice,
    delayed_events::DelayedEvent,
    destinations::{Destination, DeviceListUpdate, Outbound, OutboundEdu, OutboundItem},
    device_keys::{CrossSigningKeyRecord, DeviceKeysRecord, KeySignatureRecord},
    device_lists::{MemberChange, RemoteDeviceList},
    devices::{AccessToken, Device, NewSession, RefreshOutcome},
    error::{OpenError, StorageError},
    events::StoredEvent,
    fsck::Violation,
    key_backups::{BackedUpKey, BackupOutcome, KeyBackupRecord},
    log::{LogEntry, LogKind},
    media::{MediaBlob, MediaPlace, MediaRecord, MediaUsage, NewMedia, StoredMedia, ThumbnailKey, ThumbnailRecord},
    memberships::MembershipRecord,
    mutes::{Mute, RoomAccountData},
    notifications::{NotificationRecord, UnreadCounts},
    one_time_keys::{ClaimedKey, KeyClaim, KeyCounts, NewOneTimeKey, OneTimeKeysUpload},
    partial_states::{MembersKnown, PartialStateRecord},
    profile_fields::ProfileField,
    pushers::{ConcernedPusher, PusherKey, PusherQueue, PusherRecord},
    receipts::ReceiptRecord,
    registration_tokens::RegistrationToken,
    relations::{RelatedEvent, RelationCount, RelationsRange, ThreadsRange},
    reports::{NewReport, Report},
    rooms::{RoomRecord, ServerStay},
    search::{SearchHit, SearchQuery},
    server_keys::ServerKeyRecord,
    services::{ServiceQueue, ServiceTransaction},
    set_aside::SetAsideEvent,
    short_lived_tokens::TokenPurpose,
    state_history::StateSpan,
    sticky_events::StickyEvent,
    tasks::Tasks,
    third_party_ids::{AddressValidation, ThirdPartyId},
    thread_subscriptions::ThreadSubscriptionRecord,
    timeline::{Direction, TimelineRange},
    to_device::ToDeviceRecord,
};

/// The result of reading or writing.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;
