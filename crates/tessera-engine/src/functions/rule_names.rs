//! `rule_names(mask, text…)`: the texts whose bits are set, lowest first, such as the names of rules; null when none is.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder},
        datatypes::{DataType, Field, Int64Type},
    },
    common::Result,
    logical_expr::ScalarUDF,
};
use tessera_contract::table::Kind;

use super::{arity, cast, with_words};

pub(super) fn udf() -> ScalarUDF {
    with_words("rule_names", 1, Kind::TextList.arrow(), rule_names)
}

fn rule_names(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("rule_names", args, 1)?;
    let mut lists =
        ListBuilder::new(StringBuilder::new()).with_field(Arc::new(Field::new("element", DataType::Utf8, true)));
    let masks = cast(&args[0], &DataType::Int64)?;
    let texts = args[1..].iter().map(|text| cast(text, &DataType::Utf8)).collect::<Result<Vec<_>>>()?;
    let texts: Vec<_> = texts.iter().map(|text| text.as_string::<i32>()).collect();
    for (row, mask) in masks.as_primitive::<Int64Type>().iter().enumerate() {
        let mask = mask.unwrap_or(0);
        for (_, text) in texts.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
            // A literal comes once for all rows.
            let at = row.min(text.len() - 1);
            lists.values().append_option(text.is_valid(at).then(|| text.value(at)));
        }
        lists.append(mask != 0);
    }
    Ok(Arc::new(lists.finish()))
}
