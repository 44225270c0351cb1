//! CSV and NDJSON: from bytes to rows of texts.

use std::{borrow::Cow, collections::HashMap};

use datafusion::arrow::array::{ArrayRef, Int64Builder, StringViewBuilder};
use serde_json::value::RawValue;
use std::sync::Arc;

use super::{Encoding, Kind, SourceError, SourceFile, SourceFormat, locator};

/// A record larger than this is an unclosed quote, not data.
const LONGEST: usize = 16 << 20;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The columns of some rows.
pub(super) struct Rows {
    /// One builder per wanted column.
    pub columns: Vec<StringViewBuilder>,
    pub locators: Int64Builder,
    pub defects: StringViewBuilder,
    pub len: usize,
}

impl Rows {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            columns: (0..columns).map(|_| StringViewBuilder::new()).collect(),
            locators: Int64Builder::new(),
            defects: StringViewBuilder::new(),
            len: 0,
        }
    }

    /// The texts, the locators and the defects.
    pub(super) fn finish(&mut self) -> (Vec<ArrayRef>, ArrayRef, ArrayRef, usize) {
        let columns = self.columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        let len = std::mem::take(&mut self.len);
        (columns, Arc::new(self.locators.finish()), Arc::new(self.defects.finish()), len)
    }
}

/// Cuts bytes into records and puts the wanted columns of each into [`Rows`].
pub(super) struct Records {
    format: SourceFormat,
    file: SourceFile,
    number: usize,
    row: u64,
    started: bool,
    cutter: Cutter,
    /// The wanted columns by name.
    wanted: Vec<String>,
}

enum Cutter {
    Csv(Box<Csv>),
    Lines(Vec<u8>),
}

struct Csv {
    reader: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
    written: usize,
    fields: usize,
    /// Quotes seen in the record so far: an odd number at the end of the file is one that is not closed.
    quotes: usize,
    quote: u8,
    header: Option<Vec<String>>,
    /// Where each wanted column stands in the file.
    positions: Vec<Option<usize>>,
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
            Kind::Csv => {
                let quote = format.quote.and_then(|q| u8::try_from(q).ok()).unwrap_or(b'"');
                let reader = csv_core::ReaderBuilder::new().delimiter(delimiter).quote(quote).build();
                Cutter::Csv(Box::new(Csv {
                    reader,
                    output: vec![0; 4096],
                    ends: vec![0; 64],
                    written: 0,
                    fields: 0,
                    quotes: 0,
                    quote,
                    header: None,
                    positions: Vec::new(),
                }))
            }
            _ => Cutter::Lines(Vec::new()),
        };
        Self { format: format.clone(), file: file.clone(), number, row: 0, started: false, cutter, wanted }
    }

    /// The last complete row.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    /// Takes bytes in.
    pub(super) fn feed(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
        if !self.started {
            self.started = true;
            bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        }
        match self.format.kind {
            Kind::Csv => self.feed_csv(bytes, rows),
            _ => self.feed_lines(bytes, rows),
        }
    }

    /// Takes the end of the file in.
    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<(), SourceError> {
        match self.format.kind {
            Kind::Csv => self.feed_csv(&[], rows),
            _ => {
                let Cutter::Lines(rest) = &mut self.cutter else { return Ok(()) };
                let rest = std::mem::take(rest);
                self.line(&rest, rows);
                Ok(())
            }
        }
    }

    fn feed_csv(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
        let at_end = bytes.is_empty();
        let Cutter::Csv(csv) = &mut self.cutter else { return Ok(()) };
        loop {
            let (result, read, wrote, ended) =
                csv.reader.read_record(bytes, &mut csv.output[csv.written..], &mut csv.ends[csv.fields..]);
            csv.quotes += bytes[..read].iter().filter(|b| **b == csv.quote).count();
            bytes = &bytes[read..];
            csv.written += wrote;
            csv.fields += ended;
            match result {
                csv_core::ReadRecordResult::InputEmpty if at_end => {}
                csv_core::ReadRecordResult::InputEmpty | csv_core::ReadRecordResult::End => return Ok(()),
                csv_core::ReadRecordResult::OutputFull => {
                    if csv.output.len() >= LONGEST {
                        return Err(SourceError::RecordTooLong {
                            file: self.file.url.clone(),
                            row: self.row,
                            limit: LONGEST,
                        });
                    }
                    csv.output.resize(csv.output.len() * 2, 0);
                }
                csv_core::ReadRecordResult::OutputEndsFull => csv.ends.resize(csv.ends.len() * 2, 0),
                csv_core::ReadRecordResult::Record => {
                    let open = at_end && csv.quotes % 2 == 1;
                    csv.record(&self.format, &self.file, &self.wanted, self.number, &mut self.row, open, rows)?;
                    (csv.written, csv.fields, csv.quotes) = (0, 0, 0);
                }
            }
        }
    }

    fn feed_lines(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
        let Cutter::Lines(rest) = &mut self.cutter else { return Ok(()) };
        let mut held = std::mem::take(rest);
        held.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(length) = held[start..].iter().position(|b| *b == b'\n') {
            self.line(&held[start..start + length], rows);
            start += length + 1;
        }
        if held.len() - start > LONGEST {
            return Err(SourceError::RecordTooLong { file: self.file.url.clone(), row: self.row, limit: LONGEST });
        }
        let left = held.split_off(start);
        self.cutter = Cutter::Lines(left);
        Ok(())
    }

    fn line(&mut self, line: &[u8], rows: &mut Rows) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.row += 1;
        rows.locators.append_value(locator(self.number, self.row));
        rows.len += 1;
        let (text, mut defect) = decode(line, self.format.encoding);
        let values: HashMap<String, Box<RawValue>> = match serde_json::from_str(&text) {
            Ok(values) => values,
            Err(error) => {
                defect = Some(format!("not a JSON object: {error}"));
                HashMap::new()
            }
        };
        for (name, column) in self.wanted.iter().zip(&mut rows.columns) {
            let value = values.get(name).and_then(|raw| match raw.get().as_bytes().first() {
                Some(b'"') => serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned),
                Some(b'n') => None,
                _ => Some(Cow::Borrowed(raw.get())),
            });
            column.append_option(value.filter(|v| !self.format.null_values.iter().any(|n| n == v)));
        }
        rows.defects.append_option(defect);
    }
}

