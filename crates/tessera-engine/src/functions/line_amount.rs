//! `line_gross(quantity, unit_price)` and `line_net(quantity, unit_price, discount)`: exact money of an order line.
//!
//! |quantity| × unit_price × (1 − discount), rounded half away from zero at the money scale. Null when quantity or
//! price is; an absent discount is 0. Values beyond the range of money are null, which a quality rule then reports.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Decimal128Array},
        datatypes::{DataType, Decimal128Type},
    },
    common::Result,
    logical_expr::ScalarUDF,
};
use tessera_contract::table::{FRACTION, Kind, MONEY, PRICE, QUANTITY};

use super::{arity, cast, stateless};

/// Which amount.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// Before discount.
    Gross,
    /// After discount.
    Net,
}

const ONE: i128 = 10_i128.pow(FRACTION.1 as u32);
const GROSS_EXCESS: i128 = 10_i128.pow((QUANTITY.1 + PRICE.1 - MONEY.1) as u32);

pub(super) fn udf(part: Part) -> ScalarUDF {
    let name = match part {
        Part::Gross => "line_gross",
        Part::Net => "line_net",
    };
    stateless(name, Kind::Money.arrow(), move |args| line_amount(part, args))
}

fn line_amount(part: Part, args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("line_gross", args, 2)?;
    let quantity = cast(&args[0], &Kind::Quantity.arrow())?;
    let price = cast(&args[1], &Kind::Price.arrow())?;
    let discount = match (part, args.get(2)) {
        (Part::Net, Some(d)) if d.data_type() != &DataType::Null => Some(cast(d, &Kind::Fraction.arrow())?),
        _ => None,
    };
    let quantity = quantity.as_primitive::<Decimal128Type>();
    let price = price.as_primitive::<Decimal128Type>();
    let discount = discount.as_ref().map(|d| d.as_primitive::<Decimal128Type>());
    let amounts: Decimal128Array = (0..quantity.len())
        .map(|i| {
            if quantity.is_null(i) || price.is_null(i) {
                return None;
            }
            let rate = match discount {
                Some(d) if d.is_valid(i) => ONE - d.value(i),
                _ => ONE,
            };
            amount(quantity.value(i), price.value(i), rate)
        })
        .collect();
    Ok(Arc::new(amounts.with_precision_and_scale(MONEY.0, MONEY.1)?))
}

fn amount(quantity: i128, price: i128, rate: i128) -> Option<i128> {
    let gross = quantity.unsigned_abs().try_into().ok().and_then(|q: i128| q.checked_mul(price))?;
    if rate == ONE {
        return Some(divide(gross, GROSS_EXCESS));
    }
    Some(divide(gross.checked_mul(rate)?, GROSS_EXCESS * ONE))
}

fn divide(value: i128, by: i128) -> i128 {
    let half = by / 2;
    let value = if value < 0 { value - half } else { value + half };
    // A processor divides 64 bits; 128 are a function call.
    match (i64::try_from(value), i64::try_from(by)) {
        (Ok(value), Ok(by)) => (value / by).into(),
        _ => value / by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_to_the_last_digit() {
        // 3 × 19.99 at 15 % off.
        assert_eq!(amount(3_000, 199_900, 850_000), Some(50_974_500));
        // A returned unit counts as one unit.
        assert_eq!(amount(-1_000, 100, ONE), Some(10_000));
        // Half away from zero at the seventh digit: 0.001 × 0.0005 = 0.0000005.
        assert_eq!(amount(1, 5, ONE), Some(1));
        assert_eq!(amount(1, -5, ONE), Some(-1));
        assert_eq!(amount(i128::MAX, 10, ONE), None);
        // 10 million × 99,999.9999 at half off: more than 64 bits before the division.
        assert_eq!(amount(10_000_000_000, 999_999_999, ONE / 2), Some(499_999_999_500_000_000));
    }
}
