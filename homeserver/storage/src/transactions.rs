//! Requests that must not be done twice: clients' transaction ids, and transactions of other servers.

use ruma::{DeviceId, OwnedEventId, ServerName, UserId};

use crate::{Result, Storage};

impl Storage {
    /// What came of a client's request, if it was done before. `scope` is the endpoint and its path parameters but for
    /// the transaction id.
    pub async fn transaction(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        scope: &str,
        transaction_id: &str,
    ) -> Result<Option<OwnedEventId>> {
        todo!()
    }

    /// The JSON that another server's transaction was answered with, if it was answered before.
    pub async fn received_transaction(&self, origin: &ServerName, transaction_id: &str) -> Result<Option<String>> {
        todo!()
    }

    /// Notes the answer to another server's transaction. The first answer stands.
    pub async fn record_received_transaction(
        &self,
        origin: &ServerName,
        transaction_id: &str,
        response: &str,
        now_ts: u64,
    ) -> Result<()> {
        todo!()
    }

    /// Forgets answers from before a time, in milliseconds since the epoch. Returns how many.
    pub async fn prune_received_transactions(&self, before_ts: u64) -> Result<u64> {
        todo!()
    }
}
