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

use std::{sync::atomic::Ordering, time::Duration};

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

impl Engine {
    /// One round of forgetting. Returns how many requests, transactions, batches of notifications and media it went
    /// through.
    pub async fn keep_house(&self) -> Result<u64> {
        let mut forgotten = self.storage().prune_received_transactions(self.ago(RECEIVED_TRANSACTIONS_KEPT)).await?;
        forgotten += self.storage().prune_sticky_events(self.world().clock.now_ms()).await?;
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

    fn ago(&self, age: Duration) -> u64 {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.world().clock.now_ms().saturating_sub(age_ms)
    }
}
