//! Quality: what the night's rows are as a whole, before anything is made of them.
//!
//! Reads `inputs`, `quarantine`, `ledger` and the clean tables, and what published nights said. Writes `quality`: a row per check
//! of the project and entity that it looks at. A required check that fails holds the night, and the runner goes no further.
//!
//! What changes from night to night is held against nights that are published, and no others: a night that was held is nothing to
//! compare with. How far a value may lie from their median follows from how far these lie from it themselves.
//!
//! To add a check, add an entry under `[quality.checks]`.

mod days;
mod measures;

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
use futures::FutureExt;
use jiff::civil::Date;
use tessera_algo::robust;
use tessera_contract::{Check, Entity, Measure};
use tessera_engine::formula::{quote, stamp};

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

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    quality(night).boxed()
}

/// Whether a check counts rows.
fn counts(check: &Check) -> bool {
    check.expression.as_deref().is_some_and(|sql| sql.trim() == "count(*)")
}

/// A short hash of what a check measures: of other definitions the values are others.
fn definition(night: &Night<'_>, entity: Entity, check: &Check) -> String {
    let rule = check.rule.as_ref().map_or(String::new(), |rule| format!(" rule {rule}"));
    // Of other columns another number varies.
    let columns = match check.measure {
        Some(Measure::ColumnsVarying) => format!(" of {:?}", days::columns(night, entity)),
        _ => String::new(),
    };
    stamp(&format!("{:?} {:?} {:?}{rule}{columns}", check.measure, check.expression, check.days))
}

/// By what the history of a check is found.
fn key(night: &Night<'_>, name: &str, entity: Entity, check: &Check) -> (String, String, String) {
    (name.to_owned(), entity.name().to_owned(), definition(night, entity, check))
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
        let mine = |check: &Check| match &check.rule {
            Some(rule) => night.project.quality.rules.get(rule).is_some_and(|rule| rule.entity == entity),
            None => check.entity.as_ref().is_none_or(|name| name == entity.name()),
        };
        let checks: Vec<_> = night.project.checks().filter(|(_, check)| mine(check)).collect();
        let values = expressions(night, entity, &checks).await?;
        let weeks = match checks.iter().any(|(_, check)| check.measure.is_some_and(days::asks)) {
            true => Some(days::Weeks::of(night, entity).await?),
            false => None,
        };
        let lags = checks.iter().find(|(_, check)| check.measure == Some(Measure::NewestDay));
        let lags =
            lags.and_then(|(name, check)| history.get(&key(night, name, entity, check))).cloned().unwrap_or_default();
        for (name, check) in checks {
            let mut few = false;
            let found = match (check.measure, values.get(name)) {
                (Some(measure), _) => measures::measured(night, entity, measure, weeks.as_ref(), &lags).await?,
                (None, _) if check.rule.is_some() => {
                    measures::failing(night, entity, check.rule.as_deref().unwrap_or_default()).await?
                }
                (None, Some((value, rows))) => {
                    few = *rows < FEW && !counts(check);
                    let told = |value| format!("{name} of {entity} is {}", short(value));
                    value.map(|value| Found { value, told: told(value) })
                }
                // Nobody gives what it is made of.
                (None, None) => continue,
            };
            // What few rows add up to is beside nothing.
            let before = history.get(&key(night, name, entity, check)).filter(|_| !few).map_or(&[][..], Vec::as_slice);
            let bounds = Bounds::of(check, before, night.parent.is_some());
            table.push(row(night, name, entity, check, found, bounds));
        }
    }
    Ok(vec![Output::table(night, "quality", frame(night, &table)?)?].into())
}

fn row<'a>(
    night: &Night<'_>,
    check: &'a str,
    entity: Entity,
    entry: &Check,
    found: Option<Found>,
    bounds: Bounds,
) -> Row<'a> {
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
    if state == "fail" && (entry.expression.is_some() || bounds.median.is_some()) {
        told.push_str(&bounds.told());
    }
    Row { check, source: entity.name(), value, bounds, state, gate, told, definition: definition(night, entity, entry) }
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
        if check.as_before {
            high = high.map(|high| before.iter().copied().fold(high, f64::max));
        }
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

