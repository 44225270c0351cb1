//! KPIs: one row per segment and KPI, and per KPI for the whole population.
//!
//! Reads `features`, `segments` and what accounts say of customers. Writes `kpis`. A KPI is a sum, or a ratio of two sums, of values
//! per customer, so the segments' numerators and denominators add up to the population's exactly. Intervals: Wilson for
//! shares, the delta method for ratios, with the customer as the unit. What stands for fewer people than the project's
//! threshold is not told (see [`crate::suppress`]): a row is, if all its sums are. Sums of one expression are hidden together, in
//! whichever KPIs they stand, and no two sums are told whose difference is of few.
//!
//! To add a KPI, add an entry under `[kpis]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use futures::FutureExt;
use tessera_algo::interval;
use tessera_contract::{Entity, Interval, Kpi, table::MONEY};
use tessera_engine::formula::{self, quote};

use crate::{
    Night, Outcome, Output, Stage, StageError, StageFuture, blame, rows,
    suppress::{self, Apart},
};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "kpis",
    purpose: "tracks the catalogue's KPIs per segment and for everybody",
    sources: false,
    reads: &["features", "segments", "clean_customers", "accounts"],
    reads_previous: &["kpis"],
    writes: &["kpis"],
    settings: &["kpis", "privacy"],
    run,
};

/// Below so many customers a value is published as uncertain.
const LOW_N: i64 = 30;

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    kpis(night).boxed()
}

/// A row of the table.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    segment: Option<i32>,
    kpi: String,
    value: Option<f64>,
    numerator: Option<i128>,
    denominator: Option<i128>,
    n: Option<i64>,
    low: Option<f64>,
    high: Option<f64>,
    previous: Option<f64>,
    state: &'static str,
}

async fn kpis(night: &Night<'_>) -> Result<Outcome, StageError> {
    let kpis: Vec<(&str, &Kpi)> = night.project.enabled_kpis().collect();
    let absent = night.availability.absent(Entity::Customers);
    let feature_names: Vec<_> = night.project.enabled_features().map(|(name, _)| name.to_owned()).collect();
    let missing = night.availability.missing_features(night.project)?;
    let customers = night.customers().await?;
    let attributes: String = customers
        .schema()
        .fields()
        .iter()
        .filter(|f| f.name() != "customer_key" && !feature_names.contains(f.name()))
        .map(|f| format!(", c.{0} AS {0}", quote(f.name())))
        .collect();

    // To the digits that the table has, before anything is added up: so the segments' sums are that of everybody.
    let exact = |e: &str| format!("CAST(coalesce({e}, 0) AS DECIMAL(38, 6))");
    let (mut columns, mut summed) = (String::new(), BTreeSet::new());
    let observed =
        |kpi: &Kpi| format!("CASE WHEN ({}) <> 0 THEN 1 ELSE 0 END", kpi.denominator.as_deref().unwrap_or("1"));
    for (name, kpi) in &kpis {
        let (x, y) = (&kpi.numerator, kpi.denominator.as_deref().unwrap_or("1"));
        columns.push_str(&format!(
            ", moments({}, {}) AS {}, count(*) FILTER (WHERE ({y}) <> 0) AS {}",
            exact(x),
            exact(y),
            quote(name),
            quote(&format!("{name} n"))
        ));
        summed.extend([x.clone(), y.to_owned(), observed(kpi)]);
    }
    let summed: Vec<String> = summed.into_iter().collect();
    for (at, sum) in summed.iter().enumerate() {
        columns.push_str(&format!(", count(*) FILTER (WHERE {} <> 0) AS {}", exact(sum), people(at)));
    }
    let pairs = || (0..summed.len()).flat_map(|b| (0..b).map(move |a| [a, b]));
    for [a, b] in pairs() {
        let differ = format!("{} <> {}", exact(&summed[a]), exact(&summed[b]));
        columns.push_str(&format!(", count(*) FILTER (WHERE {differ}) AS {}", apart(a, b)));
    }
    let joined = format!(
        "(SELECT f.*, s.segment_id{attributes} FROM features AS f JOIN segments AS s ON f.customer_key = s.customer_key \
         LEFT JOIN customers AS c ON f.customer_key = c.customer_key)"
    );
    let query = format!(
        "SELECT segment_id{columns} FROM {joined} GROUP BY GROUPING SETS ((segment_id), ()) ORDER BY segment_id NULLS FIRST"
    );
    let tables =
        [("features", night.input("features")?), ("segments", night.input("segments")?), ("customers", &customers)];
    let result = match night.over(&query, &tables).await {
        Ok(result) => result,
        Err(error) => {
            let mut entries = Vec::new();
            for (name, kpi) in &kpis {
                entries.push((format!("kpis.{name}.numerator"), kpi.numerator.clone()));
                if let Some(denominator) = &kpi.denominator {
                    entries.push((format!("kpis.{name}.denominator"), denominator.clone()));
                }
            }
            let alone =
                |expression: &str| format!("SELECT CAST(coalesce({expression}, 0) AS DECIMAL(38, 6)) FROM {joined}");
            return Err(blame(night, entries, alone, &tables).await.unwrap_or(error));
        }
    };
    let batch = rows::collect(result).await?;
    let segments = rows::integers(&batch, "segment_id")?;
    let previous = previous(night).await?;
    let of_segments: Vec<usize> = (0..segments.len()).filter(|i| segments[*i].is_some()).collect();
    let counts = |column: String| -> Result<Vec<i64>, StageError> {
        let all = rows::integers(&batch, &column)?;
        Ok(of_segments.iter().map(|i| all[*i].unwrap_or(0)).collect())
    };
    let people = (0..summed.len()).map(|at| counts(people(at))).collect::<Result<Vec<_>, _>>()?;
    let apart = pairs().map(|[a, b]| Ok(Apart { sums: [a, b], people: counts(apart(a, b))? }));
    let apart = apart.collect::<Result<Vec<_>, StageError>>()?;
    let mut hidden: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for (sum, found) in summed.iter().zip(suppress::hidden_together(&people, &apart, night.project.privacy.k)) {
        let mut rows = vec![found.total; segments.len()];
        of_segments.iter().zip(found.groups).for_each(|(i, hidden)| rows[*i] = hidden);
        hidden.insert(sum, rows);
    }

    let mut table: Vec<Row> = Vec::new();
    for (name, kpi) in &kpis {
        let words = formula::names(&format!("{} {}", kpi.numerator, kpi.denominator.as_deref().unwrap_or_default()))?;
        let available = !absent.iter().any(|c| words.contains(*c) && !feature_names.iter().any(|feature| feature == c))
            && !words.iter().any(|w| missing.contains_key(w));
        let moments = rows::fields(&batch, name)?;
        let (counted, observed) = (observed(kpi), rows::integers(&batch, &format!("{name} n"))?);
        let (x, y) = (rows::money(&moments, "sum_x")?, rows::money(&moments, "sum_y")?);
        let spread = ["n", "var_x", "var_y", "cov"].map(|field| rows::floats(&moments, field));
        let [n, var_x, var_y, cov] = spread;
        let (n, var_x, var_y, cov) = (n?, var_x?, var_y?, cov?);
        let of = [kpi.numerator.as_str(), kpi.denominator.as_deref().unwrap_or("1")];
        let rows = (0..batch.num_rows()).map(|i| {
            let sums = Sums {
                customers: n[i].unwrap_or(0.0),
                x: x[i].unwrap_or(0),
                y: y[i].unwrap_or(0),
                var_x: var_x[i].unwrap_or(0.0),
                var_y: var_y[i].unwrap_or(0.0),
                cov: cov[i].unwrap_or(0.0),
                observed: observed[i].unwrap_or(0),
            };
            let segment = segments[i].and_then(|s| i32::try_from(s).ok());
            if available && of.iter().any(|sum| hidden[sum][i]) {
                return Row { segment, kpi: (*name).to_owned(), state: "suppressed", ..Row::default() };
            }
            let mut row = row(name, kpi, segment, &sums, available);
            row.n = row.n.filter(|_| !hidden[counted.as_str()][i]);
            if segment.is_none() {
                row.previous = previous.iter().find(|(kpi, _)| kpi == name).and_then(|(_, v)| *v);
            }
            row
        });
        table.extend(rows);
    }
    Ok(vec![Output::table(night, "kpis", frame(night, &table)?)?].into())
}

