//! `/.well-known/matrix/server`: which name a host has delegated its Matrix server to, remembered for a while.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode, header};
use rules::world::World;
use ruma::OwnedServerName;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};

use crate::{TransportError, gauge_value};

/// Fetches the `.well-known` of a host name.
pub type FetchWellKnown =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<http::Response<Bytes>, TransportError>> + Send + Sync>;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// How long an answer holds that does not say; recommended by the specification.
const DEFAULT_MS: u64 = 24 * HOUR_MS;
/// However long an answer says it holds; recommended by the specification.
const LONGEST_MS: u64 = 48 * HOUR_MS;
/// However short an answer says it holds: one that says "never" must not cost a fetch per call.
const SHORTEST_MS: u64 = HOUR_MS;
/// How long a failure is remembered at first. Doubles with each further one.
const FAILURE_MS: u64 = MINUTE_MS;
/// How long a failure is remembered at most; recommended by the specification.
const FAILURE_LONGEST_MS: u64 = HOUR_MS;
/// Hosts remembered: a few times what a busy server federates with. 200 bytes each.
const HOSTS_MAX: u64 = 20_000;
/// Fetches at the same time. Invented server names must not take all of our sockets.
const FETCHES_MAX: usize = 64;
/// The longest answer that is looked at. A longer one counts as none.
const BODY_MAX_BYTES: usize = 50 * 1024;

/// What is known about delegation.
pub struct WellKnowns {
    fetch: FetchWellKnown,
    world: World,
    hosts: moka::sync::Cache<String, Arc<Mutex<Remembered>>>,
    permits: Semaphore,
}

#[derive(Default)]
struct Remembered {
    delegated: Option<OwnedServerName>,
    /// When it was last confirmed.
    learned_ms: u64,
    /// Until when nothing is fetched.
    until_ms: u64,
    failures: u32,
}

#[derive(Deserialize)]
struct WellKnown {
    #[serde(rename = "m.server")]
    server: OwnedServerName,
}

impl WellKnowns {
    /// Nothing is known yet.
    pub fn new(fetch: FetchWellKnown, world: World) -> Self {
        let hosts = moka::sync::Cache::new(HOSTS_MAX);
        Self { fetch, world, hosts, permits: Semaphore::new(FETCHES_MAX) }
    }

    /// The name that a host delegates to, if it does. One fetch at a time per host.
    pub async fn delegated(&self, hostname: &str) -> Option<OwnedServerName> {
        let remembered = self.hosts.get_with_by_ref(hostname, Arc::default);
        let mut remembered = remembered.lock().await;
        if self.world.clock.now_ms() >= remembered.until_ms {
            self.refresh(hostname, &mut remembered).await;
            metrics::gauge!("federation_discovery_cache_size").set(gauge_value(self.hosts.entry_count()));
        }
        remembered.delegated.clone()
    }

    async fn refresh(&self, hostname: &str, remembered: &mut Remembered) {
        let _permit = self.permits.acquire().await;
        let answer = (self.fetch)(hostname.to_owned()).await;
        let now_ms = self.world.clock.now_ms();
        match answer.map_err(|error| error.to_string()).and_then(|answer| read(&answer)) {
            Ok((server, lifetime_ms)) => {
                let until_ms = now_ms.saturating_add(lifetime_ms);
                *remembered = Remembered { delegated: Some(server), learned_ms: now_ms, until_ms, failures: 0 };
            }
            Err(reason) => {
                tracing::debug!(hostname, reason, "no delegation by .well-known");
                remembered.fail(now_ms);
            }
        }
    }
}

