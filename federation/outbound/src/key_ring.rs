//! The keys of other servers: remembered, stored, fetched from the server itself, or learned from a notary, in this
//! order; and what a signature made with one of them is worth.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>
//!
//! Only what a server says itself is stored. What a notary says is remembered until the restart, fills gaps, and
//! never replaces or extends what the server has said.

mod fetch;
mod known;
mod notary;
mod own;
mod refused;
mod response;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, stream};
use rules::{
    event::{ServerKey, weak::has_weak_signature},
    world::World,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{PublicKeyMap, VerificationError, Verified, required_server_signatures_to_verify_event, verify_event},
};
use storage::{Storage, StorageError};
use tokio::sync::{OnceCell, Semaphore};

use self::{known::Known, refused::RefusedKeys};
use crate::{Transport, gauge_value};

/// Servers whose keys are remembered: a few times what a busy server federates with, about 1 KiB each.
const SERVERS_MAX: u64 = 20_000;
/// Fetches at the same time for one purpose. Requests and events have a gate each, so that a flood of requests in the
/// name of invented servers does not stop rooms.
const FETCHES_MAX: usize = 64;
/// Fetches that may wait for their turn. Beyond it, keys count as not to be had.
const FETCHES_WAITING_MAX: usize = 1_024;
/// From so many servers on, a batch is first asked of a notary: some of them will be gone, and each that is gone costs
/// a time-out.
const BATCH_MIN: usize = 16;

/// What a notary is asked, per server.
pub type KeyQueries = BTreeMap<OwnedServerName, KeyQuery>;

/// Which keys of a server a notary is asked for.
#[derive(Clone, Debug, Default)]
pub struct KeyQuery {
    /// Their ids; all keys if empty.
    pub key_ids: Vec<OwnedServerSigningKeyId>,
    /// Until when they are to be valid at least, in milliseconds since the epoch; until now if that is not said.
    pub valid_until_ms: Option<u64>,
}

/// Why a signature is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// None of the keys that it is signed with is known and valid, and none is to be had now.
    #[error("no valid key of {0} for this signature is to be had")]
    NoKey(OwnedServerName),
    /// The signature is wrong or missing, or what is signed is not of the right form.
    #[error(transparent)]
    Signature(#[from] VerificationError),
    /// The stored keys cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The keys of other servers, and our own.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    key: Arc<ServerKey>,
    storage: Storage,
    transport: Arc<dyn Transport>,
    world: World,
    notaries: Vec<OwnedServerName>,
    refused: RefusedKeys,
    servers: moka::sync::Cache<OwnedServerName, Arc<Entry>>,
    own: OnceCell<Arc<Known>>,
    requests: Gate,
    events: Gate,
}

/// One server.
#[derive(Default)]
struct Entry {
    known: Mutex<Arc<Known>>,
    /// Held while its keys are being fetched, so that everyone else waits for the same answer.
    fetching: tokio::sync::Mutex<fetch::Progress>,
}

/// How many fetches run, and how many wait.
struct Gate {
    waiting: Semaphore,
    running: Semaphore,
}

/// What keys are wanted for. It decides which are good enough.
#[derive(Clone, Debug)]
enum Need {
    /// A request, or JSON that is not an event: one of these keys, valid now.
    Now(BTreeSet<OwnedServerSigningKeyId>),
    /// An event: one of these keys, valid at its time.
    Event { key_ids: BTreeSet<OwnedServerSigningKeyId>, origin_server_ts: u64, enforce_validity: bool },
    /// To answer as a notary: the server's own statement, with these keys, valid until then.
    Statement { key_ids: BTreeSet<OwnedServerSigningKeyId>, valid_until_ms: u64 },
}

/// The keys of which servers are needed to verify some events.
#[derive(Debug, Default)]
pub struct KeyNeeds(BTreeMap<OwnedServerName, Need>);

impl KeyNeeds {
    /// Adds what an event needs: nothing if it cannot be verified anyway.
    pub fn add(&mut self, object: &CanonicalJsonObject, rules: &RoomVersionRules) {
        for (server, need) in event_needs(object, rules).unwrap_or_default() {
            self.join(server, need);
        }
    }

    /// Adds what other events need.
    pub fn extend(&mut self, others: Self) {
        for (server, need) in others.0 {
            self.join(server, need);
        }
    }

