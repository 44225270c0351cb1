//! `explain kpi`: what a KPI is, and why it is another one than on earlier nights.

use anyhow::{Context as _, Result};
use comfy_table::CellAlignment;
use datafusion::arrow::{array::AsArray, datatypes::Float64Type};
use tessera_contract::Kpi;
use tessera_engine::formula::{Words, text};
use tessera_lake::SnapshotRecord;

use super::super::query;
use crate::{
    chain,
    context::Context,
    errors::Usage,
    reader::Scope,
    show,
    words::{self, Change, Term},
};

/// Explains a KPI of everybody, or of a segment.
pub(super) async fn explain(
    context: &Context,
    name: &str,
    segment: Option<i32>,
    record: Option<&SnapshotRecord>,
) -> Result<()> {
    let Some((_, kpi)) = context.project.enabled_kpis().find(|(kpi, _)| *kpi == name) else {
        let known: Vec<&str> = context.project.enabled_kpis().map(|(kpi, _)| kpi).collect();
        return Err(Usage(format!("there is no KPI `{name}`; there are {}", known.join(", "))).into());
    };
    println!("{name}  {} ({})", kpi.description, kpi.unit);
    match &kpi.denominator {
        Some(denominator) => println!("is        {} over {denominator}", kpi.numerator),
        None => println!("is        the sum of {}", kpi.numerator),
    }
    let Some(record) = record else {
        println!("no night is published yet");
        return Ok(());
    };
    println!("night     {} ({}, {})", record.content.as_of, record.snapshot_id, record.content.state);
    Night::open(context, record).await?.explain(name, kpi, segment).await
}

/// The tables of a night.
struct Night {
    engine: tessera_engine::Engine,
    frames: Vec<(String, datafusion::prelude::DataFrame)>,
}

impl Night {
    async fn open(context: &Context, record: &SnapshotRecord) -> Result<Self> {
        let (engine, frames) = query::all(context, &Scope::Snapshot(record.snapshot_id.clone())).await?;
        Ok(Self { engine, frames })
    }

    async fn rows(&self, query: &str) -> Result<arrow::array::RecordBatch> {
        let named: Vec<_> = self.frames.iter().map(|(name, frame)| (name.as_str(), frame)).collect();
        let batches = self.engine.sql(query, &named, &Words::none()).await?.collect().await?;
        let schema = batches.first().map(arrow::array::RecordBatch::schema);
        Ok(match schema {
            Some(schema) => arrow::compute::concat_batches(&schema, &batches)?,
            None => arrow::array::RecordBatch::new_empty(std::sync::Arc::new(arrow::datatypes::Schema::empty())),
        })
    }

    async fn explain(&self, name: &str, kpi: &Kpi, segment: Option<i32>) -> Result<()> {
        let names =
            self.rows("SELECT DISTINCT CAST(segment_id AS VARCHAR), segment_name FROM segments ORDER BY 1").await?;
        let (ids, labels) = match names.num_rows() {
            0 => (Vec::new(), Vec::new()),
            _ => (chain::texts(&names, 0)?, chain::texts(&names, 1)?),
        };
        let ids: Vec<String> = ids.into_iter().flatten().collect();
        let labels: Vec<String> = labels.into_iter().map(Option::unwrap_or_default).collect();
        if !self.frames.iter().any(|(name, _)| name == "kpi_changes") {
            println!("\nThis night was published before changes were taken apart.");
            return Ok(());
        }
        let label = |id: i32| ids.iter().position(|known| *known == id.to_string()).map(|at| &labels[at]);
        let whose = match segment {
            None => "everybody".to_owned(),
            Some(id) => match label(id) {
                Some(name) => format!("segment {id} ({})", show::printable(name)),
                None => {
                    let problem = format!("there is no segment {id} on this night; there are {}", ids.join(", "));
                    return Err(Usage(problem).into());
                }
            },
        };
        println!("of        {whose}");
        let of_segment = segment.map_or("IS NULL".to_owned(), |id| format!("= {id}"));
        let mut told = false;
        for versus in ["previous", "year_ago", "baseline"] {
            let query = format!(
                "SELECT CAST(versus_as_of AS VARCHAR) AS since, split, term, detail, CAST(of_segment_id AS VARCHAR) AS of_segment, contribution, \"from\", \"to\", state \
                 FROM kpi_changes WHERE kpi = {} AND versus = '{versus}' AND segment_id {of_segment} \
                 ORDER BY split, step, of_segment_id NULLS LAST, term DESC",
                text(name)
            );
            let rows = self.rows(&query).await?;
            if rows.num_rows() > 0 {
                told = true;
                changed(name, kpi, versus, &whose, &rows)?;
            }
        }
        if !told {
            println!("\nThere is no earlier night to compare it with.");
        }
        Ok(())
    }
}

