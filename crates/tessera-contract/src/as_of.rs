//! The night's date, and the instant at which it begins.

use std::fmt;

use jiff::{Span, civil::Date, tz::TimeZone};

/// A length of time such as `90 days`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    count: u16,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hours,
    Days,
    Weeks,
    Months,
    Years,
}

impl Length {
    /// Reads `90 days`, `1 month`; of at most 36,500.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.trim().split_once(' ')?;
        let count = count.parse().ok().filter(|n| (1..=36_500).contains(n))?;
        let unit = match unit.trim().trim_end_matches('s') {
            "hour" => Unit::Hours,
            "day" => Unit::Days,
            "week" => Unit::Weeks,
            "month" => Unit::Months,
            "year" => Unit::Years,
            _ => return None,
        };
        Some(Self { count, unit })
    }
}

/// The as-of date D with its instant: D 00:00 in the project's time zone. Only events strictly before it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AsOf {
    date: Date,
    micros: i64,
}

/// Why a text is no as-of date.
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    /// Not a calendar date.
    #[error("`{text}` is not a date: write it as YYYY-MM-DD, such as 2026-11-01")]
    NotADate {
        /// What was given.
        text: String,
    },
    /// The time zone is not in the database.
    #[error("unknown time zone `{name}`: use an IANA name such as Europe/Berlin or UTC")]
    UnknownZone {
        /// What was given.
        name: String,
    },
    /// The date begins outside the range of instants.
    #[error("the date {date} is out of range")]
    OutOfRange {
        /// What was given.
        date: Date,
    },
}

/// The zone of an IANA name.
///
/// # Errors
/// [`AsOfError::UnknownZone`] when the name is not in the time zone database.
pub fn zone(name: &str) -> Result<TimeZone, AsOfError> {
    TimeZone::get(name).map_err(|_| AsOfError::UnknownZone { name: name.to_owned() })
}

impl AsOf {
    /// The night of `text` (YYYY-MM-DD) in the zone called `timezone`.
    ///
    /// # Errors
    /// When the text is no date or the zone is unknown.
    pub fn parse(text: &str, timezone: &str) -> Result<Self, AsOfError> {
        let date = (text.len() == 10)
            .then(|| text.parse::<Date>().ok())
            .flatten()
            .ok_or_else(|| AsOfError::NotADate { text: text.to_owned() })?;
        Self::new(date, timezone)
    }

    /// The night of `date` in the zone called `timezone`.
    ///
    /// # Errors
    /// When the zone is unknown or the date has no instant.
    pub fn new(date: Date, timezone: &str) -> Result<Self, AsOfError> {
        let start = date.to_zoned(zone(timezone)?).map_err(|_| AsOfError::OutOfRange { date })?;
        Ok(Self { date, micros: start.timestamp().as_microsecond() })
    }

    /// The instant so long before it: days and longer go back in the calendar of the zone, so that `1 month` and `90 days` begin at
    /// a midnight there, whatever the clocks did in between.
    ///
    /// # Errors
    /// When the zone is unknown or there is no such instant.
    pub fn before(&self, lengths: &[Length], timezone: &str) -> Result<i64, AsOfError> {
        let out = |_| AsOfError::OutOfRange { date: self.date };
        let (mut date, mut hours) = (self.date, 0);
        for length in lengths {
            let count = i64::from(length.count);
            let span = match length.unit {
                Unit::Hours => {
                    hours += count;
                    continue;
                }
                Unit::Days => Span::new().try_days(count),
                Unit::Weeks => Span::new().try_weeks(count),
                Unit::Months => Span::new().try_months(count),
                Unit::Years => Span::new().try_years(count),
            };
            date = date.checked_sub(span.map_err(out)?).map_err(out)?;
        }
        Ok(Self::new(date, timezone)?.micros - hours * 3_600_000_000)
    }

    /// The calendar date.
    #[must_use]
    pub fn date(&self) -> Date {
        self.date
    }

    /// The instant, in microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn micros(&self) -> i64 {
        self.micros
    }

    /// The date as days since 1970-01-01, as a Date32 column holds it.
    #[must_use]
    pub fn days(&self) -> i32 {
        (self.date - Date::constant(1970, 1, 1)).get_days()
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instant_is_midnight_where_the_project_is() {
        let utc = AsOf::parse("2026-07-01", "UTC").expect("valid");
        let berlin = AsOf::parse("2026-07-01", "Europe/Berlin").expect("valid");
        assert_eq!(utc.micros() - berlin.micros(), 2 * 3_600_000_000);
        assert_eq!(utc.days(), 20_635);
        assert_eq!(utc.to_string(), "2026-07-01");
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_the_first_instant_of_the_day() {
        // Clocks in São Paulo went from 23:59:59 to 01:00:00 on 2018-11-04.
        let day = AsOf::parse("2018-11-04", "America/Sao_Paulo").expect("valid");
        assert_eq!(day.micros(), 1_541_300_400_000_000);
    }

    #[test]
    fn windows_begin_at_a_midnight_of_the_zone() {
        let at = |night: &str, lengths: &[&str], zone: &str| {
            let lengths: Vec<Length> = lengths.iter().map(|text| Length::parse(text).expect("a length")).collect();
            AsOf::parse(night, zone).expect("a night").before(&lengths, zone).expect("an instant")
        };
        let midnight = |night: &str, zone: &str| AsOf::parse(night, zone).expect("a night").micros();
        for zone in ["UTC", "Europe/Berlin", "America/New_York"] {
            assert_eq!(at("2017-03-01", &["1 month"], zone), midnight("2017-02-01", zone));
            assert_eq!(at("2018-01-01", &["90 days"], zone), midnight("2017-10-03", zone));
            assert_eq!(at("2026-01-01", &["1 month", "3 months"], zone), midnight("2025-09-01", zone));
            assert_eq!(at("2026-01-01", &["36 hours"], zone), midnight("2026-01-01", zone) - 36 * 3_600_000_000);
        }
        assert_eq!(at("2024-03-31", &["1 month"], "UTC"), midnight("2024-02-29", "UTC"));
        for text in ["", "days", "90", "0 days", "-1 days", "1 fortnight", "99999 days"] {
            assert_eq!(Length::parse(text), None, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_remedy() {
        for text in ["yesterday", "2026-13-01", "20261101", "2026-11-01T00:00:00"] {
            let error = AsOf::parse(text, "UTC").expect_err(text);
            assert!(error.to_string().contains("YYYY-MM-DD"), "{error}");
        }
        let error = AsOf::parse("2026-11-01", "Europe/Atlantis").expect_err("no such zone");
        assert!(error.to_string().contains("IANA"), "{error}");
    }
}
