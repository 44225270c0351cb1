//! Cells: what the people and the rows of two nights add to the KPIs, by every combination of the values of some dimensions and by part.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_contract::{AsOf, Entity, Kpi, Whose};
use tessera_engine::formula::{self, Words, quote, text};

use super::{Sums, days::Missing, people::Between};
use crate::{
    Night, StageError, blame,
    breakdowns::{OTHER, UNKNOWN, item_of},
    features::{rows_of, within},
    figures::{NOBODYS, People, exact},
    kpis, rows,
};

/// Parts into which people fall by the hash of their key, at least: what is known of a change is by how much these differ.
const PARTS: u64 = 32;
const MOST_PARTS: u64 = 256;
/// In place of a segment's id, of people who are made of other accounts than before: less by this where they have none. What they do
/// otherwise is not of any place.
const APART: i64 = NOBODYS - 1;

/// The dimension of the segment among others.
pub(super) const SEGMENT: usize = 1;

/// The cells of some dimensions.
pub(super) struct Grid<'a> {
    /// The KPIs, each with the place of its numerator, and of its denominator if it is a ratio.
    pub kpis: Vec<(&'a str, &'a Kpi, usize, Option<usize>)>,
    /// The dimensions: first the segment of whose scope a cell is, then the segment among others, which is another one where a model is.
    pub dimensions: Vec<String>,
    /// Their values, in order.
    pub values: Vec<Vec<String>>,
    /// By dimension, the value of each cell.
    pub cells: Vec<Vec<u32>>,
    pub parts: usize,
    /// By sum, what is added to it before and after at `cell × parts + part`, in units of the last digit of money; where days lack rows, then what they
    /// lack before and after.
    sums: Vec<Vec<Vec<i128>>>,
}

/// The people of two nights, each with the values of their dimensions on that night.
pub(super) struct Members<'a> {
    night: &'a Night<'a>,
    /// What tells them apart: their segment, twice, and the dimensions of customers.
    values: Vec<Value>,
    /// The earlier night, and this one.
    nights: [Of; 2],
    parts: u64,
}

/// A dimension, and SQL of its value.
#[derive(Debug, Clone)]
struct Value {
    dimension: String,
    column: String,
}

/// The people of a night.
struct Of {
    as_of: AsOf,
    /// Their segments and the values of their dimensions.
    members: DataFrame,
    /// What they add to sums.
    valued: DataFrame,
}

