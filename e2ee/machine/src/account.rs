//! This device's own keys: made once, published, and topped up.
//! <https://spec.matrix.org/v1.19/client-server-api/#uploading-keys>

use ruma::api::client::keys::upload_keys;
use ruma::encryption::OneTimeKey;
use ruma::serde::Raw;
use ruma::{OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId, UInt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vodozemac::olm::{Account, AccountPickle};

use crate::machine::{Machine, raw};
use crate::request::{Purpose, RequestBody};
use crate::signed_json::{self, Object};
use crate::store::{Held, Table};

/// How we encrypt for devices.
pub(crate) const OLM: &str = "m.olm.v1.curve25519-aes-sha2";

/// How we encrypt for rooms.
pub(crate) const MEGOLM: &str = "m.megolm.v1.aes-sha2";

/// How long the previous fallback key still opens messages after the next one was published: messages made with it may be
/// on their way, and those who replay it should not have long.
const FALLBACK_KEPT_MS: u64 = 60 * 60 * 1000;

/// The account, and what of it is published.
#[derive(Serialize, Deserialize)]
pub(crate) struct AccountState {
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
    #[serde(serialize_with = "pickle", deserialize_with = "unpickle")]
    pub(crate) account: Account,
    /// Whether the server has our device keys.
    pub(crate) is_published: bool,
    /// How many one-time keys the server says it has; unknown before it has said so.
    pub(crate) one_time_key_count: Option<u64>,
    /// Whether the server says that it has an unused fallback key.
    pub(crate) has_unused_fallback_key: bool,
    /// When to forget the fallback key before the current one.
    pub(crate) forget_fallback_at_ms: Option<u64>,
    /// How far the sync has come.
    pub(crate) sync_token: Option<String>,
}

fn pickle<S: Serializer>(account: &Account, serializer: S) -> Result<S::Ok, S::Error> {
    account.pickle().serialize(serializer)
}

fn unpickle<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Account, D::Error> {
    AccountPickle::deserialize(deserializer).map(Account::from_pickle)
}

impl AccountState {
    pub(crate) fn new(user_id: OwnedUserId, device_id: OwnedDeviceId) -> Self {
        Self {
            user_id,
            device_id,
            account: Account::new(),
            is_published: false,
            one_time_key_count: None,
            has_unused_fallback_key: false,
            forget_fallback_at_ms: None,
            sync_token: None,
        }
    }
}

impl Machine {
    /// This device's Curve25519 identity key.
    pub fn curve25519_key(&self) -> String {
        self.account.account.curve25519_key().to_base64()
    }

    /// This device's Ed25519 fingerprint.
    pub fn ed25519_key(&self) -> String {
        self.account.account.ed25519_key().to_base64()
    }

    /// The `next_batch` of the last sync that was taken in: go on from there.
    pub fn sync_token(&self) -> Option<&str> {
        self.account.sync_token.as_deref()
    }

    /// The name of this device's signing key.
    pub(crate) fn signing_key_id(&self) -> String {
        format!("ed25519:{}", self.device_id)
    }

    /// Signs an object as this device.
    pub(crate) fn sign(&self, object: &mut Object) -> bool {
        signed_json::sign(object, &self.user_id, &self.signing_key_id(), |text| self.account.account.sign(text))
    }

    /// Our device keys as others are to see them.
    pub(crate) fn device_keys(&self) -> Object {
        let keys = json!({
            format!("curve25519:{}", self.device_id): self.curve25519_key(),
            self.signing_key_id(): self.ed25519_key(),
        });
        let mut object = Object::new();
        object.insert("user_id".into(), json!(self.user_id));
        object.insert("device_id".into(), json!(self.device_id));
        object.insert("algorithms".into(), json!([OLM, MEGOLM]));
        object.insert("keys".into(), keys);
        self.sign(&mut object);
        object
    }

    /// Lets everything be published again: the server has forgotten this device, as it does at a logout, and whoever logs
    /// in again by the same id wants to go on. The keys stay the same, and other devices' sessions with us work; the
    /// signature of our identity follows when the keys are there.
    pub fn publish_anew(&mut self) -> Held<()> {
        self.account.is_published = false;
        self.account.one_time_key_count = None;
        self.account.has_unused_fallback_key = false;
        self.touch(Table::Account, "");
        self.hold(())
    }

    /// Takes in what the server says it has.
    pub(crate) fn receive_counts(
        &mut self,
        counts: Option<&BTreeMap<OneTimeKeyAlgorithm, UInt>>,
        unused_fallback: Option<&[OneTimeKeyAlgorithm]>,
    ) {
        let state = &mut self.account;
        let before = (state.one_time_key_count, state.has_unused_fallback_key);
        if let Some(counts) = counts {
            // An algorithm that is not there has no keys left.
            let count = counts.get(&OneTimeKeyAlgorithm::SignedCurve25519).map_or(0, |count| u64::from(*count));
            state.one_time_key_count = Some(count);
        }
        if let Some(unused) = unused_fallback {
            state.has_unused_fallback_key = unused.contains(&OneTimeKeyAlgorithm::SignedCurve25519);
        }
        if before != (state.one_time_key_count, state.has_unused_fallback_key) {
            self.touch(Table::Account, "");
        }
    }

    /// Asks for an upload when anything is to be published, and none is under way.
    pub(crate) fn want_keys_upload(&mut self) {
        self.forget_fallback_key();
        if self.is_pending(|purpose| matches!(purpose, Purpose::KeysUpload)) {
            return;
        }
        self.make_one_time_keys();
        if !self.account.has_unused_fallback_key && self.account.account.fallback_key().is_empty() {
            self.account.account.generate_fallback_key();
            self.touch(Table::Account, "");
        }
        let mut request = upload_keys::v3::Request::new();
        request.device_keys = (!self.account.is_published).then(|| raw(self.device_keys()));
        request.one_time_keys = self.signed_keys(self.account.account.one_time_keys(), false);
        request.fallback_keys = self.signed_keys(self.account.account.fallback_key(), true);
        let is_empty =
            request.device_keys.is_none() && request.one_time_keys.is_empty() && request.fallback_keys.is_empty();
        if !is_empty {
            self.ask(Purpose::KeysUpload, RequestBody::KeysUpload(request));
        }
    }

    /// Tops up to what the account calls its most: half of the private keys that it can keep, so that a key that was
    /// claimed and whose message is late is still there.
    fn make_one_time_keys(&mut self) {
        let most = self.account.account.max_number_of_one_time_keys() as u64;
        let unpublished = self.account.account.one_time_keys().len() as u64;
        let missing = most.saturating_sub(self.account.one_time_key_count.unwrap_or(0) + unpublished);
        if missing > 0 {
            self.account.account.generate_one_time_keys(missing as usize);
            self.touch(Table::Account, "");
        }
    }

    fn signed_keys(
        &self,
        keys: impl IntoIterator<Item = (vodozemac::KeyId, vodozemac::Curve25519PublicKey)>,
        is_fallback: bool,
    ) -> BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>> {
        let signed = |(id, key): (vodozemac::KeyId, vodozemac::Curve25519PublicKey)| {
            let mut object = Object::new();
            object.insert("key".into(), Value::String(key.to_base64()));
            if is_fallback {
                object.insert("fallback".into(), Value::Bool(true));
            }
            self.sign(&mut object);
            let id = format!("signed_curve25519:{}", id.to_base64());
            OwnedOneTimeKeyId::try_from(id).ok().map(|id| (id, raw(object)))
        };
        keys.into_iter().filter_map(signed).collect()
    }

    /// Our upload arrived.
    pub(crate) fn receive_upload(&mut self, response: &upload_keys::v3::Response) {
        let now = self.world.clock.now_ms();
        let is_first = !self.account.is_published;
        let state = &mut self.account;
        if !state.account.fallback_key().is_empty() {
            state.has_unused_fallback_key = true;
            state.forget_fallback_at_ms = Some(now + FALLBACK_KEPT_MS);
        }
        state.account.mark_keys_as_published();
        state.is_published = true;
        self.touch(Table::Account, "");
        self.receive_counts(Some(&response.one_time_key_counts), None);
        if is_first && !self.is_pending(|purpose| matches!(purpose, Purpose::SignaturesUpload)) {
            // Signatures are of published keys. Without an identity of ours there is none to make.
            let device_id = self.device_id.clone();
            self.sign_own_device(&device_id);
        }
    }

    fn forget_fallback_key(&mut self) {
        let now = self.world.clock.now_ms();
        if self.account.forget_fallback_at_ms.is_some_and(|at| at <= now) {
            self.account.account.forget_fallback_key();
            self.account.forget_fallback_at_ms = None;
            self.touch(Table::Account, "");
        }
    }
}
