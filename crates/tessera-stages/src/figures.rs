//! What is published of customers together: sums of values per customer, by segment and over everybody.
//!
//! A table names the sums behind its figures here, and where it tells them; all of them are hidden together (see [`crate::suppress`]),
//! whichever table tells them. What that takes is counted in customers sampled by the hash of their key, and where these do not
//! decide it, in all.

mod moments;
mod nights;
mod people;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::RecordBatch;
use tessera_contract::table::MONEY;

use self::nights::{Now, Other};
pub(crate) use self::{
    moments::Moments,
    people::{NOBODYS, People, of_customers},
};
use crate::{
    Night, StageError,
    breakdowns::{Items, Others, ToldItems},
    rows, scaled,
    suppress::{self, Apart, Hidden, Moves, Parts, Published, Sum},
};

/// Customers of each segment in which it is counted for how many two sums differ.
const OF_A_SEGMENT: usize = if cfg!(test) { 16 } else { 2048 };
/// Customers in whom it is counted what changed between two nights.
const OF_TWO_NIGHTS: usize = if cfg!(test) { 32 } else { 32_768 };
/// The value of a sum that counts everybody.
const ONE: i128 = 10_i128.pow(MONEY.1 as u32);
/// Counts asked for in one query.
const AT_ONCE: usize = 256;

/// Where a sum is told: a figure of a row per segment, and one that tells it of everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The table.
    pub table: &'static str,
    /// What the row is of: a KPI or feature.
    pub of: String,
    /// The column that tells a segment's.
    pub column: &'static str,
    /// The column that tells everybody's, in any row; without it, that of the row without a segment.
    pub total: Option<&'static str>,
    /// Whether it is told by segment.
    pub segments: bool,
    /// How much it is asked for: of two figures, the one that is asked for less is hidden.
    pub rank: u8,
}

/// Where the people behind a sum are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The moments, in a row per segment.
    pub column: String,
    /// Of what in them.
    pub field: Field,
}

/// A sum that moments hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// That of the first argument.
    X,
    /// That of the second.
    Y,
    /// A one for those in whom the second is not 0.
    SomeY,
    /// A one for those of whom the first is known.
    Known,
}

impl Behind {
    /// By row, how many people there are, and whether each adds one.
    fn people(&self, counted: &RecordBatch) -> Result<Vec<(i64, bool)>, StageError> {
        let moments = rows::fields(counted, &self.column)?;
        let (some, sum, spread) = match self.field {
            Field::X => ("some_x", Some("sum_x"), "var_x"),
            Field::Y => ("some_y", Some("sum_y"), "var_y"),
            Field::SomeY => ("some_y", None, ""),
            Field::Known => ("n", None, ""),
        };
        let some = rows::integers(&moments, some)?.into_iter().map(|n| n.unwrap_or(0));
        let Some(sum) = sum else { return Ok(some.map(|n| (n, true)).collect()) };
        let (known, sums, spread) =
            (rows::integers(&moments, "n")?, rows::money(&moments, sum)?, rows::floats(&moments, spread)?);
        let one = |row: usize, some: i64| {
            known[row] == Some(some) && sums[row] == Some(i128::from(some) * ONE) && spread[row].unwrap_or(0.0) == 0.0
        };
        Ok(some.enumerate().map(|(row, some)| (some, one(row, some))).collect())
    }

    /// What is told of everybody, and whether it is a count of people.
    fn total(&self, counted: &RecordBatch) -> Result<(i128, bool), StageError> {
        let Some(row) = rows::integers(counted, "segment_id")?.iter().position(Option::is_none) else {
            return Ok((0, false));
        };
        let moments = &Moments::all(counted, &self.column)?[row];
        let [x, y] = moments.are_counts();
        Ok(match self.field {
            Field::X => (moments.x, x),
            Field::Y => (moments.y, y),
            Field::SomeY => (i128::from(moments.some_y) * ONE, true),
            Field::Known => (i128::from(self.people(counted)?[row].0) * ONE, true),
        })
    }
}

