//! Telling pushers what the log has for their users.
//!
//! A pusher's queue is what its user was notified of after its cursor and has not read, so that a crash delays a
//! delivery and never loses one. What was told, and how long to wait after a failure, is on disk before the next attempt.
//! What is not told any more goes by a rule with a name: [`STALE_AFTER_MS`] and [`REFUSALS_MAX`].
//!
//! Spec: <https://spec.matrix.org/v1.19/push-gateway-api/#homeserver-behaviour>

mod attempt;
mod driver;
mod gateways;
mod letter;
mod notification;
mod quiet;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use rules::change::Position;
use storage::{ConcernedPusher, PusherKey, PusherQueue, PusherRecord};
use tokio::sync::Notify;

use self::gateways::Gateways;
use crate::{Engine, Result};

/// A notification that could not be told for so long is not told any more: who has not heard of it by other means after
/// a day does not want to be woken for it. It goes on counting as unread.
const STALE_AFTER_MS: u64 = 24 * 60 * 60 * 1_000;
/// A notification that a gateway has refused as often, by a status that says that it is the request's fault, is left
/// out, so that what comes after it arrives.
const REFUSALS_MAX: u32 = 5;
/// How many notifications are looked at in one attempt, of which one is told.
const BATCH: usize = 50;
/// How much of the log is looked through at once.
const LOG_BATCH: Position = 10_000;

/// What the engine keeps in memory about delivery.
#[derive(Default)]
pub(crate) struct Delivery {
    gateways: Gateways,
    /// Pushers that were set.
    woken: Mutex<BTreeMap<PusherKey, ConcernedPusher>>,
    wake: Notify,
}

impl Delivery {
    pub(super) fn wake(&self, pusher: &PusherRecord) {
        let (key, gateway) = (pusher.key.clone(), pusher.gateway.clone());
        // Its client is there, and may have been given another gateway: what failed before is to be tried again.
        self.gateways.try_again(&gateway, pusher.set_ts);
        self.woken().insert(key.clone(), ConcernedPusher { key, gateway, retry_at_ts: None });
        self.wake.notify_one();
    }

    fn woken(&self) -> std::sync::MutexGuard<'_, BTreeMap<PusherKey, ConcernedPusher>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one attempt.
#[derive(Debug)]
struct Attempt {
    /// How far the pusher is now, if that changed.
    queue: Option<PusherQueue>,
    next: Next,
}

/// How a pusher goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing is left, for now.
    Idle,
    /// There may be more. It is written down as something that waits, so that a crash does not lose it.
    More,
    /// Not before this time, in milliseconds since the epoch.
    Wait(u64),
}

impl Engine {
    /// Follows the log and tells pushers until `shutdown` is done. For one process only: two would tell everything twice.
    pub async fn run_pushers(&self, shutdown: impl Future<Output = ()> + Send) {
        driver::run(self, shutdown).await;
    }

    /// Tells each pusher all that is due now, one after the other, until nothing is left or all have to wait.
    pub async fn flush_pushers(&self) -> Result<()> {
        let (read, head) = (self.storage().pushers_read().await?, self.storage().head());
        let now_ms = self.world().clock.now_ms();
        let mut pushers = self.storage().waiting_pushers().await?;
        pushers.retain(|pusher| pusher.retry_at_ts.is_none_or(|retry_at_ts| retry_at_ts <= now_ms));
        pushers.extend(self.storage().concerned_pushers(read, head).await?);
        for pusher in pushers {
            while self.flush_pusher(&pusher).await? == Next::More {}
        }
        Ok(self.storage().save_pushers_read(head).await?)
    }

    async fn flush_pusher(&self, pusher: &ConcernedPusher) -> Result<Next> {
        let attempt = self.attempt(&pusher.key).await?;
        if let Some(queue) = &attempt.queue {
            self.storage().save_pusher_queues(std::slice::from_ref(queue)).await?;
        }
        Ok(attempt.next)
    }
}
