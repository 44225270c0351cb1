//! `loses_digits(text, scale)`: whether a number, as it was written, has more digits after the point than a decimal of that scale
//! keeps. Zeros at the end are no digits; what is no number loses none.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, BooleanArray},
        datatypes::{DataType, Int64Type},
    },
    common::Result,
    logical_expr::ScalarUDF,
};

use super::{arity, cast, stateless};

pub(super) fn udf() -> ScalarUDF {
    stateless("loses_digits", DataType::Boolean, loses_digits)
}

fn loses_digits(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("loses_digits", args, 2)?;
    let texts = cast(&args[0], &DataType::Utf8View)?;
    let scales = cast(&args[1], &DataType::Int64)?;
    let scales = scales.as_primitive::<Int64Type>();
    let found: BooleanArray =
        texts.as_string_view().iter().zip(scales).map(|(text, scale)| Some(loses(text?.as_bytes(), scale?))).collect();
    Ok(Arc::new(found))
}

/// The number of digits after the point is that of the mantissa, less the exponent.
fn loses(text: &[u8], scale: i64) -> bool {
    let exponent = text.iter().position(|b| matches!(b, b'e' | b'E'));
    let (mantissa, power) = match exponent {
        None if !text.contains(&b'.') => return false,
        None => (text, 0),
        Some(at) => match std::str::from_utf8(&text[at + 1..]).ok().and_then(|t| t.parse::<i64>().ok()) {
            Some(power) => (&text[..at], power),
            None => return false,
        },
    };
    let point = mantissa.iter().position(|b| *b == b'.');
    let after = point.map_or(0, |at| mantissa.len() - at - 1);
    let digits = mantissa.iter().filter(|b| **b != b'.');
    let zeros = digits.clone().rev().take_while(|b| **b == b'0').count();
    if digits.clone().all(|b| matches!(b, b'0' | b'+' | b'-')) {
        return false;
    }
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    length(after).saturating_sub(length(zeros)).saturating_sub(power) > scale
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_after_the_point_are_counted() {
        for (text, scale, expect) in [
            ("1", 0, false),
            ("1.00004", 3, true),
            ("1.0000", 3, false),
            ("0.00005", 4, true),
            ("-0.5", 0, true),
            ("5e-5", 4, true),
            ("5E-4", 4, false),
            ("150e-1", 0, false),
            ("151e-1", 0, true),
            ("1.25e2", 0, false),
            ("0e-99", 0, false),
            ("0.0", 0, false),
            ("", 0, false),
            ("abc", 0, false),
            ("1e", 0, false),
        ] {
            assert_eq!(loses(text.as_bytes(), scale), expect, "{text} at {scale}");
        }
    }

    proptest! {
        /// Held against division of whole numbers.
        #[test]
        fn as_division_says(value in any::<i32>(), digits in 0_u32..9, scale in 0_u32..9) {
            let text = format!("{value}e-{digits}");
            let expect = digits > scale && i64::from(value) % 10_i64.pow(digits - scale) != 0;
            prop_assert_eq!(loses(text.as_bytes(), i64::from(scale)), expect);
        }
    }
}
