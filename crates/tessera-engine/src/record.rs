//! Records: all of the owner's columns of a row as one column.
//!
//! Of Parquet, a record is a struct of the file's columns, as they are. A text file may have a thousand columns that nobody
//! mapped, and an array of each costs more than reading it: there, a record is *packed*. It is a struct of one binary field,
//! whose name lists the columns, `packed ["id","name"]`, so that the type says what its bytes mean wherever it goes, as the
//! names of a struct do. The bytes hold, for each column in that order, the length of its text in UTF-8 plus one as LEB128,
//! then the text; a null is a 0.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, StructArray},
        compute::cast,
        datatypes::{DataType, Field, Fields},
    },
    common::{DataFusionError, Result},
};

use crate::formula::text;

const PACKED: &str = "packed ";

/// The type of the records of texts in these columns.
pub(crate) fn packed<'a>(names: impl Iterator<Item = &'a str>) -> DataType {
    let names: Vec<_> = names.collect();
    let name = format!("{PACKED}{}", serde_json::json!(names));
    DataType::Struct(vec![Field::new(name, DataType::BinaryView, false)].into())
}

/// The columns of a packed record, if the fields are those of one.
fn packed_names(fields: &Fields) -> Option<Vec<String>> {
    let [field] = &fields[..] else { return None };
    // A file's column of such a name may be null.
    let names = field.name().strip_prefix(PACKED).filter(|_| !field.is_nullable())?;
    serde_json::from_str(names).ok()
}

/// The owner's columns, as each stands by itself, from the type of their records.
#[must_use]
pub fn columns(kind: &DataType) -> Option<Fields> {
    let DataType::Struct(fields) = kind else { return None };
    Some(match packed_names(fields) {
        Some(names) => names.into_iter().map(|name| Field::new(name, DataType::Utf8View, true)).collect(),
        None => fields.clone(),
    })
}

/// Whether records of the type are of texts.
pub(crate) fn is_packed(kind: &DataType) -> bool {
    matches!(kind, DataType::Struct(fields) if packed_names(fields).is_some())
}

/// SQL of one of the owner's columns, from that of records of the type.
#[must_use]
pub fn column(record: &str, kind: &DataType, name: &str) -> String {
    match is_packed(kind) {
        true => format!("record_text({record}, {})", text(name)),
        false => format!("{record}[{}]", text(name)),
    }
}

/// Records of several rows.
pub(crate) enum Records {
    /// The names of their columns, and their bytes.
    Packed(Vec<String>, BinaryViewArray),
    Struct(StructArray),
}

impl Records {
    /// The records of a column, if it is one of records.
    pub(crate) fn of(column: &ArrayRef) -> Result<Option<Self>> {
        let Some(record) = column.as_struct_opt() else { return Ok(None) };
        Ok(Some(match packed_names(record.fields()) {
            // A file may have been read as plain binary.
            Some(names) => Self::Packed(names, cast(record.column(0), &DataType::BinaryView)?.as_binary_view().clone()),
            None => Self::Struct(record.clone()),
        }))
    }
}

/// The values of a packed record.
pub(crate) struct Values<'a>(pub &'a [u8]);

impl<'a> Values<'a> {
    /// The bytes of the next value, absent if it is null.
    fn take(&mut self) -> Option<Option<&'a [u8]>> {
        let (mut length, mut shift) = (0_usize, 0_u32);
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7F).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let Some(length) = length.checked_sub(1) else { return Some(None) };
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(value))
    }

    /// The next value.
    pub(crate) fn next(&mut self) -> Result<Option<&'a str>> {
        let broken = || DataFusionError::Execution("a packed record is not what its columns say".into());
        let value = self.take().ok_or_else(broken)?;
        value.map(|bytes| std::str::from_utf8(bytes).map_err(|_| broken())).transpose()
    }
}

/// Makes packed records.
#[derive(Default)]
pub(crate) struct Packer {
    row: Vec<u8>,
    rows: BinaryViewBuilder,
}

impl Packer {
    /// The next value of the row.
    pub(crate) fn push(&mut self, value: Option<&str>) {
        let Some(value) = value else { return self.row.push(0) };
        let mut length = value.len() + 1;
        while length > 0x7F {
            self.row.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.row.push(length as u8);
        self.row.extend_from_slice(value.as_bytes());
    }

    /// The row is complete.
    pub(crate) fn end(&mut self) {
        self.rows.append_value(&self.row);
        self.row.clear();
    }

    /// The records, of the type that [`packed`] gave.
    pub(crate) fn finish(&mut self, kind: &DataType) -> Result<ArrayRef> {
        let DataType::Struct(fields) = kind else { return Err(DataFusionError::Internal("no type of records".into())) };
        Ok(Arc::new(StructArray::try_new(fields.clone(), vec![Arc::new(self.rows.finish())], None)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(rows in proptest::collection::vec(proptest::collection::vec(any::<Option<String>>(), 3), 0..9), long in 100_usize..70_000) {
            let mut rows = rows;
            rows.push(vec![Some("x".repeat(long)), None, Some(String::new())]);
            let kind = packed(["a", "b \"quoted\"", "c.d"].into_iter());
            let mut packer = Packer::default();
            for row in &rows {
                row.iter().for_each(|value| packer.push(value.as_deref()));
                packer.end();
            }
            let column = packer.finish(&kind).expect("a type of records");
            let Some(Records::Packed(names, bytes)) = Records::of(&column).expect("binary") else { panic!("not packed") };
            prop_assert_eq!(names, ["a", "b \"quoted\"", "c.d"]);
            for (row, bytes) in rows.iter().zip(bytes.iter().flatten()) {
                let mut values = Values(bytes);
                for value in row {
                    prop_assert_eq!(values.next().expect("packed"), value.as_deref());
                }
                prop_assert!(values.next().is_err(), "nothing follows");
            }
        }

        #[test]
        fn whatever_else_is_an_error_or_texts(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut values = Values(&bytes);
            while values.next().is_ok() {}
        }
    }

    #[test]
    fn a_struct_is_what_it_is() {
        let fields: Fields = vec![Field::new("packed", DataType::Int64, true)].into();
        assert_eq!(columns(&DataType::Struct(fields.clone())), Some(fields.clone()));
        assert_eq!(column("_record", &DataType::Struct(fields), "it's"), "_record['it''s']");
        assert_eq!(column("_record", &packed(["x"].into_iter()), "x"), "record_text(_record, 'x')");
        assert_eq!(columns(&DataType::Utf8), None);
    }
}
