//! `try_instant(text, zone, format…)` and `try_date(text, zone, format…)`: what a source wrote as a date or time.
//!
//! The formats (strftime) are tried in order, then ISO 8601 with `T` or a blank, with or without time, fraction and
//! offset. A time without offset is taken on the wall of `zone`: of an hour that clocks show twice the first, of one that
//! they skip the time as if they had not. What fits nothing is null: a quality rule reports it. Times without a zone that
//! are no text but timestamps of the engine are taken on the wall too.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Date32Array, TimestampMicrosecondArray},
        datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
    },
    common::Result,
    logical_expr::ScalarUDF,
};
use jiff::{
    Span, Timestamp,
    civil::{Date, DateTime},
    fmt::strtime::BrokenDownTime,
    tz::TimeZone,
};
use tessera_contract::{as_of::zone, table::Kind};

use super::{arity, cast, literal_text, with_words, wrong};

/// What is made of the text.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// Microseconds, UTC.
    Instant,
    /// The calendar date as written.
    Date,
}

pub(super) fn udf(target: Target) -> ScalarUDF {
    match target {
        Target::Instant => with_words("try_instant", 1, Kind::Instant.arrow(), move |args| try_parse(target, args)),
        Target::Date => with_words("try_date", 1, DataType::Date32, move |args| try_parse(target, args)),
    }
}

fn try_parse(target: Target, args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("try_instant", args, 2)?;
    let name = literal_text(&args[1], "the time zone")?;
    let reader = Reader {
        zone: zone(&name).map_err(|e| wrong(e.to_string()))?,
        utc: name == "UTC",
        formats: args[2..].iter().map(|f| literal_text(f, "a date format")).collect::<Result<_>>()?,
    };
    if let (Target::Instant, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64) =
        (target, args[0].data_type())
    {
        let walls = cast(&args[0], &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let mut on_the_wall = Wall { reader: &reader, offsets: HashMap::new() };
        let instants = walls.as_primitive::<TimestampMicrosecondType>().iter().map(|w| on_the_wall.instant(w?));
        return Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")));
    }
    if let (Target::Date, DataType::Timestamp(_, Some(_))) = (target, args[0].data_type()) {
        let stamps = cast(&args[0], &Kind::Instant.arrow())?;
        let stamps = stamps.as_primitive::<TimestampMicrosecondType>().iter();
        let mut calendar = Calendar { reader: &reader, offsets: HashMap::new() };
        return Ok(Arc::new(stamps.map(|micros| calendar.day_of(micros?)).collect::<Date32Array>()));
    }
    let texts = cast(&args[0], &DataType::Utf8View)?;
    let texts = texts.as_string_view();
    Ok(match target {
        Target::Instant => Arc::new(
            texts.iter().map(|t| reader.instant(t?.trim())).collect::<TimestampMicrosecondArray>().with_timezone("UTC"),
        ),
        Target::Date => Arc::new(texts.iter().map(|t| reader.date(t?.trim())).collect::<Date32Array>()),
    })
}

struct Reader {
    zone: TimeZone,
    utc: bool,
    formats: Vec<String>,
}

impl Reader {
    fn instant(&self, text: &str) -> Option<i64> {
        for format in &self.formats {
            if let Some(read) = read(format, text) {
                if read.offset().is_some_and(|o| o.seconds().abs() > 14 * 3600) {
                    return None;
                }
                if read.offset().is_some() || read.iana_time_zone().is_some() {
                    return read.to_timestamp().ok().map(|t| t.as_microsecond());
                }
                let wall =
                    read.to_datetime().or_else(|_| read.to_date().map(|d| d.to_datetime(jiff::civil::Time::MIN)));
                return self.on_the_wall(wall.ok()?);
            }
        }
        if self.utc
            && let Some(micros) = plain(text)
        {
            return Some(micros);
        }
        if let Some(stamp) = stamp(text) {
            return stamp.map(Timestamp::as_microsecond);
        }
        let wall = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from)).ok()?;
        self.on_the_wall(wall)
    }

    fn on_the_wall(&self, wall: DateTime) -> Option<i64> {
        wall.to_zoned(self.zone.clone()).ok().map(|z| z.timestamp().as_microsecond())
    }

    fn date(&self, text: &str) -> Option<i32> {
        let date = self.formats.iter().find_map(|f| read(f, text)?.to_date().ok()).or_else(|| match stamp(text) {
            Some(stamp) => stamp.map(|stamp| stamp.to_zoned(self.zone.clone()).date()),
            None => text.parse::<DateTime>().map(DateTime::date).or_else(|_| text.parse::<Date>()).ok(),
        })?;
        Some(days(date))
    }

    /// Microseconds by which the wall is ahead of UTC.
    fn offset(&self, micros: i64) -> Option<i64> {
        let stamp = Timestamp::from_microsecond(micros).ok()?;
        Some(i64::from(self.zone.to_offset(stamp).seconds()) * 1_000_000)
    }

    /// The date that an instant has on the wall.
    fn day_of(&self, micros: i64) -> Option<i32> {
        let stamp = Timestamp::from_microsecond(micros).ok()?;
        Some(days(stamp.to_zoned(self.zone.clone()).date()))
    }
}

