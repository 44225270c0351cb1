//! Quality: what the night's rows are as a whole, before anything is made of them.
//!
//! Reads `inputs`, `quarantine`, `ledger` and the clean tables, and what published nights said. Writes `quality`: a row per check
//! of the project and entity that it looks at. A required check that fails holds the night, and the runner goes no further.
//!
//! What changes from night to night is held against nights that are published, and no others: a night that was held is nothing to
//! compare with. How far a value may lie from their median follows from how far these lie from it themselves.
//!
//! To add a check, add an entry under `[quality.checks]`.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
use futures::FutureExt;
use jiff::civil::Date;
use tessera_algo::robust;
use tessera_contract::{Check, Entity, Measure};
use tessera_engine::formula::{quote, stamp, text};

use crate::{Night, Outcome, Output, Stage, StageError, StageFuture, blame, in_short, rows};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "quality",
    purpose: "checks the night's rows as a whole, beside those of the nights before",
    sources: false,
    reads: &[
        "inputs",
        "quarantine",
        "ledger",
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "clean_marketing_costs",
    ],
    reads_previous: &["inputs"],
    reads_neighbours: &[],
    reads_history: &["quality"],
    writes: &["quality"],
    settings: &["quality.checks"],
    decides: Some("quality"),
    run,
};

/// Nights before this one that it is compared with lie in so many days.
const DAYS: i64 = 28;
/// Robust standard deviations within which a value lies as others do.
const SPREADS: f64 = 6.0;
/// Of fewer rows a share says nothing.
const FEW: i64 = 20;
/// Names in a sentence.
const SHOWN: usize = 3;

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    quality(night).boxed()
}

/// Whether a check counts rows.
fn counts(check: &Check) -> bool {
    check.expression.as_deref().is_some_and(|sql| sql.trim() == "count(*)")
}

/// A short hash of what a check measures: of other definitions the values are others.
fn definition(check: &Check) -> String {
    stamp(&format!("{:?} {:?} {:?}", check.measure, check.expression, check.days))
}

/// What was measured, and how it is told.
struct Found {
    value: f64,
    told: String,
}

/// A row of the table.
struct Row<'a> {
    check: &'a str,
    source: &'static str,
    value: Option<f64>,
    bounds: Bounds,
    state: &'static str,
    gate: &'static str,
    told: String,
    definition: String,
}

async fn quality(night: &Night<'_>) -> Result<Outcome, StageError> {
    let history = history(night).await?;
    let mut table = Vec::new();
    for entity in Entity::ALL.into_iter().filter(|entity| night.availability.of(*entity).is_some()) {
        let mine = |check: &Check| check.entity.as_ref().is_none_or(|name| name == entity.name());
        let checks: Vec<_> = night.project.checks().filter(|(_, check)| mine(check)).collect();
        let values = expressions(night, entity, &checks).await?;
        for (name, check) in checks {
            let mut few = false;
            let found = match (check.measure, values.get(name)) {
                (Some(measure), _) => measured(night, entity, measure).await?,
                (None, Some((value, rows))) => {
                    few = *rows < FEW && !counts(check);
                    let told = |value| format!("{name} of {entity} is {}", short(value));
                    value.map(|value| Found { value, told: told(value) })
                }
                // Nobody gives what it is made of.
                (None, None) => continue,
            };
            let key = (name.to_owned(), entity.name().to_owned(), definition(check));
            // What few rows add up to is beside nothing.
            let before = history.get(&key).filter(|_| !few).map_or(&[][..], Vec::as_slice);
            let bounds = Bounds::of(check, before, night.parent.is_some());
            table.push(row(name, entity, check, found, bounds));
        }
    }
    Ok(vec![Output::table(night, "quality", frame(night, &table)?)?].into())
}

