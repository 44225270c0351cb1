//! What the tests share: small data files, and a store that misbehaves in chosen ways.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parquet::arrow::ArrowWriter;
use sha2::{Digest, Sha256};

use crate::{AS_OF, DataFile, Lake};

pub(crate) fn memory() -> Lake {
    Lake::open("memory://").unwrap()
}

/// A lake on a store with faults.
pub(crate) fn faulty(store: Faulty) -> Lake {
    Lake::with_store("memory:///".parse().unwrap(), Arc::new(store)).unwrap()
}

/// `as_of`, `segment_id` and `customer_key`, with a comment.
pub(crate) fn schema() -> SchemaRef {
    let comment = [("comment".to_owned(), "the segment".to_owned())].into();
    Arc::new(Schema::new(vec![
        Field::new(AS_OF, DataType::Date32, false),
        Field::new("segment_id", DataType::Int64, false).with_metadata(comment),
        Field::new("customer_key", DataType::Utf8, true),
    ]))
}

/// Writes a Parquet file of the table `segments`, as the engine would, and describes it. Every row
/// has the file's `name` as its customer key.
pub(crate) async fn written(lake: &Lake, as_of: &str, name: &str, rows: u64) -> DataFile {
    let columns = Arc::new(Schema::new(schema().fields()[1..].to_vec()));
    let ids = Int64Array::from_iter_values(0..rows.cast_signed());
    let keys = StringArray::from_iter_values((0..rows).map(|_| name));
    let batch = RecordBatch::try_new(columns, vec![Arc::new(ids), Arc::new(keys)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let file = DataFile {
        path: format!("segments/as_of={as_of}/{name}.parquet"),
        bytes: bytes.len() as u64,
        rows,
        sha256: hex::encode(Sha256::digest(&bytes)),
        fingerprint: format!("{rows:032x}"),
        as_of: Some(as_of.to_owned()),
    };
    let path = lake.path(&file.path);
    lake.store().put(&path, bytes.into()).await.unwrap();
    file
}

/// The names of the files that are visible in `segments`, without folder and ending.
pub(crate) async fn visible(lake: &Lake, as_of: Option<&str>) -> Vec<String> {
    let files = lake.files("segments", None, as_of).await.unwrap().files;
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap();
        file.trim_end_matches(".parquet").to_owned()
    };
    files.iter().map(|file| name(&file.path)).collect()
}

/// An in-memory store with faults.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    pub inner: InMemory,
    /// Overwrites when asked to create.
    pub ignores_create: bool,
    /// Writes the next Delta log entry, then says that the connection was lost.
    pub loses_next_answer: AtomicBool,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        if self.ignores_create {
            opts.mode = PutMode::Overwrite;
        }
        let put = self.inner.put_opts(location, payload, opts).await?;
        let log = location.as_ref().contains("_delta_log/");
        if log && self.loses_next_answer.swap(false, Ordering::SeqCst) {
            return Err(object_store::Error::Generic {
                store: "Faulty",
                source: Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            });
        }
        Ok(put)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
