//! Splits rows by their buckets.

use crate::buckets::{Buckets, buckets_of};
use datafusion::{
    arrow::{array::RecordBatch, compute::interleave_record_batch, datatypes::SchemaRef},
    common::Result,
};

/// The rows of a stream, bucket by bucket. Many rows are split at once: each is copied once, and the rows of a bucket are
/// enough for a file to take them well.
pub(super) struct Split {
    column: usize,
    buckets: usize,
    at_once: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
}

impl Split {
    /// `at_once`: how many rows wait to be split.
    pub(super) fn new(buckets: &Buckets, schema: &SchemaRef, at_once: usize) -> Result<Self> {
        let column = schema.index_of(&buckets.column)?;
        Ok(Self { column, buckets: buckets.count.max(1) as usize, at_once, waiting: Vec::new(), rows: 0 })
    }

    /// Takes rows in; what is ready comes out with the number of its bucket.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        self.rows += batch.num_rows();
        self.waiting.push(batch);
        if self.rows < self.at_once { Ok(Vec::new()) } else { self.finish() }
    }

    /// What is left.
    pub(super) fn finish(&mut self) -> Result<Vec<(usize, RecordBatch)>> {
        let batches = std::mem::take(&mut self.waiting);
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(Vec::new());
        }
        let of: Vec<Vec<usize>> =
            batches.iter().map(|b| buckets_of(b.column(self.column), self.buckets)).collect::<Result<_>>()?;
        let mut ends = vec![0; self.buckets];
        of.iter().flatten().for_each(|bucket| ends[*bucket] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut order = vec![(0, 0); rows];
        for (batch, buckets) in of.iter().enumerate() {
            for (row, bucket) in buckets.iter().enumerate() {
                order[ends[*bucket]] = (batch, row);
                ends[*bucket] += 1;
            }
        }
        let all = interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &order)?;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let slices = starts.zip(&ends).enumerate().filter(|(_, (start, end))| *start < **end);
        Ok(slices.map(|(bucket, (start, end))| (bucket, all.slice(start, end - start))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, AsArray, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In their order, each in the bucket of its value.
        #[test]
        fn every_row_comes_out_once(keys in prop::collection::vec("[a-f]{0,2}", 0..60), count in 1_u32..7, size in 1_usize..9, at_once in 1_usize..30) {
            let batch = |keys: &[String]| {
                let column: ArrayRef = Arc::new(keys.iter().map(|k| Some(k.as_str())).collect::<StringViewArray>());
                RecordBatch::try_from_iter([("key", column)]).expect("a batch")
            };
            let buckets = Buckets { column: "key".into(), count, together: false };
            let mut split = Split::new(&buckets, &batch(&[]).schema(), at_once).expect("a column");
            let mut found: Vec<Vec<String>> = vec![Vec::new(); count as usize];
            let mut ready: Vec<_> = keys.chunks(size).flat_map(|keys| split.push(batch(keys)).expect("splits")).collect();
            ready.extend(split.finish().expect("splits"));
            for (bucket, rows) in ready {
                found[bucket].extend(rows.column(0).as_string_view().iter().flatten().map(str::to_owned));
            }
            let all = batch(&keys);
            let mut expected: Vec<Vec<String>> = vec![Vec::new(); count as usize];
            for (key, bucket) in keys.iter().zip(buckets_of(all.column(0), count as usize).expect("buckets")) {
                expected[bucket].push(key.clone());
            }
            prop_assert_eq!(found, expected);
        }
    }
}
