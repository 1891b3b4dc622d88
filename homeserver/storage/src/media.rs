//! Media: which there are, whose they are, and what they are made of. The contents themselves lie elsewhere, named by
//! their SHA-256; here stands which of them there are.
//!
//! The order keeps a record from ever being without its content, whenever the process ends: a content's row, the
//! content, the record; and backwards when it goes. What is left over in between is found by [`Storage::orphaned_blobs`].

mod blobs;
mod keeping;
mod quarantine;
mod thumbnails;

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};

pub use self::{
    blobs::MediaBlob,
    thumbnails::{ThumbnailKey, ThumbnailRecord},
};
use crate::{
    Result, Storage,
    database::Transaction,
    dialect::{db, is_storable, parsed, storable, without_nul},
};

/// A medium that is to be kept.
#[derive(Clone, Debug)]
pub struct NewMedia {
    /// The server that it comes from.
    pub origin: OwnedServerName,
    /// Its id there.
    pub media_id: String,
    /// Its content.
    pub blob: MediaBlob,
    /// The type that its uploader claims.
    pub content_type: Option<String>,
    /// The name that its uploader gave it.
    pub filename: Option<String>,
    /// Who uploaded it, of our users.
    pub uploader: Option<OwnedUserId>,
    /// Whether it is an image of a page that was previewed.
    pub preview: bool,
    /// Whether it may be had without an access token.
    pub unauthenticated: bool,
    /// When.
    pub created_ts: u64,
}

/// A medium, or the reservation of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRecord {
    /// The server that it comes from.
    pub origin: OwnedServerName,
    /// Its id there.
    pub media_id: String,
    /// Its content; `None` as long as it is only reserved.
    pub blob: Option<MediaBlob>,
    /// The type that its uploader claims.
    pub content_type: Option<String>,
    /// The name that its uploader gave it.
    pub filename: Option<String>,
    /// Who uploaded it, or has reserved it.
    pub uploader: Option<OwnedUserId>,
    /// Whether it may be had without an access token.
    pub unauthenticated: bool,
    /// Whether it stays when what its uploader has sent, or all of a room, is quarantined.
    pub protected: bool,
    /// Who has quarantined it, or its content wherever it came from.
    pub quarantined_by: Option<String>,
    /// When it was uploaded, or fetched.
    pub created_ts: u64,
    /// When it was last asked for, to within an hour.
    pub accessed_ts: u64,
    /// Until when it is reserved.
    pub expires_ts: Option<u64>,
}

/// The name of a medium.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaPlace {
    /// The server that it comes from.
    pub origin: OwnedServerName,
    /// Its id there.
    pub media_id: String,
}

/// What came of storing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredMedia {
    /// It is stored.
    Stored,
    /// There is one of that name.
    Taken,
    /// The user has no room left for it.
    OverQuota,
    /// The user has not reserved that name, or no longer.
    NotReserved,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaUsage {
    /// How many media.
    pub count: u64,
    /// In bytes.
    pub size: u64,
}

/// What is read of a record.
const COLUMNS: &str = "SELECT m.origin, m.media_id, m.sha256, m.size, m.content_type, m.filename, m.uploader,
        m.unauthenticated, m.protected, COALESCE(m.quarantined_by, b.blocked_by) AS quarantined_by, m.created_ts,
        m.accessed_ts, m.expires_ts
    FROM media m LEFT JOIN media_blocked b ON b.sha256 = m.sha256";

/// Origin, id, SHA-256, size, type, name, uploader, unauthenticated, protected, quarantined by, created, accessed, expires.
type Row = (
    String,
    String,
    Option<String>,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    bool,
    bool,
    Option<String>,
    i64,
    i64,
    Option<i64>,
);