/// The tables that tell figures, with SQL of what a row is of, and the columns that hold figures.
const TELLING: [(&str, &str, &[&str]); 3] = [
    ("kpis", "kpi", &["numerator", "denominator", "n"]),
    ("segment_profiles", "feature", &["customers", "mean", "population_mean"]),
    (BREAKDOWNS, CELL, &["numerator", "denominator", "n", "versus_numerator", "versus_denominator"]),
];
/// The table of figures by item.
pub(crate) const BREAKDOWNS: &str = "kpi_breakdowns";
/// SQL of which breakdown, item and step a row of it is of, and the same of a row that is to be one.
const CELL: &str =
    "breakdown || '/' || coalesce(dimension || '=' || item, '') || '/' || coalesce(CAST(step AS VARCHAR), '')";
pub(crate) fn cell(breakdown: &str, item: Option<(&str, &str)>, step: Option<u32>) -> String {
    let item = item.map(|(dimension, item)| format!("{dimension}={item}")).unwrap_or_default();
    format!("{breakdown}/{item}/{}", step.map(|step| step.to_string()).unwrap_or_default())
}

/// The sums of a night.
pub(crate) struct Sums<'a> {
    night: &'a Night<'a>,
    people: People,
    items: Items,
    /// The sums over what is not told by itself of a dimension.
    others: BTreeMap<String, Others>,
    sums: BTreeMap<String, (Behind, Vec<Told>)>,
    parts: Vec<Vec<String>>,
}

/// The segments of a night, and what is hidden of its sums.
pub(crate) struct Verdict {
    segments: Vec<i64>,
    hidden: BTreeMap<String, Hidden>,
}

impl Verdict {
    /// Whether a sum of a segment, or of everybody, is not told.
    pub(crate) fn hides(&self, sum: &str, segment: Option<i64>) -> bool {
        self.hidden.get(sum).is_some_and(|hidden| match segment {
            None => hidden.total,
            Some(id) => self.segments.binary_search(&id).is_ok_and(|at| hidden.groups[at]),
        })
    }
}

/// A value to the digits that the tables have, before anything is added up: so the segments' sums are that of everybody.
pub(crate) fn exact(expression: &str) -> String {
    format!("CAST(coalesce({expression}, 0) AS DECIMAL(38, 6))")
}

/// One for those for whom something is not 0.
pub(crate) fn counted(expression: &str) -> String {
    format!("CASE WHEN ({expression}) <> 0 THEN 1 ELSE 0 END")
}

/// Some customers' values of all sums, by sum.
struct Values {
    keys: Vec<String>,
    hashes: Vec<i64>,
    segments: Vec<i64>,
    of: Vec<Vec<i128>>,
}

impl Values {
    /// Whether a sum is one for each of them who has a segment, and nothing for the others.
    fn counts_everybody(&self, sum: usize) -> bool {
        self.of[sum].iter().zip(&self.segments).all(|(v, segment)| *v == if *segment == NOBODYS { 0 } else { ONE })
    }
}

impl<'a> Sums<'a> {
    /// No sums yet, over the customers of a night.
    pub(crate) async fn new(night: &'a Night<'_>) -> Result<Self, StageError> {
        let people = People::of_tonight(night).await?;
        Ok(Self {
            night,
            people,
            items: Items::default(),
            others: BTreeMap::new(),
            sums: BTreeMap::new(),
            parts: Vec::new(),
        })
    }

    /// Whose figures they are.
    pub(crate) fn people(&self) -> &People {
        &self.people
    }

    /// Puts what every customer adds to the items of breakdowns beside the customers.
    pub(crate) async fn put_items(&mut self, items: Items) -> Result<(), StageError> {
        let night = self.night;
        let clean = |name: &str| night.tables.get(name).map(|input| &input.frame);
        self.people.items =
            items.of_customers(night, night.as_of, clean, night.input("accounts")?, &ToldItems::new()).await?;
        self.items = items;
        Ok(())
    }

    /// A sum over what is not told by itself of a dimension: of another night, over what that night did not tell by itself.
    pub(crate) fn add_others(&mut self, sum: String, others: Others) {
        self.others.insert(sum, others);
    }

    /// A sum as another night told it.
    fn then(&self, sum: &str, told: &ToldItems) -> String {
        let Some(others) = self.others.get(sum) else { return sum.to_owned() };
        let told = told.get(&(others.breakdown.clone(), others.dimension.clone()));
        sum.replace(&others.condition(None), &others.condition(told.map(Vec::as_slice)))
    }