/// Dates of instants, where most are of few days: a day of UTC with one offset is looked up once.
struct Calendar<'a> {
    reader: &'a Reader,
    offsets: HashMap<i64, Option<i64>>,
}

impl Calendar<'_> {
    const DAY: i64 = 86_400_000_000;

    fn day_of(&mut self, micros: i64) -> Option<i32> {
        let day = micros.div_euclid(Self::DAY);
        let reader = self.reader;
        let offset = self.offsets.entry(day).or_insert_with(|| {
            let first = day.checked_mul(Self::DAY)?;
            let offset = reader.offset(first)?;
            (reader.offset(first + Self::DAY - 1)? == offset).then_some(offset)
        });
        match offset {
            Some(offset) => i32::try_from((micros + *offset).div_euclid(Self::DAY)).ok(),
            None => reader.day_of(micros),
        }
    }
}

/// What a format reads. `%Y` takes `24` for the year 24, of which nobody writes.
fn read(format: &str, text: &str) -> Option<BrokenDownTime> {
    BrokenDownTime::parse(format, text).ok().filter(|read| read.year().is_none_or(|year| year >= 1000))
}

fn days(date: Date) -> i32 {
    (date - Date::constant(1970, 1, 1)).get_days()
}

/// A time with `Z` or an offset, if it is one. None of the world's is larger than 14 hours: what is, was a typing error, and
/// no time.
fn stamp(text: &str) -> Option<Option<Timestamp>> {
    let stamp = text.parse::<Timestamp>().ok()?;
    let offset = text.get(11..).and_then(|t| t.rsplit_once(['+', '-', '\u{2212}'])).map_or("", |(_, offset)| offset);
    let hours = offset.get(..2).map_or(Ok(0), str::parse::<u32>);
    Some(hours.is_ok_and(|hours| hours <= 14).then_some(stamp))
}

/// Wall-clock times as instants. One look-up in the time zone database does for all times of a quarter of an hour whose two
/// ends have the same offset: clocks mostly change at full quarters, but those of St. John's did at one minute past midnight.
struct Wall<'a> {
    reader: &'a Reader,
    offsets: HashMap<i64, i64>,
}

