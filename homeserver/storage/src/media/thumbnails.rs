//! Thumbnails that were made.

use super::MediaBlob;
use crate::{Result, Storage, dialect::db};

/// Which thumbnail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThumbnailKey {
    /// The SHA-256 of what it shows.
    pub source: String,
    /// In pixels: of the size that is asked for, not of the thumbnail.
    pub width: u32,
    /// Likewise.
    pub height: u32,
    /// `scale` or `crop`.
    pub method: &'static str,
    /// Whether it may move.
    pub animated: bool,
}

/// A thumbnail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThumbnailRecord {
    /// Its content.
    pub blob: MediaBlob,
    /// Its type.
    pub content_type: String,
}

impl Storage {
    /// A thumbnail, if it was made.
    pub async fn thumbnail(&self, key: &ThumbnailKey) -> Result<Option<ThumbnailRecord>> {
        const SQL: &str = "SELECT sha256, size, content_type FROM media_thumbnails
            WHERE source = $1 AND width = $2 AND height = $3 AND method = $4 AND animated = $5";
        let row: Option<(String, i64, String)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&key.source).bind(i64::from(key.width)).bind(i64::from(key.height));
            query.bind(key.method).bind(key.animated).fetch_optional(pool).await
        })?;
        Ok(row.map(|(sha256, size, content_type)| ThumbnailRecord {
            blob: MediaBlob { sha256, size: size.unsigned_abs() },
            content_type,
        }))
    }

    /// Keeps a thumbnail whose content is there; `false` when what it shows is gone meanwhile.
    pub async fn store_thumbnail(&self, key: &ThumbnailKey, thumbnail: &ThumbnailRecord) -> Result<bool> {
        const SQL: &str = "INSERT INTO media_thumbnails
                (source, width, height, method, animated, sha256, size, content_type)
            SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT 1 FROM media_blobs WHERE sha256 = $1)
            ON CONFLICT (source, width, height, method, animated) DO UPDATE
                SET sha256 = excluded.sha256, size = excluded.size, content_type = excluded.content_type";
        let mut transaction = self.begin().await?;
        let stored = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(&key.source).bind(i64::from(key.width)).bind(i64::from(key.height));
            let query = query.bind(key.method).bind(key.animated).bind(&thumbnail.blob.sha256);
            let query = query.bind(thumbnail.blob.size as i64).bind(&thumbnail.content_type);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(stored > 0)
    }
}