fn row<'a>(check: &'a str, entity: Entity, entry: &Check, found: Option<Found>, bounds: Bounds) -> Row<'a> {
    let value = found.as_ref().map(|found| found.value);
    let asked = bounds.low.is_some() || bounds.high.is_some();
    let state = match value {
        // What cannot be measured does not pass.
        None if asked && entry.expression.is_some() => "fail",
        Some(value) if asked => {
            let passes = bounds.low.is_none_or(|low| value >= low) && bounds.high.is_none_or(|high| value <= high);
            if passes { "pass" } else { "fail" }
        }
        _ => "info",
    };
    let gate = match (asked, entry.required) {
        (false, _) => "none",
        (true, true) => "required",
        (true, false) => "advisory",
    };
    let mut told = found.map(|found| found.told).unwrap_or_else(|| match state {
        "fail" => format!("{check} of {entity} has no value"),
        _ => String::new(),
    });
    if state == "fail" && entry.measure.is_none() {
        told.push_str(&bounds.told());
    }
    Row { check, source: entity.name(), value, bounds, state, gate, told, definition: definition(entry) }
}

/// Between what a value passes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bounds {
    low: Option<f64>,
    high: Option<f64>,
    median: Option<f64>,
    nights: usize,
}

impl Bounds {
    /// Those of a check, after published nights with such values; `chained`, whether there is any night before.
    fn of(check: &Check, before: &[f64], chained: bool) -> Self {
        let fixed = |bound: Option<f64>| bound.filter(|_| chained || !check.after_first);
        let (mut low, mut high) = (fixed(check.at_least), fixed(check.at_most));
        let Some((median, deviation)) = robust::median_and_deviation(before) else {
            return Self { low, high, ..Self::default() };
        };
        // What is counted varies by the root of its number, however alike some nights were.
        let chance = if counts(check) { SPREADS * median.abs().sqrt() } else { 0.0 };
        let within = |share: f64| (share * median.abs()).max(SPREADS * deviation).max(chance);
        if let Some(falls) = check.falls {
            low = Some(low.unwrap_or(f64::NEG_INFINITY).max(median - within(falls)));
        }
        // Beside nothing, anything is a rise.
        if let Some(rises) = check.rises.filter(|_| median > 0.0) {
            high = Some(high.unwrap_or(f64::INFINITY).min(median + within(rises)));
        }
        Self { low, high, median: Some(median), nights: before.len() }
    }

    fn told(&self) -> String {
        let bound = match (self.low, self.high) {
            (Some(low), None) => format!("at least {}", short(low)),
            (None, Some(high)) => format!("at most {}", short(high)),
            (Some(low), Some(high)) => format!("{} to {}", short(low), short(high)),
            (None, None) => return String::new(),
        };
        let nights = match (self.median, self.nights) {
            (Some(median), 1) => format!("; it was {} on the night before", short(median)),
            (Some(median), nights) => format!("; the median of {nights} nights before is {}", short(median)),
            (None, _) => String::new(),
        };
        format!(", where {bound} is asked{nights}")
    }
}

/// A number for a sentence.
fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// By check, entity and definition, the values of the published nights of the weeks before.
async fn history(night: &Night<'_>) -> Result<BTreeMap<(String, String, String), Vec<f64>>, StageError> {
    let mut all: BTreeMap<(String, String, String), Vec<f64>> = BTreeMap::new();
    let recent = |date: Date| i64::from((night.as_of.date() - date).get_days()) <= DAYS;
    for (_, tables) in night.history.iter().filter(|(date, _)| recent(*date)) {
        let Some(said) = tables.get("quality") else { continue };
        let query = "SELECT \"check\", source, definition, value FROM said WHERE value IS NOT NULL";
        let batch = rows::collect(night.over(query, &[("said", said)]).await?).await?;
        let (checks, sources) = (rows::texts(&batch, "check")?, rows::texts(&batch, "source")?);
        let (definitions, values) = (rows::texts(&batch, "definition")?, rows::floats(&batch, "value")?);
        for (((check, source), definition), value) in checks.into_iter().zip(sources).zip(definitions).zip(values) {
            let key = (check.unwrap_or_default(), source.unwrap_or_default(), definition.unwrap_or_default());
            all.entry(key).or_default().extend(value);
        }
    }
    Ok(all)
}