impl<'a> Members<'a> {
    pub(super) async fn of(
        night: &'a Night<'a>,
        as_of: AsOf,
        tables: &BTreeMap<String, DataFrame>,
        between: &Between,
    ) -> Result<Self, StageError> {
        let now = People::of_tonight(night).await?;
        let then = People::of(night, tables, &now).await?;
        let dimensions = of_customers(night)?;
        let parts = (2 * night.project.privacy.k).clamp(PARTS, MOST_PARTS);
        let bys: Vec<&str> = dimensions.iter().map(|(_, by)| *by).collect();
        let columns: String = bys.iter().enumerate().map(|(at, by)| format!(", {} AS g{at}", item_of(by))).collect();
        let [valued_then, valued_now] = &between.valued;
        let refitted = between.refitted.as_ref();
        let members = async |people: &People| {
            let query = format!(
                "SELECT customer_key, segment_id, arrow_cast((row_hash(customer_key) % {parts} + {parts}) % {parts}, 'Int32') AS part{columns} \
                 FROM {}",
                people.everybody(night, &bys)
            );
            match night.over(&query, &people.tables()).await {
                Ok(members) => Ok(members),
                Err(error) => {
                    let place = |(name, by): &(&str, &str)| (format!("causes.dimensions.{name}.by"), (*by).to_owned());
                    let entries = dimensions.iter().map(place).collect();
                    let alone = |by: &str| format!("SELECT {} FROM {}", item_of(by), people.everybody(night, &[by]));
                    Err(blame(night, entries, alone, &people.tables()).await.unwrap_or(error))
                }
            }
        };
        let (mut then, now) = (members(&then).await?, members(&now).await?);
        if let Some(late) = &between.late {
            // Who is a customer of that night only by what is known of it now has the values of tonight.
            let columns: String = (0..bys.len()).map(|at| format!(", m.g{at}")).collect();
            let query = format!(
                "SELECT m.customer_key, m.segment_id, m.part{columns} FROM m LEFT ANTI JOIN late AS l ON m.customer_key = l.customer_key \
                 UNION ALL SELECT m.customer_key, l.segment_id, m.part{columns} FROM now AS m JOIN late AS l ON m.customer_key = l.customer_key"
            );
            then = night.over(&query, &[("m", &then), ("now", &now), ("late", late)]).await?;
        }
        let of = async |as_of: AsOf, members: DataFrame, valued: &DataFrame| {
            // Since another model tells nothing of what people do, who moved by it counts where they are now in the scope of a segment, and
            // where they were beside other segments.
            let (scope, place) = match (refitted, as_of == night.as_of) {
                (None, _) => ("m.segment_id", "m.segment_id"),
                (Some(_), false) => ("coalesce(f.to_segment_id, m.segment_id)", "m.segment_id"),
                (Some(_), true) => ("m.segment_id", "coalesce(f.from_segment_id, m.segment_id)"),
            };
            let join = refitted.map_or("", |_| " LEFT JOIN refitted AS f ON m.customer_key = f.customer_key");
            let query = format!(
                "SELECT m.* EXCEPT (segment_id), arrow_cast({place}, 'Int32') AS place, arrow_cast(CASE WHEN r.customer_key IS NULL THEN {scope} \
                 WHEN m.segment_id >= 0 THEN {APART} ELSE {} END, 'Int32') AS segment_id FROM members AS m \
                 LEFT JOIN resolved AS r ON m.customer_key = r.customer_key{join}",
                APART - 1
            );
            let mut given = vec![("members", &members), ("resolved", &between.resolved)];
            given.extend(refitted.map(|refitted| ("refitted", refitted)));
            let members = night.over(&query, &given).await?;
            let members = night.materialised(members, &format!("members_{as_of}")).await?;
            Ok::<_, StageError>(Of { as_of, members, valued: valued.clone() })
        };
        let nights = [of(as_of, then, valued_then).await?, of(night.as_of, now, valued_now).await?];
        let named: Vec<(&str, String)> =
            dimensions.iter().enumerate().map(|(at, (name, _))| (*name, format!("g{at}"))).collect();
        let segment = |dimension: &str, column: &str| Value {
            dimension: dimension.to_owned(),
            column: format!("CAST({column} AS VARCHAR)"),
        };
        let members = [&nights[0].members, &nights[1].members];
        let segments = [segment("scope", "segment_id"), segment("segment", "place")];
        let values = segments.into_iter().chain(values(night, &named, members).await?).collect();
        Ok(Self { night, values, nights, parts })
    }

    /// The people of either night with their segments.
    pub(super) fn both(&self) -> [&DataFrame; 2] {
        self.nights.each_ref().map(|of| &of.members)
    }

