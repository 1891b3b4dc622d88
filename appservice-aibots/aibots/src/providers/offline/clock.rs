//! The time in words, in UTC: a bot does not know where people are.

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `14:05 UTC on Saturday, 21 November 2026`.
pub(crate) fn in_words(now_ms: u64) -> String {
    let minutes = now_ms / 60_000;
    let days = minutes / (24 * 60);
    let (year, month, day) = date(days);
    let weekday = DAYS[(days % 7) as usize];
    let month = MONTHS[month as usize];
    format!("{:02}:{:02} UTC on {weekday}, {day} {month} {year}", minutes / 60 % 24, minutes % 60)
}

/// Year, month from 0, and day from 1, so many days after the beginning of 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 1 March of the year 0: years that begin in March have their leap day at the end.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    (era * 400 + year_of_era + u64::from(month < 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn days_that_are_easily_missed() {
        assert_eq!(in_words(0), "00:00 UTC on Thursday, 1 January 1970");
        assert_eq!(in_words(951_782_400_000), "00:00 UTC on Tuesday, 29 February 2000");
        assert_eq!(in_words(1_709_251_199_000), "23:59 UTC on Thursday, 29 February 2024");
        assert_eq!(in_words(1_795_303_500_000), "23:25 UTC on Saturday, 21 November 2026");
        assert!(!in_words(u64::MAX).is_empty());
    }
}