impl Storage {
    /// A medium, or the reservation of one.
    pub async fn media(&self, origin: &ServerName, media_id: &str) -> Result<Option<MediaRecord>> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE m.origin = $1 AND m.media_id = $2"));
        if !is_storable(media_id) {
            return Ok(None);
        }
        let row: Option<Row> = db!(self.read(), |pool| {
            sqlx::query_as(sql).bind(origin.as_str()).bind(media_id).fetch_optional(pool).await
        })?;
        row.map(record).transpose()
    }

    /// Keeps a medium whose content is there. `quota_bytes` is how much its uploader may have with it.
    pub async fn store_media(&self, media: &NewMedia, quota_bytes: Option<u64>) -> Result<StoredMedia> {
        const SQL: &str = "INSERT INTO media (origin, media_id, sha256, size, content_type, filename, uploader, local,
                preview, unauthenticated, protected, created_ts, accessed_ts)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, FALSE, $11, $11)
            ON CONFLICT (origin, media_id) DO NOTHING";
        let media_id = storable(&media.media_id, "a media id")?;
        let mut transaction = self.begin().await?;
        if let Some(uploader) = &media.uploader {
            one_at_a_time(&mut transaction, uploader).await?;
        }
        if let Some(uploader) = &media.uploader
            && over_quota(&mut transaction, uploader, media.blob.size, quota_bytes).await?
        {
            return Ok(StoredMedia::OverQuota);
        }
        let stored = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(media.origin.as_str()).bind(media_id).bind(&media.blob.sha256);
            let query = query.bind(media.blob.size as i64).bind(media.content_type.as_deref().map(without_nul));
            let query = query.bind(media.filename.as_deref().map(without_nul));
            let query = query.bind(media.uploader.as_ref().map(|user_id| user_id.as_str()));
            let query = query.bind(media.origin == self.shared.server_name).bind(media.preview);
            let query = query.bind(media.unauthenticated).bind(media.created_ts as i64);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(if stored > 0 { StoredMedia::Stored } else { StoredMedia::Taken })
    }

    /// Reserves a name for a user, who may have so many reservations at a time; `false` when there are as many.
    pub async fn reserve_media(
        &self,
        place: &MediaPlace,
        uploader: &UserId,
        now_ts: u64,
        expires_ts: u64,
        reservations_max: u64,
    ) -> Result<bool> {
        const COUNT: &str = "SELECT COUNT(*) FROM media WHERE uploader = $1 AND sha256 IS NULL AND expires_ts > $2";
        const SQL: &str = "INSERT INTO media (origin, media_id, size, uploader, local, preview, unauthenticated,
                protected, created_ts, accessed_ts, expires_ts)
            VALUES ($1, $2, 0, $3, TRUE, FALSE, FALSE, FALSE, $4, $4, $5)";
        let mut transaction = self.begin().await?;
        one_at_a_time(&mut transaction, uploader).await?;
        let pending: i64 = db!(transaction.connection(), |connection| {
            sqlx::query_scalar(COUNT).bind(uploader.as_str()).bind(now_ts as i64).fetch_one(connection).await
        })?;
        if pending.unsigned_abs() >= reservations_max {
            return Ok(false);
        }
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(place.origin.as_str()).bind(&place.media_id).bind(uploader.as_str());
            query.bind(now_ts as i64).bind(expires_ts as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Gives a reservation its content, which is there.
    pub async fn complete_media(&self, media: &NewMedia, quota_bytes: Option<u64>) -> Result<StoredMedia> {
        const SQL: &str = "UPDATE media SET sha256 = $4, size = $5, content_type = $6, filename = $7,
                unauthenticated = $8, created_ts = $9, accessed_ts = $9, expires_ts = NULL
            WHERE origin = $1 AND media_id = $2 AND uploader = $3 AND sha256 IS NULL AND expires_ts > $9";
        let Some(uploader) = &media.uploader else { return Ok(StoredMedia::NotReserved) };
        let mut transaction = self.begin().await?;
        one_at_a_time(&mut transaction, uploader).await?;
        if over_quota(&mut transaction, uploader, media.blob.size, quota_bytes).await? {
            return Ok(StoredMedia::OverQuota);
        }
        let completed = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(media.origin.as_str()).bind(&media.media_id).bind(uploader.as_str());
            let query = query.bind(&media.blob.sha256).bind(media.blob.size as i64);
            let query = query.bind(media.content_type.as_deref().map(without_nul));
            let query = query.bind(media.filename.as_deref().map(without_nul)).bind(media.unauthenticated);
            query.bind(media.created_ts as i64).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(if completed > 0 { StoredMedia::Stored } else { StoredMedia::NotReserved })
    }

    /// Remembers that a medium was asked for.
    pub async fn touch_media(&self, origin: &ServerName, media_id: &str, now_ts: u64) -> Result<()> {
        const SQL: &str = "UPDATE media SET accessed_ts = $3 WHERE origin = $1 AND media_id = $2";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(origin.as_str()).bind(media_id).bind(now_ts as i64);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// How much a user has uploaded.
    pub async fn media_usage(&self, uploader: &UserId) -> Result<MediaUsage> {
        const SQL: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM media
            WHERE uploader = $1 AND sha256 IS NOT NULL";
        let (count, size): (i64, i64) =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(uploader.as_str()).fetch_one(pool).await)?;
        Ok(MediaUsage { count: count.unsigned_abs(), size: size.unsigned_abs() })
    }

    /// What a user has uploaded, the latest first, after so many.
    pub async fn media_of(&self, uploader: &UserId, from: u64, limit: usize) -> Result<Vec<MediaRecord>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} WHERE m.uploader = $1 AND m.sha256 IS NOT NULL
                ORDER BY m.created_ts DESC, m.media_id LIMIT +$2 OFFSET +$3"
        ));
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows: Vec<Row> = db!(self.read(), |pool| {
            sqlx::query_as(sql).bind(uploader.as_str()).bind(limit as i64).bind(from).fetch_all(pool).await
        })?;
        rows.into_iter().map(record).collect()
    }

    /// The image of a page that was previewed, by its content, so that the same image is not kept under many names.
    pub async fn preview_media(&self, sha256: &str) -> Result<Option<MediaPlace>> {
        const SQL: &str = "SELECT origin, media_id FROM media WHERE sha256 = $1 AND preview ORDER BY media_id LIMIT 1";
        let row: Option<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(sha256).fetch_optional(pool).await)?;
        row.map(place).transpose()
    }

    /// Deletes a medium, or a reservation; `false` when there is none. Its content is left for
    /// [`Storage::orphaned_blobs`].
    pub async fn delete_media(&self, origin: &ServerName, media_id: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM media WHERE origin = $1 AND media_id = $2";
        if !is_storable(media_id) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let deleted = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(origin.as_str()).bind(media_id);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }
}

