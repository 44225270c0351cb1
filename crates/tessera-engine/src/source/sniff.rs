//! How an unknown text file is written: what can be told from its beginning.

use std::sync::Arc;

use object_store::ObjectStore;
use tessera_contract::project::TextEncoding;

use super::{SourceError, SourceFile, stream::Chunks, text};

/// Bytes that are looked at.
const ENOUGH: usize = 256 << 10;
/// Lines that may stand before a header.
const BEFORE: usize = 20;
/// Lines by which it is known that a table has begun.
const LIKE: usize = 4;

/// How a delimited file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sniffed {
    /// Its encoding.
    pub encoding: TextEncoding,
    /// Lines before the header.
    pub skip_lines: usize,
    /// Whether the first line of the table names its columns.
    pub header: bool,
}

/// How a delimited file is written.
///
/// # Errors
/// When it cannot be read.
pub async fn sniff(store: &Arc<dyn ObjectStore>, file: &SourceFile) -> Result<Sniffed, SourceError> {
    let mut chunks = Chunks::open(store, file).await?;
    let mut bytes = Vec::new();
    while bytes.len() < ENOUGH
        && let Some(chunk) = chunks.next(0).await?
    {
        bytes.extend_from_slice(&chunk);
    }
    Ok(sniffed(&bytes))
}

fn sniffed(bytes: &[u8]) -> Sniffed {
    // A character may be cut at the end of what was read.
    let encoding = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => TextEncoding::Latin1,
        _ => TextEncoding::Utf8,
    };
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).take(BEFORE + LIKE + 1).collect();
    let cells = |at: usize, delimiter: u8| text::split_header(lines[at], delimiter, b'"');
    let begins = |at: &usize| {
        let delimiter = text::sniff(lines[*at], b'"');
        let count = cells(*at, delimiter).len();
        let after = lines.iter().enumerate().skip(at + 1).filter(|(_, line)| !line.is_empty()).take(LIKE);
        count > 1 && after.map(|(i, _)| cells(i, delimiter).len()).all(|n| n == count)
    };
    let skip_lines = (0..lines.len().saturating_sub(1).min(BEFORE)).find(begins).unwrap_or(0);
    let header = lines.get(skip_lines).is_none_or(|line| {
        let named = |cell: &Vec<u8>| {
            let cell = String::from_utf8_lossy(cell);
            let cell = cell.trim();
            let digits = cell.chars().filter(char::is_ascii_digit).count();
            !cell.contains('@') && digits * 2 <= cell.chars().count()
        };
        text::split_header(line, text::sniff(line, b'"'), b'"').iter().all(named)
    });
    Sniffed { encoding, skip_lines, header }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_begin_where_their_lines_are_alike() {
        let check = |text: &[u8], encoding, skip_lines, header| {
            assert_eq!(sniffed(text), Sniffed { encoding, skip_lines, header }, "{}", String::from_utf8_lossy(text));
        };
        check(b"id,name\n1,x\n2,y\n", TextEncoding::Utf8, 0, true);
        check(b"\xEF\xBB\xBFid;name\n1;x\n", TextEncoding::Utf8, 0, true);
        check(
            b"Kosten nach Tag\r\nKonto: 12, Ulm\r\n\r\nTag;Kosten\r\n1;2\r\n3;4\r\n5;6\r\n7;8\r\n",
            TextEncoding::Utf8,
            3,
            true,
        );
        check(b"id;Stra\xDFe\n1;x\n", TextEncoding::Latin1, 0, true);
        check(b"1,2025-01-01,3.5\n2,2025-01-02,4.5\n", TextEncoding::Utf8, 0, false);
        check(b"only\n", TextEncoding::Utf8, 0, true);
        check(b"", TextEncoding::Utf8, 0, true);
    }
}
