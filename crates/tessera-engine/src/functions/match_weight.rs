//! `match_level(unknown, first, …)`: 0 if the first argument is true, else the place of the first of the others that is, or one more than
//! there are. All conditions are asked of all pairs, which is cheaper than to choose the pairs that each is asked of.
//!
//! `match_weight(levels, weights, comparison, adds, …)`: what the levels of a pair of accounts weigh together, in millionths of a bit. `levels`
//! holds four bits for each comparison, the first lowest: 0 for unknown, which weighs nothing. `weights` is a literal: of each comparison
//! its levels' weights between blanks, comparisons between `;`. Of each further comparison named (a literal number), `adds` is added
//! where it is at its first level.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Int64Array},
        datatypes::{DataType, Int64Type},
    },
    common::Result,
    logical_expr::{ColumnarValue, ScalarUDF, Signature, Volatility, expr_fn::SimpleScalarUDF},
};

use super::{arity, cast, literal_text, stateless, wrong};

pub(super) fn level_udf() -> ScalarUDF {
    // Called volatile, so that no filter over the weight is moved below it, where all would be computed once more for each use.
    let signature = Signature::variadic_any(Volatility::Volatile);
    ScalarUDF::from(SimpleScalarUDF::new_with_signature(
        "match_level",
        signature,
        DataType::Int64,
        Arc::new(|args: &[ColumnarValue]| {
            let conditions = ColumnarValue::values_to_arrays(args)?;
            arity("match_level", &conditions, 2)?;
            Ok(ColumnarValue::Array(match_level(&conditions)?))
        }),
    ))
}

fn match_level(conditions: &[ArrayRef]) -> Result<ArrayRef> {
    let mut levels = vec![conditions.len() as i64; conditions[0].len()];
    // The first that holds is written last.
    for (level, condition) in conditions.iter().enumerate().rev() {
        let condition = cast(condition, &DataType::Boolean)?;
        for (at, holds) in levels.iter_mut().zip(condition.as_boolean()) {
            if holds == Some(true) {
                *at = level as i64;
            }
        }
    }
    Ok(Arc::new(Int64Array::from(levels)))
}

pub(super) fn udf() -> ScalarUDF {
    stateless("match_weight", DataType::Int64, match_weight)
}

fn match_weight(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("match_weight", args, 2)?;
    let levels = cast(&args[0], &DataType::Int64)?;
    let levels = levels.as_primitive::<Int64Type>();
    if levels.is_empty() {
        return Ok(Arc::new(Int64Array::from(Vec::<i64>::new())));
    }
    let weights = literal_text(&args[1].slice(0, 1), "the weights")?;
    let table = table(&weights).ok_or_else(|| wrong(format!("`{weights}` are no weights of levels")))?;
    let mut weighed: Vec<Option<i64>> = Vec::with_capacity(levels.len());
    weighed.extend(levels.iter().map(|levels| {
        let levels = levels?;
        Some(table.iter().enumerate().map(|(at, of)| of[(levels >> (4 * at)) as usize & 15]).sum::<i64>())
    }));
    for pair in args[2..].chunks_exact(2) {
        let (comparison, adds) = (cast(&pair[0], &DataType::Int64)?, cast(&pair[1], &DataType::Int64)?);
        let (comparison, adds) = (comparison.as_primitive::<Int64Type>().value(0), adds.as_primitive::<Int64Type>());
        for ((weight, levels), adds) in weighed.iter_mut().zip(levels).zip(adds) {
            if let (Some(weight), Some(levels), Some(adds)) = (weight, levels, adds)
                && levels >> (4 * comparison) & 15 == 1
            {
                *weight += adds;
            }
        }
    }
    Ok(Arc::new(weighed.into_iter().collect::<Int64Array>()))
}

fn table(text: &str) -> Option<Vec<[i64; 16]>> {
    let one = |text: &str| {
        let mut levels = [0; 16];
        for (at, weight) in text.split_whitespace().enumerate() {
            *levels.get_mut(at + 1)? = weight.parse().ok()?;
        }
        Some(levels)
    };
    let all: Option<Vec<_>> = text.split(';').map(one).collect();
    all.filter(|all| all.len() <= 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_weigh_what_they_are_said_to() {
        let levels: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(0x21), Some(0x10), None]));
        let weights: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["7 -3;100 -5"; 4]));
        let weigh = |args: &[ArrayRef]| {
            match_weight(args).expect("weighs").as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(weigh(&[levels.clone(), weights.clone()]), [Some(0), Some(2), Some(100), None]);
        let (one, adds): (ArrayRef, ArrayRef) =
            (Arc::new(Int64Array::from(vec![1; 4])), Arc::new(Int64Array::from(vec![1000; 4])));
        assert_eq!(weigh(&[levels, weights, one, adds]), [Some(0), Some(2), Some(1100), None]);
    }

    #[test]
    fn the_first_that_holds_is_the_level() {
        let column = |of: [Option<bool>; 4]| Arc::new(arrow::array::BooleanArray::from(of.to_vec())) as ArrayRef;
        let (yes, no) = (Some(true), Some(false));
        let unknown = column([yes, no, None, no]);
        let conditions = [unknown, column([yes, no, None, yes]), column([yes, yes, None, yes])];
        let levels = match_level(&conditions).expect("levels");
        assert_eq!(levels.as_primitive::<Int64Type>().values(), &[0, 2, 3, 1]);
    }
}
