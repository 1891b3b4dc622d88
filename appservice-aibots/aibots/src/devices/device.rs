//! One device: a machine, its store, and the homeserver that it talks with.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use machine::{
    Audience, DecryptError, Decrypted, EncryptError, FileStore, FileStoreError, Held, LoadError, Machine, Notice,
    Readiness, Store, StoreKey, SyncParts,
};
use rules::world::World;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};
use tokio::sync::{Mutex, mpsc, watch};

use super::verification::Outgoing;
use crate::conversation::event::Object;
use crate::conversation::room::Room;
use crate::matrix::{CallError, Homeserver};
use crate::service::Service;

/// More looks than it takes until everything is there that a room waits for, also while others send at the same time.
const LOOKS_MAX: usize = 100;

/// How long to wait for what is being asked for on behalf of another room.
const OTHERS_MAX: Duration = Duration::from_mins(1);

/// Why a device cannot do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceFailure {
    /// There is none yet.
    #[error("the bot's device is not ready")]
    NotReady,
    /// Its store fails.
    #[error(transparent)]
    Store(#[from] FileStoreError),
    /// Its store is not what it was.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The homeserver fails.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The event cannot be read.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// The event cannot be made.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// A name from outside is none.
    #[error("an id is malformed: {0}")]
    Id(#[from] ruma::IdParseError),
}

impl DeviceFailure {
    /// Whether it will be the same however often it is tried.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Encrypt(EncryptError::NotEncrypted | EncryptError::UnknownAlgorithm) | Self::Id(_))
    }
}

/// One device of one bot.
pub(crate) struct Device {
    /// Never held while somebody else is asked: all that a bot reads and says goes through it.
    pub(super) inner: Mutex<Inner>,
    /// How many requests are with the homeserver.
    pub(super) under_way: watch::Sender<usize>,
    /// What verifications want said in rooms.
    pub(super) to_say: mpsc::Sender<Outgoing>,
    pub(super) homeserver: Homeserver,
    pub(super) user_id: String,
    pub(super) token: String,
}

pub(super) struct Inner {
    pub(super) machine: Machine,
    store: FileStore,
}

impl Inner {
    pub(super) fn keep<T>(&mut self, held: Held<T>) -> Result<T, DeviceFailure> {
        Ok(held.store_in(&mut self.store)?)
    }
}

impl Device {
    /// The device as it was, or a new one.
    pub(super) fn open(
        homeserver: Homeserver,
        world: &World,
        identity: (&str, &str, String),
        file: &Path,
        key: &StoreKey,
        to_say: mpsc::Sender<Outgoing>,
    ) -> Result<Self, DeviceFailure> {
        let (user_id, device_id, token) = identity;
        let mut store = FileStore::open(file, world)?;
        let records = store.records()?;
        let machine = if records.is_empty() {
            let (user_id, device_id): (OwnedUserId, OwnedDeviceId) = (user_id.try_into()?, device_id.into());
            Machine::new(world.clone(), &user_id, &device_id, key).store_in(&mut store)?
        } else {
            Machine::load(world.clone(), &records, key)?
        };
        let inner = Mutex::new(Inner { machine, store });
        let user_id = user_id.to_owned();
        Ok(Self { inner, under_way: watch::Sender::new(0), to_say, homeserver, user_id, token })
    }

    /// Publishes the keys, and the identity that signs them.
    pub(super) async fn publish(&self) -> Result<(), DeviceFailure> {
        let mut inner = self.inner.lock().await;
        if !inner.machine.cross_signing_status().has_self_signing {
            let held = inner.machine.bootstrap_cross_signing();
            inner.keep(held)?;
        }
        drop(inner);
        self.send_requests().await.map(drop)
    }

