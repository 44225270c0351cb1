//! `distinct_count(value)`: how many different values there are that are not null.
//!
//! What `count(DISTINCT …)` of the catalogue is counted by where its state is kept. Values are told apart by 64 bits of hash,
//! which only ever has to separate those of one group.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, Int64Array},
        datatypes::DataType,
    },
    common::Result,
};

use super::{
    arity,
    bags::{Bag, fold_equal},
    grouped::take,
};
use crate::fingerprint::value_hashes;

#[derive(Debug)]
pub(super) struct DistinctCount;

/// The values of a batch with their hashes.
pub(super) struct Values {
    column: ArrayRef,
    hashes: Vec<u64>,
}

impl Bag for DistinctCount {
    const NAME: &'static str = "distinct_count";
    type Entry = u64;
    type Input = Values;

    fn returns() -> DataType {
        DataType::Int64
    }

    fn open(values: &[ArrayRef]) -> Result<Values> {
        arity(Self::NAME, values, 1)?;
        Ok(Values { column: Arc::clone(&values[0]), hashes: value_hashes(&values[0])? })
    }

    fn entry(values: &Values, row: usize) -> Option<u64> {
        values.column.is_valid(row).then(|| values.hashes[row])
    }

    fn fold(hashes: &mut [u64]) -> usize {
        hashes.sort_unstable();
        fold_equal(hashes, |a, b| a == b, |_, _| {})
    }

    fn write(hash: &u64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&hash.to_le_bytes());
    }

    fn read(bytes: &mut &[u8]) -> Result<u64> {
        Ok(u64::from_le_bytes(take(bytes)?))
    }

    fn finish<'a>(groups: impl ExactSizeIterator<Item = &'a [u64]>) -> Result<ArrayRef> {
        Ok(Arc::new(groups.map(|hashes| Some(hashes.len() as i64)).collect::<Int64Array>()))
    }
}
