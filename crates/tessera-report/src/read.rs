//! Rows of answers as they come, JSON objects, made into what the page is written from.

use serde_json::{Map, Value};

/// What is wrong with the facts that were handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// A column is not there, or null where it never is.
    #[error("query {query}, row {row}: column {column} is missing")]
    Missing {
        /// The query.
        query: &'static str,
        /// The row, from 1.
        row: usize,
        /// The column.
        column: String,
    },
    /// A column holds something else than it should.
    #[error("query {query}, row {row}: column {column} is {found}, and should be {expected}")]
    Wrong {
        /// The query.
        query: &'static str,
        /// The row, from 1.
        row: usize,
        /// The column.
        column: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A column that the query does not have.
    #[error("query {query}, row {row}: nobody asked for column {column}")]
    Unknown {
        /// The query.
        query: &'static str,
        /// The row, from 1.
        row: usize,
        /// The column.
        column: String,
    },
    /// An answer to a query that there is not.
    #[error("there is no query {0}")]
    NoQuery(String),
    /// The night's date is none.
    #[error("the night's date {0:?} is not written as YYYY-MM-DD")]
    Date(String),
}

/// A number as the table holds it, beside what it is as a float.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    pub value: f64,
    pub raw: String,
}

impl Number {
    /// In millionths: money is decimal(38,6), and its sums are to be exact.
    pub fn micros(&self) -> Option<i128> {
        let (negative, digits) = match self.raw.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, self.raw.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 6 || !plain(whole) || !plain(fraction) {
            return None;
        }
        let whole: i128 = whole.parse().ok()?;
        let fraction: i128 = format!("{fraction:0<6}").parse().ok()?;
        let micros = whole.checked_mul(1_000_000)?.checked_add(fraction)?;
        Some(if negative { -micros } else { micros })
    }
}

/// What a column can hold.
pub(crate) trait Cell: Sized {
    const EXPECTED: &'static str;
    /// `Ok(None)` where nothing is there and something has to be.
    fn read(value: Option<&Value>) -> Result<Option<Self>, ()>;
}

impl Cell for String {
    const EXPECTED: &'static str = "a text";
    fn read(value: Option<&Value>) -> Result<Option<Self>, ()> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(()),
        }
    }
}

impl Cell for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: Option<&Value>) -> Result<Option<Self>, ()> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(_) => Err(()),
        }
    }
}

impl Cell for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn read(value: Option<&Value>) -> Result<Option<Self>, ()> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => number.as_i64().map(Some).ok_or(()),
            Some(_) => Err(()),
        }
    }
}

impl Cell for Number {
    const EXPECTED: &'static str = "a number";
    fn read(value: Option<&Value>) -> Result<Option<Self>, ()> {
        let raw = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.to_string(),
            // Money comes as text, with all its digits.
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(()),
        };
        let value: f64 = raw.parse().map_err(|_| ())?;
        if value.is_finite() { Ok(Some(Self { value, raw })) } else { Err(()) }
    }
}

impl<T: Cell> Cell for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn read(value: Option<&Value>) -> Result<Option<Self>, ()> {
        T::read(value).map(Some)
    }
}

/// A row that is being read; it knows what it is called in an error.
pub(crate) struct Reader<'a> {
    pub query: &'static str,
    pub row: usize,
    pub columns: &'a Map<String, Value>,
}

impl Reader<'_> {
    pub fn take<T: Cell>(&self, column: &str) -> Result<T, FactsError> {
        let (query, row) = (self.query, self.row);
        let value = self.columns.get(column);
        match T::read(value) {
            Ok(Some(cell)) => Ok(cell),
            Ok(None) => Err(FactsError::Missing { query, row, column: column.to_owned() }),
            Err(()) => {
                let found = value.map(|value| value.to_string().chars().take(60).collect()).unwrap_or_default();
                Err(FactsError::Wrong { query, row, column: column.to_owned(), found, expected: T::EXPECTED })
            }
        }
    }

    /// Nothing may stand in the row that nobody reads: it would be a column by another name.
    pub fn finish(&self, known: &[&str]) -> Result<(), FactsError> {
        match self.columns.keys().find(|column| !known.contains(&column.as_str())) {
            None => Ok(()),
            Some(column) => {
                Err(FactsError::Unknown { query: self.query, row: self.row, column: column.chars().take(60).collect() })
            }
        }
    }
}

/// A part of the key of a row, as it stands in an address.
pub(crate) trait KeyPart {
    fn part(&self) -> String;
}

impl KeyPart for i64 {
    fn part(&self) -> String {
        self.to_string()
    }
}

impl KeyPart for String {
    fn part(&self) -> String {
        let mut out = String::new();
        for byte in self.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    }
}

impl<T: KeyPart> KeyPart for Option<T> {
    fn part(&self) -> String {
        self.as_ref().map(T::part).unwrap_or_default()
    }
}

/// A kind of row: what it is read from, and where its numbers are found again.
pub(crate) trait Row: Sized {
    const QUERY: &'static str;
    fn read(reader: &Reader<'_>) -> Result<Self, FactsError>;
    /// The address of one of its numbers: query, key, column.
    fn at(&self, column: &str) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        let micros = |raw: &str| Number { value: 0.0, raw: raw.to_owned() }.micros();
        assert_eq!(micros("6262237.673000"), Some(6_262_237_673_000));
        assert_eq!(micros("-0.5"), Some(-500_000));
        assert_eq!(micros("7"), Some(7_000_000));
        assert_eq!(micros("1e9"), None);
        assert_eq!(micros("0.1234567"), None);
    }

    #[test]
    fn a_key_holds_no_sign_of_the_address() {
        assert_eq!("a/b,\u{202e}".to_owned().part(), "a%2Fb%2C%E2%80%AE");
        assert_eq!(None::<i64>.part(), "");
    }
}
