//! What the newest days are like beside the four weeks before them: a file that was cut off, filled with one value, or brought in another
//! unit is seen on the day it is of, however little it adds to all that is known.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_algo::robust;
use tessera_contract::{Entity, Kind, Measure};
use tessera_engine::formula::quote;

use super::{FEW, Found, measures::listed};
use crate::{
    Night, StageError,
    ages::{self, dated},
    rows,
};

/// Days that are looked at.
const WEEK: i64 = 7;
/// Days before them that they are held against.
const BEFORE: i64 = 28;
/// Days before that have to have enough rows.
const KNOWN: usize = 5;
/// Rows of other values that were to be expected on a day, of which not to see one is no chance.
const EXPECTED: f64 = 15.0;
/// Values of a column that are each looked at.
const VALUES: usize = 50;
/// How many times more or less money the middle row of a day may have.
const TIMES: f64 = 5.0;
/// The share of the rows to be expected below which a day is short, and of the shortest day before.
const SHORT: [f64; 2] = [0.6, 0.8];

/// What happened in the weeks.
pub(super) struct Weeks {
    /// What is looked at of the rows, with `age`: how many of the project's days they are before the day before the night.
    rows: DataFrame,
    /// The newest day of the last week that has rows.
    newest: Option<Newest>,
}

impl Weeks {
    /// The rows of an entity, which several checks read.
    pub(super) async fn of(night: &Night<'_>, entity: Entity) -> Result<Self, StageError> {
        let event = entity.event_time();
        let bought = if entity == Entity::Transactions { " AND NOT is_return" } else { "" };
        let amount = entity.clean_columns().iter().any(|column| column.name == "amount").then(|| "amount".to_owned());
        let columns: BTreeSet<String> = columns(night, entity).into_iter().chain(amount).collect();
        let columns: String = columns.iter().map(|name| format!("{}, ", quote(name))).collect();
        let query = format!(
            "SELECT {columns}{} AS age FROM {} \
             WHERE {event} >= as_of - INTERVAL '{} days' AND NOT coalesce({}, false){bought}",
            ages::of_row(night, entity),
            entity.clean_table(),
            WEEK + BEFORE,
            entity.after()
        );
        let rows = night.materialised(night.sql(&query).await?, &format!("{entity}_weeks")).await?;
        let mut weeks = Self { rows, newest: None };
        weeks.newest = Newest::of(night, &weeks).await?;
        Ok(weeks)
    }

    async fn ask(&self, night: &Night<'_>, query: &str) -> Result<RecordBatch, StageError> {
        rows::collect(night.over(query, &[("recent", &self.rows)]).await?).await
    }
}

/// Columns that clean rows have from the source, of kinds in which many values are to be expected.
pub(super) fn columns(night: &Night<'_>, entity: Entity) -> Vec<String> {
    let kinds = [Kind::Text, Kind::Integer, Kind::Float, Kind::Fraction, Kind::Money, Kind::Price, Kind::Quantity];
    let absent = night.availability.absent(entity);
    let given: BTreeSet<&str> = entity.columns().iter().map(|column| column.name).collect();
    let ours = entity.clean_columns().into_iter().filter(|column| kinds.contains(&column.kind));
    ours.filter(|column| {
        let name = column.name.as_str();
        (name == "account_key" || given.contains(name)) && !absent.contains(&name)
    })
    .map(|column| column.name)
    .collect()
}

/// Whether a measure is of the newest weeks.
pub(super) fn asks(measure: Measure) -> bool {
    use Measure::{ColumnsVarying, DayShort, DaysConstant, DaysPriced, NewestDay, ValuesGone};
    matches!(measure, DaysConstant | DaysPriced | ValuesGone | DayShort | ColumnsVarying | NewestDay)
}

/// What a measure of them finds, where there is something to measure.
pub(super) async fn measured(
    night: &Night<'_>,
    entity: Entity,
    measure: Measure,
    weeks: &Weeks,
    lags: &[f64],
) -> Result<Option<Found>, StageError> {
    match measure {
        Measure::DaysConstant => constant(night, entity, weeks).await,
        Measure::DaysPriced => priced(night, entity, weeks).await,
        Measure::ValuesGone => values_gone(night, entity, weeks).await,
        Measure::ColumnsVarying => varying(night, entity, weeks).await,
        Measure::DayShort => Ok(short(night, entity, weeks, lags)),
        Measure::NewestDay => Ok(lag(weeks)),
        _ => Ok(None),
    }
}

