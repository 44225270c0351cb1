//! Days of which rows are missing: a source that did not come or came late, or a file that was lost, is looked for before people are said to have
//! bought less.
//!
//! A day is held against the same days of the week in the four weeks before and after it. What it lacks counts where the day is in the window of one of the
//! two nights only: when it comes into the window, and the other way round when it leaves it. The rows that are usual are put in its place before it is searched
//! where else people do otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use datafusion::prelude::DataFrame;
use jiff::{Timestamp, tz::TimeZone};
use tessera_algo::robust;
use tessera_contract::{AsOf, Entity, Kpi, Length, Measure};
use tessera_engine::formula::{Words, text};

use super::{first::First, found, grids};
use crate::{
    Night, StageError,
    ages::{self, dated},
    features::rows_of,
    figures::exact,
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

/// What a day lacks that is short.
#[derive(Debug, Clone, PartialEq)]
struct Short {
    /// Days that are like it.
    alike: Vec<i64>,
    /// The share of the rows of these together that are usual on it.
    weight: f64,
}

/// The days of an entity of which rows are missing.
pub(super) struct Missing<'a> {
    night: &'a Night<'a>,
    entity: Entity,
    then: AsOf,
    /// By age.
    short: BTreeMap<i64, Short>,
    /// How many days before a night the newest rows are of.
    lag: i64,
    /// The rows that are known tonight.
    known: DataFrame,
}

/// A cause of a KPI's change, of a segment or of everybody.
pub(super) struct Gap {
    pub kpi: String,
    pub segment: Option<i64>,
    pub first: First,
}

impl<'a> Missing<'a> {
    /// Those that make KPIs which add up rows of the entity others than on an earlier night, with its tables.
    pub(super) async fn of(
        night: &'a Night<'a>,
        entity: Entity,
        kpis: &[(&str, &Kpi)],
        then: AsOf,
        tables: &BTreeMap<String, DataFrame>,
    ) -> Result<Self, StageError> {
        let clean = night.input(&entity.clean_table())?;
        let known = night.engine.sql(&rows_of(entity, clean), &[("clean", clean)], &words(night)).await?;
        let lag = lag(night, tables, entity).await?;
        let mut missing = Self { night, entity, then, short: BTreeMap::new(), lag, known };
        let windows: BTreeSet<Option<&str>> =
            kpis.iter().filter(|(_, kpi)| kpi.denominator.is_none()).map(|(_, kpi)| window_of(kpi)).collect();
        let mut oldest = None;
        for window in &windows {
            let [then, now] = missing.windows(*window)?;
            // Of all rows, those that came between the nights.
            let end = if window.is_none() { *then.start() } else { *then.end().max(now.end()) };
            oldest = oldest.max(Some(end));
        }
        let Some(oldest) = oldest else { return Ok(missing) };
        let bought = if entity == Entity::Transactions { "NOT is_return" } else { "true" };
        let query = format!(
            "SELECT age, count(*) AS n FROM (SELECT {} AS age FROM rows WHERE {bought} AND {} >= as_of - INTERVAL '{} days') GROUP BY age",
            ages::of_row(night, entity),
            entity.event_time(),
            oldest + 7 * WEEKS + 1
        );
        let batch = rows::collect(night.engine.sql(&query, &[("rows", &missing.known)], &words(night)).await?).await?;
        let counts = rows::integers(&batch, "age")?.into_iter().zip(rows::integers(&batch, "n")?);
        let counts = counts.filter_map(|(age, n)| Some((age?, n? as f64))).collect();
        missing.short = short(&counts, lag);
        let mut changed = BTreeSet::new();
        for window in windows {
            changed.extend(missing.of_one(window)?.concat());
        }
        missing.short.retain(|age, _| changed.contains(age));
        if !missing.short.is_empty() {
            tracing::debug!("rows of {entity} are missing on {} days", missing.short.len());
        }
        Ok(missing)
    }

    /// The ages of the days of a window on either night, as far as rows are there.
    fn windows(&self, window: Option<&str>) -> Result<[RangeInclusive<i64>; 2], StageError> {
        let (night, zone) = (self.night, &self.night.project.project.timezone);
        let age = |as_of: AsOf| i64::from(night.as_of.days() - as_of.days());
        let of = |as_of: AsOf| {
            let newest = age(as_of) + self.lag;
            let Some(window) = window else { return Ok::<_, StageError>(newest..=i64::MAX) };
            let wrong = || StageError::Data(format!("`{window}` is no length of time"));
            let length = Length::parse(window).ok_or_else(wrong)?;
            let start = as_of.before(&[length], zone).map_err(|e| StageError::Data(e.to_string()))?;
            let zone = TimeZone::get(zone).map_err(|_| wrong())?;
            let start = Timestamp::from_microsecond(start).map_err(|_| wrong())?.to_zoned(zone).date();
            Ok(newest..=age(AsOf::new(start, "UTC").map_err(|e| StageError::Data(e.to_string()))?) - 1)
        };
        Ok([of(self.then)?, of(night.as_of)?])
    }

