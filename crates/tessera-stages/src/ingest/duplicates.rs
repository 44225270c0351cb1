//! Rows that repeat or replace one another, across all files of a source.
//!
//! A first pass keeps the hashes that occur twice, which needs few columns and spills where it must. Only rows with
//! such a hash are then compared in full, so that no collision can cost a row.

use datafusion::prelude::DataFrame;
use tessera_engine::formula::quote;

use super::{
    Cleaned, judge,
    mapping::{Mapping, RAW},
    waterfall::{Step, bits},
};
use crate::{Night, StageError};

/// A mask of the bits of a hash by which rows are grouped while repeated hashes are looked for.
const GROUPS: i64 = 1023;

/// The rows that lose at the step of a bit: `locator` and `bit`, its value in the mask.
pub(super) async fn losers(night: &Night<'_>, judged: &Cleaned, bit: usize) -> Result<DataFrame, StageError> {
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
    let repeated = night.over(&query, &[("rows", all)]).await?;
    let repeated = night.engine.materialise(repeated, &format!("{entity}_{name}_hashes")).await?;
    let query = format!(
        "SELECT {} FROM (SELECT r.* FROM repeated JOIN ({hashed}) AS r ON repeated.h = r.h)",
        judged.as_source()
    );
    let candidates = night.over(&query, &[("rows", all), ("repeated", &repeated)]).await?;
    // Written, or the optimiser would judge every row on its way into the join.
    let candidates = night.engine.materialise(candidates, &format!("{entity}_{name}_candidates")).await?;
    let candidates = judge(night, *entity, mapping.clone(), steps.clone(), &candidates).await?;

    // Ties end with the locator, which only ever chooses between rows that agree in every column of ours.
    let mut order: Vec<String> = rule.prefer.iter().cloned().collect();
    order.extend(mapping.columns.iter().filter(|m| m.available).map(|m| quote(&m.column.name)));
    order.push("_locator".to_owned());
    let query = format!(
        "SELECT _locator AS locator, {} AS bit FROM \
         (SELECT _locator, row_number() OVER (PARTITION BY {} ORDER BY {}) AS place \
         FROM rows WHERE mask & {eligible} = 0) WHERE place > 1",
        1_i64 << bit,
        by.join(", "),
        order.join(", ")
    );
    let losers = night.over(&query, &[("rows", &candidates.rows)]).await;
    let losers = losers
        .map_err(|e| StageError::Expression { place: format!("quality.rules.{name}"), problem: e.to_string() })?;
    Ok(night.engine.materialise(losers, &format!("{entity}_{name}_losers")).await?)
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
