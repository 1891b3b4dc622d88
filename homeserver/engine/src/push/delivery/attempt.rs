//! One attempt to tell one pusher one thing.

use outbound::CallError;
use rules::change::Position;
use ruma::{MilliSecondsSinceUnixEpoch, UInt, UserId};
use serde_json::Value;
use storage::{NotificationRecord, PusherKey, PusherQueue, PusherRecord};

use super::{
    Attempt, BATCH, Next, REFUSALS_MAX, STALE_AFTER_MS,
    gateways::{Admission, backoff_ms},
    notification::Counts,
};
use crate::{
    Engine, Result,
    push::pushers::{EMAIL, url_of},
};

/// For how long a call rings. Only then it is missed.
const CALL_RINGS_MS: u64 = 60_000;
/// How many invitations count.
const INVITATIONS_MAX: usize = 1_000;
/// How far a pusher that has nothing to tell gets behind the log before that is written down: so much of the log is
/// looked through again each time, and it is not written with each message.
const CURSOR_NOTED_EVERY: Position = 1_000;

impl Attempt {
    pub(super) fn idle() -> Self {
        Self { queue: None, next: Next::Idle }
    }

    /// Nothing is left to tell until `head`: all that is before is not looked at again.
    pub(super) fn done(before: &PusherQueue, mut queue: PusherQueue, head: Position) -> Self {
        if queue != *before || head - queue.cursor >= CURSOR_NOTED_EVERY {
            queue.cursor = queue.cursor.max(head);
        }
        Self { queue: (queue != *before).then_some(queue), next: Next::Idle }
    }

    /// Whether the pusher has got as far as this notification, and had no trouble with it.
    fn is_told(&self, record: &NotificationRecord) -> bool {
        self.next == Next::More && self.queue.as_ref().is_some_and(|queue| queue.cursor == record.position)
    }
}

impl Engine {
    /// Tells a pusher the next thing that is due to it, if there is one.
    pub(super) async fn attempt(&self, key: &PusherKey) -> Result<Attempt> {
        let mut attempt = self.attempt_next(key).await?;
        if let (Next::More, Some(queue)) = (attempt.next, &mut attempt.queue) {
            queue.retry_at_ts = Some(self.world().clock.now_ms());
        }
        Ok(attempt)
    }

    async fn attempt_next(&self, key: &PusherKey) -> Result<Attempt> {
        let storage = self.storage();
        // In this order: when it is set again in between, what comes of this is not written down, and it is told again.
        let Some(queue) = storage.pusher_queue(key).await? else { return Ok(Attempt::idle()) };
        let Some(pusher) = storage.pusher(key).await? else { return Ok(Attempt::idle()) };
        let now_ms = self.world().clock.now_ms();
        if let Some(retry_at_ts) = queue.retry_at_ts.filter(|retry_at_ts| *retry_at_ts > now_ms) {
            return Ok(Attempt { queue: None, next: Next::Wait(retry_at_ts) });
        }
        // What a locked user is not told now is told when the lock is gone.
        if storage.account(&key.user_id).await?.is_none_or(|account| account.locked || account.deactivated) {
            return Ok(Attempt::idle());
        }
        if pusher.kind == EMAIL {
            return self.attempt_letter(&pusher, queue).await;
        }
        self.attempt_notification(&pusher, queue).await
    }

    async fn attempt_notification(&self, pusher: &PusherRecord, mut queue: PusherQueue) -> Result<Attempt> {
        let (user_id, now_ms) = (&pusher.key.user_id, self.world().clock.now_ms());
        let head = self.storage().head();
        let due = self.storage().due_notifications(user_id, queue.cursor, head, BATCH).await?;
        let is_all = due.len() < BATCH;
        let before = queue.clone();
        queue.retry_at_ts = None;
        let last = due.last().map(|record| record.position).filter(|_| is_all);
        for record in due {
            if !self.is_to_be_told(user_id, &record, now_ms).await? {
                queue.cursor = record.position;
                continue;
            }
            let counts = self.counts_of(user_id, now_ms).await?;
            let Some(body) = self.notification_body(pusher, &record, counts).await? else {
                queue.cursor = record.position;
                continue;
            };
            let mut attempt = self.tell(pusher, queue, &body, Some(&record), counts).await?;
            if attempt.is_told(&record) && last == Some(record.position) {
                // What came since is news. What it was looked through until is done with.
                attempt.next = Next::Idle;
                if let Some(queue) = &mut attempt.queue {
                    queue.cursor = queue.cursor.max(head);
                }
            }
            return Ok(attempt);
        }
        if !is_all {
            return Ok(Attempt { queue: Some(queue), next: Next::More });
        }
        let counts = self.counts_of(user_id, now_ms).await?;
        // Rises come along with what they are about; what was read elsewhere must be said.
        if counts.unread < queue.badge.unwrap_or(0) {
            let body = Self::badge_body(pusher, counts);
            return self.tell(pusher, queue, &body, None, counts).await;
        }
        queue.failures = 0;
        Ok(Attempt::done(&before, queue, head))
    }