/// How many columns have more than one value. Those that have not in the weeks are looked at in all rows: a sale that is over leaves a column
/// that it filled.
async fn varying(night: &Night<'_>, entity: Entity, weeks: &Weeks) -> Result<Option<Found>, StageError> {
    let columns = columns(night, entity);
    let Some(same_of_late) = same(night, weeks, None, &columns).await? else { return Ok(None) };
    let known = format!("(SELECT * FROM {} WHERE NOT coalesce({}, false))", entity.clean_table(), entity.after());
    let one = match same_of_late.is_empty() {
        true => Vec::new(),
        false => same(night, weeks, Some(&known), &same_of_late).await?.unwrap_or_default(),
    };
    let told = match one.is_empty() {
        true => String::new(),
        false => format!("of all rows of {entity} that are known, {} have one value", listed(&one)),
    };
    Ok(Some(Found { value: (columns.len() - one.len()) as f64, told }))
}

/// Of some columns, those with one value, or none, in some rows or those of the weeks; none where these are few.
async fn same(
    night: &Night<'_>,
    weeks: &Weeks,
    from: Option<&str>,
    columns: &[String],
) -> Result<Option<Vec<String>>, StageError> {
    let varies = columns.iter().map(|name| format!("CASE WHEN min({0}) <> max({0}) THEN 1 ELSE 0 END", quote(name)));
    let varies: String = varies.enumerate().map(|(at, sql)| format!(", {sql} AS c{at}")).collect();
    let query = format!("SELECT count(*) AS n{varies} FROM {}", from.unwrap_or("recent"));
    let batch = match from {
        Some(_) => rows::collect(night.sql(&query).await?).await?,
        None => weeks.ask(night, &query).await?,
    };
    if super::first(&batch, "n")? < FEW * KNOWN as i64 {
        return Ok(None);
    }
    let mut same = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        if super::first(&batch, &format!("c{at}"))? == 0 {
            same.push(name.clone());
        }
    }
    Ok(Some(same))
}

/// Columns with one value on a day. Of which kind rows are, [`values_gone`] asks: a closed store leaves a day to the web.
async fn constant(night: &Night<'_>, entity: Entity, weeks: &Weeks) -> Result<Option<Found>, StageError> {
    let columns = columns(night, entity).into_iter();
    let columns: Vec<String> = columns.filter(|name| !LABELS.contains(&name.as_str())).collect();
    let same: String = columns
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let name = quote(name);
            format!(", CASE WHEN count({name}) = 0 OR (count({name}) = count(*) AND min({name}) = max({name})) THEN 1 ELSE 0 END AS c{at}")
        })
        .collect();
    let query =
        format!("SELECT age, count(*) AS n{same} FROM recent GROUP BY age HAVING count(*) >= {FEW} ORDER BY age");
    let batch = weeks.ask(night, &query).await?;
    let (ages, counts) = (rows::integers(&batch, "age")?, rows::integers(&batch, "n")?);
    let mut found = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let one = rows::integers(&batch, &format!("c{at}"))?;
        let days =
            ages.iter().zip(&counts).zip(&one).filter_map(|((age, n), one)| Some(((*age)?, (*n)?, *one == Some(1))));
        let days: Vec<(i64, i64, bool)> = days.collect();
        let before: Vec<_> = days.iter().filter(|(age, ..)| *age >= WEEK).collect();
        if before.len() < KNOWN || before.iter().any(|(.., one)| *one) {
            continue;
        }
        let odd: Vec<_> = days.iter().filter(|(age, _, one)| *age < WEEK && *one).collect();
        if odd.is_empty() {
            continue;
        }
        // A value that nearly all rows have may be that of all of them.
        let others = 1.0 - top_share(night, weeks, name).await?;
        for (age, n, _) in odd.into_iter().filter(|(_, n, _)| *n as f64 * others >= EXPECTED) {
            found.push(format!("{name} is the same in all {n} rows of {}", dated(night, *age)));
        }
    }
    let told = match found.is_empty() {
        true => String::new(),
        false => {
            format!("of {entity}, {}, and had several values on every day of the four weeks before", listed(&found))
        }
    };
    Ok(Some(Found { value: found.len() as f64, told }))
}