/// The values of the checks that are SQL over the clean rows of an entity, and how many rows these are of, all of the same days in one
/// pass. Those over columns that nobody gives are left out.
async fn expressions<'a>(
    night: &Night<'_>,
    entity: Entity,
    checks: &[(&'a str, &Check)],
) -> Result<BTreeMap<&'a str, (Option<f64>, i64)>, StageError> {
    let absent = night.availability.absent(entity);
    let mut by_days: BTreeMap<Option<u32>, Vec<(&str, &str)>> = BTreeMap::new();
    for (name, check) in checks {
        let Some(expression) = &check.expression else { continue };
        let names = tessera_engine::formula::names(expression)?;
        if !absent.iter().any(|column| names.contains(*column)) {
            by_days.entry(check.days).or_default().push((name, expression));
        }
    }
    let mut found = BTreeMap::new();
    for (days, checks) in by_days {
        let clean = night.input(&entity.clean_table())?;
        let event = entity.event_time();
        let since = days.map_or(String::new(), |days| format!(" AND {event} >= as_of - INTERVAL '{days} days'"));
        let purchase = if entity == Entity::Transactions { ", NOT is_return AS purchase" } else { "" };
        let from =
            format!("(SELECT *{purchase} FROM clean WHERE NOT coalesce({}, false){since}) AS known", entity.after());
        let columns: Vec<_> =
            checks.iter().map(|(name, sql)| format!("CAST(({sql}) AS DOUBLE) AS {}", quote(name))).collect();
        let query = format!("SELECT count(*) AS \"rows\", {} FROM {from}", columns.join(", "));
        let tables = [("clean", clean)];
        let batch = match night.over(&query, &tables).await {
            Ok(frame) => rows::collect(frame).await?,
            Err(error) => {
                let entry =
                    |(name, sql): &(&str, &str)| (format!("quality.checks.{name}.expression"), (*sql).to_owned());
                let alone = |sql: &str| format!("SELECT CAST(({sql}) AS DOUBLE) FROM {from}");
                let names: Vec<_> = checks.iter().map(|(name, _)| *name).collect();
                let none = || StageError::Expression {
                    place: "quality.checks".to_owned(),
                    problem: format!("one of {} is no aggregate over all rows: {}", names.join(", "), in_short(&error)),
                };
                return Err(blame(night, checks.iter().map(entry).collect(), alone, &tables)
                    .await
                    .unwrap_or_else(none));
            }
        };
        for (name, _) in checks {
            found.insert(name, (rows::floats(&batch, name)?.first().copied().flatten(), first(&batch, "rows")?));
        }
    }
    Ok(found)
}

/// What a measure finds of an entity, where there is something to measure.
async fn measured(night: &Night<'_>, entity: Entity, measure: Measure) -> Result<Option<Found>, StageError> {
    match measure {
        Measure::FilesGone => files_gone(night, entity).await,
        Measure::ColumnsGone => columns_gone(night, entity).await,
        Measure::QuarantinedShare => quarantined(night, entity, false).await,
        Measure::QuarantinedShareOfNew => quarantined(night, entity, true).await,
        Measure::QuarantinedShareOfFile => quarantined_of_file(night, entity).await,
        Measure::RowsKept => kept(night, entity, "rows").await,
        Measure::AmountKept => kept(night, entity, "amount").await,
    }
}

