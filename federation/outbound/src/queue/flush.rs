//! One attempt to send one transaction.

use std::sync::Arc;

use rules::change::Position;
use ruma::ServerName;
use storage::{Destination, Outbound, OutboundItem, Storage, StorageError};

use super::{
    EduJson, FlushOutcome, Sender,
    isolation::{Isolation, Next},
    transaction::{self, EDUS_MAX, EVENTS_MAX},
};
use crate::{CallError, calls::TransactionAnswer};

/// Letters of a transaction id, beside the time: enough that none comes twice.
const ID_RANDOM_CHARS: usize = 10;

/// After how long an absence a server is sent no more than the latest event of each room, so that it is up to date soon:
/// from that it finds out what else it lacks, as far as somebody looks.
const LONG_ABSENCE_MS: u64 = 3 * 24 * 3_600 * 1_000;

/// What is to be sent.
struct Batch {
    items: Vec<OutboundItem>,
    ephemeral: Vec<Arc<EduJson>>,
    /// The position of the last item; the cursor if there is none.
    until: Position,
    /// Up to where nothing else is left when this is delivered: at least `until`.
    through: Position,
    /// Whether there may be more behind it.
    more: bool,
}

impl Sender {
    pub(super) async fn attempt(
        &self,
        server: &ServerName,
        isolation: &mut Isolation,
    ) -> Result<FlushOutcome, StorageError> {
        let mut destination = self.storage().destination(server).await?;
        let now_ms = self.now_ms();
        if let Some(until_ms) = destination.retry_at_ts.filter(|retry_at_ms| *retry_at_ms > now_ms) {
            self.inner.failing.insert(server);
            return Ok(FlushOutcome::BackingOff { until_ms });
        }
        let batch = self.batch(&mut destination, isolation).await?;
        if batch.items.is_empty() && batch.ephemeral.is_empty() {
            isolation.delivered(batch.through);
            self.rest(destination, batch.through).await?;
            return Ok(FlushOutcome::Idle);
        }
        let transaction_id = self.transaction_id(&mut destination, &batch).await?;
        let origin = self.inner.federation.server_name();
        let content =
            transaction::content(origin, now_ms, &batch.items, &batch.ephemeral, self.inner.options.device_names);
        match self.inner.federation.send_transaction(server, &transaction_id, content).await {
            Ok(answer) => {
                log_answer(server, &answer);
                self.delivered(destination, isolation, &batch).await
            }
            Err(error) if refuses_content(&error) && !batch.items.is_empty() => {
                self.refused(destination, isolation, &batch, &error).await
            }
            Err(error) => self.failed(destination, &error).await,
        }
    }

    /// What comes next: the same as before, if the transaction that was in flight may not have arrived.
    async fn batch(&self, destination: &mut Destination, isolation: &Isolation) -> Result<Batch, StorageError> {
        // Taken before the queue is read, so that everything up to it is looked at.
        let head = self.storage().head();
        let mut outbound = self.items(destination, isolation).await?;
        if outbound.items.is_empty()
            && let Some((_, until)) = destination.in_flight.take()
        {
            // What was in flight does not exist any more.
            destination.cursor = until;
            self.storage().save_destination(destination).await?;
            outbound = self.items(destination, isolation).await?;
        }
        let Outbound { mut items, is_complete } = outbound;
        let Destination { server, cursor, in_flight, .. } = destination;
        let full = !is_complete || items.len() > isolation.limit();
        items.truncate(isolation.limit());
        let resending = in_flight.is_some();
        // A transaction that has arrived is not read again, whatever we would have added to it.
        let ephemeral = if resending { Vec::new() } else { self.inner.ephemeral.take(server) };
        let until = items.last().map_or(*cursor, position);
        let more = full || resending;
        let through = if more { until } else { until.max(head) };
        Ok(Batch { items, ephemeral, until, through, more })
    }

    async fn items(&self, destination: &Destination, isolation: &Isolation) -> Result<Outbound, StorageError> {
        let Destination { server, cursor, in_flight, .. } = destination;
        let until = in_flight.as_ref().map(|(_, until)| *until);
        let latest_until = isolation.latest_until();
        self.storage().outbound_since(server, *cursor, until, EVENTS_MAX, EDUS_MAX, latest_until).await
    }

    /// The id that the batch is sent under. It is stored with the end of the batch first, so that after a restart the
    /// same is sent under the same id.
    async fn transaction_id(&self, destination: &mut Destination, batch: &Batch) -> Result<String, StorageError> {
        if let Some((id, until)) = &destination.in_flight
            && *until == batch.until
        {
            return Ok(id.clone());
        }
        let world = self.inner.federation.world();
        let id = format!("{}{}", world.clock.now_ms(), world.random_string(ID_RANDOM_CHARS));
        if !batch.items.is_empty() {
            destination.in_flight = Some((id.clone(), batch.until));
            self.storage().save_destination(destination).await?;
        }
        Ok(id)
    }

