//! `share_stats(key, amount)`: how an exact sum spreads over keys.
//!
//! The result is a struct of `distinct` (keys that are not null) and `top_share` (the largest key's share of the sum
//! over all keys; null when that sum is not positive). Keys are told apart by 64 bits of hash within one group.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, StructArray},
        datatypes::{DataType, Decimal128Type, Field, Fields},
    },
    common::Result,
};
use tessera_contract::table::Kind;

use super::{
    arity, cast,
    grouped::{State, take},
};
use crate::fingerprint::value_hashes;

/// Sums by hash of the key, sorted by it.
#[derive(Debug, Default)]
pub(super) struct ShareStats {
    sums: Vec<(u64, i128)>,
}

/// The hashes of the keys and the amounts of a batch.
pub(super) struct Rows {
    keys: ArrayRef,
    hashes: Vec<u64>,
    amounts: Decimal128Array,
}

fn fields() -> Fields {
    Fields::from(vec![Field::new("distinct", DataType::Int64, false), Field::new("top_share", DataType::Float64, true)])
}

impl ShareStats {
    fn add(&mut self, key: u64, amount: i128) {
        match self.sums.binary_search_by_key(&key, |(k, _)| *k) {
            Ok(at) => self.sums[at].1 += amount,
            Err(at) => self.sums.insert(at, (key, amount)),
        }
    }

    fn top_share(&self) -> Option<f64> {
        let total: i128 = self.sums.iter().map(|(_, sum)| sum).sum();
        let top = self.sums.iter().map(|(_, sum)| *sum).max()?;
        (total > 0).then(|| top as f64 / total as f64)
    }
}

impl State for ShareStats {
    const NAME: &'static str = "share_stats";
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

    fn update(&mut self, rows: &Rows, row: usize) -> Result<()> {
        if rows.keys.is_valid(row) && rows.amounts.is_valid(row) {
            self.add(rows.hashes[row], rows.amounts.value(row));
        }
        Ok(())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        for (key, sum) in &self.sums {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let key = u64::from_le_bytes(take(&mut bytes)?);
            self.add(key, i128::from_le_bytes(take(&mut bytes)?));
        }
        Ok(())
    }

    fn finish(states: Vec<Self>) -> Result<ArrayRef> {
        let distinct: Int64Array =
            states.iter().map(|s| Some(i64::try_from(s.sums.len()).unwrap_or(i64::MAX))).collect();
        let top: Float64Array = states.iter().map(Self::top_share).collect();
        Ok(Arc::new(StructArray::new(fields(), vec![Arc::new(distinct), Arc::new(top)], None)))
    }

    fn heap(&self) -> usize {
        self.sums.capacity() * size_of::<(u64, i128)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_by_hand() {
        let mut s = ShareStats::default();
        assert_eq!(s.top_share(), None);
        for (key, amount) in [(5, 30), (1, 50), (5, 20)] {
            s.add(key, amount);
        }
        assert_eq!((s.sums.len(), s.top_share()), (2, Some(0.5)));
        let mut bytes = Vec::new();
        s.write(&mut bytes);
        s.merge(&bytes).expect("written by us");
        assert_eq!(s.sums, [(1, 100), (5, 100)]);
    }
}
