//! Object stores: made from a URL and the environment, and asked again where their clients do not.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, path::Path,
};
use url::Url;

/// The store of a URL.
pub fn open(url: &Url) -> Result<Arc<dyn ObjectStore>> {
    let (store, _) = object_store::parse_url_opts(url, environment())?;
    Ok(match url.scheme() {
        "file" | "memory" => store.into(),
        _ => Arc::new(Patient { store: store.into() }),
    })
}

/// What configures cloud clients.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| key.starts_with(p)))
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
}

/// How often the same is asked.
const TIMES: u32 = 6;

/// Asks again when an answer was cut short. The clients do so for refused requests and for the bytes of an object, but not for
/// listings and for answers that say what went wrong. Writes are not repeated: whether they were done is not known.
#[derive(Debug)]
struct Patient {
    store: Arc<dyn ObjectStore>,
}

async fn again<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> Result<T> {
    let mut times = 1;
    loop {
        match ask().await {
            Err(error) if times < TIMES && tessera_lake::was_cut_short(&error) => {
                tracing::debug!("an answer of the store was cut short, it is asked again: {error}");
                tokio::time::sleep(Duration::from_millis(50) * 2_u32.pow(times)).await;
                times += 1;
            }
            done => return done,
        }
    }
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        again(|| self.store.get_opts(location, options.clone())).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        again(|| self.store.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (Arc::clone(&self.store), prefix.cloned());
        listed(move || store.list(prefix.as_ref()).try_collect().boxed())
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, offset) = (Arc::clone(&self.store), prefix.cloned(), offset.clone());
        listed(move || store.list_with_offset(prefix.as_ref(), &offset).try_collect().boxed())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        again(|| self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// A listing that is whole before the first of it is given.
fn listed(
    list: impl Fn() -> BoxFuture<'static, Result<Vec<ObjectMeta>>> + Send + 'static,
) -> BoxStream<'static, Result<ObjectMeta>> {
    async move { Ok(stream::iter(again(list).await?.into_iter().map(Ok))) }.try_flatten_stream().boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    fn cut() -> object_store::Error {
        let source = std::io::Error::other("HTTP error: request or response body error");
        object_store::Error::Generic { store: "S3", source: Box::new(source) }
    }

    #[tokio::test]
    async fn what_was_cut_short_is_asked_again_and_nothing_else() {
        let asked = AtomicU32::new(0);
        let third = again(|| async { if asked.fetch_add(1, Relaxed) < 2 { Err(cut()) } else { Ok(7) } }).await;
        assert_eq!((third.expect("at last"), asked.swap(0, Relaxed)), (7, 3));
        let never: Result<()> = again(|| async {
            asked.fetch_add(1, Relaxed);
            Err(cut())
        })
        .await;
        assert!(never.is_err());
        assert_eq!(asked.swap(0, Relaxed), TIMES);
        let missing = object_store::Error::NotFound { path: "x".into(), source: "gone".into() };
        let mut missing = Some(missing);
        let missing = std::sync::Mutex::new(missing.take());
        let refused: Result<()> = again(|| async {
            asked.fetch_add(1, Relaxed);
            Err(missing.lock().expect("free").take().expect("once"))
        })
        .await;
        assert!(refused.is_err());
        assert_eq!(asked.load(Relaxed), 1);
    }
}
