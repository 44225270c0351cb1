//! Reconcile: the ledger, which proves that no row and no penny was lost or made.
//!
//! Reads `inputs` (what stands in the files), the clean tables and `quarantine` (what became of it). Writes `ledger`: per
//! source a total and a waterfall of its rules, as it stands in all and by how much that is more than on the parent night.
//! A night whose two sides differ fails, and so does one in which a rule of severity `fail` is broken.
//!
//! Of clean rows that the parent night had, its ledger tells the sums: only those that were added are read.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_contract::{Entity, Severity};

use crate::{Given, Night, Outcome, Output, Stage, StageError, StageFuture, rows};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "reconcile",
    purpose: "balances rows and money between the files and the clean tables",
    sources: false,
    reads: &[
        "inputs",
        "quarantine",
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "clean_marketing_costs",
    ],
    reads_previous: &["ledger", "quarantine"],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &["ledger"],
    settings: &[],
    decides: None,
    run,
};

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    reconcile(night).boxed()
}

/// Rows and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    rows: i64,
    amount: i128,
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, amount: self.amount + other.amount }
    }
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { rows: self.rows - other.rows, amount: self.amount - other.amount }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, Default)]
struct Line {
    source: &'static str,
    step: i32,
    rule: String,
    severity: Option<&'static str>,
    failed: Option<i64>,
    into: Count,
    clean: Count,
    repaired: Count,
    quarantined: Count,
    merged: Count,
    superseded: Count,
    after: Count,
}

async fn reconcile(night: &Night<'_>) -> Result<Outcome, StageError> {
    let mut lines = Vec::new();
    let before = Before::read(night).await?;
    for entity in Entity::ALL {
        if let Some(given) = night.availability.of(entity) {
            lines.extend(waterfall(night, entity, given, &before).await?);
        }
    }
    Ok(vec![Output::table(night, "ledger", frame(night, &lines, &before)?)?].into())
}

