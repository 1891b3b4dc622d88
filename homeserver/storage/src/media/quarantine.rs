//! What an administrator wants nobody to see.

use ruma::{ServerName, UserId};

use crate::{
    Result, Storage,
    dialect::{db, is_storable},
};

impl Storage {
    /// Keeps a medium from being served, and its content under whatever name it comes again; `false` when there is no
    /// such medium.
    pub async fn quarantine_media(
        &self,
        origin: &ServerName,
        media_id: &str,
        quarantined_by: &UserId,
        now_ts: u64,
    ) -> Result<bool> {
        const MARK: &str = "UPDATE media SET quarantined_by = $3 WHERE origin = $1 AND media_id = $2";
        const BLOCK: &str = "INSERT INTO media_blocked (sha256, blocked_by, blocked_ts)
            SELECT sha256, $3, $4 FROM media WHERE origin = $1 AND media_id = $2 AND sha256 IS NOT NULL
            ON CONFLICT (sha256) DO NOTHING";
        if !is_storable(media_id) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let marked = db!(transaction.connection(), |connection| {
            let query = sqlx::query(MARK).bind(origin.as_str()).bind(media_id).bind(quarantined_by.as_str());
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(BLOCK).bind(origin.as_str()).bind(media_id).bind(quarantined_by.as_str());
            query.bind(now_ts as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await?;
        Ok(marked > 0)
    }

    /// Serves a medium again, and its content; `false` when there is no such medium.
    pub async fn release_media(&self, origin: &ServerName, media_id: &str) -> Result<bool> {
        const UNBLOCK: &str = "DELETE FROM media_blocked WHERE sha256 IN
            (SELECT sha256 FROM media WHERE origin = $1 AND media_id = $2)";
        const UNMARK: &str = "UPDATE media SET quarantined_by = NULL WHERE origin = $1 AND media_id = $2";
        if !is_storable(media_id) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(UNBLOCK).bind(origin.as_str()).bind(media_id).execute(connection).await.map(drop)
        })?;
        let released = db!(transaction.connection(), |connection| {
            let query = sqlx::query(UNMARK).bind(origin.as_str()).bind(media_id);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(released > 0)
    }

    /// Whether a medium stays when many are quarantined at once; `false` when there is no such medium.
    pub async fn protect_media(&self, origin: &ServerName, media_id: &str, protected: bool) -> Result<bool> {
        const SQL: &str = "UPDATE media SET protected = $3 WHERE origin = $1 AND media_id = $2";
        if !is_storable(media_id) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let changed = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(origin.as_str()).bind(media_id).bind(protected);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(changed > 0)
    }
}