    /// Sums of which the first is that of the others, for everybody.
    pub(crate) fn add_parts(&mut self, whole: String, parts: impl IntoIterator<Item = String>) {
        self.parts.push([whole].into_iter().chain(parts).collect());
    }

    /// A sum that is told.
    pub(crate) fn add(&mut self, expression: &str, behind: Behind, told: Told) {
        self.sums.entry(expression.to_owned()).or_insert_with(|| (behind, Vec::new())).1.push(told);
    }

    /// What is hidden, by a row per segment with `segment_id`, the number of `members` and what is [`Behind`] the sums.
    pub(crate) async fn verdict(&self, counted: &RecordBatch) -> Result<Verdict, StageError> {
        let k = self.night.project.privacy.k;
        let ids = rows::integers(counted, "segment_id")?;
        let mut order: Vec<usize> = (0..ids.len()).filter(|row| ids[*row].is_some()).collect();
        order.sort_by_key(|row| ids[*row]);
        let segments: Vec<i64> = order.iter().filter_map(|row| ids[*row]).collect();
        let column = |name: &str| -> Result<Vec<i64>, StageError> {
            let all = rows::integers(counted, name)?;
            Ok(order.iter().map(|row| all[*row].unwrap_or(0)).collect())
        };
        let members = column("members")?;
        // What is 0 for everybody says nothing of anybody.
        let (mut sums, mut people) = (Vec::new(), Vec::new());
        let mut everybody_counted: Vec<&str> = Vec::new();
        for (sum, (behind, told)) in &self.sums {
            let all = behind.people(counted)?;
            let of: Vec<i64> = order.iter().map(|row| all[*row].0).collect();
            // What counts everybody is one sum, whatever it is called.
            let everybody = |at: usize| of[at] == if segments[at] == NOBODYS { 0 } else { members[at] };
            if (0..of.len()).all(everybody) && order.iter().all(|row| all[*row].1) {
                everybody_counted.push(sum);
                if everybody_counted.len() > 1 {
                    continue;
                }
            }
            if of.iter().any(|n| *n > 0) {
                // What is told of everybody alone is one figure.
                let of = if told.iter().any(|told| told.segments) { of } else { together(&of) };
                sums.push((sum.as_str(), told));
                people.push(Sum { people: of, rank: told.iter().map(|told| told.rank).max().unwrap_or(0) });
            }
        }
        let expressions: Vec<&str> = sums.iter().map(|(sum, _)| *sum).collect();
        let everybody: i64 = members.iter().sum();
        let of_all = scaled::threshold(OF_TWO_NIGHTS, everybody);
        let wanted =
            |size: i64| OF_A_SEGMENT.max((OF_TWO_NIGHTS as f64 * size as f64 / everybody.max(1) as f64) as usize + 1);
        let within = segments.iter().zip(&members).map(|(id, size)| {
            format!("segment_id = {id} AND {}", scaled::below(scaled::threshold(wanted(*size), *size)))
        });
        let within = within.collect::<Vec<_>>().join(" OR ");
        let condition = if within.is_empty() { "false" } else { &within };
        let values = self.values(&self.people, &expressions, condition).await?;

        let whole: Vec<bool> = sums.iter().map(|(_, told)| !told.iter().any(|told| told.segments)).collect();
        let apart = self.apart(&expressions, (&people, &whole), &values, &segments, &members).await?;
        let relations = relations(&values);
        let place = |sum: &String| expressions.binary_search(&sum.as_str()).ok();
        let parts = self.parts.iter().filter_map(|parts| {
            let (whole, parts) = parts.split_first()?;
            Some(Parts { whole: place(whole)?, parts: parts.iter().filter_map(place).collect() })
        });
        let parts: Vec<Parts> = parts.collect();
        let alone = suppress::hidden_together(&people, &apart, &relations, &parts, &[], k);
        let mut nights = Vec::new();
        for published in [&self.night.neighbours.before, &self.night.neighbours.after] {
            // A night that tells all that this one would tell is the last that has to be looked at.
            let mut open: BTreeSet<usize> = (0..sums.len()).collect();
            for tables in published {
                if open.is_empty() {
                    break;
                }
                let other = Other::of(self, tables, &expressions, of_all).await?;
                // Who came and who left, the tables' rows tell.
                open.retain(|sum| ![&values, &other.values].iter().all(|v| v.counts_everybody(*sum)));
                let mut asked = Vec::new();
                for sum in open.clone() {
                    let (behind, places) = (&self.sums[expressions[sum]].0, sums[sum].1);
                    let hidden = other.hidden(places);
                    if whole[sum]
                        && let Some(then) = other.total(places)
                    {
                        let (now, ones) = behind.total(counted)?;
                        let changed = (now - then).abs();
                        if changed == 0 {
                            // What was told already tells nothing more.
                            open.remove(&sum);
                        } else if !ones || changed < i128::from(k) * ONE {
                            // Through whom it changed is not counted: it may be few.
                            let mut moves = Moves::new(hidden.groups.len(), segments.len());
                            moves.add(Some(0), Some(0), [0, 1]);
                            nights.push(Published { sum, hidden, moves });
                        }
                        continue;
                    }
                    // A segment that was not there yet was not told.
                    let closed = |id: &i64| other.segments.binary_search(id).map_or(true, |at| hidden.groups[at]);
                    let of_segments = places.iter().any(|told| told.segments);
                    let told = segments.iter().zip(&alone[sum].groups);
                    let mut told = told.filter(|(id, hidden)| of_segments && **id != NOBODYS && !**hidden);
                    if !(hidden.total && !alone[sum].total || told.any(|(id, _)| closed(id))) {
                        open.remove(&sum);
                    }
                    if !hidden.total || hidden.groups.contains(&false) {
                        asked.push((sum, hidden));
                    }
                }
                let now = Now { expressions: &expressions, values: &values, segments: &segments, threshold: of_all };
                let moves = other.moves(self, &now, &asked).await?;
                let seen = asked.into_iter().zip(moves);
                nights.extend(seen.map(|((sum, hidden), moves)| Published { sum, hidden, moves }));
            }
        }
        let all = suppress::hidden_together(&people, &apart, &relations, &parts, &nights, k);
        let mut hidden: BTreeMap<String, Hidden> = expressions.iter().map(|sum| (*sum).to_owned()).zip(all).collect();
        if let Some(first) = everybody_counted.first().and_then(|sum| hidden.get(*sum)).cloned() {
            hidden.extend(everybody_counted.iter().map(|sum| ((*sum).to_owned(), first.clone())));
        }
        Ok(Verdict { segments, hidden })
    }

