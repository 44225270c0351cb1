//! `repeated(x)`: the whole numbers that occur at least twice in a group, each once, in ascending order.
//!
//! Numbers are kept, eight bytes each, and sorted at the end. To find what is repeated in a large column,
//! group by a few of its bits: the groups are then small enough to be sorted in cache, and spread over a cluster.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Int64Array, Int64Builder, ListBuilder},
        datatypes::{DataType, Field, FieldRef, Int64Type},
    },
    common::Result,
};

use super::{arity, bags::Bag, cast, grouped::take};

#[derive(Debug)]
pub(super) struct Repeated;

fn element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Int64, true))
}

impl Bag for Repeated {
    const NAME: &'static str = "repeated";
    type Entry = i64;
    type Input = Int64Array;

    fn returns() -> DataType {
        DataType::List(element())
    }

    fn open(values: &[ArrayRef]) -> Result<Int64Array> {
        arity(Self::NAME, values, 1)?;
        Ok(cast(&values[0], &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    fn entry(numbers: &Int64Array, row: usize) -> Option<i64> {
        numbers.is_valid(row).then(|| numbers.value(row))
    }

    /// Each number once or, if it is repeated, twice.
    fn fold(numbers: &mut [i64]) -> usize {
        numbers.sort_unstable();
        let mut kept = 0;
        for at in 0..numbers.len() {
            let number = numbers[at];
            if kept < 2 || numbers[kept - 2] != number {
                numbers[kept] = number;
                kept += 1;
            }
        }
        kept
    }

    fn write(number: &i64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn read(bytes: &mut &[u8]) -> Result<i64> {
        Ok(i64::from_le_bytes(take(bytes)?))
    }

    fn finish<'a>(groups: impl ExactSizeIterator<Item = &'a [i64]>) -> Result<ArrayRef> {
        let mut lists = ListBuilder::new(Int64Builder::new()).with_field(element());
        for numbers in groups {
            let pairs = numbers.windows(2).filter(|pair| pair[0] == pair[1]);
            pairs.for_each(|pair| lists.values().append_value(pair[0]));
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }
}
