//! CSV: records, and what to do with quotes that do not belong together.

use std::{borrow::Cow, collections::HashMap};

use super::super::Names;
use super::{BOM, LONGEST, Nulls, Place, Rows, SourceError, SourceFile, SourceFormat, TextEncoding, decode, too_long};

/// Cuts the bytes of a file into records.
pub(super) struct Records {
    format: SourceFormat,
    file: SourceFile,
    nulls: Nulls,
    /// The wanted columns by name.
    wanted: Vec<String>,
    delimiter: u8,
    quote: u8,
    reader: csv_core::Reader,
    output: Vec<u8>,
    ends: Vec<usize>,
    written: usize,
    fields: usize,
    /// Quotes seen in the record so far: an odd number at the end of the file is one that is not closed.
    quotes: usize,
    /// The bytes of the record as far as it was read from earlier bytes.
    held: Vec<u8>,
    /// The record is too long, and its end is awaited.
    skipping: bool,
    header: Option<Vec<String>>,
    /// Where each wanted column stands in the file.
    positions: Vec<Option<usize>>,
}

impl Records {
    pub(super) fn new(format: &SourceFormat, file: &SourceFile, wanted: Vec<String>, delimiter: u8) -> Self {
        let quote = format.quote();
        // Names that are not counted off the first record are known before it.
        let header = match &format.names {
            Names::Given(names) if !names.is_empty() => Some(names.clone()),
            _ => None,
        };
        let positions = header.iter().flat_map(|names| positions(&wanted, names)).collect();
        Self {
            format: format.clone(),
            file: file.clone(),
            nulls: Nulls::of(format),
            wanted,
            delimiter,
            quote,
            reader: csv_core::ReaderBuilder::new().delimiter(delimiter).quote(quote).build(),
            output: vec![0; 4096],
            ends: vec![0; 64],
            written: 0,
            fields: 0,
            quotes: 0,
            held: Vec::new(),
            skipping: false,
            header,
            positions,
        }
    }

    /// Takes bytes in; none is the end of the file.
    pub(super) fn feed(&mut self, bytes: &[u8], place: &mut Place, rows: &mut Rows) -> Result<(), SourceError> {
        let at_end = bytes.is_empty();
        // What is read anew goes before what follows it: the last of these is the next, from where it was left.
        let mut inputs: Vec<(Cow<[u8]>, usize)> = vec![(Cow::Borrowed(bytes), 0)];
        while let Some((input, mut at)) = inputs.pop() {
            let mut start = at;
            loop {
                let last = at_end && inputs.is_empty();
                if self.skipping {
                    match memchr::memchr2(b'\n', b'\r', &input[at..]) {
                        Some(end) => at += end + 1,
                        None if last => at = input.len(),
                        None => break,
                    }
                    self.skipping = false;
                    rows.push_defect(place, &too_long());
                    start = at;
                }
                if at == input.len() && !(last && input.is_empty()) {
                    self.held.extend_from_slice(&input[start..]);
                    if last {
                        // That nothing follows is told by an empty input.
                        inputs.push((Cow::Borrowed(&[]), 0));
                    }
                    break;
                }
                let (output, ends) = (&mut self.output[self.written..], &mut self.ends[self.fields..]);
                let (result, read, wrote, ended) = self.reader.read_record(&input[at..], output, ends);
                self.quotes += memchr::memchr_iter(self.quote, &input[at..at + read]).count();
                at += read;
                self.written += wrote;
                self.fields += ended;
                let full = match result {
                    csv_core::ReadRecordResult::InputEmpty => continue,
                    csv_core::ReadRecordResult::End => break,
                    csv_core::ReadRecordResult::OutputFull if self.output.len() < LONGEST => {
                        self.output.resize(self.output.len() * 2, 0);
                        continue;
                    }
                    csv_core::ReadRecordResult::OutputEndsFull => {
                        self.ends.resize(self.ends.len() * 2, 0);
                        continue;
                    }
                    csv_core::ReadRecordResult::OutputFull => true,
                    csv_core::ReadRecordResult::Record => false,
                };
                let Some(problem) = self.odd(&input[start..at], last, full) else {
                    self.record(last, place, rows)?;
                    self.restart();
                    start = at;
                    continue;
                };
                let mut raw = std::mem::take(&mut self.held);
                raw.extend_from_slice(&input[start..at]);
                // Empty lines before it are none of the record.
                let empty = raw.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
                raw.drain(..empty);
                self.restart();
                self.reader.reset();
                match memchr::memchr2(b'\n', b'\r', &raw) {
                    Some(end) => {
                        self.line(&raw[..end], &problem, place, rows);
                        inputs.push((input, at));
                        inputs.push((Cow::Owned(raw), end + 1));
                        break;
                    }
                    None => self.skipping = true,
                }
                start = at;
            }
        }
        Ok(())
    }