    /// The cells of the people, of these KPIs.
    pub(super) async fn people(&self, of: &[(&'a str, &'a Kpi)], all: &Sums) -> Result<Grid<'a>, StageError> {
        let mut sums: Vec<usize> = Vec::new();
        let kpis = with_places(of, &mut sums, |kpi| {
            let [x, y] = kpis::added(kpi);
            let y = if kpi.denominator.is_some() { Some(all.place(&y, kpi)?) } else { None };
            Some((all.place(&x, kpi)?, y))
        });
        let added: String = sums.iter().enumerate().map(|(at, sum)| format!(", p.v{sum} AS v{at}")).collect();
        let relation =
            format!("(SELECT m.*{added} FROM people AS p JOIN members AS m ON p.customer_key = m.customer_key)");
        let mut cells = Vec::new();
        for Of { members, valued, .. } in &self.nights {
            let given = [("people", valued), ("members", members)];
            cells.push(summed(self.night, &relation, &self.values, sums.len(), &given).await?);
        }
        self.grid(kpis, &self.values, sums.len(), &cells)
    }

    /// The cells of the rows of an entity, of these KPIs, and of what its days lack.
    pub(super) async fn rows(
        &self,
        entity: Entity,
        of: &[(&'a str, &'a Kpi)],
        missing: &Missing<'_>,
    ) -> Result<Grid<'a>, StageError> {
        let night = self.night;
        let dimensions = of_rows(night, entity)?;
        // A sum is of the rows of a window, by SQL over a row.
        let mut sums: Vec<(Option<&str>, String)> = Vec::new();
        let kpis = with_places(of, &mut sums, |kpi| {
            let rows = kpi.rows.as_ref()?;
            let sum = |value: &str| (rows.window.as_deref(), rows.value(value));
            Some((sum(&rows.numerator), rows.denominator.as_deref().map(sum)))
        });
        let clean = night.input(&entity.clean_table())?;
        let accounts = night.input("accounts")?;
        let items: String =
            dimensions.iter().enumerate().map(|(at, (_, by))| format!(", {} AS h{at}", item_of(by))).collect();
        let mut both = Vec::new();
        for Of { as_of, .. } in &self.nights {
            let as_of = *as_of;
            let words = Words::new(as_of, &night.project.project.timezone);
            let known = night.engine.sql(&rows_of(entity, clean), &[("clean", clean)], &words).await?;
            let (mut columns, mut any) = (String::new(), Vec::new());
            for (at, (window, value)) in sums.iter().enumerate() {
                let window = match window {
                    Some(window) => within(night, entity, window, None, as_of).map_err(StageError::Data)?,
                    None => "true".to_owned(),
                };
                let value = format!("CASE WHEN {window} THEN {} ELSE {} END", exact(value), exact("0"));
                columns.push_str(&format!(", {value} AS v{at}"));
                any.push(window);
            }
            let query = format!("SELECT account_key{items}{columns} FROM rows WHERE {}", any.join(" OR "));
            both.push(match night.engine.sql(&query, &[("rows", &known)], &words).await {
                Ok(valued) => valued,
                Err(error) => {
                    let alone = |expression: &str| format!("SELECT ({expression}) FROM rows");
                    let entries = places(&dimensions, of);
                    return Err(blame(night, entries, alone, &[("rows", &known)]).await.unwrap_or(error.into()));
                }
            });
        }
        let named: Vec<(&str, String)> =
            dimensions.iter().enumerate().map(|(at, (name, _))| (*name, format!("h{at}"))).collect();
        let mut of_cells = self.values.clone();
        of_cells.extend(values(night, &named, [&both[0], &both[1]]).await?);
        let relation = "(SELECT m.*, r.* EXCEPT (account_key, customer_key) FROM \
                 (SELECT a.customer_key, r.* FROM rows AS r JOIN accounts AS a ON r.account_key = a.account_key) AS r \
                 JOIN members AS m ON r.customer_key = m.customer_key)";
        let mut cells = Vec::new();
        for (rows, Of { members, .. }) in both.iter().zip(&self.nights) {
            let given = [("rows", rows), ("accounts", accounts), ("members", members)];
            cells.push(summed(night, relation, &of_cells, sums.len(), &given).await?);
        }
        let lacking: &[Of] = if missing.is_none() { &[] } else { &self.nights };
        for (which, Of { members, .. }) in lacking.iter().enumerate() {
            let (mut columns, mut ages) = (items.clone(), BTreeSet::new());
            for (at, (window, value)) in sums.iter().enumerate() {
                let weights = &missing.weights(*window)?[which];
                columns.push_str(&format!(", {} AS v{at}", missing.weighted(value, weights)));
                ages.extend(weights.keys().copied());
            }
            let rows = missing.rows(&columns, &ages).await?;
            let given = [("rows", &rows), ("accounts", accounts), ("members", members)];
            cells.push(summed(night, relation, &of_cells, sums.len(), &given).await?);
        }
        self.grid(kpis, &of_cells, sums.len(), &cells)
    }

    fn grid(
        &self,
        kpis: Vec<(&'a str, &'a Kpi, usize, Option<usize>)>,
        of_cells: &[Value],
        sums: usize,
        batches: &[RecordBatch],
    ) -> Result<Grid<'a>, StageError> {
        let parts = usize::try_from(self.parts).unwrap_or(1);
        let dimensions: Vec<String> = of_cells.iter().map(|value| value.dimension.clone()).collect();
        let mut keys: Vec<Vec<Vec<String>>> = Vec::new();
        for batch in batches {
            let columns = (0..dimensions.len()).map(|at| rows::texts(batch, &format!("d{at}")));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let key = |row: usize| columns.iter().map(|column| column[row].clone().unwrap_or_default()).collect();
            keys.push((0..batch.num_rows()).map(key).collect());
        }
        let all: BTreeSet<&Vec<String>> = keys.iter().flatten().collect();
        let place: BTreeMap<&Vec<String>, usize> = all.iter().enumerate().map(|(at, key)| (*key, at)).collect();
        let values: Vec<Vec<String>> = (0..dimensions.len())
            .map(|at| all.iter().map(|key| key[at].clone()).collect::<BTreeSet<_>>().into_iter().collect())
            .collect();
        let code = |at: usize, value: &String| values[at].binary_search(value).unwrap_or(0) as u32;
        let cells = (0..dimensions.len()).map(|at| all.iter().map(|key| code(at, &key[at])).collect()).collect();
        let mut of = vec![vec![vec![0; all.len() * parts]; batches.len()]; sums];
        for (which, (batch, keys)) in batches.iter().zip(&keys).enumerate() {
            let part = rows::integers(batch, "part")?;
            for (at, of) in of.iter_mut().enumerate() {
                for (row, value) in rows::money(batch, &format!("v{at}"))?.into_iter().enumerate() {
                    let part = part[row].and_then(|part| usize::try_from(part).ok()).filter(|part| *part < parts);
                    let part = part.ok_or_else(|| StageError::Data("a person is in no part".into()))?;
                    of[which][place[&keys[row]] * parts + part] = value.unwrap_or(0);
                }
            }
        }
        Ok(Grid { kpis, dimensions, values, cells, parts, sums: of })
    }
}