    /// The short days of a window that only the earlier night has, and those that only this one has.
    fn of_one(&self, window: Option<&str>) -> Result<[Vec<i64>; 2], StageError> {
        let windows = self.windows(window)?;
        Ok([0, 1].map(|which| {
            let only = |age: &&i64| windows[which].contains(age) && !windows[1 - which].contains(age);
            self.short.keys().filter(only).copied().collect()
        }))
    }

    /// What rows have to be added times so that the days which only one of the two nights has are as usual on it: of the earlier night, and of this
    /// one, by the age of a row.
    pub(super) fn weights(&self, window: Option<&str>) -> Result<[BTreeMap<i64, f64>; 2], StageError> {
        Ok(self.of_one(window)?.map(|ages| {
            let mut weights: BTreeMap<i64, f64> = BTreeMap::new();
            for age in ages {
                let Short { alike, weight } = &self.short[&age];
                *weights.entry(age).or_default() -= 1.0;
                alike.iter().for_each(|other| *weights.entry(*other).or_default() += weight);
            }
            weights
        }))
    }

    /// SQL of an expression over the rows that are known, as often as they have to be added.
    pub(super) fn weighted(&self, value: &str, weights: &BTreeMap<i64, f64>) -> String {
        let cases: String =
            weights.iter().map(|(age, weight)| format!(" WHEN {age} THEN ({value}) * {weight:?}")).collect();
        match cases.is_empty() {
            true => exact("0"),
            false => exact(&format!("CASE {}{cases} END", ages::of_row(self.night, self.entity))),
        }
    }

    /// Whether no day lacks any.
    pub(super) fn is_none(&self) -> bool {
        self.short.is_empty()
    }

    /// The rows of some days, with columns of theirs.
    pub(super) async fn rows(&self, columns: &str, ages: &BTreeSet<i64>) -> Result<DataFrame, StageError> {
        let list: Vec<String> = ages.iter().map(i64::to_string).collect();
        let age = ages::of_row(self.night, self.entity);
        let which = if list.is_empty() { "false".to_owned() } else { format!("{age} IN ({})", list.join(", ")) };
        let query = format!("SELECT account_key{columns} FROM rows WHERE {which}");
        Ok(self.night.engine.sql(&query, &[("rows", &self.known)], &words(self.night)).await?)
    }

    /// What they make of KPIs, of everybody and of segments, by the people of either night.
    pub(super) async fn gaps(&self, kpis: &[(&str, &Kpi)], people: [&DataFrame; 2]) -> Result<Vec<Gap>, StageError> {
        let kpis: Vec<&(&str, &Kpi)> = kpis.iter().filter(|(_, kpi)| kpi.denominator.is_none()).collect();
        let mut gaps = Vec::new();
        for (which, people) in people.into_iter().enumerate() {
            let mut runs_of = Vec::new();
            for (_, kpi) in &kpis {
                runs_of.push(runs(&self.of_one(window_of(kpi))?[which]));
            }
            let ages: BTreeSet<i64> = runs_of.iter().flatten().flatten().copied().collect();
            if ages.is_empty() {
                continue;
            }
            let days = Days::of(self, &kpis, &ages, people).await?;
            for ((sum, (name, kpi)), runs) in kpis.iter().enumerate().zip(runs_of) {
                for run in runs {
                    let lacks = days.lacks(kpi, sum, &run, &self.short, self.night.project.privacy.k);
                    gaps.extend(lacks.into_iter().map(|(segment, [lacked, usual])| Gap {
                        kpi: (*name).to_owned(),
                        segment,
                        first: First {
                            finding: "missing",
                            dimensions: vec![named(self.night, &run)],
                            // On the earlier night, the other way round.
                            contribution: if which == 1 { -lacked } else { lacked },
                            change: (usual != 0.0).then_some(-lacked / usual),
                        },
                    }));
                }
            }
        }
        Ok(gaps)
    }
}

fn words(night: &Night<'_>) -> Words {
    Words::new(night.as_of, &night.project.project.timezone)
}

fn window_of(kpi: &Kpi) -> Option<&str> {
    kpi.rows.as_ref().and_then(|rows| rows.window.as_deref())
}

