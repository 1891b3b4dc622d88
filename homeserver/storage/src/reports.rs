//! What users complained of, for the administrator to look at.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed, without_nul},
};

/// A complaint.
#[derive(Clone, Debug)]
pub struct NewReport {
    /// When it came.
    pub received_ts: u64,
    /// Who complains.
    pub user_id: OwnedUserId,
    /// About which room, or the room of the event.
    pub room_id: Option<OwnedRoomId>,
    /// About which event.
    pub event_id: Option<OwnedEventId>,
    /// About which user.
    pub reported_user_id: Option<OwnedUserId>,
    /// In the user's words.
    pub reason: Option<String>,
    /// From -100, worst, to 0.
    pub score: Option<i64>,
}

/// A stored complaint.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its number: they ascend.
    pub report_id: i64,
    /// What it says.
    pub report: NewReport,
}

type Row = (i64, i64, String, Option<String>, Option<String>, Option<String>, Option<String>, Option<i64>);

impl Storage {
    /// Keeps a complaint and returns its number.
    pub async fn store_report(&self, report: &NewReport) -> Result<i64> {
        const SQL: &str = "INSERT INTO reports
            (report_id, received_ts, user_id, room_id, event_id, reported_user_id, reason, score)
            SELECT COALESCE(MAX(report_id), 0) + 1, $1, $2, $3, $4, $5, $6, $7 FROM reports RETURNING report_id";
        let reason = report.reason.as_deref().map(without_nul);
        let mut transaction = self.begin().await?;
        let report_id = db!(transaction.connection(), |connection| {
            let query = sqlx::query_scalar(SQL).bind(report.received_ts as i64).bind(report.user_id.as_str());
            let query = query.bind(report.room_id.as_ref().map(|id| id.as_str()));
            let query = query.bind(report.event_id.as_ref().map(|id| id.as_str()));
            let query = query.bind(report.reported_user_id.as_ref().map(|id| id.as_str()));
            query.bind(reason).bind(report.score).fetch_one(connection).await
        })?;
        transaction.commit().await?;
        Ok(report_id)
    }

    /// How many complaints a user made from a time on.
    pub async fn reports_by(&self, user_id: &UserId, since_ts: u64) -> Result<u64> {
        const SQL: &str = "SELECT COUNT(*) FROM reports WHERE user_id = $1 AND received_ts >= $2";
        let count: i64 = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(user_id.as_str()).bind(since_ts as i64).fetch_one(pool).await
        })?;
        Ok(count.unsigned_abs())
    }

    /// How many complaints there are.
    pub async fn reports_count(&self) -> Result<u64> {
        const SQL: &str = "SELECT COUNT(*) FROM reports";
        let count: i64 = db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?;
        Ok(count.unsigned_abs())
    }

    /// Complaints, the latest first, or the earliest.
    pub async fn reports(&self, from: u64, limit: usize, latest_first: bool) -> Result<Vec<Report>> {
        const LATEST: &str =
            "SELECT report_id, received_ts, user_id, room_id, event_id, reported_user_id, reason, score
            FROM reports ORDER BY report_id DESC LIMIT +$1 OFFSET +$2";
        const EARLIEST: &str =
            "SELECT report_id, received_ts, user_id, room_id, event_id, reported_user_id, reason, score
            FROM reports ORDER BY report_id LIMIT +$1 OFFSET +$2";
        let sql = if latest_first { LATEST } else { EARLIEST };
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows: Vec<Row> =
            db!(self.read(), |pool| sqlx::query_as(sql).bind(limit as i64).bind(from).fetch_all(pool).await)?;
        rows.into_iter().map(report).collect()
    }

    /// One complaint.
    pub async fn report(&self, report_id: i64) -> Result<Option<Report>> {
        const SQL: &str = "SELECT report_id, received_ts, user_id, room_id, event_id, reported_user_id, reason, score
            FROM reports WHERE report_id = $1";
        let row: Option<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(report_id).fetch_optional(pool).await)?;
        row.map(report).transpose()
    }
}

fn report((report_id, received_ts, user_id, room_id, event_id, reported, reason, score): Row) -> Result<Report> {
    let report = NewReport {
        received_ts: received_ts.unsigned_abs(),
        user_id: parsed(&user_id, "reports", "user_id")?,
        room_id: room_id.map(|id| parsed(&id, "reports", "room_id")).transpose()?,
        event_id: event_id.map(|id| parsed(&id, "reports", "event_id")).transpose()?,
        reported_user_id: reported.map(|id| parsed(&id, "reports", "reported_user_id")).transpose()?,
        reason,
        score,
    };
    Ok(Report { report_id, report })
}
