//! Raw source files as a table in which no row can be lost.
//!
//! DataFusion's CSV reader fails a whole query at one ragged line or bad byte, and knows no row numbers. Here every record of
//! a file is a row: a defective one is read as far as it goes, and the column `_defect` says what is wrong with it. The
//! column `_locator` holds the number of the file and the number of the row in it. Text formats give texts, exactly as they
//! stand in the file; Parquet gives its own types.
//!
//! The owner's columns stand there twice: each by itself, and all of them as a [`record`](crate::record). A plan names the few
//! that it computes with, and carries the others, a thousand perhaps, as one column.

mod error;
mod exec;
mod files;
mod parquet;
mod stream;
mod table;
mod text;

use serde::{Deserialize, Serialize};
use tessera_contract::project::{Format, TextEncoding};

pub use error::SourceError;
pub(crate) use exec::{SourceScanExec, SourceScanSpec};
pub use files::{Listed, list};
pub use table::{SourceTable, open};

/// The column that says where a row stands.
pub const LOCATOR: &str = "_locator";
/// The column that says what is wrong with a row, if anything.
pub const DEFECT: &str = "_defect";
/// The column of all columns of the owner.
pub const RECORD: &str = "_record";

/// Bits of a locator that number the row; those above number the file.
pub const ROW_BITS: u32 = 40;

/// The number of the file and of the row in it (from 1) that a locator stands for.
#[must_use]
pub fn locator_parts(locator: i64) -> (usize, u64) {
    ((locator >> ROW_BITS) as usize, (locator & ((1 << ROW_BITS) - 1)) as u64)
}

fn locator(file: usize, row: u64) -> i64 {
    ((file as i64) << ROW_BITS) | row as i64
}

/// The format that a file's extension says, compression aside.
#[must_use]
pub fn format_of(path: &str) -> Option<Format> {
    let name = path.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name).to_owned();
    match name.rsplit_once('.')?.1 {
        "csv" | "tsv" | "txt" => Some(Format::Csv),
        "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
        "parquet" | "pq" => Some(Format::Parquet),
        _ => None,
    }
}

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceFormat {
    /// The format.
    pub kind: Format,
    /// Delimiter of a CSV file; absent, the header decides among `,` `;` tab and `|`.
    pub delimiter: Option<char>,
    /// Quote of a CSV file; absent, `"`.
    pub quote: Option<char>,
    /// Encoding of a text file.
    pub encoding: TextEncoding,
    /// Texts that read as null.
    pub null_values: Vec<String>,
}

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceFile {
    /// Path in its store.
    pub location: String,
    /// What a message calls it.
    pub url: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Entity tag, where the store has one.
    pub etag: Option<String>,
}

#[cfg(test)]
mod tests;