/// How many days before the earlier night its newest rows were of, as a rule: so much later a day comes, and none is missing.
async fn lag(night: &Night<'_>, tables: &BTreeMap<String, DataFrame>, entity: Entity) -> Result<i64, StageError> {
    let Some(quality) = tables.get("quality") else { return Ok(0) };
    let checks = night.project.checks().filter(|(_, check)| check.measure == Some(Measure::NewestDay));
    let checks: Vec<String> = checks.map(|(name, _)| text(name)).collect();
    if checks.is_empty() {
        return Ok(0);
    }
    let query = format!(
        "SELECT max(CASE WHEN median IS NULL OR value < median THEN value ELSE median END) AS lag FROM quality WHERE source = {} AND \"check\" IN ({})",
        text(entity.name()),
        checks.join(", ")
    );
    let batch = rows::collect(night.over(&query, &[("quality", quality)]).await?).await?;
    Ok(rows::floats(&batch, "lag")?.first().copied().flatten().map_or(0, |lag| lag as i64))
}

/// The days that are short, by the rows of every day.
fn short(counts: &BTreeMap<i64, f64>, newest: i64) -> BTreeMap<i64, Short> {
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
        // Before as much came as a rule, nothing lacks.
        let began = alike.iter().any(|other| *other > age && of(*other) >= SHORT * usual);
        if usual >= FEW && began && (none || few) {
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
    found.retain(|age, (usual, _)| of(*age) < NONE * *usual || alone(*age, *usual));
    let ages: BTreeSet<i64> = found.keys().copied().collect();
    let known = found.into_iter().filter_map(|(age, (usual, alike))| {
        let alike: Vec<i64> = alike.into_iter().filter(|other| !ages.contains(other)).collect();
        let all: f64 = alike.iter().map(|other| of(*other)).sum();
        (all > 0.0).then(|| (age, Short { weight: usual / all, alike }))
    });
    known.collect()
}

/// Days in a row, of days in their order.
fn runs(ages: &[i64]) -> Vec<Vec<i64>> {
    ages.chunk_by(|age, next| age + 1 == *next).map(<[i64]>::to_vec).collect()
}

/// `day=2025-12-24`, or `days=2025-12-24/2025-12-26`.
fn named(night: &Night<'_>, run: &[i64]) -> String {
    match run {
        [one] => format!("day={}", dated(night, *one)),
        _ => {
            let [last, first] = [run.first(), run.last()].map(|age| dated(night, age.copied().unwrap_or(0)));
            format!("days={first}/{last}")
        }
    }
}

/// What people add on a day to each sum, and how many of them add something.
type Day = Vec<(f64, u64)>;

/// The days that are short and those like them, by age and by the segment of the people.
struct Days(BTreeMap<(i64, i64), Day>);

/// What a day lacks, and what is usual on it.
type Lacks = [f64; 2];

impl Days {
    async fn of(
        missing: &Missing<'_>,
        kpis: &[&(&str, &Kpi)],
        ages: &BTreeSet<i64>,
        people: &DataFrame,
    ) -> Result<Self, StageError> {
        let night = missing.night;
        let (mut columns, mut by_person, mut added) = (String::new(), String::new(), String::new());
        for (at, (_, kpi)) in kpis.iter().enumerate() {
            let Some(of) = &kpi.rows else { continue };
            columns.push_str(&format!(", {} AS v{at}", exact(&of.value(&of.numerator))));
            by_person.push_str(&format!(", sum(r.v{at}) AS v{at}"));
            added.push_str(&format!(", sum(v{at}) AS v{at}, count(*) FILTER (WHERE v{at} <> 0) AS n{at}"));
        }
        columns.push_str(&format!(", {} AS age", ages::of_row(night, missing.entity)));
        let alike = ages.iter().flat_map(|age| &missing.short[age].alike).copied();
        let rows = missing.rows(&columns, &ages.iter().copied().chain(alike).collect()).await?;
        let query = format!(
            "SELECT age, segment_id{added} FROM (SELECT r.age, m.segment_id, m.customer_key{by_person} FROM \
             (SELECT r.*, a.customer_key FROM rows AS r JOIN accounts AS a ON r.account_key = a.account_key) AS r \
             JOIN members AS m ON r.customer_key = m.customer_key GROUP BY r.age, m.segment_id, m.customer_key) GROUP BY age, segment_id"
        );
        let given = [("rows", &rows), ("accounts", night.input("accounts")?), ("members", people)];
        let batch = rows::collect(night.over(&query, &given).await?).await?;
        let (age, segment) = (rows::integers(&batch, "age")?, rows::integers(&batch, "segment_id")?);
        let mut days: BTreeMap<(i64, i64), Day> = BTreeMap::new();
        for at in 0..kpis.len() {
            let (sums, people) = (rows::money(&batch, &format!("v{at}"))?, rows::integers(&batch, &format!("n{at}"))?);
            for row in 0..batch.num_rows() {
                let (Some(age), Some(segment)) = (age[row], segment[row]) else { continue };
                let people = people[row].and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                days.entry((age, segment)).or_default().push((found::money(sums[row].unwrap_or(0)), people));
            }
        }
        Ok(Self(days))
    }

    /// What some days together lack of a sum, of everybody and of segments: of those only if nobody few are behind any part of the whole, since
    /// it is the difference.
    fn lacks(
        &self,
        kpi: &Kpi,
        sum: usize,
        run: &[i64],
        short: &BTreeMap<i64, Short>,
        k: u64,
    ) -> Vec<(Option<i64>, Lacks)> {
        let ids: BTreeSet<i64> = self.0.keys().map(|(_, id)| *id).filter(|id| grids::counts(kpi, None, *id)).collect();
        let of = |segment: Option<i64>| {
            let day = |age: i64| {
                let there = self.0.range((age, i64::MIN)..=(age, i64::MAX));
                let there = there.filter(|((_, id), _)| segment.map_or(ids.contains(id), |segment| segment == *id));
                there.fold((0.0, 0), |(all, n), (_, day)| (all + day[sum].0, n + day[sum].1))
            };
            let (mut lacks, mut told) = ([0.0; 2], true);
            for age in run {
                let Short { alike, weight } = &short[age];
                let (is, people) = day(*age);
                let beside: Vec<(f64, u64)> = alike.iter().map(|other| day(*other)).collect();
                let most = beside.iter().map(|(_, people)| *people).max().unwrap_or(0);
                told &= (people == 0 || people >= k) && (most == 0 || most >= k);
                let usual = weight * beside.iter().map(|(all, _)| all).sum::<f64>();
                lacks = [lacks[0] + usual - is, lacks[1] + usual];
            }
            told.then_some((segment, lacks))
        };
        let mut all: Vec<(Option<i64>, Lacks)> = of(None).into_iter().collect();
        let parts: Option<Vec<_>> = ids.iter().map(|id| of(Some(*id))).collect();
        all.extend(parts.into_iter().flatten().filter(|(id, _)| id.is_some_and(|id| id >= 0)));
        all.retain(|(_, [lacked, _])| *lacked != 0.0);
        all
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
        let begins: Vec<(i64, f64)> = (50..60).map(|age| (age, 2.0)).collect();
        assert_eq!(ages(&begins, 0), Vec::<i64>::new());
        let fewer: Vec<(i64, f64)> = (0..7).map(|age| (age, 0.7 * weeks(&[])[&age])).collect();
        assert_eq!(ages(&fewer, 0), Vec::<i64>::new());
        let Short { weight, alike } = short(&weeks(&[(24, 0.0), (31, 0.0)]), 0)[&31].clone();
        assert!((weight * 7.0 - 1.0).abs() < 0.05 && alike == [38, 17, 45, 10, 52, 3, 59], "{weight} {alike:?}");
    }

    #[test]
    fn days_in_a_row_are_told_together() {
        assert_eq!(runs(&[1, 2, 9, 31, 32]), [vec![1, 2], vec![9], vec![31, 32]]);
    }

    /// Of segments nothing is told where few are behind one of them, and of everybody where they are few.
    #[test]
    fn few_are_not_told() {
        let project = "[sources.transactions]\nurl = \"x.csv\"\n";
        let project = tessera_contract::Project::load("tessera.toml", project, &[]).expect("a project");
        let kpi = project.kpis["revenue"].clone();
        let short = BTreeMap::from([(3, Short { alike: vec![10, 17], weight: 0.5 })]);
        let lacks = |one: (f64, u64), k: u64| {
            let day = |all: f64, n: u64| vec![(all, n)];
            let mut days = BTreeMap::from([((3, 0), vec![one]), ((3, -2), day(1e6, 99))]);
            days.extend([
                ((10, 0), day(50.0, 9)),
                ((17, 0), day(70.0, 9)),
                ((10, 1), day(30.0, 6)),
                ((17, 1), day(10.0, 2)),
            ]);
            Days(days).lacks(&kpi, 0, &[3], &short, k)
        };
        let all = [(None, [75.0, 80.0]), (Some(0), [55.0, 60.0]), (Some(1), [20.0, 20.0])];
        assert_eq!(lacks((5.0, 5), 5), all);
        assert_eq!(lacks((5.0, 4), 5), []);
        assert_eq!(lacks((5.0, 7), 7), [all[0]]);
    }
}