impl Remembered {
    /// A host that has delegated keeps its delegation through an outage of its web server, as long as an answer may
    /// be remembered at all.
    fn fail(&mut self, now_ms: u64) {
        let wait_ms = FAILURE_MS.saturating_mul(1 << self.failures.min(10)).min(FAILURE_LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        self.until_ms = now_ms.saturating_add(wait_ms);
        if now_ms >= self.learned_ms.saturating_add(LONGEST_MS) {
            self.delegated = None;
        }
    }
}

/// The delegated name, and for how long the answer holds.
fn read(answer: &http::Response<Bytes>) -> Result<(OwnedServerName, u64), String> {
    if answer.status() != StatusCode::OK {
        return Err(format!("status {}", answer.status()));
    }
    if answer.body().len() > BODY_MAX_BYTES {
        return Err("too long".to_owned());
    }
    let WellKnown { server } = serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
    super::parts(&server).map_err(|error| error.to_string())?;
    Ok((server, lifetime_ms(answer.headers()).unwrap_or(DEFAULT_MS).clamp(SHORTEST_MS, LONGEST_MS)))
}

/// `Cache-Control` decides; `Expires` where it says nothing.
fn lifetime_ms(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase()) {
        if directive == "no-store" || directive == "no-cache" {
            return Some(0);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse().unwrap_or(0);
            return Some(Duration::from_secs(seconds).as_millis().try_into().unwrap_or(u64::MAX));
        }
    }
    expires_ms(headers)
}

/// The time between `Date` and `Expires`, so that the other side's clock does not matter.
fn expires_ms(headers: &HeaderMap) -> Option<u64> {
    let date = |name| headers.get(name).and_then(|value| value.to_str().ok()).and_then(http_date_seconds);
    let expires = headers.contains_key(header::EXPIRES).then(|| date(header::EXPIRES).unwrap_or(0))?;
    Some(expires.saturating_sub(date(header::DATE)?).saturating_mul(1_000))
}

/// Seconds since the epoch of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date_seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let fields: Vec<&str> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = fields[..] else { return None };
    let number = |digits: &str| digits.parse::<u64>().ok();
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let (day, year) = (number(day)?, number(year).filter(|year| (1970..10_000).contains(year))?);
    // Counted from March on, the months before a month have 153 days in five, and the leap day comes last.
    let (shifted_month, shifted_year) = if month < 2 { (month + 10, year - 1) } else { (month - 2, year) };
    let days_before_month = (153 * shifted_month + 2) / 5;
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    // From 1 March of the year 0 to 1 January 1970 there are 719,468 days.
    let days = (365 * shifted_year + leap_days + days_before_month + day.min(31)).checked_sub(719_469)?;
    Some(days * 86_400 + number(hour)?.min(24) * 3_600 + number(minute)?.min(60) * 60 + number(second)?.min(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&str, &str)]) -> http::Response<Bytes> {
        let mut builder = http::Response::builder();
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Bytes::from_static(br#"{"m.server": "matrix.example.org:443"}"#)).unwrap()
    }

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600)),
            ("Wed, 31 Dec 2025 23:59:59 GMT", Some(1_767_225_599)),
            ("0", None),
            ("-1", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
        ] {
            assert_eq!(http_date_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn s_091_lifetimes_are_clamped() {
        let table: &[(&[(&str, &str)], u64)] = &[
            (&[], DEFAULT_MS),
            (&[("cache-control", "public, max-age=7200")], 2 * HOUR_MS),
            (&[("cache-control", "max-age=0")], SHORTEST_MS),
            (&[("cache-control", "no-store")], SHORTEST_MS),
            (&[("cache-control", "max-age=99999999999999999999")], SHORTEST_MS),
            (&[("cache-control", "max-age=18446744073709551615")], LONGEST_MS),
            (&[("cache-control", "max-age=31536000")], LONGEST_MS),
            (&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "Sun, 06 Nov 1994 11:49:37 GMT")], 3 * HOUR_MS),
            (&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "0")], SHORTEST_MS),
        ];
        for (headers, lifetime_ms) in table {
            assert_eq!(read(&answer(headers)).unwrap().1, *lifetime_ms, "{headers:?}");
        }
    }
}