    async fn delivered(
        &self,
        mut destination: Destination,
        isolation: &mut Isolation,
        batch: &Batch,
    ) -> Result<FlushOutcome, StorageError> {
        count("sent");
        isolation.delivered(batch.through);
        let failing_since_ts = destination.failing_since_ts.unwrap_or(u64::MAX);
        if batch.more && self.now_ms().saturating_sub(failing_since_ts) >= LONG_ABSENCE_MS {
            tracing::info!(server = %destination.server, "a server is back after long; it is sent what is latest");
            isolation.leap(self.storage().head());
        }
        self.inner.failing.remove(&destination.server);
        let was_failing = destination.failures > 0 || destination.retry_at_ts.is_some();
        if !batch.items.is_empty() || was_failing {
            destination.cursor = batch.through;
            destination.in_flight = None;
            destination.failing_since_ts = None;
            destination.retry_at_ts = None;
            destination.failures = 0;
            self.storage().save_destination(&destination).await?;
        }
        let more = batch.more || self.inner.ephemeral.is_waiting(&destination.server);
        Ok(FlushOutcome::Sent { more })
    }

    /// The server has understood and does not want it. Waiting does not help; leaving something out may.
    async fn refused(
        &self,
        mut destination: Destination,
        isolation: &mut Isolation,
        batch: &Batch,
        error: &CallError,
    ) -> Result<FlushOutcome, StorageError> {
        count("refused");
        let server = &destination.server;
        match isolation.refused(batch.items.len(), batch.until) {
            Next::Split => {
                tracing::warn!(%server, %error, items = batch.items.len(), "a transaction is refused; sending less");
            }
            Next::Skip => {
                metrics::counter!("federation_items_skipped_total").increment(1);
                let item = batch.items.last().map(describe).unwrap_or_default();
                tracing::error!(%server, %error, item, "a server refuses this item for good; it is left out");
                destination.cursor = batch.until;
            }
            Next::GiveUp => return self.failed(destination, error).await,
        }
        destination.in_flight = None;
        self.storage().save_destination(&destination).await?;
        Ok(FlushOutcome::Failed)
    }

    async fn failed(&self, mut destination: Destination, error: &CallError) -> Result<FlushOutcome, StorageError> {
        count("failed");
        let now_ms = self.now_ms();
        let wait_ms = self.backoff_ms(destination.failures);
        destination.failures = destination.failures.saturating_add(1);
        destination.failing_since_ts.get_or_insert(now_ms);
        destination.retry_at_ts = Some(now_ms.saturating_add(wait_ms));
        let server = &destination.server;
        tracing::info!(%server, %error, failures = destination.failures, wait_ms, "a server cannot be sent to");
        self.inner.failing.insert(server);
        // By the time that it comes back, nobody is typing any more.
        drop(self.inner.ephemeral.take(server));
        self.storage().save_destination(&destination).await?;
        Ok(FlushOutcome::Failed)
    }

    /// Doubles with each failure, give or take a quarter, so that servers that went down together are not all tried
    /// again together.
    fn backoff_ms(&self, failures: u32) -> u64 {
        let options = &self.inner.options;
        let doubled = options.backoff_base_ms.saturating_mul(1_u64.checked_shl(failures).unwrap_or(u64::MAX));
        let wait_ms = doubled.min(options.backoff_max_ms);
        let jitter_ms = self.inner.federation.world().random_below(wait_ms / 2 + 1);
        (wait_ms - wait_ms / 4).saturating_add(jitter_ms)
    }

    /// Nothing is left up to that position, which need not be looked at again.
    async fn rest(&self, mut destination: Destination, through: Position) -> Result<(), StorageError> {
        if destination.cursor < through {
            destination.cursor = through;
            self.storage().save_destination(&destination).await?;
        }
        Ok(())
    }

    fn storage(&self) -> &Storage {
        self.inner.federation.storage()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.inner.federation.world().clock.now_ms()
    }
}

/// Whether a refusal is about what is in the transaction, not about us, the address, or the moment. A server that
/// speaks Matrix says so by an `errcode`; only for size a proxy in front of it may.
fn refuses_content(error: &CallError) -> bool {
    match error {
        CallError::Refused { status: 401 | 403 | 404 | 405 | 408 | 425 | 429, .. } => false,
        CallError::Refused { status: 413, .. } => true,
        CallError::Refused { status, errcode, .. } => (400..500).contains(status) && errcode.is_some(),
        _ => false,
    }
}

fn log_answer(server: &ServerName, answer: &TransactionAnswer) {
    for (event_id, error) in answer.errors() {
        tracing::info!(%server, event_id, error, "a server has not accepted an event");
    }
}

fn position(item: &OutboundItem) -> Position {
    match item {
        OutboundItem::Event(position, _)
        | OutboundItem::Receipt(position, _)
        | OutboundItem::DeviceList(position, _)
        | OutboundItem::Edu(position, _) => *position,
    }
}

fn describe(item: &OutboundItem) -> String {
    match item {
        OutboundItem::Event(_, pdu) => format!("event {}", pdu.event_id),
        OutboundItem::Receipt(_, receipt) => format!("receipt for {}", receipt.event_id),
        OutboundItem::DeviceList(_, update) => format!("device {} of {}", update.device_id, update.user_id),
        OutboundItem::Edu(position, edu) => format!("{} at {position}", edu.edu_type),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("federation_transactions_total", "outcome" => outcome).increment(1);
}
