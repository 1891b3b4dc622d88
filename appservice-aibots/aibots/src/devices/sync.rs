//! How devices come to be, and how they hear of what is sent to them.

use std::sync::Arc;
use std::time::Duration;

use machine::{StoreKey, SyncParts};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::wire::field;
use super::{Device, DeviceFailure, backup, verification};
use crate::matrix::{As, CallError, text};
use crate::service::{Bot, Service};

/// Nothing of rooms: their events come in transactions.
const FILTER: &str = r#"{"room":{"rooms":[]},"presence":{"not_types":["*"]},"account_data":{"not_types":["*"]}}"#;

/// How long a sync waits for news.
const TIMEOUT_MS: &str = "30000";

/// How long to wait for the answer of a sync.
const DEADLINE: Duration = Duration::from_mins(1);

/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_secs(5);

/// Characters of a device's name.
const DEVICE_ID_LENGTH: usize = 10;

/// How a device is known to the homeserver.
#[derive(Serialize, Deserialize)]
struct Login {
    device_id: String,
    token: String,
}

/// Keeps the device of one bot, for as long as it is run.
pub(crate) async fn run(service: &Arc<Service>, bot: &Bot) {
    loop {
        match live(service, bot).await {
            Ok(()) => tracing::info!(user.id = bot.user_id, "a bot's device has been logged out; it logs in again"),
            Err(error) => {
                tracing::warn!(%error, user.id = bot.user_id, "a bot's device has trouble; encrypted rooms wait");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Makes or loads the device, then syncs until its login is gone.
async fn live(service: &Arc<Service>, bot: &Bot) -> Result<(), DeviceFailure> {
    let fact = format!("device {}", bot.settings.localpart);
    let store_failed = |error: sqlx::Error| CallError::Away(error.to_string());
    let folder = service.configuration.service.data_dir.join("devices");
    std::fs::create_dir_all(&folder).map_err(|error| CallError::Away(error.to_string()))?;
    let file = folder.join(&bot.settings.localpart);
    let login = match service.store.fact(&fact).await.map_err(store_failed)? {
        // Whose keys are lost comes back as another device: nobody would believe this one with other keys.
        Some(login) if file.exists() => serde_json::from_str(&login).map_err(|_| CallError::Strange("a login"))?,
        _ => log_in(service, bot, &fact, None).await?,
    };
    let identity = (bot.user_id.as_str(), login.device_id.as_str(), login.token.clone());
    let key = store_key(service).await?;
    let (to_say, said) = mpsc::channel(verification::WAITING_MAX);
    let device = Device::open(service.homeserver.clone(), &service.world, identity, &file, &key, to_say)?;
    let device = Arc::new(device);
    device.publish().await?;
    if let Err(error) = backup::keep(service, bot, &device).await {
        tracing::warn!(%error, user.id = bot.user_id, "a bot's keys are not backed up");
    }
    service.devices.add(&bot.user_id, device.clone());
    service.keys.notify_waiters();
    let is_forgotten = tokio::select! {
        forgotten = sync_on(service, bot, &device) => forgotten,
        () = verification::say(service, &bot.user_id, &device, said) => Ok(()),
    };
    // The file belongs to one machine at a time.
    service.devices.remove(&bot.user_id);
    is_forgotten?;
    log_in(service, bot, &fact, Some(login.device_id)).await?;
    Ok(())
}

/// Syncs until the homeserver has forgotten the device.
async fn sync_on(service: &Arc<Service>, bot: &Bot, device: &Device) -> Result<(), DeviceFailure> {
    loop {
        match sync(service, device).await {
            Ok(has_keys) => {
                if has_keys {
                    service.keys.notify_waiters();
                }
            }
            // Before the login is noted: whatever happens in between, the keys are not taken for published.
            Err(DeviceFailure::Call(CallError::Refused { status: 401, .. })) => return device.forget_published().await,
            Err(error) => {
                tracing::debug!(%error, user.id = bot.user_id, "a device's sync fails; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn log_in(service: &Service, bot: &Bot, fact: &str, device_id: Option<String>) -> Result<Login, CallError> {
    let device_id = device_id.unwrap_or_else(|| service.world.random_string(DEVICE_ID_LENGTH).to_uppercase());
    let body = json!({
        "type": "m.login.application_service",
        "identifier": { "type": "m.id.user", "user": bot.settings.localpart },
        "device_id": device_id,
        "initial_device_display_name": "nudge-aibots",
    });
    let path = ["client", "v3", "login"];
    let answer = service.homeserver.call(As::Service, Method::POST, &path, &[], Some(&body)).await?;
    let login = Login { device_id, token: text(&answer, "access_token")? };
    let noted = serde_json::to_string(&login).expect("two texts can be written");
    service.store.note(fact, &noted).await.map_err(|error| CallError::Away(error.to_string()))?;
    Ok(login)
}

/// The key by which the records of devices are sealed. Who has our store has it too, but not who has a device's file.
async fn store_key(service: &Service) -> Result<StoreKey, CallError> {
    const FACT: &str = "device key";
    let mut new = [0_u8; 32];
    service.world.chance.fill(&mut new);
    let new = serde_json::to_string(&new).expect("numbers can be written");
    // All bots ask at the same time, and must get the same.
    let known = service.store.note_first(FACT, &new).await.map_err(|error| CallError::Away(error.to_string()))?;
    let secret: Option<[u8; 32]> = serde_json::from_str(&known).ok();
    secret.map(StoreKey::from_secret).ok_or(CallError::Strange("a key of 32 bytes"))
}

async fn sync(service: &Service, device: &Device) -> Result<bool, DeviceFailure> {
    let since = device.sync_token().await;
    let timeout = if since.is_some() { TIMEOUT_MS } else { "0" };
    let mut query = vec![("filter", FILTER), ("timeout", timeout), ("set_presence", "offline")];
    query.extend(since.as_deref().map(|since| ("since", since)));
    let path = ["client", "v3", "sync"];
    let who = As::Device(device.token());
    let mut answer = service.homeserver.once(who, Method::GET, &path, &query, None, DEADLINE).await?;
    let (mut to_device, mut lists) = (
        answer.get_mut("to_device").map_or(Value::Null, Value::take),
        answer.get_mut("device_lists").map_or(Value::Null, Value::take),
    );
    let unused = answer.get("device_unused_fallback_key_types").cloned();
    let parts = SyncParts {
        to_device: field(&mut to_device, "events")?,
        changed: field(&mut lists, "changed")?,
        left: field(&mut lists, "left")?,
        one_time_key_counts: Some(field(&mut answer, "device_one_time_keys_count")?),
        unused_fallback_key_types: unused.and_then(|unused| serde_json::from_value(unused).ok()),
        next_batch: Some(text(&answer, "next_batch")?),
    };
    device.receive(service, &parts).await
}