async fn files_gone(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let Some(previous) = night.previous.get("inputs") else { return Ok(None) };
    let source = text(entity.name());
    let tables = [("previous", previous), ("inputs", night.input("inputs")?)];
    let files = async |these: &str, those: &str| {
        let of = |table| {
            format!("SELECT coalesce(feed, '') AS feed, file, bytes, rows FROM {table} WHERE source = {source}")
        };
        let query = format!(
            "SELECT a.file, a.bytes, a.rows FROM ({}) AS a LEFT ANTI JOIN ({}) AS b ON a.feed = b.feed AND a.file = b.file ORDER BY a.file",
            of(these),
            of(those)
        );
        let batch = rows::collect(night.over(&query, &tables).await?).await?;
        let names = rows::texts(&batch, "file")?.into_iter().map(Option::unwrap_or_default);
        let (bytes, count) = (rows::integers(&batch, "bytes")?, rows::integers(&batch, "rows")?);
        Ok::<_, StageError>(
            names
                .zip(bytes)
                .zip(count)
                .map(|((name, bytes), rows)| (name, bytes, rows.unwrap_or(0)))
                .collect::<Vec<_>>(),
        )
    };
    let query = format!(
        "SELECT i.file, p.rows - i.rows AS lost FROM previous AS p JOIN inputs AS i \
         ON coalesce(p.feed, '') = coalesce(i.feed, '') AND p.file = i.file AND p.source = i.source \
         WHERE p.source = {source} AND i.rows * 2 < p.rows ORDER BY i.file"
    );
    let emptied = rows::collect(night.over(&query, &tables).await?).await?;
    let lost: i64 = rows::integers(&emptied, "lost")?.into_iter().flatten().sum();
    let emptied: Vec<String> = rows::texts(&emptied, "file")?.into_iter().flatten().collect();
    let (mut gone, mut new) = (files("previous", "inputs").await?, files("inputs", "previous").await?);
    let known =
        rows::count(night, &night.over(&format!("SELECT 1 FROM previous WHERE source = {source}"), &tables).await?)
            .await?;
    let sum = |files: &[(String, Option<i64>, i64)]| files.iter().map(|(.., rows)| rows).sum::<i64>();
    if gone.len() as u64 == known && sum(&new) >= sum(&gone) {
        // Every night brings all of it under another name.
        gone.clear();
    }
    // A file that only changed its name is as large as it was.
    gone.retain(|(_, bytes, _)| match new.iter().position(|(_, other, _)| bytes.is_some() && other == bytes) {
        Some(at) => {
            new.swap_remove(at);
            false
        }
        None => true,
    });
    let value = gone.len() + emptied.len();
    let names: Vec<_> = gone.iter().map(|(name, ..)| name.clone()).collect();
    let mut found = Vec::new();
    if !gone.is_empty() {
        found.push(format!(
            "{} files of {entity} that the last published night had are gone, and {} rows with them: {}",
            gone.len(),
            sum(&gone),
            listed(&names)
        ));
    }
    if !emptied.is_empty() {
        found.push(format!(
            "{} files of {entity} have less than half of the rows that the last published night found there, {lost} fewer: {}",
            emptied.len(),
            listed(&emptied)
        ));
    }
    let told = found.join("; ");
    Ok(Some(Found { value: value as f64, told }))
}

