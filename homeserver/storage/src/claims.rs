//! Handing out one-time keys. Claims that wait are done together: with one at a time each costs a flush of the disk, with
//! a hundred still about one in all.

use crate::{
    ClaimedKey, KeyClaim, Result, Storage, batches::Batched, device_keys::json, devices::lock_device,
    dialect::is_storable, one_time_keys::take_key,
};

/// The claims of one request.
pub(crate) struct Claims(Vec<KeyClaim>);

impl Storage {
    /// Hands out a key for each claim, as far as there are any: each one-time key once ever, in the order in which
    /// they were uploaded; when none is left, the fallback key. Who stops waiting for the answer may have claimed keys
    /// nevertheless, and so may who gets an error for one of many claims.
    pub async fn claim_one_time_keys(&self, claims: &[KeyClaim]) -> Result<Vec<ClaimedKey>> {
        let mut claimed = Vec::new();
        for part in claims.chunks(Claims::BATCH_MAX) {
            claimed.extend(self.shared.claims.ask(self, Claims(part.to_vec())).await?);
        }
        Ok(claimed)
    }
}

impl Batched for Claims {
    type Answer = Vec<ClaimedKey>;

    const BATCH_MAX: usize = 500;

    fn weight(&self) -> usize {
        self.0.len()
    }

    async fn do_together(storage: &Storage, requests: &[&Self]) -> Result<Vec<Vec<ClaimedKey>>> {
        let mut claims: Vec<(&KeyClaim, usize)> = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            claims.extend(request.0.iter().map(|claim| (claim, number)));
        }
        // In one order, so that of two processes none waits for the other in a circle.
        claims.sort_unstable();
        let mut claimed = vec![Vec::new(); requests.len()];
        let mut transaction = storage.begin().await?;
        for (claim, number) in claims.into_iter().filter(|(claim, _)| is_storable(claim.device_id.as_str())) {
            if !lock_device(&mut transaction, claim.user_id.as_str(), claim.device_id.as_str(), None).await? {
                continue;
            }
            if let Some((key_id, key)) = take_key(&mut transaction, claim).await? {
                let key = json(key, "one_time_keys", &key_id)?;
                claimed[number].push(ClaimedKey { claim: claim.clone(), key_id, key });
            }
        }
        transaction.commit().await?;
        Ok(claimed)
    }
}
