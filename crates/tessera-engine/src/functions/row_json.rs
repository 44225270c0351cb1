//! `row_json(record)`: a record as a JSON object of texts; nulls are left out. Of no record it is null.

use std::{fmt::Write, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, BinaryViewArray, StringBuilder, StructArray},
        datatypes::DataType,
        util::display::{ArrayFormatter, FormatOptions},
    },
    common::{DataFusionError, Result},
    logical_expr::ScalarUDF,
};

use super::{stateless, wrong};
use crate::record::{Records, Values};

pub(super) fn udf() -> ScalarUDF {
    stateless("row_json", DataType::Utf8, row_json)
}

fn row_json(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [record] = args else { return Err(wrong("row_json takes one record".into())) };
    match Records::of(record)? {
        Some(Records::Packed(names, rows)) => of_packed(record, &names, &rows),
        Some(Records::Struct(record)) => of_struct(&record),
        None => Err(wrong("row_json takes a record".into())),
    }
}

fn json(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|e| DataFusionError::External(Box::new(e)))
}

/// The next field of an object that was begun.
fn push(object: &mut String, name: &str, value: &str) -> Result<()> {
    if object.len() > 1 {
        object.push(',');
    }
    object.push_str(name);
    object.push(':');
    object.push_str(&json(value)?);
    Ok(())
}

fn of_packed(record: &ArrayRef, names: &[String], rows: &BinaryViewArray) -> Result<ArrayRef> {
    let names = names.iter().map(|name| json(name)).collect::<Result<Vec<_>>>()?;
    let mut records = StringBuilder::new();
    for (at, row) in rows.iter().enumerate() {
        if record.is_null(at) {
            records.append_null();
            continue;
        }
        let (mut object, mut values) = (String::from("{"), Values(row.unwrap_or_default()));
        for name in &names {
            if let Some(value) = values.next()? {
                push(&mut object, name, value)?;
            }
        }
        object.push('}');
        records.append_value(object);
    }
    Ok(Arc::new(records.finish()))
}

fn of_struct(record: &StructArray) -> Result<ArrayRef> {
    let options = FormatOptions::default();
    let fields = record.fields().iter().zip(record.columns());
    let fields = fields
        .map(|(field, column)| Ok((json(field.name())?, column, ArrayFormatter::try_new(column, &options)?)))
        .collect::<Result<Vec<_>>>()?;
    let (mut records, mut value) = (StringBuilder::new(), String::new());
    for row in 0..record.len() {
        if record.is_null(row) {
            records.append_null();
            continue;
        }
        let mut object = String::from("{");
        for (name, _, formatter) in fields.iter().filter(|(_, column, _)| column.is_valid(row)) {
            value.clear();
            write!(value, "{}", formatter.value(row)).map_err(|e| DataFusionError::External(Box::new(e)))?;
            push(&mut object, name, &value)?;
        }
        object.push('}');
        records.append_value(object);
    }
    Ok(Arc::new(records.finish()))
}
