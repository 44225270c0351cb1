//! A source as a table: its columns are those of its files together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    catalog::{Session, TableProvider},
    common::{Result as EngineResult, Statistics, stats::Precision},
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use object_store::ObjectStore;
use tessera_contract::project::TextEncoding;
use url::Url;

use super::{
    DEFECT, FILE, Format, LOCATOR, RECORD, SourceError, SourceFile, SourceFormat,
    exec::{SourceScanExec, Unit},
    parquet,
    stream::Chunks,
    text,
};
use crate::record;

/// A header larger than this is none.
const LONGEST_HEADER: usize = 1 << 20;

/// A source whose headers or footers have been read.
#[derive(Debug, Clone)]
pub struct SourceTable {
    store: ObjectStoreUrl,
    format: SourceFormat,
    files: Vec<SourceFile>,
    units: Vec<Unit>,
    footers: Vec<Option<u64>>,
    lacks: Vec<Vec<String>>,
    schema: SchemaRef,
    warnings: Vec<String>,
}

/// Reads the headers or footers of a source's files and checks them against one another.
///
/// # Errors
/// When there is no usable file, a header is faulty, or files cannot be one table.
pub async fn open(
    store: Arc<dyn ObjectStore>,
    store_url: &Url,
    format: SourceFormat,
    mut files: Vec<SourceFile>,
) -> Result<SourceTable, SourceError> {
    let mut fields: Vec<(Field, String)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut units = Vec::new();
    let mut footers = vec![None; files.len()];
    let mut warnings = Vec::new();
    let mut headers: Vec<HashSet<String>> = Vec::new();
    let quote = format.quote();
    for (number, file) in files.iter().enumerate() {
        if file.bytes == 0 {
            warnings.push(format!("{} is empty and gives no row", file.url));
            headers.push(HashSet::new());
            continue;
        }
        let named = match format.kind {
            Format::Parquet => {
                let footer = parquet::footer(&store, file).await?;
                let mut first = 0;
                footers[number] = Some(footer.rows);
                for (group, (rows, bytes)) in footer.groups.iter().enumerate() {
                    units.push(Unit { file: number, group, first, rows: Some(*rows), bytes: *bytes, delimiter: 0 });
                    first += rows;
                }
                footer.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect()
            }
            Format::Csv => {
                let bytes =
                    beginning(&store, file, &format, |bytes| text::first_line(bytes, &format, false).is_some()).await?;
                let line = text::first_line(&bytes, &format, true).unwrap_or_default();
                if line.trim_ascii().is_empty() && format.skip_lines > 0 {
                    return Err(SourceError::Empty { file: file.url.clone() });
                }
                if line.trim_ascii().is_empty() {
                    warnings.push(format!("{} is empty and gives no row", file.url));
                    headers.push(HashSet::new());
                    continue;
                }
                let delimiter = match format.delimiter {
                    Some(d) => u8::try_from(d).unwrap_or(b','),
                    None => text::sniff(line, quote),
                };
                let cells = text::split_header(line, delimiter, quote);
                let names = names_of(&format, file, cells.len(), || {
                    text::header(cells.iter().map(Vec::as_slice), &format, file)
                })?;
                units.push(Unit { file: number, group: 0, first: 0, rows: None, bytes: file.bytes, delimiter });
                texts(names)
            }
            Format::Spreadsheet => {
                let workbook = text::Workbook::open(&store, file, &format).await?;
                if !workbook.passed_over.is_empty() {
                    let others = workbook.passed_over.join(", ");
                    warnings.push(format!("{}: the sheets {others} are not read; `sheet` says which are", file.url));
                }
                let Some(names) = text::sheet_header(&workbook) else {
                    warnings.push(format!("{} is empty and gives no row", file.url));
                    headers.push(HashSet::new());
                    continue;
                };
                units.push(Unit { file: number, group: 0, first: 0, rows: None, bytes: file.bytes, delimiter: 0 });
                texts(names)
            }
            Format::Ndjson => {
                let names = keys(&store, file, &format).await?;
                units.push(Unit { file: number, group: 0, first: 0, rows: None, bytes: file.bytes, delimiter: 0 });
                texts(names)
            }
        };
        headers.push(named.iter().map(|f: &Field| f.name().clone()).collect());
        for field in named {
            if [LOCATOR, DEFECT, RECORD, FILE].contains(&field.name().as_str()) {
                return Err(SourceError::ReservedColumn { file: file.url.clone(), column: field.name().clone() });
            }
            match places.get(field.name()).map(|at| &mut fields[*at]) {
                None => {
                    places.insert(field.name().clone(), fields.len());
                    fields.push((field, file.url.clone()));
                }
                Some((known, first)) => {
                    let Some(both) = parquet::wider(known.data_type(), field.data_type()) else {
                        return Err(SourceError::Types {
                            column: field.name().clone(),
                            first: first.clone(),
                            first_type: known.data_type().to_string(),
                            second: file.url.clone(),
                            second_type: field.data_type().to_string(),
                        });
                    };
                    known.set_data_type(both);
                }
            }
        }
    }
    for (file, header) in files.iter_mut().zip(&headers) {
        if format.file_column {
            file.constants.push((FILE.to_owned(), file.url.clone()));
        }
        // A column of the file's own goes before one that its path names.
        file.constants.retain(|(name, _)| !header.contains(name));
    }
    if fields.is_empty() {
        let file = files.first().map(|f| f.url.clone()).unwrap_or_default();
        return Err(SourceError::Empty { file });
    }
    let mut lacks = vec![Vec::new(); files.len()];
    // A key that no line of a file has is a value that none has.
    let says_all = format.kind != Format::Ndjson;
    for (number, header) in headers.iter().enumerate().filter(|(_, header)| !header.is_empty()) {
        let names = fields.iter().map(|(f, _)| f.name());
        lacks[number] = names.filter(|n| !header.contains(n.as_str())).cloned().collect();
        let shown = |names: &mut dyn Iterator<Item = &String>| names.map(|n| format!("`{n}`")).collect::<Vec<_>>();
        // What few files have is odd of them, and not of the others.
        let odd = |name: &&String| headers.iter().filter(|h| h.contains(name.as_str())).count() * 2 < headers.len();
        let more = shown(&mut fields.iter().map(|(f, _)| f.name()).filter(|n| header.contains(n.as_str())).filter(odd));
        if !more.is_empty() {
            warnings.push(format!("{} has {}, which most files lack", files[number].url, more.join(", ")));
        }
        let missing = shown(&mut lacks[number].iter().filter(|n| !odd(n)));
        if !missing.is_empty() {
            warnings.push(format!(
                "{} lacks {}, which other files have; it reads as null there",
                files[number].url,
                missing.join(", ")
            ));
        }
        lacks[number].retain(|_| says_all);
    }
    let constants = files.iter().flat_map(|f| &f.constants).map(|(name, _)| name);
    for name in constants {
        if !places.contains_key(name) {
            places.insert(name.clone(), fields.len());
            fields.push((Field::new(name, DataType::Utf8View, true), String::new()));
        }
    }
    let mut all: Vec<Field> = fields.into_iter().map(|(f, _)| f).collect();
    let record = match format.kind {
        Format::Parquet => DataType::Struct(all.clone().into()),
        _ => record::packed(all.iter().map(|f| f.name().as_str())),
    };
    all.push(Field::new(LOCATOR, DataType::Int64, false));
    all.push(Field::new(DEFECT, DataType::Utf8View, true));
    all.push(Field::new(RECORD, record, false));
    let store_url = ObjectStoreUrl::parse(store_url.as_str())
        .map_err(|e| SourceError::Pattern { pattern: store_url.to_string(), problem: e.to_string() })?;
    let schema = Arc::new(Schema::new(all));
    Ok(SourceTable { store: store_url, format, files, units, footers, lacks, schema, warnings })
}

