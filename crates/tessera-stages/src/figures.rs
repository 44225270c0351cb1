//! What is published of customers together: sums of values per customer, by segment and over everybody.
//!
//! A table names the sums behind its figures here, and where it tells them; all of them are hidden together (see [`crate::suppress`]),
//! whichever table tells them. What that takes is counted in customers sampled by the hash of their key, and where these do not
//! decide it, in all.

mod nights;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_contract::table::MONEY;
use tessera_engine::formula::{self, quote};

use self::nights::{Now, Other};
use crate::{
    Night, StageError, rows, scaled,
    suppress::{self, Apart, Hidden, Published, Sum},
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
}

/// The tables that tell figures, with the column that says of what, and those that hold figures.
const TELLING: [(&str, &str, &[&str]); 2] = [
    ("kpis", "kpi", &["numerator", "denominator", "n"]),
    ("segment_profiles", "feature", &["customers", "mean", "population_mean"]),
];

/// The sums of a night.
pub(crate) struct Sums<'a> {
    night: &'a Night<'a>,
    customers: DataFrame,
    value: DataFrame,
    sums: BTreeMap<String, (Behind, Vec<Told>)>,
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

impl<'a> Sums<'a> {
    /// No sums yet, over the customers of a night.
    pub(crate) async fn new(night: &'a Night<'_>) -> Result<Self, StageError> {
        let value = night.input("customer_value")?.clone();
        Ok(Self { night, customers: night.customers().await?, value, sums: BTreeMap::new() })
    }

    /// A sum that is told.
    pub(crate) fn add(&mut self, expression: &str, behind: Behind, told: Told) {
        self.sums.entry(expression.to_owned()).or_insert_with(|| (behind, Vec::new())).1.push(told);
    }

    /// The sums.
    pub(crate) fn expressions(&self) -> Vec<&str> {
        self.sums.keys().map(String::as_str).collect()
    }

    /// The features of every customer with a segment, the segment and what of their account the expressions name, as a relation of
    /// [`Self::tables`].
    pub(crate) fn joined(&self, expressions: &[&str]) -> String {
        joined(self.night, &self.customers, &self.value, expressions)
    }

