//! Getting keys: from storage once, then from the server itself, then from a notary; and not again too soon.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{Method, StatusCode, header::CONTENT_TYPE};
use rules::event::read_json;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName};
use storage::StorageError;

use super::{Entry, Gate, Inner, KeyRing, Known, Need, response::Statement};
use crate::CallLimits;

/// How long after a fetch the next one may follow. A server that has come up again, or has a new key, is heard within
/// this time; one that does not exist costs no more than this often.
const PAUSE_MS: u64 = 15_000;
/// How long it grows to while fetching fails.
const PAUSE_MAX_MS: u64 = 900_000;
/// Servers in one question to a notary. It has to fetch the keys itself, within the time that we wait.
const NOTARY_BATCH_MAX: usize = 50;

/// What was tried for one server.
#[derive(Default)]
pub(super) struct Progress {
    loaded: bool,
    next_fetch_ms: u64,
    failures: u32,
}

impl Inner {
    /// Gets the keys of one server unless they are there or it is too early. One at a time per server: who comes
    /// second finds what the first has got.
    pub(super) async fn fetch(&self, server: &ServerName, entry: &Entry, need: &Need) -> Result<(), StorageError> {
        let mut progress = entry.fetching.lock().await;
        self.load_locked(server, entry, &mut progress).await?;
        let now_ms = self.world.clock.now_ms();
        if self.meets(&entry.snapshot(), need) || now_ms < progress.next_fetch_ms {
            return Ok(());
        }
        let gate = self.gate(need);
        let Ok(_place) = gate.waiting.try_acquire() else { return Ok(()) };
        let _permit = gate.running.acquire().await;
        progress.attempt(now_ms);
        if self.fetch_direct(server, entry).await? {
            progress.succeeded(now_ms);
        }
        if !matches!(need, Need::Statement { .. }) && !self.meets(&entry.snapshot(), need) {
            self.ask_notaries(&BTreeMap::from([(server.to_owned(), need.clone())]), |_, statement| {
                entry.update(|known| known.add_from_notary(&statement));
            })
            .await;
        }
        Ok(())
    }

    /// Reads the stored keys of a server unless that was done before.
    pub(super) async fn load(&self, server: &ServerName, entry: &Entry) -> Result<(), StorageError> {
        let mut progress = entry.fetching.lock().await;
        self.load_locked(server, entry, &mut progress).await
    }

    async fn load_locked(
        &self,
        server: &ServerName,
        entry: &Entry,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        if !progress.loaded {
            let stored = Known::from_records(self.storage.server_keys(server).await?);
            entry.update(|known| known.add_stored(stored));
            progress.loaded = true;
        }
        Ok(())
    }

    fn gate(&self, need: &Need) -> &Gate {
        match need {
            Need::Event { .. } => &self.events,
            Need::Now(_) | Need::Statement { .. } => &self.requests,
        }
    }

    /// Asks the server itself, and stores what it says. Whether it said something.
    async fn fetch_direct(&self, server: &ServerName, entry: &Entry) -> Result<bool, StorageError> {
        let statement = match self.ask_server(server).await {
            Ok(statement) => Arc::new(statement),
            Err(reason) => {
                tracing::debug!(%server, reason, "the keys of a server are not to be had from itself");
                return Ok(false);
            }
        };
        entry.update(|known| known.add_direct(statement));
        self.storage.store_server_keys(&entry.snapshot().records(server)).await?;
        Ok(true)
    }

    async fn ask_server(&self, server: &ServerName) -> Result<Statement, String> {
        let answer = self.exchange(server, Method::GET, "/_matrix/key/v2/server", Bytes::new()).await?;
        let statement = Statement::read(answer, self.world.clock.now_ms())?;
        if *statement.server != *server {
            return Err(format!("the answer is about {}", statement.server));
        }
        Ok(statement)
    }

    /// Asks the notaries in turn until one answers, and hands on what it says about the servers in question.
    async fn ask_notaries(
        &self,
        needs: &BTreeMap<OwnedServerName, Need>,
        mut hear: impl FnMut(&ServerName, Statement) + Send,
    ) {
        for notary in self.notaries.iter().filter(|notary| !needs.contains_key(*notary)) {
            match self.ask_notary(notary, needs).await {
                Ok(statements) => {
                    for statement in statements {
                        let server = statement.server.clone();
                        hear(&server, statement);
                    }
                    return;
                }
                Err(reason) => tracing::debug!(%notary, reason, "a notary does not answer"),
            }
        }
    }

