//! `moments(x)` and `moments(x, y)`: exact sums of values and of their products.
//!
//! The result is a struct of `n` (rows in which every argument is known), `sum_x`, `sum_y` (exact decimals), `mean_x`,
//! `mean_y`, `var_x`, `var_y` and `cov` (population, over n), and `some_x`, `some_y` (rows in which it is not 0). Values are taken
//! at nine digits after the point and summed as integers of 256 bits, so that neither order nor cancellation changes a digit.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, StructArray},
        datatypes::{DataType, Decimal128Type, Field, Fields, Float64Type, i256},
    },
    common::{DataFusionError, Result},
};

use super::{
    arity, cast,
    grouped::{State, take},
};

const DIGITS: i8 = 9;
const UNIT: f64 = 1e9;
const SUM: DataType = DataType::Decimal128(38, DIGITS);

/// Sums over the rows of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    n: i64,
    some_x: i64,
    some_y: i64,
    x: i128,
    y: i128,
    xx: i256,
    yy: i256,
    xy: i256,
}

/// The columns of a batch; `y` absent is `x`.
pub(super) struct Pair {
    x: Decimal128Array,
    y: Option<Decimal128Array>,
}

fn fields() -> Fields {
    let known = |name: &str| Field::new(name, DataType::Float64, true);
    Fields::from(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("sum_x", SUM, false),
        Field::new("sum_y", SUM, false),
        known("mean_x"),
        known("mean_y"),
        known("var_x"),
        known("var_y"),
        known("cov"),
        Field::new("some_x", DataType::Int64, false),
        Field::new("some_y", DataType::Int64, false),
    ])
}

impl Moments {
    fn add(&mut self, x: i128, y: i128) {
        self.count(x, y);
        self.xx = self.xx.wrapping_add(product(x, x));
        self.yy = self.yy.wrapping_add(product(y, y));
        self.xy = self.xy.wrapping_add(product(x, y));
    }

    /// The same where both are one argument.
    fn add_twice(&mut self, x: i128) {
        self.count(x, x);
        let square = product(x, x);
        for sum in [&mut self.xx, &mut self.yy, &mut self.xy] {
            *sum = sum.wrapping_add(square);
        }
    }

    fn count(&mut self, x: i128, y: i128) {
        self.n += 1;
        self.some_x += i64::from(x != 0);
        self.some_y += i64::from(y != 0);
        self.x += x;
        self.y += y;
    }

    fn mean(&self, sum: i128) -> Option<f64> {
        (self.n > 0).then(|| sum as f64 / UNIT / self.n as f64)
    }

    /// (n·Σab − Σa·Σb) / n², the numerator exact.
    fn covariance(&self, product: i256, a: i128, b: i128) -> Option<f64> {
        let n = i256::from_i128(i128::from(self.n));
        let numerator = product.wrapping_mul(n).wrapping_sub(i256::from_i128(a).wrapping_mul(i256::from_i128(b)));
        (self.n > 0).then(|| to_f64(numerator) / (self.n as f64 * UNIT) / (self.n as f64 * UNIT))
    }
}

/// A column at nine digits after the point.
fn decimal(array: &ArrayRef) -> Result<Decimal128Array> {
    let beyond = || DataFusionError::Execution("a value is beyond the range of exact sums (about 1e29)".into());
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        let values = floats.iter().map(|value| value.map_or(Ok(0), |value| digits(value).ok_or_else(beyond)));
        let values = values.collect::<Result<Vec<i128>>>()?;
        let column = Decimal128Array::new(values.into(), floats.nulls().cloned());
        return Ok(column.with_precision_and_scale(38, DIGITS)?);
    }
    if let (DataType::Decimal128(_, scale @ 0..=DIGITS), Some(decimals)) =
        (array.data_type(), array.as_primitive_opt::<Decimal128Type>())
    {
        let factor = 10_i128.pow(u32::from((DIGITS - scale).unsigned_abs()));
        let largest = (10_u128.pow(38) - 1) / factor.unsigned_abs();
        if decimals.iter().flatten().any(|value| value.unsigned_abs() > largest) {
            return Err(beyond());
        }
        let values: Vec<i128> = decimals.values().iter().map(|value| value.wrapping_mul(factor)).collect();
        let column = Decimal128Array::new(values.into(), decimals.nulls().cloned());
        return Ok(column.with_data_type(SUM));
    }
    let cast = cast(array, &SUM).map_err(|e| DataFusionError::Context("moments".into(), Box::new(e)))?;
    if cast.null_count() > array.null_count() {
        return Err(beyond());
    }
    Ok(cast.as_primitive::<Decimal128Type>().clone())
}

