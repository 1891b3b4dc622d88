//! When users do not want to be disturbed: account data of theirs, which counts at the moment of telling.
//!
//! In this order: an emergency that the user lets through, senders who always may, do-not-disturb, quiet hours. What is not
//! told goes on counting as unread.

use std::sync::Arc;

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use storage::{NotificationRecord, StoredEvent};

use crate::{Engine, Result};

/// Do-not-disturb and quiet hours.
const DO_NOT_DISTURB: &str = "nudge.dnd";
/// The field of an event's content by which its sender says that it is an emergency.
const EMERGENCY: &str = "nudge.emergency";
/// The profile field with the user's time zone.
const TIME_ZONE: &str = "m.tz";
/// How many intervals are looked at.
const INTERVALS_MAX: usize = 50;
const MINUTES_PER_DAY: u32 = 24 * 60;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DoNotDisturb {
    /// The switch.
    enabled: bool,
    /// When the switch goes back by itself, in milliseconds since the epoch.
    until_ts: Option<u64>,
    quiet_hours: Vec<Interval>,
    /// The name of a time zone; without it that of the profile, or UTC.
    timezone: Option<String>,
    /// Who may always disturb.
    allow_senders: Vec<OwnedUserId>,
    /// Whether events that say that they are an emergency may.
    allow_emergency: bool,
}

/// From one time of the day until another, which may be on the next.
#[derive(Debug, Deserialize)]
struct Interval {
    /// `22:00`.
    from: String,
    /// `07:00`.
    to: String,
    /// The days on which it begins: `mon`, `tue`, ... Without it all.
    #[serde(default)]
    days: Vec<String>,
}

impl Engine {
    /// Whether the user does not want to be disturbed by it now.
    pub(super) async fn is_quiet(&self, user_id: &UserId, record: &NotificationRecord, now_ms: u64) -> Result<bool> {
        let wish: DoNotDisturb = self.wish(user_id, DO_NOT_DISTURB).await?.unwrap_or_default();
        let is_switched_on = wish.enabled && wish.until_ts.is_none_or(|until_ts| now_ms < until_ts);
        let is_night = !wish.quiet_hours.is_empty() && self.is_night(user_id, &wish, now_ms).await?;
        if !is_switched_on && !is_night {
            return Ok(false);
        }
        let may_disturb = if let Some(event) = self.stored_event(&record.event_id).await? {
            wish.allow_senders.contains(&event.pdu.sender) || wish.allow_emergency && is_emergency(&event)
        } else {
            // An invitation to a room that this server is not in.
            let invitation = self.storage().membership(user_id, &record.room_id).await?;
            invitation.is_some_and(|invitation| wish.allow_senders.contains(&invitation.sender))
        };
        Ok(!may_disturb)
    }

    /// What a user wants, if it is there and can be understood.
    async fn wish<T: for<'a> Deserialize<'a>>(&self, user_id: &UserId, event_type: &str) -> Result<Option<T>> {
        let record = self.storage().account_data(user_id, None, event_type).await?;
        Ok(record.and_then(|record| serde_json::from_str(record.content.get()).ok()))
    }

    async fn is_night(&self, user_id: &UserId, wish: &DoNotDisturb, now_ms: u64) -> Result<bool> {
        let name = match &wish.timezone {
            Some(name) => Some(name.clone()),
            None => self.storage().profile_text(user_id, TIME_ZONE).await?,
        };
        let zone = name.and_then(|name| TimeZone::get(&name).ok()).unwrap_or(TimeZone::UTC);
        Ok(is_within(&wish.quiet_hours, now_ms, &zone))
    }
}

fn is_emergency(event: &Arc<StoredEvent>) -> bool {
    event.pdu.content_as::<serde_json::Value>().is_some_and(|content| content[EMERGENCY] == true)
}

/// Whether a moment is within one of the intervals, by the clocks of a time zone.
fn is_within(intervals: &[Interval], now_ms: u64, zone: &TimeZone) -> bool {
    let Ok(now) = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX)) else { return false };
    let now = now.to_zoned(zone.clone());
    let minute = u32::from(now.hour().unsigned_abs()) * 60 + u32::from(now.minute().unsigned_abs());
    let today = now.weekday();
    let yesterday = today.wrapping_sub(1);
    intervals.iter().take(INTERVALS_MAX).any(|interval| {
        let (Some(from), Some(to)) = (minute_of(&interval.from), minute_of(&interval.to)) else { return false };
        if from < to {
            return interval.begins_on(today) && (from..to).contains(&minute);
        }
        interval.begins_on(today) && minute >= from || interval.begins_on(yesterday) && minute < to
    })
}

impl Interval {
    fn begins_on(&self, day: Weekday) -> bool {
        let name = match day {
            Weekday::Monday => "mon",
            Weekday::Tuesday => "tue",
            Weekday::Wednesday => "wed",
            Weekday::Thursday => "thu",
            Weekday::Friday => "fri",
            Weekday::Saturday => "sat",
            Weekday::Sunday => "sun",
        };
        self.days.is_empty() || self.days.iter().any(|day| day == name)
    }
}

/// The minute of the day of a text such as `07:30`; `24:00` is the end of it.
fn minute_of(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (hours <= 24 && minutes < 60 && minute <= MINUTES_PER_DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &TimeZone) -> u64 {
        let time: jiff::civil::DateTime = text.parse().unwrap();
        time.to_zoned(zone.clone()).unwrap().timestamp().as_millisecond().unsigned_abs()
    }

    fn hours(from: &str, to: &str, days: &[&str]) -> Vec<Interval> {
        let days = days.iter().map(|day| (*day).to_owned()).collect();
        vec![Interval { from: from.to_owned(), to: to.to_owned(), days }]
    }

    #[test]
    fn quiet_hours_go_past_midnight_in_the_users_own_time() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let night = hours("22:00", "07:00", &[]);
        for (time, quiet) in [
            ("2026-11-21T21:59", false),
            ("2026-11-21T22:00", true),
            ("2026-11-22T00:00", true),
            ("2026-11-22T06:59", true),
            ("2026-11-22T07:00", false),
        ] {
            assert_eq!(is_within(&night, at(time, &berlin), &berlin), quiet, "{time}");
        }
        // The same moment elsewhere; and in summer, when the clocks are another hour ahead.
        assert!(!is_within(&night, at("2026-11-21T22:00", &berlin), &TimeZone::UTC));
        assert!(is_within(&night, at("2026-07-21T20:00", &TimeZone::UTC), &berlin));
        assert!(!is_within(&night, at("2026-11-21T20:00", &TimeZone::UTC), &berlin));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let zone = TimeZone::UTC;
        // 2026-11-20 is a Friday.
        let friday_night = hours("22:00", "07:00", &["fri"]);
        for (time, quiet) in [
            ("2026-11-20T06:00", false),
            ("2026-11-20T23:00", true),
            ("2026-11-21T06:00", true),
            ("2026-11-21T23:00", false),
        ] {
            assert_eq!(is_within(&friday_night, at(time, &zone), &zone), quiet, "{time}");
        }
        let lunch = hours("12:00", "13:00", &["sat"]);
        assert!(is_within(&lunch, at("2026-11-21T12:30", &zone), &zone));
        assert!(!is_within(&lunch, at("2026-11-20T12:30", &zone), &zone));
        assert!(is_within(&hours("00:00", "24:00", &[]), at("2026-11-21T12:30", &zone), &zone));
        assert!(!is_within(&hours("x", "25:00", &[]), at("2026-11-21T12:30", &zone), &zone));
    }
}
