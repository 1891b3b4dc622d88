//! How often somebody may do something.
//!
//! Each [`Class`] has a rate and a burst; each address or user has its own bucket per class. A bucket is one number:
//! the moment at which it would be full again (the "generic cell rate algorithm").

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use ruma::UserId;

use crate::{Result, error::ApiError};

/// Kinds of doing that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Attempts to log in, by address.
    Login,
    /// Attempts to log in, by the account they aim at.
    Account,
    /// Wrong passwords, by address, at login and wherever a password confirms an action.
    WrongPassword,
    /// Accounts made, by address.
    Register,
    /// Registration tokens tried, by address.
    RegistrationToken,
    /// Events sent, by user.
    Message,
    /// Joins and invites, by user: each may cost several calls to other servers.
    Membership,
    /// Rooms made, by user.
    CreateRoom,
    /// Everything else, by user, or by address where there is none.
    Other,
}

struct Rate {
    /// One more is allowed each time this has passed.
    interval_ms: u64,
    /// So many are allowed at once after a long rest.
    burst: u64,
}

impl Class {
    const fn rate(self) -> Rate {
        let (interval_ms, burst) = match self {
            // 0.003 per second.
            Self::Login | Self::Account => (333_333, 5),
            // After four wrong passwords within 15 minutes the fifth attempt is not looked at.
            Self::WrongPassword => (225_000, 4),
            // 0.17 per second.
            Self::Register => (5_882, 3),
            Self::RegistrationToken => (10_000, 5),
            // 10 per second: fast typing and a bot's bursts pass, a flood does not.
            Self::Message => (100, 50),
            Self::Membership => (1_000, 30),
            Self::CreateRoom => (2_000, 20),
            // 50 per second: a client that opens many rooms at once passes, a loop gone wild does not.
            Self::Other => (20, 200),
        };
        Rate { interval_ms, burst }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Account => "account",
            Self::WrongPassword => "wrong_password",
            Self::Register => "register",
            Self::RegistrationToken => "registration_token",
            Self::Message => "message",
            Self::Membership => "membership",
            Self::CreateRoom => "create_room",
            Self::Other => "other",
        }
    }
}

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Who(String);

impl From<IpAddr> for Who {
    /// One subscriber commands a whole /64 of IPv6, so that counts as one address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_string()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string())
            }
        }
    }
}

impl From<&UserId> for Who {
    fn from(user_id: &UserId) -> Self {
        Self(user_id.as_str().to_owned())
    }
}

/// Some 30 MiB at worst. Whoever makes up more addresses than that evicts the least used buckets, first of all its own.
const BUCKETS_MAX: u64 = 100_000;

/// The slowest bucket is full again after 28 minutes of rest; from then on, not to know it says the same.
const FORGET_AFTER: Duration = Duration::from_mins(30);

/// All buckets.
pub(crate) struct RateLimits {
    enabled: bool,
    buckets: Cache<(Class, Who), Arc<Mutex<u64>>>,
}

impl RateLimits {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, buckets: Cache::builder().max_capacity(BUCKETS_MAX).time_to_idle(FORGET_AFTER).build() }
    }

    /// Takes one out of the bucket, or says when there will be one.
    pub(crate) fn take(&self, class: Class, who: impl Into<Who>, now_ms: u64) -> Result<()> {
        self.draw(class, who.into(), now_ms, class.rate().interval_ms)
    }

    /// Whether there is one in the bucket, which stays as it is.
    pub(crate) fn check(&self, class: Class, who: impl Into<Who>, now_ms: u64) -> Result<()> {
        self.draw(class, who.into(), now_ms, 0)
    }

    fn draw(&self, class: Class, who: Who, now_ms: u64, cost_ms: u64) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let Rate { interval_ms, burst } = class.rate();
        let bucket = self.buckets.get_with((class, who), || Arc::new(Mutex::new(0)));
        metrics::gauge!("client_api_rate_limit_buckets")
            .set(u32::try_from(self.buckets.entry_count()).unwrap_or(u32::MAX));
        let mut full_at_ms = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // The upper bound is for a clock that was set back: nobody waits longer than for an empty bucket to fill.
        let full = (*full_at_ms).clamp(now_ms, now_ms.saturating_add(interval_ms.saturating_mul(burst)));
        let wait_ms = (full + interval_ms).saturating_sub(now_ms.saturating_add(interval_ms * burst));
        if wait_ms > 0 {
            metrics::counter!("client_api_rate_limited_total", "class" => class.name()).increment(1);
            return Err(ApiError::LimitExceeded { retry_after_ms: wait_ms });
        }
        *full_at_ms = full + cost_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Class, RateLimits};
    use crate::error::ApiError;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn wait_ms(verdict: Result<(), ApiError>) -> Option<u64> {
        verdict.err().map(|error| match error {
            ApiError::LimitExceeded { retry_after_ms } => retry_after_ms,
            error => panic!("{error:?}"),
        })
    }

    #[test]
    fn s_152_a_burst_and_then_the_rate() {
        let limits = RateLimits::new(true);
        let now = 1_700_000_000_000;
        let take = |now| wait_ms(limits.take(Class::Login, address("192.0.2.1"), now));
        for _ in 0..5 {
            assert_eq!(take(now), None);
        }
        assert_eq!(take(now), Some(333_333));
        assert_eq!(take(now + 333_332), Some(1));
        assert_eq!(take(now + 333_333), None);
        assert_eq!(take(now + 333_333), Some(333_333));
        assert_eq!(wait_ms(limits.take(Class::Login, address("192.0.2.2"), now)), None);
        assert_eq!(wait_ms(limits.take(Class::Register, address("192.0.2.1"), now)), None);
    }

    #[test]
    fn s_152_checking_takes_nothing_and_a_clock_set_back_locks_nobody_out() {
        let limits = RateLimits::new(true);
        let now = 1_700_000_000_000;
        let who = || address("2001:db8::1");
        for _ in 0..100 {
            assert_eq!(wait_ms(limits.check(Class::WrongPassword, who(), now)), None);
        }
        for _ in 0..4 {
            assert_eq!(wait_ms(limits.take(Class::WrongPassword, who(), now)), None);
        }
        assert_eq!(wait_ms(limits.check(Class::WrongPassword, who(), now)), Some(225_000));
        assert_eq!(wait_ms(limits.check(Class::WrongPassword, address("2001:db8::2"), now)), Some(225_000));
        assert_eq!(wait_ms(limits.check(Class::WrongPassword, address("2001:db8:0:1::1"), now)), None);
        assert_eq!(wait_ms(limits.check(Class::WrongPassword, who(), now - 1_000_000_000)), Some(225_000));
    }

    #[test]
    fn nothing_is_limited_when_switched_off() {
        let limits = RateLimits::new(false);
        for _ in 0..100 {
            assert_eq!(wait_ms(limits.take(Class::Login, address("192.0.2.1"), 0)), None);
        }
    }
}
