//! `rule_names(mask, name…)`: the names whose bits are set, lowest first; null when none is.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, ListBuilder, StringBuilder},
        datatypes::{DataType, Field, Int64Type},
    },
    common::Result,
    logical_expr::ScalarUDF,
};
use tessera_contract::table::Kind;

use super::{arity, cast, literal_text, with_words};

pub(super) fn udf() -> ScalarUDF {
    with_words("rule_names", 1, Kind::TextList.arrow(), rule_names)
}

fn rule_names(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("rule_names", args, 1)?;
    let mut lists =
        ListBuilder::new(StringBuilder::new()).with_field(Arc::new(Field::new("element", DataType::Utf8, true)));
    let masks = cast(&args[0], &DataType::Int64)?;
    let names = args[1..].iter().map(|n| literal_text(n, "a rule name")).collect::<Result<Vec<_>>>()?;
    for mask in masks.as_primitive::<Int64Type>() {
        let mask = mask.unwrap_or(0);
        for (bit, name) in names.iter().enumerate() {
            if mask >> bit & 1 == 1 {
                lists.values().append_value(name);
            }
        }
        lists.append(mask != 0);
    }
    Ok(Arc::new(lists.finish()))
}