impl Csv {
    #[expect(clippy::too_many_arguments, reason = "the parts of Records that a record needs")]
    fn record(
        &mut self,
        format: &SourceFormat,
        file: &SourceFile,
        wanted: &[String],
        number: usize,
        row: &mut u64,
        open: bool,
        rows: &mut Rows,
    ) -> Result<(), SourceError> {
        let ends = &self.ends[..self.fields];
        let field = |i: usize| {
            let start = if i == 0 { 0 } else { ends[i - 1] };
            &self.output[start..ends[i]]
        };
        let Some(header) = &self.header else {
            let names = header((0..ends.len()).map(field), format, file)?;
            self.positions = wanted.iter().map(|w| names.iter().position(|n| n == w)).collect();
            self.header = Some(names);
            return Ok(());
        };
        *row += 1;
        rows.len += 1;
        rows.locators.append_value(locator(number, *row));
        let mut defect = None;
        // A header may end with a delimiter, and lines with or without one.
        if ends.len() != header.len() {
            defect = Some(format!("ragged: {} fields where the header has {}", ends.len(), header.len()));
        }
        if open {
            defect = Some("a quote is not closed before the end of the file".to_owned());
        }
        if format.encoding == Encoding::Utf8
            && let Err(error) = std::str::from_utf8(&self.output[..self.written])
        {
            let at = ends.iter().position(|end| *end > error.valid_up_to()).unwrap_or(0);
            let start = if at == 0 { 0 } else { ends[at - 1] };
            let name = header.get(at).map_or("?", String::as_str);
            defect = Some(format!("invalid UTF-8 at byte {} of field \"{name}\"", error.valid_up_to() - start + 1));
        }
        for (position, column) in self.positions.iter().zip(&mut rows.columns) {
            match position.filter(|p| *p < ends.len()).map(field) {
                Some(bytes) => {
                    let (text, _) = decode(bytes, format.encoding);
                    column.append_option(Some(text).filter(|t| !format.null_values.iter().any(|n| n == t)));
                }
                None => column.append_null(),
            }
        }
        rows.defects.append_option(defect);
        Ok(())
    }
}

