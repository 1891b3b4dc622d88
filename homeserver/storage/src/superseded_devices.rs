//! Forgetting changes of devices that say nothing any more.
//!
//! A later change of the same device that the same users see says all that an earlier one does, to whoever asks what
//! changed since: however old a client's token is, it is told no less. What remains is a row or so per device. Other
//! servers are told of a device as it is when they are told, so that what waits for one that is away is no more either.

use rules::change::Position;

use crate::{
    Result, Storage,
    dialect::{db, number_list},
};

impl Storage {
    /// Forgets, of up to `limit` changes of devices after a position, those that a later one up to `until` has made
    /// superfluous. Returns the position of the last that was looked at, nothing when there are no more; and how many
    /// were forgotten.
    pub async fn prune_device_lists(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<(Option<Position>, u64)> {
        const LAST: &str = "SELECT MAX(position) FROM (SELECT position FROM device_list_log
            WHERE position > $1 AND position <= $2 ORDER BY position LIMIT +$3) AS seen";
        const SUPERFLUOUS: &str = "SELECT d.position FROM device_list_log d WHERE d.position > $1 AND d.position <= $2
            AND EXISTS (SELECT 1 FROM device_list_log e WHERE e.user_nid = d.user_nid AND e.position > d.position
                AND e.position <= $3 AND e.device_id IS NOT DISTINCT FROM d.device_id
                AND e.viewer_nid IS NOT DISTINCT FROM d.viewer_nid)";
        let last: Option<Position> = db!(self.read(), |pool| {
            sqlx::query_scalar(LAST).bind(after).bind(until).bind(limit as i64).fetch_one(pool).await
        })?;
        let Some(last) = last else { return Ok((None, 0)) };
        let superfluous: Vec<Position> = db!(self.read(), |pool| {
            sqlx::query_scalar(SUPERFLUOUS).bind(after).bind(last).bind(until).fetch_all(pool).await
        })?;
        if superfluous.is_empty() {
            return Ok((Some(last), 0));
        }
        Ok((Some(last), self.forget_device_changes(superfluous, until).await?))
    }

    /// Forgets changes of devices, but those that a server is still to be sent.
    async fn forget_device_changes(&self, positions: Vec<Position>, until: Position) -> Result<u64> {
        // A transaction that may have arrived is sent again as it was.
        const WAITING: &str = "DELETE FROM log_recipients
            WHERE position IN (SELECT CAST(value AS BIGINT) FROM json_each($1))
            AND position > COALESCE((SELECT x.in_flight_until FROM destinations x JOIN names n ON n.name = x.server
                WHERE n.name_nid = log_recipients.server_nid), 0)
            AND EXISTS (SELECT 1 FROM device_list_log d JOIN device_list_log e ON e.user_nid = d.user_nid
                AND e.device_id = d.device_id AND e.position > d.position AND e.position <= $2
                JOIN log_recipients f ON f.position = e.position AND f.server_nid = log_recipients.server_nid
                WHERE d.position = log_recipients.position)";
        const CHANGES: &str = "DELETE FROM device_list_log
            WHERE position IN (SELECT CAST(value AS BIGINT) FROM json_each($1))
            AND NOT EXISTS (SELECT 1 FROM log_recipients t WHERE t.position = device_list_log.position)";
        let positions = number_list(positions);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(WAITING).bind(&positions).bind(until).execute(connection).await.map(drop)
        })?;
        let forgotten = db!(transaction.connection(), |connection| {
            sqlx::query(CHANGES).bind(&positions).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(forgotten)
    }
}
