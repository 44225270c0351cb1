//! Rows of one value in the same files: a large table is split by a hash of one of its columns.
//!
//! Whoever aggregates by that column later takes one bucket after the other: its groups fit the processor's caches, its
//! memory is that of one bucket, and on a cluster nothing has to be shuffled. The bucket is a folder of the table,
//! `bucket-7`, and the column `bucket` for stages (see [`crate::Engine::read_buckets`]). It never changes a result. (Not
//! `bucket=7`: readers would take that for a partition column that the table does not have.)

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, UInt32Array},
        compute::{BatchCoalescer, take_record_batch},
        datatypes::SchemaRef,
    },
    common::{Result, internal_datafusion_err},
};
use serde::{Deserialize, Serialize};

use crate::fingerprint::row_hashes;

/// The column.
pub const BUCKET: &str = "bucket";

/// The folder of a bucket in the folder of a table.
pub(super) fn folder(table: &str, bucket: usize) -> String {
    format!("{table}/{BUCKET}-{bucket}")
}

/// The bucket in whose folder a file stands.
pub(crate) fn bucket_of(path: &str) -> Option<i32> {
    let (folder, _) = path.rsplit_once('/')?;
    folder.rsplit('/').next()?.strip_prefix(BUCKET)?.strip_prefix('-')?.parse().ok()
}

/// How many rows a file gets at once.
const BATCH: usize = 4 << 10;

/// A column of the table, and the number of its buckets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct Buckets {
    /// The column, by its name in the table.
    pub column: String,
    /// How many there are; at least 1.
    pub count: u32,
    /// Whether the rows of a bucket are brought together before they are written. Otherwise each partition may have a file of
    /// each bucket open.
    pub together: bool,
}

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

/// The bucket of each value.
pub(crate) fn buckets_of(values: &ArrayRef, count: usize) -> Result<Vec<usize>> {
    let hashes = row_hashes(std::slice::from_ref(values), &[BUCKET])?;
    let bucket =
        |hash: u128| usize::try_from((hash >> 64) % count as u128).map_err(|e| internal_datafusion_err!("{e}"));
    hashes.into_iter().map(bucket).collect()
}

/// The rows of every bucket.
fn rows_of(values: &ArrayRef, count: usize) -> Result<Vec<Vec<u32>>> {
    let mut rows = vec![Vec::with_capacity(2 * values.len() / count); count];
    for (row, bucket) in buckets_of(values, count)?.into_iter().enumerate() {
        rows[bucket].push(u32::try_from(row).map_err(|e| internal_datafusion_err!("{e}"))?);
    }
    Ok(rows)
}