fn decode(bytes: &[u8], encoding: Encoding) -> (Cow<'_, str>, Option<String>) {
    match encoding {
        Encoding::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), None),
            Err(e) => (String::from_utf8_lossy(bytes), Some(format!("invalid UTF-8 at byte {}", e.valid_up_to() + 1))),
        },
        Encoding::Latin1 => (encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0, None),
    }
}

/// The names of a header: each once, none empty but a last one that only follows a trailing delimiter.
pub(super) fn header<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    format: &SourceFormat,
    file: &SourceFile,
) -> Result<Vec<String>, SourceError> {
    let mut names: Vec<String> = Vec::new();
    let fields: Vec<&[u8]> = fields.collect();
    let count = fields.len();
    for (i, bytes) in fields.into_iter().enumerate() {
        let (name, defect) = decode(bytes, format.encoding);
        if defect.is_some() {
            return Err(SourceError::HeaderEncoding { file: file.url.clone() });
        }
        let name = match name.trim() {
            "" if i + 1 == count && i > 0 => format!("column_{}", i + 1),
            "" => return Err(SourceError::UnnamedColumn { file: file.url.clone(), position: i + 1 }),
            name => name.to_owned(),
        };
        if let Some(first) = names.iter().position(|n| *n == name) {
            return Err(SourceError::DuplicateColumn {
                file: file.url.clone(),
                column: name,
                first: first + 1,
                second: i + 1,
            });
        }
        names.push(name);
    }
    Ok(names)
}

/// The delimiter that occurs most often in a header, outside quotes; ties in this order.
pub(super) fn sniff(header: &[u8], quote: u8) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for byte in header {
        if *byte == quote {
            quoted = !quoted;
        } else if let Some((_, n)) = counts.iter_mut().find(|(d, _)| d == byte && !quoted) {
            *n += 1;
        }
    }
    counts.iter().rev().max_by_key(|(_, n)| *n).map_or(b',', |(d, _)| *d)
}

/// The first line's bytes, without its end, if they are complete.
pub(super) fn first_line(bytes: &[u8], quote: u8) -> Option<&[u8]> {
    let mut quoted = false;
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b if *b == quote => quoted = !quoted,
            b'\n' | b'\r' if !quoted && i > 0 => return Some(&bytes[..i]),
            _ => {}
        }
    }
    None
}

/// A header line, cut by the delimiter.
pub(super) fn split_header(line: &[u8], delimiter: u8, quote: u8) -> Vec<Vec<u8>> {
    let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).quote(quote).build();
    let mut output = vec![0; line.len() + 1];
    let mut ends = vec![0; line.len() + 1];
    let (_, _, mut written, mut fields) = reader.read_record(line, &mut output, &mut ends);
    let (_, _, more, ended) = reader.read_record(&[], &mut output[written..], &mut ends[fields..]);
    written += more;
    fields += ended;
    let mut start = 0;
    ends[..fields]
        .iter()
        .map(|end| {
            let field = output[start..(*end).min(written)].to_vec();
            start = *end;
            field
        })
        .collect()
}

/// The keys of some NDJSON lines, in the order in which they are first seen.
pub(super) fn keys(bytes: &[u8], encoding: Encoding, names: &mut Vec<String>) {
    for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()) {
        let (text, _) = decode(line.strip_prefix(BOM).unwrap_or(line), encoding);
        if let Ok(object) = serde_json::from_str::<OrderedKeys>(&text) {
            for key in object.0 {
                if !names.contains(&key) {
                    names.push(key);
                }
            }
        }
    }
}

/// The keys of an object as they stand.
struct OrderedKeys(Vec<String>);

impl<'de> serde::Deserialize<'de> for OrderedKeys {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = OrderedKeys;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<OrderedKeys, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key()? {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    keys.push(key);
                }
                Ok(OrderedKeys(keys))
            }
        }
        from.deserialize_map(Keys)
    }
}
