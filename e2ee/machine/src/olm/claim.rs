//! Claiming one-time keys to begin sessions, and beginning anew where sessions broke.

use std::collections::{BTreeMap, BTreeSet};

use ruma::api::client::keys::claim_keys;
use ruma::{OneTimeKeyAlgorithm, UserId};
use vodozemac::Curve25519PublicKey;
use vodozemac::olm::SessionConfig;

use crate::devices::Device;
use crate::machine::{Machine, object};
use crate::request::{Place, Purpose, RequestBody};
use crate::signed_json::{self, Object};
use crate::store::Table;

/// Most devices in one claim.
const DEVICES_PER_CLAIM: usize = 250;

/// How often at most a new session is made with a device because the old ones fail: the spec's hour, which keeps two
/// broken devices from feeding each other.
const UNWEDGE_INTERVAL_MS: u64 = 60 * 60 * 1000;

/// How long a device that had no one-time key is not asked again.
const RETRY_AFTER_MS: u64 = 5 * 60 * 1000;

/// Most devices that wait for a new session: what comes from strangers must not grow without end.
const WEDGED_MAX: usize = 1_000;

impl Machine {
    /// Asks for one-time keys of devices, except of those that had none a short while ago. Returns whether any of them
    /// is asked for now or already.
    pub(crate) fn claim(&mut self, devices: &[Device]) -> bool {
        let now = self.world.clock.now_ms();
        let asked = self.claims_under_way();
        let mut is_waiting = false;
        let mut missing = Vec::new();
        for device in devices {
            let place = (device.user_id.clone(), device.device_id.clone());
            if asked.contains(&place) {
                is_waiting = true;
            } else if self.olm.retry_at_ms.get(&place).is_none_or(|at| *at <= now) {
                missing.push(place);
            }
        }
        self.ask_for_keys(&missing);
        is_waiting || !missing.is_empty()
    }

    fn claims_under_way(&self) -> BTreeSet<Place> {
        let places = |purpose: &Purpose| match purpose {
            Purpose::KeysClaim(places) => places.clone(),
            _ => BTreeSet::new(),
        };
        self.pending.values().flat_map(places).collect()
    }

    fn ask_for_keys(&mut self, places: &[Place]) {
        for part in places.chunks(DEVICES_PER_CLAIM) {
            let mut keys: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
            for (user_id, device_id) in part {
                keys.entry(user_id.clone())
                    .or_default()
                    .insert(device_id.clone(), OneTimeKeyAlgorithm::SignedCurve25519);
            }
            let request = claim_keys::v3::Request::new(keys);
            self.ask(Purpose::KeysClaim(part.iter().cloned().collect()), RequestBody::KeysClaim(request));
        }
    }

    /// Begins sessions with the keys that were claimed.
    pub(crate) fn receive_claim(&mut self, asked: &BTreeSet<Place>, response: &claim_keys::v3::Response) {
        let retry_at_ms = self.world.clock.now_ms() + RETRY_AFTER_MS;
        for place in asked {
            let keys = response.one_time_keys.get(&place.0).and_then(|devices| devices.get(&place.1));
            let key = keys.and_then(|keys| keys.values().next()).and_then(object);
            let device = self.users.device(&place.0, &place.1).cloned();
            let has_begun = key.zip(device.as_ref()).is_some_and(|(key, device)| self.begin_session(device, &key));
            if has_begun {
                self.olm.retry_at_ms.remove(place);
                self.olm.unreachable.remove(place);
            } else {
                self.olm.retry_at_ms.insert(place.clone(), retry_at_ms);
            }
            let is_unwedged = self.olm.wedged.remove(place).is_some();
            let waiting = self.olm.waiting.remove(place).unwrap_or_default();
            let Some(device) = device.filter(|_| has_begun) else { continue };
            if is_unwedged {
                // Its first message tells the other device to use the new session.
                self.send_encrypted(&device, "m.dummy", &Object::new());
            }
            for (event_type, content) in waiting {
                self.send_encrypted(&device, &event_type, &content);
            }
        }
    }

    /// The claim failed: the devices are asked again later.
    pub(crate) fn postpone_claim(&mut self, asked: &BTreeSet<Place>) {
        let retry_at_ms = self.world.clock.now_ms() + RETRY_AFTER_MS;
        for place in asked {
            self.olm.retry_at_ms.insert(place.clone(), retry_at_ms);
            self.olm.wedged.remove(place);
            self.olm.waiting.remove(place);
        }
    }

    /// Begins a session with a one-time key that the device must have signed.
    fn begin_session(&mut self, device: &Device, key: &Object) -> bool {
        let name = format!("ed25519:{}", device.device_id);
        if !signed_json::is_signed(key, &device.user_id, &name, &device.ed25519) {
            return false;
        }
        let public = signed_json::text(key, "key").and_then(|key| Curve25519PublicKey::from_base64(key).ok());
        let Some(public) = public else { return false };
        let account = &self.account.account;
        // Fails for keys of low order, with which everybody would know the secret.
        let session = account.create_outbound_session(SessionConfig::version_1(), device.curve25519, public);
        let Ok(session) = session else { return false };
        let now = self.world.clock.now_ms();
        let peer_key = device.curve25519.to_base64();
        self.olm.peers.entry(peer_key.clone()).or_default().add(session, now);
        self.touch(Table::OlmSessions, peer_key);
        true
    }

    /// No session opens what a device sent, or it has none: one is to be made anew, if that was not done within the hour.
    pub(crate) fn mark_wedged(&mut self, sender: &UserId, sender_key: Curve25519PublicKey) {
        let now = self.world.clock.now_ms();
        let Some(device) = self.users.device_with_key(sender, sender_key) else { return };
        let place = (device.user_id.clone(), device.device_id.clone());
        let peer_key = sender_key.to_base64();
        let last = self.olm.peers.get(&peer_key).and_then(|peer| peer.unwedged_at_ms);
        if last.is_some_and(|at| now < at + UNWEDGE_INTERVAL_MS) || self.olm.wedged.len() >= WEDGED_MAX {
            return;
        }
        self.olm.peers.entry(peer_key.clone()).or_default().unwedged_at_ms = Some(now);
        self.olm.wedged.insert(place, sender_key);
        self.touch(Table::OlmSessions, peer_key);
    }

    /// Asks for keys of devices with broken sessions.
    pub(crate) fn want_claims_for_unwedging(&mut self) {
        let wedged: Vec<_> = self.olm.wedged.keys().cloned().collect();
        let devices: Vec<_> =
            wedged.iter().filter_map(|(user, device)| self.users.device(user, device).cloned()).collect();
        if !self.claim(&devices) {
            self.olm.wedged.clear();
        }
    }
}
