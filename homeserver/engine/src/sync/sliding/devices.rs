//! What sliding sync tells about devices: messages to the device, device lists, and counts of its keys.
//!
//! Proposals: <https://github.com/matrix-org/matrix-spec-proposals/pull/3885>,
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3884>

use rules::change::Position;

use super::{
    connections::{Seen, Told},
    extensions::Telling,
    request::{Extensions, SlidingQuery, TokenQuery},
    response::{EncryptionExtension, SlidingExtensions, ToDeviceExtension},
    sticky,
};
use crate::{Engine, EngineError, Requester, Result, sync::devices::TO_DEVICE_MAX};

impl TokenQuery {
    /// Up to where the client has them. What this server never said, since its database was restored from a
    /// backup, counts for nothing.
    pub(super) fn told(&self, head: Position) -> Result<Position> {
        let Some(since) = &self.since else { return Ok(0) };
        let told = since.parse::<Position>().ok().filter(|told| *told >= 0);
        let told = told.ok_or_else(|| EngineError::invalid_param("`since` is no token of that extension"))?;
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
        let Extensions { to_device, sticky_events, .. } = &query.extensions;
        let head = self.storage().head();
        let is_behind = |acknowledged| told.token.is_none_or(|token| acknowledged < (token.position, Position::MAX));
        let mut more_waits = sticky_events.enabled && is_behind(sticky::told(sticky_events.since.as_deref(), head)?);
        if to_device.enabled {
            let acknowledged = to_device.told(head)?;
            if acknowledged > 0 {
                self.acknowledge_to_device(requester, acknowledged).await?;
            }
            more_waits |= is_behind((acknowledged, Position::MAX));
        }
        Ok(more_waits)
    }

    /// What happened for a device since it was told last, or, at the start, what it must know to begin with; `told`
    /// learns what it was told.
    pub(super) async fn add_device_extensions(
        &self,
        telling: &Telling<'_>,
        told: &mut Told,
        extensions: &mut SlidingExtensions,
    ) -> Result<()> {
        let Telling { requester, query, since, .. } = *telling;
        let now = telling.changes.now.position;
        let wanted = &query.extensions.to_device;
        if wanted.enabled {
            let acknowledged = wanted.told(self.storage().head())?;
            let page = self.to_device_since(requester, acknowledged, now, wanted.limit()).await?;
            let next_batch = page.until.to_string();
            extensions.to_device = Some(ToDeviceExtension { next_batch, events: page.events()? });
        }
        if query.extensions.e2ee.enabled {
            let mut extension = self.counts_of_keys(requester).await?;
            let after = std::mem::replace(&mut told.device_lists, Seen::All).up_to(since);
            if let Some(after) = after {
                let lists = self.device_lists_since(&requester.user_id, after, now).await?;
                extension.device_lists.changed = lists.changed.into_iter().collect();
                extension.device_lists.left = lists.left.into_iter().collect();
            }
            extensions.e2ee = Some(extension);
        } else if let Some(since) = since {
            told.device_lists.miss(since);
        } else {
            told.device_lists = Seen::Until(now);
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
