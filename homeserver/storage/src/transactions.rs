//! Requests that must not be done twice: clients' transaction ids, and transactions of other servers.

use ruma::{DeviceId, OwnedEventId, ServerName, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed, storable, without_nul},
};

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
        const SQL: &str = "SELECT event_id FROM client_transactions
            WHERE transaction_id = $1 AND user_id = $2 AND device_id = $3 AND scope = $4";
        let transaction_id = storable(transaction_id, "a transaction id")?;
        let device_id = storable(device_id.as_str(), "a device id")?;
        let scope = storable(scope, "the scope of a transaction")?;
        let event_id: Option<String> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(SQL).bind(transaction_id).bind(user_id.as_str());
            query.bind(device_id).bind(scope).fetch_optional(pool).await
        })?;
        event_id.map(|event_id| parsed(&event_id, "client_transactions", "event_id")).transpose()
    }

    /// Forgets clients' requests that were done before a time, in milliseconds since the epoch: up to `limit` of them.
    /// Returns how many.
    pub async fn prune_client_transactions(&self, before_ts: u64, limit: usize) -> Result<u64> {
        const LAST: &str = "SELECT MAX(ts) FROM
            (SELECT ts FROM client_transactions WHERE ts < $1 ORDER BY ts LIMIT +$2) AS oldest";
        const SQL: &str = "DELETE FROM client_transactions WHERE ts <= $1";
        let last: Option<i64> = db!(self.read(), |pool| {
            sqlx::query_scalar(LAST).bind(before_ts as i64).bind(limit as i64).fetch_one(pool).await
        })?;
        let Some(last) = last else { return Ok(0) };
        let mut transaction = self.begin().await?;
        let pruned = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(last).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(pruned)
    }

    /// The JSON that another server's transaction was answered with, if it was answered before.
    pub async fn received_transaction(&self, origin: &ServerName, transaction_id: &str) -> Result<Option<String>> {
        const SQL: &str = "SELECT response FROM received_transactions WHERE origin = $1 AND transaction_id = $2";
        let (origin, transaction_id) = received_key(origin, transaction_id)?;
        Ok(db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(origin).bind(transaction_id).fetch_optional(pool).await
        })?)
    }

    /// Notes the answer to another server's transaction. The first answer stands.
    pub async fn record_received_transaction(
        &self,
        origin: &ServerName,
        transaction_id: &str,
        response: &str,
        now_ts: u64,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO received_transactions (origin, transaction_id, response, ts)
            VALUES ($1, $2, $3, $4) ON CONFLICT (origin, transaction_id) DO NOTHING";
        let (origin, transaction_id) = received_key(origin, transaction_id)?;
        let response = without_nul(response);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(origin).bind(transaction_id).bind(response);
            query.bind(now_ts as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Forgets answers from before a time, in milliseconds since the epoch. Returns how many.
    pub async fn prune_received_transactions(&self, before_ts: u64) -> Result<u64> {
        const SQL: &str = "DELETE FROM received_transactions WHERE ts < $1";
        let mut transaction = self.begin().await?;
        let pruned = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(before_ts as i64);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(pruned)
    }
}

fn received_key<'a>(origin: &'a ServerName, transaction_id: &'a str) -> Result<(&'a str, &'a str)> {
    Ok((storable(origin.as_str(), "a server name")?, storable(transaction_id, "a transaction id")?))
}
