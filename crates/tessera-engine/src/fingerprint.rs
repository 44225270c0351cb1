//! The content fingerprint of a table: an order-independent hash of its rows' values.
//!
//! It is the sum modulo 2¹²⁸ of the rows' hashes, so that neither the order of rows nor their split into files matters, and
//! what was taken away can be subtracted. Version 1 of the algorithm, for whoever wants to compute it anew:
//!
//! 1. The bytes of a value: text as UTF-8; true and false as 1 and 0; whole numbers, days since 1970 and microseconds since
//!    1970 (UTC) as 8 bytes; doubles as the 8 bytes of their bits, −0 as 0; decimals as the 16 bytes of the unscaled number
//!    and one byte of scale; a list as the 8-byte hashes (step 2, seed 0) of its elements, one after the other; a struct
//!    likewise of its fields. All numbers little-endian and signed.
//! 2. The hash of a value is XXH3-64 of its bytes, seeded with XXH3-64 of the column's name. Null is XXH3-64 of nothing,
//!    seeded with the seed's complement.
//! 3. A row starts with a = 0x9E3779B97F4A7C15, b = 0xC2B2AE3D27D4EB4F. For each value hash v in the order of the columns:
//!    a = rotl(a ⊕ v, 27) · 0x9E3779B185EBCA87, b = rotl(b + v, 31) · 0xC2B2AE3D27D4EB4F (mod 2⁶⁴).
//! 4. The row's hash is XXH3-128 of the 16 bytes of a, then b.

use std::{fmt, ops::Add, str::FromStr};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray},
        compute::cast,
        datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
    },
    common::{DataFusionError, Result},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

/// The version of the algorithm.
pub const VERSION: u32 = 1;

/// A sum of row hashes. Written as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint(pub u128);

impl Add for Fingerprint {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The fingerprint of some rows, given as columns with their names.
///
/// # Errors
/// When a column is of a type that no table of ours has.
pub fn rows_sum(columns: &[ArrayRef], names: &[&str]) -> Result<Fingerprint> {
    Ok(Fingerprint(row_hashes(columns, names)?.into_iter().fold(0, u128::wrapping_add)))
}

/// The hash of every row.
///
/// # Errors
/// When a column is of a type that no table of ours has.
pub fn row_hashes(columns: &[ArrayRef], names: &[&str]) -> Result<Vec<u128>> {
    let rows = columns.first().map_or(0, |c| c.len());
    let mut state = vec![(0x9E37_79B9_7F4A_7C15_u64, 0xC2B2_AE3D_27D4_EB4F_u64); rows];
    let mut hashes = vec![0; rows];
    for (column, name) in columns.iter().zip(names) {
        hash_values(column, xxh3_64(name.as_bytes()), &mut hashes)?;
        for ((a, b), v) in state.iter_mut().zip(&hashes) {
            *a = (*a ^ v).rotate_left(27).wrapping_mul(0x9E37_79B1_85EB_CA87);
            *b = b.wrapping_add(*v).rotate_left(31).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        }
    }
    Ok(state
        .into_iter()
        .map(|(a, b)| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&a.to_le_bytes());
            bytes[8..].copy_from_slice(&b.to_le_bytes());
            xxh3_128(&bytes)
        })
        .collect())
}

/// 64 bits of every value of a column, the same for equal values whatever their physical type. States of aggregates hold them.
///
/// # Errors
/// When the column is of a type that no table of ours has.
pub(crate) fn value_hashes(column: &ArrayRef) -> Result<Vec<u64>> {
    let mut hashes = vec![0; column.len()];
    hash_values(column, 0, &mut hashes)?;
    Ok(hashes)
}

/// Puts a hash of each value where it belongs.
fn fill<V>(out: &mut [u64], values: impl Iterator<Item = Option<V>>, null: u64, mut hash: impl FnMut(V) -> u64) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value.map_or(null, &mut hash));
}

