//! How often somebody may do something.
//!
//! Each [`Class`] has a rate and a burst; each address or user has its own bucket per class. A bucket is one number:
//! the moment at which it would be full again (the "generic cell rate algorithm").

use std::{
    collections::HashSet,
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use engine::Requester;
use moka::{policy::EvictionPolicy, sync::Cache};
use ruma::{OwnedUserId, UserId};

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
    /// Changes of a profile, by user: each is told to every room that the user is in.
    Profile,
    /// Letters asked for, by address of the network.
    Letter,
    /// Letters asked for, by address of the mailbox.
    LetterTo,
    /// Access tokens tried that are none, by address.
    UnknownToken,
    /// Tokens refreshed, by address.
    Refresh,
    /// What costs the database or other servers much, by user, or by address where there is none: history, relations,
    /// searches, directories, spaces.
    Costly,
    /// Questions for other users' keys, by user: each may be a call to every server that is named.
    Keys,
    /// Messages to devices, by user: each may be as many rows as there are devices.
    ToDevice,
    /// Files uploaded, and names reserved for them, by user.
    Upload,
    /// Files and thumbnails asked for, by user, or by address where there is none.
    Download,
    /// Everything, by device: one that runs wild leaves something to the user's others.
    Device,
    /// Everything, by address: many people may share one.
    Address,
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
    const ALL: [Self; 21] = [
        Self::Login,
        Self::Account,
        Self::WrongPassword,
        Self::UnknownToken,
        Self::Refresh,
        Self::Register,
        Self::RegistrationToken,
        Self::Letter,
        Self::LetterTo,
        Self::Profile,
        Self::Message,
        Self::Membership,
        Self::CreateRoom,
        Self::Costly,
        Self::Keys,
        Self::ToDevice,
        Self::Upload,
        Self::Download,
        Self::Other,
        Self::Device,
        Self::Address,
    ];

    const fn rate(self) -> Rate {
        let (interval_ms, burst) = match self {
            // 0.003 per second. Letters bother people, and make mail servers distrust us.
            Self::Login | Self::Account | Self::Letter | Self::LetterTo => (333_333, 5),
            // After four wrong passwords within 15 minutes the fifth attempt is not looked at.
            Self::WrongPassword => (225_000, 4),
            // 0.17 per second.
            Self::Register => (5_882, 3),
            Self::RegistrationToken => (10_000, 5),
            // 10 per second: fast typing and a bot's bursts pass, a flood does not.
            Self::Message => (100, 50),
            Self::Membership => (1_000, 30),
            Self::CreateRoom => (2_000, 20),
            Self::Profile => (1_000, 20),
            Self::UnknownToken => (1_000, 60),
            Self::Refresh => (500, 20),
            Self::Costly => (200, 60),
            // Clients ask for the devices of some 250 users at once, so that the largest rooms need some 40 requests.
            Self::Keys => (200, 100),
            // Clients share a room key with 20 to 250 devices at once; 300 requests are 6,000 devices of the former.
            Self::ToDevice => (50, 300),
            // An album of pictures at once; each is a file that is flushed to the disk.
            Self::Upload => (500, 60),
            // 50 per second: a room full of pictures, with everybody's avatar.
            Self::Download => (20, 500),
            // 40 per second.
            Self::Device => (25, 160),
            // 200 per second: an office or a school behind one address passes.
            Self::Address => (5, 2_000),
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
            Self::Profile => "profile",
            Self::Letter => "letter",
            Self::LetterTo => "letter_to",
            Self::UnknownToken => "unknown_token",
            Self::Refresh => "refresh",
            Self::Costly => "costly",
            Self::Keys => "keys",
            Self::ToDevice => "to_device",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Device => "device",
            Self::Address => "address",
            Self::Other => "other",
        }
    }

    /// What is counted, and by whom, for operators.
    const fn text(self) -> &'static str {
        match self {
            Self::Login => "attempts to log in, by address",
            Self::Account => "attempts to log in, by the account or mailbox they aim at",
            Self::WrongPassword => {
                "wrong passwords and log-in tokens, by address; when they are used up, right ones wait too"
            }
            Self::Register => "accounts made, by address",
            Self::RegistrationToken => "registration tokens tried, by address",
            Self::Message => "events sent, by user",
            Self::Membership => "joins and invites, by user",
            Self::CreateRoom => "rooms made, by user",
            Self::Profile => "changes of a profile, by user",
            Self::Letter => "letters asked for, by address",
            Self::LetterTo => "letters asked for, by mailbox",
            Self::UnknownToken => "access tokens tried that are none, by address",
            Self::Refresh => "tokens refreshed, by address",
            Self::Costly => "history, relations, searches, directories and spaces, by user, or by address without one",
            Self::Keys => "keys of others asked for and claimed, by user",
            Self::ToDevice => "requests that send messages to devices, by user",
            Self::Upload => "files uploaded and names reserved for them, by user",
            Self::Download => "files and thumbnails asked for, by user, or by address without one",
            Self::Device => "everything, by device",
            Self::Address => "everything, by address",
            Self::Other => "everything else, by user, or by address without one",
        }
    }
}

/// The page for operators, as Markdown.
pub fn page() -> String {
    let mut text = String::from(
        "# Rate limits\n\n\
         <!-- Written from homeserver/client-api/src/rate_limits.rs; a test compares. -->\n\n\
         Whoever asks too often gets 429 `M_LIMIT_EXCEEDED`, with the time to wait in `retry_after_ms` and in the\n\
         `Retry-After` header. Each class has buckets of its own: a full one allows `at once` requests, and one more is\n\
         added each `every`. An IPv6 network of 64 bits counts as one address.\n\n\
         Users listed in `rate_limits.exempt_users` are never told to wait. `rate_limits.enabled = false` turns all of it\n\
         off, for tests.\n\n\
         | class | what is counted | at once | every |\n| --- | --- | ---: | ---: |\n",
    );
    for class in Class::ALL {
        let Rate { interval_ms, burst } = class.rate();
        let _ = writeln!(text, "| `{}` | {} | {burst} | {interval_ms} ms |", class.name(), class.text());
    }
    text
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

impl From<&str> for Who {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<&Requester> for Who {
    fn from(requester: &Requester) -> Self {
        Self(format!("{} {}", requester.user_id, requester.device_id))
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
    exempt: HashSet<OwnedUserId>,
    buckets: Cache<(Class, Who), Arc<Mutex<u64>>>,
}

impl RateLimits {
    pub(crate) fn new(enabled: bool, exempt: &[OwnedUserId]) -> Self {
        let buckets = Cache::builder()
            .max_capacity(BUCKETS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(FORGET_AFTER)
            .build();
        Self { enabled, exempt: exempt.iter().cloned().collect(), buckets }
    }

    /// Whether a user is never told to wait.
    pub(crate) fn exempts(&self, user_id: &UserId) -> bool {
        !self.enabled || self.exempt.contains(user_id)
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
        let limits = RateLimits::new(true, &[]);
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
        let limits = RateLimits::new(true, &[]);
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
        let limits = RateLimits::new(false, &[]);
        for _ in 0..100 {
            assert_eq!(wait_ms(limits.take(Class::Login, address("192.0.2.1"), 0)), None);
        }
    }
}
