//! The client: a machine with its store, and what a sync makes of it.

use std::collections::{BTreeMap, BTreeSet};

use machine::{
    Answer, Audience, FileStore, FlowId, Held, Machine, Readiness, Request, RequestBody, RoomEvent, StoreKey, SyncParts,
};
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::api::{Api, Failure, escaped};
use crate::system::world;
use crate::wire::{self, part};

/// How long a sync waits for news, in milliseconds: what the test wants waits as long.
const SYNC_TIMEOUT_MS: u64 = 300;

/// More steps than it takes to get a room's key to everybody.
const STEPS_MAX: usize = 20;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// A device.
pub(crate) struct Client {
    pub(crate) api: Api,
    pub(crate) machine: Machine,
    store: FileStore,
    /// Where the store is, until the end.
    _folder: TempDir,
    password: String,
    /// Who has invited us where.
    pub(crate) invitations: BTreeMap<OwnedRoomId, OwnedUserId>,
    /// What was said to us of bundles of keys, and by whom.
    pub(crate) bundles: Vec<(OwnedUserId, Object)>,
    /// The verifications that were seen.
    pub(crate) flows: Vec<FlowId>,
    /// The one that the test is at.
    pub(crate) verifying: Option<FlowId>,
}

impl Client {
    /// Begins as a new device of a user.
    pub(crate) async fn begin(mut api: Api, user: &str, password: &str) -> Result<Self, Failure> {
        let (world, folder) = (world(), TempDir::new()?);
        let mut store = FileStore::open(&folder.path().join("machine"), &world)?;
        let key = StoreKey::from_passphrase(password, store.salt())?;
        let device: OwnedDeviceId = world.random_string(10).to_uppercase().into();
        let user_id: OwnedUserId = api.log_in(user, password, device.as_str()).await?.try_into()?;
        let machine = Machine::new(world, &user_id, &device, &key).store_in(&mut store)?;
        let mut client = Self {
            api,
            machine,
            store,
            _folder: folder,
            password: password.to_owned(),
            invitations: BTreeMap::new(),
            bundles: Vec::new(),
            flows: Vec::new(),
            verifying: None,
        };
        client.send_requests().await?;
        Ok(client)
    }

    pub(crate) fn keep<T>(&mut self, held: Held<T>) -> Result<T, Failure> {
        Ok(held.store_in(&mut self.store)?)
    }

    /// One sync.
    pub(crate) async fn sync(&mut self) -> Result<(), Failure> {
        self.send_requests().await?;
        let since = self.machine.sync_token().map(|token| format!("&since={}", escaped(token))).unwrap_or_default();
        let mut answer = self.api.get(&format!("sync?timeout={SYNC_TIMEOUT_MS}{since}")).await?;
        let unused = answer.get("device_unused_fallback_key_types").cloned();
        let parts = SyncParts {
            to_device: part(&mut answer["to_device"], "events")?,
            changed: part(&mut answer["device_lists"], "changed")?,
            left: part(&mut answer["device_lists"], "left")?,
            one_time_key_counts: Some(part(&mut answer, "device_one_time_keys_count")?),
            unused_fallback_key_types: unused.map(serde_json::from_value).transpose()?,
            next_batch: Some(part(&mut answer, "next_batch")?),
        };
        let held = self.machine.receive_sync(&parts);
        let notices = self.keep(held)?;
        self.receive_notices(notices);
        self.receive_rooms(&answer["rooms"])?;
        self.send_requests().await
    }

    /// Sends what the machine wants to send, until it wants no more.
    pub(crate) async fn send_requests(&mut self) -> Result<(), Failure> {
        for _ in 0..STEPS_MAX {
            let held = self.machine.requests();
            let requests = self.keep(held)?;
            if requests.is_empty() {
                break;
            }
            for request in requests {
                self.send_request(&request).await?;
            }
        }
        let held = self.machine.notices();
        let notices = self.keep(held)?;
        self.receive_notices(notices);
        Ok(())
    }

    async fn send_request(&mut self, request: &Request) -> Result<(), Failure> {
        let answer = match &request.body {
            RequestBody::RoomEvent(event) => Box::pin(self.send_event(event)).await,
            body => wire::send(&self.api, &self.password, body).await,
        };
        let held = match answer {
            Ok(answer) => self.machine.answer(&request.id, &answer)?,
            Err(failure) => {
                eprintln!("{failure}");
                self.machine.give_up(&request.id)?
            }
        };
        self.keep(held)
    }

    async fn send_event(&mut self, event: &RoomEvent) -> Result<Answer, Failure> {
        let event_id = self.send_to_room(&event.room_id, &event.event_type, &event.content).await?;
        Ok(Answer::RoomEvent(event_id.as_str().try_into()?))
    }

    /// Sends an event to a room, encrypted where the room is.
    pub(crate) async fn send_to_room(
        &mut self,
        room_id: &RoomId,
        kind: &str,
        content: &Object,
    ) -> Result<String, Failure> {
        let (kind, content) = match self.machine.room_settings(room_id) {
            Some(_) => ("m.room.encrypted", self.encrypt(room_id, kind, content).await?),
            None => (kind, content.clone()),
        };
        let transaction_id = world().random_string(16);
        let path = format!("rooms/{}/send/{kind}/{transaction_id}", escaped(room_id.as_str()));
        let answer = self.api.put(&path, Value::Object(content)).await?;
        Ok(answer["event_id"].as_str().ok_or("an event has an id")?.to_owned())
    }

    pub(crate) async fn members(&self, room_id: &RoomId) -> Result<BTreeSet<OwnedUserId>, Failure> {
        let answer = self.api.get(&format!("rooms/{}/joined_members", escaped(room_id.as_str()))).await?;
        let members = answer["joined"].as_object().into_iter().flat_map(Map::keys);
        Ok(members.filter_map(|user_id| user_id.as_str().try_into().ok()).collect())
    }

    async fn encrypt(&mut self, room_id: &RoomId, kind: &str, content: &Object) -> Result<Object, Failure> {
        let members = self.members(room_id).await?;
        let (room_id, history_visibility) = (room_id.to_owned(), "shared".to_owned());
        let audience = Audience { room_id, members, history_visibility, only_verified: false };
        for _ in 0..STEPS_MAX {
            let held = self.machine.prepare(&audience)?;
            if self.keep(held)? == Readiness::Ready {
                break;
            }
            Box::pin(self.send_requests()).await?;
        }
        let held = self.machine.encrypt(&audience, kind, content)?;
        self.keep(held)
    }
}
