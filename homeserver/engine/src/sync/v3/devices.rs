//! The sections of the answer that are of no room: messages to the device, device lists, and counts of its keys.

use ruma::{
    UInt,
    api::client::sync::sync_events::v3::{Response, ToDevice},
};

use crate::{
    Engine, Requester, Result,
    sync::{devices::TO_DEVICE_MAX, token::SyncToken},
};

impl Engine {
    /// An answer that covers up to `now`, with the sections about devices. Asking after `since` acknowledges the
    /// messages up to there.
    pub(super) async fn v3_devices(
        &self,
        requester: &Requester,
        since: Option<SyncToken>,
        now: SyncToken,
    ) -> Result<Response> {
        let told = since.map_or(0, |since| since.to_device);
        self.acknowledge_to_device(requester, told).await?;
        let page = self.to_device_since(requester, told, now.position, TO_DEVICE_MAX).await?;
        let mut response = self.v3_nothing(requester, SyncToken { to_device: page.until, ..now }).await?;
        response.to_device = ToDevice::default();
        response.to_device.events = page.events()?;
        if let Some(since) = since {
            let lists = self.device_lists_since(&requester.user_id, since.position, now.position).await?;
            response.device_lists.changed = lists.changed.into_iter().collect();
            response.device_lists.left = lists.left.into_iter().collect();
        }
        Ok(response)
    }

    /// An answer that tells of nothing but the counts, which are in every answer: a client that finds none takes them
    /// for zero.
    pub(in crate::sync) async fn v3_nothing(&self, requester: &Requester, now: SyncToken) -> Result<Response> {
        let mut response = Response::new(now.to_string());
        let counts = self.key_counts(requester).await?;
        let shown = |(algorithm, count): (String, u64)| (algorithm.into(), UInt::new_saturating(count));
        response.device_one_time_keys_count = counts.one_time_keys.into_iter().map(shown).collect();
        let unused = counts.unused_fallback_algorithms.into_iter().map(Into::into);
        response.device_unused_fallback_key_types = Some(unused.collect());
        Ok(response)
    }
}