/// The parent night's ledger: counts by source, rule and column.
#[derive(Default)]
struct Before(HashMap<(String, String, &'static str), Count>);

/// The columns of the ledger that hold rows and money.
const PARTS: [&str; 7] = ["in", "clean", "repaired", "quarantined", "merged", "superseded", "after_as_of"];

impl Before {
    async fn read(night: &Night<'_>) -> Result<Self, StageError> {
        let Some(ledger) = night.previous.get("ledger") else { return Ok(Self::default()) };
        let batch = rows::collect(ledger.clone()).await?;
        let (sources, rules) = (rows::texts(&batch, "source")?, rows::texts(&batch, "rule")?);
        let mut all = HashMap::new();
        for part in PARTS {
            let counts = rows::integers(&batch, &format!("rows_{part}"))?;
            let amounts = rows::money(&batch, &format!("amount_{part}"))?;
            for ((source, rule), (rows, amount)) in sources.iter().zip(&rules).zip(counts.into_iter().zip(amounts)) {
                let key = (source.clone().unwrap_or_default(), rule.clone().unwrap_or_default(), part);
                all.insert(key, Count { rows: rows.unwrap_or(0), amount: amount.unwrap_or(0) });
            }
        }
        let failed = rows::integers(&batch, "rows_failed")?;
        for ((source, rule), failed) in sources.into_iter().zip(rules).zip(failed) {
            let key = (source.unwrap_or_default(), rule.unwrap_or_default(), "failed");
            all.insert(key, Count { rows: failed.unwrap_or(0), amount: 0 });
        }
        Ok(Self(all))
    }

    fn of(&self, source: &str, rule: &str, part: &'static str) -> Count {
        self.0.get(&(source.to_owned(), rule.to_owned(), part)).copied().unwrap_or_default()
    }
}

async fn waterfall(night: &Night<'_>, entity: Entity, given: &Given, before: &Before) -> Result<Vec<Line>, StageError> {
    let name = entity.name();

    let query = format!(
        "SELECT sum(rows) AS rows, sum(amount) AS amount, sum(rows_after_as_of) AS rows_after, \
         sum(amount_after_as_of) AS amount_after FROM inputs WHERE source = '{name}'"
    );
    let counted = rows::collect(night.sql(&query).await?).await?;
    let into = first(&counted, "rows", "amount")?;
    let after = first(&counted, "rows_after", "amount_after")?;

    let clean_table = night.given(&entity.clean_table())?;
    // What the parent night had, its ledger counted.
    let added = clean_table.added.as_ref().filter(|_| night.previous.contains_key("ledger"));
    let (looked_at, counted_before) = (added.unwrap_or(&clean_table.frame), added.is_some());
    let base = |rule: &str, part| if counted_before { before.of(name, rule, part) } else { Count::default() };
    let money = entity.amount().map_or("0".to_owned(), |a| format!("coalesce({a}, 0)"));
    // One pass over the clean rows; what rules did to them is looked up only if they did anything.
    let query = format!(
        "SELECT count(*) AS rows, sum({money}) AS amount, count(repaired_by) AS rows_repaired, \
         sum(CASE WHEN repaired_by IS NOT NULL THEN {money} END) AS amount_repaired FROM clean"
    );
    let counted = rows::collect(night.over(&query, &[("clean", looked_at)]).await?).await?;
    let clean = first(&counted, "rows", "amount")? + base("total", "clean");
    let repaired = first(&counted, "rows_repaired", "amount_repaired")? + base("total", "repaired");

    let query = format!(
        "SELECT rule, disposition, count(*) AS rows, sum(coalesce(amount, 0)) AS amount FROM quarantine \
         WHERE source = '{name}' GROUP BY rule, disposition"
    );
    let gone = rows::collect(night.sql(&query).await?).await?;
    let counts = counts(&gone)?;
    let mut left: HashMap<(String, String), Count> = HashMap::new();
    for ((rule, disposition), count) in
        rows::texts(&gone, "rule")?.into_iter().zip(rows::texts(&gone, "disposition")?).zip(counts)
    {
        left.insert((rule.unwrap_or_default(), disposition.unwrap_or_default()), count);
    }
    // Which rules rows failed: those that left say it, and those that are clean were warned.
    let mut failed = failed_of(night, name, night.input("quarantine")?).await?;
    let list = |column: &str| {
        format!("SELECT unnest({column}) AS rule, {money} AS money FROM clean WHERE {column} IS NOT NULL")
    };
    let warns: Vec<_> = given.rules.iter().filter(|r| r.severity == Severity::Warn).collect();
    if !warns.is_empty() {
        let warned = tally(night, &list("warned_by"), ("clean", looked_at)).await?;
        let gone_before = match night.previous.get("quarantine").filter(|_| counted_before) {
            Some(quarantine) => failed_of(night, name, quarantine).await?,
            None => HashMap::new(),
        };
        let of = |counts: &HashMap<String, Count>, rule: &str| counts.get(rule).copied().unwrap_or_default();
        for rule in warns.iter().map(|r| &r.name) {
            let warned_before = base(rule, "failed") - of(&gone_before, rule);
            let entry = failed.entry(rule.clone()).or_default();
            *entry = *entry + of(&warned, rule) + warned_before;
        }
    }
    let repairs = match repaired.rows > 0 {
        true => tally(night, &list("repaired_by"), ("clean", looked_at)).await?,
        false => HashMap::new(),
    };

    let of = |rule: &str, disposition: &str| {
        left.get(&(rule.to_owned(), disposition.to_owned())).copied().unwrap_or_default()
    };
    let total_of = |disposition: &str| {
        left.iter().filter(|((_, d), _)| d == disposition).fold(Count::default(), |sum, (_, c)| sum + *c)
    };
    let total = Line {
        source: name,
        rule: "total".into(),
        into,
        clean,
        repaired,
        quarantined: total_of("quarantined"),
        merged: total_of("merged"),
        superseded: total_of("superseded"),
        after,
        ..Line::default()
    };
    balanced(&total)?;

    let mut remaining = into - after;
    let mut lines = vec![total];
    lines.push(Line {
        source: name,
        step: 1,
        rule: "after_as_of".into(),
        into,
        clean: remaining,
        after,
        ..Line::default()
    });
    for (step, number) in given.rules.iter().zip(2..) {
        let failed = failed.get(&step.name).copied().unwrap_or_default();
        if step.severity == Severity::Fail && failed.rows > 0 {
            return Err(StageError::RuleBroken { entity: name.into(), rule: step.name.clone(), rows: failed.rows });
        }
        let (quarantined, merged, superseded) =
            (of(&step.name, "quarantined"), of(&step.name, "merged"), of(&step.name, "superseded"));
        let before = remaining;
        remaining = remaining - quarantined - merged - superseded;
        lines.push(Line {
            source: name,
            step: number,
            rule: step.name.clone(),
            severity: Some(severity(step.severity)),
            failed: (step.severity != Severity::Repair).then_some(failed.rows),
            into: before,
            clean: remaining,
            repaired: repairs.get(&step.name).copied().unwrap_or_default() + base(&step.name, "repaired"),
            quarantined,
            merged,
            superseded,
            after: Count::default(),
        });
    }
    if remaining != clean {
        return Err(unbalanced(name, remaining, clean, "the waterfall ends with", "the clean table holds"));
    }
    Ok(lines)
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warn => "warn",
        Severity::Repair => "repair",
        Severity::Quarantine => "quarantine",
        Severity::Fail => "fail",
        Severity::Merge => "merge",
        Severity::Supersede => "supersede",
    }
}

/// What stands in the files is what became of it.
fn balanced(total: &Line) -> Result<(), StageError> {
    let out = total.clean + total.quarantined + total.merged + total.superseded + total.after;
    if out == total.into {
        return Ok(());
    }
    Err(unbalanced(
        total.source,
        total.into,
        out,
        "the files hold",
        "clean, quarantined, merged, superseded and later rows make",
    ))
}

fn unbalanced(source: &str, a: Count, b: Count, left: &str, right: &str) -> StageError {
    let show = |c: Count| format!("{} rows and {}", c.rows, rows::show_money(c.amount));
    StageError::Unbalanced { source_name: source.to_owned(), what: format!("{left} {}, {right} {}", show(a), show(b)) }
}

fn first(batch: &arrow::array::RecordBatch, count: &str, amount: &str) -> Result<Count, StageError> {
    Ok(Count {
        rows: rows::integers(batch, count)?.first().copied().flatten().unwrap_or(0),
        amount: rows::money(batch, amount)?.first().copied().flatten().unwrap_or(0),
    })
}

fn counts(batch: &arrow::array::RecordBatch) -> Result<Vec<Count>, StageError> {
    let amounts = rows::money(batch, "amount")?;
    Ok(rows::integers(batch, "rows")?
        .into_iter()
        .zip(amounts)
        .map(|(rows, amount)| Count { rows: rows.unwrap_or(0), amount: amount.unwrap_or(0) })
        .collect())
}

/// How many rows of a source in a quarantine failed each rule.
async fn failed_of(
    night: &Night<'_>,
    source: &str,
    quarantine: &DataFrame,
) -> Result<HashMap<String, Count>, StageError> {
    let rules = format!("SELECT unnest(rules) AS rule, 0 AS money FROM quarantine WHERE source = '{source}'");
    tally(night, &rules, ("quarantine", quarantine)).await
}

/// Rows and money per name of a list column.
async fn tally(
    night: &Night<'_>,
    unnested: &str,
    table: (&str, &DataFrame),
) -> Result<HashMap<String, Count>, StageError> {
    let query = format!("SELECT rule, count(*) AS rows, sum(money) AS amount FROM ({unnested}) GROUP BY rule");
    let batch = rows::collect(night.over(&query, &[table]).await?).await?;
    let names = rows::texts(&batch, "rule")?;
    Ok(names.into_iter().map(Option::unwrap_or_default).zip(counts(&batch)?).collect())
}

fn frame(night: &Night<'_>, lines: &[Line], before: &Before) -> Result<DataFrame, StageError> {
    let text = |get: &dyn Fn(&Line) -> Option<String>| -> ArrayRef {
        Arc::new(lines.iter().map(get).collect::<StringArray>())
    };
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("source".into(), text(&|l| Some(l.source.to_owned()))),
        ("step".into(), Arc::new(lines.iter().map(|l| Some(l.step)).collect::<Int32Array>())),
        ("rule".into(), text(&|l| Some(l.rule.clone()))),
        ("severity".into(), text(&|l| l.severity.map(str::to_owned))),
        ("rows_failed".into(), Arc::new(lines.iter().map(|l| l.failed).collect::<Int64Array>())),
    ];
    let gets: [fn(&Line) -> Count; 7] =
        [|l| l.into, |l| l.clean, |l| l.repaired, |l| l.quarantined, |l| l.merged, |l| l.superseded, |l| l.after];
    let mut column = |name: String, counts: Vec<Count>| -> Result<(), StageError> {
        let rows: Int64Array = counts.iter().map(|c| Some(c.rows)).collect();
        columns.push((format!("rows_{name}"), Arc::new(rows)));
        columns.push((format!("amount_{name}"), rows::money_array(counts.iter().map(|c| Some(c.amount)).collect())?));
        Ok(())
    };
    for (name, get) in PARTS.into_iter().zip(gets) {
        column(name.to_owned(), lines.iter().map(get).collect())?;
        if !matches!(name, "repaired" | "after_as_of") {
            let change = |line: &Line| get(line) - before.of(line.source, &line.rule, name);
            column(format!("{name}_change"), lines.iter().map(change).collect())?;
        }
    }
    rows::frame(night.engine, columns.iter().map(|(name, array)| (name.as_str(), Arc::clone(array))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Given};

    #[test]
    fn a_penny_too_few_is_told() {
        let count = |rows, amount| Count { rows, amount };
        let line = Line {
            source: "transactions",
            into: count(3, 3_000_000),
            clean: count(2, 2_000_000),
            merged: count(1, 990_000),
            ..Line::default()
        };
        let error = balanced(&line).expect_err("a penny is missing").to_string();
        assert_eq!(
            error,
            "the ledger of transactions does not balance: the files hold 3 rows and 3.00, clean, quarantined, merged, \
             superseded and later rows make 3 rows and 2.99"
        );
        assert!(balanced(&Line { merged: count(1, 1_000_000), ..line }).is_ok());
    }

    const SOURCES: [(&str, &str); 1] = [("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")];
    const CLEAN: &str = "
        order_id | quantity | unit_price | amount
        O1       | 2        | 5.00       | 10.00
        O6       | 1        | 9.99       | 9.99";
    const ASIDE: &str = "
        source       | row | disposition | rule         | amount
        transactions | 2   | merged      | duplicate_of | 10.00
        transactions | 3   | quarantined | bad_quantity | 0.00";

    async fn ledger(amount: &str, previous: &[(&str, &str)]) -> String {
        let inputs = format!(
            "source       | file_id | rows | rows_after_as_of | amount   | amount_after_as_of
             transactions | 0       | 5    | 1                | {amount} | 9.99"
        );
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n[quality.rules.duplicate_of]\nentity = \"transactions\"\n\
                      severity = \"merge\"\norder = 900\nby = [\"order_id\"]\ndescription = \"d\"\n",
            as_of: "2025-04-01",
            sources: &SOURCES,
            tables: &[("clean_transactions", CLEAN), ("quarantine", ASIDE), ("inputs", &inputs)],
            previous,
            looks_at: &[(
                "ledger",
                "step rule rows_in rows_clean rows_quarantined rows_merged rows_after_as_of rows_clean_change amount_in amount_clean",
            )],
        };
        testing::check(&STAGE, given).await
    }

    #[tokio::test]
    async fn the_ledger_is_a_waterfall_that_balances() {
        insta::assert_snapshot!(ledger("39.98", &[]).await, @r"
        ledger
        step | rule                  | rows_in | rows_clean | rows_quarantined | rows_merged | rows_after_as_of | rows_clean_change | amount_in | amount_clean
        0    | total                 | 5       | 2          | 1                | 1           | 1                | 2                 | 39.980000 | 19.990000
        1    | after_as_of           | 5       | 4          | 0                | 0           | 1                | 4                 | 39.980000 | 29.990000
        10   | missing_order         | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        11   | missing_date          | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        12   | bad_quantity          | 4       | 3          | 1                | 0           | 0                | 3                 | 29.990000 | 29.990000
        13   | bad_price             | 3       | 3          | 0                | 0           | 0                | 3                 | 29.990000 | 29.990000
        14   | exact_duplicate       | 3       | 3          | 0                | 0           | 0                | 3                 | 29.990000 | 29.990000
        15   | duplicate_of          | 3       | 2          | 0                | 1           | 0                | 2                 | 29.990000 | 19.990000
        2    | malformed             | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        3    | unparsable_ordered_at | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        4    | unparsable_quantity   | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        5    | unparsable_unit_price | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        6    | lossy_quantity        | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        7    | lossy_unit_price      | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        8    | amount_out_of_range   | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        9    | missing_customer      | 4       | 4          | 0                | 0           | 0                | 4                 | 29.990000 | 29.990000
        ");
        insta::assert_snapshot!(ledger("39.97", &[]).await, @r"
        error: the ledger of transactions does not balance: the files hold 5 rows and 39.97, clean, quarantined, merged, superseded and later rows make 5 rows and 39.98
        ");
    }

    #[tokio::test]
    async fn what_is_more_than_on_the_parent_night_is_said() {
        let before = "
            source       | step | rule  | rows_clean | amount_clean
            transactions | 0    | total | 1          | 10.00";
        let all = ledger("39.98", &[("ledger", before)]).await;
        let total: Vec<_> = all.lines().filter(|l| l.starts_with("step") || l.contains("total")).collect();
        insta::assert_snapshot!(total.join("\n"), @r"
        step | rule                  | rows_in | rows_clean | rows_quarantined | rows_merged | rows_after_as_of | rows_clean_change | amount_in | amount_clean
        0    | total                 | 5       | 2          | 1                | 1           | 1                | 1                 | 39.980000 | 19.990000
        ");
    }
}
