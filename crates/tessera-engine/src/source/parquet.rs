//! Parquet files: footers, types that are widened between files, and row groups with the numbers of their rows.

#![expect(deprecated, reason = "the reader of stores has no successor in the crate, only an example to copy")]

use std::sync::Arc;

use datafusion::arrow::{
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use futures::{TryStreamExt, stream::BoxStream};
use object_store::{ObjectStore, path::Path};
use parquet::arrow::{
    ParquetRecordBatchStreamBuilder, ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    async_reader::ParquetObjectReader,
};

use super::{SourceError, SourceFile};

/// What a footer says.
pub(super) struct Footer {
    pub schema: SchemaRef,
    /// Rows and compressed bytes of every row group.
    pub groups: Vec<(u64, u64)>,
}

fn broken(file: &SourceFile, problem: &dyn std::fmt::Display) -> SourceError {
    SourceError::Parquet { file: file.url.clone(), problem: problem.to_string() }
}

fn reader(store: &Arc<dyn ObjectStore>, file: &SourceFile) -> Result<ParquetObjectReader, SourceError> {
    let path = Path::parse(&file.location).map_err(|e| broken(file, &e))?;
    Ok(ParquetObjectReader::new(Arc::clone(store), path).with_file_size(file.bytes))
}

async fn metadata(reader: &mut ParquetObjectReader, file: &SourceFile) -> Result<ArrowReaderMetadata, SourceError> {
    let plain =
        ArrowReaderMetadata::load_async(reader, ArrowReaderOptions::new()).await.map_err(|e| broken(file, &e))?;
    let views = Arc::new(Schema::new(plain.schema().fields().iter().map(|f| as_view(f)).collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(views);
    ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).map_err(|e| broken(file, &e))
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
    Ok(Footer {
        schema: Arc::clone(metadata.schema()),
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
    let stream = stream.map_err(|e| broken(file, &e))?.map_err(move |e| broken(&owner, &e));
    let owner = file.clone();
    Ok(Box::pin(stream.and_then(move |batch| {
        let result = conform(&batch, &wanted).map_err(|e| broken(&owner, &e));
        futures::future::ready(result)
    })))
}

fn conform(batch: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = wanted
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()),
            None => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options)
}
