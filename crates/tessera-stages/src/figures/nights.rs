//! Another published night, against which a night is held.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::prelude::DataFrame;

use jiff::civil::Date;
use tessera_contract::AsOf;

use super::{AT_ONCE, BREAKDOWNS, People, Sums, TELLING, Told, Values, columns};
use crate::{
    Night, StageError,
    breakdowns::ToldItems,
    rows, scaled,
    suppress::{Hidden, Moves},
};

/// Another night that is published.
pub(super) struct Other {
    people: People,
    /// Tonight's sums, as that night told them.
    then: Vec<String>,
    pub(super) segments: Vec<i64>,
    told: BTreeSet<(String, String, String, Option<i64>)>,
    /// Of figures by item, what is told of everybody.
    totals: BTreeMap<(String, String), i128>,
    pub(super) values: Values,
}

/// The items that a night told, by breakdown and dimension.
async fn told_items(night: &Night<'_>, told: Option<&DataFrame>) -> Result<ToldItems, StageError> {
    let mut found = ToldItems::new();
    if let Some(told) = told {
        let query = "SELECT DISTINCT breakdown, dimension, item FROM told WHERE dimension IS NOT NULL AND item <> 'other' ORDER BY 1, 2, 3";
        let batch = rows::collect(night.over(query, &[("told", told)]).await?).await?;
        let [breakdowns, dimensions, items] =
            ["breakdown", "dimension", "item"].map(|column| rows::texts(&batch, column));
        for ((breakdown, dimension), item) in breakdowns?.into_iter().zip(dimensions?).zip(items?) {
            let key = (breakdown.unwrap_or_default(), dimension.unwrap_or_default());
            found.entry(key).or_default().extend(item);
        }
    }
    Ok(found)
}

/// This night, as another is held against it.
pub(super) struct Now<'a> {
    pub(super) expressions: &'a [&'a str],
    pub(super) values: &'a Values,
    pub(super) segments: &'a [i64],
    pub(super) threshold: Option<i64>,
}

impl Other {
    pub(super) async fn of(
        sums: &Sums<'_>,
        (date, tables): &(Date, BTreeMap<String, DataFrame>),
        expressions: &[&str],
        threshold: Option<i64>,
    ) -> Result<Self, StageError> {
        let night = sums.night;
        let table = |name: &str| {
            let missing = || StageError::Data(format!("a published night left no table {name}"));
            tables.get(name).ok_or_else(missing)
        };
        let (mut told, mut totals) = (BTreeSet::new(), BTreeMap::new());
        // A night before there were breakdowns told none.
        for (name, of, columns) in
            TELLING.into_iter().filter(|(name, ..)| *name != BREAKDOWNS || tables.contains_key(*name))
        {
            let columns_told: String = columns.iter().map(|c| format!(", {c}")).collect();
            let query = format!("SELECT segment_id, {of} AS told_of{columns_told} FROM told");
            let batch = rows::collect(night.over(&query, &[("told", table(name)?)]).await?).await?;
            let (ids, of) = (rows::integers(&batch, "segment_id")?, rows::texts(&batch, "told_of")?);
            for column in columns {
                let known = batch.column_by_name(column).map(|c| (0..c.len()).map(|row| c.is_valid(row)).collect());
                let known: Vec<bool> = known.unwrap_or_default();
                let told_of = |row: usize| of[row].clone().unwrap_or_default();
                for row in (0..known.len()).filter(|row| known[*row]) {
                    told.insert((name.to_owned(), told_of(row), (*column).to_owned(), ids[row]));
                }
                if name == BREAKDOWNS {
                    let amounts = rows::money(&batch, column)?;
                    let everybody = (0..amounts.len()).filter(|row| ids[*row].is_none());
                    let of_all =
                        everybody.filter_map(|row| Some(((told_of(row), (*column).to_owned()), amounts[row]?)));
                    totals.extend(of_all);
                }
            }
        }
        let mut people = People::of(night, tables, sums.people()).await?;
        let as_of = AsOf::new(*date, &night.project.project.timezone).map_err(|e| StageError::Data(e.to_string()))?;
        let items = told_items(night, tables.get(BREAKDOWNS)).await?;
        people.items =
            sums.items.of_customers(night, as_of, |name| tables.get(name), table("accounts")?, &items).await?;
        let then: Vec<String> = expressions.iter().map(|sum| sums.then(sum, &items)).collect();
        let told_then: Vec<&str> = then.iter().map(String::as_str).collect();
        let values = sums.values(&people, &told_then, &scaled::below(threshold)).await?;
        let everybody = people.everybody(night, &[]);
        let ids = format!("SELECT DISTINCT segment_id FROM {everybody}");
        let ids = rows::collect(night.over(&ids, &people.tables()).await?).await?;
        let mut segments: Vec<i64> = rows::integers(&ids, "segment_id")?.into_iter().flatten().collect();
        segments.sort_unstable();
        Ok(Self { people, then, segments, told, totals, values })
    }

