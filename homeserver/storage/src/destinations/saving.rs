//! Noting how far servers have got. What waits is noted together: a message in a room with thousands of servers has each
//! of them noted twice.

use super::{Destination, edus};
use crate::{
    Result, Storage,
    batches::Batched,
    database::Transaction,
    dialect::{db, storable, without_nul},
};

impl Storage {
    /// Replaces the row of a server. It may be replaced even if whoever asks for it stops waiting.
    pub async fn save_destination(&self, destination: &Destination) -> Result<()> {
        storable(destination.server.as_str(), "a server name")?;
        self.shared.destination_saves.ask(self, destination.clone()).await
    }
}

impl Batched for Destination {
    type Answer = ();

    const BATCH_MAX: usize = 64;

    fn weight(&self) -> usize {
        1
    }

    async fn do_together(storage: &Storage, destinations: &[&Self]) -> Result<Vec<()>> {
        // In one order, so that of two processes none waits for the other in a circle. What is noted of the same server
        // later stays later.
        let mut sorted = destinations.to_vec();
        sorted.sort_by(|one, other| one.server.cmp(&other.server));
        let mut transaction = storage.begin().await?;
        for destination in sorted {
            save(&mut transaction, destination).await?;
        }
        transaction.commit().await?;
        Ok(vec![(); destinations.len()])
    }
}

async fn save(transaction: &mut Transaction, destination: &Destination) -> Result<()> {
    const SQL: &str = "INSERT INTO destinations (server, cursor, in_flight_transaction, in_flight_until,
            failing_since_ts, retry_at_ts, failures) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (server) DO UPDATE SET cursor = excluded.cursor,
            in_flight_transaction = excluded.in_flight_transaction, in_flight_until = excluded.in_flight_until,
            failing_since_ts = excluded.failing_since_ts, retry_at_ts = excluded.retry_at_ts,
            failures = excluded.failures";
    let name = destination.server.as_str();
    let (in_flight, in_flight_until) = destination.in_flight.clone().unzip();
    db!(transaction.connection(), |connection| {
        let query = sqlx::query(SQL).bind(name).bind(destination.cursor);
        let query = query.bind(in_flight.as_deref().map(without_nul)).bind(in_flight_until);
        let query = query.bind(destination.failing_since_ts.map(|ts| ts as i64));
        let query = query.bind(destination.retry_at_ts.map(|ts| ts as i64)).bind(i64::from(destination.failures));
        query.execute(connection).await.map(drop)
    })?;
    edus::forget_delivered(transaction, name, destination.cursor).await
}