    fn join(&mut self, server: OwnedServerName, need: Need) {
        match self.0.entry(server) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(need);
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => occupied.get_mut().join(need),
        }
    }
}

impl KeyRing {
    pub(crate) fn new(
        key: Arc<ServerKey>,
        storage: Storage,
        transport: Arc<dyn Transport>,
        world: World,
        notaries: Vec<OwnedServerName>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                key,
                storage,
                transport,
                world,
                notaries,
                refused: RefusedKeys::default(),
                servers: moka::sync::Cache::new(SERVERS_MAX),
                own: OnceCell::new(),
                requests: Gate::new(),
                events: Gate::new(),
            }),
        }
    }

    /// Refuses further public keys, whoever claims them: besides those that everybody has the secret half of, the ones
    /// that the operator knows to be stolen.
    pub fn refuse(&self, public_keys: impl IntoIterator<Item = [u8; 32]>) {
        self.inner.refused.extend(public_keys);
    }

    /// Checks the signatures and the content hash of an event, fetching keys as needed.
    pub async fn verify_event(
        &self,
        object: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Verified, VerifyError> {
        let mut keys = PublicKeyMap::new();
        for (server, need) in event_needs(object, rules)? {
            if has_weak_signature(object, server.as_str()) {
                return Err(VerificationError::NoSupportedSignatureForEntity(server.into()).into());
            }
            let known = self.known(&server, &need).await?;
            let usable = self.inner.usable(&known, &need);
            if usable.is_empty() {
                return Err(VerifyError::NoKey(server));
            }
            keys.insert(server.into(), usable);
        }
        Ok(verify_event(&keys, object, rules)?)
    }

    /// Fetches the keys for a batch of events, of all servers at once. What cannot be had is found out again when the
    /// events are verified, without another fetch.
    pub async fn prefetch(&self, needs: KeyNeeds) {
        if let Err(error) = self.fetch_batch(needs.0).await {
            tracing::warn!(%error, "keys cannot be fetched in advance");
        }
    }

    /// Checks the signature of a server on a JSON object that is not an event, as of now.
    pub async fn verify_json(&self, server: &ServerName, object: &CanonicalJsonObject) -> Result<(), VerifyError> {
        let need = Need::Now(key_ids(object, server));
        let known = self.known(server, &need).await?;
        let usable = self.inner.usable(&known, &need);
        if usable.is_empty() {
            return Err(VerifyError::NoKey(server.to_owned()));
        }
        Ok(response::verify_entity(server, usable, object)?)
    }

    /// The key that a request says it is signed with.
    pub(crate) async fn request_key(
        &self,
        server: &ServerName,
        key_id: &OwnedServerSigningKeyId,
    ) -> Result<[u8; 32], VerifyError> {
        let need = Need::Now(BTreeSet::from([key_id.clone()]));
        let known = self.known(server, &need).await?;
        let now_ms = self.inner.world.clock.now_ms();
        let key = known.valid_now(key_id, now_ms).filter(|key| !self.inner.refused.contains(key));
        key.ok_or_else(|| VerifyError::NoKey(server.to_owned()))
    }

    async fn fetch_batch(&self, mut needs: BTreeMap<OwnedServerName, Need>) -> Result<(), StorageError> {
        let mut missing = BTreeMap::new();
        while let Some((server, need)) = needs.pop_first() {
            if *server != *self.inner.key.server_name() && !self.satisfied(&server, &need).await? {
                missing.insert(server, need);
            }
        }
        if missing.len() >= BATCH_MIN && !self.inner.notaries.is_empty() {
            self.ask_notaries_for_batch(&missing).await;
        }
        stream::iter(missing)
            .map(|(server, need)| async move { self.known(&server, &need).await.map(|_| ()) })
            .buffer_unordered(FETCHES_MAX)
            .fold(Ok(()), |so_far, fetched| async { so_far.and(fetched) })
            .await
    }

    /// Everything known of a server, after trying to get what is needed.
    async fn known(&self, server: &ServerName, need: &Need) -> Result<Arc<Known>, StorageError> {
        if *server == *self.inner.key.server_name() {
            return self.own_known().await;
        }
        let entry = self.entry(server);
        let known = entry.snapshot();
        if self.inner.meets(&known, need) {
            return Ok(known);
        }
        self.inner.fetch(server, &entry, need).await?;
        Ok(entry.snapshot())
    }

    async fn satisfied(&self, server: &ServerName, need: &Need) -> Result<bool, StorageError> {
        let entry = self.entry(server);
        self.inner.load(server, &entry).await?;
        Ok(self.inner.meets(&entry.snapshot(), need))
    }

    fn entry(&self, server: &ServerName) -> Arc<Entry> {
        let entry = self.inner.servers.get_with_by_ref(server, Arc::default);
        metrics::gauge!("federation_key_cache_size").set(gauge_value(self.inner.servers.entry_count()));
        entry
    }
}

