//! `day_stats(day, amount)`: on which days something happened, and for how much on the first.
//!
//! The result is a struct of `days` (distinct ones), `span_days` (from the first to the last), `first` (a date), `first_amount` (the exact
//! sum on it) and `months` (text whose letter m, from 0, is 1 if one of the days is 30 m to 30 m + 29 days after the first, and otherwise 0; it ends
//! with the last 1, or after ten years); without a day, all but `days` are null. Of later days no amount is kept: none can become the first.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, Date32Array, Date32Builder, Decimal128Array, Decimal128Builder, Int64Builder,
            StringBuilder, StructArray,
        },
        datatypes::{DataType, Date32Type, Decimal128Type, Field, Fields},
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

/// Days since 1970, and a sum.
type Day = (i32, i128);

#[derive(Debug)]
pub(super) struct DayStats;

/// The days and the amounts of a batch.
pub(super) struct Rows {
    days: Date32Array,
    amounts: Decimal128Array,
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("days", DataType::Int64, false),
        Field::new("span_days", DataType::Int64, true),
        Field::new("first", DataType::Date32, true),
        Field::new("first_amount", Kind::Money.arrow(), true),
        Field::new("months", DataType::Utf8, true),
    ])
}

/// Months of 30 days that are told of.
const MONTHS: usize = 122;

/// In which months of 30 days after the first day there is one.
fn active(first: i32, days: &[Day]) -> String {
    let mut months = String::new();
    for (day, _) in days {
        let month = usize::try_from((i64::from(*day) - i64::from(first)) / 30).unwrap_or(0);
        if month >= MONTHS {
            break;
        }
        if month >= months.len() {
            (months.len()..month).for_each(|_| months.push('0'));
            months.push('1');
        }
    }
    months
}

impl Bag for DayStats {
    const NAME: &'static str = "day_stats";
    type Entry = Day;
    type Input = Rows;

    fn returns() -> DataType {
        DataType::Struct(fields())
    }

    fn open(values: &[ArrayRef]) -> Result<Rows> {
        arity(Self::NAME, values, 2)?;
        Ok(Rows {
            days: cast(&values[0], &DataType::Date32)?.as_primitive::<Date32Type>().clone(),
            amounts: cast(&values[1], &Kind::Money.arrow())?.as_primitive::<Decimal128Type>().clone(),
        })
    }

    fn entry(rows: &Rows, row: usize) -> Option<Day> {
        let amount = if rows.amounts.is_valid(row) { rows.amounts.value(row) } else { 0 };
        rows.days.is_valid(row).then(|| (rows.days.value(row), amount))
    }

    fn fold(days: &mut [Day]) -> usize {
        days.sort_unstable_by_key(|(day, _)| *day);
        let distinct = fold_equal(days, |a, b| a.0 == b.0, |sum, more| sum.1 += more.1);
        days.iter_mut().take(distinct).skip(1).for_each(|(_, amount)| *amount = 0);
        distinct
    }

    /// The day with a bit that says whether an amount follows.
    fn write((day, amount): &Day, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(day << 1 | i32::from(*amount != 0)).to_le_bytes());
        if *amount != 0 {
            bytes.extend_from_slice(&amount.to_le_bytes());
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<Day> {
        let packed = i32::from_le_bytes(take(bytes)?);
        let amount = if packed & 1 == 1 { i128::from_le_bytes(take(bytes)?) } else { 0 };
        Ok((packed >> 1, amount))
    }

    fn finish<'a>(groups: impl ExactSizeIterator<Item = &'a [Day]>) -> Result<ArrayRef> {
        let mut days = Int64Builder::with_capacity(groups.len());
        let mut spans = Int64Builder::with_capacity(groups.len());
        let mut firsts = Date32Builder::with_capacity(groups.len());
        let mut amounts = Decimal128Builder::with_capacity(groups.len()).with_data_type(Kind::Money.arrow());
        let mut months = StringBuilder::with_capacity(groups.len(), 8 * groups.len());
        for group in groups {
            let (first, last) = (group.first(), group.last());
            days.append_value(group.len() as i64);
            spans.append_option(first.zip(last).map(|(first, last)| i64::from(last.0) - i64::from(first.0)));
            firsts.append_option(first.map(|(day, _)| *day));
            amounts.append_option(first.map(|(_, amount)| *amount));
            months.append_option(first.map(|(first, _)| active(*first, group)));
        }
        Ok(Arc::new(StructArray::new(
            fields(),
            vec![
                Arc::new(days.finish()),
                Arc::new(spans.finish()),
                Arc::new(firsts.finish()),
                Arc::new(amounts.finish()),
                Arc::new(months.finish()),
            ],
            None,
        )))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;
    use crate::functions::bags::folded;

    #[test]
    fn the_first_day_keeps_its_amount_in_whatever_order_rows_and_states_come() {
        let rows = [(7, 100), (3, 20), (-2, 5), (3, 1), (-2, 4), (9, 0)];
        for cut in 0..=rows.len() {
            assert_eq!(folded::<DayStats>(&rows[..cut], &rows[cut..]), [(-2, 9), (3, 0), (7, 0), (9, 0)]);
        }
    }

    #[test]
    fn bytes_are_days_again() {
        for day in [(0, 0), (-2, 9), (20_000, -5), (i32::MAX >> 1, 1), (i32::MIN >> 1, 0)] {
            let mut bytes = Vec::new();
            DayStats::write(&day, &mut bytes);
            assert_eq!(DayStats::read(&mut &bytes[..]).expect("whole"), day);
        }
        assert!(DayStats::read(&mut &[1, 0, 0, 0, 5][..]).is_err());
    }

    #[test]
    fn by_hand() {
        let groups: [&[Day]; 2] = [&[(3, 21), (32, 0), (33, 0), (92, 0), (183, 0), (3 + 122 * 30, 0)], &[]];
        let found = DayStats::finish(groups.into_iter()).expect("a struct");
        let found = found.as_struct();
        let whole = |name: &str| found.column_by_name(name).expect("a field").clone();
        let numbers = |name: &str| whole(name).as_primitive::<Int64Type>().clone();
        assert_eq!(numbers("days").iter().collect::<Vec<_>>(), [Some(6), Some(0)]);
        assert_eq!(numbers("span_days").iter().collect::<Vec<_>>(), [Some(122 * 30), None]);
        let months = whole("months");
        assert_eq!(months.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("1110001"), None]);
        assert_eq!(whole("first").as_primitive::<Date32Type>().iter().collect::<Vec<_>>(), [Some(3), None]);
        let amounts = whole("first_amount");
        assert_eq!(amounts.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), [Some(21), None]);
    }
}
