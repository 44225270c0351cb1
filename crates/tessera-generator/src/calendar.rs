//! Days as whole numbers since 1970-01-01, and how busy each kind of customer is on each of them: season, week, Black Friday,
//! Christmas, growth. A kind's weights add up to an "operational time" in which its orders arrive at a constant rate; the sums run
//! forward from the first day, so moving the end never changes what comes before it.

use jiff::civil::{Date, Weekday, date};

use crate::archetype::{ARCHETYPE, Archetype};

/// Days between 1970-01-01 and `day`.
pub(crate) fn epoch_day(day: Date) -> i32 {
    // Dates of any century are within an i32 of each other.
    day.since(date(1970, 1, 1)).map_or(0, |span| span.get_days())
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
pub(crate) fn civil(day: i32) -> (i32, u32, u32) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let d = doy - (153 * mp + 2) / 5 + 1;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i32::from(m <= 2), m as u32, d as u32)
}

/// The written form, `2025-03-04`.
pub(crate) fn iso(day: i32) -> String {
    let (y, m, d) = civil(day);
    format!("{y:04}-{m:02}-{d:02}")
}

/// The days that a shop covers, and the cumulative weights of each kind of customer over them.
pub(crate) struct Calendar {
    /// First day with data.
    pub first: i32,
    /// First day without data.
    pub end: i32,
    /// First day on which nobody signs up any more.
    pub horizon: i32,
    /// Per kind: weight of all days before the i-th, one entry more than there are days.
    cumulative: Vec<Vec<f64>>,
}

impl Calendar {
    pub(crate) fn new(start: Date, end: Date, horizon: Date) -> Self {
        let (first, last) = (epoch_day(start), end.max(horizon));
        let days: Vec<Season> =
            start.series(jiff::Span::new().days(1)).take_while(|day| *day < last).map(Season::of).collect();
        let cumulative = ARCHETYPE.iter().map(|kind| {
            let mut sum = 0.0;
            let mut sums = vec![0.0];
            for (i, day) in days.iter().enumerate() {
                sum += day.weight(kind) * (1.0 + 0.12 * i as f64 / 365.25);
                sums.push(sum);
            }
            sums
        });
        Self { first, end: epoch_day(end), horizon: epoch_day(horizon), cumulative: cumulative.collect() }
    }

    /// Operational time at the start of a day, clamped to the days covered.
    pub(crate) fn operational(&self, kind: usize, day: i32) -> f64 {
        let sums = &self.cumulative[kind];
        let i = (day - self.first).max(0) as usize;
        sums[i.min(sums.len() - 1)]
    }

    /// The day that contains an instant of operational time; `None` past the last day.
    pub(crate) fn day_at(&self, kind: usize, time: f64) -> Option<i32> {
        let sums = &self.cumulative[kind];
        let after = sums.partition_point(|&sum| sum <= time);
        (after < sums.len()).then(|| self.first + after as i32 - 1)
    }

    /// First days of the months that begin within the data or before its horizon.
    pub(crate) fn months(&self) -> impl Iterator<Item = i32> + '_ {
        (self.first..self.end.max(self.horizon)).filter(|&day| civil(day).2 == 1)
    }
}

/// How special a day is, apart from who looks at it.
struct Season {
    weekend: bool,
    christmas: f64,
    black_friday: f64,
    summer: f64,
}

impl Season {
    fn of(day: Date) -> Self {
        let bump = |centre: Date, width: f64| {
            let distance = f64::from(epoch_day(day) - epoch_day(centre)) / width;
            (-0.5 * distance * distance).exp()
        };
        let november = date(day.year(), 11, 1);
        let black_friday = november.nth_weekday_of_month(4, Weekday::Friday).unwrap_or(november);
        let sold_out = day.month() == 12 && day.day() > 24;
        Self {
            weekend: matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday),
            christmas: if sold_out { 0.1 } else { bump(date(day.year(), 12, 12), 11.0) },
            black_friday: bump(black_friday, 2.0),
            summer: bump(date(day.year(), 6, 24), 25.0),
        }
    }

    fn weight(&self, kind: &Archetype) -> f64 {
        let [christmas, black_friday, summer] = kind.peaks;
        let season = 1.0 + christmas * self.christmas + black_friday * self.black_friday + summer * self.summer;
        // Dividing by the mean of the week keeps a kind's yearly rate what its entry says.
        let week = if self.weekend { kind.weekend } else { 1.0 };
        season * week * 7.0 / (5.0 + 2.0 * kind.weekend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_jiff_writes_them() {
        let mut day = date(1896, 2, 28);
        while day < date(2105, 1, 1) {
            assert_eq!(iso(epoch_day(day)), day.to_string());
            day = day.saturating_add(jiff::Span::new().days(13));
        }
    }

    #[test]
    fn operational_time_and_days_are_inverse_and_do_not_see_the_end() {
        let short = Calendar::new(date(2024, 1, 1), date(2024, 6, 1), date(2025, 1, 1));
        let long = Calendar::new(date(2024, 1, 1), date(2026, 6, 1), date(2025, 1, 1));
        for kind in 0..ARCHETYPE.len() {
            for day in short.first..short.horizon {
                let time = short.operational(kind, day);
                assert_eq!(short.day_at(kind, time), Some(day));
                assert_eq!(time.to_bits(), long.operational(kind, day).to_bits());
            }
            assert_eq!(short.day_at(kind, 1e9), None);
        }
    }
}
