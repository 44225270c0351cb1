//! Splits rows by their buckets.

use crate::buckets::{Buckets, buckets_of};
use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, UInt32Array},
        compute::{BatchCoalescer, take_record_batch},
        datatypes::SchemaRef,
    },
    common::{Result, internal_datafusion_err},
};

/// How many rows a file gets at once.
const BATCH: usize = 4 << 10;

/// The rows of a stream, bucket by bucket, in batches of a size that a file takes well.
pub(super) struct Split {
    column: usize,
    waiting: Vec<BatchCoalescer>,
}

impl Split {
    pub(super) fn new(buckets: &Buckets, schema: &SchemaRef) -> Result<Self> {
        let column = schema.index_of(&buckets.column)?;
        let waiting = (0..buckets.count.max(1)).map(|_| BatchCoalescer::new(schema.clone(), BATCH)).collect();
        Ok(Self { column, waiting })
    }

    /// Takes rows in; what is ready comes out with the number of its bucket.
    pub(super) fn push(&mut self, batch: &RecordBatch, mut ready: impl FnMut(usize, RecordBatch)) -> Result<()> {
        let rows = rows_of(batch.column(self.column), self.waiting.len())?;
        for (bucket, (rows, waiting)) in rows.into_iter().zip(&mut self.waiting).enumerate() {
            if rows.is_empty() {
                continue;
            }
            waiting.push_batch(take_record_batch(batch, &UInt32Array::from(rows))?)?;
            while let Some(batch) = waiting.next_completed_batch() {
                ready(bucket, batch);
            }
        }
        Ok(())
    }

    /// What is left.
    pub(super) fn finish(self) -> Result<Vec<(usize, RecordBatch)>> {
        let mut left = Vec::new();
        for (bucket, mut waiting) in self.waiting.into_iter().enumerate() {
            waiting.finish_buffered_batch()?;
            left.extend(waiting.next_completed_batch().map(|batch| (bucket, batch)));
        }
        Ok(left)
    }
}

/// The rows of every bucket.
fn rows_of(values: &ArrayRef, count: usize) -> Result<Vec<Vec<u32>>> {
    let mut rows = vec![Vec::with_capacity(2 * values.len() / count); count];
    for (row, bucket) in buckets_of(values, count)?.into_iter().enumerate() {
        rows[bucket].push(u32::try_from(row).map_err(|e| internal_datafusion_err!("{e}"))?);
    }
    Ok(rows)
}
