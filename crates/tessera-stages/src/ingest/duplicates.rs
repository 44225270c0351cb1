//! Rows that repeat or replace one another, across all files of a source.
//!
//! A first pass keeps the hashes that occur twice, which needs few columns and spills where it must. Only rows with
//! such a hash are then compared in full, so that no collision can cost a row.

use datafusion::prelude::DataFrame;
use tessera_contract::{Entity, Severity};
use tessera_engine::formula::quote;

use super::{
    mapping::{Mapping, RAW},
    waterfall::{Step, bits},
};
use crate::{Night, StageError};

/// Whether [`mark`] reads the rows more than once.
pub(super) fn reads_again(steps: &[Step]) -> bool {
    steps.iter().any(|s| s.skipped.is_none() && matches!(s.severity, Severity::Merge | Severity::Supersede))
}

/// Sets the bit of every `merge` and `supersede` step in the mask of the rows that lose.
pub(super) async fn mark(
    night: &Night<'_>,
    entity: Entity,
    mapping: &Mapping,
    steps: &[Step],
    mut rows: DataFrame,
) -> Result<DataFrame, StageError> {
    for (bit, step) in steps.iter().enumerate() {
        let Some(rule) = step.rule.as_ref().filter(|_| step.skipped.is_none()) else { continue };
        if !matches!(step.severity, Severity::Merge | Severity::Supersede) {
            continue;
        }
        let by = columns(step, &rule.by, mapping)?;
        let eligible = bits(&steps[..bit], Step::turns_away);
        let hash = format!("row_hash({})", by.join(", "));
        let query = format!("SELECT {hash} AS h FROM rows WHERE mask & {eligible} = 0 GROUP BY 1 HAVING count(*) > 1");
        let repeated = night.over(&query, &[("rows", &rows)]).await?;
        let repeated = night.engine.materialise(repeated, &format!("{entity}_{}_hashes", step.name)).await?;

        // Ties end with the locator, which only ever chooses between rows that agree in every column of ours.
        let mut order: Vec<String> = rule.prefer.iter().cloned().collect();
        order.extend(mapping.columns.iter().filter(|m| m.available).map(|m| quote(&m.column.name)));
        order.push("_locator".to_owned());
        let query = format!(
            "SELECT _locator AS loser FROM (SELECT _locator, row_number() OVER (PARTITION BY {} ORDER BY {}) AS place \
             FROM repeated JOIN (SELECT *, {hash} AS h FROM rows WHERE mask & {eligible} = 0) AS r ON repeated.h = r.h) \
             WHERE place > 1",
            by.join(", "),
            order.join(", ")
        );
        let losers = night.over(&query, &[("rows", &rows), ("repeated", &repeated)]).await.map_err(|e| {
            StageError::Expression { place: format!("quality.rules.{}", step.name), problem: e.to_string() }
        })?;
        let losers = night.engine.materialise(losers, &format!("{entity}_{}_losers", step.name)).await?;
        let kept: Vec<_> = rows
            .schema()
            .fields()
            .iter()
            .map(|f| f.name())
            .filter(|n| *n != "mask")
            .map(|n| format!("rows.{}", quote(n)))
            .collect();
        let query = format!(
            "SELECT {}, rows.mask + CASE WHEN losers.loser IS NULL THEN 0 ELSE {} END AS mask \
             FROM losers RIGHT JOIN rows ON losers.loser = rows._locator",
            kept.join(", "),
            1_i64 << bit
        );
        rows = night.over(&query, &[("rows", &rows), ("losers", &losers)]).await?;
    }
    Ok(rows)
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
