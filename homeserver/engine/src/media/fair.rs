//! How much each user may have us fetch from other servers, so that none can fill the disk or the line alone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use ruma::{OwnedUserId, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::remote::place_in;
use crate::{EngineError, Result};

/// How much may be fetched at once after a long rest.
const BURST_BYTES: u64 = 500 * 1024 * 1024;
/// How much more may be fetched each second: as much as the burst, every hour and a half.
const BYTES_PER_SECOND: u64 = 87 * 1024;
/// How many media are fetched for one user at the same time.
const AT_ONCE: usize = 6;
/// How many users are remembered. Whoever is forgotten has rested for long.
const USERS_MAX: u64 = 100_000;
/// After this rest the burst is whole again.
const FORGET_AFTER: Duration = Duration::from_mins(100);

/// The shares of all users.
pub(super) struct Shares {
    users: Cache<OwnedUserId, Arc<Share>>,
}

struct Share {
    places: Arc<Semaphore>,
    /// When the burst will be whole again, in milliseconds since the epoch.
    whole_at_ms: Mutex<u64>,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { users: Cache::builder().max_capacity(USERS_MAX).time_to_idle(FORGET_AFTER).build() }
    }

    fn of(&self, user_id: &UserId) -> Arc<Share> {
        let new = || Arc::new(Share { places: Arc::new(Semaphore::new(AT_ONCE)), whole_at_ms: Mutex::new(0) });
        self.users.get_with(user_id.to_owned(), new)
    }

    /// A place for fetching something, unless the user has used up what may be fetched.
    pub(super) async fn place(&self, user_id: &UserId, now_ms: u64) -> Result<OwnedSemaphorePermit> {
        let share = self.of(user_id);
        let place = place_in(Arc::clone(&share.places)).await?;
        let whole_at_ms = *share.whole_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let burst_ms = BURST_BYTES * 1_000 / BYTES_PER_SECOND;
        match whole_at_ms.min(now_ms + burst_ms * 2).saturating_sub(now_ms + burst_ms) {
            0 => Ok(place),
            retry_after_ms => Err(EngineError::LimitExceeded { retry_after_ms }),
        }
    }

    /// Counts what was fetched for a user.
    pub(super) fn count(&self, user_id: &UserId, bytes: u64, now_ms: u64) {
        let share = self.of(user_id);
        let mut whole_at_ms = share.whole_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        *whole_at_ms = (*whole_at_ms).max(now_ms) + bytes.saturating_mul(1_000) / BYTES_PER_SECOND;
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[tokio::test]
    async fn s_147_one_user_cannot_fetch_for_ever() {
        let (shares, alice, bob) = (Shares::new(), user_id!("@alice:example.org"), user_id!("@bob:example.org"));
        let now_ms = 1_700_000_000_000;
        for _ in 0..6 {
            drop(shares.place(alice, now_ms).await.unwrap());
            shares.count(alice, 100 * 1024 * 1024, now_ms);
        }
        let Err(EngineError::LimitExceeded { retry_after_ms }) = shares.place(alice, now_ms).await else {
            panic!("600 MiB at once")
        };
        drop(shares.place(bob, now_ms).await.unwrap());
        drop(shares.place(alice, now_ms + retry_after_ms).await.unwrap());
    }
}
