//! Forgetting what nobody will ask for again.
//!
//! How long something is kept follows from who might come back to it:
//!
//! - A client repeats a request under its transaction id until it hears an answer, and some keep what they could not
//!   send over a restart. Who comes back after more than [`CLIENT_TRANSACTIONS_KEPT`] may send something twice.
//! - Another server repeats a transaction until it hears an answer, at growing intervals of up to some days. Events that
//!   come again are known by their ids, so that forgetting a transaction early costs work, and does no harm.
//! - Notifications that were read are shown by `GET /notifications`; those that were not are kept, since unread counts
//!   are made of them.
//! - That a device changed is said by its latest change as well. What came since the last round is left alone all the
//!   same, so that a server which is up is told of each change as what follows upon the one before.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

use crate::{Engine, Result};

/// How long it is known what came of a client's request.
const CLIENT_TRANSACTIONS_KEPT: Duration = Duration::from_hours(90 * 24);
/// How long it is known what came of another server's transaction.
const RECEIVED_TRANSACTIONS_KEPT: Duration = Duration::from_hours(30 * 24);
/// How long somebody can look up what they were notified of and have read.
const READ_NOTIFICATIONS_KEPT: Duration = Duration::from_hours(30 * 24);
/// How many clients' requests are forgotten in one commit.
const BATCH_REQUESTS: usize = 1_000;
/// How many batches of each kind one round looks at: the next one goes on where it stopped.
const BATCHES_MAX: usize = 1_000;
/// How many changes of devices are looked at in one go.
const BATCH_DEVICE_CHANGES: usize = 1_000;
/// How many such goes a round has at most.
const DEVICE_BATCHES_MAX: usize = 100;

/// How far the changes of devices have been looked through.
#[derive(Default)]
pub(crate) struct DeviceListsSeen {
    /// The end of the log at the last round.
    head: AtomicI64,
    /// Where the next one begins.
    looked_at: AtomicI64,
}

impl Engine {
    /// One round of forgetting. Returns how many requests, transactions, changes of devices, batches of notifications and
    /// media it went through.
    pub async fn keep_house(&self) -> Result<u64> {
        let mut forgotten = self.storage().prune_received_transactions(self.ago(RECEIVED_TRANSACTIONS_KEPT)).await?;
        forgotten += self.storage().prune_sticky_events(self.world().clock.now_ms()).await?;
        forgotten += self.forget_device_changes().await?;
        for _ in 0..BATCHES_MAX {
            let before = self.ago(CLIENT_TRANSACTIONS_KEPT);
            match self.storage().prune_client_transactions(before, BATCH_REQUESTS).await? {
                0 => break,
                count => forgotten += count,
            }
        }
        let before = MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.ago(READ_NOTIFICATIONS_KEPT)));
        for _ in 0..BATCHES_MAX {
            let after = self.inner.notifications_looked_at.load(Ordering::Relaxed);
            let last = self.storage().prune_notifications(after, before).await?;
            self.inner.notifications_looked_at.store(last.unwrap_or(0), Ordering::Relaxed);
            if last.is_none() {
                break;
            }
            forgotten += 1;
        }
        Ok(forgotten + self.keep_media().await?)
    }

    async fn forget_device_changes(&self) -> Result<u64> {
        let seen = &self.inner.device_lists;
        let until = seen.head.swap(self.storage().head(), Ordering::Relaxed);
        let mut forgotten = 0;
        for _ in 0..DEVICE_BATCHES_MAX {
            let after = seen.looked_at.load(Ordering::Relaxed);
            let (last, in_batch) = self.storage().prune_device_lists(after, until, BATCH_DEVICE_CHANGES).await?;
            seen.looked_at.store(last.unwrap_or(0), Ordering::Relaxed);
            forgotten += in_batch;
            if last.is_none() {
                break;
            }
        }
        Ok(forgotten)
    }

    fn ago(&self, age: Duration) -> u64 {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.world().clock.now_ms().saturating_sub(age_ms)
    }
}
