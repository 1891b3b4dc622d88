//! Claiming one-time keys, here and elsewhere.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim>

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use keyserver::ClaimedKeys;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::KeyClaim;

use super::{TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS};
use crate::{Engine, EngineError, Result};

/// How many keys one request may claim: as many as the largest rooms that are encrypted have devices.
const CLAIMS_MAX: usize = 50_000;
/// How many servers are asked at the same time for one request.
const SERVERS_AT_ONCE: usize = 64;

/// Algorithms by user and device.
type Wanted = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>;

/// Keys, and what is missing of them.
#[derive(Debug, Default)]
pub struct ClaimReply {
    /// The keys.
    pub keys: ClaimedKeys,
    /// The servers that did not answer.
    pub failures: BTreeSet<OwnedServerName>,
}

/// What a server answers, by user, device, and name of the key.
#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    one_time_keys: BTreeMap<String, BTreeMap<String, BTreeMap<String, Box<RawValue>>>>,
}

impl Engine {
    /// A key of each of these devices. Waits for other servers no longer than the client does.
    pub async fn claim_keys(&self, wanted: Wanted, timeout: Option<Duration>) -> Result<ClaimReply> {
        let timeout = timeout.unwrap_or(Duration::from_millis(TIMEOUT_DEFAULT_MS));
        let timeout = timeout.min(Duration::from_millis(TIMEOUT_MAX_MS));
        let (local, remote): (Wanted, Wanted) = wanted.into_iter().partition(|(user_id, _)| self.is_local(user_id));
        let mut by_server: BTreeMap<OwnedServerName, Wanted> = BTreeMap::new();
        for (user_id, devices) in remote {
            by_server.entry(user_id.server_name().to_owned()).or_default().insert(user_id, devices);
        }
        let mut reply = ClaimReply { keys: self.claim_local_keys(local).await?, failures: BTreeSet::new() };
        let asking = stream::iter(by_server).map(|(server, wanted)| async move {
            let answer = tokio::time::timeout(timeout, self.claim_at(&server, &wanted)).await;
            (server, answer)
        });
        let mut answers = asking.buffer_unordered(SERVERS_AT_ONCE);
        while let Some((server, answer)) = answers.next().await {
            match answer {
                Ok(Some(keys)) => reply.keys.extend(keys),
                Ok(None) | Err(_) => drop(reply.failures.insert(server)),
            }
        }
        Ok(reply)
    }

    /// A key of each of these devices of local users.
    pub async fn claim_local_keys(&self, wanted: Wanted) -> Result<ClaimedKeys> {
        let claims = wanted.into_iter().flat_map(|(user_id, devices)| {
            devices.into_iter().map(move |(device_id, algorithm)| KeyClaim {
                user_id: user_id.clone(),
                device_id,
                algorithm,
            })
        });
        let claims: Vec<KeyClaim> = claims.take(CLAIMS_MAX + 1).collect();
        if claims.len() > CLAIMS_MAX {
            return Err(EngineError::TooLarge(format!("At most {CLAIMS_MAX} keys can be claimed at once")));
        }
        Ok(self.key_server().claim(claims).await?)
    }

    /// What another server hands out; nothing but what it was asked for.
    async fn claim_at(&self, server: &ServerName, wanted: &Wanted) -> Option<ClaimedKeys> {
        let string = |text: &str| CanonicalJsonValue::String(text.to_owned());
        let body = wanted.iter().map(|(user_id, devices)| {
            let devices = devices.iter().map(|(device_id, algorithm)| (device_id.to_string(), string(algorithm)));
            (user_id.to_string(), CanonicalJsonValue::Object(devices.collect()))
        });
        let body: CanonicalJsonObject = body.collect();
        let mut answer: Answer = match self.federation().claim_keys(server, body).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::info!(%server, %error, "no one-time keys from a server");
                return None;
            }
        };
        let mut claimed = ClaimedKeys::new();
        for (user_id, devices) in wanted {
            let Some(mut of_user) = answer.one_time_keys.remove(user_id.as_str()) else { continue };
            for (device_id, algorithm) in devices {
                let keys = of_user.remove(device_id.as_str()).unwrap_or_default().into_iter();
                let is_wanted = |name: &str| name.strip_prefix(algorithm).is_some_and(|rest| rest.starts_with(':'));
                if let Some((name, key)) = keys.into_iter().find(|(name, _)| is_wanted(name)) {
                    let of_user = claimed.entry(user_id.clone()).or_default();
                    of_user.insert(device_id.clone(), [(name, key)].into());
                }
            }
        }
        Some(claimed)
    }
}
