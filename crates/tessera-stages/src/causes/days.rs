//! Days of which rows are missing: a source that did not come or came late, or a file that was lost, is looked for before people are said to have
//! bought less.
//!
//! A day is held against the same days of the week in the four weeks before and after it. What it lacks counts where the day is in the window of one of the
//! two nights only: when it comes into the window, and the other way round when it leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tessera_algo::robust;
use tessera_contract::{AsOf, Entity, Kpi, Length, Whose};
use tessera_engine::formula::Words;

use super::grids::Members;
use crate::{
    Night, StageError,
    features::rows_of,
    figures::{NOBODYS, exact},
    rows,
};

/// Days of the same day of the week that a day is held against: so many weeks before it and after.
const WEEKS: i64 = 4;
/// Of these, at least.
const KNOWN: usize = 4;
/// Of fewer rows a day says nothing.
const FEW: f64 = 20.0;
/// The share of the usual rows below which a day is short.
const SHORT: f64 = 0.6;
/// The share below which a day has as good as no rows.
const NONE: f64 = 0.1;
/// Days before a day and after it that it is held against too.
const BESIDE: i64 = 3;
/// Robust standard deviations of days that are alike, beyond which it is too.
const SPREADS: f64 = 4.0;

/// Days in a row of which rows are missing, and what these would have added to a KPI.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gap {
    pub kpi: String,
    pub segment: Option<i64>,
    /// `day=2025-12-24`, or `days=2025-12-24/2025-12-26`.
    pub days: String,
    pub contribution: f64,
    /// What they have instead of what is usual, less one.
    pub change: f64,
}

/// The days of a KPI's window on a night, as ages: 0 is the day before tonight.
fn window(night: &Night<'_>, kpi: &Kpi, as_of: AsOf) -> Result<RangeInclusive<i64>, StageError> {
    let newest = i64::from(night.as_of.days() - as_of.days());
    let zone = &night.project.project.timezone;
    let Some(window) = kpi.rows.as_ref().and_then(|rows| rows.window.as_deref()) else {
        return Ok(newest..=i64::MAX);
    };
    let wrong = || StageError::Data(format!("`{window}` is no length of time"));
    let length = Length::parse(window).ok_or_else(wrong)?;
    let start = as_of.before(&[length], zone).map_err(|e| StageError::Data(e.to_string()))?;
    let start = Timestamp::from_microsecond(start).map_err(|_| wrong())?;
    let start = start.to_zoned(TimeZone::get(zone).map_err(|_| wrong())?).date();
    Ok(newest..=age(night, start))
}

/// How many days before the day before tonight a day is.
fn age(night: &Night<'_>, day: Date) -> i64 {
    let days = night.as_of.date().since(day).map_or(0, |span| span.get_days());
    i64::from(days) - 1
}

fn dated(night: &Night<'_>, age: i64) -> String {
    let days = jiff::Span::new().days(age + 1);
    night.as_of.date().checked_sub(days).map_or_else(|_| format!("{age} days ago"), |date| date.to_string())
}