fn texts(names: Vec<String>) -> Vec<Field> {
    names.into_iter().map(|n| Field::new(n, DataType::Utf8View, true)).collect()
}

/// The keys of all lines of an NDJSON file: one that is first seen at its end is a column like any other.
async fn keys(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    format: &SourceFormat,
) -> Result<Vec<String>, SourceError> {
    let mut chunks = Chunks::open(store, file).await?;
    let mut keys = text::Keys::default();
    while let Some(chunk) = chunks.next(0).await? {
        keys.feed(&chunk, format.encoding);
    }
    one_encoding(&chunks, file, format)?;
    Ok(keys.finish(format.encoding))
}

/// What UTF-16 becomes is UTF-8, and nothing else.
fn one_encoding(chunks: &Chunks, file: &SourceFile, format: &SourceFormat) -> Result<(), SourceError> {
    match chunks.was_utf16() && format.encoding != TextEncoding::Utf8 {
        true => Err(SourceError::Utf16 { file: file.url.clone() }),
        false => Ok(()),
    }
}

/// The names of the columns of a file's first row: those of the project, or what the row says.
fn names_of(
    format: &SourceFormat,
    file: &SourceFile,
    columns: usize,
    row: impl FnOnce() -> Result<Vec<String>, SourceError>,
) -> Result<Vec<String>, SourceError> {
    match format.names.given(columns) {
        None => row(),
        Some(names) if names.len() == columns => Ok(names),
        Some(names) => Err(SourceError::Names { file: file.url.clone(), columns, names: names.len() }),
    }
}

/// The beginning of a file that is `enough`, or all of it.
async fn beginning(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    format: &SourceFormat,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, SourceError> {
    let mut chunks = Chunks::open(store, file).await?;
    let mut bytes = Vec::new();
    while !enough(&bytes) {
        match chunks.next(0).await? {
            Some(_) if bytes.len() > LONGEST_HEADER => {
                return Err(SourceError::RecordTooLong { file: file.url.clone(), row: 0, limit: LONGEST_HEADER });
            }
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    one_encoding(&chunks, file, format)?;
    Ok(bytes)
}

impl SourceTable {
    /// The files, in the order in which locators number them.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The rows that each file's footer says it has, where it has one. They were not counted by reading.
    #[must_use]
    pub fn footers(&self) -> &[Option<u64>] {
        &self.footers
    }

    /// Of each file, the columns that other files have and it has not.
    #[must_use]
    pub fn lacks(&self) -> &[Vec<String>] {
        &self.lacks
    }

    /// What is odd but no error: empty files, columns that some files lack.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn rows(&self) -> Precision<usize> {
        let rows: Option<u64> = self.units.iter().map(|u| u.rows).sum();
        rows.and_then(|r| usize::try_from(r).ok()).map_or(Precision::Absent, Precision::Exact)
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let partitions = session.config().target_partitions();
        let exec = SourceScanExec::of(&self.store, self.format.clone(), &self.files, &self.units, schema, partitions)?;
        Ok(Arc::new(exec))
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(Statistics { num_rows: self.rows(), ..Statistics::new_unknown(&self.schema) })
    }
}
