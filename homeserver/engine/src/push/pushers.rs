//! The places where users want to be told what notifies them.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use outbound::CallError;
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::{PusherKey, PusherRecord};

use crate::{Engine, EngineError, Requester, Result};

/// How many pushers a user may have: more than people have devices with applications on them.
const PUSHERS_MAX: usize = 100;
/// The limits of the specification.
const APP_ID_CHARACTERS_MAX: usize = 64;
const PUSHKEY_BYTES_MAX: usize = 512;
/// The longest name and the longest tag, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// The longest language, in bytes: the longest that anybody speaks is far shorter.
const LANG_BYTES_MAX: usize = 64;
/// The most that a client may give for its gateway, in bytes of JSON: it goes along with each notification.
const DATA_BYTES_MAX: usize = 8 * 1024;
/// The length of what ends a pusher without logging in, in characters: beyond guessing.
const SECRET_LENGTH: usize = 32;

/// The kind that tells a push gateway.
pub(super) const HTTP: &str = "http";
/// The kind that sends letters, which is also where they lead.
pub(super) const EMAIL: &str = "email";
/// The application of all pushers that send letters.
const EMAIL_APP_ID: &str = "m.email";

/// A place where a user wants to be told.
#[derive(Clone, Debug)]
pub struct PusherCommand {
    /// The application.
    pub app_id: String,
    /// The address within it.
    pub pushkey: String,
    /// `http` or `email`.
    pub kind: String,
    /// The application, for people.
    pub app_display_name: String,
    /// The device, for people.
    pub device_display_name: String,
    /// Which set of rules the client means it for.
    pub profile_tag: Option<String>,
    /// The language that the user prefers.
    pub lang: String,
    /// What the client gives for the gateway: a JSON object.
    pub data: Box<RawValue>,
    /// Whether other users may go on having the same app and pushkey.
    pub append: bool,
}

#[derive(Deserialize)]
struct HttpData {
    url: Option<String>,
}

impl Engine {
    /// The asker's pushers.
    pub async fn pushers(&self, requester: &Requester) -> Result<Vec<PusherRecord>> {
        Ok(self.storage().pushers(&requester.user_id).await?)
    }

    /// Creates or changes a pusher of the asker. It ends with the device that asks.
    pub async fn set_pusher(&self, requester: &Requester, command: PusherCommand) -> Result<()> {
        check(&command)?;
        let key = PusherKey { user_id: requester.user_id.clone(), app_id: command.app_id, pushkey: command.pushkey };
        let gateway = match command.kind.as_str() {
            HTTP => self.gateway_of(&command.data)?,
            EMAIL => self.check_mailbox(&key).await?,
            _ => return Err(EngineError::invalid_param("`kind` must be \"http\" or \"email\"")),
        };
        let _lock = self.inner.push.changing.lock(&format!("pushers {}", key.user_id)).await;
        let present = self.storage().pushers(&key.user_id).await?;
        if present.len() >= PUSHERS_MAX && present.iter().all(|pusher| pusher.key != key) {
            return Err(EngineError::TooLarge(format!("There can be no more than {PUSHERS_MAX} pushers")));
        }
        let pusher = PusherRecord {
            key,
            device_id: requester.device_id.clone(),
            kind: command.kind,
            gateway,
            app_display_name: command.app_display_name,
            device_display_name: command.device_display_name,
            profile_tag: command.profile_tag,
            lang: command.lang,
            data: command.data,
            secret: self.world().random_string(SECRET_LENGTH),
            set_ts: self.world().clock.now_ms(),
        };
        self.storage().set_pusher(&pusher, command.append).await?;
        self.inner.push.delivery.wake(&pusher);
        Ok(())
    }

    /// Deletes a pusher of the asker.
    pub async fn delete_pusher(&self, requester: &Requester, app_id: String, pushkey: String) -> Result<()> {
        Ok(self.storage().delete_pusher(&PusherKey { user_id: requester.user_id.clone(), app_id, pushkey }).await?)
    }

    /// Ends the pusher of which somebody knows the secret, who reads the letters that it sends.
    pub async fn unsubscribe(&self, secret: &str) -> Result<()> {
        if !self.storage().delete_pusher_by_secret(secret).await? {
            return Err(EngineError::not_found("These letters have been ended already"));
        }
        Ok(())
    }

    fn gateway_of(&self, data: &RawValue) -> Result<String> {
        let url = url_of(data).ok_or_else(|| EngineError::MissingParam("`data` has no `url`".to_owned()))?;
        self.federation().push_gateway(&url).map_err(|error| match error {
            CallError::Denied(reason) => EngineError::InvalidParam(format!("`url` cannot be called: {reason}")),
            error => EngineError::internal(error),
        })
    }

    /// Letters go only to addresses that their user has shown to be theirs.
    async fn check_mailbox(&self, key: &PusherKey) -> Result<String> {
        if !self.sends_letters() {
            return Err(EngineError::invalid_param("This server sends no letters"));
        }
        if key.app_id != EMAIL_APP_ID {
            return Err(EngineError::invalid_param("The `app_id` of a pusher that sends letters is \"m.email\""));
        }
        if self.owner_of_address(EMAIL, &key.pushkey).await?.as_ref() != Some(&key.user_id) {
            return Err(EngineError::invalid_param("This address does not belong to your account"));
        }
        Ok(EMAIL.to_owned())
    }
}

/// Where a push gateway is.
pub(super) fn url_of(data: &RawValue) -> Option<String> {
    serde_json::from_str::<HttpData>(data.get()).ok()?.url
}

fn check(command: &PusherCommand) -> Result<()> {
    let refuse = |text: String| Err(EngineError::InvalidParam(text));
    if command.app_id.is_empty() || command.app_id.chars().count() > APP_ID_CHARACTERS_MAX {
        return refuse(format!("`app_id` must have 1 to {APP_ID_CHARACTERS_MAX} characters"));
    }
    if command.pushkey.is_empty() || command.pushkey.len() > PUSHKEY_BYTES_MAX {
        return refuse(format!("`pushkey` must have 1 to {PUSHKEY_BYTES_MAX} bytes"));
    }
    let names = [Some(&command.app_display_name), Some(&command.device_display_name), command.profile_tag.as_ref()];
    if names.into_iter().flatten().any(|name| name.len() > NAME_BYTES_MAX) {
        return refuse(format!("Names and `profile_tag` must have at most {NAME_BYTES_MAX} bytes"));
    }
    if command.lang.len() > LANG_BYTES_MAX {
        return refuse(format!("`lang` must have at most {LANG_BYTES_MAX} bytes"));
    }
    if command.data.get().len() > DATA_BYTES_MAX {
        return refuse(format!("`data` must have at most {DATA_BYTES_MAX} bytes"));
    }
    Ok(())
}
