//! What happened in a universe, line by line: to be read by people, and to be compared with a replay.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};

/// A record of one universe. Clones are the same record.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    lines: Vec<String>,
    digest: Sha256,
    counts: BTreeMap<String, u64>,
}

impl Trace {
    /// Notes what was decided or came of it. A replay must give the same.
    pub(crate) fn note(&self, line: String) {
        let mut inner = self.lock();
        inner.digest.update(line.as_bytes());
        inner.digest.update(b"\n");
        inner.lines.push(line);
    }

    /// Notes what helps to understand the rest. Two rooms of one transaction are worked on at the same time, so that
    /// the order of such lines may differ in a replay.
    pub(crate) fn aside(&self, line: String) {
        self.lock().lines.push(line);
    }

    /// Counts how often something happened.
    pub(crate) fn count(&self, what: &str) {
        let mut inner = self.lock();
        match inner.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                inner.counts.insert(what.to_owned(), 1);
            }
        }
    }

    /// All lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// How often what happened.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// A digest of all that a replay must repeat.
    pub(crate) fn digest(&self) -> String {
        let digest = self.lock().digest.clone().finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
