//! Asking for keys: ours are in the storage, and so are those of users whose servers tell us of every change. For
//! others their servers are asked, each once for all of its users, side by side.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery>

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use keyserver::{QueriedKeys, RemoteDevice, RemoteDevices, Viewer};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS};
use crate::{Engine, EngineError, Requester, Result};

/// How many users one request may ask for: as many as the largest rooms that are encrypted have.
const USERS_MAX: usize = 50_000;
/// How many servers are asked at the same time for one request.
const SERVERS_AT_ONCE: usize = 64;

/// Whose devices are asked for; none means all.
type Asked = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// Keys, and what is missing of them.
#[derive(Debug, Default)]
pub struct KeysReply {
    /// The keys.
    pub keys: QueriedKeys,
    /// The servers that did not answer.
    pub failures: BTreeSet<OwnedServerName>,
}

/// What a server answers. Each user's part is read by itself, so that one that is wrong spoils only itself.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the specification's words")]
struct Answer {
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    device_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    master_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    self_signing_keys: BTreeMap<String, Box<RawValue>>,
}

/// The name that a server gives a device, beside what is signed.
#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Default, Deserialize)]
struct Unsigned {
    device_display_name: Option<String>,
}

impl Engine {
    /// The keys of users' devices. Waits for other servers no longer than the client does.
    pub async fn query_keys(
        &self,
        requester: &Requester,
        asked: Asked,
        timeout: Option<Duration>,
    ) -> Result<KeysReply> {
        if asked.len() > USERS_MAX {
            return Err(EngineError::TooLarge(format!("At most {USERS_MAX} users can be asked for at once")));
        }
        let timeout = timeout.unwrap_or(Duration::from_millis(TIMEOUT_DEFAULT_MS));
        let timeout = timeout.min(Duration::from_millis(TIMEOUT_MAX_MS));
        let mut by_server: BTreeMap<OwnedServerName, Asked> = BTreeMap::new();
        for (user_id, devices) in asked.iter().filter(|(user_id, _)| !self.is_local(user_id)) {
            if !self.key_server().is_complete(user_id).await? {
                let of_server = by_server.entry(user_id.server_name().to_owned()).or_default();
                of_server.insert(user_id.clone(), devices.clone());
            }
        }
        let mut reply = KeysReply::default();
        let mut strangers = QueriedKeys::default();
        let asking = stream::iter(by_server).map(|(server, asked)| async move {
            let answer = tokio::time::timeout(timeout, self.query_server(&server, &asked)).await;
            (server, answer)
        });
        let mut answers = asking.buffer_unordered(SERVERS_AT_ONCE);
        while let Some((server, answer)) = answers.next().await {
            match answer {
                Ok(Ok(found)) => extend(&mut strangers, found),
                Ok(Err(EngineError::Storage(error))) => return Err(error.into()),
                Ok(Err(_)) | Err(_) => drop(reply.failures.insert(server)),
            }
        }
        reply.keys = self.key_server().query(&asked, Viewer::User(&requester.user_id)).await?;
        extend(&mut reply.keys, strangers);
        Ok(reply)
    }

    /// Asks a server for keys of its users. Those of users that we share a room with are stored; those of others are
    /// returned.
    async fn query_server(&self, server: &ServerName, asked: &Asked) -> Result<QueriedKeys> {
        let mut body = CanonicalJsonObject::new();
        let (mut known, mut strangers) = (BTreeMap::new(), BTreeSet::new());
        for (user_id, devices) in asked {
            let mut devices: Vec<CanonicalJsonValue> =
                devices.iter().map(|device_id| CanonicalJsonValue::String(device_id.to_string())).collect();
            if self.storage().rooms_with(user_id).await?.is_empty() {
                strangers.insert(user_id.clone());
            } else {
                known.insert(user_id.clone(), self.key_server().begin_asking(user_id).await?);
                devices.clear();
            }
            body.insert(user_id.to_string(), CanonicalJsonValue::Array(devices));
        }
        let mut answer: Answer = self.federation().query_keys(server, body).await.map_err(|error| {
            tracing::info!(%server, %error, "no keys from a server");
            EngineError::CannotFederate("The users' server could not be asked".to_owned())
        })?;
        for (user_id, begun) in known {
            let devices = answer.take(&user_id);
            let _turn = self.inner.keys.users.lock(user_id.as_str()).await;
            self.key_server().store_remote_devices(&user_id, devices, begun).await?;
        }
        let mut found = QueriedKeys::default();
        for user_id in strangers {
            let devices = answer.take(&user_id);
            extend(&mut found, self.key_server().check_remote_devices(&user_id, devices));
        }
        Ok(found)
    }
}

impl Answer {
    /// What it holds of one user; nothing else of it is looked at. There is no number of an update in it.
    fn take(&mut self, user_id: &OwnedUserId) -> RemoteDevices {
        let devices = self.device_keys.remove(user_id.as_str());
        let devices = devices.and_then(|devices| serde_json::from_str(devices.get()).ok());
        let devices: BTreeMap<OwnedDeviceId, Box<RawValue>> = devices.unwrap_or_default();
        let device = |(device_id, keys): (OwnedDeviceId, Box<RawValue>)| {
            let named: Named = serde_json::from_str(keys.get()).unwrap_or_default();
            RemoteDevice { device_id, device_display_name: named.unsigned.device_display_name, keys }
        };
        RemoteDevices {
            user_id: user_id.clone(),
            stream_id: RemoteDevices::NO_STREAM_ID,
            devices: devices.into_iter().map(device).collect(),
            master_key: self.master_keys.remove(user_id.as_str()),
            self_signing_key: self.self_signing_keys.remove(user_id.as_str()),
        }
    }
}

fn extend(keys: &mut QueriedKeys, more: QueriedKeys) {
    keys.device_keys.extend(more.device_keys);
    keys.master_keys.extend(more.master_keys);
    keys.self_signing_keys.extend(more.self_signing_keys);
    keys.user_signing_keys.extend(more.user_signing_keys);
}
