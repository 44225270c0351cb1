//! What lies in a lake, named by somebody or not.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;

use crate::{Lake, LakeError};

/// An object of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Relative to the root of the lake.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// When it was written, in seconds since 1970 by the store's clock.
    pub modified: i64,
}

impl Lake {
    /// The objects of a folder and below, sorted by path.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn objects(&self, folder: &str) -> Result<Vec<Object>, LakeError> {
        let base = self.path("");
        let mut objects: Vec<Object> = self
            .store()
            .list(Some(&self.path(folder)))
            .map_ok(|meta| {
                let path = meta.location.as_ref();
                let path = path.strip_prefix(base.as_ref()).unwrap_or(path).trim_start_matches('/').to_owned();
                Object { path, bytes: meta.size, modified: meta.last_modified.timestamp() }
            })
            .try_collect()
            .await
            .map_err(|source| self.store_error("list", folder, source))?;
        objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    /// Has the system write a file and its place in the folder to the disk, where the lake is a folder of this machine: after
    /// a power cut, what a commit names is there. Object stores do so before they answer.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) async fn settle(&self, path: &str) -> Result<(), LakeError> {
        if self.url().scheme() != "file" {
            return Ok(());
        }
        let Ok(file) = self.place(path).to_file_path() else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || {
            std::fs::File::open(&file)?.sync_all()?;
            match file.parent() {
                #[cfg(unix)]
                Some(folder) => std::fs::File::open(folder)?.sync_all(),
                _ => Ok(()),
            }
        });
        let done = written.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        done.map_err(|e| {
            let source = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(e) };
            self.store_error("write to the disk", path, source)
        })
    }

    /// Removes objects by their paths relative to the root; one that is gone already is no error.
    ///
    /// # Errors
    /// When the store refuses; some may be gone then.
    pub async fn remove(&self, paths: &[String]) -> Result<(), LakeError> {
        let locations: Vec<_> = paths.iter().map(|path| Ok(self.path(path))).collect();
        let mut gone = self.store().delete_stream(stream::iter(locations).boxed());
        while let Some(deleted) = gone.next().await {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.store_error("delete", "", source)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::memory;

    #[tokio::test]
    async fn objects_are_listed_and_removed() {
        let lake = memory();
        lake.documents().put("scratch/r/a", "12").await.unwrap();
        lake.documents().put("scratch/r/b", "3").await.unwrap();
        let objects = lake.objects("_tessera/scratch").await.unwrap();
        let shown: Vec<_> = objects.iter().map(|o| (o.path.as_str(), o.bytes)).collect();
        assert_eq!(shown, [("_tessera/scratch/r/a", 2), ("_tessera/scratch/r/b", 1)]);
        assert!(objects[0].modified > 1_700_000_000);
        lake.remove(&["_tessera/scratch/r/a".into(), "_tessera/never".into()]).await.unwrap();
        assert_eq!(lake.objects("_tessera/scratch").await.unwrap().len(), 1);
    }
}
