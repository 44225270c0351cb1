//! CSV and NDJSON: from bytes to rows of texts.

mod csv;
mod ndjson;
mod sheet;

use std::{borrow::Cow, sync::Arc};

use datafusion::arrow::array::{ArrayRef, Int64Builder, StringViewBuilder};

use crate::record::Packer;

pub(super) use csv::{first_line, header, sniff, split_header};
pub(super) use ndjson::Keys;
pub(super) use sheet::{Workbook, header as sheet_header};

use super::{Format, SourceError, SourceFile, SourceFormat, TextEncoding, locator};

/// A record larger than this is one defect and not data.
const LONGEST: usize = 16 << 20;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Some rows of a file.
pub(super) struct Rows {
    /// The columns that are read; of those that are the same for all rows of the file, their value.
    read: Vec<Option<String>>,
    /// Those that stand by themselves: their places among the read ones, and their values.
    columns: Vec<(usize, StringViewBuilder)>,
    /// All that are read, where records are wanted.
    pub records: Option<Packer>,
    locators: Int64Builder,
    defects: StringViewBuilder,
    pub len: usize,
}

impl Rows {
    pub(super) fn new(read: Vec<Option<String>>, columns: &[usize], records: bool) -> Self {
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
    fn push<'a>(&'a mut self, place: &mut Place, value: impl Fn(usize) -> Option<Cow<'a, str>>, defect: Option<&str>) {
        let Self { read, columns, records, .. } = self;
        let value = |at: usize| value(at).or_else(|| read[at].as_deref().map(Cow::Borrowed));
        columns.iter_mut().for_each(|(at, column)| column.append_option(value(*at)));
        if let Some(records) = records {
            (0..read.len()).for_each(|at| records.push(value(at).as_deref()));
            records.end();
        }
        place.row += 1;
        self.len += 1;
        self.locators.append_value(locator(place.file, place.row));
        self.defects.append_option(defect);
    }

    /// The next row of a file, which has nothing but a defect.
    fn push_defect(&mut self, place: &mut Place, defect: &str) {
        self.push(place, |_| None, Some(defect));
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
    /// Lines that are still to be passed over.
    skip: usize,
    /// Brings the blanks between fields down to one, where they delimit.
    blanks: Option<csv::Blanks>,
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
        let is_csv = matches!(format.kind, Format::Csv);
        Self {
            place: Place { file: number, row: 0 },
            started: false,
            skip: if is_csv { format.skip_lines } else { 0 },
            blanks: (is_csv && delimiter == b' ').then(|| csv::Blanks::new(format.quote())),
            cutter,
        }
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
        while self.skip > 0 {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(()) };
            bytes = &bytes[end + 1..];
            self.skip -= 1;
        }
        let bytes = match &mut self.blanks {
            Some(blanks) => Cow::Owned(blanks.squeeze(bytes)),
            None => Cow::Borrowed(bytes),
        };
        match &mut self.cutter {
            // There, nothing is the end of the file.
            Cutter::Csv(_) if bytes.is_empty() => {}
            Cutter::Csv(csv) => csv.feed(&bytes, &mut self.place, rows)?,
            Cutter::Ndjson(lines) => lines.feed(&bytes, &mut self.place, rows),
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
