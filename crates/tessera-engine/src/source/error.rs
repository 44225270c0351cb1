//! What is wrong with a source: where, and what to do.

use object_store::Error as StoreError;

/// Why a source cannot be read. Rows that are merely defective are no error: they are rows.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing matches.
    #[error("no file matches {pattern}")]
    NoFiles {
        /// What was asked for.
        pattern: String,
        /// What stands in the folder instead.
        nearby: Vec<String>,
    },
    /// A pattern that cannot be read.
    #[error("{pattern} is no file pattern: {problem}")]
    Pattern {
        /// What was asked for.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// Every file is empty.
    #[error("{file} is empty: there is not even a header")]
    Empty {
        /// The (first) file.
        file: String,
    },
    /// Two columns of one name.
    #[error("{file}, line 1: the header names `{column}` twice, as columns {first} and {second}")]
    DuplicateColumn {
        /// The file.
        file: String,
        /// The name.
        column: String,
        /// Position of the first, from 1.
        first: usize,
        /// Position of the second.
        second: usize,
    },
    /// A column that is named like one of ours.
    #[error("{file}: a column is named `{column}`, which is taken")]
    ReservedColumn {
        /// The file.
        file: String,
        /// The name.
        column: String,
    },
    /// A column without a name.
    #[error("{file}, line 1: column {position} of the header has no name")]
    UnnamedColumn {
        /// The file.
        file: String,
        /// Position, from 1.
        position: usize,
    },
    /// Names that are not those of the file's columns.
    #[error("{file} has {columns} columns, but `names` names {names}")]
    Names {
        /// The file.
        file: String,
        /// Columns of its first row.
        columns: usize,
        /// Names that were given.
        names: usize,
    },
    /// Not a spreadsheet, or damaged.
    #[error("{file} cannot be read as a spreadsheet: {problem}")]
    Spreadsheet {
        /// The file.
        file: String,
        /// What the reader said.
        problem: String,
    },
    /// No sheet of that name.
    #[error("{file} has no sheet `{sheet}`")]
    NoSheet {
        /// The file.
        file: String,
        /// What was asked for.
        sheet: String,
        /// The sheets it has.
        sheets: Vec<String>,
    },
    /// A header that is not text of the declared encoding.
    #[error("{file}, line 1: the header is not UTF-8")]
    HeaderEncoding {
        /// The file.
        file: String,
    },
    /// Two bytes a character, where another encoding is declared.
    #[error("{file} is UTF-16, as its first two bytes say, and not of the declared encoding")]
    Utf16 {
        /// The file.
        file: String,
    },
    /// A header without end.
    #[error("{file}, after row {row}: a record of more than {limit} bytes")]
    RecordTooLong {
        /// The file.
        file: String,
        /// The last complete row.
        row: u64,
        /// The limit.
        limit: usize,
    },
    /// Compressed data that ends too early or is damaged.
    #[error("{file}, after row {row}: the compressed data is damaged or cut short ({problem})")]
    Compression {
        /// The file.
        file: String,
        /// The last complete row.
        row: u64,
        /// What the decompressor said.
        problem: String,
    },
    /// Not Parquet, or damaged.
    #[error("{file} cannot be read as Parquet: {problem}")]
    Parquet {
        /// The file.
        file: String,
        /// What the reader said.
        problem: String,
    },
    /// One column, two types that cannot be one.
    #[error("the column `{column}` is {first_type} in {first} and {second_type} in {second}")]
    Types {
        /// The column.
        column: String,
        /// A file.
        first: String,
        /// Its type there.
        first_type: String,
        /// Another file.
        second: String,
        /// Its type there.
        second_type: String,
    },
    /// The store.
    #[error("{file} cannot be read")]
    Store {
        /// The file or folder.
        file: String,
        /// The store's answer.
        source: StoreError,
    },
}

impl SourceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoFiles { nearby, .. } if nearby.is_empty() => {
                "check the url; relative paths start at the project file's folder".into()
            }
            Self::NoFiles { nearby, .. } => format!("the folder holds {}", nearby.join(", ")),
            Self::Pattern { .. } => "use * for part of a name, ** for any folders".into(),
            Self::Empty { .. } => {
                "ask the system that writes it to send the file again, or take the source out of the project file"
                    .into()
            }
            Self::UnnamedColumn { .. } => {
                "set skip_lines if the header stands further down; otherwise name each column once in the file's header"
                    .into()
            }
            Self::DuplicateColumn { .. } => "name each column once in the file's header".into(),
            Self::ReservedColumn { .. } => {
                "rename the column: `_locator`, `_defect`, `_record` and `_file` say where a row stands and what it is"
                    .into()
            }
            Self::Names { .. } => "give every column a name, in the order of the file".into(),
            Self::Spreadsheet { .. } => {
                "set the source's format if the file is another one, or save it as xlsx or CSV".into()
            }
            Self::NoSheet { sheets, .. } => format!("it has {}", sheets.join(", ")),
            Self::HeaderEncoding { .. } => {
                "set encoding = \"latin-1\" for the source, if that is what the file is".into()
            }
            Self::Utf16 { .. } => "leave `encoding` out: UTF-8 and UTF-16 are told apart by themselves".into(),
            Self::RecordTooLong { .. } => "a quote is probably not closed there".into(),
            Self::Compression { .. } => "ask for the file again; nothing of it was taken in".into(),
            Self::Parquet { .. } => "set the source's format if the file is another one, or ask for it again".into(),
            Self::Types { .. } => "convert the files to one type, or map them as two projects".into(),
            Self::Store { .. } => return None,
        })
    }
}
