//! KPIs: one row per segment and KPI, and per KPI for everybody; the same by campaign, channel and cohort; and the profiles of the segments.
//!
//! Reads `features`, `segments`, `customer_value` and what accounts say of customers, of this night and of published ones. Writes `kpis`,
//! `kpi_breakdowns` and `segment_profiles`. A KPI is a sum, or a ratio of two sums, of values per customer, so the segments' numerators and denominators
//! add up to the population's exactly. Intervals: Wilson for shares, the delta method for ratios, with the customer as the unit.
//! What stands for fewer people than the project's threshold is not told (see [`crate::suppress`]): a row is, if all its sums are.
//!
//! To add a KPI, add an entry under `[kpis]`; to tell one by campaign or channel, one under `[breakdowns]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_contract::{AsOf, Entity, Kpi, Whose, project::Gate};
use tessera_engine::formula::{self, quote};

use crate::{
    Night, Outcome, Output, Stage, StageError, StageFuture, blame,
    breakdowns::Breakdowns,
    figures::{self, Behind, Field, Moments, NOBODYS, Sums, Told, counted, exact, of_customers},
    profile, rows, validate,
};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "kpis",
    purpose: "tracks the catalogue's KPIs per segment and for everybody, by campaign, channel and cohort, and profiles the segments",
    sources: false,
    reads: &[
        "features",
        "prospects",
        "segments",
        "clean_customers",
        "clean_campaign_contacts",
        "clean_interactions",
        "clean_survey_responses",
        "clean_marketing_costs",
        "accounts",
        "golden_records",
        "customer_value",
    ],
    reads_previous: &["kpis", "segment_lineage"],
    reads_neighbours: &[
        "kpis",
        "kpi_breakdowns",
        "segment_profiles",
        "features",
        "prospects",
        "segments",
        "clean_campaign_contacts",
        "clean_interactions",
        "clean_survey_responses",
        "clean_customers",
        "accounts",
        "golden_records",
        "customer_value",
    ],
    reads_history: &["kpis", "segment_lineage"],
    writes: &["kpis", "kpi_breakdowns", "segment_profiles"],
    settings: &["project.objective", "kpis", "breakdowns", "comparison", "privacy"],
    decides: None,
    run,
};

/// Below so many customers a value is published as uncertain.
pub(crate) const LOW_N: i64 = 30;

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
    year_ago: Option<f64>,
    baseline: Option<f64>,
    target: Option<f64>,
    benchmark: Option<f64>,
    state: &'static str,
    /// What the gate by its name asks for, what it says, and whether it holds the night.
    gate: Option<(Option<f64>, &'static str, &'static str)>,
}

/// The gate of a KPI, asked of the whole population.
fn gate(kpi: &Kpi) -> Option<Gate> {
    let (at_least, at_most, required) = (kpi.at_least, kpi.at_most, kpi.required);
    (at_least.is_some() || at_most.is_some()).then(|| Gate { at_least, at_most, required, ..Gate::default() })
}

/// What the gate of a KPI says of its value, of which nothing else may be told.
fn asked(kpi: &Kpi, value: Option<f64>) -> Option<(Option<f64>, &'static str, &'static str)> {
    let gate = gate(kpi)?;
    let (state, threshold, required) = validate::verdict(Some(&gate), value);
    Some((threshold, state, required))
}

