//! The client: a machine with its store, and what a sync and a wish make of it.

use std::path::Path;

use machine::{
    Audience, FileStore, FlowId, Held, Machine, Readiness, Request, RequestBody, RoomEvent, Store as _, StoreKey,
    SyncParts,
};
use ruma::{OwnedDeviceId, OwnedUserId, RoomId};
use serde_json::{Map, Value, json};

use crate::api::{Api, Failure, escaped};
use crate::system::world;
use crate::wire::{self, part};

/// How long a sync waits for news, in milliseconds: wishes wait as long.
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
    password: String,
    /// Events that could not be decrypted yet, with their rooms.
    pub(crate) waiting: Vec<(ruma::OwnedRoomId, Object)>,
    /// The verifications that this client asked for.
    pub(crate) asked: Vec<FlowId>,
}

/// Tells the test what happened.
pub(crate) fn tell(what: &Value) {
    println!("{what}");
}

impl Client {
    /// Begins as a new device, or goes on as the one in the file.
    pub(crate) async fn begin(base_url: &str, user: &str, password: &str, file: &Path) -> Result<Self, Failure> {
        let world = world();
        let mut store = FileStore::open(file, &world)?;
        let key = StoreKey::from_passphrase(password, store.salt())?;
        let records = store.records()?;
        let (api, machine) = if records.is_empty() {
            let device: OwnedDeviceId = world.random_string(10).to_uppercase().into();
            let (api, session) = Api::enter(base_url, user, password, device.as_str()).await?;
            let user_id: OwnedUserId = serde_json::from_value(session["user_id"].clone())?;
            (api, Machine::new(world, &user_id, &device, &key).store_in(&mut store)?)
        } else {
            let machine = Machine::load(world, &records, &key)?;
            let (api, _) = Api::enter(base_url, user, password, machine.device_id().as_str()).await?;
            (api, machine)
        };
        let mut client =
            Self { api, machine, store, password: password.to_owned(), waiting: Vec::new(), asked: Vec::new() };
        client.send_requests().await?;
        let machine = &client.machine;
        tell(&json!({
            "is": "ready",
            "user_id": machine.user_id(),
            "device_id": machine.device_id(),
            "ed25519": machine.ed25519_key(),
        }));
        Ok(client)
    }

    pub(crate) fn keep<T>(&mut self, held: Held<T>) -> Result<T, Failure> {
        Ok(held.store_in(&mut self.store)?)
    }

    /// One sync.
    pub(crate) async fn sync(&mut self) -> Result<(), Failure> {
        let since = self.machine.sync_token().map(|token| format!("&since={}", escaped(token))).unwrap_or_default();
        let mut answer = self.api.get(&format!("sync?timeout={SYNC_TIMEOUT_MS}{since}")).await?;
        let mut lists = answer["device_lists"].take();
        let parts = SyncParts {
            to_device: part(&mut answer["to_device"], "events")?,
            changed: part(&mut lists, "changed")?,
            left: part(&mut lists, "left")?,
            one_time_key_counts: Some(part(&mut answer, "device_one_time_keys_count")?),
            unused_fallback_key_types: part(&mut answer, "device_unused_fallback_key_types")?,
            next_batch: Some(part(&mut answer, "next_batch")?),
        };
        let held = self.machine.receive_sync(&parts);
        let notices = self.keep(held)?;
        self.send_requests().await?;
        self.receive_notices(notices).await?;
        self.receive_rooms(&answer["rooms"]).await?;
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
        Box::pin(self.receive_notices(notices)).await
    }

    async fn send_request(&mut self, request: &Request) -> Result<(), Failure> {
        let answer = match &request.body {
            RequestBody::RoomEvent(event) => Box::pin(self.send_event(event)).await,
            body => wire::send(&self.api, &self.password, body).await,
        };
        let held = match answer {
            Ok(answer) => self.machine.answer(&request.id, &answer)?,
            Err(failure) => {
                tell(&json!({ "is": "failure", "what": failure.to_string() }));
                self.machine.give_up(&request.id)?
            }
        };
        self.keep(held)
    }

    async fn send_event(&mut self, event: &RoomEvent) -> Result<machine::Answer, Failure> {
        let event_id = self.send_to_room(&event.room_id, &event.event_type, &event.content).await?;
        Ok(machine::Answer::RoomEvent(event_id.as_str().try_into()?))
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

    async fn encrypt(&mut self, room_id: &RoomId, kind: &str, content: &Object) -> Result<Object, Failure> {
        let members = self.api.get(&format!("rooms/{}/joined_members", escaped(room_id.as_str()))).await?;
        let members = members["joined"].as_object().into_iter().flat_map(Map::keys);
        let audience = Audience {
            room_id: room_id.to_owned(),
            members: members.filter_map(|user_id| user_id.as_str().try_into().ok()).collect(),
            history_visibility: "shared".to_owned(),
            only_verified: false,
        };
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

    /// What the test wants.
    pub(crate) async fn fulfil(&mut self, wish: &Value) -> Result<(), Failure> {
        let text = |field: &str| wish[field].as_str().unwrap_or_default();
        match text("do") {
            "send" => {
                let content = json!({ "msgtype": "m.text", "body": text("body") });
                let content = content.as_object().cloned().unwrap_or_default();
                let event_id = self.send_to_room(text("room_id").try_into()?, "m.room.message", &content).await?;
                tell(&json!({ "is": "sent", "event_id": event_id }));
            }
            "bootstrap" => {
                let held = self.machine.bootstrap_cross_signing();
                self.keep(held)?;
            }
            "verify" => {
                let user_id: OwnedUserId = text("user_id").try_into()?;
                match self.machine.request_verification(&user_id, &[text("device_id").into()]) {
                    Some(held) => {
                        let flow_id = self.keep(held)?;
                        self.asked.push(flow_id);
                    }
                    None => tell(&json!({ "is": "failure", "what": "the device is not known" })),
                }
            }
            "confirm" => {
                let flow_id = FlowId { user_id: text("user_id").try_into()?, id: text("flow").to_owned() };
                let held = self.machine.confirm_sas(&flow_id);
                self.keep(held)?;
            }
            "rotate" => {
                let held = self.machine.discard_session(text("room_id").try_into()?);
                self.keep(held)?;
            }
            "backup" => {
                let held = self.machine.create_backup();
                let recovery_key = self.keep(held)?;
                tell(&json!({ "is": "backup", "recovery_key": recovery_key }));
            }
            other => tell(&json!({ "is": "failure", "what": format!("no such wish: {other}") })),
        }
        self.send_requests().await
    }
}