    /// The values of some customers of a night.
    async fn values(&self, people: &People, sums: &[&str], condition: &str) -> Result<Values, StageError> {
        let query = format!(
            "SELECT customer_key, row_hash(customer_key) AS key_hash, segment_id{} FROM {}",
            columns(sums),
            people.everybody_where(self.night, sums, condition)
        );
        let batch = rows::collect(self.night.over(&query, &people.tables()).await?).await?;
        let all = |values: Vec<Option<i64>>| values.into_iter().map(|v| v.unwrap_or(0)).collect::<Vec<_>>();
        Ok(Values {
            keys: rows::texts(&batch, "customer_key")?.into_iter().map(Option::unwrap_or_default).collect(),
            hashes: all(rows::integers(&batch, "key_hash")?),
            segments: all(rows::integers(&batch, "segment_id")?),
            of: (0..sums.len())
                .map(|at| Ok(rows::money(&batch, &format!("v{at}"))?.into_iter().map(|v| v.unwrap_or(0)).collect()))
                .collect::<Result<_, StageError>>()?,
        })
    }

    /// Of every two sums, for how many people they differ; where these are enough, it may be said of fewer.
    async fn apart(
        &self,
        sums: &[&str],
        (behind, whole): (&[Sum], &[bool]),
        values: &Values,
        segments: &[i64],
        members: &[i64],
    ) -> Result<Vec<Apart>, StageError> {
        let k = i64::try_from(self.night.project.privacy.k).unwrap_or(i64::MAX);
        let groups: Vec<usize> = values.segments.iter().map(|id| segments.binary_search(id).unwrap_or(0)).collect();
        let mut sampled = vec![0_i64; segments.len()];
        groups.iter().for_each(|group| sampled[*group] += 1);
        let mut found = Vec::new();
        let mut open = Vec::new();
        for b in 0..sums.len() {
            for a in 0..b {
                // Where one is told of everybody alone, so is the difference.
                let whole = whole[a] || whole[b];
                let [of_a, of_b] = [a, b].map(|sum| match whole {
                    true => together(&behind[sum].people),
                    false => behind[sum].people.clone(),
                });
                // Where one is of so many more than the other, they differ for these at least.
                let more = of_a.iter().zip(&of_b).map(|(a, b)| (a - b).abs());
                if more.clone().zip(&of_b).all(|(n, of_b)| n >= k || n == 0 && *of_b == 0) {
                    found.push(Apart { sums: [a, b], people: more.collect() });
                    continue;
                }
                let mut people = vec![0_i64; segments.len()];
                for ((x, y), group) in values.of[a].iter().zip(&values.of[b]).zip(&groups) {
                    people[*group] += i64::from(x != y);
                }
                if whole {
                    people = together(&people);
                }
                let few = |g: usize| people[if whole { 0 } else { g }] < k;
                if (0..segments.len()).any(|g| few(g) && sampled[g] < members[g]) {
                    open.push((found.len(), whole));
                }
                found.push(Apart { sums: [a, b], people });
            }
        }
        for some in open.chunks(AT_ONCE) {
            let these: BTreeSet<usize> = some.iter().flat_map(|(pair, _)| found[*pair].sums).collect();
            let these: Vec<usize> = these.into_iter().collect();
            let counts = some.iter().enumerate().map(|(at, (pair, _))| {
                let [a, b] = found[*pair].sums.map(|sum| these.partition_point(|this| *this < sum));
                format!(", count(*) FILTER (WHERE v{a} <> v{b}) AS c{at}")
            });
            let these: Vec<&str> = these.iter().map(|sum| sums[*sum]).collect();
            let query = format!(
                "SELECT segment_id{} FROM (SELECT segment_id{} FROM {}) GROUP BY segment_id",
                counts.collect::<String>(),
                columns(&these),
                self.people.everybody(self.night, &these)
            );
            let batch = rows::collect(self.night.over(&query, &self.people.tables()).await?).await?;
            let ids = rows::integers(&batch, "segment_id")?;
            for (at, (pair, whole)) in some.iter().enumerate() {
                let counts = rows::integers(&batch, &format!("c{at}"))?;
                for (id, n) in ids.iter().zip(counts) {
                    if let Some(group) = id.and_then(|id| segments.binary_search(&id).ok()) {
                        found[*pair].people[group] = n.unwrap_or(0);
                    }
                }
                if *whole {
                    found[*pair].people = together(&found[*pair].people);
                }
            }
        }
        Ok(found)
    }
}