async fn kpis(night: &Night<'_>) -> Result<Outcome, StageError> {
    let kpis: Vec<(&str, &Kpi)> = night.project.enabled_kpis().collect();
    let absent = night.availability.absent(Entity::Customers);
    let feature_names: Vec<_> = night.project.enabled_features().map(|(name, _)| name.to_owned()).collect();
    let missing = night.availability.missing_features(night.project)?;

    let mut sums = Sums::new(night).await?;
    let tables = sums.people().tables();
    let mut all: Vec<&str> = kpis.iter().flat_map(|(_, kpi)| [kpi.numerator.as_str(), denominator(kpi)]).collect();
    all.extend(kpis.iter().flat_map(|(_, kpi)| &kpi.factors).filter_map(|factor| factor.of.as_deref()));
    let joined = |expressions: &[&str]| sums.people().joined(night, expressions);
    if let Err(error) = night.over(&format!("SELECT 1{} FROM {}", figures::columns(&all), joined(&all)), &tables).await
    {
        let mut entries = Vec::new();
        for (name, kpi) in &kpis {
            entries.push((format!("kpis.{name}.numerator"), kpi.numerator.clone()));
            if let Some(denominator) = &kpi.denominator {
                entries.push((format!("kpis.{name}.denominator"), denominator.clone()));
            }
            let factors = kpi.factors.iter().filter_map(|factor| factor.of.clone());
            entries.extend(factors.map(|of| (format!("kpis.{name}.factors"), of)));
        }
        let alone = |expression: &str| format!("SELECT {} FROM {}", exact(expression), joined(&[expression]));
        return Err(blame(night, entries, alone, &tables).await.unwrap_or(error));
    }
    let mut available = BTreeSet::new();
    // Of what is not predicted there is no sum.
    let (refused, tried) = refused(night).await?;
    let mut unknown = BTreeMap::new();
    let mut moments = Vec::new();
    for (name, kpi) in &kpis {
        let (x, y) = (kpi.numerator.as_str(), denominator(kpi));
        let words = formula::names(&format!("{x} {y}"))?;
        if words.iter().any(|w| {
            missing.contains_key(w) || absent.contains(&w.as_str()) && !feature_names.iter().any(|feature| feature == w)
        }) {
            continue;
        }
        if let Some(word) = words.iter().find(|w| refused.contains(w.as_str()) && !feature_names.contains(w)) {
            let state = if tried { "not_identifiable" } else { "not_available" };
            tracing::debug!("{name} is {state}: {word} is not predicted");
            unknown.insert(*name, state);
            continue;
        }
        available.insert(*name);
        moments.push((of(name), format!("{}, {}", exact(x), exact(y)), kpi.population));
        let told =
            |column| Told { table: "kpis", of: (*name).to_owned(), column, total: None, segments: true, rank: 2 };
        let behind = |field| Behind { column: of(name), field };
        let [x, y] = added(kpi);
        sums.add(&x, behind(Field::X), told("numerator"));
        sums.add(&y, behind(Field::Y), told("denominator"));
        sums.add(&counted(&y), behind(Field::SomeY), told("n"));
    }
    profile::tell(night, &mut sums);
    moments.extend(profile::moments(night).into_iter().map(|(name, of)| (name, of, Whose::Customers)));
    let breakdowns = Breakdowns::find(night, &mut sums).await?;
    breakdowns.tell(&mut sums);
    // Everybody is the segments together: no row is added up twice.
    let (mut parts, mut whole) = (String::new(), String::new());
    for (name, arguments, whose) in &moments {
        let name = quote(name);
        let whose = match whose {
            Whose::Customers if sums.people().has_prospects() => " FILTER (WHERE segment_id >= 0)",
            _ => "",
        };
        parts.push_str(&format!(", moments_state({arguments}){whose} AS {name}"));
        whole.push_str(&format!(", moments_merge({name}) AS {name}"));
    }
    let query = format!(
        "SELECT segment_id, sum(members) AS members{whole} FROM (SELECT segment_id, count(*) AS members{parts} FROM {} GROUP BY segment_id) \
         GROUP BY GROUPING SETS ((segment_id), ()) ORDER BY segment_id NULLS FIRST",
        sums.people().everybody(night, &moments.iter().map(|(_, of, _)| of.as_str()).collect::<Vec<_>>())
    );
    let batch = rows::collect(night.over(&query, &sums.people().tables()).await?).await?;
    let batch = breakdowns.counted(night, &sums, batch).await?;
    let segments = rows::integers(&batch, "segment_id")?;
    let before = earlier(night, Some(&night.previous)).await?;
    let mut dated = Vec::new();
    for date in compared(night.project, night.as_of) {
        let then = night.history.iter().find(|(night, _)| Some(*night) == date).map(|(_, tables)| tables);
        dated.push(earlier(night, then).await?);
    }
    let verdict = sums.verdict(&batch).await?;

    let mut table: Vec<Row> = Vec::new();
    for (name, kpi) in &kpis {
        if !available.contains(name) {
            let none = |segment: &Option<i64>| {
                let segment = segment.and_then(|s| i32::try_from(s).ok());
                let gate = asked(kpi, None).filter(|_| segment.is_none());
                let state = unknown.get(name).copied().unwrap_or("not_available");
                Row { segment, kpi: (*name).to_owned(), state, gate, ..Row::default() }
            };
            table.extend(segments.iter().filter(|segment| **segment != Some(NOBODYS)).map(none));
            continue;
        }
        let moments = Moments::all(&batch, &of(name))?;
        let behind = added(kpi);
        let counted = counted(&behind[1]);
        let rows = (0..batch.num_rows()).filter(|i| segments[*i] != Some(NOBODYS)).map(|i| {
            let segment = segments[i].and_then(|s| i32::try_from(s).ok());
            let mut row = row(name, kpi, segment, &moments[i]);
            row.gate = asked(kpi, row.value).filter(|_| segment.is_none());
            if behind.iter().any(|sum| verdict.hides(sum, segments[i])) {
                return Row { segment, kpi: (*name).to_owned(), state: "suppressed", gate: row.gate, ..Row::default() };
            }
            row.n = row.n.filter(|_| !verdict.hides(&counted, segments[i]));
            let of = |values: &Values| values.get(&(segment, (*name).to_owned())).copied().flatten();
            (row.previous, row.year_ago, row.baseline) = (of(&before), of(&dated[0]), of(&dated[1]));
            (row.target, row.benchmark) = (kpi.target, kpi.benchmark);
            row
        });
        table.extend(rows);
    }
    let profiles = profile::profiles(night, &sums, &batch, &verdict).await?;
    let broken_down = breakdowns.table(night, &batch, &verdict)?;
    Ok(vec![
        Output::table(night, "kpis", frame(night, &table)?)?,
        Output::table(night, "kpi_breakdowns", broken_down)?,
        Output::table(night, "segment_profiles", profiles)?,
    ]
    .into())
}

