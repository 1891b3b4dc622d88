//! The rooms in which the server speaks to its users.

use ruma::{OwnedRoomId, RoomId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed},
};

impl Storage {
    /// The room in which the server speaks to a user, if it ever did.
    pub async fn server_notice_room(&self, user_id: &UserId) -> Result<Option<OwnedRoomId>> {
        const SQL: &str = "SELECT room_id FROM server_notice_rooms WHERE user_id = $1";
        let room_id: Option<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(user_id.as_str()).fetch_optional(pool).await)?;
        room_id.map(|room_id| parsed(&room_id, "server_notice_rooms", "room_id")).transpose()
    }

    /// Notes the room in which the server speaks to a user from now on.
    pub async fn set_server_notice_room(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        const SQL: &str = "INSERT INTO server_notice_rooms (user_id, room_id) VALUES ($1, $2)
            ON CONFLICT (user_id) DO UPDATE SET room_id = excluded.room_id";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(user_id.as_str()).bind(room_id.as_str()).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}
