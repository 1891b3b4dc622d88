//! What users say about their presence. All else about it is known in memory only.

use ruma::{OwnedUserId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed, without_nul},
};

impl Storage {
    /// Notes what a user says about their presence, or that they say nothing any more.
    pub async fn set_status_message(&self, user_id: &UserId, status_msg: Option<&str>) -> Result<()> {
        const SET: &str = "INSERT INTO presence_statuses (user_id, status_msg) VALUES ($1, $2)
            ON CONFLICT (user_id) DO UPDATE SET status_msg = excluded.status_msg";
        const CLEAR: &str = "DELETE FROM presence_statuses WHERE user_id = $1";
        let status_msg = status_msg.map(without_nul);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = match &status_msg {
                Some(status_msg) => sqlx::query(SET).bind(user_id.as_str()).bind(&**status_msg),
                None => sqlx::query(CLEAR).bind(user_id.as_str()),
            };
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// What users say about their presence, of up to `limit` users.
    pub async fn status_messages(&self, limit: usize) -> Result<Vec<(OwnedUserId, String)>> {
        const SQL: &str = "SELECT user_id, status_msg FROM presence_statuses ORDER BY user_id LIMIT +$1";
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(limit as i64).fetch_all(pool).await)?;
        let status = |(user_id, status_msg): (String, String)| {
            Ok((parsed(&user_id, "presence_statuses", "user_id")?, status_msg))
        };
        rows.into_iter().map(status).collect()
    }
}