impl Wall<'_> {
    const QUARTER: i64 = 900_000_000;
    const EPOCH_1973: i64 = 94_694_400_000_000;

    fn instant(&mut self, wall: i64) -> Option<i64> {
        if self.reader.utc {
            return Some(wall);
        }
        let quarter = wall.div_euclid(Self::QUARTER);
        if wall >= Self::EPOCH_1973
            && let Some(offset) = self.offsets.get(&quarter)
        {
            return Some(wall - offset);
        }
        let first = quarter * Self::QUARTER;
        let offset = first - self.look_up(first)?;
        let end = first + Self::QUARTER - 1;
        if end - self.look_up(end)? == offset {
            self.offsets.insert(quarter, offset);
            return Some(wall - offset);
        }
        self.look_up(wall)
    }

    fn look_up(&self, wall: i64) -> Option<i64> {
        let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
        self.reader.on_the_wall(epoch.checked_add(Span::new().try_microseconds(wall).ok()?).ok()?)
    }
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, the usual case, without the generality of a parser.
fn plain(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    if b.len() != 19
        || b[4] != b'-'
        || b[7] != b'-'
        || (b[10] != b' ' && b[10] != b'T')
        || b[13] != b':'
        || b[16] != b':'
    {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        b[range].iter().try_fold(0_i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let days = i64::from((date - Date::constant(1970, 1, 1)).get_days());
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(name: &str, formats: &[&str]) -> Reader {
        Reader {
            zone: zone(name).expect("known"),
            utc: name == "UTC",
            formats: formats.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    fn iso(micros: Option<i64>) -> String {
        micros.map_or("null".to_owned(), |m| Timestamp::from_microsecond(m).expect("in range").to_string())
    }

    #[test]
    fn the_ways_in_which_people_write_a_time() {
        let r = reader("Europe/Berlin", &["%d/%m/%Y %H:%M", "%d.%m.%Y"]);
        for (text, expect) in [
            ("24/12/2025 18:30", "2025-12-24T17:30:00Z"),
            ("24.12.2025", "2025-12-23T23:00:00Z"),
            ("2025-12-24 18:30:00", "2025-12-24T17:30:00Z"),
            ("2025-12-24T18:30:00.250", "2025-12-24T17:30:00.25Z"),
            ("2025-12-24", "2025-12-23T23:00:00Z"),
            ("2025-12-24T18:30:00Z", "2025-12-24T18:30:00Z"),
            ("2025-12-24T18:30:00+05:30", "2025-12-24T13:00:00Z"),
            ("2025-12-24T18:30:00+14:00", "2025-12-24T04:30:00Z"),
            ("2025-12-24T18:30:00-0300", "2025-12-24T21:30:00Z"),
            ("2025-12-24T18:30:00+25:00", "null"),
            ("2025-12-24 18:30:00+15:00", "null"),
            ("2025-02-30 00:00:00", "null"),
            ("yesterday", "null"),
            ("", "null"),
        ] {
            assert_eq!(iso(r.instant(text)), expect, "{text}");
        }
    }

    #[test]
    fn timestamps_without_a_zone_are_on_the_wall() {
        let reader = reader("Europe/Berlin", &[]);
        let mut wall = Wall { reader: &reader, offsets: HashMap::new() };
        let local = |text: &str| text.parse::<Timestamp>().expect("an instant").as_microsecond();
        for (text, expect) in [
            ("2025-07-01T12:00:00Z", "2025-07-01T10:00:00Z"),
            // Clocks skip from 2 to 3, and go back from 3 to 2.
            ("2025-03-30T01:59:59Z", "2025-03-30T00:59:59Z"),
            ("2025-03-30T02:30:00Z", "2025-03-30T01:30:00Z"),
            ("2025-03-30T03:00:00Z", "2025-03-30T01:00:00Z"),
            ("2025-10-26T01:59:59Z", "2025-10-25T23:59:59Z"),
            ("2025-10-26T02:30:00Z", "2025-10-26T00:30:00Z"),
            ("2025-10-26T03:00:00Z", "2025-10-26T02:00:00Z"),
        ] {
            for _ in 0..2 {
                assert_eq!(iso(wall.instant(local(text))), expect, "{text}");
            }
        }
    }

    /// Whatever was asked before. (At 00:01 clocks went back to 23:01, or on to 01:01.)
    #[test]
    fn clocks_that_change_in_the_middle_of_a_quarter() {
        let reader = reader("America/St_Johns", &[]);
        let local = |text: &str| text.parse::<Timestamp>().expect("an instant").as_microsecond();
        let times = ["2010-11-07T00:00:30Z", "2010-11-07T00:02:00Z", "2010-03-14T00:00:30Z", "2010-03-14T01:02:00Z"];
        let expect = ["2010-11-07T02:30:30Z", "2010-11-07T03:32:00Z", "2010-03-14T03:30:30Z", "2010-03-14T03:32:00Z"];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
            let mut wall = Wall { reader: &reader, offsets: HashMap::new() };
            for at in order {
                assert_eq!(iso(wall.instant(local(times[at]))), expect[at], "{}", times[at]);
            }
        }
    }

    #[test]
    fn the_quick_way_agrees_with_the_thorough_one() {
        let r = reader("UTC", &[]);
        for text in [
            "2010-12-01 08:26:00",
            "1969-12-31T23:59:59",
            "2000-02-29 00:00:00",
            "2001-02-29 00:00:00",
            "2010-12-01 24:00:00",
        ] {
            let thorough = text.parse::<DateTime>().ok().and_then(|d| r.on_the_wall(d));
            assert_eq!(plain(text), thorough, "{text}");
        }
        assert_eq!(r.date("2010-12-01"), Some(14_944));
    }

    /// Half past midnight in Berlin is the day before in UTC.
    #[test]
    fn a_date_is_that_on_the_wall() {
        let r = reader("Europe/Berlin", &[]);
        for text in ["2025-07-01T22:30:00Z", "2025-07-02 00:30:00", "2025-07-02T00:30:00+02:00", "2025-07-02"] {
            assert_eq!(r.date(text), r.date("2025-07-02"), "{text}");
        }
        let micros = "2025-07-01T22:30:00Z".parse::<Timestamp>().expect("an instant").as_microsecond();
        assert_eq!(r.day_of(micros), r.date("2025-07-02"));
    }
}