    /// Whether the user is still to be told of it now.
    async fn is_to_be_told(&self, user_id: &UserId, record: &NotificationRecord, now_ms: u64) -> Result<bool> {
        if now_ms.saturating_sub(u64::from(record.ts.0)) >= STALE_AFTER_MS {
            metrics::counter!("push_dropped_total", "rule" => "stale").increment(1);
            return Ok(false);
        }
        if self.is_quiet(user_id, record, now_ms).await? {
            metrics::counter!("push_dropped_total", "rule" => "quiet").increment(1);
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) async fn counts_of(&self, user_id: &UserId, now_ms: u64) -> Result<Counts> {
        let unread = self.unread_of(user_id).await?;
        let rung_until = MilliSecondsSinceUnixEpoch(UInt::new_saturating(now_ms.saturating_sub(CALL_RINGS_MS)));
        Ok(Counts { unread, missed_calls: self.storage().unread_calls(user_id, rung_until).await? })
    }

    /// How much a user has not read of what they want to see.
    pub(super) async fn unread_of(&self, user_id: &UserId) -> Result<u64> {
        let unread = self.storage().unread_joined(user_id).await?.notifications;
        let inviters = self.storage().unread_invitations(user_id, INVITATIONS_MAX).await?;
        let hidden = self.hidden_invitations(user_id, &inviters).await?;
        Ok(unread + u64::try_from(inviters.len().saturating_sub(hidden)).unwrap_or(u64::MAX))
    }

    /// Calls the gateway, and notes what came of it.
    async fn tell(
        &self,
        pusher: &PusherRecord,
        mut queue: PusherQueue,
        body: &Value,
        record: Option<&NotificationRecord>,
        counts: Counts,
    ) -> Result<Attempt> {
        let gateways = &self.inner.push.delivery.gateways;
        let admission = match gateways.admit(&pusher.gateway, self.world().clock.now_ms()) {
            Ok(admission) => admission,
            Err(until_ms) => return Ok(self.put_off(queue, until_ms)),
        };
        let url = url_of(&pusher.data).unwrap_or_default();
        match self.federation().notify(&url, body).await {
            Ok(rejected) => {
                gateways.succeeded(&pusher.gateway, admission);
                metrics::counter!("push_told_total").increment(1);
                if rejected.contains(&pusher.key.pushkey) {
                    tracing::info!(user.id = %pusher.key.user_id, "a push gateway knows the pushkey no more");
                    self.storage().delete_rejected_pusher(&queue).await?;
                    return Ok(Attempt::idle());
                }
                queue.cursor = record.map_or(queue.cursor, |record| record.position);
                queue.badge = Some(counts.unread);
                queue.failures = 0;
                Ok(Attempt { queue: Some(queue), next: Next::More })
            }
            Err(error) => Ok(self.not_told(pusher, queue, record, admission, &error)),
        }
    }

    fn not_told(
        &self,
        pusher: &PusherRecord,
        mut queue: PusherQueue,
        record: Option<&NotificationRecord>,
        admission: Admission,
        error: &CallError,
    ) -> Attempt {
        metrics::counter!("push_failed_total").increment(1);
        tracing::debug!(user.id = %pusher.key.user_id, gateway = pusher.gateway, %error, "a push gateway was not told");
        let gateways = &self.inner.push.delivery.gateways;
        queue.failures = queue.failures.saturating_add(1);
        if !is_refusal(error) {
            let until_ms = gateways.failed(&pusher.gateway, admission, queue.failures, self.world());
            return self.put_off(queue, until_ms);
        }
        // The gateway is there; it is this that it does not want.
        gateways.succeeded(&pusher.gateway, admission);
        if queue.failures < REFUSALS_MAX {
            let until_ms = self.world().clock.now_ms() + backoff_ms(queue.failures, self.world());
            return self.put_off(queue, until_ms);
        }
        metrics::counter!("push_dropped_total", "rule" => "refused").increment(1);
        match record {
            Some(record) => queue.cursor = record.position,
            // A count that it does not want to hear of.
            None => queue.badge = None,
        }
        queue.failures = 0;
        Attempt { queue: Some(queue), next: Next::More }
    }

    pub(super) fn put_off(&self, mut queue: PusherQueue, until_ms: u64) -> Attempt {
        // Those who wait for the same gateway do not come in the same moment.
        let now_ms = self.world().clock.now_ms();
        let until_ms = until_ms + self.world().random_below(until_ms.saturating_sub(now_ms) / 8);
        queue.retry_at_ts = Some(until_ms);
        Attempt { queue: Some(queue), next: Next::Wait(until_ms) }
    }
}

/// Whether the request is at fault, by what the gateway says, rather than the gateway.
fn is_refusal(error: &CallError) -> bool {
    /// Of those by which a server says that something is wrong with the request: for want of time, and too many.
    const NOT_THE_REQUEST: [u16; 3] = [408, 425, 429];
    matches!(error, CallError::Refused { status, .. } if (400..500).contains(status) && !NOT_THE_REQUEST.contains(status))
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;
    use storage::PusherKey;

    use super::*;

    #[test]
    fn what_was_looked_through_is_done_with_and_seldom_written_down() {
        let key = PusherKey { user_id: owned_user_id!("@a:here"), app_id: String::new(), pushkey: String::new() };
        let before =
            PusherQueue { key, cursor: 7, badge: None, failures: 0, retry_at_ts: None, throttle_ms: 0, generation: 0 };
        let done = |queue: PusherQueue, head| Attempt::done(&before, queue, head).queue.map(|queue| queue.cursor);
        assert_eq!((done(before.clone(), 1_006), done(before.clone(), 1_007)), (None, Some(1_007)));
        let told = PusherQueue { badge: Some(1), ..before.clone() };
        assert_eq!((done(told.clone(), 8), done(told, 6)), (Some(8), Some(7)), "never back");
    }
}
