//! How long a provider wants to be left alone, from the headers of its reply.

use std::time::Duration;

use reqwest::header::HeaderMap;

/// A day: who asks for more means "not today", and numbers without bounds overflow.
const WAIT_SECONDS_MAX: f64 = 86_400.0;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `retry-after-ms` or `Retry-After`, or else the time until the exhausted one of `OpenAI`'s rate limits is renewed.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(milliseconds) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return wait(milliseconds / 1000.0);
    }
    if let Some(value) = text("retry-after") {
        return value.parse().ok().and_then(wait).or_else(|| until(value, text("date")?));
    }
    ["requests", "tokens"]
        .iter()
        .filter(|kind| text(&format!("x-ratelimit-remaining-{kind}")) == Some("0"))
        .filter_map(|kind| text(&format!("x-ratelimit-reset-{kind}")).and_then(span))
        .max()
}

/// So many seconds, if that is a time to wait.
pub(super) fn wait(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(WAIT_SECONDS_MAX)))
}

/// A moment against the provider's own clock, so that it does not matter whether ours is right.
fn until(moment: &str, now: &str) -> Option<Duration> {
    let seconds = seconds_of(moment)?.checked_sub(seconds_of(now)?)?;
    Some(Duration::from_secs(seconds.min(WAIT_SECONDS_MAX as u64)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since some common beginning.
fn seconds_of(date: &str) -> Option<u64> {
    let mut words = date.split_ascii_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day.min(31);
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// `1s`, `6m0s`, `20ms`, `1h2m3.5s`, or plain seconds.
fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return wait(seconds);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    wait(seconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::retry_after;

    fn of(headers: &[(&str, &str)]) -> Option<Duration> {
        let map = headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        });
        retry_after(&map.collect::<HeaderMap>())
    }

    #[test]
    fn all_the_ways_to_say_it() {
        assert_eq!(of(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(of(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(of(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(Duration::from_millis(250)));
        let now = ("date", "Wed, 28 Feb 2024 23:59:30 GMT");
        assert_eq!(of(&[("retry-after", "Thu, 29 Feb 2024 00:00:10 GMT"), now]), Some(Duration::from_secs(40)));
        assert_eq!(of(&[("retry-after", "Fri, 01 Mar 2024 00:00:00 GMT"), now]), Some(Duration::from_hours(24)));
        assert_eq!(of(&[("retry-after", "Tue, 27 Feb 2024 00:00:00 GMT"), now]), None, "in the past");
        let limits = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m0.5s"),
            ("x-ratelimit-remaining-tokens", "9"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ];
        assert_eq!(of(&limits), Some(Duration::from_millis(60_500)), "only the exhausted one counts");
    }

    #[test]
    fn nonsense_is_ignored() {
        for value in ["", "soon", "-1", "NaN", "inf", "1e400", "Sun, 99 Foo 0 0:0:0 GMT", "a, 1 Jan 99999999999 1:1:1"]
        {
            assert_eq!(of(&[("retry-after", value), ("date", value)]), None, "{value}");
        }
        assert_eq!(of(&[("retry-after", "1e30")]), Some(Duration::from_hours(24)));
        assert_eq!(of(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "9x")]), None);
    }
}