    /// The tables of [`Self::joined`].
    pub(crate) fn tables(&self) -> Result<[(&'static str, &DataFrame); 4], StageError> {
        let night = self.night;
        Ok([
            ("features", night.input("features")?),
            ("segments", night.input("segments")?),
            ("customers", &self.customers),
            ("value", &self.value),
        ])
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
        // What is 0 for everybody says nothing of anybody. KPIs are what people come for.
        let (mut sums, mut people) = (Vec::new(), Vec::new());
        let mut everybody_counted: Vec<&str> = Vec::new();
        for (sum, (behind, told)) in &self.sums {
            let all = behind.people(counted)?;
            let of: Vec<i64> = order.iter().map(|row| all[*row].0).collect();
            // What counts everybody is one sum, whatever it is called.
            if of == members && order.iter().all(|row| all[*row].1) {
                everybody_counted.push(sum);
                if everybody_counted.len() > 1 {
                    continue;
                }
            }
            if of.iter().any(|n| *n > 0) {
                sums.push((sum.as_str(), told));
                people.push(Sum { people: of, rank: u8::from(told.iter().any(|told| told.table == "kpis")) });
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
        let values = self.values(&self.joined(&expressions), &self.tables()?, &expressions, condition).await?;

        let apart = self.apart(&expressions, &values, &segments, &members).await?;
        let relations = relations(&values);
        let alone = suppress::hidden_together(&people, &apart, &relations, &[], k);
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
                open.retain(|sum| ![&values, &other.values].iter().all(|v| v.of[*sum].iter().all(|v| *v == ONE)));
                let mut asked = Vec::new();
                for sum in open.clone() {
                    let hidden = other.hidden(sums[sum].1);
                    // A segment that was not there yet was not told.
                    let closed = |id: &i64| other.segments.binary_search(id).map_or(true, |at| hidden.groups[at]);
                    let mut told = segments.iter().zip(&alone[sum].groups).filter(|(_, hidden)| !**hidden);
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
        let all = suppress::hidden_together(&people, &apart, &relations, &nights, k);
        let mut hidden: BTreeMap<String, Hidden> = expressions.iter().map(|sum| (*sum).to_owned()).zip(all).collect();
        if let Some(first) = everybody_counted.first().and_then(|sum| hidden.get(*sum)).cloned() {
            hidden.extend(everybody_counted.iter().map(|sum| ((*sum).to_owned(), first.clone())));
        }
        Ok(Verdict { segments, hidden })
    }

    /// The values of some customers of a night.
    async fn values(
        &self,
        joined: &str,
        tables: &[(&str, &DataFrame)],
        sums: &[&str],
        condition: &str,
    ) -> Result<Values, StageError> {
        let query = format!(
            "SELECT customer_key, key_hash, segment_id{} FROM (SELECT *, row_hash(customer_key) AS key_hash FROM {joined}) WHERE {condition}",
            columns(sums)
        );
        let batch = rows::collect(self.night.over(&query, tables).await?).await?;
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
                let mut people = vec![0_i64; segments.len()];
                for ((x, y), group) in values.of[a].iter().zip(&values.of[b]).zip(&groups) {
                    people[*group] += i64::from(x != y);
                }
                if (0..segments.len()).any(|g| people[g] < k && sampled[g] < members[g]) {
                    open.push(found.len());
                }
                found.push(Apart { sums: [a, b], people });
            }
        }
        for some in open.chunks(AT_ONCE) {
            let these: BTreeSet<usize> = some.iter().flat_map(|pair| found[*pair].sums).collect();
            let these: Vec<usize> = these.into_iter().collect();
            let counts = some.iter().enumerate().map(|(at, pair)| {
                let [a, b] = found[*pair].sums.map(|sum| these.partition_point(|this| *this < sum));
                format!(", count(*) FILTER (WHERE v{a} <> v{b}) AS c{at}")
            });
            let these: Vec<&str> = these.iter().map(|sum| sums[*sum]).collect();
            let query = format!(
                "SELECT segment_id{} FROM (SELECT segment_id{} FROM {}) GROUP BY segment_id",
                counts.collect::<String>(),
                columns(&these),
                self.joined(&these)
            );
            let batch = rows::collect(self.night.over(&query, &self.tables()?).await?).await?;
            let ids = rows::integers(&batch, "segment_id")?;
            for (at, pair) in some.iter().enumerate() {
                let counts = rows::integers(&batch, &format!("c{at}"))?;
                for (id, n) in ids.iter().zip(counts) {
                    if let Some(group) = id.and_then(|id| segments.binary_search(&id).ok()) {
                        found[*pair].people[group] = n.unwrap_or(0);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The values of sums as columns, each after a comma.
pub(crate) fn columns(sums: &[&str]) -> String {
    sums.iter().enumerate().map(|(at, sum)| format!(", {} AS v{at}", exact(sum))).collect()
}

fn joined(night: &Night<'_>, customers: &DataFrame, value: &DataFrame, expressions: &[&str]) -> String {
    let features: BTreeSet<&str> = night.project.enabled_features().map(|(name, _)| name).collect();
    let words: Vec<BTreeSet<String>> = expressions.iter().filter_map(|e| formula::names(e).ok()).collect();
    let named = |name: &str| words.iter().flatten().any(|word| word.eq_ignore_ascii_case(name));
    // What features say goes first, then what is predicted.
    let of = |table: &DataFrame, alias: &str, before: &dyn Fn(&str) -> bool| -> String {
        let fields = table.schema().fields().iter().map(|f| f.name());
        let ours = fields.filter(|name| *name != "customer_key" && !before(name) && named(name));
        ours.map(|name| format!(", {alias}.{0} AS {0}", quote(name))).collect()
    };
    let predicted = of(value, "v", &|name| features.contains(name));
    let is_value = |name: &str| value.schema().has_column_with_unqualified_name(name);
    let attributes = of(customers, "c", &|name| features.contains(name) || is_value(name));
    let join = |columns: &str, table: &str, alias: &str| match columns.is_empty() {
        true => String::new(),
        false => format!(" LEFT JOIN {table} AS {alias} ON s.customer_key = {alias}.customer_key"),
    };
    let accounts = join(&attributes, "customers", "c") + &join(&predicted, "value", "v");
    // What is narrow is put together and held, and what is wide passes by.
    format!(
        "(SELECT f.*, m.* EXCEPT (customer_key) FROM (SELECT s.customer_key, s.segment_id{attributes}{predicted} FROM segments AS s{accounts}) AS m \
         JOIN features AS f ON m.customer_key = f.customer_key)"
    )
}

/// The sums that determine one another: two that are equal, and three of which one is the sum of the others. What only looks like
/// one in a sample hides more than it must.
fn relations(values: &Values) -> Vec<Vec<usize>> {
    let of = &values.of;
    let some = |a: usize| of[a].iter().any(|v| *v != 0);
    let sums: Vec<usize> = (0..of.len()).filter(|a| some(*a)).collect();
    let mut found = Vec::new();
    for (at, a) in sums.iter().copied().enumerate() {
        for b in sums[at + 1..].iter().copied() {
            if of[a] == of[b] {
                found.push(vec![a, b]);
            }
            let whole =
                |c: &usize| ![a, b].contains(c) && of[a].iter().zip(&of[b]).zip(&of[*c]).all(|((a, b), c)| a + b == *c);
            found.extend(sums.iter().copied().filter(whole).map(|c| vec![c, a, b]));
        }
    }
    found
}