/// The people of all groups as those of the first.
fn together(people: &[i64]) -> Vec<i64> {
    (0..people.len()).map(|group| if group == 0 { people.iter().sum() } else { 0 }).collect()
}

/// The values of sums as columns, each after a comma.
pub(crate) fn columns(sums: &[&str]) -> String {
    sums.iter().enumerate().map(|(at, sum)| format!(", {} AS v{at}", exact(sum))).collect()
}

/// The sums that determine one another: two that are equal, and three of which one is the sum of the others. What only looks like
/// one in a sample hides more than it must.
fn relations(values: &Values) -> Vec<Vec<usize>> {
    let of = &values.of;
    let total: Vec<i128> = of.iter().map(|values| values.iter().sum()).collect();
    let some = |a: usize| of[a].iter().any(|v| *v != 0);
    let sums: Vec<usize> = (0..of.len()).filter(|a| some(*a)).collect();
    let mut found = Vec::new();
    for (at, a) in sums.iter().copied().enumerate() {
        for b in sums[at + 1..].iter().copied() {
            if total[a] == total[b] && of[a] == of[b] {
                found.push(vec![a, b]);
            }
            let whole = |c: &usize| {
                total[a] + total[b] == total[*c]
                    && ![a, b].contains(c)
                    && of[a].iter().zip(&of[b]).zip(&of[*c]).all(|((a, b), c)| a + b == *c)
            };
            found.extend(sums.iter().copied().filter(whole).map(|c| vec![c, a, b]));
        }
    }
    found
}
