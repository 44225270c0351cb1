//! Spreadsheets: from cells to rows of texts.
//!
//! A workbook is read as a whole: its format begins at its end. Its rows are numbered across the sheets that are read; a row without
//! a value is none.

use std::{
    borrow::Cow,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use calamine::{Data, Range, Reader, Sheets, open_workbook_auto_from_rs};
use glob::Pattern;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

use super::{Nulls, Place, Rows, SourceError, SourceFile, SourceFormat, csv};

/// The sheets of a file that are read.
pub(in crate::source) struct Workbook {
    sheets: Vec<Sheet>,
    /// The names of the others, where the project does not say which are read.
    pub passed_over: Vec<String>,
}

/// The names of a sheet's columns, and its rows.
struct Sheet {
    names: Vec<String>,
    cells: Range<Data>,
    /// Rows of `cells` before those that count.
    before: usize,
}

impl Workbook {
    pub(in crate::source) async fn open(
        store: &Arc<dyn ObjectStore>,
        file: &SourceFile,
        format: &SourceFormat,
    ) -> Result<Self, SourceError> {
        let refused = |source| SourceError::Store { file: file.url.clone(), source };
        let path = Path::parse(&file.location).map_err(|e| refused(e.into()))?;
        let bytes = store.get(&path).await.map_err(refused)?.bytes().await.map_err(refused)?;
        let broken = |problem: String| SourceError::Spreadsheet { file: file.url.clone(), problem };
        // A damaged file can make the library panic.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let mut book = open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(|e| broken(e.to_string()))?;
            let names = wanted(&book, file, format)?;
            let others = book.sheet_names().into_iter().filter(|name| !names.contains(name) && format.sheet.is_none());
            let others: Vec<String> = others.collect();
            let ranges = names
                .into_iter()
                .map(|name| book.worksheet_range(&name).map_err(|e| broken(format!("sheet `{name}`: {e}"))))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((ranges, others))
        }));
        let (ranges, passed_over) = read.unwrap_or_else(|_| Err(broken("its reader gave up: it is damaged".into())))?;
        let sheets = ranges.into_iter().filter_map(|cells| Sheet::of(cells, file, format).transpose());
        Ok(Self { sheets: sheets.collect::<Result<_, _>>()?, passed_over })
    }

    /// Puts the wanted columns of all rows into `rows`. `number` is the file's place among the source's files.
    pub(in crate::source) fn rows(&self, format: &SourceFormat, number: usize, wanted: &[String], rows: &mut Rows) {
        let (mut place, nulls) = (Place { file: number, row: 0 }, Nulls::of(format));
        for sheet in &self.sheets {
            let positions = csv::positions(wanted, &sheet.names);
            for row in sheet.cells.rows().skip(sheet.before).filter(|row| !is_empty(row)) {
                let value = |at: usize| {
                    let text = text(row.get(positions[at]?)?, format.decimal)?;
                    (!nulls.has(&text)).then_some(text)
                };
                rows.push(&mut place, value, None);
            }
        }
    }
}

/// The names of the columns of all sheets; none, if no sheet has a row.
pub(in crate::source) fn header(workbook: &Workbook) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in workbook.sheets.iter().flat_map(|sheet| &sheet.names) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    (!names.is_empty()).then_some(names)
}

/// The names of the sheets that are read.
fn wanted<R: std::io::Read + std::io::Seek>(
    book: &Sheets<R>,
    file: &SourceFile,
    format: &SourceFormat,
) -> Result<Vec<String>, SourceError> {
    let sheets = book.sheet_names();
    let Some(sheet) = &format.sheet else { return Ok(sheets.into_iter().take(1).collect()) };
    let glob =
        Pattern::new(sheet).map_err(|e| SourceError::Pattern { pattern: sheet.clone(), problem: e.to_string() })?;
    let found: Vec<_> = sheets.iter().filter(|name| *name == sheet || glob.matches(name)).cloned().collect();
    match found.is_empty() {
        true => Err(SourceError::NoSheet { file: file.url.clone(), sheet: sheet.clone(), sheets }),
        false => Ok(found),
    }
}

impl Sheet {
    fn of(cells: Range<Data>, file: &SourceFile, format: &SourceFormat) -> Result<Option<Self>, SourceError> {
        // Empty rows at the top of a sheet are lines before the header too.
        let above = cells.start().map_or(0, |(row, _)| row as usize);
        let skip = format.skip_lines.saturating_sub(above);
        let first = cells.rows().enumerate().skip(skip).find(|(_, row)| !is_empty(row));
        let Some((at, row)) = first else { return Ok(None) };
        let given = format.names.given(row.len());
        let (names, before) = match given {
            Some(names) if names.len() != row.len() => {
                return Err(SourceError::Names { file: file.url.clone(), columns: row.len(), names: names.len() });
            }
            Some(names) => (names, at),
            None => {
                let cell = |(i, cell): (usize, &Data)| match text(cell, '.').as_deref().map(str::trim) {
                    None | Some("") => format!("column_{}", i + 1).into_bytes(),
                    Some(name) => name.as_bytes().to_vec(),
                };
                let names: Vec<Vec<u8>> = row.iter().enumerate().map(cell).collect();
                (csv::header(names.iter().map(Vec::as_slice), format, file)?, at + 1)
            }
        };
        Ok(Some(Self { names, cells, before }))
    }
}

fn is_empty(row: &[Data]) -> bool {
    row.iter().all(|cell| matches!(cell, Data::Empty))
}

/// A cell as text: numbers as short as they are exact, with the sign that those among the texts have; dates in ISO 8601.
fn text(cell: &Data, decimal: char) -> Option<Cow<'_, str>> {
    Some(match cell {
        Data::Empty => return None,
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => Cow::Borrowed(text),
        Data::Int(number) => Cow::Owned(number.to_string()),
        Data::Float(number) => Cow::Owned(number.to_string().replace('.', decimal.encode_utf8(&mut [0; 4]))),
        Data::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Data::Error(error) => Cow::Owned(error.to_string()),
        Data::DateTime(at) if at.is_duration() => Cow::Owned(at.as_f64().to_string()),
        Data::DateTime(at) => {
            let (year, month, day, hour, minute, second, milli) = at.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            Cow::Owned(match (hour, minute, second, milli) {
                (0, 0, 0, 0) => date,
                (.., 0) => format!("{date}T{hour:02}:{minute:02}:{second:02}"),
                _ => format!("{date}T{hour:02}:{minute:02}:{second:02}.{milli:03}"),
            })
        }
    })
}
