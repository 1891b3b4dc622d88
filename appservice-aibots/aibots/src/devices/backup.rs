//! The backup of a bot's keys to rooms, at its homeserver: a bot whose device is lost reads with it what was said before.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>
//!
//! The key of the backup is among the facts of the service. What is read with a key from the backup is history to be told;
//! it is never answered, since whoever knows the backup's public key can put keys into it.

use reqwest::Method;
use ruma::api::client::backup::get_backup_keys;
use serde_json::Value;

use super::wire::field;
use super::{Device, DeviceFailure};
use crate::matrix::{As, CallError, text};
use crate::service::{Bot, Service};

/// The backup as the homeserver has it.
struct Offer {
    version: String,
    algorithm: String,
    auth_data: crate::conversation::event::Object,
}

/// Sees to it that the device adds to a backup whose key we have, and reads in what another device of this bot has left
/// there.
pub(super) async fn keep(service: &Service, bot: &Bot, device: &Device) -> Result<(), DeviceFailure> {
    if device.has_backup().await {
        return Ok(());
    }
    let fact = format!("backup {}", bot.settings.localpart);
    let failed = |error: sqlx::Error| CallError::Away(error.to_string());
    if let Some(recovery_key) = service.store.fact(&fact).await.map_err(failed)?
        && device.take_up(&recovery_key).await?
    {
        return Ok(());
    }
    let recovery_key = device.make_backup().await?;
    // Before it is asked for: a backup of which nobody has the key is worth nothing.
    service.store.note(&fact, &recovery_key).await.map_err(failed)?;
    device.send_requests().await.map(drop)
}

impl Device {
    async fn has_backup(&self) -> bool {
        self.inner.lock().await.machine.backup_version().is_some()
    }

    async fn make_backup(&self) -> Result<String, DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let held = inner.machine.create_backup();
        inner.keep(held)
    }

    /// Uses the backup that is there, if this is its key, and reads in what is in it. Gives whether it is used.
    async fn take_up(&self, recovery_key: &str) -> Result<bool, DeviceFailure> {
        let Some(offer) = self.offer().await? else { return Ok(false) };
        let mut inner = self.inner.lock().await;
        let held = inner.machine.use_backup(&offer.version, &offer.algorithm, &offer.auth_data);
        let mut is_used = inner.keep(held)?;
        if !is_used && let Ok(held) = inner.machine.set_recovery_key(recovery_key) {
            is_used = inner.keep(held)?;
        }
        drop(inner);
        if is_used {
            self.restore(&offer.version).await?;
        }
        Ok(is_used)
    }

    async fn offer(&self) -> Result<Option<Offer>, DeviceFailure> {
        let answer = match self.ask_for(&["version"], &[]).await {
            Err(CallError::Refused { status: 404, .. }) => return Ok(None),
            answer => answer?,
        };
        let auth_data = answer.get("auth_data").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Some(Offer { version: text(&answer, "version")?, algorithm: text(&answer, "algorithm")?, auth_data }))
    }

    async fn restore(&self, version: &str) -> Result<(), DeviceFailure> {
        let mut answer = self.ask_for(&["keys"], &[("version", version)]).await?;
        let response = get_backup_keys::v3::Response::new(field(&mut answer, "rooms")?);
        let mut inner = self.inner.lock().await;
        let held = inner.machine.restore_backup(&response);
        let restored = inner.keep(held)?;
        tracing::info!(user.id = self.user_id, restored, "a bot's keys are read from their backup");
        Ok(())
    }

    async fn ask_for(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, CallError> {
        let path = [&["client", "v3", "room_keys"], path].concat();
        self.homeserver.call(As::Device(&self.token), Method::GET, &path, query, None).await
    }
}