impl Grid<'_> {
    /// The cells of a segment or of everybody whom a KPI is of, without people who are made of other accounts.
    pub(super) fn of(&self, kpi: &Kpi, segment: Option<i64>) -> Vec<usize> {
        self.where_segment(|id| counts(kpi, segment, id))
    }

    /// The cells of everybody whom a KPI is of.
    pub(super) fn whole(&self, kpi: &Kpi) -> Vec<usize> {
        let everybody = kpi.population == Whose::Everybody;
        self.where_segment(|id| id >= 0 || id == APART || everybody)
    }

    fn where_segment(&self, wanted: impl Fn(i64) -> bool) -> Vec<usize> {
        let wanted: Vec<bool> = self.values[0].iter().map(|id| id.parse().is_ok_and(&wanted)).collect();
        let cells = self.cells.first().map_or(&[][..], Vec::as_slice);
        (0..cells.len()).filter(|cell| wanted[cells[*cell] as usize]).collect()
    }

    /// A sum over some cells, before and after; `usual`, with what days lack.
    pub(super) fn total(&self, sum: usize, cells: &[usize], usual: bool) -> [i128; 2] {
        let parts = || 0..self.parts;
        [0, 1].map(|night| {
            cells.iter().flat_map(|cell| parts().map(|part| self.at(sum, night, (*cell, part), usual))).sum()
        })
    }

    /// What a part of a cell adds to a sum on a night; `usual`, with what days lack.
    pub(super) fn at(&self, sum: usize, night: usize, (cell, part): (usize, usize), usual: bool) -> i128 {
        let at = cell * self.parts + part;
        let lacks = self.sums[sum].get(2 + night).filter(|_| usual);
        self.sums[sum][night][at] + lacks.map_or(0, |lacks| lacks[at])
    }

    /// The values of a dimension that are not named.
    pub(super) fn unnamed(&self, dimension: usize) -> Vec<u32> {
        let apart = if dimension == SEGMENT { NOBODYS.to_string() } else { OTHER.to_owned() };
        self.values[dimension].binary_search(&apart).ok().map(|at| at as u32).into_iter().collect()
    }
}

/// Whether people of a segment are of those whom a KPI, of a segment or of everybody, is of, and are searched.
pub(super) fn counts(kpi: &Kpi, segment: Option<i64>, id: i64) -> bool {
    match segment {
        Some(segment) => id == segment,
        None => id >= 0 || kpi.population == Whose::Everybody && id == NOBODYS,
    }
}

/// The dimensions of customers whose columns the sources give.
fn of_customers<'a>(night: &'a Night<'_>) -> Result<Vec<(&'a str, &'a str)>, StageError> {
    let missing = night.availability.missing_features(night.project)?;
    let absent = night.availability.absent(Entity::Customers);
    let is_feature = |word: &str| night.project.enabled_features().any(|(name, _)| name == word);
    let gone = |word: &String| match is_feature(word) {
        true => missing.contains_key(word),
        false => absent.contains(&word.as_str()),
    };
    let mut found = Vec::new();
    for (name, dimension) in night.project.enabled_dimensions().filter(|(_, dimension)| dimension.entity().is_none()) {
        if !formula::names(&dimension.by)?.iter().any(gone) {
            found.push((name, dimension.by.as_str()));
        }
    }
    Ok(found)
}

/// The same of the rows of an entity.
fn of_rows<'a>(night: &'a Night<'_>, entity: Entity) -> Result<Vec<(&'a str, &'a str)>, StageError> {
    let absent = night.availability.absent(entity);
    let mut found = Vec::new();
    for (name, dimension) in night.project.enabled_dimensions().filter(|(_, d)| d.entity() == Some(entity)) {
        if !formula::names(&dimension.by)?.iter().any(|word| absent.contains(&word.as_str())) {
            found.push((name, dimension.by.as_str()));
        }
    }
    Ok(found)
}

