//! CSV and NDJSON: from bytes to rows of texts.

mod csv;
mod ndjson;

use std::{borrow::Cow, sync::Arc};

use datafusion::arrow::array::{ArrayRef, Int64Builder, StringViewBuilder};

use crate::record::Packer;

pub(super) use csv::{first_line, header, sniff, split_header};
pub(super) use ndjson::Keys;

use super::{Format, SourceError, SourceFile, SourceFormat, TextEncoding, locator};

/// A record larger than this is one defect and not data.
const LONGEST: usize = 16 << 20;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Some rows of a file.
pub(super) struct Rows {
    /// How many of the file's columns are read.
    read: usize,
    /// Those that stand by themselves: their places among the read ones, and their values.
    columns: Vec<(usize, StringViewBuilder)>,
    /// All that are read, where records are wanted.
    pub records: Option<Packer>,
    locators: Int64Builder,
    defects: StringViewBuilder,
    pub len: usize,
}

impl Rows {
    pub(super) fn new(read: usize, columns: &[usize], records: bool) -> Self {
        Self {
            read,
            columns: columns.iter().map(|at| (*at, StringViewBuilder::new())).collect(),
            records: records.then(Packer::default),
            locators: Int64Builder::new(),
            defects: StringViewBuilder::new(),
            len: 0,
        }
    }

    /// The next row of a file: the value of each column that is read, and what is wrong with the row.
    fn push<T: AsRef<str>>(&mut self, place: &mut Place, value: impl Fn(usize) -> Option<T>, defect: Option<&str>) {
        place.row += 1;
        self.len += 1;
        self.locators.append_value(locator(place.file, place.row));
        self.columns.iter_mut().for_each(|(at, column)| column.append_option(value(*at)));
        if let Some(records) = &mut self.records {
            (0..self.read).for_each(|at| records.push(value(at).as_ref().map(T::as_ref)));
            records.end();
        }
        self.defects.append_option(defect);
    }

    /// The next row of a file, which has nothing but a defect.
    fn push_defect(&mut self, place: &mut Place, defect: &str) {
        self.push(place, |_| None::<&str>, Some(defect));
    }

    /// The columns that stand by themselves, the locators, the defects and the number of rows.
    pub(super) fn finish(&mut self) -> (Vec<ArrayRef>, ArrayRef, ArrayRef, usize) {
        let columns = self.columns.iter_mut().map(|(_, c)| Arc::new(c.finish()) as ArrayRef).collect();
        let len = std::mem::take(&mut self.len);
        (columns, Arc::new(self.locators.finish()), Arc::new(self.defects.finish()), len)
    }
}

/// The texts that stand for no value.
struct Nulls {
    /// Whether the empty one is among them, by far the most frequent.
    empty: bool,
    others: Vec<String>,
}

impl Nulls {
    fn of(format: &SourceFormat) -> Self {
        let others = format.null_values.iter().filter(|null| !null.is_empty()).cloned().collect();
        Self { empty: format.null_values.iter().any(String::is_empty), others }
    }

    fn has(&self, text: &str) -> bool {
        if text.is_empty() { self.empty } else { self.others.iter().any(|null| null == text) }
    }
}

/// Where one is in a source.
struct Place {
    /// The file's place among the source's files.
    file: usize,
    /// The last complete row of it.
    row: u64,
}

/// Cuts bytes into records and puts the wanted columns of each into [`Rows`].
pub(super) struct Records {
    place: Place,
    started: bool,
    cutter: Cutter,
}

enum Cutter {
    Csv(Box<csv::Records>),
    Ndjson(ndjson::Records),
}

impl Records {
    /// `number` is the file's place among the source's files.
    pub(super) fn new(
        format: &SourceFormat,
        file: &SourceFile,
        number: usize,
        wanted: Vec<String>,
        delimiter: u8,
    ) -> Self {
        let cutter = match format.kind {
            Format::Csv => Cutter::Csv(Box::new(csv::Records::new(format, file, wanted, delimiter))),
            _ => Cutter::Ndjson(ndjson::Records::new(format, wanted)),
        };
        Self { place: Place { file: number, row: 0 }, started: false, cutter }
    }

    /// The last complete row.
    pub(super) fn row(&self) -> u64 {
        self.place.row
    }

    /// Takes bytes in.
    pub(super) fn feed(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
        if !std::mem::replace(&mut self.started, true) {
            bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        }
        match &mut self.cutter {
            // There, nothing is the end of the file.
            Cutter::Csv(_) if bytes.is_empty() => {}
            Cutter::Csv(csv) => csv.feed(bytes, &mut self.place, rows)?,
            Cutter::Ndjson(lines) => lines.feed(bytes, &mut self.place, rows),
        }
        Ok(())
    }

    /// Takes the end of the file in.
    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<(), SourceError> {
        match &mut self.cutter {
            Cutter::Csv(csv) => csv.feed(&[], &mut self.place, rows)?,
            Cutter::Ndjson(lines) => lines.finish(&mut self.place, rows),
        }
        Ok(())
    }
}

fn too_long() -> String {
    format!("a record of more than {LONGEST} bytes")
}

fn decode(bytes: &[u8], encoding: TextEncoding) -> (Cow<'_, str>, Option<String>) {
    match encoding {
        TextEncoding::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), None),
            Err(e) => (String::from_utf8_lossy(bytes), Some(format!("invalid UTF-8 at byte {}", e.valid_up_to() + 1))),
        },
        TextEncoding::Latin1 => (encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0, None),
    }
}
