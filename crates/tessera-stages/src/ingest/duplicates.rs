//! Rows that repeat or replace one another, across all files of a source.
//!
//! A first pass keeps the hashes that occur twice, which needs few columns and spills where it must. Only rows with
//! such a hash are then compared in full, so that no collision can cost a row.

use datafusion::prelude::DataFrame;
use tessera_engine::formula::{quote, text};

use super::{
    Cleaned, judge,
    mapping::{Mapping, RAW},
    waterfall::{Step, bits},
};
use crate::{Night, StageError, rows};

/// A mask of the bits of a hash by which rows are grouped while repeated hashes are looked for.
const GROUPS: i64 = 1023;

/// The rows that lose at the step of a bit: `locator` and `bit`, its value in the mask. Those that repeat a row among `seen`
/// (`h`: the hash of a row that the parent night found clean, `at`: its event time) lose, and of the others all but one. Only
/// rows from the locator `first` on can be among those: a row that waited was looked up when it came, and those that equal it
/// waited too.
pub(super) async fn losers(
    night: &Night<'_>,
    judged: &Cleaned,
    bit: usize,
    seen: Option<(&DataFrame, i64)>,
) -> Result<DataFrame, StageError> {
    let Cleaned { entity, mapping, steps, all, .. } = judged;
    let step = &steps[bit];
    let name = &step.name;
    let rule =
        step.rule.as_ref().ok_or_else(|| StageError::Data(format!("the step {name} compares without a rule")))?;
    let by = columns(step, &rule.by, mapping)?;
    let eligible = bits(&steps[..bit], Step::turns_away);
    let hash = format!("row_hash({})", by.join(", "));
    // Rows that left earlier, or are not known yet, may be among them: here that costs nothing, and asking would read and
    // type their columns. Only what stands behind a repeated hash is judged.
    let hashed = format!("SELECT *, {hash} AS h FROM rows");
    let query =
        format!("SELECT unnest(hashes) AS h FROM (SELECT repeated(h) AS hashes FROM ({hashed}) GROUP BY h & {GROUPS})");
    let mut repeated = night.over(&query, &[("rows", all)]).await?;
    let event = entity.event_time();
    let mut known = None;
    if let Some((seen, first)) = seen {
        let times = format!("SELECT min({event}) AS first, max({event}) AS last FROM rows WHERE _locator >= {first}");
        let times = rows::collect(night.over(&times, &[("rows", all)]).await?).await?;
        let times = night.engine.session().read_batch(times)?;
        let (first, last) = (literal(&times, "first").await?, literal(&times, "last").await?);
        let query = format!(
            "SELECT DISTINCT s.h, s.at FROM ({hashed}) AS r JOIN \
             (SELECT h, at FROM seen WHERE at IS NULL OR (at >= {first} AND at <= {last})) AS s ON r.h = s.h"
        );
        let again = night.over(&query, &[("rows", all), ("seen", seen)]).await?;
        let again = night.engine.materialise(again, &format!("{entity}_{name}_again")).await?;
        repeated = repeated.union(again.clone().select_columns(&["h"])?)?.distinct()?;
        known = Some(again);
    }
    let repeated = night.engine.materialise(repeated, &format!("{entity}_{name}_hashes")).await?;
    let query = format!(
        "SELECT {} FROM (SELECT r.* FROM repeated JOIN ({hashed}) AS r ON repeated.h = r.h)",
        judged.as_source()
    );
    let candidates = night.over(&query, &[("rows", all), ("repeated", &repeated)]).await?;
    // Written, or the optimiser would judge every row on its way into the join.
    let candidates = night.engine.materialise(candidates, &format!("{entity}_{name}_candidates")).await?;
    let candidates = judge(night, *entity, mapping.clone(), steps.clone(), &candidates).await?;
    let mut rows = candidates.rows;
    if let Some(known) = &known {
        let query = format!(
            "SELECT r.*, k.h IS NOT NULL AS again FROM known AS k RIGHT JOIN ({hashed}) AS r \
             ON k.h = r.h AND k.at IS NOT DISTINCT FROM r.{event}"
        );
        rows = night.over(&query, &[("rows", &rows), ("known", known)]).await?;
    }

    // Ties end with the locator, which only ever chooses between rows that agree in every column of ours.
    let mut order: Vec<String> = rule.prefer.iter().cloned().collect();
    order.extend(mapping.columns.iter().filter(|m| m.available).map(|m| quote(&m.column.name)));
    order.push("_locator".to_owned());
    let again = if known.is_some() { "again" } else { "false AS again" };
    let query = format!(
        "SELECT _locator AS locator, {} AS bit FROM \
         (SELECT _locator, {again}, row_number() OVER (PARTITION BY {} ORDER BY {}) AS place \
         FROM rows WHERE mask & {eligible} = 0 AND NOT later) WHERE again OR place > 1",
        1_i64 << bit,
        by.join(", "),
        order.join(", ")
    );
    let losers = night.over(&query, &[("rows", &rows)]).await;
    let losers = losers
        .map_err(|e| StageError::Expression { place: format!("quality.rules.{name}"), problem: e.to_string() })?;
    Ok(night.engine.materialise(losers, &format!("{entity}_{name}_losers")).await?)
}

/// The value of a frame of one row as SQL.
async fn literal(frame: &DataFrame, column: &str) -> Result<String, StageError> {
    let batch = rows::collect(frame.clone().select_columns(&[column])?).await?;
    let kind = batch.schema().field(0).data_type().clone();
    let value = rows::integers(&batch, column)?.first().copied().flatten();
    let value = value.map_or("NULL".to_owned(), |v| v.to_string());
    let kind = text(&kind.to_string());
    // By way of the whole number, so that no digit and no zone can be lost.
    Ok(match kind.contains("Date") {
        true => format!("arrow_cast(arrow_cast({value}, 'Int32'), {kind})"),
        false => format!("arrow_cast({value}, {kind})"),
    })
}

/// The columns in which rows agree; `*` is every column of the source.
fn columns(step: &Step, by: &[String], mapping: &Mapping) -> Result<Vec<String>, StageError> {
    if by.iter().any(|b| b == "*") {
        return Ok(mapping.raw.iter().map(|r| quote(&format!("{RAW}{r}"))).collect());
    }
    by.iter()
        .map(|name| match mapping.has(name) {
            true => Ok(quote(name)),
            false => Err(StageError::Expression {
                place: format!("quality.rules.{}.by", step.name),
                problem: format!("the source gives no column `{name}`"),
            }),
        })
        .collect()
}
