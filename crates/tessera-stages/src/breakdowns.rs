//! Breakdowns: figures of each campaign, channel, cohort.
//!
//! Part of the stage `kpis`, which publishes them beside the KPIs and hides both together. An item of rows becomes two sums over everybody's
//! rows ([`Items`]), an item of customers two expressions over their features; from there on they are sums like those of a KPI.

mod items;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, RecordBatch, StructArray, UInt64Array},
        compute::take,
        datatypes::{Field, Schema},
    },
    prelude::DataFrame,
};
use tessera_contract::{Breakdown, Entity};
use tessera_engine::formula::{self, quote, text};

use self::items::Place;
pub(crate) use self::items::{Items, Others, ToldItems};
use crate::{
    Night, StageError, blame,
    features::{rows_of, within},
    figures::{BREAKDOWNS, Behind, Field as Of, People, Sums, Told, cell, counted, exact, of_customers},
    rows,
};

/// What is called an item that is unknown, and those that are not told by themselves.
const UNKNOWN: &str = "unknown";
const OTHER: &str = "other";
/// The days in which money was spent.
const SPENT: &str = "90 days";

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
    /// The sum that is of how many people there are: of customers who are one each, the denominator.
    fn people(&self) -> String {
        match self.entry.entity().is_none() && self.entry.denominator.trim() == "1" {
            true => self.sums[1].clone(),
            false => counted(&self.sums[1]),
        }
    }
}