    /// The homeserver has forgotten this device: its keys are published again when it is opened next.
    pub(super) async fn forget_published(&self) -> Result<(), DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let held = inner.machine.publish_anew();
        inner.keep(held)
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) async fn sync_token(&self) -> Option<String> {
        self.inner.lock().await.machine.sync_token().map(str::to_owned)
    }

    /// Takes in a sync. Gives whether keys of rooms came.
    pub(super) async fn receive(&self, service: &Service, parts: &SyncParts) -> Result<bool, DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let held = inner.machine.receive_sync(parts);
        let mut notices = inner.keep(held)?;
        drop(inner);
        self.send_requests().await?;
        let mut inner = self.inner.lock().await;
        let held = inner.machine.notices();
        notices.extend(inner.keep(held)?);
        drop(inner);
        self.heed(service, &notices).await
    }

    /// Does what notices want done. Gives whether keys of rooms came.
    pub(super) async fn heed(&self, service: &Service, notices: &[Notice]) -> Result<bool, DeviceFailure> {
        let mut has_keys = false;
        for notice in notices {
            match notice {
                Notice::RoomKey { .. } => has_keys = true,
                Notice::OwnDeviceAdded { device_id } => {
                    tracing::warn!(device.id = %device_id, user.id = self.user_id, "a bot has another device");
                }
                Notice::Verification { flow_id } => self.go_on(service, flow_id).await?,
                _ => {}
            }
        }
        self.send_requests().await?;
        Ok(has_keys)
    }

    /// Decrypts an event; `None` when its key is not there.
    pub(super) async fn decrypt(&self, room_id: &RoomId, event: &Object) -> Result<Option<Decrypted>, DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let decrypted = match inner.machine.decrypt(room_id, event) {
            Ok(held) => inner.keep(held)?,
            Err(DecryptError::MissingKey { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(decrypted))
    }

    /// Whether a room has once been encrypted.
    pub(super) async fn knows_as_encrypted(&self, room_id: &str) -> bool {
        let Ok(room_id) = <&RoomId>::try_from(room_id) else { return false };
        self.inner.lock().await.machine.room_settings(room_id).is_some()
    }

    /// Encrypts an event for all who are in a room.
    pub(super) async fn encrypt(
        &self,
        room_id: &str,
        room: &Room,
        kind: &str,
        content: &Object,
    ) -> Result<Object, DeviceFailure> {
        let room_id: OwnedRoomId = room_id.try_into()?;
        let mut inner = self.inner.lock().await;
        if let Some(encryption) = &room.encryption {
            let held = inner.machine.set_room_encryption(&room_id, encryption);
            inner.keep(held)?;
        }
        let audience = Audience {
            room_id,
            members: readers(room),
            history_visibility: room.history_visibility.clone(),
            only_verified: false,
        };
        drop(inner);
        let mut under_way = self.under_way.subscribe();
        for _ in 0..LOOKS_MAX {
            under_way.mark_unchanged();
            if let Some(encrypted) = self.encrypt_if_ready(&audience, kind, content).await? {
                return Ok(encrypted);
            }
            if self.send_requests().await? {
                continue;
            }
            if *under_way.borrow() == 0 && !under_way.has_changed().unwrap_or(false) {
                break;
            }
            if tokio::time::timeout(OTHERS_MAX, under_way.changed()).await.is_err() {
                break;
            }
        }
        Err(EncryptError::NotReady.into())
    }

    /// Encrypts an event when everybody has the key. Else the machine wants something for that.
    async fn encrypt_if_ready(
        &self,
        audience: &Audience,
        kind: &str,
        content: &Object,
    ) -> Result<Option<Object>, DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let held = inner.machine.prepare(audience)?;
        if inner.keep(held)? == Readiness::Waiting {
            return Ok(None);
        }
        let held = inner.machine.encrypt(audience, kind, content)?;
        inner.keep(held).map(Some)
    }
}

/// Those who are to read what is said: also who is invited, where the room lets them read from then on.
fn readers(room: &Room) -> BTreeSet<OwnedUserId> {
    let reads = |is_joined: bool| is_joined || room.history_visibility != "joined";
    let members = room.members.iter().filter(|(_, member)| reads(member.is_joined));
    members.filter_map(|(user_id, _)| user_id.as_str().try_into().ok()).collect()
}
