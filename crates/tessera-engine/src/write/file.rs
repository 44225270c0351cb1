//! One Parquet file on its way into the store.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{Array, RecordBatch},
        datatypes::{DataType, FieldRef},
    },
    common::Result,
};
use futures::future::BoxFuture;
use object_store::{ObjectStore, buffered::BufWriter, path::Path};
use parquet::{
    arrow::{AsyncArrowWriter, arrow_writer::ArrowWriterOptions, async_writer::AsyncFileWriter},
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterVersion},
    schema::types::ColumnPath,
};
use sha2::{Digest, Sha256};

use super::{Lifetime, RouteSpec, WrittenFile};
use crate::fingerprint::{self, Fingerprint};

/// Bytes at which a file is closed and the next one begun.
const FULL: usize = 256 << 20;
/// Rows of a row group: what a reader holds at once, and skips at once.
const ROW_GROUP: usize = 256 << 10;

/// Bytes of a page, and of a dictionary, where many files are open at once.
const PAGE: usize = 128 << 10;

/// A store, and how much of a file is held before a part of it goes there.
pub(super) struct Store {
    pub store: Arc<dyn ObjectStore>,
    pub part: usize,
}

pub(super) struct OpenFile {
    route: String,
    path: Path,
    writer: AsyncArrowWriter<Hashing>,
    seen: Arc<Mutex<Seen>>,
    fingerprinted: Vec<(usize, String)>,
    fingerprint: Fingerprint,
    rows: u64,
}

impl OpenFile {
    pub(super) fn create(store: &Store, folder: &str, route: &RouteSpec, first: &RecordBatch) -> Result<Self> {
        let schema = first.schema();
        let path = Path::from(format!("{folder}/part-{}.parquet", uuid::Uuid::new_v4().simple()));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let inner = BufWriter::with_capacity(Arc::clone(&store.store), path.clone(), store.part);
        let hashing = Hashing { inner, seen: Arc::clone(&seen), checksum: route.lifetime != Lifetime::Scratch };
        // Parquet's types say all that readers need, and a damaged schema of Arrow's own makes its parser panic.
        let options =
            ArrowWriterOptions::new().with_properties(properties(route, first)?).with_skip_arrow_metadata(true);
        let fingerprinted =
            route.fingerprinted.iter().filter_map(|name| Some((schema.index_of(name).ok()?, name.clone()))).collect();
        let writer = AsyncArrowWriter::try_new_with_options(hashing, schema, options)?;
        Ok(Self {
            route: route.name.clone(),
            path,
            writer,
            seen,
            fingerprinted,
            fingerprint: Fingerprint::default(),
            rows: 0,
        })
    }

    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.fingerprinted.is_empty() {
            let columns: Vec<_> = self.fingerprinted.iter().map(|(i, _)| Arc::clone(batch.column(*i))).collect();
            let names: Vec<_> = self.fingerprinted.iter().map(|(_, name)| name.as_str()).collect();
            self.fingerprint = self.fingerprint + fingerprint::rows_sum(&columns, &names)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(batch).await?)
    }

    pub(super) fn is_full(&self) -> bool {
        self.writer.bytes_written() >= FULL
    }

    /// Completes the upload: from here on the file is there.
    pub(super) async fn finish(self) -> Result<WrittenFile> {
        self.writer.close().await?;
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(WrittenFile {
            route: self.route,
            path: self.path.to_string(),
            rows: self.rows,
            bytes: seen.bytes,
            sha256: seen.hash.finalize().iter().map(|b| format!("{b:02x}")).collect(),
            fingerprint: self.fingerprint,
        })
    }
}

fn properties(route: &RouteSpec, first: &RecordBatch) -> Result<WriterProperties> {
    let lifetime = route.lifetime;
    let mut properties = WriterProperties::builder()
        .set_created_by("tessera".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_max_row_group_row_count(Some(ROW_GROUP));
    if lifetime == Lifetime::Scratch {
        return Ok(properties
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build());
    }
    properties = properties.set_statistics_enabled(EnabledStatistics::Chunk);
    if lifetime == Lifetime::State {
        return Ok(properties.set_compression(Compression::LZ4_RAW).set_dictionary_enabled(false).build());
    }
    // Whoever asks for a window of time skips the pages of other times.
    let schema = first.schema();
    for field in schema.fields().iter().filter(|f| f.data_type().is_temporal()) {
        let column = field.name().as_str().into();
        properties = properties.set_column_statistics_enabled(column, EnabledStatistics::Page);
    }
    for field in mostly_different(first)? {
        let column: ColumnPath = field.name().as_str().into();
        properties = properties.set_column_dictionary_enabled(column.clone(), false);
        if let Some(encoding) = encoding(field.data_type()) {
            properties = properties.set_column_encoding(column, encoding);
        }
    }
    if let Some(buckets) = &route.buckets {
        // Between which keys those of a bucket are says nothing.
        properties = properties
            .set_column_statistics_enabled(buckets.column.as_str().into(), EnabledStatistics::None)
            .set_max_row_group_row_count(Some(ROW_GROUP / 8))
            .set_data_page_size_limit(PAGE)
            .set_dictionary_page_size_limit(PAGE);
    }
    Ok(properties.set_compression(Compression::ZSTD(ZstdLevel::default())).build())
}

/// Rows that tell enough of a file's columns.
const TELLING: usize = 1 << 10;

/// The columns in which a dictionary would be built in vain, by the first rows of a file.
fn mostly_different(rows: &RecordBatch) -> Result<Vec<FieldRef>> {
    if rows.num_rows() < TELLING {
        return Ok(Vec::new());
    }
    let schema = rows.schema();
    let flat = schema.fields().iter().zip(rows.columns()).filter(|(f, _)| !f.data_type().is_nested());
    let mut fields = Vec::new();
    for (field, column) in flat {
        let mut hashes = fingerprint::value_hashes(column)?;
        hashes.sort_unstable();
        hashes.dedup();
        if 2 * hashes.len() > column.len() {
            fields.push(Arc::clone(field));
        }
    }
    Ok(fields)
}

/// How values are written that mostly differ, where there is better than one after the other: whole numbers by what is between them, texts
/// apart from their lengths.
fn encoding(kind: &DataType) -> Option<Encoding> {
    match kind {
        DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(_, _) => {
            Some(Encoding::DELTA_BINARY_PACKED)
        }
        // Of more digits, they are bytes.
        DataType::Decimal128(digits, _) if *digits <= 18 => Some(Encoding::DELTA_BINARY_PACKED),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        _ => None,
    }
}

/// What went through a writer.
#[derive(Default)]
struct Seen {
    bytes: u64,
    hash: Sha256,
}

/// Counts and hashes the bytes on their way.
struct Hashing {
    inner: BufWriter,
    seen: Arc<Mutex<Seen>>,
    checksum: bool,
}

impl AsyncFileWriter for Hashing {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, parquet::errors::Result<()>> {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.bytes += bytes.len() as u64;
            if self.checksum {
                seen.hash.update(&bytes);
            }
        }
        AsyncFileWriter::write(&mut self.inner, bytes)
    }

    fn complete(&mut self) -> BoxFuture<'_, parquet::errors::Result<()>> {
        AsyncFileWriter::complete(&mut self.inner)
    }
}
