//! What other servers say of their users' devices and send to ours, and what they ask of ours.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#device-management>,
//! <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use std::collections::BTreeMap;

use keyserver::{
    DeviceListUpdateContent, DirectToDeviceContent, KeyError, QueriedKeys, RemoteDevices, SigningKeyUpdateContent,
    UpdateOutcome, Viewer,
};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde_json::value::RawValue;

use crate::{Engine, EngineError, Result};

/// How many users another server may ask for at once.
const USERS_MAX: usize = 10_000;

impl Engine {
    /// Messages from another server's user to devices of ours.
    pub(super) async fn receive_to_device(&self, origin: &ServerName, content: &RawValue) {
        let Ok(content) = serde_json::from_str::<DirectToDeviceContent>(content.get()) else { return };
        let _turn = self.inner.keys.message_turn(&format!("{origin} {}", content.message_id)).await;
        log_failure(origin, self.key_server().receive_to_device(origin, content).await);
    }

    /// A device of another server's user changed.
    pub(super) async fn receive_device_list_update(&self, origin: &ServerName, content: &RawValue) {
        let Ok(update) = serde_json::from_str::<DeviceListUpdateContent>(content.get()) else { return };
        if update.user_id.server_name() != origin {
            return;
        }
        let outcome = {
            let _turn = self.device_list_turn(&update.user_id).await;
            self.key_server().receive_device_list_update(update).await
        };
        if log_failure(origin, outcome) == Some(UpdateOutcome::Gap) {
            self.devices_are_missing();
        }
    }

    /// Another server's user has new cross-signing keys.
    pub(super) async fn receive_signing_key_update(&self, origin: &ServerName, content: &RawValue) {
        let Ok(update) = serde_json::from_str::<SigningKeyUpdateContent>(content.get()) else { return };
        if update.user_id.server_name() == origin {
            let _turn = self.device_list_turn(&update.user_id).await;
            log_failure(origin, self.key_server().receive_signing_key_update(update).await);
        }
    }

    /// All devices of a local user, for another server.
    pub async fn federation_user_devices(&self, user_id: &UserId) -> Result<RemoteDevices> {
        let account = if self.is_local(user_id) { self.storage().account(user_id).await? } else { None };
        if account.is_none_or(|account| account.deactivated) {
            return Err(EngineError::not_found("No such user"));
        }
        Ok(self.key_server().devices_for_servers(user_id, self.settings().federation_device_names).await?)
    }

    /// The keys of local users, for another server; of others there are none.
    pub async fn federation_query_keys(
        &self,
        mut asked: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<QueriedKeys> {
        asked.retain(|user_id, _| self.is_local(user_id));
        if asked.len() > USERS_MAX {
            return Err(EngineError::TooLarge(format!("At most {USERS_MAX} users can be asked for at once")));
        }
        let names = self.settings().federation_device_names;
        Ok(self.key_server().query(&asked, Viewer::Server { names }).await?)
    }
}

/// Notes what could not be taken in; the other server is told nothing of it.
fn log_failure<T>(origin: &ServerName, outcome: Result<T, KeyError>) -> Option<T> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(KeyError::Storage(error)) => {
            tracing::warn!(%origin, %error, "an EDU about devices is lost");
            None
        }
        Err(error) => {
            tracing::debug!(%origin, %error, "an EDU about devices is dropped");
            None
        }
    }
}
