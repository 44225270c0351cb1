//! Small JSON documents under `_tessera/` in the lake, such as the record of each finished stage at
//! `_tessera/runs/<as_of>/<run_id>/<stage>.json`.
//!
//! Paths here are relative to `_tessera/`. [`Documents::put_new`] never overwrites, so that two
//! workers that finish the same thing agree on whose record counts.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::{Lake, LakeError};

const FOLDER: &str = "_tessera";

/// The documents of one lake.
#[derive(Clone, Debug)]
pub struct Documents {
    lake: Lake,
}

impl Documents {
    /// Where a document lies in the lake.
    pub fn place(path: &str) -> String {
        format!("{FOLDER}/{path}")
    }

    pub(crate) fn new(lake: Lake) -> Self {
        Self { lake }
    }

    /// Writes a document unless there is one already; says whether it was written.
    pub async fn put_new(&self, path: &str, bytes: impl Into<Bytes>) -> Result<bool, LakeError> {
        let path = Self::place(path);
        let put = self.lake.store().put_opts(&self.lake.path(&path), bytes.into().into(), PutMode::Create.into()).await;
        match put {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(self.lake.store_error("write", &path, source)),
        }
    }

    /// Writes a document, over an older one if there is one.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), LakeError> {
        let path = Self::place(path);
        self.lake
            .store()
            .put(&self.lake.path(&path), bytes.into().into())
            .await
            .map_err(|source| self.lake.store_error("write", &path, source))?;
        Ok(())
    }

    /// The document, if there is one.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, LakeError> {
        let path = Self::place(path);
        let read = async { self.lake.store().get(&self.lake.path(&path)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.lake.store_error("read", &path, source)),
        }
    }

    /// The paths of the documents in a folder and below, sorted. The prefix is a whole folder name.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let folder = Self::place(prefix);
        let base = self.lake.path(FOLDER);
        let mut paths: Vec<String> = self
            .lake
            .store()
            .list(Some(&self.lake.path(&folder)))
            .try_filter_map(|object| {
                let relative = object.location.as_ref().strip_prefix(base.as_ref());
                let relative = relative.map(|path| path.trim_start_matches('/').to_owned());
                async { Ok(relative) }
            })
            .try_collect()
            .await
            .map_err(|source| self.lake.store_error("list", &folder, source))?;
        paths.sort_unstable();
        Ok(paths)
    }

    /// Deletes the documents in a folder and below; says how many there were.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<usize, LakeError> {
        let folder = Self::place(prefix);
        let store = self.lake.store();
        let locations = store.list(Some(&self.lake.path(&folder))).map_ok(|object| object.location).boxed();
        store
            .delete_stream(locations)
            .try_fold(0, |count, _| async move { Ok(count + 1) })
            .await
            .map_err(|source| self.lake.store_error("delete", &folder, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory;

    async fn check(lake: Lake) {
        let documents = lake.documents();
        let path = "runs/2026-11-01/r1/ingest.json";
        assert_eq!(documents.get(path).await.unwrap(), None);
        assert!(documents.list("runs").await.unwrap().is_empty());
        assert!(documents.put_new(path, "1").await.unwrap());
        assert!(!documents.put_new(path, "2").await.unwrap());
        assert_eq!(documents.get(path).await.unwrap().unwrap(), "1");
        documents.put(path, "3").await.unwrap();
        assert_eq!(documents.get(path).await.unwrap().unwrap(), "3");
        documents.put("runs/2026-11-02/r2/ingest.json", "4").await.unwrap();
        assert_eq!(documents.list("runs/2026-11-01").await.unwrap(), [path]);
        assert_eq!(documents.delete_prefix("runs/2026-11-01").await.unwrap(), 1);
        assert_eq!(documents.list("runs").await.unwrap(), ["runs/2026-11-02/r2/ingest.json"]);
    }

    #[tokio::test]
    async fn documents_in_memory() {
        check(memory()).await;
    }

    #[tokio::test]
    async fn documents_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        check(Lake::open(folder.path().to_str().unwrap()).unwrap()).await;
    }
}
