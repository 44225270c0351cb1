//! `failed(passes…)`: the checks that a row fails, a bit each: of the first argument the lowest. A check passes where it is true, and
//! nowhere else.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, Int64Array},
        datatypes::DataType,
    },
    common::{Result, ScalarValue, cast::as_boolean_array},
    logical_expr::{ColumnarValue, ScalarUDF, Signature, Volatility, expr_fn::SimpleScalarUDF},
};

use super::wrong;

pub(super) fn udf() -> ScalarUDF {
    ScalarUDF::from(SimpleScalarUDF::new_with_signature(
        "failed",
        Signature::variadic(vec![DataType::Boolean], Volatility::Immutable),
        DataType::Int64,
        Arc::new(failed),
    ))
}

fn failed(checks: &[ColumnarValue]) -> Result<ColumnarValue> {
    if checks.len() > 63 {
        return Err(wrong(format!("failed takes at most 63 checks, not {}", checks.len())));
    }
    let rows = checks.iter().find_map(|c| match c {
        ColumnarValue::Array(checked) => Some(checked.len()),
        ColumnarValue::Scalar(_) => None,
    });
    let mut masks = vec![0_i64; rows.unwrap_or(1)];
    for (bit, check) in checks.iter().enumerate() {
        match check {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => {}
            ColumnarValue::Scalar(_) => masks.iter_mut().for_each(|mask| *mask |= 1 << bit),
            ColumnarValue::Array(checked) => {
                let checked = as_boolean_array(checked)?;
                let fails = |row: usize| checked.is_null(row) || !checked.value(row);
                masks.iter_mut().enumerate().for_each(|(row, mask)| *mask |= i64::from(fails(row)) << bit);
            }
        }
    }
    Ok(match rows {
        Some(_) => ColumnarValue::Array(Arc::new(Int64Array::from(masks))),
        None => ColumnarValue::Scalar(ScalarValue::Int64(masks.first().copied())),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{AsArray, BooleanArray},
        datatypes::Int64Type,
    };

    use super::*;

    #[test]
    fn what_is_not_true_fails() {
        let column = |checked: &[Option<bool>]| ColumnarValue::Array(Arc::new(BooleanArray::from(checked.to_vec())));
        let word = |checked| ColumnarValue::Scalar(ScalarValue::Boolean(checked));
        let checks = [column(&[Some(true), Some(false), None]), word(Some(true)), column(&[Some(true); 3]), word(None)];
        let masks = failed(&checks).and_then(|m| m.into_array(3)).expect("masks");
        assert_eq!(masks.as_primitive::<Int64Type>().values(), &[8, 9, 9]);
        assert!(matches!(failed(&[word(Some(false))]), Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(1))))));
        assert!(failed(&vec![word(Some(true)); 64]).is_err());
    }
}
