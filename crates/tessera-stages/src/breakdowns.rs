//! Breakdowns: figures of each campaign, channel, cohort.
//!
//! Part of the stage `kpis`, which publishes them beside the KPIs and hides both together. An item of rows becomes two sums over everybody's
//! rows ([`Items`]), an item of customers two expressions over their features; from there on they are sums like those of a KPI.

mod customers;
mod events;
mod items;
mod table;

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, RecordBatch, StructArray, UInt64Array},
        compute::take,
        datatypes::{Field, Schema},
    },
    prelude::DataFrame,
};
use tessera_contract::{Breakdown, Entity};
use tessera_engine::formula::{self, text};

use self::customers::Dimension;
pub(crate) use self::items::{Items, Others, ToldItems};
use crate::{
    Night, StageError, blame,
    figures::{BREAKDOWNS, Behind, Field as Of, Sums, Told, cell, counted},
    rows,
};

/// What is called an item that is unknown, and those that are not told by themselves.
pub(crate) const UNKNOWN: &str = "unknown";
pub(crate) const OTHER: &str = "other";

/// The breakdowns of a night.
pub(crate) struct Breakdowns<'a> {
    /// Those of which the sources give too little.
    missing: Vec<&'a str>,
    cells: Vec<Cell<'a>>,
    dimensions: Vec<Dimension<'a>>,
    /// Breakdowns and their dimensions of which every row is of an item that is told.
    whole: Vec<(&'a str, &'a str)>,
}

/// One figure by segment and of everybody.
struct Cell<'a> {
    name: &'a str,
    entry: &'a Breakdown,
    /// A dimension and an item of it; none for all items together.
    item: Option<(&'a str, String)>,
    step: Option<u32>,
    /// The two sums, and the column of their moments.
    sums: [String; 2],
    column: String,
    /// The same of those with whom they are compared.
    versus: Option<([String; 2], String)>,
    /// What was spent.
    spent: Option<i128>,
}

impl Cell<'_> {
    /// Its two sums, and those with which they are compared, each with the column of their moments.
    fn all(&self) -> impl Iterator<Item = (&[String; 2], &String)> {
        let versus = self.versus.as_ref().map(|(sums, column)| (sums, column));
        [(&self.sums, &self.column)].into_iter().chain(versus)
    }

    /// The sum that is of how many people there are: of customers who are one each, the denominator.
    fn people(&self) -> String {
        match self.entry.entity().is_none() && self.entry.denominator.trim() == "1" {
            true => self.sums[1].clone(),
            false => counted(&self.sums[1]),
        }
    }
}

/// The items of a dimension that are told, and whether others are together.
struct Chosen {
    items: Vec<String>,
    others: bool,
    /// Whether every row counts for one of them.
    all: bool,
}

fn chosen(mut found: Vec<(String, i64)>, entry: &Breakdown, k: i64) -> Chosen {
    let many = |(_, people): &&(String, i64)| *people >= k;
    if entry.steps > 0 {
        found.sort();
        let known = |(item, _): &&(String, i64)| item != UNKNOWN;
        let items: Vec<String> =
            found.iter().rev().filter(known).filter(many).take(entry.most).map(|(item, _)| item.clone()).collect();
        let all = items.len() == found.len();
        return Chosen { items: items.into_iter().rev().collect(), others: false, all };
    }
    found.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    let items: Vec<String> =
        found.iter().filter(many).map(|(item, _)| item.clone()).filter(|item| item != OTHER).take(entry.most).collect();
    Chosen { others: items.len() < found.len(), items, all: true }
}

/// SQL of the item of a row.
pub(crate) fn item_of(by: &str) -> String {
    format!("coalesce(CAST(({by}) AS VARCHAR), '{UNKNOWN}')")
}

/// SQL that is true of the rows of an item.
fn is_item(by: &str, item: &str, told: &[String]) -> String {
    let of = item_of(by);
    if item != OTHER {
        return format!("{of} = {}", text(item));
    }
    let told: Vec<String> = told.iter().map(|item| text(item)).collect();
    if told.is_empty() { "true".to_owned() } else { format!("{of} NOT IN ({})", told.join(", ")) }
}