/// A double at nine digits after the point, halves away from 0, as a cast has it; by way of 64 bits, where these suffice, in a
/// fraction of its time.
fn digits(value: f64) -> Option<i128> {
    let scaled = (value * UNIT).round();
    if scaled.abs() < 9e18 {
        return Some(i128::from(scaled as i64));
    }
    (scaled.abs() < 1e38).then_some(scaled as i128)
}

fn product(a: i128, b: i128) -> i256 {
    match (i64::try_from(a), i64::try_from(b)) {
        // A tenth of the time.
        (Ok(a), Ok(b)) => i256::from_i128(i128::from(a) * i128::from(b)),
        _ => i256::from_i128(a).wrapping_mul(i256::from_i128(b)),
    }
}

fn to_f64(value: i256) -> f64 {
    // By way of the digits, the only correctly rounded way that i256 offers.
    value.to_string().parse().unwrap_or(f64::NAN)
}

impl State for Moments {
    const NAME: &'static str = "moments";
    type Input = Pair;

    fn returns() -> DataType {
        DataType::Struct(fields())
    }

    fn open(values: &[ArrayRef]) -> Result<Pair> {
        arity(Self::NAME, values, 1)?;
        Ok(Pair { x: decimal(&values[0])?, y: values.get(1).map(decimal).transpose()? })
    }

    fn update(&mut self, pair: &Pair, row: usize) -> Result<()> {
        match &pair.y {
            None if pair.x.is_valid(row) => self.add_twice(pair.x.value(row)),
            Some(y) if pair.x.is_valid(row) && y.is_valid(row) => self.add(pair.x.value(row), y.value(row)),
            _ => {}
        }
        Ok(())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        for count in [self.n, self.some_x, self.some_y] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend_from_slice(&self.x.to_le_bytes());
        bytes.extend_from_slice(&self.y.to_le_bytes());
        for wide in [self.xx, self.yy, self.xy] {
            bytes.extend_from_slice(&wide.to_le_bytes());
        }
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<()> {
        for count in [&mut self.n, &mut self.some_x, &mut self.some_y] {
            *count += i64::from_le_bytes(take(&mut bytes)?);
        }
        self.x += i128::from_le_bytes(take(&mut bytes)?);
        self.y += i128::from_le_bytes(take(&mut bytes)?);
        for wide in [&mut self.xx, &mut self.yy, &mut self.xy] {
            *wide = wide.wrapping_add(i256::from_le_bytes(take(&mut bytes)?));
        }
        Ok(())
    }

    fn finish(states: Vec<Self>) -> Result<ArrayRef> {
        let sums = |get: fn(&Self) -> i128| -> Result<ArrayRef> {
            let sums: Decimal128Array = states.iter().map(|s| Some(get(s))).collect();
            Ok(Arc::new(sums.with_precision_and_scale(38, DIGITS)?))
        };
        let floats =
            |get: fn(&Self) -> Option<f64>| -> ArrayRef { Arc::new(states.iter().map(get).collect::<Float64Array>()) };
        let counts = |get: fn(&Self) -> i64| -> ArrayRef {
            Arc::new(states.iter().map(|s| Some(get(s))).collect::<Int64Array>())
        };
        Ok(Arc::new(StructArray::new(
            fields(),
            vec![
                counts(|s| s.n),
                sums(|s| s.x)?,
                sums(|s| s.y)?,
                floats(|s| s.mean(s.x)),
                floats(|s| s.mean(s.y)),
                floats(|s| s.covariance(s.xx, s.x, s.x)),
                floats(|s| s.covariance(s.yy, s.y, s.y)),
                floats(|s| s.covariance(s.xy, s.x, s.y)),
                counts(|s| s.some_x),
                counts(|s| s.some_y),
            ],
            None,
        )))
    }

    fn heap(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(f64, f64)]) -> Moments {
        let mut m = Moments::default();
        for (x, y) in rows {
            m.add((x * UNIT).round() as i128, (y * UNIT).round() as i128);
        }
        m
    }