/// The entity whose rows a KPI is searched by: one that has a dimension, and what is added up.
pub(super) fn searched(night: &Night<'_>, kpi: &Kpi) -> Result<Option<Entity>, StageError> {
    let Some(rows) = &kpi.rows else { return Ok(None) };
    let Some(entity) = Entity::parse(&rows.over).filter(|entity| night.availability.of(*entity).is_some()) else {
        return Ok(None);
    };
    let absent = night.availability.absent(entity);
    let all = [Some(&rows.numerator), rows.denominator.as_ref(), rows.which.as_ref()];
    for expression in all.into_iter().flatten() {
        if formula::names(expression)?.iter().any(|word| absent.contains(&word.as_str())) {
            return Ok(None);
        }
    }
    Ok((!of_rows(night, entity)?.is_empty()).then_some(entity))
}

/// The values that dimensions have in columns of two nights: those of most rows of either are told apart. A dimension of which one of the nights
/// knows nothing is left out: all would have changed in it.
async fn values(
    night: &Night<'_>,
    dimensions: &[(&str, String)],
    nights: [&DataFrame; 2],
) -> Result<Vec<Value>, StageError> {
    let mut found = Vec::new();
    for (name, column) in dimensions {
        let (mut counts, mut known): (BTreeMap<String, i64>, bool) = (BTreeMap::new(), true);
        for rows in nights {
            let query = format!("SELECT {column} AS item, count(*) AS n FROM t GROUP BY {column}");
            let batch = rows::collect(night.over(&query, &[("t", rows)]).await?).await?;
            let items = rows::texts(&batch, "item")?;
            known &= items.is_empty() || items.iter().flatten().any(|item| item != UNKNOWN);
            for (item, n) in items.into_iter().zip(rows::integers(&batch, "n")?) {
                *counts.entry(item.unwrap_or_default()).or_default() += n.unwrap_or(0);
            }
        }
        let mut items: Vec<(i64, String)> = counts.into_iter().map(|(item, n)| (n, item)).collect();
        items.sort_by(|(n, a), (m, b)| m.cmp(n).then(a.cmp(b)));
        items.truncate(night.project.causes.values);
        let told: Vec<String> = items.iter().map(|(_, item)| text(item)).collect();
        if known && !told.is_empty() {
            let column = format!("CASE WHEN {column} IN ({}) THEN {column} ELSE {} END", told.join(", "), text(OTHER));
            found.push(Value { dimension: (*name).to_owned(), column });
        }
    }
    Ok(found)
}

/// KPIs with the places of their sums in a list that has each once.
fn with_places<'a, T: PartialEq>(
    of: &[(&'a str, &'a Kpi)],
    sums: &mut Vec<T>,
    added: impl Fn(&'a Kpi) -> Option<(T, Option<T>)>,
) -> Vec<(&'a str, &'a Kpi, usize, Option<usize>)> {
    let mut place = |sum: T| {
        sums.iter().position(|known| *known == sum).unwrap_or_else(|| {
            sums.push(sum);
            sums.len() - 1
        })
    };
    of.iter()
        .filter_map(|(name, kpi)| {
            let (x, y) = added(kpi)?;
            Some((*name, *kpi, place(x), y.map(&mut place)))
        })
        .collect()
}

/// The expressions of dimensions and rows, with their places in the project file.
fn places(dimensions: &[(&str, &str)], kpis: &[(&str, &Kpi)]) -> Vec<(String, String)> {
    let mut places: Vec<(String, String)> =
        dimensions.iter().map(|(name, by)| (format!("causes.dimensions.{name}.by"), (*by).to_owned())).collect();
    for (name, rows) in kpis.iter().filter_map(|(name, kpi)| Some((name, kpi.rows.as_ref()?))) {
        let all = [
            ("where", rows.which.as_ref()),
            ("numerator", Some(&rows.numerator)),
            ("denominator", rows.denominator.as_ref()),
        ];
        places.extend(all.into_iter().filter_map(|(key, e)| Some((format!("kpis.{name}.rows.{key}"), e?.clone()))));
    }
    places
}

/// The sums of a relation by part and by the values of dimensions.
async fn summed(
    night: &Night<'_>,
    relation: &str,
    of_cells: &[Value],
    sums: usize,
    given: &[(&str, &DataFrame)],
) -> Result<RecordBatch, StageError> {
    let values: String =
        of_cells.iter().enumerate().map(|(at, value)| format!(", {} AS d{at}", value.column)).collect();
    let by: String = (0..of_cells.len()).map(|at| format!(", {}", quote(&format!("d{at}")))).collect();
    let (passed, added): (String, String) =
        (0..sums).map(|at| (format!(", v{at}"), format!(", sum(v{at}) AS v{at}"))).unzip();
    let query = format!("SELECT part{by}{added} FROM (SELECT part{values}{passed} FROM {relation}) GROUP BY part{by}");
    rows::collect(night.over(&query, given).await?).await
}