    /// What shows that quotes do not belong together. Then the first line of the record is defective, and the others are records
    /// of their own: one stray quote must not take the lines up to the next one with it.
    fn odd(&self, rest: &[u8], at_end: bool, full: bool) -> Option<String> {
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
        let raw = [self.held.as_slice(), rest].concat();
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

    /// The next record begins.
    fn restart(&mut self) {
        (self.written, self.fields, self.quotes) = (0, 0, 0);
        self.held.clear();
    }

    /// A line whose fields are read as far as that goes.
    fn line(&self, line: &[u8], problem: &str, place: &mut Place, rows: &mut Rows) {
        let fields = split_header(line, self.delimiter, self.quote);
        let value = |at: usize| {
            let bytes = self.positions[at].and_then(|p| fields.get(p))?;
            Some(Cow::Owned(decode(bytes, self.format.encoding).0.into_owned()))
        };
        rows.push(place, value, Some(problem));
    }

    fn record(&mut self, at_end: bool, place: &mut Place, rows: &mut Rows) -> Result<(), SourceError> {
        let ends = &self.ends[..self.fields];
        let field = |i: usize| {
            let start = if i == 0 { 0 } else { ends[i - 1] };
            &self.output[start..ends[i]]
        };
        if self.header.is_none() {
            let given = self.format.names.given(ends.len());
            let is_header = given.is_none();
            let names = match given {
                Some(names) => names,
                None => header((0..ends.len()).map(field), &self.format, &self.file)?,
            };
            self.positions = positions(&self.wanted, &names);
            self.header = Some(names);
            if is_header {
                return Ok(());
            }
        }
        let header = self.header.as_deref().unwrap_or_default();
        let mut defect = None;
        // A header may end with a delimiter, and lines with or without one.
        if ends.len() != header.len() {
            defect = Some(format!("ragged: {} fields where the header has {}", ends.len(), header.len()));
        }
        if at_end && self.quotes % 2 == 1 {
            defect = Some("a quote is not closed before the end of the file".to_owned());
        }
        // The record is looked at as a whole; its fields are pieces of it, and a character's bytes may not lie in two of them.
        let whole = match self.format.encoding {
            TextEncoding::Utf8 => std::str::from_utf8(&self.output[..self.written])
                .ok()
                .filter(|whole| ends.iter().all(|end| whole.is_char_boundary(*end))),
            TextEncoding::Latin1 => None,
        };
        if whole.is_none() && matches!(self.format.encoding, TextEncoding::Utf8) {
            let problem = |at: usize| Some((at, decode(field(at), self.format.encoding).1?));
            if let Some((at, problem)) = (0..ends.len()).find_map(problem) {
                let name = header.get(at).map_or("?", String::as_str);
                defect = Some(format!("{problem} of field \"{name}\""));
            }
        }
        let value = |at: usize| {
            let place = self.positions[at].filter(|p| *p < ends.len())?;
            let text = match whole {
                Some(whole) => Cow::Borrowed(&whole[if place == 0 { 0 } else { ends[place - 1] }..ends[place]]),
                None => decode(field(place), self.format.encoding).0,
            };
            (!self.nulls.has(&text)).then_some(text)
        };
        rows.push(place, value, defect.as_deref());
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

/// The names of a header: each once, none empty but a last one that only follows a trailing delimiter.
pub(in crate::source) fn header<'a>(
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
            // Numbers of rows come without a name, and so does what follows a delimiter at the end.
            "" if count > 1 && (i == 0 || i + 1 == count) => format!("column_{}", i + 1),
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
pub(in crate::source) fn sniff(header: &[u8], quote: u8) -> u8 {
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

/// The line that names the columns, or the first row where none does, without its end; `whole`, if nothing follows the bytes.
pub(in crate::source) fn first_line<'a>(bytes: &'a [u8], format: &SourceFormat, whole: bool) -> Option<&'a [u8]> {
    let (mut quoted, quote) = (false, format.quote());
    let mut bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    for _ in 0..format.skip_lines {
        let end = memchr::memchr(b'\n', bytes);
        bytes = &bytes[end? + 1..];
    }
    // Empty lines are none.
    let bytes = &bytes[bytes.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count()..];
    // The names of a header belong together; of a row nobody knows.
    let quotes = format.names == Names::Header;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b if *b == quote && quotes => quoted = !quoted,
            b'\n' | b'\r' if !quoted => return Some(&bytes[..i]),
            _ => {}
        }
    }
    whole.then_some(bytes)
}

/// Where each wanted column stands among the names.
pub(super) fn positions(wanted: &[String], names: &[String]) -> Vec<Option<usize>> {
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    wanted.iter().map(|w| places.get(w.as_str()).copied()).collect()
}

/// Where blanks delimit: makes one of several, and none of those at the ends of a line. Within quotes they are text.
pub(super) struct Blanks {
    quote: u8,
    at_start: bool,
    pending: bool,
    quoted: bool,
}

impl Blanks {
    pub(super) fn new(quote: u8) -> Self {
        Self { quote, at_start: true, pending: false, quoted: false }
    }

    pub(super) fn squeeze(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut squeezed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match byte {
                b' ' | b'\t' if !self.quoted => {
                    self.pending = !self.at_start;
                    continue;
                }
                // A quote that is not closed is a defect of its line.
                b'\n' | b'\r' => (self.at_start, self.pending, self.quoted) = (true, false, false),
                _ => {
                    if std::mem::take(&mut self.pending) {
                        squeezed.push(b' ');
                    }
                    self.at_start = false;
                    self.quoted ^= *byte == self.quote;
                }
            }
            squeezed.push(*byte);
        }
        squeezed
    }
}

/// A header line, cut by the delimiter.
pub(in crate::source) fn split_header(line: &[u8], delimiter: u8, quote: u8) -> Vec<Vec<u8>> {
    let squeezed;
    let line = match delimiter {
        b' ' => {
            squeezed = Blanks::new(quote).squeeze(line);
            &squeezed
        }
        _ => line,
    };
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