impl Inner {
    fn meets(&self, known: &Known, need: &Need) -> bool {
        match need {
            Need::Statement { key_ids, valid_until_ms } => known.states(key_ids, *valid_until_ms),
            _ => !self.usable(known, need).is_empty(),
        }
    }

    /// The keys that are good enough.
    fn usable(&self, known: &Known, need: &Need) -> BTreeMap<String, Base64> {
        let now_ms = self.world.clock.now_ms();
        let good = |key_id: &OwnedServerSigningKeyId| {
            let key = match need {
                Need::Now(_) => known.valid_now(key_id, now_ms),
                Need::Event { origin_server_ts, enforce_validity, .. } => {
                    known.valid_for_event(key_id, *origin_server_ts, *enforce_validity)
                }
                Need::Statement { .. } => None,
            };
            let key = key.filter(|key| !self.refused.contains(key))?;
            Some((key_id.to_string(), Base64::new(key.to_vec())))
        };
        need.key_ids().iter().filter_map(good).collect()
    }
}

impl Entry {
    fn snapshot(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn update(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut known));
    }
}

impl Gate {
    fn new() -> Self {
        Self { waiting: Semaphore::new(FETCHES_WAITING_MAX), running: Semaphore::new(FETCHES_MAX) }
    }
}

impl Need {
    fn key_ids(&self) -> &BTreeSet<OwnedServerSigningKeyId> {
        match self {
            Self::Now(key_ids) | Self::Event { key_ids, .. } | Self::Statement { key_ids, .. } => key_ids,
        }
    }

    /// Widens a need for one event so that it covers another event of the same server.
    fn join(&mut self, other: Self) {
        if let (
            Self::Event { key_ids, origin_server_ts, .. },
            Self::Event { key_ids: more, origin_server_ts: other_ts, .. },
        ) = (self, other)
        {
            key_ids.extend(more);
            *origin_server_ts = (*origin_server_ts).max(other_ts);
        }
    }
}

/// Which servers must have signed an event, and what of them is needed to check it.
fn event_needs(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<Vec<(OwnedServerName, Need)>, VerificationError> {
    let origin_server_ts = match object.get("origin_server_ts") {
        Some(CanonicalJsonValue::Integer(ts)) => u64::try_from(i64::from(*ts)).unwrap_or(0),
        _ => 0,
    };
    let servers = required_server_signatures_to_verify_event(object, &rules.signatures)?;
    let enforce_validity = rules.enforce_key_validity;
    let need =
        |server: &ServerName| Need::Event { key_ids: key_ids(object, server), origin_server_ts, enforce_validity };
    servers
        .into_iter()
        .map(|server| {
            if key_ids(object, &server).is_empty() {
                Err(VerificationError::NoSignaturesForEntity(server.into()))
            } else {
                let need = need(&server);
                Ok((server, need))
            }
        })
        .collect()
}

/// The keys with which a server has signed an object, as far as we know their algorithm.
fn key_ids(object: &CanonicalJsonObject, server: &ServerName) -> BTreeSet<OwnedServerSigningKeyId> {
    let Some(CanonicalJsonValue::Object(signatures)) = object.get("signatures") else { return BTreeSet::new() };
    let Some(CanonicalJsonValue::Object(of_server)) = signatures.get(server.as_str()) else { return BTreeSet::new() };
    let known_algorithm = of_server.keys().filter(|key_id| key_id.starts_with("ed25519:"));
    known_algorithm.filter_map(|key_id| key_id.as_str().try_into().ok()).take(known::KEYS_MAX).collect()
}
