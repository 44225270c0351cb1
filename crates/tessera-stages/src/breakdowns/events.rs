//! Breakdowns of what happened: rows of an entity, of which a person may have several, for several items.

use std::collections::BTreeMap;

use datafusion::{
    arrow::array::{StructArray, UInt64Array},
    prelude::DataFrame,
};
use tessera_contract::{Breakdown, Entity};
use tessera_engine::formula::quote;

use super::{
    Breakdowns, Cell, Items, OTHER, chosen, fewest, item_of,
    items::{Others, Place},
    places, taken, wrong_item,
};
use crate::{
    Night, StageError, blame,
    features::{rows_of, within},
    figures::{People, Sums, exact},
    rows,
};

impl<'a> Breakdowns<'a> {
    /// A breakdown of rows of an entity.
    pub(super) async fn add_events(
        &mut self,
        night: &Night<'_>,
        (name, entry, by): (&'a str, &'a Breakdown, &[(&'a str, &'a str)]),
        entity: Entity,
        sums: &Sums<'_>,
        items: &mut Items,
    ) -> Result<(), StageError> {
        let clean = night.input(&entity.clean_table())?;
        let rows = night.over(&rows_of(entity, clean), &[("clean", clean)]).await?;
        let given = [("rows", &rows)];
        let which = entry.which.as_deref().unwrap_or("true");
        let counts = match &entry.versus {
            Some(versus) => format!("(({which}) OR ({versus}))"),
            None => format!("({which})"),
        };
        let expressions = [&entry.numerator, &entry.denominator].map(|e| format!(", {}", exact(e)));
        let query = format!("SELECT 1{} FROM rows WHERE {counts}", expressions.concat());
        if let Err(error) = night.over(&query, &given).await {
            let alone = |expression: &str| format!("SELECT ({expression}) FROM rows");
            return Err(blame(night, places(name, entry), alone, &given).await.unwrap_or(error));
        }
        let mut all = Vec::new();
        for (dimension, by) in by {
            if let Err(error) = night.over(&format!("SELECT {} FROM rows", item_of(by)), &given).await {
                return Err(wrong_item(night, (name, dimension, by), "rows", &given).await.unwrap_or(error));
            }
            all.push(chosen(
                items_of(night, entity, entry, by, &counts, &rows, sums.people()).await?,
                entry,
                fewest(night),
            ));
        }
        let rows = (entity, entry.window.as_deref());
        let mut add = |place: &Place| {
            let of = |which: &str, items: &mut Items| {
                [&entry.numerator, &entry.denominator].map(|e| quote(&items.add(rows, which, place, e)))
            };
            (of(which, items), entry.versus.as_deref().map(|versus| of(versus, items)))
        };
        let whole = add(&Place::All);
        self.add_cell(name, entry, None, None, whole, None);
        for ((dimension, by), chosen) in by.iter().zip(all) {
            self.whole.push((name, *dimension));
            for item in &chosen.items {
                let sums = add(&Place::One((*by).to_owned(), item.clone()));
                self.add_cell(name, entry, Some((*dimension, item.clone())), None, sums, None);
            }
            if chosen.others {
                let sums = add(&Place::Others(Others::of(name, dimension, by, chosen.items)));
                self.add_cell(name, entry, Some((*dimension, OTHER.to_owned())), None, sums, None);
            }
        }
        Ok(())
    }

    /// The moments of the items by segment and of everybody, in the order of the given segments.
    pub(super) async fn of_items(
        &self,
        night: &Night<'_>,
        people: &People,
        segments: &[Option<i64>],
    ) -> Result<Vec<(String, StructArray)>, StageError> {
        let Some(relation) = people.of_items() else { return Ok(Vec::new()) };
        let cells = self.cells.iter().filter(|cell| cell.entry.entity().is_some());
        let sums: Vec<(&[String; 2], &String)> = cells.flat_map(Cell::all).collect();
        let state = |([x, y], column): &(&[String; 2], &String)| {
            format!(", moments_state({}, {}) AS {}", exact(x), exact(y), quote(column))
        };
        let merged = |(_, column): &(_, &String)| format!(", moments_merge({0}) AS {0}", quote(column));
        let query = format!(
            "SELECT segment_id{} FROM (SELECT segment_id{} FROM {relation} GROUP BY segment_id) \
             GROUP BY GROUPING SETS ((segment_id), ())",
            sums.iter().map(merged).collect::<String>(),
            sums.iter().map(state).collect::<String>()
        );
        let found = rows::collect(night.over(&query, &people.tables()).await?).await?;
        let place: BTreeMap<Option<i64>, u64> = rows::integers(&found, "segment_id")?.into_iter().zip(0..).collect();
        let which: UInt64Array = segments.iter().map(|segment| place.get(segment).copied()).collect();
        sums.into_iter().map(|(_, column)| Ok((column.clone(), taken(&found, column, &which)?))).collect()
    }
}

/// The items of the rows of a night, each with the people who are in a figure.
async fn items_of(
    night: &Night<'_>,
    entity: Entity,
    entry: &Breakdown,
    by: &str,
    counts: &str,
    rows: &DataFrame,
    people: &People,
) -> Result<Vec<(String, i64)>, StageError> {
    let window = match &entry.window {
        Some(window) => within(night, entity, window, None, night.as_of).map_err(StageError::Data)?,
        None => "true".to_owned(),
    };
    let mut tables = people.tables();
    tables.extend([("rows", rows), ("accounts", night.input("accounts")?)]);
    let query = format!(
        "SELECT item, count(DISTINCT r.customer_key) AS people FROM (SELECT {} AS item, a.customer_key FROM \
         (SELECT * FROM rows WHERE {window} AND {counts}) AS r JOIN accounts AS a ON r.account_key = a.account_key) AS r \
         JOIN {} AS e ON r.customer_key = e.customer_key GROUP BY item",
        item_of(by),
        people.everybody(night, &[])
    );
    let batch = rows::collect(night.over(&query, &tables).await?).await?;
    let items = rows::texts(&batch, "item")?.into_iter().map(Option::unwrap_or_default);
    Ok(items.zip(rows::integers(&batch, "people")?.into_iter().map(Option::unwrap_or_default)).collect())
}
