//! The object stores of a session: each is made once, when it is first asked for.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use datafusion::{
    common::{DataFusionError, Result},
    execution::object_store::ObjectStoreRegistry,
};
use object_store::ObjectStore;
use url::Url;

/// Makes the store of a URL, rooted at its scheme and host.
pub type OpenStore = dyn Fn(&Url) -> object_store::Result<Arc<dyn ObjectStore>> + Send + Sync;

/// Stores by scheme and host. What opens them knows how their clients are configured; it may hold secrets and is never shown.
pub struct Stores {
    open: Box<OpenStore>,
    known: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// No store yet.
    #[must_use]
    pub fn new(open: Box<OpenStore>) -> Self {
        Self { open, known: RwLock::default() }
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(known.keys()).finish()
    }
}

fn key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key(url), store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = key(url);
        if let Some(store) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = (self.open)(url).map_err(|e| DataFusionError::ObjectStore(Box::new(e)))?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(known.entry(key).or_insert(store)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_made_once() {
        let open = |url: &Url| Ok(object_store::parse_url(url)?.0.into());
        let stores = Stores::new(Box::new(open));
        let url = |text: &str| Url::parse(text).expect("a URL");
        let first = stores.get_store(&url("s3://lake/a/b")).expect("a store");
        let again = stores.get_store(&url("s3://lake/")).expect("a store");
        let other = stores.get_store(&url("s3://other/")).expect("a store");
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(format!("{stores:?}").contains("s3://lake"));
        assert!(stores.get_store(&url("gopher://x/")).is_err());
    }
}
