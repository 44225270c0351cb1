//! `order_stats(order_id, ordered_at)`: distinct orders and the gaps between them.
//!
//! An order is a distinct id, at the time of its earliest line. The result is a struct of `orders`, `gap_mean_days`
//! (null below two orders) and `gap_std_days` (n − 1; null below two gaps). Ids are told apart by 64 bits of hash,
//! which only ever has to separate the orders of one group.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StructArray, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType},
    },
    common::Result,
};

use super::{
    arity,
    bags::{Bag, fold_equal},
    cast,
    grouped::take,
};
use crate::fingerprint::value_hashes;

const DAY: f64 = 86_400e6;

/// The hash of an order's id, and a time.
type Line = (u64, i64);

#[derive(Debug)]
pub(super) struct OrderStats;

/// The hashes of the ids and the times of a batch.
pub(super) struct Lines {
    ids: ArrayRef,
    hashes: Vec<u64>,
    times: TimestampMicrosecondArray,
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("orders", DataType::Int64, false),
        Field::new("gap_mean_days", DataType::Float64, true),
        Field::new("gap_std_days", DataType::Float64, true),
    ])
}

impl Bag for OrderStats {
    const NAME: &'static str = "order_stats";
    type Entry = Line;
    type Input = Lines;

    fn returns() -> DataType {
        DataType::Struct(fields())
    }

    fn open(values: &[ArrayRef]) -> Result<Lines> {
        arity(Self::NAME, values, 2)?;
        let times = cast(&values[1], &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
        Ok(Lines {
            ids: Arc::clone(&values[0]),
            hashes: value_hashes(&values[0])?,
            times: times.as_primitive::<TimestampMicrosecondType>().clone(),
        })
    }

    fn entry(lines: &Lines, row: usize) -> Option<Line> {
        (lines.ids.is_valid(row) && lines.times.is_valid(row)).then(|| (lines.hashes[row], lines.times.value(row)))
    }

    fn fold(lines: &mut [Line]) -> usize {
        lines.sort_unstable();
        // The first of an order is its earliest.
        fold_equal(lines, |a, b| a.0 == b.0, |_, _| {})
    }

    fn write((id, time): &Line, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&time.to_le_bytes());
    }

    fn read(bytes: &mut &[u8]) -> Result<Line> {
        Ok((u64::from_le_bytes(take(bytes)?), i64::from_le_bytes(take(bytes)?)))
    }

    fn finish<'a>(groups: impl ExactSizeIterator<Item = &'a [Line]>) -> Result<ArrayRef> {
        let mut orders = Vec::with_capacity(groups.len());
        let mut means = Vec::with_capacity(groups.len());
        let mut stds = Vec::with_capacity(groups.len());
        let mut times = Vec::new();
        for lines in groups {
            times.clear();
            times.extend(lines.iter().map(|(_, time)| *time));
            times.sort_unstable();
            orders.push(times.len() as i64);
            let (mean, std) = gaps(&times);
            means.push(mean);
            stds.push(std);
        }
        Ok(Arc::new(StructArray::new(
            fields(),
            vec![
                Arc::new(Int64Array::from(orders)),
                Arc::new(Float64Array::from(means)),
                Arc::new(Float64Array::from(stds)),
            ],
            None,
        )))
    }
}

/// Mean and sample standard deviation of the gaps of sorted times, in days.
fn gaps(times: &[i64]) -> (Option<f64>, Option<f64>) {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return (None, None) };
    let n = times.len() - 1;
    if n == 0 {
        return (None, None);
    }
    let mean = (last - first) as f64 / n as f64;
    let squares: f64 = times.windows(2).map(|pair| ((pair[1] - pair[0]) as f64 - mean).powi(2)).sum();
    let std = (n > 1).then(|| (squares / (n - 1) as f64).sqrt() / DAY);
    (Some(mean / DAY), std)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::bags::folded;

    const D: i64 = 86_400_000_000;

    #[test]
    fn gaps_by_hand() {
        assert_eq!(gaps(&[]), (None, None));
        assert_eq!(gaps(&[5]), (None, None));
        assert_eq!(gaps(&[0, 2 * D]), (Some(2.0), None));
        // Gaps 1 and 3: mean 2, variance ((−1)² + 1²) / 1.
        assert_eq!(gaps(&[0, D, 4 * D]), (Some(2.0), Some(2.0_f64.sqrt())));
    }

    #[test]
    fn an_order_counts_once_at_its_first_line_in_whatever_order_lines_and_states_come() {
        let lines = [(7, 3 * D), (9, D), (7, 2 * D), (9, 5 * D), (7, 4 * D)];
        for cut in 0..=lines.len() {
            assert_eq!(folded::<OrderStats>(&lines[..cut], &lines[cut..]), [(7, 2 * D), (9, D)]);
        }
        assert!(OrderStats::read(&mut &[0; 15][..]).is_err());
    }
}
