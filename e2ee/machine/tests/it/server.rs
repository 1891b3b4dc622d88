//! A homeserver in memory, as far as machines see it. It does what it is told, right or wrong.

use std::collections::{BTreeMap, VecDeque};

use machine::{Answer, Request, RequestBody, RoomEvent, SyncParts};
use ruma::api::client::backup::{RoomKeyBackup, create_backup_version};
use ruma::api::client::keys::{claim_keys, get_keys, upload_keys, upload_signatures};
use ruma::serde::Raw;
use ruma::to_device::DeviceIdOrAllDevices;
use ruma::{OneTimeKeyAlgorithm, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, UInt, UserId};
use serde_json::{Map, Value, json};

pub(crate) type Object = Map<String, Value>;
pub(crate) type Place = (OwnedUserId, OwnedDeviceId);

/// What it keeps.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) device_keys: BTreeMap<Place, Value>,
    pub(crate) one_time_keys: BTreeMap<Place, VecDeque<(String, Value)>>,
    pub(crate) fallback_keys: BTreeMap<Place, (String, Value)>,
    pub(crate) fallback_used: BTreeMap<Place, bool>,
    pub(crate) cross_signing: BTreeMap<OwnedUserId, BTreeMap<&'static str, Value>>,
    pub(crate) inboxes: BTreeMap<Place, VecDeque<Object>>,
    pub(crate) changed: BTreeMap<Place, Vec<OwnedUserId>>,
    pub(crate) room_events: Vec<(Place, OwnedEventId, RoomEvent)>,
    pub(crate) backup: Option<(String, Object)>,
    pub(crate) backup_keys: BTreeMap<OwnedRoomId, RoomKeyBackup>,
    /// The types and payloads of messages to devices, as they were sent.
    pub(crate) sent: Vec<(String, Value)>,
    pub(crate) uploads: usize,
    pub(crate) claims: usize,
}

fn value<T>(raw: &Raw<T>) -> Value {
    serde_json::from_str(raw.json().get()).unwrap()
}

fn raw<T>(value: &Value) -> Raw<T> {
    Raw::from_json(serde_json::value::to_raw_value(value).unwrap())
}

impl Server {
    pub(crate) fn handle(&mut self, from: &Place, request: &Request) -> Answer {
        match &request.body {
            RequestBody::KeysUpload(request) => self.upload(from, request),
            RequestBody::KeysQuery(request) => Answer::KeysQuery(self.query(request)),
            RequestBody::KeysClaim(request) => Answer::KeysClaim(self.claim(request)),
            RequestBody::ToDevice(request) => {
                for (user_id, messages) in &request.messages {
                    for (device, content) in messages {
                        self.deliver(from, user_id, device, &request.event_type.to_string(), &value(content));
                    }
                }
                Answer::Done
            }
            RequestBody::SignaturesUpload(request) => self.sign(request),
            RequestBody::SigningKeysUpload(request) => {
                let keys = self.cross_signing.entry(from.0.clone()).or_default();
                keys.insert("master", value(request.master_key.as_ref().unwrap()));
                keys.insert("self_signing", value(request.self_signing_key.as_ref().unwrap()));
                keys.insert("user_signing", value(request.user_signing_key.as_ref().unwrap()));
                self.announce(&from.0.clone());
                Answer::Done
            }
            RequestBody::RoomEvent(event) => {
                let event_id = OwnedEventId::try_from(format!("$event{}", self.room_events.len())).unwrap();
                self.room_events.push((from.clone(), event_id.clone(), event.clone()));
                Answer::RoomEvent(event_id)
            }
            RequestBody::BackupCreate(request) => {
                let algorithm = value(&request.algorithm);
                self.backup = Some(("1".to_owned(), algorithm["auth_data"].as_object().unwrap().clone()));
                Answer::BackupCreate(create_backup_version::v3::Response::new("1".to_owned()))
            }
            RequestBody::BackupKeys(request) => {
                assert_eq!(Some(&request.version), self.backup.as_ref().map(|(version, _)| version));
                for (room_id, room) in &request.rooms {
                    let kept = self.backup_keys.entry(room_id.clone());
                    let kept = kept.or_insert_with(|| RoomKeyBackup::new(BTreeMap::new()));
                    kept.sessions.extend(room.sessions.clone());
                }
                Answer::Done
            }
        }
    }

    fn upload(&mut self, from: &Place, request: &upload_keys::v3::Request) -> Answer {
        self.uploads += 1;
        if let Some(keys) = &request.device_keys {
            self.device_keys.insert(from.clone(), value(keys));
            self.announce(&from.0.clone());
        }
        let kept = self.one_time_keys.entry(from.clone()).or_default();
        kept.extend(request.one_time_keys.iter().map(|(id, key)| (id.to_string(), value(key))));
        for (id, key) in &request.fallback_keys {
            self.fallback_keys.insert(from.clone(), (id.to_string(), value(key)));
            self.fallback_used.insert(from.clone(), false);
        }
        Answer::KeysUpload(upload_keys::v3::Response::new(self.counts(from)))
    }

