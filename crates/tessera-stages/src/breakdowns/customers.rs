//! Breakdowns of customers: one row each, for one item of a dimension; told at several steps, perhaps.

use std::collections::BTreeMap;

use datafusion::{
    arrow::array::{StructArray, UInt64Array},
    prelude::DataFrame,
};
use tessera_contract::{Breakdown, Entity};
use tessera_engine::formula::{self, quote, text};

use super::{Breakdowns, Cell, OTHER, Others, UNKNOWN, chosen, fewest, is_item, item_of, places, taken, wrong_item};
use crate::{
    Night, StageError, blame,
    features::within,
    figures::{People, Sums, exact, of_customers},
    rows,
};

/// A dimension over features: its cells are counted by item.
pub(super) struct Dimension<'a> {
    name: &'a str,
    dimension: &'a str,
    items: Vec<String>,
    steps: Vec<Option<u32>>,
    /// Whether all items together are told from it.
    tells_all: bool,
    /// Of every segment and item that there is, the states of the moments of each step.
    states: DataFrame,
}

/// An expression at a step.
fn at_step(expression: &str, step: Option<u32>) -> Result<String, StageError> {
    Ok(match step {
        Some(step) => formula::with_word(expression, "step", &step.to_string())?,
        None => expression.to_owned(),
    })
}

/// What the rows that meet two conditions add to the two sums of an entry, at a step.
fn terms(entry: &Breakdown, which: &str, condition: &str, step: Option<u32>) -> Result<[String; 2], StageError> {
    let which = at_step(which, step)?;
    let term = |value: &str| -> Result<String, StageError> {
        Ok(format!("CASE WHEN ({which}) AND {condition} THEN {} END", at_step(value, step)?))
    };
    Ok([term(&entry.numerator)?, term(&entry.denominator)?])
}

impl<'a> Breakdowns<'a> {
    /// A breakdown of customers.
    pub(super) async fn add_customers(
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
            true => Some(spent(night, name, entry).await?),
            false => None,
        };
        let which = entry.which.as_deref().unwrap_or("true");
        let of = |condition: &str, step: Option<u32>| -> Result<([String; 2], Option<[String; 2]>), StageError> {
            let two = |which: &str| -> Result<[String; 2], StageError> {
                Ok(terms(entry, which, condition, step)?.map(|term| of_customers(&term)))
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
                        let others = Others::of(name, dimension, by, chosen.items.clone());
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
}

impl Dimension<'_> {
    /// The moments of its cells by segment and of everybody, in the order of the given segments.
    pub(super) async fn counted(
        &self,
        night: &Night<'_>,
        cells: &[Cell<'_>],
        segments: &[Option<i64>],
    ) -> Result<Vec<(String, StructArray)>, StageError> {
        let told: Vec<String> = self.items.iter().map(|item| text(item)).collect();
        let item = match told.is_empty() {
            true => text(OTHER),
            false => format!("CASE WHEN item IN ({}) THEN item ELSE '{OTHER}' END", told.join(", ")),
        };
        let columns = self.states.schema().fields().iter().map(|f| f.name()).filter(|name| name.contains(' '));
        let merged: String = columns.map(|c| format!(", moments_merge({0}) AS {0}", quote(c))).collect();
        let query = format!(
            "SELECT segment_id, item{merged} FROM (SELECT * EXCEPT (item), {item} AS item FROM states) \
             GROUP BY GROUPING SETS ((segment_id, item), (item), (segment_id), ())"
        );
        let found = rows::collect(night.over(&query, &[("states", &self.states)]).await?).await?;
        let (ids, named) = (rows::integers(&found, "segment_id")?, rows::texts(&found, "item")?);
        let place: BTreeMap<(Option<i64>, Option<&str>), u64> =
            ids.into_iter().zip(named.iter().map(Option::as_deref)).zip(0..).collect();
        let ours = |cell: &&Cell<'_>| {
            cell.name == self.name && cell.item.as_ref().map_or(self.tells_all, |(of, _)| *of == self.dimension)
        };
        let mut moments = Vec::new();
        for cell in cells.iter().filter(ours) {
            let item = cell.item.as_ref().map(|(_, item)| item.as_str());
            let at = self.steps.iter().position(|step| *step == cell.step).unwrap_or(0);
            let which: UInt64Array = segments.iter().map(|segment| place.get(&(*segment, item)).copied()).collect();
            for ((_, column), what) in cell.all().zip(["cell", "versus"]) {
                moments.push((column.clone(), taken(&found, &format!("{what} {at}"), &which)?));
            }
        }
        Ok(moments)
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
            let [x, y] = terms(entry, which, "true", *step)?;
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

/// What was spent on each channel in the window.
async fn spent(night: &Night<'_>, name: &str, entry: &Breakdown) -> Result<BTreeMap<String, i128>, StageError> {
    let wrong = |problem| StageError::Expression { place: format!("breakdowns.{name}.lag"), problem };
    let (entity, window) = (Entity::MarketingCosts, entry.window.as_deref().unwrap_or_default());
    let costs = night.input(&entity.clean_table())?;
    // A day is as long as the project's zone has it.
    let day = "(arrow_cast(spent_on, 'Timestamp(µs)') AT TIME ZONE timezone)";
    let window = within(night, entity, window, entry.lag.as_deref(), night.as_of).map_err(wrong)?;
    let window = formula::with_word(&window, entity.event_time(), day)?;
    let query = format!(
        "SELECT coalesce(lower(trim(channel)), '{UNKNOWN}') AS item, sum(amount) AS spent FROM costs WHERE {window} AND spent_on < as_of_date GROUP BY 1"
    );
    let batch = rows::collect(night.over(&query, &[("costs", costs)]).await?).await?;
    let items = rows::texts(&batch, "item")?.into_iter().map(Option::unwrap_or_default);
    let amounts = rows::money(&batch, "spent")?.into_iter().map(Option::unwrap_or_default);
    Ok(items.zip(amounts).collect())
}