impl<'a> Breakdowns<'a> {
    /// What there is to tell; what everybody adds to the items of rows is put beside the customers.
    pub(crate) async fn find(night: &'a Night<'a>, sums: &mut Sums<'_>) -> Result<Self, StageError> {
        let mut found = Self { missing: Vec::new(), cells: Vec::new(), dimensions: Vec::new(), whole: Vec::new() };
        let mut items = Items::default();
        for (name, entry) in night.project.enabled_breakdowns() {
            let Some(by) = available(night, entry)? else {
                found.missing.push(name);
                continue;
            };
            match entry.entity() {
                Some(entity) => found.add_events(night, (name, entry, &by), entity, sums, &mut items).await?,
                None => found.add_customers(night, (name, entry, &by), sums).await?,
            }
        }
        sums.put_items(items).await?;
        Ok(found)
    }

    fn add_cell(
        &mut self,
        name: &'a str,
        entry: &'a Breakdown,
        item: Option<(&'a str, String)>,
        step: Option<u32>,
        (sums, versus): ([String; 2], Option<[String; 2]>),
        spent: Option<i128>,
    ) {
        let column = format!("cell {}", self.cells.len());
        let versus = versus.map(|sums| (sums, format!("{column} versus")));
        self.cells.push(Cell { name, entry, item, step, sums, column, versus, spent });
    }

    /// Names the sums behind the figures.
    pub(crate) fn tell(&self, sums: &mut Sums<'_>) {
        for one in &self.cells {
            let item = one.item.as_ref().map(|(dimension, item)| (*dimension, item.as_str()));
            let of = cell(one.name, item, one.step);
            let told = |column| Told {
                table: BREAKDOWNS,
                of: of.clone(),
                column,
                total: None,
                segments: one.entry.segments,
                // All items together are a KPI.
                rank: if item.is_none() { 2 } else { 1 },
            };
            let mut add = |[x, y]: &[String; 2], column: &str, figures: [&'static str; 2]| {
                let behind = |field| Behind { column: column.to_owned(), field };
                if one.spent.is_none() {
                    sums.add(x, behind(Of::X), told(figures[0]));
                }
                sums.add(y, behind(Of::Y), told(figures[1]));
            };
            add(&one.sums, &one.column, ["numerator", "denominator"]);
            if let Some((versus, column)) = &one.versus {
                add(versus, column, ["versus_numerator", "versus_denominator"]);
            }
            let behind = Behind { column: one.column.clone(), field: Of::SomeY };
            sums.add(&one.people(), behind, told("n"));
        }
        for (name, dimension) in &self.whole {
            for whole in self.cells.iter().filter(|cell| cell.name == *name && cell.item.is_none()) {
                let is_part = |c: &&Cell<'_>| {
                    c.name == *name && c.step == whole.step && c.item.as_ref().is_some_and(|(d, _)| d == dimension)
                };
                let parts: Vec<&Cell<'_>> = self.cells.iter().filter(is_part).collect();
                for at in 0..2 {
                    sums.add_parts(whole.sums[at].clone(), parts.iter().map(|part| part.sums[at].clone()));
                    if let Some((versus, _)) = &whole.versus {
                        let theirs = parts.iter().filter_map(|part| Some(part.versus.as_ref()?.0[at].clone()));
                        sums.add_parts(versus[at].clone(), theirs);
                    }
                }
            }
        }
    }

