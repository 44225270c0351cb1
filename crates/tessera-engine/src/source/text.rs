//! CSV and NDJSON: from bytes to rows of texts.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use datafusion::arrow::array::{ArrayRef, Int64Builder, StringViewBuilder};
use serde_json::value::RawValue;
use std::sync::Arc;

use super::{Format, SourceError, SourceFile, SourceFormat, TextEncoding, locator};

/// A record larger than this is one defect and not data.
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

    /// A row without values.
    fn defective(&mut self, number: usize, row: u64, defect: &str) {
        self.len += 1;
        self.locators.append_value(locator(number, row));
        self.columns.iter_mut().for_each(StringViewBuilder::append_null);
        self.defects.append_value(defect);
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
    Lines {
        /// The beginning of a line.
        held: Vec<u8>,
        /// The line is too long, and its end is awaited.
        skipping: bool,
    },
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
    delimiter: u8,
    encoding: TextEncoding,
    /// The bytes of the record as far as it was read from earlier bytes.
    held: Vec<u8>,
    /// The record is too long, and its end is awaited.
    skipping: bool,
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
            Format::Csv => {
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
                    delimiter,
                    encoding: format.encoding,
                    held: Vec::new(),
                    skipping: false,
                    header: None,
                    positions: Vec::new(),
                }))
            }
            _ => Cutter::Lines { held: Vec::new(), skipping: false },
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
            Format::Csv => self.feed_csv(bytes, rows),
            _ => self.feed_lines(bytes, rows),
        }
    }

    /// Takes the end of the file in.
    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<(), SourceError> {
        match self.format.kind {
            Format::Csv => self.feed_csv(&[], rows),
            _ => {
                let Cutter::Lines { held, skipping } = &mut self.cutter else { return Ok(()) };
                let (rest, skipped) = (std::mem::take(held), std::mem::take(skipping));
                match skipped {
                    true => self.too_long(rows),
                    false => self.line(&rest, rows),
                }
                Ok(())
            }
        }
    }

    fn feed_csv(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
        let at_end = bytes.is_empty();
        let Cutter::Csv(csv) = &mut self.cutter else { return Ok(()) };
        // Bytes that are read anew go before those that follow them; the last are the first to be read.
        let mut inputs: Vec<Cow<[u8]>> = vec![Cow::Borrowed(bytes)];
        while let Some(input) = inputs.pop() {
            let (mut at, mut start) = (0, 0);
            loop {
                if csv.skipping {
                    match memchr::memchr2(b'\n', b'\r', &input[at..]) {
                        Some(end) => at += end + 1,
                        None if at_end && inputs.is_empty() => at = input.len(),
                        None => break,
                    }
                    csv.skipping = false;
                    csv.defective(&[], &too_long(), self.number, &mut self.row, rows);
                    start = at;
                }
                let last = at_end && inputs.is_empty();
                if at == input.len() && !(last && input.is_empty()) {
                    csv.held.extend_from_slice(&input[start..]);
                    if last {
                        // That nothing follows is told by an empty input.
                        inputs.push(Cow::Borrowed(&[]));
                    }
                    break;
                }
                let (result, read, wrote, ended) =
                    csv.reader.read_record(&input[at..], &mut csv.output[csv.written..], &mut csv.ends[csv.fields..]);
                csv.quotes += memchr::memchr_iter(csv.quote, &input[at..at + read]).count();
                at += read;
                csv.written += wrote;
                csv.fields += ended;
                let full = match result {
                    csv_core::ReadRecordResult::InputEmpty => continue,
                    csv_core::ReadRecordResult::End => break,
                    csv_core::ReadRecordResult::OutputFull if csv.output.len() < LONGEST => {
                        csv.output.resize(csv.output.len() * 2, 0);
                        continue;
                    }
                    csv_core::ReadRecordResult::OutputEndsFull => {
                        csv.ends.resize(csv.ends.len() * 2, 0);
                        continue;
                    }
                    csv_core::ReadRecordResult::OutputFull => true,
                    csv_core::ReadRecordResult::Record => false,
                };
                let mut raw = std::mem::take(&mut csv.held);
                match csv.odd(&raw, &input[start..at], last, full) {
                    Some(problem) => {
                        raw.extend_from_slice(&input[start..at]);
                        // Empty lines before it are none of the record.
                        let empty = raw.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
                        raw.drain(..empty);
                        csv.restart();
                        if let Some(end) = memchr::memchr2(b'\n', b'\r', &raw) {
                            csv.defective(&raw[..end], &problem, self.number, &mut self.row, rows);
                            inputs.push(Cow::Owned(input[at..].to_vec()));
                            inputs.push(Cow::Owned(raw.split_off(end + 1)));
                            break;
                        }
                        csv.skipping = true;
                    }
                    None => {
                        csv.record(&self.format, &self.file, &self.wanted, self.number, &mut self.row, last, rows)?;
                        (csv.written, csv.fields, csv.quotes) = (0, 0, 0);
                        raw.clear();
                        csv.held = raw;
                    }
                }
                start = at;
            }
        }
        Ok(())
    }

    fn feed_lines(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            let Cutter::Lines { held, skipping } = &mut self.cutter else { return Ok(()) };
            if std::mem::take(skipping) {
                self.too_long(rows);
            } else if held.is_empty() {
                self.line(line, rows);
            } else {
                let mut whole = std::mem::take(held);
                whole.extend_from_slice(line);
                self.line(&whole, rows);
            }
        }
        let Cutter::Lines { held, skipping } = &mut self.cutter else { return Ok(()) };
        if !*skipping {
            held.extend_from_slice(bytes);
            if held.len() > LONGEST {
                (*held, *skipping) = (Vec::new(), true);
            }
        }
        Ok(())
    }

    /// A line of which nothing is taken in.
    fn too_long(&mut self, rows: &mut Rows) {
        self.row += 1;
        rows.defective(self.number, self.row, &too_long());
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

fn too_long() -> String {
    format!("a record of more than {LONGEST} bytes")
}

impl Csv {
    /// What shows that quotes do not belong together. Then the first line of the record is defective, and the others are records
    /// of their own: one stray quote must not take the lines up to the next one with it.
    fn odd(&self, held: &[u8], rest: &[u8], at_end: bool, full: bool) -> Option<String> {
        if full {
            return Some(match self.quotes % 2 {
                1 => format!("a quote is not closed within {LONGEST} bytes"),
                _ => too_long(),
            });
        }
        let header = self.header.as_ref()?;
        if self.quotes == 0 || memchr::memchr2(b'\n', b'\r', &self.output[..self.written]).is_none() {
            return None;
        }
        let raw = [held, rest].concat();
        let raw = raw.trim_ascii();
        let lines = raw.split(|b| *b == b'\n').count();
        if at_end && self.quotes % 2 == 1 {
            return Some("a quote is not closed before the end of the file".to_owned());
        }
        if misplaced(raw, self.quote, self.delimiter) {
            return Some(format!("a quote that is opened here ends in the middle of a field {} lines on", lines - 1));
        }
        if self.fields != header.len() {
            return Some(format!(
                "ragged: {} fields over {lines} lines where the header has {}",
                self.fields,
                header.len()
            ));
        }
        let inner: Vec<&[u8]> = raw.split(|b| *b == b'\n').skip(1).take(lines.saturating_sub(2)).collect();
        let like_a_row = |line: &&[u8]| split_header(line, self.delimiter, self.quote).len() == header.len();
        (header.len() > 2 && inner.len() > 1 && inner.iter().all(like_a_row))
            .then(|| format!("a quote that is opened here holds {} lines that are rows", inner.len()))
    }

    fn restart(&mut self) {
        self.reader.reset();
        (self.written, self.fields, self.quotes) = (0, 0, 0);
    }

    /// A line whose fields are read as far as that goes.
    fn defective(&self, line: &[u8], problem: &str, number: usize, row: &mut u64, rows: &mut Rows) {
        *row += 1;
        rows.len += 1;
        rows.locators.append_value(locator(number, *row));
        let fields = split_header(line, self.delimiter, self.quote);
        for (position, column) in self.positions.iter().zip(&mut rows.columns) {
            let field = position.and_then(|p| fields.get(p)).filter(|_| !line.is_empty());
            column.append_option(field.map(|bytes| decode(bytes, self.encoding).0));
        }
        rows.defects.append_value(problem);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of Records that a record needs")]
    fn record(
        &mut self,
        format: &SourceFormat,
        file: &SourceFile,
        wanted: &[String],
        number: usize,
        row: &mut u64,
        at_end: bool,
        rows: &mut Rows,
    ) -> Result<(), SourceError> {
        let open = at_end && self.quotes % 2 == 1;
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
        if format.encoding == TextEncoding::Utf8
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

/// Whether a quoted field goes on after its quote was closed.
fn misplaced(record: &[u8], quote: u8, delimiter: u8) -> bool {
    let ends = |at: usize| record.get(at).is_none_or(|b| *b == delimiter || matches!(b, b'\n' | b'\r'));
    let (mut at, mut quoted, mut first) = (0, false, true);
    while let Some(byte) = record.get(at) {
        if !quoted {
            quoted = first && *byte == quote;
            first = *byte == delimiter;
        } else if *byte == quote {
            if record.get(at + 1) == Some(&quote) {
                at += 1;
            } else if ends(at + 1) {
                (quoted, first) = (false, false);
            } else {
                return true;
            }
        }
        at += 1;
    }
    false
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

/// The keys of NDJSON lines, in the order in which they are first seen.
#[derive(Default)]
pub(super) struct Keys {
    pub names: Vec<String>,
    known: HashSet<String>,
    held: Vec<u8>,
}

impl Keys {
    /// Takes bytes in.
    pub(super) fn feed(&mut self, bytes: &[u8], encoding: TextEncoding) {
        let Some(end) = memchr::memrchr(b'\n', bytes) else {
            // Of a line that is longer nothing is taken in.
            if self.held.len() <= LONGEST {
                self.held.extend_from_slice(bytes);
            }
            return;
        };
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(&bytes[..end]);
        self.lines(&whole, encoding);
        self.held = bytes[end + 1..].to_vec();
    }

    /// Takes the end in.
    pub(super) fn finish(mut self, encoding: TextEncoding) -> Vec<String> {
        let rest = std::mem::take(&mut self.held);
        self.lines(&rest, encoding);
        self.names
    }

    fn lines(&mut self, bytes: &[u8], encoding: TextEncoding) {
        for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()) {
            let (text, _) = decode(line.strip_prefix(BOM).unwrap_or(line), encoding);
            let Ok(object) = serde_json::from_str::<OrderedKeys>(&text) else { continue };
            for key in object.0 {
                if !self.known.contains(key.as_ref()) {
                    self.known.insert(key.clone().into_owned());
                    self.names.push(key.into_owned());
                }
            }
        }
    }
}

/// The keys of an object as they stand.
struct OrderedKeys<'a>(Vec<Cow<'a, str>>);

impl<'de> serde::Deserialize<'de> for OrderedKeys<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = OrderedKeys<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<OrderedKeys<'de>, A::Error> {
                let mut keys = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    keys.push(key);
                }
                Ok(OrderedKeys(keys))
            }
        }
        from.deserialize_map(Keys)
    }
}

/// A key, copied only where it has to be unescaped.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
