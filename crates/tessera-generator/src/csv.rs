//! Cells and lines of CSV text, as a careful shop system would write them, and the damage that a careless transfer does to them.

use crate::calendar::civil;

/// Damage to a whole line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    None,
    /// The last two fields are cut off.
    TooFew,
    /// Two more fields stand behind the last.
    TooMany,
    /// Bytes that are not UTF-8 stand in the last field.
    InvalidUtf8,
}

/// A cell and the comma behind it.
pub(crate) fn put<T>(line: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    if let Some(value) = value {
        write(line, value);
    }
    line.push(b',');
}

pub(crate) fn put_text(line: &mut Vec<u8>, value: &str) {
    if value.contains([',', '"', '\n', '\r']) {
        line.push(b'"');
        line.extend_from_slice(value.replace('"', "\"\"").as_bytes());
        line.push(b'"');
    } else {
        line.extend_from_slice(value.as_bytes());
    }
    line.push(b',');
}

pub(crate) fn put_number(line: &mut Vec<u8>, value: i64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), value.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        line.push(b'-');
    }
    line.extend_from_slice(&digits[at..]);
}

pub(crate) fn put_padded(line: &mut Vec<u8>, value: u32, width: u32) {
    for place in (0..width).rev() {
        line.push(b'0' + (value / 10u32.pow(place) % 10) as u8);
    }
}

pub(crate) fn put_day(line: &mut Vec<u8>, day: i32) {
    let (y, m, d) = civil(day);
    put_padded(line, y.unsigned_abs(), 4);
    line.push(b'-');
    put_padded(line, m, 2);
    line.push(b'-');
    put_padded(line, d, 2);
}

/// Damages a finished line.
pub(crate) fn spoil(line: &mut Vec<u8>, damage: Break) {
    match damage {
        Break::None => {}
        Break::TooMany => {
            line.pop();
            line.extend_from_slice(b",,\n");
        }
        Break::TooFew => {
            let mut commas = line.iter().enumerate().rev().filter(|(_, byte)| **byte == b',').map(|(at, _)| at);
            let cut = commas.nth(1).unwrap_or(0);
            line.truncate(cut);
            line.push(b'\n');
        }
        Break::InvalidUtf8 => {
            // Latin-1 bytes in front of the last field's end.
            line.pop();
            line.extend_from_slice(b"\xe9\xff\n");
        }
    }
}
