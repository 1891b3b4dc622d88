//! A bounded cache of rows that never keeps what a reader fetched before somebody changed it.

use std::{
    hash::Hash,
    sync::{PoisonError, RwLock},
};

use moka::{policy::EvictionPolicy, sync::Cache};

/// A cache of rows by key.
///
/// A reader that misses notes the [`Reading`], asks the database, and offers what it got. If any row was changed or
/// forgotten meanwhile, the offer is refused: the row may be the old one.
pub(crate) struct RowCache<K, V> {
    rows: Cache<K, V>,
    changes: RwLock<u64>,
}

/// When a reader began to read.
#[derive(Clone, Copy)]
pub(crate) struct Reading(u64);

impl<K, V> RowCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(max_weight: u64, weight: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        // The library's own policy turns away what is new in favour of what was asked for often. But what is new is what
        // everybody is about to ask for.
        let rows = Cache::builder().max_capacity(max_weight).weigher(weight).eviction_policy(EvictionPolicy::lru());
        Self { rows: rows.build(), changes: RwLock::new(0) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.rows.get(key)
    }

    /// To be called before the database is asked.
    pub(crate) fn reading(&self) -> Reading {
        Reading(*self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Offers a row that was read since `reading`.
    pub(crate) fn offer(&self, reading: Reading, key: K, value: V) {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if *changes == reading.0 {
            self.rows.insert(key, value);
        }
    }

    /// Puts in a row that is new in the database.
    pub(crate) fn put_new(&self, key: K, value: V) {
        self.rows.insert(key, value);
    }

    /// Forgets rows that have changed. To be called after the change is committed.
    pub(crate) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a K>)
    where
        K: 'a,
    {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        for key in keys {
            self.rows.invalidate(key);
        }
    }

    /// Forgets all rows: nobody knows which have changed.
    pub(crate) fn forget_all(&self) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.rows.invalidate_all();
    }

    /// What the rows weigh together.
    pub(crate) fn weight(&self) -> u64 {
        self.rows.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::RowCache;

    #[test]
    fn what_is_new_is_kept_in_place_of_what_was_popular() {
        let cache: RowCache<u8, &str> = RowCache::new(10, |_, _| 1);
        (0..10).for_each(|key| cache.put_new(key, "old"));
        cache.rows.run_pending_tasks();
        for _ in 0..20 {
            (0..10).for_each(|key| assert_eq!(cache.get(&key), Some("old")));
        }
        cache.put_new(10, "new");
        cache.rows.run_pending_tasks();
        assert_eq!((cache.get(&10), cache.weight()), (Some("new"), 10));
    }

    #[test]
    fn a_row_read_before_a_change_is_not_kept() {
        let cache: RowCache<u8, &str> = RowCache::new(10, |_, _| 1);
        let reading = cache.reading();
        cache.forget(&[1]);
        cache.offer(reading, 1, "old");
        assert_eq!(cache.get(&1), None);
        cache.offer(cache.reading(), 1, "new");
        assert_eq!(cache.get(&1), Some("new"));
        cache.forget_all();
        assert_eq!(cache.get(&1), None);
    }
}
