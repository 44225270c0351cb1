//! NDJSON: one object a line.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{BOM, LONGEST, Nulls, Place, Rows, SourceFormat, TextEncoding, decode, too_long};

/// Cuts the bytes of a file into lines.
pub(super) struct Records {
    format: SourceFormat,
    nulls: Nulls,
    /// The places of the wanted columns by name.
    wanted: HashMap<String, usize>,
    /// The beginning of a line.
    held: Vec<u8>,
    /// The line is too long, and its end is awaited.
    skipping: bool,
}

impl Records {
    pub(super) fn new(format: &SourceFormat, wanted: Vec<String>) -> Self {
        let wanted = wanted.into_iter().enumerate().map(|(at, name)| (name, at)).collect();
        Self { format: format.clone(), nulls: Nulls::of(format), wanted, held: Vec::new(), skipping: false }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], place: &mut Place, rows: &mut Rows) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.held.is_empty() && !self.skipping {
                self.line(line, place, rows);
                continue;
            }
            self.held.extend_from_slice(line);
            self.finish(place, rows);
        }
        if !self.skipping {
            self.held.extend_from_slice(bytes);
            if self.held.len() > LONGEST {
                (self.held, self.skipping) = (Vec::new(), true);
            }
        }
    }

    /// Ends the line that was begun, if one was.
    pub(super) fn finish(&mut self, place: &mut Place, rows: &mut Rows) {
        let held = std::mem::take(&mut self.held);
        match std::mem::take(&mut self.skipping) {
            true => rows.push_defect(place, &too_long()),
            false => self.line(&held, place, rows),
        }
    }

    fn line(&self, line: &[u8], place: &mut Place, rows: &mut Rows) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let (text, mut defect) = decode(line, self.format.encoding);
        let mut line = serde_json::Deserializer::from_str(&text);
        let values = Wanted(&self.wanted).deserialize(&mut line).and_then(|values| line.end().map(|()| values));
        let values = values.unwrap_or_else(|error| {
            defect = Some(format!("not a JSON object: {error}"));
            vec![None; self.wanted.len()]
        });
        let value = |at: usize| {
            let raw = values[at]?.get();
            let text = match raw.as_bytes().first() {
                Some(b'"') if !raw.contains('\\') => Cow::Borrowed(&raw[1..raw.len() - 1]),
                Some(b'"') => Cow::Owned(serde_json::from_str::<String>(raw).ok()?),
                Some(b'n') => return None,
                // Numbers are written as those among the texts.
                Some(b'-' | b'0'..=b'9') if self.format.decimal != '.' => {
                    Cow::Owned(raw.replace('.', self.format.decimal.encode_utf8(&mut [0; 4])))
                }
                _ => Cow::Borrowed(raw),
            };
            (!self.nulls.has(&text)).then_some(text)
        };
        rows.push(place, value, defect.as_deref());
    }
}

/// Reads the values of the wanted keys of an object, of each where it is wanted; of a key that stands twice, the last.
struct Wanted<'a>(&'a HashMap<String, usize>);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value::<&RawValue>()?;
            if let Some(at) = self.0.get(key.as_ref()) {
                values[*at] = Some(value);
            }
        }
        Ok(values)
    }
}

/// The keys of NDJSON lines, in the order in which they are first seen.
#[derive(Default)]
pub(in crate::source) struct Keys {
    names: Vec<String>,
    known: HashSet<String>,
    held: Vec<u8>,
}

impl Keys {
    /// Takes bytes in.
    pub(in crate::source) fn feed(&mut self, bytes: &[u8], encoding: TextEncoding) {
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
    pub(in crate::source) fn finish(mut self, encoding: TextEncoding) -> Vec<String> {
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
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = OrderedKeys<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OrderedKeys<'de>, A::Error> {
                let mut keys = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    map.next_value::<IgnoredAny>()?;
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
