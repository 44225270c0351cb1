//! `repeated(x)`: the whole numbers that occur at least twice in a group, each once, in ascending order.
//!
//! A group keeps all its numbers, eight bytes each, and sorts them at the end. To find what is repeated in a large column,
//! group by a few of its bits: the groups are then small enough to be sorted in cache, and spread over a cluster.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Int64Array, Int64Builder, ListBuilder},
        datatypes::{DataType, Field, FieldRef, Int64Type},
    },
    common::Result,
};

use super::{
    arity, cast,
    grouped::{State, take},
};

/// Every number of a group, in the order of their coming.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    numbers: Vec<i64>,
}

fn element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Int64, true))
}

impl Repeated {
    fn found(mut self) -> impl Iterator<Item = i64> {
        self.numbers.sort_unstable();
        let mut found: Vec<i64> =
            self.numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        found.dedup();
        found.into_iter()
    }
}

impl State for Repeated {
    const NAME: &'static str = "repeated";
    type Input = Int64Array;

    fn returns() -> DataType {
        DataType::List(element())
    }

    fn open(values: &[ArrayRef]) -> Result<Int64Array> {
        arity(Self::NAME, values, 1)?;
        Ok(cast(&values[0], &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    fn update(&mut self, numbers: &Int64Array, row: usize) -> Result<()> {
        if numbers.is_valid(row) {
            self.numbers.push(numbers.value(row));
        }
        Ok(())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        self.numbers.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.numbers.reserve_exact(bytes.len() / 8);
        while !bytes.is_empty() {
            self.numbers.push(i64::from_le_bytes(take(&mut bytes)?));
        }
        Ok(())
    }

    fn finish(states: Vec<Self>) -> Result<ArrayRef> {
        let mut lists = ListBuilder::new(Int64Builder::new()).with_field(element());
        for state in states {
            state.found().for_each(|n| lists.values().append_value(n));
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }

    fn heap(&self) -> usize {
        self.numbers.capacity() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_counting_finds_them(left in prop::collection::vec(-9_i64..9, 0..40), right in prop::collection::vec(-9_i64..9, 0..40)) {
            let naive: Vec<i64> = (-9..9).filter(|n| left.iter().chain(&right).filter(|m| *m == n).count() > 1).collect();
            let mut bytes = Vec::new();
            Repeated { numbers: right }.write(&mut bytes);
            let mut state = Repeated { numbers: left };
            state.merge(&bytes).expect("written by us");
            prop_assert_eq!(state.found().collect::<Vec<_>>(), naive);
        }
    }
}
