//! `explain kpi`: what a KPI is, and why it is another one than on earlier nights.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use comfy_table::{CellAlignment, Table};
use tessera_contract::{Kpi, Project};
use tessera_engine::formula::text;
use tessera_lake::SnapshotRecord;

use super::super::{
    causes::notes::{self, Note},
    query::Tables,
};
use crate::{
    chain::{floats, texts},
    context::Context,
    errors::Usage,
    reader::Scope,
    show, words,
};

/// The nights that a night is compared with, and how people call them.
const VERSUS: [(&str, &str); 3] = [
    ("previous", "the night before"),
    ("year_ago", "the same night a year ago"),
    ("baseline", "the declared baseline"),
];

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
    let tables = Tables::open(context, &Scope::Snapshot(record.snapshot_id.clone()), false).await?;
    if !tables.has("kpi_changes") {
        println!("\nThis night is of a program that did not take changes apart yet.");
        return Ok(());
    }
    let whose = match segment {
        None => "everybody".to_owned(),
        Some(id) => of_segment(&tables, id).await?,
    };
    println!("of        {whose}");
    let notes = notes::notes(context).await?;
    let of = Of { notes: &notes, tables: &tables, project: &context.project, name, kpi, segment, whose: &whose };
    let mut told = false;
    for (versus, called) in VERSUS {
        told |= of.since(versus, called).await?;
    }
    told |= of.emerging().await?;
    if !told {
        println!("\nThere is no earlier night to compare it with.");
    }
    Ok(())
}

/// A segment of a night, for people; one that died since the night before is still told of.
async fn of_segment(tables: &Tables, id: i32) -> Result<String> {
    let query = "SELECT c.segment_id, min(s.segment_name) FROM (SELECT DISTINCT segment_id FROM kpi_changes WHERE segment_id IS NOT NULL \
                 UNION SELECT DISTINCT segment_id FROM segments) AS c LEFT JOIN segments AS s ON c.segment_id = s.segment_id \
                 GROUP BY c.segment_id ORDER BY c.segment_id";
    let mut known = Vec::new();
    for batch in tables.collect(query).await? {
        for (found, name) in texts(&batch, 0)?.into_iter().flatten().zip(texts(&batch, 1)?) {
            if found == id.to_string() {
                let name = name.map_or("gone".into(), |name| show::printable(&name).into_owned());
                return Ok(format!("segment {id} ({name})"));
            }
            known.push(found);
        }
    }
    Err(Usage(format!("there is no segment {id} on this night; there are {}", known.join(", "))).into())
}

/// A KPI of everybody, or of a segment, on a night.
struct Of<'a> {
    tables: &'a Tables,
    /// What people noted of causes.
    notes: &'a BTreeMap<String, Vec<Note>>,
    project: &'a Project,
    name: &'a str,
    kpi: &'a Kpi,
    segment: Option<i32>,
    whose: &'a str,
}

