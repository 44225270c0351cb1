//! `share_stats(key, amount)`: how an exact sum spreads over keys.
//!
//! The result is a struct of `distinct` (keys that are not null) and `top_share` (the largest key's share of the sum
//! over all keys; null when that sum is not positive). Keys are told apart by 64 bits of hash within one group.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Builder, Int64Builder, StructArray},
        datatypes::{DataType, Decimal128Type, Field, Fields},
    },
    common::Result,
};
use tessera_contract::table::Kind;

use super::{
    arity,
    bags::{Bag, fold_equal},
    cast,
    grouped::take,
};
use crate::fingerprint::value_hashes;

/// The hash of a key, and a sum.
type Sum = (u64, i128);

#[derive(Debug)]
pub(super) struct ShareStats;

/// The hashes of the keys and the amounts of a batch.
pub(super) struct Rows {
    keys: ArrayRef,
    hashes: Vec<u64>,
    amounts: Decimal128Array,
}

fn fields() -> Fields {
    Fields::from(vec![Field::new("distinct", DataType::Int64, false), Field::new("top_share", DataType::Float64, true)])
}

fn top_share(sums: &[Sum]) -> Option<f64> {
    let total: i128 = sums.iter().map(|(_, sum)| sum).sum();
    let top = sums.iter().map(|(_, sum)| *sum).max()?;
    (total > 0).then(|| top as f64 / total as f64)
}

impl Bag for ShareStats {
    const NAME: &'static str = "share_stats";
    type Entry = Sum;
    type Input = Rows;

    fn returns() -> DataType {
        DataType::Struct(fields())
    }

    fn open(values: &[ArrayRef]) -> Result<Rows> {
        arity(Self::NAME, values, 2)?;
        Ok(Rows {
            keys: Arc::clone(&values[0]),
            hashes: value_hashes(&values[0])?,
            amounts: cast(&values[1], &Kind::Money.arrow())?.as_primitive::<Decimal128Type>().clone(),
        })
    }

    fn entry(rows: &Rows, row: usize) -> Option<Sum> {
        (rows.keys.is_valid(row) && rows.amounts.is_valid(row)).then(|| (rows.hashes[row], rows.amounts.value(row)))
    }

    fn fold(sums: &mut [Sum]) -> usize {
        sums.sort_unstable_by_key(|(key, _)| *key);
        fold_equal(sums, |a, b| a.0 == b.0, |sum, more| sum.1 += more.1)
    }

    fn write((key, sum): &Sum, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&sum.to_le_bytes());
    }

    fn read(bytes: &mut &[u8]) -> Result<Sum> {
        Ok((u64::from_le_bytes(take(bytes)?), i128::from_le_bytes(take(bytes)?)))
    }

    fn finish<'a>(groups: impl ExactSizeIterator<Item = &'a [Sum]>) -> Result<ArrayRef> {
        let mut distinct = Int64Builder::with_capacity(groups.len());
        let mut top = Float64Builder::with_capacity(groups.len());
        for sums in groups {
            distinct.append_value(sums.len() as i64);
            top.append_option(top_share(sums));
        }
        Ok(Arc::new(StructArray::new(fields(), vec![Arc::new(distinct.finish()), Arc::new(top.finish())], None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::bags::folded;

    #[test]
    fn the_largest_share_by_hand() {
        let shares = |sums: &[Sum], more: &[Sum]| folded::<ShareStats>(sums, more);
        assert_eq!(top_share(&shares(&[], &[])), None);
        let all = [(5, 30), (1, 50), (5, 20)];
        for cut in 0..=all.len() {
            let sums = shares(&all[..cut], &all[cut..]);
            assert_eq!(sums, [(1, 50), (5, 50)]);
            assert_eq!(top_share(&sums), Some(0.5));
        }
        assert_eq!(top_share(&[(1, -50), (5, 50)]), None, "the sum is not positive");
    }
}