/// A dimension over features: its cells are counted by item.
struct Dimension<'a> {
    name: &'a str,
    dimension: &'a str,
    items: Vec<String>,
    steps: Vec<Option<u32>>,
    /// Whether all items together are told from it.
    tells_all: bool,
    /// Of every segment and item that there is, the states of the moments of each step.
    states: DataFrame,
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
fn item_of(by: &str) -> String {
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

/// An expression at a step.
fn at_step(expression: &str, step: Option<u32>) -> Result<String, StageError> {
    Ok(match step {
        Some(step) => formula::with_word(expression, "step", &step.to_string())?,
        None => expression.to_owned(),
    })
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
                Some(entity) => found.of_rows(night, (name, entry, &by), entity, &mut items).await?,
                None => found.of_features(night, (name, entry, &by), sums).await?,
            }
        }
        sums.with_items(items).await?;
        Ok(found)
    }

    /// A breakdown of rows.
    async fn of_rows(
        &mut self,
        night: &Night<'_>,
        (name, entry, by): (&'a str, &'a Breakdown, &[(&'a str, &'a str)]),
        entity: Entity,
        items: &mut Items,
    ) -> Result<(), StageError> {
        let clean = night.input(&entity.clean_table())?;
        let rows = night.over(&rows_of(entity, clean), &[("clean", clean)]).await?;
        let wrong = |problem| StageError::Expression { place: format!("breakdowns.{name}.window"), problem };
        let window = |as_of| match &entry.window {
            Some(window) => within(night, entity, window, None, as_of).map_err(wrong),
            None => Ok("true".to_owned()),
        };
        let which = entry.which.as_deref().unwrap_or("true");
        let tonight = window(night.as_of)?;
        let counts = match &entry.versus {
            Some(versus) => format!("(({which}) OR ({versus}))"),
            None => format!("({which})"),
        };
        let given = [("rows", &rows)];
        let all: Vec<(&str, Chosen)> = {
            let expressions = [&entry.numerator, &entry.denominator].map(|e| format!(", {}", exact(e)));
            let query = format!("SELECT 1{} FROM rows WHERE {counts}", expressions.concat());
            if let Err(error) = night.over(&query, &given).await {
                let alone = |expression: &str| format!("SELECT ({expression}) FROM rows");
                return Err(blame(night, places(name, entry), alone, &given).await.unwrap_or(error));
            }
            let mut all = Vec::new();
            for (dimension, by) in by {
                let tables = [("rows", &rows), ("accounts", night.input("accounts")?)];
                let query = format!(
                    "SELECT item, count(DISTINCT customer_key) AS people FROM (SELECT {} AS item, a.customer_key FROM \
                     (SELECT * FROM rows WHERE {tonight} AND {counts}) AS r JOIN accounts AS a ON r.account_key = a.account_key) GROUP BY item",
                    item_of(by)
                );
                let frame = match night.over(&query, &tables).await {
                    Ok(frame) => frame,
                    Err(error) => {
                        return Err(wrong_item(night, (name, dimension, by), "rows", &given).await.unwrap_or(error));
                    }
                };
                let batch = rows::collect(frame).await?;
                let items = rows::texts(&batch, "item")?.into_iter().map(Option::unwrap_or_default);
                let people = rows::integers(&batch, "people")?.into_iter().map(Option::unwrap_or_default);
                all.push((*dimension, chosen(items.zip(people).collect(), entry, fewest(night))));
            }
            all
        };
        let rows = (entity, entry.window.as_deref());
        let mut add = |place: &Place| {
            let of = |which: &str, items: &mut Items| {
                [&entry.numerator, &entry.denominator].map(|e| quote(&items.add(rows, which, place, e)))
            };
            (of(which, items), entry.versus.as_deref().map(|versus| of(versus, items)))
        };
        let whole = add(&Place::All);
        self.add_cell(name, entry, None, None, whole, None);
        for ((dimension, by), (_, chosen)) in by.iter().zip(all) {
            self.whole.push((name, *dimension));
            for item in &chosen.items {
                let sums = add(&Place::One((*by).to_owned(), item.clone()));
                self.add_cell(name, entry, Some((*dimension, item.clone())), None, sums, None);
            }
            if chosen.others {
                let sums = add(&Place::Others(others(name, dimension, by, chosen.items)));
                self.add_cell(name, entry, Some((*dimension, OTHER.to_owned())), None, sums, None);
            }
        }
        Ok(())
    }

    /// A breakdown of customers.
    async fn of_features(
        &mut self,
        night: &Night<'_>,
        (name, entry, by): (&'a str, &'a Breakdown, &[(&'a str, &'a str)]),
        sums: &mut Sums<'_>,
    ) -> Result<(), StageError> {
        let steps: Vec<Option<u32>> = match entry.steps {
            0 => vec![None],
            steps => (1..=steps).map(Some).collect(),
        };
        let spent = match entry.spent {
            true => Some(spent(night, name, entry.lag.as_deref()).await?),
            false => None,
        };
        let which = entry.which.as_deref().unwrap_or("true");
        let of = |condition: &str, step: Option<u32>| -> Result<([String; 2], Option<[String; 2]>), StageError> {
            let two = |which: &str| -> Result<[String; 2], StageError> {
                let which = at_step(which, step)?;
                let one = |e: &str| {
                    let value = format!("CASE WHEN ({which}) AND {condition} THEN {} END", at_step(e, step)?);
                    Ok::<_, StageError>(of_customers(&value))
                };
                Ok([one(&entry.numerator)?, one(&entry.denominator)?])
            };
            Ok((two(which)?, entry.versus.as_deref().map(two).transpose()?))
        };
        let people = sums.people();
        let (first, versus) = of("true", steps[0])?;
        let all: Vec<&str> = first.iter().chain(versus.iter().flatten()).map(String::as_str).collect();
        let joined = people.joined(night, &all);
        if let Err(error) = night.over(&format!("SELECT {} FROM {joined}", all.join(", ")), &people.tables()).await {
            let alone = |e: &str| {
                let e = at_step(e, steps[0]).unwrap_or_else(|_| e.to_owned());
                format!("SELECT ({e}) FROM {}", people.joined(night, &[&e]))
            };
            return Err(blame(night, places(name, entry), alone, &people.tables()).await.unwrap_or(error));
        }
        let total = spent.as_ref().map(|spent| spent.values().sum());
        for step in &steps {
            self.add_cell(name, entry, None, *step, of("true", *step)?, total);
        }
        for (at, (dimension, by)) in by.iter().enumerate() {
            let (states, found) = by_item(night, (name, entry), (dimension, by), sums.people(), &steps).await?;
            let mut chosen = chosen(found, entry, fewest(night));
            self.whole.extend(chosen.all.then_some((name, *dimension)));
            let counts = at_steps(night, &states, steps.len()).await?;
            // Money may be spent where nobody came.
            for item in spent.iter().flat_map(BTreeMap::keys).filter(|item| *item != OTHER) {
                if !chosen.items.contains(item) && chosen.items.len() < entry.most {
                    chosen.items.push(item.clone());
                }
            }
            chosen.others |= spent.iter().flat_map(BTreeMap::keys).any(|item| !chosen.items.contains(item));
            let other = chosen.others.then(|| OTHER.to_owned());
            for item in chosen.items.iter().cloned().chain(other) {
                let spent = spent.as_ref().map(|spent| match item.as_str() {
                    OTHER => spent.iter().filter(|(item, _)| !chosen.items.contains(item)).map(|(_, n)| n).sum(),
                    item => spent.get(item).copied().unwrap_or(0),
                });
                for (at, step) in steps.iter().enumerate() {
                    // Of a cohort that is not at a step yet, nothing is told; where all of it is, all steps are of the same people.
                    let (people, counted) =
                        counts.get(&item).map_or((0, 1), |(people, at_step)| (*people, at_step[at]));
                    if entry.steps > 0 && counted == 0 {
                        continue;
                    }
                    let condition = is_item(by, &item, &chosen.items);
                    let mut two = of(&condition, *step)?;
                    if entry.steps > 0 && entry.denominator.trim() == "1" && counted == people {
                        two.0[1] = of_customers(&format!("CASE WHEN {condition} THEN 1 END"));
                    }
                    if item == OTHER {
                        let others = others(name, dimension, by, chosen.items.clone());
                        for sum in two.0.iter().chain(two.1.iter().flatten()) {
                            sums.add_others(sum.clone(), others.clone());
                        }
                    }
                    self.add_cell(name, entry, Some((*dimension, item.clone())), *step, two, spent);
                }
            }
            let (items, steps, tells_all) = (chosen.items, steps.clone(), at == 0);
            self.dimensions.push(Dimension { name, dimension, items, steps, tells_all, states });
        }
        Ok(())
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
        let (schema, mut columns, _) = batch.into_parts();
        let mut fields = schema.fields().to_vec();
        if let Some(relation) = sums.people().with_items() {
            let (mut parts, mut whole) = (String::new(), String::new());
            for cell in self.cells.iter().filter(|cell| cell.entry.entity().is_some()) {
                for ([x, y], column) in
                    [(&cell.sums, &cell.column)].into_iter().chain(cell.versus.iter().map(|(s, c)| (s, c)))
                {
                    let column = quote(column);
                    parts.push_str(&format!(", moments_state({}, {}) AS {column}", exact(x), exact(y)));
                    whole.push_str(&format!(", moments_merge({column}) AS {column}"));
                }
            }
            let query = format!(
                "SELECT segment_id{whole} FROM (SELECT segment_id{parts} FROM {relation} GROUP BY segment_id) GROUP BY GROUPING SETS ((segment_id), ())"
            );
            let found = rows::collect(night.over(&query, &sums.people().tables()).await?).await?;
            let ids = rows::integers(&found, "segment_id")?;
            let place: BTreeMap<Option<i64>, u64> = ids.iter().copied().zip(0_u64..).collect();
            let which: UInt64Array = segments.iter().map(|segment| place.get(segment).copied()).collect();
            for column in found.schema().fields().iter().map(|f| f.name()).filter(|name| *name != "segment_id") {
                let moments = taken(&found, column, &which)?;
                fields.push(Arc::new(Field::new(column, moments.data_type().clone(), true)));
                columns.push(Arc::new(moments));
            }
        }
        for Dimension { name, dimension, items, steps, tells_all, states } in &self.dimensions {
            let told: Vec<String> = items.iter().map(|item| text(item)).collect();
            let item = match told.is_empty() {
                true => text(OTHER),
                false => format!("CASE WHEN item IN ({}) THEN item ELSE '{OTHER}' END", told.join(", ")),
            };
            let columns_of = states.schema().fields().iter().map(|f| f.name()).filter(|name| name.contains(' '));
            let whole: String = columns_of.map(|c| format!(", moments_merge({0}) AS {0}", quote(c))).collect();
            let query = format!(
                "SELECT segment_id, item{whole} FROM (SELECT * EXCEPT (item), {item} AS item FROM states) \
                 GROUP BY GROUPING SETS ((segment_id, item), (item), (segment_id), ())"
            );
            let found = rows::collect(night.over(&query, &[("states", states)]).await?).await?;
            let (ids, named) = (rows::integers(&found, "segment_id")?, rows::texts(&found, "item")?);
            let place: BTreeMap<(Option<i64>, Option<&str>), u64> =
                (0_u64..).zip(ids.iter().zip(&named)).map(|(row, (id, item))| ((*id, item.as_deref()), row)).collect();
            for cell in &self.cells {
                let ours = cell.item.as_ref().map_or(*tells_all, |(of, _)| of == dimension);
                if cell.name != *name || !ours {
                    continue;
                }
                let item = cell.item.as_ref().map(|(_, item)| item.as_str());
                let at = steps.iter().position(|step| *step == cell.step).unwrap_or(0);
                let which: UInt64Array = segments.iter().map(|segment| place.get(&(*segment, item)).copied()).collect();
                let mut put = |from: String, to: &str| -> Result<(), StageError> {
                    let moments = taken(&found, &from, &which)?;
                    fields.push(Arc::new(Field::new(to, moments.data_type().clone(), true)));
                    columns.push(Arc::new(moments));
                    Ok(())
                };
                put(format!("cell {at}"), &cell.column)?;
                if let Some((_, column)) = &cell.versus {
                    put(format!("versus {at}"), column)?;
                }
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// Of every segment and item of customers, the states of the moments of each step; and of every item, how many people there are. However
/// many items and steps there are, customers are read once.
async fn by_item(
    night: &Night<'_>,
    (name, entry): (&str, &Breakdown),
    (dimension, by): (&str, &str),
    people: &People,
    steps: &[Option<u32>],
) -> Result<(DataFrame, Vec<(String, i64)>), StageError> {
    let which = entry.which.as_deref().unwrap_or("true");
    let mut values = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let mut of = |which: &str, column: String| -> Result<(), StageError> {
            let one = |e: &str| at_step(&format!("CASE WHEN ({which}) THEN {e} END"), *step);
            let (x, y) = (one(&entry.numerator)?, one(&entry.denominator)?);
            values.push((column, format!("{}, {}", exact(&x), exact(&y))));
            Ok(())
        };
        of(which, format!("cell {at}"))?;
        if let Some(versus) = &entry.versus {
            of(versus, format!("versus {at}"))?;
        }
    }
    let states: String = values.iter().map(|(c, of)| format!(", moments_state({of}) AS {}", quote(c))).collect();
    let item = item_of(by);
    let expressions: Vec<&str> = values.iter().map(|(_, of)| of.as_str()).chain([item.as_str()]).collect();
    let joined = people.joined(night, &expressions);
    let query = format!("SELECT segment_id, {item} AS item, count(*) AS people{states} FROM {joined} GROUP BY 1, 2");
    let frame = match night.over(&query, &people.tables()).await {
        Ok(frame) => frame,
        Err(error) => {
            return Err(wrong_item(night, (name, dimension, by), &joined, &people.tables()).await.unwrap_or(error));
        }
    };
    let batch = rows::collect(frame).await?;
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    for (item, people) in rows::texts(&batch, "item")?.into_iter().zip(rows::integers(&batch, "people")?) {
        *found.entry(item.unwrap_or_default()).or_default() += people.unwrap_or(0);
    }
    Ok((night.engine.session().read_batch(batch)?, found.into_iter().collect()))
}

/// Rows of a column of moments; where there is none, each of the moments is null.
fn taken(found: &RecordBatch, column: &str, which: &UInt64Array) -> Result<StructArray, StageError> {
    let (schema, parts, _) = rows::fields(found, column)?.into_parts();
    let parts = parts.iter().map(|part| take(part, which, None)).collect::<Result<Vec<_>, _>>()?;
    let of = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Ok(StructArray::try_new(of, parts, None)?)
}

/// Of every item, how many people there are, and how many of them count at each step.
async fn at_steps(
    night: &Night<'_>,
    states: &DataFrame,
    steps: usize,
) -> Result<BTreeMap<String, (i64, Vec<i64>)>, StageError> {
    let merged: String = (0..steps).map(|at| format!(", moments_merge(\"cell {at}\") AS \"cell {at}\"")).collect();
    let query = format!("SELECT item, sum(people) AS people{merged} FROM states GROUP BY item");
    let batch = rows::collect(night.over(&query, &[("states", states)]).await?).await?;
    let (items, people) = (rows::texts(&batch, "item")?, rows::integers(&batch, "people")?);
    let counted = (0..steps).map(|at| rows::integers(&rows::fields(&batch, &format!("cell {at}"))?, "some_y"));
    let counted: Vec<Vec<Option<i64>>> = counted.collect::<Result<_, _>>()?;
    let of = |row: usize| (people[row].unwrap_or(0), counted.iter().map(|n| n[row].unwrap_or(0)).collect());
    Ok((0..batch.num_rows()).map(|row| (items[row].clone().unwrap_or_default(), of(row))).collect())
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

/// What is not told by itself where these items are.
fn others(breakdown: &str, dimension: &str, by: &str, told: Vec<String>) -> Others {
    Others { breakdown: breakdown.to_owned(), dimension: dimension.to_owned(), by: by.to_owned(), told }
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

/// What was spent on each channel in the days that ended so long before the night.
async fn spent(night: &Night<'_>, name: &str, lag: Option<&str>) -> Result<BTreeMap<String, i128>, StageError> {
    let wrong = |problem| StageError::Expression { place: format!("breakdowns.{name}.lag"), problem };
    let entity = Entity::MarketingCosts;
    let costs = night.input(&entity.clean_table())?;
    // A day is as long as the project's zone has it.
    let day = "(arrow_cast(spent_on, 'Timestamp(µs)') AT TIME ZONE timezone)";
    let window = within(night, entity, SPENT, lag, night.as_of).map_err(wrong)?;
    let window = formula::with_word(&window, entity.event_time(), day)?;
    let query = format!(
        "SELECT coalesce(lower(trim(channel)), '{UNKNOWN}') AS item, sum(amount) AS spent FROM costs WHERE {window} AND spent_on < as_of_date GROUP BY 1"
    );
    let batch = rows::collect(night.over(&query, &[("costs", costs)]).await?).await?;
    let items = rows::texts(&batch, "item")?.into_iter().map(Option::unwrap_or_default);
    let amounts = rows::money(&batch, "spent")?.into_iter().map(Option::unwrap_or_default);
    Ok(items.zip(amounts).collect())
}

#[cfg(test)]
mod tests;
