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
pub mod query;
mod sniff;
mod stream;
mod table;
mod text;

use serde::{Deserialize, Serialize};
use tessera_contract::project::{Format, Source as Settings, TextEncoding};

pub use error::SourceError;
pub(crate) use exec::{SourceScanExec, SourceScanSpec};
pub use files::{Listed, list};
pub use sniff::{Sniffed, sniff};
pub use table::{SourceTable, open};

/// The column that says where a row stands.
pub const LOCATOR: &str = "_locator";
/// The column that says what is wrong with a row, if anything.
pub const DEFECT: &str = "_defect";
/// The column of all columns of the owner.
pub const RECORD: &str = "_record";
/// The column, where it is asked for, of the name of the file.
pub const FILE: &str = "_file";

/// The word, in mappings, for the number of the row in its file.
pub const ROW: &str = "_row";

/// Bits of a locator that number the row; those above number the file.
pub const ROW_BITS: u32 = 40;

/// The number of the file and of the row in it (from 1) that a locator stands for.
#[must_use]
pub fn locator_parts(locator: i64) -> (usize, u64) {
    ((locator >> ROW_BITS) as usize, (locator & ((1 << ROW_BITS) - 1)) as u64)
}

/// SQL of the number of the row in its file.
#[must_use]
pub fn row_number() -> String {
    format!("({LOCATOR} & {})", (1_i64 << ROW_BITS) - 1)
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
        "xlsx" | "xlsm" | "xlsb" | "xls" | "ods" => Some(Format::Spreadsheet),
        _ => None,
    }
}

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceFormat {
    /// The format.
    pub kind: Format,
    /// Delimiter of a CSV file; absent, the header decides among `,` `;` tab and `|`. A blank stands for any number of blanks and tabs.
    pub delimiter: Option<char>,
    /// Quote of a CSV file; absent, `"`.
    pub quote: Option<char>,
    /// Encoding of a text file.
    pub encoding: TextEncoding,
    /// Texts that read as null.
    pub null_values: Vec<String>,
    /// Lines of a CSV file, or rows of a spreadsheet, before its header.
    pub skip_lines: usize,
    /// What names the columns of a CSV file or spreadsheet.
    pub names: Names,
    /// The sheets of a spreadsheet, a glob; absent, the first.
    pub sheet: Option<String>,
    /// Whether [`FILE`] is a column.
    pub file_column: bool,
    /// The sign before the decimals of numbers that are texts: what a file has as a number is written so too.
    pub decimal: char,
}

/// What names the columns of a file that is no more than rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Names {
    /// Its first row.
    Header,
    /// The project: these, or `column_1`, `column_2` … if there are none.
    Given(Vec<String>),
}

impl Names {
    /// The names of so many columns, if no row has them.
    fn given(&self, count: usize) -> Option<Vec<String>> {
        match self {
            Self::Header => None,
            Self::Given(names) if names.is_empty() => Some((1..=count).map(|i| format!("column_{i}")).collect()),
            Self::Given(names) => Some(names.clone()),
        }
    }
}

impl SourceFormat {
    /// Text of UTF-8 with a header, whose empty texts are null.
    #[must_use]
    pub fn new(kind: Format) -> Self {
        Self {
            kind,
            delimiter: None,
            quote: None,
            encoding: TextEncoding::Utf8,
            null_values: vec![String::new()],
            skip_lines: 0,
            names: Names::Header,
            sheet: None,
            file_column: false,
            decimal: '.',
        }
    }

    /// What the project file says of a source.
    #[must_use]
    pub fn of(kind: Format, settings: &Settings) -> Self {
        let mut format = Self::new(kind);
        format.null_values.extend(settings.null_values.iter().cloned());
        Self {
            delimiter: settings.delimiter,
            encoding: settings.encoding,
            skip_lines: settings.skip_lines,
            names: match settings.header {
                true => Names::Header,
                false => Names::Given(settings.names.clone()),
            },
            sheet: settings.sheet.clone(),
            decimal: settings.decimal,
            ..format
        }
    }

    fn quote(&self) -> u8 {
        self.quote.and_then(|q| u8::try_from(q).ok()).unwrap_or(b'"')
    }
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
    /// Columns that have one value for all rows of the file: those that its path names, `key=value`.
    #[serde(default)]
    pub constants: Vec<(String, String)>,
}

#[cfg(test)]
mod tests;