/// The days that are short, with the rows that are usual and the days that say so.
fn short(counts: &BTreeMap<i64, f64>, newest: i64) -> BTreeMap<i64, (f64, Vec<i64>)> {
    let oldest = counts.keys().next_back().copied().unwrap_or(0);
    let of = |age: i64| counts.get(&age).copied().unwrap_or(0.0);
    let alike = |age: i64| {
        let weeks = (1..=WEEKS).flat_map(move |week| [age - 7 * week, age + 7 * week]);
        weeks.filter(move |other| (newest..=oldest).contains(other)).collect::<Vec<i64>>()
    };
    let mut found = BTreeMap::new();
    for age in newest..=oldest {
        let alike = alike(age);
        let beside: Vec<f64> = alike.iter().map(|other| of(*other)).collect();
        let Some((usual, deviation)) = robust::median_and_deviation(&beside).filter(|_| alike.len() >= KNOWN) else {
            continue;
        };
        // Where a day of the week has no rows now and then, it is closed now and then.
        let closed = beside.iter().filter(|rows| **rows < NONE * usual).count();
        let none = of(age) < NONE * usual && 4 * closed <= beside.len();
        let few = of(age) < (SHORT * usual).min(usual - SPREADS * deviation);
        if usual >= FEW && (none || few) {
            found.insert(age, (usual, alike));
        }
    }
    // Where the days beside it are as short, fewer bought: after a feast, or before one. No rows at all are missing.
    let share = |age: i64| {
        let beside: Vec<f64> = alike(age).into_iter().map(of).collect();
        robust::median_and_deviation(&beside).filter(|(usual, _)| *usual > 0.0).map(|(usual, _)| of(age) / usual)
    };
    let alone = |age: i64, usual: f64| {
        let beside = (age - BESIDE..=age + BESIDE).filter(|other| *other != age && (newest..=oldest).contains(other));
        let beside: Vec<f64> = beside.filter_map(share).collect();
        robust::median_and_deviation(&beside).is_none_or(|(others, _)| of(age) < SHORT * others * usual)
    };
    let kept: BTreeSet<i64> = found
        .iter()
        .filter(|(age, (usual, _))| of(**age) < NONE * usual || alone(**age, *usual))
        .map(|(age, _)| *age)
        .collect();
    found.retain(|age, _| kept.contains(age));
    let ages: BTreeSet<i64> = found.keys().copied().collect();
    found.values_mut().for_each(|(_, alike)| alike.retain(|other| !ages.contains(other)));
    found.retain(|_, (_, alike)| !alike.is_empty());
    found
}

/// What is known of the rows of a day and a segment.
#[derive(Debug, Clone, Default)]
struct Day {
    rows: f64,
    people: i64,
    sums: Vec<f64>,
}