impl Of<'_> {
    /// The rows of its changes since an earlier night.
    fn condition(&self, versus: &str) -> String {
        let segment = self.segment.map_or("IS NULL".to_owned(), |id| format!("= {id}"));
        format!("kpi = {} AND versus = '{versus}' AND segment_id {segment}", text(self.name))
    }

    /// The change since an earlier night: a sentence, the terms, and by segment. Whether there is one.
    async fn since(&self, versus: &str, called: &str) -> Result<bool> {
        let condition = self.condition(versus);
        let query = format!(
            "SELECT CAST(min(versus_as_of) AS VARCHAR), min(state), max(CASE WHEN state = 'reversed' THEN 1 ELSE 0 END) \
             FROM kpi_changes WHERE {condition}"
        );
        let batches = self.tables.collect(&query).await?;
        let cell = |column: usize| -> Result<Option<String>> {
            Ok(batches
                .first()
                .map(|batch| texts(batch, column))
                .transpose()?
                .and_then(|all| all.into_iter().next().flatten()))
        };
        let (Some(since), Some(state)) = (cell(0)?, cell(1)?) else { return Ok(false) };
        println!("\nSince {since}, {called}");
        let changes = words::changes(&self.tables.collect(&words::query(&condition)).await?, self.project)?;
        let Some(change) = changes.first() else {
            println!("  {}", untold(&state));
            return Ok(true);
        };
        println!("{}", change.sentence(self.whose));
        let mut table = show::plain();
        table.add_row([format!("was on {since}"), show::in_unit(change.from, &self.kpi.unit)]);
        for term in &change.terms {
            let label = words::label(&term.term, term.detail.as_deref());
            table.add_row([label, words::signed(term.contribution, &self.kpi.unit)]);
        }
        table.add_row(["is".to_owned(), show::in_unit(change.to, &self.kpi.unit)]);
        println!("{}", to_the_right(table, 1));
        self.places(&condition).await?;
        self.by_segment(&condition).await?;
        if cell(2)?.is_some_and(|turned| turned == "1") {
            println!("Every segment went the other way (Simpson's paradox): their shares changed.");
        }
        Ok(true)
    }

    /// What no single night shows.
    async fn emerging(&self) -> Result<bool> {
        if !self.tables.has("causes") {
            return Ok(false);
        }
        let condition = format!("{} AND finding = 'emerging'", self.condition("month_ago"));
        let query = words::places_query(&condition, self.tables.has_column("causes", "cause_id"));
        let places = words::places(&self.tables.collect(&query).await?)?;
        if !places.is_empty() {
            println!();
        }
        places.iter().for_each(|place| println!("{}", place.sentence(&self.kpi.unit)));
        Ok(!places.is_empty())
    }

    /// Where it happened.
    async fn places(&self, condition: &str) -> Result<()> {
        if !self.tables.has("causes") {
            return Ok(());
        }
        let places = words::places(
            &self.tables.collect(&words::places_query(condition, self.tables.has_column("causes", "cause_id"))).await?,
        )?;
        let mut table = show::plain();
        for place in places.iter().filter(|place| place.is_found() || place.contribution != 0.0) {
            let more = place.change.map_or(String::new(), |change| format!("{:+.1} %", 100.0 * change));
            let again =
                place.recurrence.map_or(String::new(), |share| format!("found again in {:.0} %", 100.0 * share));
            table.add_row([place.label(), words::signed(place.contribution, &self.kpi.unit), more, again]);
        }
        if table.row_count() > 0 {
            let found = places.iter().any(words::Place::is_found);
            let heading = if found {
                "Causes, and where it happened"
            } else {
                "Where it happened: no place is told that changed otherwise than the rest"
            };
            println!("{heading}\n{}", to_the_right(to_the_right(table, 1), 2));
        }
        let mut told = BTreeSet::new();
        for place in &places {
            let Some(id) = place.id.as_ref().filter(|id| told.insert(*id)) else { continue };
            let noted = self.notes.get(id).into_iter().flatten();
            noted.for_each(|note| println!("{}, noted {}", place.label(), note.told()));
        }
        Ok(())
    }

    /// What each segment's own change is of everybody's.
    async fn by_segment(&self, condition: &str) -> Result<()> {
        let query = format!(
            "SELECT of_segment_id, term, contribution FROM kpi_changes WHERE split = 'segments' AND {condition} \
             ORDER BY of_segment_id NULLS LAST, term DESC"
        );
        let mut table = show::plain();
        for batch in self.tables.collect(&query).await? {
            let (segments, terms, contributions) = (texts(&batch, 0)?, texts(&batch, 1)?, floats(&batch, 2)?);
            for ((segment, term), contribution) in segments.into_iter().zip(terms).zip(contributions) {
                let of = segment.map_or("people without one".to_owned(), |id| format!("segment {id}"));
                let term = match term.as_deref() {
                    Some("rate") => "its own ratio",
                    Some("mix") => "its share",
                    _ => "change",
                };
                table.add_row([of, term.to_owned(), words::signed(contribution.unwrap_or(0.0), &self.kpi.unit)]);
            }
        }
        if table.row_count() > 0 {
            println!("By segment\n{}", to_the_right(table, 2));
        }
        Ok(())
    }
}

/// A table whose numbers stand to the right.
fn to_the_right(mut table: Table, column: usize) -> Table {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Why nothing is told of a change.
fn untold(state: &str) -> &'static str {
    match state {
        "suppressed" => "not told: one of the two values stands for too few people",
        "redefined" => "not comparable: that night added up something else under this name",
        _ => "not available: one of the two nights has no such value",
    }
}