/// The sums behind a KPI in one segment.
struct Sums {
    customers: f64,
    x: i128,
    y: i128,
    var_x: f64,
    var_y: f64,
    cov: f64,
    observed: i64,
}

fn row(name: &str, kpi: &Kpi, segment: Option<i32>, sums: &Sums, available: bool) -> Row {
    let empty = Row { segment, kpi: name.to_owned(), state: "not_available", ..Row::default() };
    if !available {
        return empty;
    }
    let unit = 10_f64.powi(i32::from(MONEY.1));
    let (x, y) = (sums.x as f64 / unit, sums.y as f64 / unit);
    let offset = f64::from(kpi.offset);
    let ratio = kpi.denominator.is_some();
    let value = match ratio {
        true => (sums.y != 0).then(|| x / y + offset),
        false => Some(x + offset),
    };
    let bounds = match kpi.interval {
        Interval::Wilson if sums.y > 0 => Some(interval::wilson(y, x)),
        Interval::Ratio if ratio => {
            interval::ratio(sums.customers, x / sums.customers, y / sums.customers, sums.var_x, sums.var_y, sums.cov)
        }
        _ => None,
    };
    Row {
        value,
        numerator: Some(sums.x),
        denominator: ratio.then_some(sums.y),
        n: Some(sums.observed),
        low: bounds.map(|(low, _)| low + offset).filter(|_| value.is_some()),
        high: bounds.map(|(_, high)| high + offset).filter(|_| value.is_some()),
        state: if sums.observed < LOW_N { "low_n" } else { "ok" },
        ..empty
    }
}

/// The column that counts the people behind a sum.
fn people(sum: usize) -> String {
    format!("people_{sum}")
}

/// The column that counts the people whose values of two sums differ.
fn apart(a: usize, b: usize) -> String {
    format!("apart_{a}_{b}")
}

