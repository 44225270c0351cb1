//! The root of a lake: a URL and the object store behind it.

use std::path::Path as FilePath;
use std::sync::Arc;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, PutMode, PutPayload};
use url::Url;

use crate::{Documents, LakeError, Registry};

const SCHEMES: &str = "a folder, or a URL starting with file://, s3://, az://, abfss://, gs:// or memory://";

/// Created on the first probe and never removed: every later probe tries to create it again.
const PROBE: &str = "_tessera/probe";

/// A lake: a root URL and its object store. Cloning is cheap and shares the store.
#[derive(Clone, Debug)]
pub struct Lake {
    url: Url,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Lake {
    /// Opens the lake at a folder or URL. A local folder comes to be with the first object; `memory://` is a new, empty lake.
    pub fn open(url: &str) -> Result<Self, LakeError> {
        Self::open_with(url, |url| Ok(object_store::parse_url(url)?.0.into()))
    }

    /// The same with the store that `open` makes of the URL, rooted at its scheme and authority.
    pub fn open_with(
        url: &str,
        open: impl Fn(&Url) -> object_store::Result<Arc<dyn ObjectStore>>,
    ) -> Result<Self, LakeError> {
        let refuse = |problem: String| LakeError::Url { url: url.to_owned(), problem };
        let parsed = if url.contains("://") {
            let mut parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
            if parsed.password().is_some() {
                let (url, problem) =
                    (parsed.host_str().unwrap_or_default().to_owned(), "its URL carries a password".into());
                return Err(LakeError::Url { url, problem });
            }
            if !parsed.path().ends_with('/') {
                parsed.set_path(&format!("{}/", parsed.path()));
            }
            parsed
        } else if url.is_empty() {
            return Err(refuse(format!("it is empty; expected {SCHEMES}")));
        } else {
            let folder = std::path::absolute(FilePath::new(url)).map_err(|e| refuse(e.to_string()))?;
            Url::from_directory_path(&folder).map_err(|()| refuse("it is no absolute path".into()))?
        };
        match parsed.scheme() {
            "file" => {
                let local = parsed.to_file_path();
                local.map_err(|()| refuse("a file:// URL must name an absolute local path".into()))?;
            }
            "memory" | "s3" | "s3a" | "az" | "azure" | "adl" | "abfs" | "abfss" | "gs" => {}
            other => {
                return Err(refuse(format!("{other}:// is not supported; expected {SCHEMES}")));
            }
        }
        let store =
            open(&parsed).map_err(|source| LakeError::Store { action: "open", place: parsed.to_string(), source })?;
        Self::with_store(parsed, store)
    }

    /// A lake on a store that is already there. The store is rooted at the scheme and authority of
    /// `url` (the bucket, or `/`), not at its path.
    pub fn with_store(url: Url, store: Arc<dyn ObjectStore>) -> Result<Self, LakeError> {
        let prefix = Path::from_url_path(url.path())
            .map_err(|e| LakeError::Url { url: url.to_string(), problem: e.to_string() })?;
        Ok(Self { url, store, prefix })
    }

    /// The store, rooted at the scheme and authority of [`Lake::url`]; [`Lake::path`] gives the
    /// place of an object in it.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The root, with a slash at its end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The place in [`Lake::store`] of a path that is relative to the root of the lake.
    pub fn path(&self, relative: &str) -> Path {
        let relative = Path::from(relative);
        self.prefix.parts().chain(relative.parts()).collect()
    }

    /// The small JSON documents of this lake.
    pub fn documents(&self) -> Documents {
        Documents::new(self.clone())
    }

    /// The list of what was published and held.
    pub fn registry(&self) -> Registry {
        Registry::new(self.clone())
    }

    /// Proves that the store refuses to create an object that exists, on which every commit rests.
    ///
    /// # Errors
    /// [`LakeError::NoConditionalPut`] when it overwrites or does not know the operation.
    pub async fn probe(&self) -> Result<(), LakeError> {
        let ignored = || LakeError::NoConditionalPut { url: self.url.to_string() };
        let path = self.path(PROBE);
        for _ in 0..2 {
            let created = self.store.put_opts(&path, PutPayload::from_static(b"probe\n"), PutMode::Create.into()).await;
            match created {
                Ok(_) => {}
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(()),
                Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                    return Err(ignored());
                }
                Err(source) => return Err(self.store_error("write", PROBE, source)),
            }
        }
        Err(ignored())
    }

    /// The names of the tables, sorted: the folders under the root that hold a Delta log.
    pub async fn tables(&self) -> Result<Vec<String>, LakeError> {
        let root = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let listed =
            self.store.list_with_delimiter(root).await.map_err(|source| self.store_error("list", "", source))?;
        let names = listed
            .common_prefixes
            .iter()
            .filter_map(|folder| folder.filename().map(str::to_owned))
            .filter(|name| is_table_name(name));
        let named = async |name: String| Ok(self.has_log(&name).await?.then_some(name));
        let checked = names.map(named).collect();
        let mut tables: Vec<String> = concurrently(checked).await?.into_iter().flatten().collect();
        tables.sort_unstable();
        Ok(tables)
    }

