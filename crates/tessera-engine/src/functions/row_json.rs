//! `row_json(record)`: the fields of a struct as a JSON object of texts; nulls are left out.

use std::{fmt::Write, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringBuilder},
        datatypes::DataType,
        util::display::{ArrayFormatter, FormatOptions},
    },
    common::{DataFusionError, Result},
    logical_expr::ScalarUDF,
};

use super::{stateless, wrong};

pub(super) fn udf() -> ScalarUDF {
    stateless("row_json", DataType::Utf8, row_json)
}

fn row_json(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [record] = args else { return Err(wrong("row_json takes one record".into())) };
    let record = record.as_struct_opt().ok_or_else(|| wrong("row_json takes a record".into()))?;
    let outside = |e: serde_json::Error| DataFusionError::External(Box::new(e));
    let options = FormatOptions::default();
    let fields = record
        .fields()
        .iter()
        .zip(record.columns())
        .map(|(field, column)| {
            let name = serde_json::to_string(field.name()).map_err(outside)?;
            Ok((name, column, ArrayFormatter::try_new(column, &options)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let (mut records, mut value) = (StringBuilder::new(), String::new());
    for row in 0..record.len() {
        let mut text = String::from("{");
        for (name, column, formatter) in &fields {
            if column.is_null(row) {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            value.clear();
            write!(value, "{}", formatter.value(row)).map_err(|e| DataFusionError::External(Box::new(e)))?;
            text.push_str(name);
            text.push(':');
            text.push_str(&serde_json::to_string(&value).map_err(outside)?);
        }
        text.push('}');
        records.append_value(text);
    }
    Ok(Arc::new(records.finish()))
}