async fn columns_gone(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let query = format!(
        "SELECT coalesce(feed, '') AS feed, file, lacks FROM inputs WHERE source = {} ORDER BY feed, file",
        text(entity.name())
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (feeds, files) = (rows::texts(&batch, "feed")?, rows::texts(&batch, "file")?);
    let lacks = rows::texts(&batch, "lacks")?;
    let lacking = |row: usize| lacks[row].as_deref().unwrap_or_default().split(", ").filter(|c| !c.is_empty());
    let mut found = Vec::new();
    for row in 0..files.len() {
        // A column that begins with a later file was never gone before it.
        let had =
            |column: &str| (0..row).any(|other| feeds[other] == feeds[row] && !lacking(other).any(|c| c == column));
        let gone: Vec<_> = lacking(row).filter(|column| had(column)).collect();
        if !gone.is_empty() {
            found.push(format!("{} lacks {}", files[row].as_deref().unwrap_or_default(), gone.join(", ")));
        }
    }
    let told = match found.is_empty() {
        true => String::new(),
        false => format!("{}, which files of {entity} before it have", listed(&found)),
    };
    Ok(Some(Found { value: found.len() as f64, told }))
}

async fn quarantined(night: &Night<'_>, entity: Entity, new: bool) -> Result<Option<Found>, StageError> {
    if new && night.parent.is_none() {
        return Ok(None);
    }
    let suffix = if new { "_change" } else { "" };
    let query = format!(
        "SELECT rule, step, rows_in{suffix} AS n, rows_quarantined{suffix} AS taken FROM ledger WHERE source = {} \
         ORDER BY step = 0 DESC, rows_quarantined{suffix} DESC, step",
        text(entity.name())
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (rules, taken) = (rows::texts(&batch, "rule")?, rows::integers(&batch, "taken")?);
    let (all, taken_in_all) = (first(&batch, "n")?, first(&batch, "taken")?);
    if all < FEW {
        return Ok(None);
    }
    let value = taken_in_all as f64 / all as f64;
    let which = if new { "the new rows" } else { "the rows" };
    let most = match (rules.get(1), taken.get(1).copied().flatten()) {
        (Some(Some(rule)), Some(rows)) if rows > 0 => format!(", most of them by {rule} ({rows} of {all})"),
        _ => String::new(),
    };
    Ok(Some(Found { value, told: format!("{} of {which} of {entity} are quarantined{most}", percent(value)) }))
}

async fn quarantined_of_file(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let source = text(entity.name());
    let query = format!(
        "SELECT q.file, q.rule, q.most, CAST(q.n AS DOUBLE) / i.rows AS share FROM \
         (SELECT feed, file, sum(n) AS n, max(n) AS most, first_value(rule ORDER BY n DESC, rule) AS rule FROM \
         (SELECT coalesce(feed, '') AS feed, file, rule, count(*) AS n FROM quarantine \
         WHERE source = {source} AND disposition = 'quarantined' GROUP BY 1, 2, 3) \
         GROUP BY 1, 2) AS q JOIN (SELECT coalesce(feed, '') AS feed, file, rows FROM inputs WHERE source = {source} AND rows >= {FEW}) AS i \
         ON q.feed = i.feed AND q.file = i.file ORDER BY share DESC, q.file LIMIT 1"
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let Some(share) = rows::floats(&batch, "share")?.first().copied().flatten() else { return Ok(None) };
    let word = |name: &str| Ok::<_, StageError>(rows::texts(&batch, name)?.pop().flatten().unwrap_or_default());
    let (file, rule, most) = (word("file")?, word("rule")?, first(&batch, "most")?);
    let told = format!("{} of the rows of {file} are quarantined, most of them by {rule} ({most})", percent(share));
    Ok(Some(Found { value: share, told }))
}

async fn kept(night: &Night<'_>, entity: Entity, what: &str) -> Result<Option<Found>, StageError> {
    if night.parent.is_none() || (what == "amount" && entity.amount().is_none()) {
        return Ok(None);
    }
    let query = format!(
        "SELECT CAST({what}_clean AS DOUBLE) AS now, CAST({what}_clean - {what}_clean_change AS DOUBLE) AS before \
         FROM ledger WHERE source = {} AND step = 0",
        text(entity.name())
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let one = |name: &str| Ok::<_, StageError>(rows::floats(&batch, name)?.first().copied().flatten().unwrap_or(0.0));
    let (now, before) = (one("now")?, one("before")?);
    if before <= 0.0 {
        return Ok(None);
    }
    let value = now / before;
    let unit = if what == "rows" { "rows" } else { "the amount" };
    let told = format!(
        "{entity} have {} of {unit} of the last published night: {} of {}",
        percent(value),
        short(now),
        short(before)
    );
    Ok(Some(Found { value, told }))
}

/// The first whole number of a column; none is 0.
fn first(batch: &arrow::array::RecordBatch, name: &str) -> Result<i64, StageError> {
    Ok(rows::integers(batch, name)?.first().copied().flatten().unwrap_or(0))
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > SHOWN { " …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

fn frame(night: &Night<'_>, table: &[Row<'_>]) -> Result<datafusion::prelude::DataFrame, StageError> {
    let words = |get: &dyn Fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(table.iter().map(get).map(|word| (!word.is_empty()).then_some(word)).collect::<StringArray>())
    };
    let floats = |get: &dyn Fn(&Row<'_>) -> Option<f64>| -> ArrayRef {
        Arc::new(table.iter().map(|row| get(row).filter(|value| value.is_finite())).collect::<Float64Array>())
    };
    rows::frame(
        night.engine,
        vec![
            ("check", words(&|r| r.check.to_owned())),
            ("source", words(&|r| r.source.to_owned())),
            ("value", floats(&|r| r.value)),
            ("median", floats(&|r| r.bounds.median)),
            ("nights", Arc::new(table.iter().map(|r| i32::try_from(r.bounds.nights).ok()).collect::<Int32Array>())),
            ("low", floats(&|r| r.bounds.low)),
            ("high", floats(&|r| r.bounds.high)),
            ("state", words(&|r| r.state.to_owned())),
            ("gate", words(&|r| r.gate.to_owned())),
            ("told", words(&|r| r.told.clone())),
            ("definition", words(&|r| r.definition.clone())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Given};

    fn entry(text: &str) -> Check {
        let project = format!("[quality.checks.x]\nexpression = \"count(*)\"\ndescription = \"x\"\n{text}\n");
        tessera_contract::Project::load("t", &project, &[]).expect("valid").quality.checks["x"].clone()
    }

    #[test]
    fn bounds_follow_from_how_far_published_nights_lie_apart() {
        let falls = entry("falls = 0.4\nat_least = 1");
        assert_eq!(Bounds::of(&falls, &[], false), Bounds { low: Some(1.0), ..Bounds::default() });
        let calm = Bounds::of(&falls, &[10_000.0, 10_001.0, 9_999.0], true);
        assert_eq!((calm.low, calm.high, calm.median, calm.nights), (Some(6_000.0), None, Some(10_000.0), 3));
        let few = Bounds::of(&entry("falls = 0.4\nrises = 2"), &[9.0], true);
        assert_eq!((few.low, few.high), (Some(9.0 - 18.0), Some(9.0 + 18.0)));
        assert_eq!(Bounds::of(&entry("rises = 2"), &[0.0, 0.0], true).high, None);
        // Deviations 0, 10, 10: six times 1.4826 of their median is further than two fifths.
        let wild = Bounds::of(&falls, &[100.0, 110.0, 90.0], true);
        assert!((wild.low.expect("a bound") - (100.0 - 6.0 * 1.4826 * 10.0)).abs() < 1e-3, "{wild:?}");
        let later = entry("at_most = 7\nafter_first = true");
        assert_eq!(Bounds::of(&later, &[], false).high, None);
        assert_eq!(Bounds::of(&later, &[], true).high, Some(7.0));
    }

    const INPUTS: &str = "
        source       | file    | rows | lacks
        transactions | a.csv   | 100  | discount
        transactions | b.csv   | 100  |
        transactions | c.csv   | 100  | unit_price, discount";
    const LEDGER: &str = "
        source       | step | rule      | rows_in | rows_quarantined | rows_in_change | rows_quarantined_change | rows_clean | rows_clean_change | amount_clean | amount_clean_change
        transactions | 0    | total     | 300     | 90               | 100            | 10                      | 210        | -90               | 1000.00      | 100.00
        transactions | 3    | bad_price | 300     | 80               | 100            | 10                      |            |                   |              |
        transactions | 4    | no_date   | 220     | 10               | 100            | 0                       |            |                   |              |";
    const CLEAN: &str = "
        account_key | ordered_at          | amount | is_return
        a           | 2025-03-20T00:00:00 | 10.00  | false
        a           | 2025-01-20T00:00:00 | 90.00  | false";

    /// A file of which most rows are set aside and that lacks a column which the one before it has, and a file that is gone.
    #[tokio::test]
    async fn a_night_is_looked_at_as_a_whole() {
        let quarantined: String = (0..60)
            .map(|row| {
                format!(
                    "\ntransactions | c.csv | {row} | quarantined | {}",
                    if row < 55 { "bad_price" } else { "no_date" }
                )
            })
            .collect();
        let quarantine = format!("source | file | row | disposition | rule{quarantined}");
        let previous = "source | file | rows\ntransactions | a.csv | 100\ntransactions | z.csv | 400";
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n",
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
            tables: &[
                ("inputs", INPUTS),
                ("ledger", LEDGER),
                ("quarantine", &quarantine),
                ("clean_transactions", CLEAN),
            ],
            previous: &[("inputs", previous)],
            looks_at: &[("quality", "check value low high state gate told")],
        };
        insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
        quality
        check                     | value | low | high | state | gate     | told
        amount_kept               |       | 0.8 |      | info  | required |
        columns_gone              | 1     |     | 0    | fail  | required | c.csv lacks unit_price, discount, which files of transactions before it have
        files_gone                | 1     |     | 0    | fail  | required | 1 files of transactions that the last published night had are gone, and 400 rows with them: z.csv
        freshness                 | 12    |     |      | info  | none     | freshness of transactions is 12
        quarantined_share         | 0.3   |     | 0.25 | fail  | required | 30 % of the rows of transactions are quarantined, most of them by bad_price (80 of 300)
        quarantined_share_of_file | 0.6   |     | 0.5  | fail  | required | 60 % of the rows of c.csv are quarantined, most of them by bad_price (55)
        quarantined_share_of_new  |       |     | 0.25 | info  | required |
        recent_revenue            | 10    |     |      | info  | none     | recent_revenue of transactions is 10
        recent_rows               | 1     |     |      | info  | none     | recent_rows of transactions is 1
        rows_kept                 |       | 0.8 |      | info  | required |
        ");
    }
}
