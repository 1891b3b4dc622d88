//! What the server can do: load, decide, commit. One file per verb.
//!
//! Verbs are methods of [`Engine`]. They take who asks and what is asked, read facts from `storage` and, where the
//! facts are elsewhere, from other servers by `outbound`; `rules` decides; one commit makes it true. Whoever must hear
//! of it reads the log.

mod accounts;
mod apart;
mod client_event;
mod dehydrated_device;
mod error;
mod federation;
mod housekeeping;
mod keys;
mod locks;
mod media;
mod notices;
mod presence;
mod push;
mod room_keys;
mod rooms;
mod search;
mod services;
mod settings;
mod sync;
mod to_device;
mod tokens;

use std::sync::{Arc, atomic::AtomicI64};

use keyserver::KeyServer;
use outbound::{Federation, Sender};
use rules::world::World;
use ruma::ServerName;
use storage::Storage;

pub use appservices::{Protocol as ThirdPartyQuestion, Services};

pub use self::{
    accounts::{
        AddressPurpose, AskingService, Authenticated, FoundUsers, LetterRequest, MailError, MutualRooms, NewDevice,
        OperatorRegistration, RegisterCommand, Registered, Requester, Session, TurnCredentials, UserProfile,
        ValidatedAddress,
    },
    client_event::ClientEvent,
    dehydrated_device::DehydratedMessages,
    error::{EngineError, Result},
    federation::{
        BoundInvite, Comparison, HierarchyReply, JoinTemplate, PduOutcome, PduOutcomes, RoomCheck, SendJoinReply,
        ServerCheck, StateDifference, StateIdsReply, StateReply,
    },
    keys::{ClaimReply, KeysReply},
    media::{MediaAsker, MediaPart, MediaSettings, Medium, ThumbnailCommand, UploadCommand},
    presence::Presence,
    push::{NotificationsPage, NotificationsQuery, PusherCommand, Told, Unread},
    rooms::{
        AddressInvite, Context, CreateRoomCommand, DelayAction, DelayCommand, EventAtTime, EventFilter, HierarchyPage,
        HierarchyQuery, HierarchyRoom, InitialRoom, InitialState, Manner, MessagesPage, MessagesQuery, PolicyRefusal,
        PublicRoomsPage, PublicRoomsQuery, ROOM_VERSIONS, RelationsPage, RelationsQuery, Reported, SendCommand,
        SendOptions, ThreadSubscription, ThreadSubscriptionChanges, ThreadUnsubscription, ThreadsPage,
    },
    search::SearchCommand,
    services::ServiceRegistration,
    settings::{
        AccountSettings, Hidden, JwtAlgorithm, JwtSettings, MailSecurity, MailSettings, PasswordHashing, Registration,
        Settings, TurnAccess, TurnSettings,
    },
    sync::{
        AccountDataExtension, EncryptionExtension, Extensions, Hero, LimitedExtension, List, ListCount, ListFilters,
        RelationFilter, RoomDetails, RoomExtension, RoomsExtension, SlidingExtensions, SlidingQuery, SlidingResponse,
        SlidingRoom, StickyEventsExtension, StickyRoom, Switch, SyncAnswer, SyncQuery, ThreadSubscriptionsExtension,
        ToDeviceExtension, TokenQuery,
    },
};

/// The running server, but for its doors. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    storage: Storage,
    federation: Federation,
    sender: Sender,
    world: World,
    accounts: accounts::Accounts,
    keys: keys::Keys,
    rooms: rooms::Rooms,
    push: push::Push,
    media: media::Media,
    sync: sync::Sync,
    presence: presence::PresenceKeeper,
    services: services::ServiceQueues,
    apart: apart::Apart,
    /// One transaction at a time from each server, one event from outside at a time for each room.
    ingest: locks::Locks,
    /// One at a time for what is read, changed and written again.
    account_data: locks::Locks,
    /// Up to which position notifications were looked at in this round of forgetting.
    notifications_looked_at: AtomicI64,
    device_lists: housekeeping::DeviceListsSeen,
}

impl Engine {
    /// Puts the engine together and starts the reader that wakes whoever waits for the log to grow.
    pub fn start(settings: Settings, storage: Storage, federation: Federation, sender: Sender, world: World) -> Self {
        let inner = Inner {
            accounts: accounts::Accounts::new(&settings),
            keys: keys::Keys::new(KeyServer::new(storage.clone(), world.clone(), settings.server_name.clone())),
            rooms: rooms::Rooms::new(),
            push: push::Push::new(),
            media: media::Media::new(),
            sync: sync::Sync::new(storage.head()),
            presence: presence::PresenceKeeper::default(),
            services: services::ServiceQueues::new(&settings.services),
            apart: apart::Apart::default(),
            ingest: locks::Locks::default(),
            account_data: locks::Locks::default(),
            notifications_looked_at: AtomicI64::new(0),
            device_lists: housekeeping::DeviceListsSeen::default(),
            settings,
            storage,
            federation,
            sender,
            world,
        };
        let engine = Self { inner: Arc::new(inner) };
        engine.start_fan_out();
        engine.start_asking_for_devices();
        engine.start_sealing();
        engine.start_delayed();
        engine
    }

    /// Long polls are answered at once from now on.
    pub fn stop(&self) {
        self.inner.sync.stop();
    }

    /// The name of this server.
    pub fn server_name(&self) -> &ServerName {
        &self.inner.settings.server_name
    }

    /// The settings it was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The application services that are registered.
    pub fn services(&self) -> &appservices::Services {
        &self.inner.settings.services
    }

    /// Its memory.
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// Its calls to other servers.
    pub fn federation(&self) -> &Federation {
        &self.inner.federation
    }

    /// Its queues to other servers.
    pub fn sender(&self) -> &Sender {
        &self.inner.sender
    }

    /// Clock and chance.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// The keys of devices, and the messages between them.
    pub(crate) fn key_server(&self) -> &KeyServer {
        self.inner.keys.server()
    }

    pub(crate) fn is_local(&self, user_id: &ruma::UserId) -> bool {
        user_id.server_name() == self.server_name()
    }
}