    #[test]
    fn a_large_offset_costs_no_digit() {
        let unit = 1_000_000_000;
        let mut m = Moments::default();
        for (x, y) in [(1, 4), (2, 2), (3, 0)] {
            m.add((1_000_000_000_000 + x) * unit, y * unit);
        }
        assert_eq!(m.mean(m.x), Some(1e12 + 2.0));
        assert_eq!(m.covariance(m.xx, m.x, m.x), Some(2.0 / 3.0));
        assert_eq!(m.covariance(m.xy, m.x, m.y), Some(-4.0 / 3.0));
    }

    #[test]
    fn products_of_any_size_are_exact() {
        let edge = i128::from(i64::MAX);
        for (a, b) in
            [(3, -4), (edge, edge), (edge + 1, -edge), (i128::from(i64::MIN), -7), (10_i128.pow(37), 10_i128.pow(37))]
        {
            assert_eq!(product(a, b), i256::from_i128(a).wrapping_mul(i256::from_i128(b)), "{a} {b}");
        }
    }

    #[test]
    fn doubles_are_taken_as_a_cast_takes_them() {
        let edges = [
            0.0,
            -0.0,
            0.5e-9,
            -0.5e-9,
            1.5e-9,
            0.1,
            1e9,
            9.1e9,
            -1e10,
            123_456_789.123_456_78,
            1e28,
            -9e28,
            f64::MIN_POSITIVE,
        ];
        let odd = (0..1000).map(|i| (f64::from(i) * 0.7).sin() * 10_f64.powi(i % 37 - 9));
        let column: Float64Array = edges.into_iter().chain(odd).map(Some).chain([None]).collect();
        let column: ArrayRef = Arc::new(column);
        assert_eq!(decimal(&column).expect("in range").into_data(), cast(&column, &SUM).expect("casts").into_data());
        for beyond in [f64::NAN, f64::INFINITY, 1e30, -1e30] {
            assert!(decimal(&(Arc::new(Float64Array::from(vec![beyond])) as ArrayRef)).is_err(), "{beyond}");
        }
    }

    #[test]
    fn one_argument_is_that_twice() {
        let (mut once, mut twice) = (Moments::default(), Moments::default());
        for x in [3, -7, 0, i128::from(i64::MAX) + 5] {
            once.add_twice(x);
            twice.add(x, x);
        }
        assert_eq!(format!("{once:?}"), format!("{twice:?}"));
    }

    #[test]
    fn what_is_0_is_counted_apart() {
        let m = of(&[(0.0, 1.0), (2.0, 0.0), (-1.0, 0.0)]);
        assert_eq!((m.n, m.some_x, m.some_y), (3, 2, 1));
    }

    #[test]
    fn any_split_gives_the_same_bits() {
        let rows: Vec<_> = (0..50).map(|i| (f64::from(i).sin() * 1e6, f64::from(i * i) / 7.0)).collect();
        let whole = of(&rows);
        for cut in [0, 1, 17, 50] {
            let (mut left, right) = (of(&rows[cut..]), of(&rows[..cut]));
            let mut bytes = Vec::new();
            right.write(&mut bytes);
            left.merge(&bytes).expect("written by us");
            assert_eq!(format!("{left:?}"), format!("{whole:?}"));
        }
    }
}
