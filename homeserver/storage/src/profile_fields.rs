//! What a profile holds beside display name and avatar.

use ruma::UserId;
use serde_json::value::RawValue;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, storable, without_nul},
};

/// A field of a profile.
#[derive(Clone, Debug)]
pub struct ProfileField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Box<RawValue>,
}

impl Storage {
    /// All fields of a user's profile but display name and avatar, by name.
    pub async fn profile_fields(&self, user_id: &UserId) -> Result<Vec<ProfileField>> {
        const SQL: &str = "SELECT name, json FROM profile_fields WHERE user_id = $1 ORDER BY name";
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(field).collect()
    }

    /// The text of one field, if it is one.
    pub async fn profile_text(&self, user_id: &UserId, name: &str) -> Result<Option<String>> {
        let field = self.profile_fields(user_id).await?.into_iter().find(|field| field.name == name);
        Ok(field.and_then(|field| serde_json::from_str(field.value.get()).ok()))
    }

    /// Sets a field.
    pub async fn set_profile_field(&self, user_id: &UserId, name: &str, value: &RawValue) -> Result<()> {
        const SQL: &str = "INSERT INTO profile_fields (user_id, name, json) VALUES ($1, $2, $3)
            ON CONFLICT (user_id, name) DO UPDATE SET json = excluded.json";
        let name = storable(name, "the name of a profile field")?;
        let json = without_nul(value.get());
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(user_id.as_str()).bind(name).bind(json).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Takes a field away, if it is there.
    pub async fn delete_profile_field(&self, user_id: &UserId, name: &str) -> Result<()> {
        const SQL: &str = "DELETE FROM profile_fields WHERE user_id = $1 AND name = $2";
        let name = storable(name, "the name of a profile field")?;
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(user_id.as_str()).bind(name).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

fn field((name, json): (String, String)) -> Result<ProfileField> {
    let value = RawValue::from_string(json)
        .map_err(|error| StorageError::corrupt("profile_fields", "json", name.as_str(), &error))?;
    Ok(ProfileField { name, value })
}
