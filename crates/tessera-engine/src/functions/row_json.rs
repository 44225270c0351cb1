//! `row_json(name, value, name, value…)`: a row as a JSON object of texts; nulls are left out.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, StringBuilder},
        datatypes::DataType,
        util::display::{ArrayFormatter, FormatOptions},
    },
    common::{DataFusionError, Result},
    logical_expr::ScalarUDF,
};

use super::{literal_text, stateless};

pub(super) fn udf() -> ScalarUDF {
    stateless("row_json", DataType::Utf8, row_json)
}

fn row_json(args: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = args.first().map_or(0, |a| a.len());
    let mut records = StringBuilder::new();
    if rows > 0 {
        let options = FormatOptions::default();
        let fields = args
            .chunks_exact(2)
            .map(|pair| {
                let name = serde_json::to_string(&literal_text(&pair[0], "a column name")?)
                    .map_err(|e| DataFusionError::External(Box::new(e)))?;
                Ok((name, &pair[1], ArrayFormatter::try_new(&pair[1], &options)?))
            })
            .collect::<Result<Vec<_>>>()?;
        for row in 0..rows {
            let mut text = String::from("{");
            for (name, array, formatter) in &fields {
                if array.is_null(row) {
                    continue;
                }
                if text.len() > 1 {
                    text.push(',');
                }
                text.push_str(name);
                text.push(':');
                let value = formatter.value(row).to_string();
                text.push_str(&serde_json::to_string(&value).map_err(|e| DataFusionError::External(Box::new(e)))?);
            }
            text.push('}');
            records.append_value(text);
        }
    }
    Ok(Arc::new(records.finish()))
}