    async fn ask_notary(
        &self,
        notary: &ServerName,
        needs: &BTreeMap<OwnedServerName, Need>,
    ) -> Result<Vec<Statement>, String> {
        let notary_keys = self.notary_keys(notary).await?;
        let body = Bytes::from(question(needs).to_string());
        let mut answer = self.exchange(notary, Method::POST, "/_matrix/key/v2/query", body).await?;
        let Some(CanonicalJsonValue::Array(found)) = answer.remove("server_keys") else {
            return Err("no `server_keys`".to_owned());
        };
        let now_ms = self.world.clock.now_ms();
        let objects = found.into_iter().filter_map(|value| match value {
            CanonicalJsonValue::Object(object) => Some(object),
            _ => None,
        });
        let signed =
            objects.filter(|object| super::response::verify_entity(notary, notary_keys.clone(), object).is_ok());
        let statements = signed.filter_map(|object| Statement::read(object, now_ms).ok());
        Ok(statements.filter(|statement| needs.contains_key(&statement.server)).collect())
    }

    /// The keys that a notary signs with: from itself, for nobody vouches for it.
    async fn notary_keys(&self, notary: &ServerName) -> Result<ruma::signatures::PublicKeySet, String> {
        let entry = self.servers.get_with_by_ref(notary, Arc::default);
        self.load(notary, &entry).await.map_err(|error| error.to_string())?;
        let now_ms = self.world.clock.now_ms();
        if entry.snapshot().all_valid_now(now_ms).is_empty() {
            let mut progress = entry.fetching.lock().await;
            if now_ms >= progress.next_fetch_ms {
                progress.attempt(now_ms);
                if self.fetch_direct(notary, &entry).await.map_err(|error| error.to_string())? {
                    progress.succeeded(now_ms);
                }
            }
        }
        let keys = entry.snapshot().all_valid_now(now_ms);
        if keys.is_empty() { Err("the keys of the notary are not to be had".to_owned()) } else { Ok(keys) }
    }

    /// One request, unsigned as these are, and its answer as strict JSON.
    async fn exchange(
        &self,
        server: &ServerName,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Result<CanonicalJsonObject, String> {
        let request = http::Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = self.transport.send(server, request, CallLimits::KEYS).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("status {}", answer.status()));
        }
        let text = std::str::from_utf8(answer.body()).map_err(|error| error.to_string())?;
        read_json(text).map_err(|error| error.to_string())
    }
}

impl KeyRing {
    /// Asks a notary about many servers at once, before asking each itself.
    pub(super) async fn ask_notaries_for_batch(&self, needs: &BTreeMap<OwnedServerName, Need>) {
        let all: Vec<_> = needs.iter().collect();
        for batch in all.chunks(NOTARY_BATCH_MAX) {
            let batch = batch.iter().map(|(server, need)| ((*server).clone(), (*need).clone())).collect();
            let hear = |server: &ServerName, statement: Statement| {
                self.entry(server).update(|known| known.add_from_notary(&statement));
            };
            self.inner.ask_notaries(&batch, hear).await;
        }
    }
}

impl Progress {
    /// Notes an attempt before it is made, in case that it is given up half-way.
    fn attempt(&mut self, now_ms: u64) {
        let pause_ms = PAUSE_MS.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.next_fetch_ms = now_ms.saturating_add(pause_ms);
    }

    /// Notes that the server has answered.
    fn succeeded(&mut self, now_ms: u64) {
        self.failures = 0;
        self.next_fetch_ms = now_ms.saturating_add(PAUSE_MS);
    }
}

/// The body of `POST /_matrix/key/v2/query`.
fn question(needs: &BTreeMap<OwnedServerName, Need>) -> CanonicalJsonValue {
    let criteria = |need: &Need| -> CanonicalJsonObject {
        let valid_until_ms = match need {
            Need::Event { origin_server_ts, enforce_validity: true, .. } => *origin_server_ts,
            _ => 0,
        };
        let minimum = CanonicalJsonValue::Integer(ruma::UInt::new_saturating(valid_until_ms).into());
        let criterion = CanonicalJsonObject::from([("minimum_valid_until_ts".to_owned(), minimum)]);
        need.key_ids().iter().map(|key_id| (key_id.to_string(), criterion.clone().into())).collect()
    };
    let servers: CanonicalJsonObject =
        needs.iter().map(|(server, need)| (server.to_string(), criteria(need).into())).collect();
    CanonicalJsonObject::from([("server_keys".to_owned(), servers.into())]).into()
}