/// The change since one earlier night: a sentence, the terms, and by segment.
fn changed(name: &str, kpi: &Kpi, versus: &str, whose: &str, rows: &arrow::array::RecordBatch) -> Result<()> {
    let words = |column: usize| -> Result<Vec<Option<String>>> {
        let column = arrow::compute::cast(rows.column(column), &arrow::datatypes::DataType::Utf8)?;
        Ok(column.as_string::<i32>().iter().map(|word| word.map(str::to_owned)).collect())
    };
    let numbers = |column: usize| -> Result<Vec<Option<f64>>> {
        let column = rows.column(column).as_primitive_opt::<Float64Type>().context("a column of numbers")?;
        Ok(column.iter().collect())
    };
    let (dates, splits, terms, details, segments, states) =
        (words(0)?, words(1)?, words(2)?, words(3)?, words(4)?, words(8)?);
    let (contributions, from, to) = (numbers(5)?, numbers(6)?, numbers(7)?);
    let since = dates.iter().flatten().next().cloned().unwrap_or_default();
    let called = match versus {
        "previous" => "the night before",
        "year_ago" => "the same night a year ago",
        _ => "the declared baseline",
    };
    println!("\nSince {since}, {called}");
    let people: Vec<usize> = (0..rows.num_rows()).filter(|row| splits[*row].as_deref() == Some("people")).collect();
    let (Some(first), Some(last)) = (people.first(), people.last()) else {
        let state = states.iter().flatten().next().map_or("not_available", String::as_str);
        println!("  {}", untold(state));
        return Ok(());
    };
    let value = |level: Option<f64>| level.map_or("unknown".to_owned(), |level| show::in_unit(level, &kpi.unit));
    if let Some((from, to)) = from[*first].zip(to[*last]) {
        let terms = people.iter().map(|row| Term {
            term: terms[*row].clone().unwrap_or_default(),
            detail: details[*row].clone(),
            contribution: contributions[*row].unwrap_or(0.0),
        });
        let change = Change {
            kpi: name.to_owned(),
            unit: kpi.unit.clone(),
            whose: whose.to_owned(),
            since: since.clone(),
            from,
            to,
            terms: terms.collect(),
        };
        println!("{}", change.sentence());
    }
    let mut table = show::plain();
    table.add_row([format!("was on {since}"), value(from[*first])]);
    for row in &people {
        let label = words::label(terms[*row].as_deref().unwrap_or_default(), details[*row].as_deref());
        table.add_row([label, contributions[*row].map_or(String::new(), |c| words::signed(c, &kpi.unit))]);
    }
    table.add_row(["is".to_owned(), value(to[*last])]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    let by: Vec<usize> = (0..rows.num_rows()).filter(|row| splits[*row].as_deref() == Some("segments")).collect();
    if !by.is_empty() {
        println!("By segment");
        let mut table = show::plain();
        for row in by {
            let of = segments[row].as_deref().map_or("people without one".to_owned(), |id| format!("segment {id}"));
            let term = match terms[row].as_deref() {
                Some("rate") => "its own ratio",
                Some("mix") => "its share",
                _ => "change",
            };
            table.add_row([
                of,
                term.to_owned(),
                contributions[row].map_or(String::new(), |c| words::signed(c, &kpi.unit)),
            ]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        if states.iter().flatten().any(|state| state == "reversed") {
            println!("Every segment went the other way (Simpson's paradox): their shares changed.");
        }
    }
    Ok(())
}

/// Why nothing is told of a change.
fn untold(state: &str) -> &'static str {
    match state {
        "suppressed" => "not told: one of the two values stands for too few people",
        "redefined" => "not comparable: that night added up something else under this name",
        _ => "not available: one of the two nights has no such value",
    }
}
