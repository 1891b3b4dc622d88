//! Room aliases of this server.

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, is_storable, parsed, storable},
};

impl Storage {
    /// Creates an alias; `false` when it is taken.
    pub async fn create_alias(&self, alias: &RoomAliasId, room_id: &RoomId, creator: &UserId) -> Result<bool> {
        const SQL: &str = "INSERT INTO aliases (alias, room_id, creator) VALUES ($1, $2, $3)
            ON CONFLICT (alias) DO NOTHING";
        let (alias, room_id) = (storable(alias.as_str(), "an alias")?, storable(room_id.as_str(), "a room id")?);
        let creator = storable(creator.as_str(), "a user id")?;
        let mut transaction = self.begin().await?;
        let created = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(alias).bind(room_id).bind(creator);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(created > 0)
    }

    /// The room that an alias leads to, and who created the alias.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<(OwnedRoomId, OwnedUserId)>> {
        const SQL: &str = "SELECT room_id, creator FROM aliases WHERE alias = $1";
        if !is_storable(alias.as_str()) {
            return Ok(None);
        }
        let row: Option<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(alias.as_str()).fetch_optional(pool).await)?;
        let Some((room_id, creator)) = row else { return Ok(None) };
        Ok(Some((parsed(&room_id, "aliases", "room_id")?, parsed(&creator, "aliases", "creator")?)))
    }

    /// Deletes an alias; `false` when there is none.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<bool> {
        const SQL: &str = "DELETE FROM aliases WHERE alias = $1";
        if !is_storable(alias.as_str()) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let deleted = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(alias.as_str()).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// Points all aliases of a room to another one.
    pub async fn move_aliases(&self, from: &RoomId, to: &RoomId) -> Result<()> {
        const SQL: &str = "UPDATE aliases SET room_id = $2 WHERE room_id = $1";
        let (from, to) = (storable(from.as_str(), "a room id")?, storable(to.as_str(), "a room id")?);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(from).bind(to).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// All aliases that lead to a room.
    pub async fn aliases_of(&self, room_id: &RoomId) -> Result<Vec<OwnedRoomAliasId>> {
        const SQL: &str = "SELECT alias FROM aliases WHERE room_id = $1";
        let room_id = storable(room_id.as_str(), "a room id")?;
        let aliases: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(room_id).fetch_all(pool).await)?;
        aliases.iter().map(|alias| parsed(alias, "aliases", "alias")).collect()
    }
}
