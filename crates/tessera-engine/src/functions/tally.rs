//! `tally(locator, amount, later)`: rows and money of every file that a group has rows of.
//!
//! A list of structs, in the order of the files: `file` (its number), `rows`, `last` (the highest number of a row), `amount`, and
//! `rows_later`, `amount_later` of those rows for which `later` is true. An absent amount counts as nothing.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal128Builder, Int64Array, Int64Builder,
            ListArray, StructArray,
        },
        buffer::OffsetBuffer,
        datatypes::{DataType, Decimal128Type, Field, FieldRef, Fields, Int64Type},
    },
    common::Result,
};
use tessera_contract::table::Kind;

use super::{
    arity, cast,
    grouped::{State, take},
};
use crate::source::locator_parts;

/// What a file has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    rows: i64,
    last: i64,
    amount: i128,
    rows_later: i64,
    amount_later: i128,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.last = self.last.max(other.last);
        self.amount += other.amount;
        self.rows_later += other.rows_later;
        self.amount_later += other.amount_later;
    }
}

/// Counts by the number of the file.
#[derive(Debug, Default)]
pub(super) struct Tally {
    files: BTreeMap<i64, Count>,
}

/// The arguments of a batch.
pub(super) struct Rows {
    locators: Int64Array,
    amounts: Decimal128Array,
    later: BooleanArray,
}

fn fields() -> Fields {
    let whole = |name: &str| Field::new(name, DataType::Int64, false);
    let money = |name: &str| Field::new(name, Kind::Money.arrow(), false);
    Fields::from(vec![
        whole("file"),
        whole("rows"),
        whole("last"),
        money("amount"),
        whole("rows_later"),
        money("amount_later"),
    ])
}

fn element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(fields()), false))
}

impl State for Tally {
    const NAME: &'static str = "tally";
    type Input = Rows;

    fn returns() -> DataType {
        DataType::List(element())
    }

    fn open(values: &[ArrayRef]) -> Result<Rows> {
        arity(Self::NAME, values, 3)?;
        Ok(Rows {
            locators: cast(&values[0], &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
            amounts: cast(&values[1], &Kind::Money.arrow())?.as_primitive::<Decimal128Type>().clone(),
            later: cast(&values[2], &DataType::Boolean)?.as_boolean().clone(),
        })
    }

    fn update(&mut self, rows: &Rows, row: usize) -> Result<()> {
        let (file, number) = locator_parts(rows.locators.value(row));
        let amount = if rows.amounts.is_valid(row) { rows.amounts.value(row) } else { 0 };
        let later = rows.later.is_valid(row) && rows.later.value(row);
        self.files.entry(file as i64).or_default().add(Count {
            rows: 1,
            last: number as i64,
            amount,
            rows_later: i64::from(later),
            amount_later: if later { amount } else { 0 },
        });
        Ok(())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        for (file, count) in &self.files {
            for whole in [*file, count.rows, count.last, count.rows_later] {
                bytes.extend_from_slice(&whole.to_le_bytes());
            }
            for money in [count.amount, count.amount_later] {
                bytes.extend_from_slice(&money.to_le_bytes());
            }
        }
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let [file, rows, last, rows_later] = [
                i64::from_le_bytes(take(&mut bytes)?),
                i64::from_le_bytes(take(&mut bytes)?),
                i64::from_le_bytes(take(&mut bytes)?),
                i64::from_le_bytes(take(&mut bytes)?),
            ];
            let amount = i128::from_le_bytes(take(&mut bytes)?);
            let amount_later = i128::from_le_bytes(take(&mut bytes)?);
            self.files.entry(file).or_default().add(Count { rows, last, amount, rows_later, amount_later });
        }
        Ok(())
    }

    fn finish(states: Vec<Self>) -> Result<ArrayRef> {
        let lengths = OffsetBuffer::from_lengths(states.iter().map(|s| s.files.len()));
        let all: Vec<(i64, Count)> = states.into_iter().flat_map(|s| s.files).collect();
        let whole = |get: &dyn Fn(&(i64, Count)) -> i64| -> ArrayRef {
            let mut values = Int64Builder::with_capacity(all.len());
            all.iter().for_each(|one| values.append_value(get(one)));
            Arc::new(values.finish())
        };
        let money = |get: &dyn Fn(&Count) -> i128| -> ArrayRef {
            let mut values = Decimal128Builder::with_capacity(all.len()).with_data_type(Kind::Money.arrow());
            all.iter().for_each(|(_, count)| values.append_value(get(count)));
            Arc::new(values.finish())
        };
        let columns = vec![
            whole(&|(file, _)| *file),
            whole(&|(_, count)| count.rows),
            whole(&|(_, count)| count.last),
            money(&|count| count.amount),
            whole(&|(_, count)| count.rows_later),
            money(&|count| count.amount_later),
        ];
        let counts = StructArray::try_new_with_length(fields(), columns, None, all.len())?;
        Ok(Arc::new(ListArray::try_new(element(), lengths, Arc::new(counts), None)?))
    }

    fn heap(&self) -> usize {
        self.files.len() * size_of::<(i64, Count)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(rows in prop::collection::vec((0_i64..4, 1_i64..99, prop::option::of(-500_i128..500), any::<bool>()), 0..40), at in 0_usize..40) {
            let at = at.min(rows.len());
            let tally = |rows: &[(i64, i64, Option<i128>, bool)]| {
                let locators: Int64Array = rows.iter().map(|(file, row, ..)| Some(file << crate::source::ROW_BITS | row)).collect();
                let amounts: Decimal128Array = rows.iter().map(|(_, _, amount, _)| *amount).collect();
                let amounts = amounts.with_data_type(Kind::Money.arrow());
                let later: BooleanArray = rows.iter().map(|(.., later)| Some(*later)).collect();
                let input = Tally::open(&[Arc::new(locators), Arc::new(amounts), Arc::new(later)]).expect("opens");
                let mut state = Tally::default();
                (0..rows.len()).for_each(|row| state.update(&input, row).expect("takes"));
                state
            };
            let mut bytes = Vec::new();
            tally(&rows[at..]).write(&mut bytes);
            let mut parts = tally(&rows[..at]);
            parts.merge(&bytes).expect("written by us");
            for file in 0..4 {
                let of: Vec<_> = rows.iter().filter(|(f, ..)| *f == file).collect();
                let sum = |later: bool| of.iter().filter(|r| r.3 || !later).filter_map(|r| r.2).sum::<i128>();
                let expected = (!of.is_empty()).then(|| Count {
                    rows: of.len() as i64,
                    last: of.iter().map(|r| r.1).max().unwrap_or(0),
                    amount: sum(false),
                    rows_later: of.iter().filter(|r| r.3).count() as i64,
                    amount_later: sum(true),
                });
                prop_assert_eq!(parts.files.get(&file).copied(), expected);
            }
            let lists = Tally::finish(vec![Tally::default(), parts]).expect("a list");
            prop_assert_eq!(lists.as_list::<i32>().value_length(0), 0);
        }
    }
}
