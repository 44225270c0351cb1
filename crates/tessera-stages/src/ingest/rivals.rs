//! Rows that repeat or replace one another, across all files of a source.
//!
//! A first pass over the source, the *census*, counts the rows and the money of every file, and finds the hashes that occur twice:
//! it needs few columns and spills where it must. A row without such a hash has no rival, and goes its way in the second pass;
//! those with one are *contested*, few, and decided among themselves. They are compared in full, so that no collision can
//! cost a row.

use std::sync::Arc;

use datafusion::{
    arrow::{datatypes::Schema, record_batch::RecordBatch},
    prelude::DataFrame,
};
use tessera_contract::Severity;
use tessera_engine::{
    formula::{quote, text},
    source::ROW_BITS,
};

use super::{
    Judge,
    waterfall::{Compare, Step, bits},
};
use crate::{Night, Source, StageError, in_short, rows};

/// A mask of the bits of a hash by which rows are grouped while repeated hashes are looked for.
const GROUPS: i64 = 255;

/// The column that says whether a row may have a rival.
pub(super) const CONTESTED: &str = "contested";

/// What a first pass finds.
pub(super) struct Census {
    /// Rows and money by file: `file`, `rows`, `last`, `amount`, `rows_later`, `amount_later`.
    pub files: RecordBatch,
    /// For each step that compares rows, the hashes that occur twice (`h`, and that they do), and how many these are.
    repeated: Vec<(DataFrame, u64)>,
    /// Rows of the parent night that those of tonight repeat, by hash and time: `h` and `at`.
    again: Option<DataFrame>,
}

/// The census of judged rows. `seen` are the hashes and times of the rows that the parent night found clean (`h`, `at`).
pub(super) async fn census(
    night: &Night<'_>,
    judge: &Judge,
    source: &Source,
    judged: &DataFrame,
    seen: Option<&DataFrame>,
) -> Result<Census, StageError> {
    let entity = judge.entity;
    let compares = judge.compares()?;
    let first = compares.first().map(|c| quote(&c.hash));
    // Rows that leave, or are not known yet, may be among those of repeated hashes: here that costs nothing, and asking would read
    // and type their columns.
    let tally = format!("tally(_locator, {}, later)", entity.amount().unwrap_or("NULL"));
    let counted = match &first {
        Some(hash) => {
            let query =
                format!("SELECT repeated({hash}) AS hashes, {tally} AS files FROM rows GROUP BY {hash} & {GROUPS}");
            night
                .engine
                .materialise(night.over(&query, &[("rows", judged)]).await?, &format!("{entity}_census"))
                .await?
        }
        None => night.over(&format!("SELECT {tally} AS files FROM rows"), &[("rows", judged)]).await?,
    };
    let query = "SELECT f['file'] AS file, sum(f['rows']) AS rows, max(f['last']) AS last, sum(f['amount']) AS amount, \
                 sum(f['rows_later']) AS rows_later, sum(f['amount_later']) AS amount_later \
                 FROM (SELECT unnest(files) AS f FROM counted) GROUP BY 1 ORDER BY 1";
    let files = rows::collect(night.over(query, &[("counted", &counted)]).await?).await?;
    let mut repeated = Vec::new();
    for compare in &compares {
        let hash = quote(&compare.hash);
        let hashes = match Some(&hash) == first.as_ref() {
            true => counted.clone(),
            false => {
                let query = format!("SELECT repeated({hash}) AS hashes FROM rows GROUP BY {hash} & {GROUPS}");
                let name = format!("{entity}_{}", compare.bit);
                night.engine.materialise(night.over(&query, &[("rows", judged)]).await?, &name).await?
            }
        };
        repeated.push(night.over("SELECT unnest(hashes) AS h FROM counted", &[("counted", &hashes)]).await?);
    }
    let again = match (seen, compares.first()) {
        (Some(seen), Some(compare)) => again(night, judge, compare, source, judged, seen).await?,
        _ => None,
    };
    if let (Some(again), Some(all)) = (&again, repeated.first_mut()) {
        *all = all.clone().union(again.clone().select_columns(&["h"])?)?.distinct()?;
    }
    let mut found = Vec::new();
    for (compare, hashes) in compares.iter().zip(repeated) {
        let hashes = night.over("SELECT h, true AS repeated FROM hashes", &[("hashes", &hashes)]).await?;
        let hashes = night.engine.materialise(hashes, &format!("{entity}_{}_hashes", compare.name)).await?;
        let count = rows::count(night, &hashes).await?;
        found.push((hashes, count));
    }
    Ok(Census { files, repeated: found, again })
}

/// The rows among `seen` that tonight's repeat. Only rows of the files that are read tonight can repeat one: a row that waited was
/// looked up when it came, and those that equal it waited too. Equal rows have equal times, so that only the times of tonight's
/// are looked up.
async fn again(
    night: &Night<'_>,
    judge: &Judge,
    compare: &Compare<'_>,
    source: &Source,
    judged: &DataFrame,
    seen: &DataFrame,
) -> Result<Option<DataFrame>, StageError> {
    let (event, hash) = (judge.entity.event_time(), quote(&compare.hash));
    let first = source.before.unwrap_or(0) << ROW_BITS;
    let query = format!("SELECT min({event}) AS first, max({event}) AS last FROM rows WHERE _locator >= {first}");
    let times = rows::collect(night.over(&query, &[("rows", judged)]).await?).await?;
    let (first, last) = (literal(&times, "first")?, literal(&times, "last")?);
    let query = format!(
        "SELECT DISTINCT s.h, s.at FROM rows AS r JOIN \
         (SELECT h, at FROM seen WHERE at IS NULL OR (at >= {first} AND at <= {last})) AS s ON r.{hash} = s.h"
    );
    let again = night.over(&query, &[("rows", judged), ("seen", seen)]).await?;
    let again = night.engine.materialise(again, &format!("{}_again", judge.entity)).await?;
    Ok((rows::count(night, &again).await? > 0).then_some(again))
}