    fn counts(&self, of: &Place) -> BTreeMap<OneTimeKeyAlgorithm, UInt> {
        let count = self.one_time_keys.get(of).map_or(0, VecDeque::len);
        BTreeMap::from([(OneTimeKeyAlgorithm::SignedCurve25519, UInt::new(count as u64).unwrap())])
    }

    pub(crate) fn query(&self, request: &get_keys::v3::Request) -> get_keys::v3::Response {
        let mut response = get_keys::v3::Response::new();
        for user_id in request.device_keys.keys() {
            let own = self.device_keys.iter().filter(|((user, _), _)| user == user_id);
            let devices = own.map(|((_, device), keys)| (device.clone(), raw(keys))).collect();
            response.device_keys.insert(user_id.clone(), devices);
            if let Some(keys) = self.cross_signing.get(user_id) {
                response.master_keys.extend(keys.get("master").map(|key| (user_id.clone(), raw(key))));
                response.self_signing_keys.extend(keys.get("self_signing").map(|key| (user_id.clone(), raw(key))));
                response.user_signing_keys.extend(keys.get("user_signing").map(|key| (user_id.clone(), raw(key))));
            }
        }
        response
    }

    fn claim(&mut self, request: &claim_keys::v3::Request) -> claim_keys::v3::Response {
        self.claims += 1;
        let mut claimed: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<_, _>>> = BTreeMap::new();
        for (user_id, devices) in &request.one_time_keys {
            for device_id in devices.keys() {
                let place = (user_id.clone(), device_id.clone());
                let key = self.one_time_keys.get_mut(&place).and_then(VecDeque::pop_front).or_else(|| {
                    self.fallback_used.insert(place.clone(), true);
                    self.fallback_keys.get(&place).cloned()
                });
                if let Some((id, key)) = key {
                    let keys = BTreeMap::from([(id.try_into().unwrap(), raw(&key))]);
                    claimed.entry(user_id.clone()).or_default().insert(device_id.clone(), keys);
                }
            }
        }
        claim_keys::v3::Response::new(claimed)
    }

    pub(crate) fn deliver(
        &mut self,
        from: &Place,
        user_id: &UserId,
        device: &DeviceIdOrAllDevices,
        event_type: &str,
        content: &Value,
    ) {
        self.sent.push((event_type.to_owned(), content.clone()));
        let event = json!({ "type": event_type, "sender": from.0, "content": content }).as_object().unwrap().clone();
        let is_meant = |id: &OwnedDeviceId| match device {
            DeviceIdOrAllDevices::DeviceId(device_id) => device_id == id,
            DeviceIdOrAllDevices::AllDevices => true,
        };
        for (place, inbox) in &mut self.inboxes {
            if place.0 == *user_id && is_meant(&place.1) {
                inbox.push_back(event.clone());
            }
        }
    }

    fn sign(&mut self, request: &upload_signatures::v3::Request) -> Answer {
        let mut changed = Vec::new();
        for (user_id, keys) in &request.signed_keys {
            for (id, signed) in keys {
                let signed: Value = serde_json::from_str(signed.get()).unwrap();
                let device = self.device_keys.get_mut(&(user_id.clone(), id.into()));
                let master = self.cross_signing.get_mut(user_id).and_then(|keys| keys.get_mut("master"));
                let target = device.or(master).unwrap();
                for (signer, signatures) in signed["signatures"].as_object().unwrap() {
                    for (name, signature) in signatures.as_object().unwrap() {
                        target["signatures"][signer][name] = signature.clone();
                    }
                }
                changed.push(user_id.clone());
            }
        }
        for user_id in &changed {
            self.announce(user_id);
        }
        Answer::SignaturesUpload(upload_signatures::v3::Response::new())
    }

    /// Tells every device that a user's keys changed.
    pub(crate) fn announce(&mut self, user_id: &UserId) {
        for place in self.inboxes.keys() {
            self.changed.entry(place.clone()).or_default().push(user_id.to_owned());
        }
    }

    /// What a device hears next, and whether that is anything.
    pub(crate) fn sync(&mut self, of: &Place) -> (SyncParts, bool) {
        let to_device: Vec<_> = self.inboxes.get_mut(of).map(|inbox| inbox.drain(..).collect()).unwrap_or_default();
        let changed = self.changed.remove(of).unwrap_or_default();
        let has_news = !to_device.is_empty() || !changed.is_empty();
        let is_unused = self.fallback_keys.contains_key(of) && !self.fallback_used.get(of).copied().unwrap_or_default();
        let unused = is_unused.then_some(OneTimeKeyAlgorithm::SignedCurve25519);
        let parts = SyncParts {
            to_device,
            changed,
            one_time_key_counts: Some(self.counts(of)),
            unused_fallback_key_types: Some(unused.into_iter().collect()),
            ..SyncParts::default()
        };
        (parts, has_news)
    }

    /// A device is logged out.
    pub(crate) fn remove(&mut self, place: &Place) {
        self.device_keys.remove(place);
        self.inboxes.remove(place);
        self.one_time_keys.remove(place);
        self.announce(&place.0);
    }
}
