//! `distinct_count(value)`: how many different values there are that are not null.
//!
//! What `count(DISTINCT …)` of the catalogue is counted by where its state is kept. Values are told apart by 64 bits of hash,
//! which only ever has to separate those of one group.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, Int64Array},
        datatypes::DataType,
    },
    common::Result,
};

use super::{
    arity,
    grouped::{State, take},
};
use crate::fingerprint::value_hashes;

/// The hashes of the values.
#[derive(Debug, Default)]
pub(super) struct DistinctCount {
    values: BTreeSet<u64>,
}

/// The values of a batch with their hashes.
pub(super) struct Values {
    column: ArrayRef,
    hashes: Vec<u64>,
}

impl State for DistinctCount {
    const NAME: &'static str = "distinct_count";
    type Input = Values;

    fn returns() -> DataType {
        DataType::Int64
    }

    fn open(values: &[ArrayRef]) -> Result<Values> {
        arity(Self::NAME, values, 1)?;
        Ok(Values { column: Arc::clone(&values[0]), hashes: value_hashes(&values[0])? })
    }

    fn update(&mut self, values: &Values, row: usize) -> Result<()> {
        if values.column.is_valid(row) {
            self.values.insert(values.hashes[row]);
        }
        Ok(())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        self.values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.values.insert(u64::from_le_bytes(take(&mut bytes)?));
        }
        Ok(())
    }

    fn finish(states: Vec<Self>) -> Result<ArrayRef> {
        let count = |s: &Self| i64::try_from(s.values.len()).unwrap_or(i64::MAX);
        Ok(Arc::new(states.iter().map(count).map(Some).collect::<Int64Array>()))
    }

    fn heap(&self) -> usize {
        self.values.len() * 2 * size_of::<u64>()
    }
}