/// The days of an entity of which rows are missing, as far as they make KPIs that add up its rows others than on an earlier night. `lag` is how many
/// days before a night the newest rows usually are of.
pub(super) async fn missing(
    night: &Night<'_>,
    members: &Members<'_>,
    entity: Entity,
    kpis: &[(&str, &Kpi)],
    then: AsOf,
    lag: i64,
) -> Result<Vec<Gap>, StageError> {
    let kpis: Vec<&(&str, &Kpi)> = kpis.iter().filter(|(_, kpi)| kpi.denominator.is_none()).collect();
    // Of every KPI, the days that only one of the nights has.
    let mut changed = Vec::new();
    for (_, kpi) in &kpis {
        changed.push([window(night, kpi, then)?, window(night, kpi, night.as_of)?]);
    }
    let apart = i64::from(night.as_of.days() - then.days());
    let oldest = |[then, now]: &[RangeInclusive<i64>; 2]| match *then.end() {
        i64::MAX => apart,
        end => end.max(*now.end()),
    };
    let Some(oldest) = changed.iter().map(oldest).max() else { return Ok(Vec::new()) };
    let all = of_ages(night, entity, oldest + 7 * WEEKS);
    let clean = night.input(&entity.clean_table())?;
    let words = Words::new(night.as_of, &night.project.project.timezone);
    let known = night.engine.sql(&rows_of(entity, clean), &[("clean", clean)], &words).await?;
    let query = format!("SELECT age, count(*) AS n FROM ({all}) GROUP BY age");
    let batch = rows::collect(night.engine.sql(&query, &[("rows", &known)], &words).await?).await?;
    let counts = rows::integers(&batch, "age")?.into_iter().zip(rows::integers(&batch, "n")?);
    let counts = counts.filter_map(|(age, n)| Some((age?, n? as f64))).collect();
    let only_one = |age: i64| changed.iter().any(|[then, now]| then.contains(&age) != now.contains(&age));
    let mut short = short(&counts, lag);
    short.retain(|age, _| only_one(*age));
    if short.is_empty() {
        return Ok(Vec::new());
    }
    tracing::debug!("rows of {entity} are missing on {} days", short.len());

    // What they have, and the days beside them, by segment.
    let ages: BTreeSet<i64> =
        short.iter().flat_map(|(age, (_, alike))| [*age].into_iter().chain(alike.iter().copied())).collect();
    let ages: Vec<String> = ages.iter().map(i64::to_string).collect();
    let (mut columns, mut added) = (String::new(), String::new());
    for (at, (_, kpi)) in kpis.iter().enumerate() {
        let Some(of) = &kpi.rows else { continue };
        let value = format!("CASE WHEN ({}) THEN {} END", of.which.as_deref().unwrap_or("true"), of.numerator);
        columns.push_str(&format!(", {} AS v{at}", exact(&value)));
        added.push_str(&format!(", sum(v{at}) AS v{at}"));
    }
    let query = format!("SELECT account_key, age{columns} FROM ({all}) WHERE age IN ({})", ages.join(", "));
    let valued = night.engine.sql(&query, &[("rows", &known)], &words).await?;
    let query = format!(
        "SELECT r.age, m.segment_id, count(*) AS n, count(DISTINCT r.customer_key) AS people{added} FROM \
         (SELECT r.*, a.customer_key FROM rows AS r JOIN accounts AS a ON r.account_key = a.account_key) AS r \
         JOIN members AS m ON r.customer_key = m.customer_key GROUP BY r.age, m.segment_id"
    );
    let given = [("rows", &valued), ("accounts", night.input("accounts")?), ("members", members.tonight())];
    let batch = rows::collect(night.over(&query, &given).await?).await?;
    let (of_age, segments) = (rows::integers(&batch, "age")?, rows::integers(&batch, "segment_id")?);
    let (n, people) = (rows::integers(&batch, "n")?, rows::integers(&batch, "people")?);
    let sums = (0..kpis.len()).map(|at| rows::money(&batch, &format!("v{at}"))).collect::<Result<Vec<_>, _>>()?;
    let mut days: BTreeMap<(i64, i64), Day> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let (Some(age), Some(segment)) = (of_age[row], segments[row]) else { continue };
        let sums = sums.iter().map(|sums| super::found::money(sums[row].unwrap_or(0))).collect();
        let day = Day { rows: n[row].unwrap_or(0) as f64, people: people[row].unwrap_or(0), sums };
        days.insert((age, segment), day);
    }

    let scopes: BTreeSet<i64> = days.keys().map(|(_, segment)| *segment).filter(|id| *id >= 0).collect();
    let scopes: Vec<Option<i64>> = [None].into_iter().chain(scopes.into_iter().map(Some)).collect();
    let mut gaps = Vec::new();
    for (at, (name, kpi)) in kpis.iter().enumerate() {
        for segment in &scopes {
            let of = Of { days: &days, segment: *segment, everybody: kpi.population == Whose::Everybody, sum: at };
            for run in runs(&short, &changed[at]) {
                if let Some((missing, usual)) = of.missing(&run, &short, night.project.privacy.k) {
                    let comes = changed[at][1].contains(&run[0]);
                    gaps.push(Gap {
                        kpi: (*name).to_owned(),
                        segment: *segment,
                        days: named(night, &run),
                        contribution: if comes { -missing } else { missing },
                        change: if usual == 0.0 { 0.0 } else { -missing / usual },
                    });
                }
            }
        }
    }
    Ok(gaps)
}

/// SQL of the rows of an entity with their age, up to one; of transactions, without what was taken back.
fn of_ages(night: &Night<'_>, entity: Entity, oldest: i64) -> String {
    let event = entity.event_time();
    let bought = if entity == Entity::Transactions { " AND NOT is_return" } else { "" };
    format!(
        "SELECT *, CAST(days_between(try_date({event}, timezone), DATE '{}') AS BIGINT) - 1 AS age FROM rows \
         WHERE {event} >= as_of - INTERVAL '{} days'{bought}",
        night.as_of.date(),
        oldest + 1
    )
}

/// Short days in a row that only one of two windows has, and the same of them.
fn runs(short: &BTreeMap<i64, (f64, Vec<i64>)>, [then, now]: &[RangeInclusive<i64>; 2]) -> Vec<Vec<i64>> {
    let mut runs: Vec<Vec<i64>> = Vec::new();
    for age in short.keys().copied().filter(|age| then.contains(age) != now.contains(age)) {
        let goes_on = |run: &&mut Vec<i64>| {
            run.last().is_some_and(|last| last + 1 == age && now.contains(last) == now.contains(&age))
        };
        match runs.last_mut().filter(goes_on) {
            Some(run) => run.push(age),
            None => runs.push(vec![age]),
        }
    }
    runs
}