/// The population's values of the last published night.
async fn previous(night: &Night<'_>) -> Result<Vec<(String, Option<f64>)>, StageError> {
    let Some(previous) = night.previous.get("kpis") else { return Ok(Vec::new()) };
    let frame =
        night.over("SELECT kpi, value FROM previous WHERE segment_id IS NULL", &[("previous", previous)]).await?;
    let batch = rows::collect(frame).await?;
    let names = rows::texts(&batch, "kpi")?.into_iter().map(Option::unwrap_or_default);
    Ok(names.zip(rows::floats(&batch, "value")?).collect())
}

fn frame(night: &Night<'_>, table: &[Row]) -> Result<datafusion::prelude::DataFrame, StageError> {
    let floats =
        |get: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(table.iter().map(get).collect::<Float64Array>()) };
    rows::frame(
        night.engine,
        vec![
            ("segment_id", Arc::new(table.iter().map(|r| r.segment).collect::<Int32Array>())),
            ("kpi", Arc::new(table.iter().map(|r| Some(r.kpi.as_str())).collect::<StringArray>())),
            ("value", floats(|r| r.value)),
            ("numerator", rows::money_array(table.iter().map(|r| r.numerator).collect())?),
            ("denominator", rows::money_array(table.iter().map(|r| r.denominator).collect())?),
            ("n", Arc::new(table.iter().map(|r| r.n).collect::<Int64Array>())),
            ("ci_low", floats(|r| r.low)),
            ("ci_high", floats(|r| r.high)),
            ("previous", floats(|r| r.previous)),
            // No night is declared to compare with.
            ("baseline", floats(|_| None)),
            ("state", Arc::new(table.iter().map(|r| Some(r.state)).collect::<StringArray>())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Given};

    /// Two segments whose numerators add up to those of everybody; at a threshold of three of these four people, nothing is told.
    #[tokio::test]
    async fn segments_add_up_and_the_few_are_not_told() {
        let features = "
            customer_key | frequency | spend_last90 | returns_last90 | orders_last90 | spend_prior90 | returns_prior90 | orders_prior90
            A            | 4         | 40.00        | 1.50           | 2             | 20.00         | 0               | 1
            B            | 1         | 10.00        | 0              | 1             | 0             | 0               | 0
            C            | 2         | 0            | 0              | 0             | 15.00         | 0               | 2
            D            | 1         | 7.25         | 0              | 1             | 5.00          | 5.00            | 1";
        let kpis = async |segments: &str, k: u32| {
            let project = format!("[sources.transactions]\nurl = \"transactions.csv\"\n[privacy]\nk = {k}\n");
            let given = Given {
                project: &project,
                as_of: "2025-04-01",
                sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
                tables: &[("features", features), ("segments", segments)],
                previous: &[("kpis", "segment_id | kpi | value\n | revenue | 50")],
                looks_at: &[("kpis", "segment_id kpi value numerator denominator n previous state")],
            };
            let all = testing::check(&STAGE, given).await;
            let wanted = ["segment_id", "| revenue ", "| retention_rate", "| average_order_value"];
            all.lines().filter(|l| wanted.iter().any(|w| l.contains(w))).collect::<Vec<_>>().join("\n")
        };
        let halves = "customer_key | segment_id\nA | 0\nB | 0\nC | 1\nD | 1";
        insta::assert_snapshot!(kpis(halves, 1).await, @r"
        segment_id | kpi                 | value     | numerator | denominator | n | previous | state
                   | average_order_value | 13.9375   | 55.750000 | 4.000000    | 3 |          | low_n
                   | retention_rate      | 0.666667  | 2.000000  | 3.000000    | 3 |          | low_n
                   | revenue             | 55.75     | 55.750000 |             | 4 | 50       | low_n
        0          | average_order_value | 16.166667 | 48.500000 | 3.000000    | 2 |          | low_n
        0          | retention_rate      | 1         | 1.000000  | 1.000000    | 1 |          | low_n
        0          | revenue             | 48.5      | 48.500000 |             | 2 |          | low_n
        1          | average_order_value | 7.25      | 7.250000  | 1.000000    | 1 |          | low_n
        1          | retention_rate      | 0.5       | 1.000000  | 2.000000    | 2 |          | low_n
        1          | revenue             | 7.25      | 7.250000  |             | 2 |          | low_n
        ");
        insta::assert_snapshot!(kpis(halves, 3).await, @r"
        segment_id | kpi                 | value | numerator | denominator | n | previous | state
                   | average_order_value |       |           |             |   |          | suppressed
                   | retention_rate      |       |           |             |   |          | suppressed
                   | revenue             |       |           |             |   |          | suppressed
        0          | average_order_value |       |           |             |   |          | suppressed
        0          | retention_rate      |       |           |             |   |          | suppressed
        0          | revenue             |       |           |             |   |          | suppressed
        1          | average_order_value |       |           |             |   |          | suppressed
        1          | retention_rate      |       |           |             |   |          | suppressed
        1          | revenue             |       |           |             |   |          | suppressed
        ");
    }
}
