//! What sliding sync tells about devices: messages to the device, device lists, and counts of its keys.
//!
//! Proposals: <https://github.com/matrix-org/matrix-spec-proposals/pull/3885>,
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3884>

use rules::change::Position;

use super::{
    connections::Told,
    request::{SlidingQuery, ToDeviceQuery},
    response::{EncryptionExtension, SlidingExtensions, ToDeviceExtension},
};
use crate::{Engine, EngineError, Requester, Result, sync::devices::TO_DEVICE_MAX};

impl ToDeviceQuery {
    /// Up to where the client has the messages. What this server never said, since its database was restored from a
    /// backup, counts for nothing.
    pub(super) fn told(&self, head: Position) -> Result<Position> {
        let Some(since) = &self.since else { return Ok(0) };
        let told = since.parse::<Position>().ok().filter(|told| *told >= 0);
        let told = told.ok_or_else(|| EngineError::invalid_param("`since` is no token of messages to devices"))?;
        Ok(if told > head { 0 } else { told })
    }

    fn limit(&self) -> usize {
        let limit = self.limit.map_or(TO_DEVICE_MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        limit.clamp(1, TO_DEVICE_MAX)
    }
}

impl Engine {
    /// Deletes the messages that the client says it has. Returns whether others may wait that it was not told of when
    /// it was told everything else.
    pub(super) async fn acknowledge(&self, requester: &Requester, query: &SlidingQuery, told: &Told) -> Result<bool> {
        let wanted = &query.extensions.to_device;
        if !wanted.enabled {
            return Ok(false);
        }
        let acknowledged = wanted.told(self.storage().head())?;
        if acknowledged > 0 {
            self.acknowledge_to_device(requester, acknowledged).await?;
        }
        Ok(told.token.is_none_or(|token| acknowledged < token.position))
    }

    /// What happened for a device with `since < position <= now`, or, with no `since`, what it must know to begin with.
    pub(super) async fn add_device_extensions(
        &self,
        requester: &Requester,
        query: &SlidingQuery,
        since: Option<Position>,
        now: Position,
        extensions: &mut SlidingExtensions,
    ) -> Result<()> {
        let wanted = &query.extensions.to_device;
        if wanted.enabled {
            let told = wanted.told(self.storage().head())?;
            let page = self.to_device_since(requester, told, now, wanted.limit()).await?;
            let next_batch = page.until.to_string();
            extensions.to_device = Some(ToDeviceExtension { next_batch, events: page.events()? });
        }
        if query.extensions.e2ee.enabled {
            let mut extension = self.counts_of_keys(requester).await?;
            if let Some(since) = since {
                let lists = self.device_lists_since(&requester.user_id, since, now).await?;
                extension.device_lists.changed = lists.changed.into_iter().collect();
                extension.device_lists.left = lists.left.into_iter().collect();
            }
            extensions.e2ee = Some(extension);
        }
        Ok(())
    }

    /// An answer that comes because the time is up has the counts too: a client that finds none takes them for zero.
    pub(super) async fn complete_extensions(
        &self,
        requester: &Requester,
        query: &SlidingQuery,
        extensions: &mut SlidingExtensions,
    ) -> Result<()> {
        if query.extensions.e2ee.enabled && extensions.e2ee.is_none() {
            extensions.e2ee = Some(self.counts_of_keys(requester).await?);
        }
        Ok(())
    }

    async fn counts_of_keys(&self, requester: &Requester) -> Result<EncryptionExtension> {
        let counts = self.key_counts(requester).await?;
        Ok(EncryptionExtension {
            device_one_time_keys_count: counts.one_time_keys.into_iter().collect(),
            device_unused_fallback_key_types: counts.unused_fallback_algorithms.into_iter().collect(),
            ..EncryptionExtension::default()
        })
    }
}
