//! Devices that nobody is logged in with: they receive while their user's others do not.

use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage,
    device_keys::json,
    dialect::{db, storable, without_nul},
};

/// A dehydrated device.
#[derive(Clone, Debug)]
pub struct DehydratedDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What brings it back to life, as its client encrypted it.
    pub device_data: Box<RawValue>,
}

impl Storage {
    /// Creates a device as the dehydrated one of its user. `false` when there is a device of that id already, or another
    /// dehydrated one.
    pub async fn create_dehydrated_device(
        &self,
        user_id: &UserId,
        device: &DehydratedDevice,
        display_name: Option<&str>,
    ) -> Result<bool> {
        const DEVICE: &str = "INSERT INTO devices (user_id, device_id, display_name) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING";
        const SQL: &str = "INSERT INTO dehydrated_devices (user_id, device_id, device_data) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING";
        let device_id = storable(device.device_id.as_str(), "a device id")?;
        let display_name = display_name.map(without_nul);
        let mut transaction = self.begin().await?;
        let is_new = db!(transaction.connection(), |connection| {
            let query = sqlx::query(DEVICE).bind(user_id.as_str()).bind(device_id).bind(display_name);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        let is_only = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(device_id).bind(device.device_data.get());
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        if is_new == 0 || is_only == 0 {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Gives the dehydrated device of a user other data.
    pub async fn update_dehydrated_device(&self, user_id: &UserId, device: &DehydratedDevice) -> Result<()> {
        const SQL: &str = "UPDATE dehydrated_devices SET device_data = $3 WHERE user_id = $1 AND device_id = $2";
        let device_id = storable(device.device_id.as_str(), "a device id")?;
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(device_id).bind(device.device_data.get());
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// The dehydrated device of a user.
    pub async fn dehydrated_device(&self, user_id: &UserId) -> Result<Option<DehydratedDevice>> {
        const SQL: &str = "SELECT device_id, device_data FROM dehydrated_devices WHERE user_id = $1";
        let row: Option<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_optional(pool).await)?;
        let device = |(device_id, device_data): (String, String)| {
            let device_data = json(device_data, "dehydrated_devices", user_id.as_str())?;
            Ok(DehydratedDevice { device_id: device_id.into(), device_data })
        };
        row.map(device).transpose()
    }

    /// Whether a device is the dehydrated one of its user.
    pub async fn is_dehydrated(&self, user_id: &UserId, device_id: &DeviceId) -> Result<bool> {
        Ok(self.dehydrated_device(user_id).await?.is_some_and(|device| device.device_id == device_id))
    }
}
