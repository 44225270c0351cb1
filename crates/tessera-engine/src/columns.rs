//! The columns of a table of the contract.

use datafusion::{
    arrow::datatypes::DataType,
    common::{Result, ScalarValue},
    logical_expr::{cast, ident},
    prelude::{DataFrame, Expr, lit},
};
use tessera_contract::{Column, Table, table::Kind};

/// The frame with exactly the columns of a table's data files, in order and cast; absent ones are null.
///
/// # Errors
/// When a column cannot be cast.
pub fn conform(frame: DataFrame, table: &Table) -> Result<DataFrame> {
    let columns: Vec<Expr> = table
        .columns
        .iter()
        .map(|c| {
            let value = match frame.schema().has_column_with_unqualified_name(&c.name) {
                true => ident(&c.name),
                false => lit(ScalarValue::Null),
            };
            as_column(value, c)
        })
        .collect();
    frame.select(columns)
}

/// An expression as a column of a table: of its type and under its name.
#[must_use]
pub fn as_column(value: Expr, column: &Column) -> Expr {
    // Text is written the same whichever way it is held in memory; views are not copied.
    let kind = if column.kind == Kind::Text { DataType::Utf8View } else { column.kind.arrow() };
    cast(value, kind).alias(&column.name)
}