/// The columns of `customer_value` that hold no prediction, and whether there was to be one.
async fn refused(night: &Night<'_>) -> Result<(BTreeSet<String>, bool), StageError> {
    let value = night.input("customer_value")?;
    let batch = rows::collect(night.sql("SELECT DISTINCT basis FROM customer_value ORDER BY basis").await?).await?;
    let bases: Vec<String> = rows::texts(&batch, "basis")?.into_iter().flatten().collect();
    let predicted = |column: &str| match column {
        "expected_order_value" | "clv" => bases.iter().any(|basis| basis == "predicted"),
        _ => bases.iter().any(|basis| basis != "historical"),
    };
    let columns = value.schema().fields().iter().map(|f| f.name().clone());
    Ok((columns.filter(|name| name != "customer_key" && !predicted(name)).collect(), !bases.is_empty()))
}

/// The column of a KPI's moments.
fn of(kpi: &str) -> String {
    format!("kpi {kpi}")
}

/// What a KPI is a ratio to.
fn denominator(kpi: &Kpi) -> &str {
    kpi.denominator.as_deref().unwrap_or("1")
}

/// What is added up of everybody.
pub(crate) fn added(kpi: &Kpi) -> [String; 2] {
    [kpi.numerator.as_str(), denominator(kpi)].map(|sum| whose(kpi, sum))
}

/// A sum of those whom a KPI is of.
pub(crate) fn whose(kpi: &Kpi, sum: &str) -> String {
    match kpi.population {
        Whose::Customers => of_customers(sum),
        Whose::Everybody => sum.to_owned(),
    }
}

fn row(name: &str, kpi: &Kpi, segment: Option<i32>, sums: &Moments) -> Row {
    let offset = f64::from(kpi.offset);
    let ratio = kpi.denominator.is_some();
    let value = match ratio {
        true => sums.ratio().map(|ratio| ratio + offset),
        false => Some(sums.sums().0 + offset),
    };
    let bounds = sums.bounds(kpi.interval).filter(|_| ratio && value.is_some());
    Row {
        value,
        numerator: Some(sums.x),
        denominator: ratio.then_some(sums.y),
        n: Some(sums.some_y),
        low: bounds.map(|(low, _)| low + offset),
        high: bounds.map(|(_, high)| high + offset),
        state: if sums.some_y < LOW_N { "low_n" } else { "ok" },
        segment,
        kpi: name.to_owned(),
        ..Row::default()
    }
}

/// The nights that a night is compared with beside the one before: that of its date a year before, and the declared one.
#[must_use]
pub fn compared(project: &tessera_contract::Project, as_of: AsOf) -> [Option<jiff::civil::Date>; 2] {
    let year = as_of.date().checked_sub(jiff::Span::new().years(1)).ok();
    let baseline = project.comparison.baseline.as_ref().and_then(|night| night.parse().ok());
    [year, baseline]
}

/// Values by segment and KPI.
type Values = BTreeMap<(Option<i32>, String), Option<f64>>;

/// The values of an earlier night, of the population and of the segments that were there.
async fn earlier(night: &Night<'_>, tables: Option<&BTreeMap<String, DataFrame>>) -> Result<Values, StageError> {
    let Some((tables, previous)) = tables.and_then(|tables| Some((tables, tables.get("kpis")?))) else {
        return Ok(Values::new());
    };
    // Of a night before segments had a lineage, an id says nothing.
    let which = if tables.contains_key("segment_lineage") { "" } else { " WHERE segment_id IS NULL" };
    let query = format!("SELECT segment_id, kpi, value FROM previous{which}");
    let batch = rows::collect(night.over(&query, &[("previous", previous)]).await?).await?;
    let ids = rows::integers(&batch, "segment_id")?.into_iter().map(|id| id.and_then(|id| i32::try_from(id).ok()));
    let names = rows::texts(&batch, "kpi")?.into_iter().map(Option::unwrap_or_default);
    Ok(ids.zip(names).zip(rows::floats(&batch, "value")?).collect())
}

fn frame(night: &Night<'_>, table: &[Row]) -> Result<DataFrame, StageError> {
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
            ("year_ago", floats(|r| r.year_ago)),
            ("baseline", floats(|r| r.baseline)),
            (
                "headline",
                Arc::new(
                    table
                        .iter()
                        .map(|r| night.project.kpis.get(&r.kpi).map(|kpi| night.project.headline(kpi)))
                        .collect::<BooleanArray>(),
                ),
            ),
            ("target", floats(|r| r.target)),
            ("benchmark", floats(|r| r.benchmark)),
            ("threshold", floats(|r| r.gate.and_then(|(threshold, ..)| threshold))),
            ("verdict", Arc::new(table.iter().map(|r| r.gate.map(|(_, verdict, _)| verdict)).collect::<StringArray>())),
            ("gate", Arc::new(table.iter().map(|r| r.gate.map(|(.., gate)| gate)).collect::<StringArray>())),
            ("state", Arc::new(table.iter().map(|r| Some(r.state)).collect::<StringArray>())),
        ],
    )
}

#[cfg(test)]
mod tests;
