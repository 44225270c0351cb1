//! `is_weekend(instant, zone)`: whether it is Saturday or Sunday there.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, BooleanArray},
        datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
    },
    common::Result,
    logical_expr::ScalarUDF,
};
use jiff::{Timestamp, tz::TimeZone};
use tessera_contract::as_of::zone;

use super::{arity, cast, literal_text, with_words, wrong};

pub(super) fn udf() -> ScalarUDF {
    with_words("is_weekend", 1, DataType::Boolean, is_weekend)
}

fn is_weekend(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("is_weekend", args, 2)?;
    let name = literal_text(&args[1], "the time zone")?;
    let zone = zone(&name).map_err(|e| wrong(e.to_string()))?;
    let instants = cast(&args[0], &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    let mut offset = Offset::new(zone);
    Ok(Arc::new(instants.iter().map(|t| t.map(|t| saturday_or_sunday(t + offset.at(t)))).collect::<BooleanArray>()))
}

fn saturday_or_sunday(local_micros: i64) -> bool {
    // 1970-01-01 was a Thursday.
    (local_micros.div_euclid(86_400_000_000) + 3).rem_euclid(7) >= 5
}

/// The zone's offset with the interval in which the last one holds, because neighbours mostly share it.
struct Offset {
    zone: TimeZone,
    from: i64,
    until: i64,
    micros: i64,
}

impl Offset {
    fn new(zone: TimeZone) -> Self {
        Self { zone, from: 0, until: 0, micros: 0 }
    }

    fn at(&mut self, instant: i64) -> i64 {
        if instant < self.from || instant >= self.until {
            let Ok(stamp) = Timestamp::from_microsecond(instant) else { return 0 };
            let info = self.zone.to_offset(stamp);
            self.micros = i64::from(info.seconds()) * 1_000_000;
            let micros = |t: Option<jiff::tz::TimeZoneTransition<'_>>| t.map(|t| t.timestamp().as_microsecond());
            self.until = micros(self.zone.following(stamp).next()).unwrap_or(i64::MAX);
            // `preceding` is strict, so an instant that is itself a transition must not look behind it.
            let next = Timestamp::from_microsecond(instant.saturating_add(1)).unwrap_or(stamp);
            self.from = micros(self.zone.preceding(next).next()).unwrap_or(i64::MIN);
        }
        self.micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_the_one_on_the_wall() {
        let mut berlin = Offset::new(zone("Europe/Berlin").expect("known"));
        // 2026-07-03 is a Friday; 22:30Z is already Saturday in Berlin. In January it takes until 23:00Z.
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant").as_microsecond();
        for (text, weekend) in [
            ("2026-07-03T21:30:00Z", false),
            ("2026-07-03T22:30:00Z", true),
            ("2026-01-02T22:30:00Z", false),
            ("2026-01-02T23:30:00Z", true),
            ("2026-07-05T22:30:00Z", false),
            ("2026-03-29T01:00:00Z", true),
        ] {
            assert_eq!(saturday_or_sunday(at(text) + berlin.at(at(text))), weekend, "{text}");
        }
    }
}
