//! `POST /keys/claim`: keys to begin sessions with.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim>

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::value::RawValue;
use storage::KeyClaim;

use crate::{KeyServer, Result};

/// Keys by user and device; each under its algorithm and id.
pub type ClaimedKeys = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>;

impl KeyServer {
    /// Hands out a key of each of these devices of local users, as far as there are any. Others are passed over.
    pub async fn claim(&self, mut claims: Vec<KeyClaim>) -> Result<ClaimedKeys> {
        claims.retain(|claim| self.is_local(&claim.user_id));
        // In one order, so that of two claims for the same devices none waits for the other in a circle.
        claims.sort_unstable();
        claims.dedup();
        let mut claimed = ClaimedKeys::new();
        if claims.is_empty() {
            return Ok(claimed);
        }
        for key in self.storage.claim_one_time_keys(&claims).await? {
            let name = format!("{}:{}", key.claim.algorithm, key.key_id);
            let of_user = claimed.entry(key.claim.user_id).or_default();
            of_user.entry(key.claim.device_id).or_default().insert(name, key.key);
        }
        Ok(claimed)
    }
}
