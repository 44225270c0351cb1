//! `record_text(record, 'name')`: the text of one of the owner's columns, from packed records.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, StringViewBuilder},
        datatypes::DataType,
    },
    common::Result,
    logical_expr::ScalarUDF,
};

use super::{literal_text, with_words, wrong};
use crate::record::{Records, Values};

pub(super) fn udf() -> ScalarUDF {
    with_words("record_text", 1, DataType::Utf8View, record_text)
}

fn record_text(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [record, name] = args else { return Err(wrong("record_text takes a record and a name".into())) };
    let name = literal_text(name, "the name of a column")?;
    let Some(Records::Packed(names, rows)) = Records::of(record)? else {
        return Err(wrong("record_text takes packed records".into()));
    };
    let place = names.iter().position(|n| *n == name);
    let place = place.ok_or_else(|| wrong(format!("the records have no column `{name}`")))?;
    let mut texts = StringViewBuilder::with_capacity(rows.len());
    for row in &rows {
        let mut values = Values(row.unwrap_or_default());
        for _ in 0..place {
            values.next()?;
        }
        texts.append_option(values.next()?);
    }
    Ok(Arc::new(texts.finish()))
}
