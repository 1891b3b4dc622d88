//! One lock for each name, made when first asked for and gone when nobody holds it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

/// Locks by name.
#[derive(Default)]
pub(crate) struct Locks<L = tokio::sync::Mutex<()>> {
    by_name: Mutex<HashMap<String, Weak<L>>>,
}

impl Locks {
    /// Waits until nobody else holds the lock of that name.
    pub(crate) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        self.of(name).lock_owned().await
    }
}

impl<L: Default> Locks<L> {
    /// The lock of that name.
    pub(crate) fn of(&self, name: &str) -> Arc<L> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = by_name.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        // Forgetting the unused ones each time would cost as much as there are locks; doing so when as many as now
        // have been added since keeps the map within twice its need.
        if by_name.len() == by_name.capacity() {
            by_name.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(L::default());
        by_name.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}