/// The share of the most frequent value of a column in the weeks before.
async fn top_share(night: &Night<'_>, weeks: &Weeks, column: &str) -> Result<f64, StageError> {
    let query = format!(
        "SELECT CAST(max(n) AS DOUBLE) / sum(n) AS share FROM (SELECT {} AS value, count(*) AS n FROM recent WHERE age >= {WEEK} GROUP BY 1)",
        quote(column)
    );
    let batch = weeks.ask(night, &query).await?;
    Ok(rows::floats(&batch, "share")?.first().copied().flatten().unwrap_or(1.0))
}

/// Days whose money is of another size.
async fn priced(night: &Night<'_>, entity: Entity, weeks: &Weeks) -> Result<Option<Found>, StageError> {
    if entity.amount().is_none() || !entity.clean_columns().iter().any(|column| column.name == "amount") {
        return Ok(None);
    }
    let query = format!(
        "SELECT age, CAST(median(amount) AS DOUBLE) AS middle FROM recent GROUP BY age HAVING count(*) >= {FEW} ORDER BY age"
    );
    let batch = weeks.ask(night, &query).await?;
    let (ages, middles) = (rows::integers(&batch, "age")?, rows::floats(&batch, "middle")?);
    let days: Vec<(i64, f64)> =
        ages.into_iter().zip(middles).filter_map(|(age, middle)| Some((age?, middle?))).collect();
    let before: Vec<f64> = days.iter().filter(|(age, _)| *age >= WEEK).map(|(_, middle)| *middle).collect();
    let median = robust::median_and_deviation(&before).map(|(median, _)| median);
    let Some(usual) = median.filter(|usual| before.len() >= KNOWN && *usual > 0.0) else { return Ok(None) };
    let alike = |middle: &f64| (usual / TIMES..=usual * TIMES).contains(middle);
    // Where days differ by so much of themselves, it says nothing.
    if !before.iter().all(alike) {
        return Ok(None);
    }
    let odd = days.iter().filter(|(age, middle)| *age < WEEK && !alike(middle));
    let found: Vec<String> =
        odd.map(|(age, middle)| format!("{} on {}", super::short(*middle), dated(night, *age))).collect();
    let told = match found.is_empty() {
        true => String::new(),
        false => format!(
            "the middle row of {entity} has an amount of {}, and of {} in the four weeks before",
            listed(&found),
            super::short(usual)
        ),
    };
    Ok(Some(Found { value: found.len() as f64, told }))
}

/// Rows by day, of one value or of all.
#[derive(Default)]
struct Days(BTreeMap<i64, i64>);

impl Days {
    fn of(&self, age: i64) -> i64 {
        self.0.get(&age).copied().unwrap_or(0)
    }

    /// Of the same days of the week before the newest day.
    fn alike(&self, newest: i64) -> Vec<i64> {
        (1..=BEFORE / 7).map(|weeks| self.of(newest + 7 * weeks)).collect()
    }

    fn usual(&self, newest: i64) -> f64 {
        let alike = self.alike(newest);
        alike.iter().sum::<i64>() as f64 / alike.len().max(1) as f64
    }
}

/// Rows by day, and by value of a column where one is named.
async fn by_day(
    night: &Night<'_>,
    weeks: &Weeks,
    column: Option<&str>,
) -> Result<BTreeMap<Option<String>, Days>, StageError> {
    let value = column.map_or("''".to_owned(), |column| format!("CAST({} AS VARCHAR)", quote(column)));
    let query = format!("SELECT {value} AS value, age, count(*) AS n FROM recent GROUP BY 1, 2 ORDER BY 1, 2");
    let batch = weeks.ask(night, &query).await?;
    let (values, ages) = (rows::texts(&batch, "value")?, rows::integers(&batch, "age")?);
    let mut days: BTreeMap<Option<String>, Days> = BTreeMap::new();
    for ((value, age), n) in values.into_iter().zip(ages).zip(rows::integers(&batch, "n")?) {
        if let (Some(age), Some(n)) = (age, n) {
            days.entry(value).or_default().0.insert(age, n);
        }
    }
    Ok(days)
}

