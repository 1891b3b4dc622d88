//! What has been kept for long enough.

use ruma::OwnedUserId;

use super::{MediaPlace, MediaUsage, place};
use crate::{
    Result, Storage,
    dialect::{db, parsed},
};

impl Storage {
    /// Forgets reservations that nobody came back to before a time, and returns how many.
    pub async fn expire_reservations(&self, before_ts: u64) -> Result<u64> {
        const SQL: &str = "DELETE FROM media WHERE sha256 IS NULL AND expires_ts < $1";
        let mut transaction = self.begin().await?;
        let forgotten = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(before_ts as i64).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(forgotten)
    }

    /// Media that can be fetched again, be they of other servers or images of pages, that nobody asked for since a time.
    pub async fn stale_cached_media(&self, before_ts: u64, limit: usize) -> Result<Vec<MediaPlace>> {
        const SQL: &str = "SELECT origin, media_id FROM media WHERE (NOT local OR preview) AND accessed_ts < $1
            AND quarantined_by IS NULL ORDER BY accessed_ts, origin, media_id LIMIT +$2";
        self.places(SQL, before_ts, limit).await
    }

    /// Media that our users uploaded and that nobody asked for since a time.
    pub async fn stale_local_media(&self, before_ts: u64, limit: usize) -> Result<Vec<MediaPlace>> {
        const SQL: &str = "SELECT origin, media_id FROM media WHERE local AND NOT preview AND sha256 IS NOT NULL
            AND accessed_ts < $1 AND quarantined_by IS NULL AND NOT protected
            ORDER BY accessed_ts, origin, media_id LIMIT +$2";
        self.places(SQL, before_ts, limit).await
    }

    /// How many bytes the media have that can be fetched again.
    pub async fn cached_media_size(&self) -> Result<u64> {
        const SQL: &str = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM media WHERE NOT local OR preview";
        let size: i64 = db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?;
        Ok(size.unsigned_abs())
    }

    /// How much users have uploaded, for those who have uploaded the most.
    pub async fn media_usage_by_user(&self, limit: usize) -> Result<Vec<(OwnedUserId, MediaUsage)>> {
        const SQL: &str = "SELECT uploader, COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM media
            WHERE uploader IS NOT NULL AND sha256 IS NOT NULL GROUP BY uploader ORDER BY bytes DESC, uploader LIMIT +$1";
        let rows: Vec<(String, i64, i64)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(limit as i64).fetch_all(pool).await)?;
        let usage = |(user_id, count, size): (String, i64, i64)| {
            let usage = MediaUsage { count: count.unsigned_abs(), size: size.unsigned_abs() };
            Ok((parsed(&user_id, "media", "uploader")?, usage))
        };
        rows.into_iter().map(usage).collect()
    }

    async fn places(&self, sql: &'static str, before_ts: u64, limit: usize) -> Result<Vec<MediaPlace>> {
        let before_ts = i64::try_from(before_ts).unwrap_or(i64::MAX);
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(sql).bind(before_ts).bind(limit as i64).fetch_all(pool).await)?;
        rows.into_iter().map(place).collect()
    }
}