/// Has whatever else a user uploads wait for the end of the transaction, so that what is counted in it stays true.
async fn one_at_a_time(transaction: &mut Transaction, user_id: &UserId) -> Result<()> {
    const SQL: &str = "UPDATE accounts SET deactivated = deactivated WHERE user_id = $1";
    db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(user_id.as_str()).execute(connection).await.map(drop)
    })?;
    Ok(())
}

async fn over_quota(transaction: &mut Transaction, user_id: &UserId, size: u64, quota: Option<u64>) -> Result<bool> {
    const SQL: &str = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM media WHERE uploader = $1";
    let Some(quota) = quota else { return Ok(false) };
    let used: i64 = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(SQL).bind(user_id.as_str()).fetch_one(connection).await
    })?;
    Ok(used.unsigned_abs().saturating_add(size) > quota)
}

fn place((origin, media_id): (String, String)) -> Result<MediaPlace> {
    Ok(MediaPlace { origin: parsed(&origin, "media", "origin")?, media_id })
}

fn record(row: Row) -> Result<MediaRecord> {
    let (origin, media_id, sha256, size, content_type, filename, uploader, ..) = row;
    let (.., unauthenticated, protected, quarantined_by, created_ts, accessed_ts, expires_ts) = row;
    let size = size.unsigned_abs();
    Ok(MediaRecord {
        origin: parsed(&origin, "media", "origin")?,
        media_id,
        blob: sha256.map(|sha256| MediaBlob { sha256, size }),
        content_type,
        filename,
        uploader: uploader.map(|user_id| parsed(&user_id, "media", "uploader")).transpose()?,
        unauthenticated,
        protected,
        quarantined_by,
        created_ts: created_ts.unsigned_abs(),
        accessed_ts: accessed_ts.unsigned_abs(),
        expires_ts: expires_ts.map(i64::unsigned_abs),
    })
}
