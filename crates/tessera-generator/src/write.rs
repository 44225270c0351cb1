//! Tables to write rows into, cell by cell: Parquet or CSV behind one face. A row group holds as many rows as are kept in memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Int32Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::csv::{Break, put, put_day, put_number, put_padded, put_text, spoil};
use crate::layout::{Layout, Type};
use crate::{Format, GeneratorError};

/// Rows per Parquet row group.
const ROW_GROUP: usize = 131_072;
/// Columns whose values hardly repeat: a dictionary would only cost time.
const PLAIN: [&str; 9] = [
    "order_no",
    "order_ts",
    "event_ts",
    "response_ts",
    "answered_ts",
    "email_address",
    "phone_no",
    "street",
    "updated_at",
];

enum Column {
    Text(StringBuilder),
    Whole(Int32Builder),
    Money(Decimal128Builder),
    Day(Date32Builder),
    Time(TimestampMicrosecondBuilder),
    Flag(BooleanBuilder),
}

impl Column {
    fn new(kind: Type) -> Self {
        match kind {
            Type::Text => Self::Text(StringBuilder::new()),
            Type::Whole => Self::Whole(Int32Builder::new()),
            Type::Money => Self::Money(Decimal128Builder::new().with_data_type(DataType::Decimal128(12, 2))),
            Type::Day => Self::Day(Date32Builder::new()),
            Type::Time => Self::Time(TimestampMicrosecondBuilder::new()),
            Type::Flag => Self::Flag(BooleanBuilder::new()),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(b) => Arc::new(b.finish()),
            Self::Whole(b) => Arc::new(b.finish()),
            Self::Money(b) => Arc::new(b.finish()),
            Self::Day(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Flag(b) => Arc::new(b.finish()),
        }
    }
}

fn arrow_type(kind: Type) -> DataType {
    match kind {
        Type::Text => DataType::Utf8,
        Type::Whole => DataType::Int32,
        Type::Money => DataType::Decimal128(12, 2),
        Type::Day => DataType::Date32,
        Type::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::Flag => DataType::Boolean,
    }
}

enum Body {
    Parquet { columns: Vec<Column>, schema: SchemaRef, writer: Box<ArrowWriter<File>> },
    Csv { line: Vec<u8>, out: BufWriter<File> },
}

/// One file being written. Cells go in from left to right, then [`Table::end_row`].
pub(crate) struct Table {
    path: PathBuf,
    layout: &'static Layout,
    body: Body,
    cell: usize,
    pending: usize,
    rows: u64,
}

impl Table {
    /// Creates the file `<out>/<layout>/<name>.<format>` and its folder.
    pub(crate) fn create(
        out: &Path,
        layout: &'static Layout,
        name: &str,
        format: Format,
    ) -> Result<Self, GeneratorError> {
        let folder = out.join(layout.name);
        std::fs::create_dir_all(&folder).map_err(GeneratorError::io(&folder))?;
        let path = folder.join(format!("{name}.{}", format.extension()));
        let file = File::create(&path).map_err(GeneratorError::io(&path))?;
        let body = match format {
            Format::Parquet => parquet_body(layout, file).map_err(GeneratorError::parquet(&path))?,
            Format::Csv => {
                let mut out = BufWriter::with_capacity(1 << 18, file);
                let names: Vec<_> = layout.columns.iter().map(|column| column.0).collect();
                writeln!(out, "{}", names.join(",")).map_err(GeneratorError::io(&path))?;
                Body::Csv { line: Vec::with_capacity(512), out }
            }
        };
        Ok(Self { path, layout, body, cell: 0, pending: 0, rows: 0 })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn text(&mut self, value: Option<&str>) {
        match &mut self.body {
            Body::Parquet { columns, .. } => {
                if let Column::Text(builder) = &mut columns[self.cell] {
                    builder.append_option(value);
                }
            }
            Body::Csv { line, .. } => put_text(line, value.unwrap_or_default()),
        }
        self.cell += 1;
    }

    pub(crate) fn whole(&mut self, value: Option<i32>) {
        match &mut self.body {
            Body::Parquet { columns, .. } => {
                if let Column::Whole(builder) = &mut columns[self.cell] {
                    builder.append_option(value);
                }
            }
            Body::Csv { line, .. } => {
                put(line, value, |line, v| put_number(line, i64::from(v)));
            }
        }
        self.cell += 1;
    }

    /// Hundredths.
    pub(crate) fn money(&mut self, value: Option<i64>) {
        match &mut self.body {
            Body::Parquet { columns, .. } => {
                if let Column::Money(builder) = &mut columns[self.cell] {
                    builder.append_option(value.map(i128::from));
                }
            }
            Body::Csv { line, .. } => put(line, value, |line, v| {
                if v < 0 {
                    line.push(b'-');
                }
                put_number(line, (v / 100).abs());
                line.push(b'.');
                put_padded(line, (v % 100).unsigned_abs() as u32, 2);
            }),
        }
        self.cell += 1;
    }

    /// Days since 1970-01-01.
    pub(crate) fn day(&mut self, value: Option<i32>) {
        match &mut self.body {
            Body::Parquet { columns, .. } => {
                if let Column::Day(builder) = &mut columns[self.cell] {
                    builder.append_option(value);
                }
            }
            Body::Csv { line, .. } => put(line, value, put_day),
        }
        self.cell += 1;
    }

    /// Seconds since 1970-01-01 00:00 by the shop's clock.
    pub(crate) fn time(&mut self, value: Option<i64>) {
        match &mut self.body {
            Body::Parquet { columns, .. } => {
                if let Column::Time(builder) = &mut columns[self.cell] {
                    builder.append_option(value.map(|v| v * 1_000_000));
                }
            }
            Body::Csv { line, .. } => put(line, value, |line, v| {
                put_day(line, v.div_euclid(86_400) as i32);
                let second = v.rem_euclid(86_400) as u32;
                line.push(b' ');
                put_padded(line, second / 3600, 2);
                line.push(b':');
                put_padded(line, second / 60 % 60, 2);
                line.push(b':');
                put_padded(line, second % 60, 2);
            }),
        }
        self.cell += 1;
    }

    pub(crate) fn flag(&mut self, value: Option<bool>) {
        match &mut self.body {
            Body::Parquet { columns, .. } => {
                if let Column::Flag(builder) = &mut columns[self.cell] {
                    builder.append_option(value);
                }
            }
            Body::Csv { line, .. } => {
                put(line, value, |line, v| line.extend_from_slice(if v { b"true" } else { b"false" }));
            }
        }
        self.cell += 1;
    }

    /// A date that nobody can read: nonsense chosen by `hash` in CSV, null in Parquet.
    pub(crate) fn unreadable(&mut self, hash: u64) {
        const NONSENSE: [&str; 6] =
            ["31.02.2025", "0000-00-00 00:00:00", "n/a", "2025-13-41 27:61:00", "yesterday", "#REF!"];
        if let Body::Csv { line, .. } = &mut self.body {
            put_text(line, NONSENSE[(hash % NONSENSE.len() as u64) as usize]);
            self.cell += 1;
        } else if self.layout.columns[self.cell].1 == Type::Day {
            self.day(None);
        } else {
            self.time(None);
        }
    }

    /// Ends the row; a break damages the line as a whole and only exists in CSV.
    pub(crate) fn end_row(&mut self, damage: Break) -> Result<(), GeneratorError> {
        self.cell = 0;
        self.rows += 1;
        match &mut self.body {
            Body::Parquet { .. } => {
                self.pending += 1;
                if self.pending == ROW_GROUP {
                    self.flush()?;
                }
            }
            Body::Csv { line, out } => {
                if let Some(last) = line.last_mut() {
                    *last = b'\n';
                }
                spoil(line, damage);
                out.write_all(line).map_err(GeneratorError::io(&self.path))?;
                line.clear();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), GeneratorError> {
        if let Body::Parquet { columns, schema, writer } = &mut self.body {
            let arrays = columns.iter_mut().map(Column::finish).collect();
            RecordBatch::try_new(Arc::clone(schema), arrays)
                .map_err(Into::into)
                .and_then(|batch| writer.write(&batch))
                .map_err(GeneratorError::parquet(&self.path))?;
        }
        self.pending = 0;
        Ok(())
    }

    /// Writes what is left and closes the file; returns its number of rows.
    pub(crate) fn close(mut self) -> Result<u64, GeneratorError> {
        if self.pending > 0 {
            self.flush()?;
        }
        match self.body {
            Body::Parquet { writer, .. } => writer.close().map(|_| ()).map_err(GeneratorError::parquet(&self.path))?,
            Body::Csv { mut out, .. } => out.flush().map_err(GeneratorError::io(&self.path))?,
        }
        Ok(self.rows)
    }
}

fn parquet_body(layout: &Layout, file: File) -> parquet::errors::Result<Body> {
    let fields: Vec<_> = layout.columns.iter().map(|(name, kind)| Field::new(*name, arrow_type(*kind), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut properties = WriterProperties::builder()
        .set_created_by("tessera-generator".into())
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP));
    // Readers prune by time and by nothing else.
    for (name, _) in layout.columns.iter().filter(|column| matches!(column.1, Type::Time | Type::Day)) {
        properties = properties.set_column_statistics_enabled((*name).into(), EnabledStatistics::Chunk);
    }
    for name in PLAIN {
        properties = properties.set_column_dictionary_enabled(name.into(), false);
    }
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options)?;
    let columns = layout.columns.iter().map(|column| Column::new(column.1)).collect();
    Ok(Body::Parquet { columns, schema, writer: Box::new(writer) })
}