/// The newest day of the last week that has rows, and the rows of all days.
struct Newest {
    age: i64,
    all: Days,
}

impl Newest {
    /// None where the last week has no row.
    async fn of(night: &Night<'_>, weeks: &Weeks) -> Result<Option<Self>, StageError> {
        let Some(all) = by_day(night, weeks, None).await?.into_values().next() else { return Ok(None) };
        let age = all.0.keys().next().copied().filter(|age| *age < WEEK);
        Ok(age.map(|age| Self { age, all }))
    }
}

/// How many days ago the newest day is.
fn lag(weeks: &Weeks) -> Option<Found> {
    weeks.newest.as_ref().map(|newest| Found { value: newest.age as f64, told: String::new() })
}

/// Values of columns of few that are missing on the newest day.
async fn values_gone(night: &Night<'_>, entity: Entity, weeks: &Weeks) -> Result<Option<Found>, StageError> {
    let Some(Newest { age: newest, all }) = &weeks.newest else { return Ok(None) };
    let newest = *newest;
    // A day that is shorter than others has less of everything.
    let scale = (all.of(newest) as f64 / all.usual(newest).max(1.0)).min(1.0);
    let mut found = Vec::new();
    for column in columns(night, entity).into_iter().filter(|name| LABELS.contains(&name.as_str())) {
        let values = by_day(night, weeks, Some(&column)).await?;
        if values.len() > VALUES {
            continue;
        }
        for (value, days) in values.iter().filter_map(|(value, days)| Some((value.as_ref()?, days))) {
            let expected = days.usual(newest) * scale;
            // It was there on each of these days of the week.
            let always = days.alike(newest).iter().all(|n| *n as f64 >= days.usual(newest) / 3.0);
            if always && expected >= 2.0 * EXPECTED && (days.of(newest) as f64) < expected / 50.0 {
                found.push(format!(
                    "{column} {value:?} has {} rows on {}, where {expected:.0} are usual",
                    days.of(newest),
                    dated(night, newest)
                ));
            }
        }
    }
    let told = if found.is_empty() { String::new() } else { format!("of {entity}, {}", listed(&found)) };
    Ok(Some(Found { value: found.len() as f64, told }))
}

/// Columns that say of what kind a row is.
const LABELS: [&str; 3] = ["channel", "category", "kind"];

/// Whether the newest day that is to be expected is short. On nights before it was at most the longest of `lags` days ago: where tonight's is
/// further back, a day is missing.
fn short(night: &Night<'_>, entity: Entity, weeks: &Weeks, lags: &[f64]) -> Option<Found> {
    let Newest { age, all } = weeks.newest.as_ref()?;
    let expected = lags.iter().copied().max_by(f64::total_cmp).map(|lag| lag as i64);
    let newest = expected.unwrap_or(*age);
    // How the days before lie beside the same days of the week among them.
    let weeks = newest + 1..=newest + BEFORE;
    let before: Vec<f64> = (weeks.clone())
        .filter_map(|age| {
            let alike: Vec<i64> = weeks
                .clone()
                .filter(|other| *other != age && (other - age) % 7 == 0)
                .map(|other| all.of(other))
                .collect();
            let usual = alike.iter().sum::<i64>() as f64 / alike.len().max(1) as f64;
            (usual >= FEW as f64).then(|| all.of(age) as f64 / usual)
        })
        .collect();
    let usual = all.usual(newest);
    let lowest = before.iter().copied().fold(f64::INFINITY, f64::min);
    let share = all.of(newest) as f64 / usual.max(1.0);
    let judged = before.len() >= KNOWN && all.alike(newest).iter().all(|n| *n >= FEW);
    let short = judged && share < SHORT[0] && share < SHORT[1] * lowest;
    let told = match short {
        true => {
            format!("{entity} have {} rows on {}, where {usual:.0} are usual", all.of(newest), dated(night, newest))
        }
        false => String::new(),
    };
    judged.then(|| Found { value: f64::from(u8::from(short)), told })
}