    /// What it told of a sum that is told of everybody alone, if it told it.
    pub(super) fn total(&self, places: &[Told]) -> Option<i128> {
        places.iter().find_map(|told| self.totals.get(&(told.of.clone(), told.column.to_owned())).copied())
    }

    /// What it hides of a sum.
    pub(super) fn hidden(&self, places: &[Told]) -> Hidden {
        let tells = |told: &Told, column: &str, segment: Option<i64>| {
            self.told.contains(&(told.table.to_owned(), told.of.clone(), column.to_owned(), segment))
        };
        let of_all = |told: &Told| match told.total {
            None => tells(told, told.column, None),
            Some(column) => self.segments.iter().any(|id| tells(told, column, Some(*id))),
        };
        Hidden {
            groups: self
                .segments
                .iter()
                .map(|id| !places.iter().any(|told| tells(told, told.column, Some(*id))))
                .collect(),
            total: !places.iter().any(of_all),
        }
    }

    /// Who was where and is where, for each of some sums.
    pub(super) async fn moves(
        &self,
        sums: &Sums<'_>,
        now: &Now<'_>,
        asked: &[(usize, Hidden)],
    ) -> Result<Vec<Moves>, StageError> {
        let Now { expressions, values: now, segments, threshold } = *now;
        let place = |ids: &[i64], id: i64| ids.binary_search(&id).ok();
        let mut left: HashMap<&str, usize> =
            self.values.keys.iter().enumerate().map(|(i, key)| (key.as_str(), i)).collect();
        let mut pairs: Vec<(Option<usize>, Option<usize>)> = Vec::new();
        for (i, key) in now.keys.iter().enumerate().filter(|(i, _)| threshold.is_none_or(|t| now.hashes[*i] < t)) {
            pairs.push((left.remove(key.as_str()), Some(i)));
        }
        pairs.extend(left.into_values().map(|i| (Some(i), None)));
        let k = sums.night.project.privacy.k;
        let (mut found, mut open) = (Vec::new(), Vec::new());
        for (at, (sum, _)) in asked.iter().enumerate() {
            let mut moves = Moves::new(self.segments.len(), segments.len());
            for (then, later) in &pairs {
                let value = |values: &Values, i: &Option<usize>| i.map_or(0, |i| values.of[*sum][i]);
                let from = then.and_then(|i| place(&self.segments, self.values.segments[i]));
                let to = later.and_then(|i| place(segments, now.segments[i]));
                moves.add(from, to, [value(&self.values, then), value(now, later)]);
            }
            if threshold.is_some() && moves.undecided(k) {
                open.push(at);
            }
            found.push(moves);
        }
        for some in open.chunks(AT_ONCE / 3) {
            let expressions: Vec<&str> = some.iter().map(|at| expressions[asked[*at].0]).collect();
            let counts: String = (0..expressions.len())
                .map(|at| {
                    format!(
                        ", count(*) FILTER (WHERE coalesce(a.v{at}, 0) <> coalesce(b.v{at}, 0)) AS c{at}, count(*) FILTER (WHERE a.v{at} <> 0) AS t{at}, count(*) FILTER (WHERE b.v{at} <> 0) AS n{at}"
                    )
                })
                .collect();
            let night = sums.night;
            let then: Vec<&str> = some.iter().map(|at| self.then[asked[*at].0].as_str()).collect();
            let query = |people: &People, sums: &[&str]| {
                let values = columns(sums);
                format!("SELECT customer_key, segment_id{values} FROM {}", people.everybody(night, sums))
            };
            let then = night.over(&query(&self.people, &then), &self.people.tables()).await?;
            let now = night.over(&query(sums.people(), &expressions), &sums.people().tables()).await?;
            let query = format!(
                "SELECT a.segment_id AS was, b.segment_id AS is{counts} FROM a FULL JOIN b ON a.customer_key = b.customer_key GROUP BY 1, 2"
            );
            let batch = rows::collect(night.over(&query, &[("a", &then), ("b", &now)]).await?).await?;
            let (was, is) = (rows::integers(&batch, "was")?, rows::integers(&batch, "is")?);
            for (at, which) in some.iter().enumerate() {
                let counts = ["c", "t", "n"].map(|count| rows::integers(&batch, &format!("{count}{at}")));
                let [changed, then, now] = counts;
                let (changed, then, now) = (changed?, then?, now?);
                for row in 0..batch.num_rows() {
                    let from = was[row].and_then(|id| place(&self.segments, id));
                    let to = is[row].and_then(|id| place(segments, id));
                    let counts = [&changed, &then, &now].map(|counts| counts[row].unwrap_or(0));
                    found[*which].put(from, to, counts);
                }
            }
        }
        Ok(found)
    }
}
