//! Parquet files: footers, types that are widened between files, and row groups with the numbers of their rows.

#![expect(deprecated, reason = "the reader of stores has no successor in the crate, only an example to copy")]

use std::{any::Any, iter::repeat_n, panic::AssertUnwindSafe, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, StringViewArray, StringViewBuilder},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::ParquetObjectReader,
    },
    errors::ParquetError,
};

use super::{SourceError, SourceFile};

/// What a footer says.
pub(super) struct Footer {
    pub schema: SchemaRef,
    /// Rows of the file, as it says by itself.
    pub rows: u64,
    /// Rows and compressed bytes of every row group.
    pub groups: Vec<(u64, u64)>,
}

fn broken(file: &SourceFile, problem: &dyn std::fmt::Display) -> SourceError {
    SourceError::Parquet { file: file.url.clone(), problem: problem.to_string() }
}

/// What a store answered is the store's error, which may pass, and not the file's.
pub(super) fn failed(file: &SourceFile, error: ParquetError) -> SourceError {
    match error {
        ParquetError::External(inner) => match inner.downcast() {
            Ok(source) => SourceError::Store { file: file.url.clone(), source: *source },
            Err(other) => broken(file, &other),
        },
        other => broken(file, &other),
    }
}

fn reader(store: &Arc<dyn ObjectStore>, file: &SourceFile) -> Result<ParquetObjectReader, SourceError> {
    let path = Path::parse(&file.location).map_err(|e| broken(file, &e))?;
    Ok(ParquetObjectReader::new(Arc::clone(store), path).with_file_size(file.bytes))
}

async fn metadata(reader: &mut ParquetObjectReader, file: &SourceFile) -> Result<ArrowReaderMetadata, SourceError> {
    // A damaged footer can make the library panic.
    let read = AssertUnwindSafe(ArrowReaderMetadata::load_async(reader, ArrowReaderOptions::new())).catch_unwind();
    let plain = read.await.map_err(|panic| panicked(file, panic.as_ref()))?.map_err(|e| failed(file, e))?;
    let views = Arc::new(Schema::new(plain.schema().fields().iter().map(|f| as_view(f)).collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(views);
    ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).map_err(|e| broken(file, &e))
}

fn panicked(file: &SourceFile, panic: &(dyn Any + Send)) -> SourceError {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    broken(file, &format!("its reader gave up: {}", said.unwrap_or("it is damaged")))
}

/// Types that the engine knows what to do with. Whatever else somebody keeps is read as text.
pub(super) fn known(kind: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Decimal32, Decimal64, Decimal128, Float32, Float64, Int8, Int16, Int32,
        Int64, LargeUtf8, Null, Timestamp, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    match kind {
        DataType::List(item) => known(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| known(f.data_type())),
        DataType::Dictionary(_, value) => known(value),
        other => matches!(
            other,
            Binary
                | BinaryView
                | Boolean
                | Date32
                | Decimal32(..)
                | Decimal64(..)
                | Decimal128(..)
                | Float32
                | Float64
                | Int8
                | Int16
                | Int32
                | Int64
                | LargeUtf8
                | Null
                | Timestamp(..)
                | UInt8
                | UInt16
                | UInt32
                | Utf8
                | Utf8View
        ),
    }
}

fn as_view(field: &Field) -> Field {
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => field.clone().with_data_type(DataType::Utf8View),
        _ => field.clone(),
    }
}

pub(super) async fn footer(store: &Arc<dyn ObjectStore>, file: &SourceFile) -> Result<Footer, SourceError> {
    let metadata = metadata(&mut reader(store, file)?, file).await?;
    let groups = metadata.metadata().row_groups().iter();
    let size = |n: i64| u64::try_from(n).unwrap_or(0);
    let fields = metadata.schema().fields().iter().map(|f| match known(f.data_type()) {
        true => f.as_ref().clone(),
        false => Field::new(f.name(), DataType::Utf8View, true),
    });
    Ok(Footer {
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        rows: size(metadata.metadata().file_metadata().num_rows()),
        groups: groups.map(|g| (size(g.num_rows()), size(g.compressed_size()))).collect(),
    })
}

/// The type that holds the values of both, if there is one.
pub(super) fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Date32, Float32, Float64, Int8, Int16, Int32, Int64, Null, Timestamp, UInt8, UInt16, UInt32};
    let whole = |t: &DataType| matches!(t, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32);
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        (a, b) if whole(a) && whole(b) => Some(Int64),
        (Float32 | Float64, Float32 | Float64) => Some(Float64),
        (Timestamp(_, za), Timestamp(_, zb)) if za == zb => Some(Timestamp(TimeUnit::Microsecond, za.clone())),
        (Date32, Timestamp(_, zone)) | (Timestamp(_, zone), Date32) => {
            Some(Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        _ => None,
    }
}

/// The rows of one row group: the wanted columns (those the file lacks are null), each in its type.
pub(super) async fn rows(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    group: usize,
    wanted: SchemaRef,
    batch_size: usize,
) -> Result<BoxStream<'static, Result<RecordBatch, SourceError>>, SourceError> {
    let mut reader = reader(store, file)?;
    let metadata = metadata(&mut reader, file).await?;
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata);
    let present: Vec<usize> = wanted.fields().iter().filter_map(|f| builder.schema().index_of(f.name()).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), present);
    let stream = builder.with_projection(mask).with_row_groups(vec![group]).with_batch_size(batch_size).build();
    let owner = file.clone();
    let stream = AssertUnwindSafe(stream.map_err(|e| broken(file, &e))?).catch_unwind().map(move |read| match read {
        Ok(batch) => batch.map_err(|e| failed(&owner, e)),
        Err(panic) => Err(panicked(&owner, panic.as_ref())),
    });
    let owner = file.clone();
    Ok(Box::pin(stream.and_then(move |batch| {
        let result = conform(&batch, &wanted, &owner.constants).map_err(|e| broken(&owner, &e));
        futures::future::ready(result)
    })))
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    let mut texts = StringViewBuilder::with_capacity(column.len());
    for row in 0..column.len() {
        match column.is_null(row) {
            true => texts.append_null(),
            false => texts.append_value(formatter.value(row).try_to_string()?),
        }
    }
    Ok(Arc::new(texts.finish()))
}

fn conform(
    batch: &RecordBatch,
    wanted: &SchemaRef,
    constants: &[(String, String)],
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let constant = |name: &str| constants.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let columns = wanted
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) if known(column.data_type()) => cast(column, field.data_type()),
            Some(column) => as_text(column),
            None => match constant(field.name()) {
                Some(value) => {
                    let values = StringViewArray::from_iter_values(repeat_n(value, batch.num_rows()));
                    cast(&values, field.data_type())
                }
                None => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
            },
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options)
}