/// The hash of every value of a column, which has as many as `out`.
fn hash_values(column: &ArrayRef, seed: u64, out: &mut [u64]) -> Result<()> {
    let null = xxh3_64_with_seed(&[], !seed);
    if column.logical_null_count() == column.len() {
        out.fill(null);
        return Ok(());
    }
    let as_type = |to: DataType| -> Result<ArrayRef> {
        if column.data_type() == &to { Ok(ArrayRef::clone(column)) } else { Ok(cast(column, &to)?) }
    };
    let hash = |bytes: &[u8]| xxh3_64_with_seed(bytes, seed);
    match column.data_type() {
        DataType::Utf8 => fill(out, column.as_string::<i32>().iter(), null, |v| hash(v.as_bytes())),
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _) => {
            let column = as_type(DataType::Utf8View)?;
            fill(out, column.as_string_view().iter(), null, |v| hash(v.as_bytes()));
        }
        DataType::Boolean => fill(out, column.as_boolean().iter(), null, |v| hash(&[u8::from(v)])),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => {
            let column = as_type(DataType::Int64)?;
            fill(out, column.as_primitive::<Int64Type>().iter(), null, |v| hash(&v.to_le_bytes()));
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let column = as_type(DataType::Float64)?;
            let bits = |v: f64| {
                if v == 0.0 {
                    0
                } else if v.is_nan() {
                    f64::NAN.to_bits()
                } else {
                    v.to_bits()
                }
            };
            fill(out, column.as_primitive::<Float64Type>().iter(), null, |v| hash(&bits(v).to_le_bytes()));
        }
        DataType::Decimal128(_, scale) => {
            let mut bytes = [scale.to_le_bytes()[0]; 17];
            fill(out, column.as_primitive::<Decimal128Type>().iter(), null, |v| {
                bytes[..16].copy_from_slice(&v.to_le_bytes());
                hash(&bytes)
            });
        }
        DataType::Date32 => {
            fill(out, column.as_primitive::<Date32Type>().iter(), null, |v| hash(&i64::from(v).to_le_bytes()));
        }
        DataType::Timestamp(_, zone) => {
            let column = as_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let micros = column.as_primitive::<TimestampMicrosecondType>().iter();
            fill(out, micros, null, |v| hash(&v.to_le_bytes()));
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => {
            let column = as_type(DataType::BinaryView)?;
            fill(out, column.as_binary_view().iter(), null, hash);
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (mut bytes, mut elements) = (Vec::new(), Vec::new());
            for (row, out) in out.iter_mut().enumerate() {
                if list.is_null(row) {
                    *out = null;
                    continue;
                }
                let values = list.value(row);
                elements.clear();
                elements.resize(values.len(), 0);
                hash_values(&values, 0, &mut elements)?;
                bytes.clear();
                elements.iter().for_each(|e| bytes.extend_from_slice(&e.to_le_bytes()));
                *out = hash(&bytes);
            }
        }
        DataType::Struct(_) => {
            let fields = column.as_struct();
            let mut parts = Vec::new();
            for field in fields.columns() {
                let mut part = vec![0; column.len()];
                hash_values(field, 0, &mut part)?;
                parts.push(part);
            }
            let mut bytes = Vec::new();
            for (row, out) in out.iter_mut().enumerate() {
                bytes.clear();
                parts.iter().for_each(|p| bytes.extend_from_slice(&p[row].to_le_bytes()));
                *out = if fields.is_null(row) { null } else { hash(&bytes) };
            }
        }
        other => return Err(DataFusionError::NotImplemented(format!("the fingerprint of a column of type {other}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray,
        StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    };
    use datafusion::arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;

    fn of(columns: &[ArrayRef]) -> Fingerprint {
        rows_sum(columns, &["a", "b", "c", "d"][..columns.len()]).expect("known types")
    }

    fn pair(rows: &[(Option<i64>, Option<String>)]) -> [ArrayRef; 2] {
        [
            Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>()),
        ]
    }

    proptest! {
        #[test]
        fn neither_order_nor_split_matters(mut rows in proptest::collection::vec(any::<(Option<i64>, Option<String>)>(), 0..40), cut in 0_usize..40) {
            let whole = of(&pair(&rows));
            let cut = cut.min(rows.len());
            prop_assert_eq!(of(&pair(&rows[..cut])) + of(&pair(&rows[cut..])), whole);
            rows.reverse();
            prop_assert_eq!(of(&pair(&rows)), whole);
        }

        #[test]
        fn one_changed_value_shows(mut rows in proptest::collection::vec(any::<(Option<i64>, Option<String>)>(), 1..20), at in 0_usize..20) {
            let whole = of(&pair(&rows));
            let at = at % rows.len();
            rows[at].0 = match rows[at].0 { Some(x) => x.checked_add(1), None => Some(0) };
            prop_assert_ne!(of(&pair(&rows)), whole);
        }
    }

    #[test]
    fn the_same_value_in_another_type_is_the_same() {
        let text = ["x", "a text that does not fit into a view's twelve bytes"];
        let utf8: ArrayRef = Arc::new(StringArray::from(text.to_vec()));
        assert_eq!(of(&[Arc::clone(&utf8)]), of(&[Arc::new(StringViewArray::from(text.to_vec()))]));
        assert_eq!(of(&[utf8]), of(&[Arc::new(LargeStringArray::from(text.to_vec()))]));
        assert_eq!(of(&[Arc::new(Int32Array::from(vec![7, -7]))]), of(&[Arc::new(Int64Array::from(vec![7, -7]))]));
        assert_eq!(of(&[Arc::new(Float64Array::from(vec![0.0]))]), of(&[Arc::new(Float64Array::from(vec![-0.0]))]));
        assert_eq!(
            of(&[Arc::new(TimestampMillisecondArray::from(vec![5]))]),
            of(&[Arc::new(TimestampMicrosecondArray::from(vec![5_000]))])
        );
    }

    #[test]
    fn what_differs_differs() {
        let swapped = [of(&pair(&[(Some(1), Some("2".into()))])), of(&pair(&[(Some(2), Some("1".into()))]))];
        assert_ne!(swapped[0], swapped[1]);
        assert_ne!(
            of(&[Arc::new(StringArray::from(vec![Some("")]))]),
            of(&[Arc::new(StringArray::from(vec![None::<&str>]))])
        );
        let money = |v: i128, s: i8| -> ArrayRef {
            Arc::new(Decimal128Array::from(vec![v]).with_precision_and_scale(38, s).expect("fits"))
        };
        assert_ne!(of(&[money(15, 0)]), of(&[money(15, 1)]));
        let lists = |v: Vec<Option<Vec<Option<i32>>>>| -> ArrayRef {
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(v))
        };
        assert_ne!(of(&[lists(vec![Some(vec![Some(1), Some(2)])])]), of(&[lists(vec![Some(vec![Some(2), Some(1)])])]));
        assert_ne!(of(&[lists(vec![Some(vec![])])]), of(&[lists(vec![None])]));
        let twice = of(&pair(&[(Some(1), None), (Some(1), None)]));
        assert_ne!(twice, of(&pair(&[(Some(1), None)])));
        assert_ne!(twice, Fingerprint::default(), "a sum, not an exclusive or");
    }

    /// Stored formats do not change unnoticed.
    #[test]
    fn version_1() {
        let columns: [ArrayRef; 4] = [
            Arc::new(StringArray::from(vec![Some("abc"), None])),
            Arc::new(BooleanArray::from(vec![true, false])),
            Arc::new(Date32Array::from(vec![0, 20_000])),
            Arc::new(Float64Array::from(vec![1.5, f64::NAN])),
        ];
        let fingerprint = of(&columns);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert_eq!(fingerprint.to_string(), PINNED);
    }

    const PINNED: &str = "75155945c2f0785c8e032d30296ecd4a";
}