    /// Whether the folder holds a Delta log.
    pub(crate) async fn has_log(&self, table: &str) -> Result<bool, LakeError> {
        let log = format!("{table}/_delta_log");
        // A local store looks at every file of a folder before it gives the first.
        if let ("file", Ok(folder)) = (self.url.scheme(), self.place(&log).to_file_path()) {
            return Ok(tokio::task::spawn_blocking(move || folder.is_dir()).await.unwrap_or(false));
        }
        let first = self
            .store
            .list(Some(&self.path(&log)))
            .try_next()
            .await
            .map_err(|source| self.store_error("list", &log, source))?;
        Ok(first.is_some())
    }

    /// The Delta log of a table.
    pub(crate) fn log_store(&self, table: &str) -> Result<LogStoreRef, LakeError> {
        if !is_table_name(table) {
            return Err(LakeError::TableName { table: table.to_owned() });
        }
        let prefixed = PrefixStore::new(self.store(), self.path(table));
        Ok(default_logstore(
            Arc::new(prefixed),
            self.store(),
            &self.place(&format!("{table}/")),
            &StorageConfig::default(),
        ))
    }

    /// The URL of a path that is relative to the root, for messages and the Delta library.
    pub(crate) fn place(&self, relative: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{relative}", self.url.path()));
        url
    }

    pub(crate) fn store_error(&self, action: &'static str, relative: &str, source: object_store::Error) -> LakeError {
        LakeError::Store { action, place: self.place(relative).to_string(), source }
    }
}

/// Awaits requests to the store, some at a time, and gives their results in the given order. Takes
/// futures that are made already: a stream that makes them on the way would not be `Send`.
pub(crate) async fn concurrently<T>(
    requests: Vec<impl Future<Output = Result<T, LakeError>>>,
) -> Result<Vec<T>, LakeError> {
    stream::iter(requests).buffered(16).try_collect().await
}

/// Folders that begin with an underscore belong to the lake itself.
fn is_table_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Faulty, faulty, memory};

    #[tokio::test]
    async fn a_store_that_overwrites_is_refused() {
        memory().probe().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap()).unwrap();
        lake.probe().await.unwrap();
        lake.probe().await.unwrap();
        let careless = faulty(Faulty { ignores_create: true, ..Faulty::default() });
        let error = careless.probe().await.unwrap_err();
        assert!(matches!(error, LakeError::NoConditionalPut { .. }));
        assert!(!error.is_temporary());
    }

    #[test]
    fn paths_and_urls() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let lake = Lake::open(&format!("{root}/new folder")).unwrap();
        assert!(!folder.path().join("new folder").exists(), "looking makes no folder");
        assert_eq!(lake.url().as_str(), format!("file://{root}/new%20folder/"));
        let expected = format!("{}/new folder/a/b=1", root.trim_start_matches('/'));
        assert_eq!(lake.path("a/b=1").as_ref(), expected);
        let same = Lake::open(&format!("file://{root}/new%20folder")).unwrap();
        assert_eq!(same.url(), lake.url());
        assert_eq!(memory().path("a/b").as_ref(), "a/b");

        let cloud = Lake::open("s3://bucket/some/lake").unwrap();
        assert_eq!(cloud.url().as_str(), "s3://bucket/some/lake/");
        assert_eq!(cloud.path("x").as_ref(), "some/lake/x");
        assert_eq!(cloud.place("x").as_str(), "s3://bucket/some/lake/x");
    }

    /// The runner spawns them.
    #[test]
    fn futures_can_move_between_threads() {
        fn check(_: impl Send) {}
        let lake = memory();
        check(lake.tables());
        check(lake.probe());
        check(lake.version("x"));
        check(lake.files("x", None, None));
        check(lake.commit("x", &crate::testing::schema(), None, &[], ""));
        check(lake.drop_nights("x", &crate::testing::schema(), &std::collections::BTreeSet::new(), ""));
        check(lake.spare_log("x", &std::collections::BTreeSet::new()));
        check(lake.checksum("x"));
        check(lake.documents().list("x"));
        check(lake.documents().delete_prefix("x"));
        check(lake.registry().history());
        check(lake.registry().verify_chain());
    }

    #[test]
    fn what_is_no_lake_is_refused() {
        for url in ["", "https://example.com/lake", "ftp://x/y", "file://host/x"] {
            assert!(matches!(Lake::open(url), Err(LakeError::Url { .. })), "{url}");
        }
    }
}
