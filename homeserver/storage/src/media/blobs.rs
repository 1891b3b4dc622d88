//! Contents: announced before they are put, forgotten after they are removed.

use crate::{Result, Storage, dialect::db};

/// A content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaBlob {
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
}

/// That no record and no thumbnail of another content is made of the content `b`.
const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM media m WHERE m.sha256 = b.sha256)
    AND NOT EXISTS (SELECT 1 FROM media_thumbnails t WHERE t.sha256 = b.sha256 AND t.source <> b.sha256)";

impl Storage {
    /// Announces that a content is about to be put where contents lie.
    pub async fn announce_blob(&self, blob: &MediaBlob, now_ts: u64) -> Result<()> {
        const SQL: &str = "INSERT INTO media_blobs (sha256, size, touched_ts) VALUES ($1, $2, $3)
            ON CONFLICT (sha256) DO UPDATE SET touched_ts = excluded.touched_ts, size = excluded.size";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(&blob.sha256).bind(blob.size as i64).bind(now_ts as i64);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Contents that nothing is made of, and that were announced before a time: whoever announced them had time enough
    /// to make something of them.
    pub async fn orphaned_blobs(&self, before_ts: u64, limit: usize) -> Result<Vec<String>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT b.sha256 FROM media_blobs b WHERE b.touched_ts < $1 AND {UNUSED} ORDER BY b.sha256 LIMIT +$2"
        ));
        Ok(db!(self.read(), |pool| {
            sqlx::query_scalar(sql).bind(before_ts as i64).bind(limit as i64).fetch_all(pool).await
        })?)
    }

    /// Whether there is a content that nothing is made of. It may be removed as long as nobody can announce it again.
    pub async fn is_unused_blob(&self, sha256: &str) -> Result<bool> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT COUNT(*) FROM (SELECT b.sha256 FROM media_blobs b WHERE b.sha256 = $1 AND {UNUSED}) AS unused"
        ));
        let count: i64 = db!(self.read(), |pool| sqlx::query_scalar(sql).bind(sha256).fetch_one(pool).await)?;
        Ok(count > 0)
    }

    /// Forgets a content that nothing is made of, together with its thumbnails, which are left without one then;
    /// `false` when something is made of it.
    pub async fn forget_blob(&self, sha256: &str) -> Result<bool> {
        const THUMBNAILS: &str = "DELETE FROM media_thumbnails WHERE source = $1
            AND NOT EXISTS (SELECT 1 FROM media m WHERE m.sha256 = $1)";
        let sql = sqlx::AssertSqlSafe(format!(
            "DELETE FROM media_blobs WHERE sha256 = $1 AND sha256 IN (SELECT b.sha256 FROM media_blobs b
                WHERE b.sha256 = $1 AND {UNUSED})"
        ));
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(THUMBNAILS).bind(sha256).execute(connection).await.map(drop)
        })?;
        let deleted = db!(transaction.connection(), |connection| {
            sqlx::query(sql).bind(sha256).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// Forgets what can be had again of a content that is lost: what was fetched, and thumbnails that are this content.
    pub async fn forget_lost_content(&self, sha256: &str) -> Result<()> {
        const MEDIA: &str = "DELETE FROM media WHERE sha256 = $1 AND (NOT local OR preview) AND quarantined_by IS NULL";
        const THUMBNAILS: &str = "DELETE FROM media_thumbnails WHERE sha256 = $1";
        let mut transaction = self.begin().await?;
        for sql in [MEDIA, THUMBNAILS] {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(sha256).execute(connection).await.map(drop)
            })?;
        }
        transaction.commit().await
    }

    /// Contents in the order of their hashes, after one: for looking whether they are where they should be.
    pub async fn blobs(&self, after: &str, limit: usize) -> Result<Vec<MediaBlob>> {
        const SQL: &str = "SELECT b.sha256, b.size FROM media_blobs b WHERE b.sha256 > $1
            AND (EXISTS (SELECT 1 FROM media m WHERE m.sha256 = b.sha256)
                OR EXISTS (SELECT 1 FROM media_thumbnails t WHERE t.sha256 = b.sha256))
            ORDER BY b.sha256 LIMIT +$2";
        let rows: Vec<(String, i64)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(after).bind(limit as i64).fetch_all(pool).await)?;
        Ok(rows.into_iter().map(|(sha256, size)| MediaBlob { sha256, size: size.unsigned_abs() }).collect())
    }
}
