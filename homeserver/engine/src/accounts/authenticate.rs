//! Who an access token stands for, and when it was last used.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens>

use std::time::Duration;

use moka::sync::Cache;

use super::{Requester, show_cache_size};
use crate::{
    Engine, EngineError, Result,
    tokens::{self, TokenKind},
};

/// Which uses were noted lately, by requester and address.
pub(super) type RecentlySeen = Cache<(Requester, Option<String>), ()>;

/// How exact "last seen" is: a device that syncs all day costs one write in this time.
const SEEN_INTERVAL: Duration = Duration::from_mins(5);

/// More devices than this at once only cost writes that could have been spared.
const SEEN_CAPACITY: u64 = 50_000;

pub(super) fn recently_seen() -> RecentlySeen {
    Cache::builder().max_capacity(SEEN_CAPACITY).time_to_live(SEEN_INTERVAL).build()
}

/// Who an access token stands for, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// Who.
    pub requester: Requester,
    /// Whether the account is locked: nothing but to log out.
    pub locked: bool,
    /// Whether the account is suspended: to read, but not to act.
    pub suspended: bool,
    /// Whether it is a guest.
    pub guest: bool,
    /// The application service that speaks for the user, if one does.
    pub service: Option<AskingService>,
}

/// An application service that speaks for one of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskingService {
    /// The service.
    pub id: String,
    /// Whether it is told to wait like others.
    pub rate_limited: bool,
}

impl Engine {
    /// Who an access token stands for. An expired token is `UnknownToken` with `soft_logout`, any other that is not
    /// valid (any more) without.
    pub async fn authenticate(&self, access_token: &str) -> Result<Authenticated> {
        const UNKNOWN: EngineError = EngineError::UnknownToken { soft_logout: false };
        if !tokens::is_well_formed(access_token, TokenKind::Access) {
            return Err(UNKNOWN);
        }
        let token = self.storage().access_token(&tokens::hash_token(access_token)).await?.ok_or(UNKNOWN)?;
        if token.deactivated {
            return Err(EngineError::UserDeactivated);
        }
        if token.expires_ts.is_some_and(|expires_ts| expires_ts <= self.world().clock.now_ms()) {
            return Err(EngineError::UnknownToken { soft_logout: true });
        }
        Ok(Authenticated {
            requester: Requester { user_id: token.user_id, device_id: token.device_id },
            locked: token.locked,
            suspended: token.suspended,
            guest: token.guest,
            service: None,
        })
    }

    /// Notes that a device was used, and from which address; at most every five minutes per address. A failure is
    /// logged and not the asker's business.
    pub async fn touch(&self, requester: &Requester, ip: Option<&str>) {
        if !requester.has_device() {
            return;
        }
        let key = (requester.clone(), ip.map(ToOwned::to_owned));
        let recently_seen = &self.inner.accounts.recently_seen;
        if recently_seen.contains_key(&key) {
            return;
        }
        recently_seen.insert(key, ());
        show_cache_size("recently_seen", recently_seen.entry_count());
        let now_ts = self.world().clock.now_ms();
        let Requester { user_id, device_id } = requester;
        if let Err(error) = self.storage().touch_device(user_id, device_id, now_ts, ip.unwrap_or_default()).await {
            tracing::warn!(user.id = %user_id, device.id = %device_id, %error, "could not note the use of a device");
        }
    }
}
