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

/// Stores by scheme and host. Whoever makes it says what configures the clients (`aws_endpoint`, `google_service_account`,
/// …); these may be secrets and are never shown.
pub struct Stores {
    options: Vec<(String, String)>,
    known: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// No store yet.
    #[must_use]
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { options: options.into_iter().collect(), known: RwLock::default() }
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
        let options = self.options.iter().map(|(k, v)| (k, v.clone()));
        let (store, _) =
            object_store::parse_url_opts(url, options).map_err(|e| DataFusionError::ObjectStore(Box::new(e)))?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(known.entry(key).or_insert_with(|| Arc::from(store))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_made_once_and_its_options_are_not_shown() {
        let options = [("aws_secret_access_key", "hidden"), ("aws_region", "eu-west-1")];
        let stores = Stores::new(options.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let url = |text: &str| Url::parse(text).expect("a URL");
        let first = stores.get_store(&url("s3://lake/a/b")).expect("a store");
        let again = stores.get_store(&url("s3://lake/")).expect("a store");
        let other = stores.get_store(&url("s3://other/")).expect("a store");
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
        let shown = format!("{stores:?}");
        assert!(shown.contains("s3://lake") && !shown.contains("hidden"), "{shown}");
        assert!(stores.get_store(&url("gopher://x/")).is_err());
    }
}
