//! What is worth nothing later: kept in memory, sent at most once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName};

use super::EduJson;

/// How many wait for one server: as many as go into one transaction beside the receipts. The oldest gives way.
const WAITING_MAX: usize = super::transaction::EPHEMERAL_MAX;

#[derive(Default)]
pub(super) struct Ephemeral {
    queues: Mutex<BTreeMap<OwnedServerName, Queue>>,
}

/// What waits for one server, each under its key, the oldest first.
type Queue = VecDeque<(Arc<str>, Arc<EduJson>)>;

impl Ephemeral {
    pub(super) fn put(&self, server: &ServerName, key: Arc<str>, edu: Arc<EduJson>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(server.to_owned()).or_default();
        queue.retain(|(waiting, _)| *waiting != key);
        queue.push_back((key, edu));
        if queue.len() > WAITING_MAX {
            queue.pop_front();
        }
    }

    /// Everything that waits for a server.
    pub(super) fn take(&self, server: &ServerName) -> Vec<Arc<EduJson>> {
        let queue = self.queues.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
        queue.into_iter().flatten().map(|(_, edu)| edu).collect()
    }

    pub(super) fn is_waiting(&self, server: &ServerName) -> bool {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).contains_key(server)
    }

    pub(super) fn destinations(&self) -> Vec<OwnedServerName> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
