//! Rows of one value in the same files: a large table is split by a hash of one of its columns.
//!
//! Whoever aggregates by that column later takes one bucket after the other: its groups fit the processor's caches, its
//! memory is that of one bucket, and on a cluster nothing has to be shuffled. The bucket is a folder of the table,
//! `bucket-7`, and the column `bucket` for stages (see [`crate::Engine::read_buckets`]). It never changes a result. (Not
//! `bucket=7`: readers would take that for a partition column that the table does not have.)

use datafusion::{arrow::array::ArrayRef, common::Result};
use serde::{Deserialize, Serialize};

use crate::fingerprint::row_hashes;

/// The column.
pub const BUCKET: &str = "bucket";

/// The folder of a bucket in the folder of a table.
pub(crate) fn folder(table: &str, bucket: usize) -> String {
    format!("{table}/{BUCKET}-{bucket}")
}

/// The bucket in whose folder a file stands.
pub(crate) fn bucket_of(path: &str) -> Option<i32> {
    let (folder, _) = path.rsplit_once('/')?;
    folder.rsplit('/').next()?.strip_prefix(BUCKET)?.strip_prefix('-')?.parse().ok()
}

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

/// The bucket of each value.
pub(crate) fn buckets_of(values: &ArrayRef, count: usize) -> Result<Vec<usize>> {
    let hashes = row_hashes(std::slice::from_ref(values), &[BUCKET])?;
    Ok(hashes.into_iter().map(|hash| ((hash >> 64) as u64 % count as u64) as usize).collect())
}