    /// The rows of the segments with the moments of items beside.
    pub(crate) async fn counted(
        &self,
        night: &Night<'_>,
        sums: &Sums<'_>,
        batch: RecordBatch,
    ) -> Result<RecordBatch, StageError> {
        let segments = rows::integers(&batch, "segment_id")?;
        let mut found = self.of_items(night, sums.people(), &segments).await?;
        for dimension in &self.dimensions {
            found.extend(dimension.counted(night, &self.cells, &segments).await?);
        }
        let (schema, mut columns, _) = batch.into_parts();
        let mut fields = schema.fields().to_vec();
        for (name, moments) in found {
            fields.push(Arc::new(Field::new(name, moments.data_type().clone(), true)));
            columns.push(Arc::new(moments));
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// Rows of a column of moments; where there is none, each of the moments is null.
fn taken(found: &RecordBatch, column: &str, which: &UInt64Array) -> Result<StructArray, StageError> {
    let (schema, parts, _) = rows::fields(found, column)?.into_parts();
    let parts = parts.iter().map(|part| take(part, which, None)).collect::<Result<Vec<_>, _>>()?;
    let of = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Ok(StructArray::try_new(of, parts, None)?)
}

/// What is wrong with the expression of a dimension.
async fn wrong_item(
    night: &Night<'_>,
    (name, dimension, by): (&str, &str, &str),
    relation: &str,
    given: &[(&str, &DataFrame)],
) -> Option<StageError> {
    let entry = (format!("breakdowns.{name}.by.{dimension}"), by.to_owned());
    blame(night, vec![entry], |e| format!("SELECT ({e}) FROM {relation}"), given).await
}

/// The fewest people of whom something may be told.
fn fewest(night: &Night<'_>) -> i64 {
    i64::try_from(night.project.privacy.k).unwrap_or(i64::MAX)
}

/// The expressions of an entry with their places.
fn places(name: &str, entry: &Breakdown) -> Vec<(String, String)> {
    let place = |key: &str| format!("breakdowns.{name}.{key}");
    let filters = [("where", &entry.which), ("versus", &entry.versus)];
    let filters = filters.into_iter().filter_map(|(key, e)| Some((place(key), e.clone()?)));
    let values = [("numerator", &entry.numerator), ("denominator", &entry.denominator)];
    filters.chain(values.into_iter().map(|(key, e)| (place(key), e.clone()))).collect()
}

/// The dimensions whose columns the sources give; none, if they do not give what is counted.
fn available<'a>(night: &Night<'_>, entry: &'a Breakdown) -> Result<Option<Vec<(&'a str, &'a str)>>, StageError> {
    if entry.spent && night.availability.of(Entity::MarketingCosts).is_none() {
        return Ok(None);
    }
    let missing = night.availability.missing_features(night.project)?;
    let names = |expressions: &[&str]| -> Result<Vec<String>, StageError> {
        Ok(formula::names(&expressions.join(" "))?.into_iter().collect())
    };
    let features: Vec<&str> = night.project.enabled_features().map(|(name, _)| name).collect();
    let absent = night.availability.absent(entry.entity().unwrap_or(Entity::Customers));
    let known = |expressions: &[&str]| -> Result<bool, StageError> {
        Ok(!names(expressions)?.iter().any(|word| match entry.entity() {
            Some(_) => absent.contains(&word.as_str()),
            None => missing.contains_key(word) || absent.contains(&word.as_str()) && !features.contains(&word.as_str()),
        }))
    };
    if entry.entity().is_some_and(|entity| night.availability.of(entity).is_none()) {
        return Ok(None);
    }
    let which = entry.which.as_deref().unwrap_or("true");
    if !known(&[&entry.numerator, &entry.denominator, which, entry.versus.as_deref().unwrap_or("true")])? {
        return Ok(None);
    }
    // Without groups, nobody is held out.
    let versus = names(&[entry.versus.as_deref().unwrap_or("true")])?;
    if versus.iter().any(|word| word == "treated") && absent.contains(&"group") {
        return Ok(None);
    }
    let mut by = Vec::new();
    for (dimension, expression) in &entry.by {
        if known(&[expression])? {
            by.push((dimension.as_str(), expression.as_str()));
        }
    }
    // Customers are counted by item.
    Ok(Some(by).filter(|by| !by.is_empty() || entry.entity().is_some()))
}

#[cfg(test)]
mod tests;