/// A value of a result of one row as SQL.
fn literal(result: &RecordBatch, column: &str) -> Result<String, StageError> {
    let kind = result.schema().field_with_name(column)?.data_type().clone();
    let value = rows::integers(result, column)?.first().copied().flatten();
    let value = value.map_or("NULL".to_owned(), |v| v.to_string());
    let kind = text(&kind.to_string());
    // By way of the whole number, so that no digit and no zone can be lost.
    Ok(match kind.contains("Date") {
        true => format!("arrow_cast(arrow_cast({value}, 'Int32'), {kind})"),
        false => format!("arrow_cast({value}, {kind})"),
    })
}

/// The first rule whose order does not fit the rows.
async fn blamed(night: &Night<'_>, judge: &Judge, rows: &DataFrame) -> Option<StageError> {
    for compare in judge.compares().ok()? {
        let Some(prefer) = &compare.rule.prefer else { continue };
        let alone = night.over(&format!("SELECT _locator FROM rows ORDER BY {prefer}"), &[("rows", rows)]).await;
        if let Err(error) = alone {
            let place = format!("quality.rules.{}.prefer", compare.name);
            return Some(StageError::Expression { place, problem: format!("`{prefer}`: {}", in_short(&error)) });
        }
    }
    None
}

impl Census {
    /// That of no row.
    pub(super) fn of_nothing() -> Self {
        let files = RecordBatch::new_empty(Arc::new(Schema::empty()));
        Self { files, repeated: Vec::new(), again: None }
    }

    /// Whether any row may have a rival.
    pub(super) fn finds_rivals(&self) -> bool {
        self.repeated.iter().any(|(_, count)| *count > 0)
    }

    /// Judged rows with [`CONTESTED`]: a row that reaches the first step that compares may have a rival if its hash repeats.
    pub(super) async fn mark(
        &self,
        night: &Night<'_>,
        judge: &Judge,
        mut judged: DataFrame,
    ) -> Result<DataFrame, StageError> {
        let compares = judge.compares()?;
        let columns: Vec<String> = judged.schema().fields().iter().map(|f| quote(f.name())).collect();
        let mut found = Vec::new();
        for (compare, (hashes, count)) in compares.iter().zip(&self.repeated).filter(|(_, (_, count))| *count > 0) {
            let flag = format!("rival.{}", compare.bit);
            judged = night.engine.look_up(judged, &compare.hash, (hashes.clone(), *count), &flag).await?;
            found.push(format!("{} IS NOT NULL", quote(&flag)));
        }
        let before = compares.first().map_or(0, |c| bits(&judge.steps[..c.bit], |s| s.turns_away() && !s.asks_known));
        let query = format!(
            "SELECT {}, NOT later AND mask & {before} = 0 AND ({}) AS {CONTESTED} FROM rows",
            columns.join(", "),
            if found.is_empty() { "false".to_owned() } else { found.join(" OR ") }
        );
        night.over(&query, &[("rows", &judged)]).await
    }

    /// What becomes of contested rows. Of those that agree in what a step compares, one stays: the first in the order that the rule
    /// prefers, among those that reach the step; none, where the parent night has the row already.
    pub(super) async fn decide(
        &self,
        night: &Night<'_>,
        judge: &Judge,
        contested: &DataFrame,
    ) -> Result<DataFrame, StageError> {
        let hash = judge.compares()?.first().map(|c| quote(&c.hash));
        let rows = match (&self.again, hash) {
            (Some(again), Some(hash)) => {
                let event = judge.entity.event_time();
                let query = format!(
                    "SELECT r.*, k.h IS NOT NULL AS _again FROM known AS k RIGHT JOIN rows AS r \
                     ON k.h = r.{hash} AND k.at IS NOT DISTINCT FROM r.{event}"
                );
                night.over(&query, &[("rows", contested), ("known", again)]).await?
            }
            _ => night.over("SELECT *, false AS _again FROM rows", &[("rows", contested)]).await?,
        };
        let available = judge.mapping.columns.iter().filter(|m| m.available);
        let columns: Vec<String> = available.map(|m| quote(&m.column.name)).collect();
        let compare = |compare: &Compare<'_>, query: String, others: &str| {
            let mut order = Vec::new();
            if compare.rule.severity == Severity::Supersede {
                // What the night does not know yet takes nobody's place.
                order.push("after".to_owned());
            }
            order.extend(compare.rule.prefer.clone());
            // Ties end with the locator, which only ever chooses between rows that agree in every column of ours.
            order.extend(columns.iter().cloned());
            order.push("_locator".to_owned());
            let reached = format!("mask & {} = 0 AND NOT later", bits(&judge.steps[..compare.bit], Step::turns_away));
            let by = compare.by.join(", ");
            format!(
                "SELECT {others}mask + CASE WHEN _reached AND (_again OR _place > 1) THEN {} ELSE 0 END AS mask FROM \
                 (SELECT *, row_number() OVER (PARTITION BY _reached, {by} ORDER BY {}) AS _place FROM \
                 (SELECT *, {reached} AS _reached FROM ({query})))",
                1_i64 << compare.bit,
                order.join(", ")
            )
        };
        match judge.in_turn(night, &rows, &compare).await {
            Ok(decided) => Ok(decided),
            Err(error) => Err(blamed(night, judge, &rows).await.unwrap_or(error)),
        }
    }
}