/// The first whole number of a column; none is 0.
fn first(batch: &arrow::array::RecordBatch, name: &str) -> Result<i64, StageError> {
    Ok(rows::integers(batch, name)?.first().copied().flatten().unwrap_or(0))
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
        let usual = entry("at_most = 0\nas_before = true");
        assert_eq!(Bounds::of(&usual, &[0.0, 1.0, 0.0], true).high, Some(1.0));
        assert_eq!(Bounds::of(&usual, &[], true).high, Some(0.0));
        let later = entry("at_most = 7\nafter_first = true");
        assert_eq!(Bounds::of(&later, &[], false).high, None);
        assert_eq!(Bounds::of(&later, &[], true).high, Some(7.0));
    }

    const INPUTS: &str = "
        source       | file    | rows | lacks
        transactions | 0.csv   | 0    |
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
        columns_new               | 0     |     | 0    | pass  | advisory |
        columns_varying           |       |     |      | info  | none     |
        day_short                 |       |     |      | info  | none     |
        days_constant             | 0     |     |      | info  | none     |
        days_priced               |       |     |      | info  | none     |
        files_gone                | 1     |     | 0    | fail  | required | 1 files of transactions that the last published night had are gone, and 400 rows with them: z.csv
        freshness                 | 12    |     |      | info  | none     | freshness of transactions is 12
        newest_day                |       |     |      | info  | none     |
        quarantined_share         | 0.3   |     | 0.25 | fail  | required | 30 % of the rows of transactions are quarantined, most of them by bad_price (80 of 300)
        quarantined_share_of_file | 0.6   |     | 0.5  | fail  | required | 60 % of the rows of c.csv are quarantined, most of them by bad_price (55)
        quarantined_share_of_new  |       |     | 0.25 | info  | required |
        recent_customers          | 1     |     |      | info  | none     | recent_customers of transactions is 1
        recent_revenue            | 10    |     |      | info  | none     | recent_revenue of transactions is 10
        recent_rows               | 1     |     |      | info  | none     | recent_rows of transactions is 1
        rows_kept                 |       | 0.8 |      | info  | required |
        values_gone               |       |     |      | info  | none     |
        ");
    }

    /// Five weeks of 120 lines a day on three channels; what the newest day is like is asked.
    fn weeks(newest: impl Fn(usize) -> Option<(&'static str, f64)>) -> String {
        let mut text = String::from("account_key | ordered_at | amount | channel | is_return");
        let first = jiff::civil::date(2025, 2, 25);
        for day in 0..35 {
            let date = first.saturating_add(jiff::Span::new().days(day));
            for line in 0..120 {
                let usual = (["web", "store", "app"][line % 3], 5.0 + (line % 7) as f64);
                let Some((channel, amount)) = (if day == 34 { newest(line) } else { Some(usual) }) else { continue };
                text.push_str(&format!("\na{} | {date}T10:00:00 | {amount} | {channel} | false", line % 11));
            }
        }
        text
    }

    async fn of_newest(newest: impl Fn(usize) -> Option<(&'static str, f64)>) -> String {
        let clean = weeks(newest);
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n[quality.checks]\nvalues_gone.after_first = false\nday_short.after_first = false\ndays_constant.after_first = false\ndays_priced.after_first = false\n",
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price,channel\n")],
            tables: &[("clean_transactions", &clean)],
            previous: &[],
            looks_at: &[("quality", "check state told")],
        };
        let found = testing::check(&STAGE, given).await;
        let failed = found.lines().filter(|line| line.contains("| fail"));
        failed.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(" | ") + "\n").collect()
    }

    #[tokio::test]
    async fn the_newest_day_is_held_against_those_before() {
        let usual = |line: usize| (["web", "store", "app"][line % 3], 5.0 + (line % 7) as f64);
        insta::assert_snapshot!(of_newest(|line| Some(usual(line))).await, @r"");
        insta::assert_snapshot!(of_newest(|line| Some(("web", usual(line).1))).await, @r#"values_gone | fail | of transactions, channel "app" has 0 rows on 2025-03-31, where 40 are usual, channel "store" has 0 rows on 2025-03-31, where 40 are usual"#);
        insta::assert_snapshot!(of_newest(|line| Some((usual(line).0, 100.0 * usual(line).1))).await, @r"days_priced | fail | the middle row of transactions has an amount of 800 on 2025-03-31, and of 8 in the four weeks before");
        insta::assert_snapshot!(of_newest(|line| Some(usual(line)).filter(|(channel, _)| *channel != "app")).await, @r"");
        insta::assert_snapshot!(of_newest(|line| Some(usual(line)).filter(|_| line % 2 == 0)).await, @r"day_short | fail | transactions have 60 rows on 2025-03-31, where 120 are usual");
    }

    /// Whoever sends everything every night, under the name of the day, sends a customer fewer some day.
    #[tokio::test]
    async fn a_dump_under_another_name_is_no_loss() {
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n",
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
            tables: &[("inputs", "source | file | rows\ntransactions | 0401.csv | 99")],
            previous: &[("inputs", "source | file | rows\ntransactions | 0331.csv | 100")],
            looks_at: &[("quality", "check state")],
        };
        let found = testing::check(&STAGE, given).await;
        let files = found.lines().find(|line| line.starts_with("files_gone"));
        assert!(files.is_some_and(|line| line.ends_with("pass")), "{found}");
    }
}
