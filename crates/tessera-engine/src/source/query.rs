//! A source that is the result of a query over files.
//!
//! Its rows are numbered in an order that follows from what they are, so that a number means the same row wherever the query runs.
//! A query sees the rows of its files that can be read; those that cannot stand among the source's rows as what they are, lines
//! with a defect, for somebody to set aside.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::DataType,
    catalog::TableProvider,
    common::{Result, ScalarValue, plan_err, tree_node::TreeNodeRecursion},
    functions::core::expr_fn::named_struct,
    logical_expr::{Expr, cast, ident},
    prelude::{DataFrame, lit},
};

use super::{DEFECT, LOCATOR, RECORD, ROW_BITS, SourceTable};
use crate::{Engine, formula, formula::Words, record};

/// The columns that say of a defective line where it stands.
const OF_A_DEFECT: [&str; 3] = ["source_file", "source_row", "source_line"];

/// The rows of a query over `tables`, each with its name, as those of a source.
///
/// # Errors
/// When the query cannot be planned.
pub async fn rows(
    engine: &Engine,
    query: &str,
    tables: Vec<(String, SourceTable)>,
    words: &Words,
) -> Result<DataFrame> {
    let (mut seen, mut defects): (Vec<(String, DataFrame)>, Option<DataFrame>) = (Vec::new(), None);
    for (name, table) in tables {
        let cases = table.files().iter().enumerate();
        let cases: String = cases.map(|(at, file)| format!(" WHEN {at} THEN {}", formula::text(&file.url))).collect();
        let texts = table.schema().field_with_name(RECORD).is_ok_and(|f| record::is_packed(f.data_type()));
        let frame = engine.session().read_table(Arc::new(table))?;
        let own = frame.schema().fields().iter().map(|f| f.name().clone());
        let own: Vec<_> = own.filter(|name| ![LOCATOR, DEFECT, RECORD].contains(&name.as_str())).map(ident).collect();
        if texts {
            let query = format!(
                "SELECT {DEFECT}, CASE {LOCATOR} >> {ROW_BITS}{cases} END AS source_file, {LOCATOR} & {} AS source_row, \
                 row_json({RECORD}) AS source_line FROM lines WHERE {DEFECT} IS NOT NULL",
                (1_i64 << ROW_BITS) - 1
            );
            let broken = engine.sql(&query, &[("lines", &frame)], words).await?;
            defects = Some(match defects {
                Some(others) => others.union(broken)?,
                None => broken,
            });
        }
        let good = frame.filter(ident(DEFECT).is_null())?.select(own)?;
        seen.push((name, good));
    }
    let given: Vec<(&str, &DataFrame)> = seen.iter().map(|(name, frame)| (name.as_str(), frame)).collect();
    let result = engine.sql(query, &given, words).await?;
    let mut volatile = false;
    result.logical_plan().apply_with_subqueries(|plan| {
        volatile |= plan.expressions().iter().any(Expr::is_volatile);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if volatile {
        return plan_err!("a source's query may not ask for chance: its rows must be the same on every run");
    }
    // What is kept and compared is of types that the engine knows how to hash.
    let columns = result.schema().fields().iter().map(|f| match super::parquet::known(f.data_type()) {
        true => ident(f.name()),
        false => cast(ident(f.name()), DataType::Utf8View).alias(f.name()),
    });
    let result = result.clone().select(columns.collect::<Vec<_>>())?;
    let kinds: Vec<(String, DataType)> =
        result.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
    let null = |kind: &DataType| Ok::<_, datafusion::error::DataFusionError>(lit(ScalarValue::try_from(kind)?));
    // The same columns of both: those of the query, and those of a line with a defect.
    let mut columns: Vec<_> = kinds.iter().map(|(name, _)| ident(name)).collect();
    columns.push(null(&DataType::Utf8View)?.alias(DEFECT));
    let of_a_defect = [DataType::Utf8, DataType::Int64, DataType::Utf8];
    let further = OF_A_DEFECT.iter().zip(&of_a_defect).filter(|(name, _)| kinds.iter().all(|(own, _)| own != *name));
    let further: Vec<_> = further.collect();
    for (name, kind) in &further {
        columns.push(null(kind)?.alias(**name));
    }
    let mut all = result.select(columns)?;
    if let Some(defects) = defects {
        let mut columns = Vec::new();
        for (name, kind) in &kinds {
            columns.push(null(kind)?.alias(name));
        }
        columns.push(ident(DEFECT));
        columns.extend(further.iter().map(|(name, _)| ident(**name)));
        all = all.union(defects.select(columns)?)?;
    }
    let names = kinds.iter().map(|(name, _)| name.as_str()).chain(further.iter().map(|(name, _)| **name));
    let fields = names.flat_map(|name| [lit(name), ident(name)]).collect();
    let all = all.with_column(RECORD, named_struct(fields))?;
    let own: String = kinds.iter().map(|(name, _)| format!(", {}", formula::quote(name))).collect();
    let query = format!(
        "SELECT arrow_cast(row_number() OVER (ORDER BY row_hash({RECORD}), row_json({RECORD})), 'Int64') AS {LOCATOR}, \
         {DEFECT}, {RECORD}{own} FROM rows"
    );
    engine.sql(&query, &[("rows", &all)], words).await
}