fn named(night: &Night<'_>, run: &[i64]) -> String {
    match run {
        [one] => format!("day={}", dated(night, *one)),
        _ => {
            let [last, first] = [run.first(), run.last()].map(|age| dated(night, age.copied().unwrap_or(0)));
            format!("days={first}/{last}")
        }
    }
}

/// The days of a segment or of everybody, and a sum over them.
struct Of<'a> {
    days: &'a BTreeMap<(i64, i64), Day>,
    segment: Option<i64>,
    everybody: bool,
    sum: usize,
}

impl Of<'_> {
    fn day(&self, age: i64) -> Day {
        let mut all = Day { sums: vec![0.0], ..Day::default() };
        let counts = |id: i64| match self.segment {
            Some(segment) => id == segment,
            None => id != NOBODYS || self.everybody,
        };
        for ((_, _), day) in self.days.range((age, i64::MIN)..=(age, i64::MAX)).filter(|((_, id), _)| counts(*id)) {
            all.rows += day.rows;
            all.people += day.people;
            all.sums[0] += day.sums[self.sum];
        }
        all
    }

    /// What days lack of the sum that rows of the usual number bring on days like them, and what these bring; none that few people are behind.
    fn missing(&self, run: &[i64], short: &BTreeMap<i64, (f64, Vec<i64>)>, k: u64) -> Option<(f64, f64)> {
        let (mut missing, mut all) = (0.0, 0.0);
        let enough = |day: &Day| day.people == 0 || u64::try_from(day.people).is_ok_and(|people| people >= k);
        for age in run {
            let (usual, alike) = &short[age];
            let beside: Vec<Day> = alike.iter().map(|other| self.day(*other)).collect();
            let of_all: f64 =
                alike.iter().map(|other| Of { segment: None, everybody: true, ..*self }.day(*other).rows).sum();
            let is = self.day(*age);
            if !enough(&is) || of_all == 0.0 || !beside.iter().any(|day| day.people > 0 && enough(day)) {
                return None;
            }
            let expected = usual * beside.iter().map(|day| day.sums[0]).sum::<f64>() / of_all;
            missing += expected - is.sums[0];
            all += expected;
        }
        (missing != 0.0).then_some((missing, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weeks(changes: &[(i64, f64)]) -> BTreeMap<i64, f64> {
        let mut counts: BTreeMap<i64, f64> =
            (0..60).map(|age| (age, 100.0 + (age * 37 % 11) as f64 - if age % 7 == 3 { 60.0 } else { 0.0 })).collect();
        counts.extend(changes.iter().copied());
        counts
    }

    /// A quiet day of every week is none that is short, nor is a week of fewer orders; a day without rows is, and ten in a row are.
    #[test]
    fn days_that_lack_rows() {
        let ages = |changes: &[(i64, f64)], lag: i64| short(&weeks(changes), lag).into_keys().collect::<Vec<_>>();
        assert_eq!(ages(&[], 0), Vec::<i64>::new());
        assert_eq!(ages(&[(5, 0.0)], 0), [5]);
        assert_eq!(ages(&[(0, 3.0)], 0), [0]);
        assert_eq!(ages(&[(0, 3.0)], 1), Vec::<i64>::new());
        let ten: Vec<(i64, f64)> = (20..30).map(|age| (age, 0.0)).collect();
        assert_eq!(ages(&ten, 0), (20..30).collect::<Vec<_>>());
        let fewer: Vec<(i64, f64)> = (0..7).map(|age| (age, 0.7 * weeks(&[])[&age])).collect();
        assert_eq!(ages(&fewer, 0), Vec::<i64>::new());
        let (usual, alike) = short(&weeks(&[(24, 0.0), (31, 0.0)]), 0)[&31].clone();
        assert!((44.0..46.0).contains(&usual) && alike == [38, 17, 45, 10, 52, 3, 59], "{usual} {alike:?}");
    }

    #[test]
    fn days_in_a_row_are_told_together() {
        let short = short(&weeks(&[(1, 0.0), (2, 0.0), (9, 0.0), (31, 0.0), (32, 0.0)]), 0);
        assert_eq!(runs(&short, &[3..=32, 0..=29]), [vec![1, 2], vec![31, 32]]);
        assert_eq!(runs(&short, &[0..=29, 0..=29]), Vec::<Vec<i64>>::new());
    }
}
