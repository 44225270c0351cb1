//! From a path, a folder or a pattern to files.

use std::sync::Arc;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use url::Url;

use super::{SourceError, SourceFile, format_of};

/// Most names of neighbours in a message.
const NEARBY: usize = 8;

/// The files that `pattern` (a path in the store) stands for, by name: a file, all files of known formats below a folder, or
/// what a pattern with `*`, `**`, `?` and `[…]` matches. Names that begin with `_` or `.` are passed over. `base` is the
/// store's URL, for messages.
///
/// # Errors
/// When nothing matches, or the store refuses.
pub async fn list(store: &Arc<dyn ObjectStore>, base: &Url, pattern: &str) -> Result<Vec<SourceFile>, SourceError> {
    let url = |path: &str| format!("{}{path}", base.as_str().replace("file:///", "/"));
    let refused = |source| SourceError::Store { file: url(pattern), source };
    let found: Vec<ObjectMeta> = match pattern.find(['*', '?', '[']) {
        Some(meta) => {
            let problem =
                |e: &dyn std::fmt::Display| SourceError::Pattern { pattern: url(pattern), problem: e.to_string() };
            let glob = Pattern::new(pattern).map_err(|e| problem(&e))?;
            let options = MatchOptions {
                require_literal_separator: true,
                require_literal_leading_dot: true,
                case_sensitive: true,
            };
            let folder = pattern[..meta].rsplit_once('/').map_or("", |(folder, _)| folder);
            let folder = Path::parse(folder).map_err(|e| problem(&e))?;
            let all: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await.map_err(refused)?;
            all.into_iter()
                .filter(|f| glob.matches_with(f.location.as_ref(), options) && !hidden(f, folder.as_ref()))
                .collect()
        }
        None => {
            let path = Path::parse(pattern)
                .map_err(|e| SourceError::Pattern { pattern: url(pattern), problem: e.to_string() })?;
            match store.head(&path).await {
                Ok(file) => vec![file],
                Err(object_store::Error::NotFound { .. }) => {
                    let all: Vec<ObjectMeta> = store.list(Some(&path)).try_collect().await.map_err(refused)?;
                    let known = |f: &ObjectMeta| format_of(f.location.as_ref()).is_some();
                    all.into_iter().filter(|f| known(f) && !hidden(f, path.as_ref())).collect()
                }
                // A local folder is no object, which some stores say in their own way.
                Err(error) => {
                    let all: Vec<ObjectMeta> = store.list(Some(&path)).try_collect().await.map_err(refused)?;
                    if all.is_empty() {
                        return Err(refused(error));
                    }
                    let known = |f: &ObjectMeta| format_of(f.location.as_ref()).is_some();
                    all.into_iter().filter(|f| known(f) && !hidden(f, path.as_ref())).collect()
                }
            }
        }
    };
    if found.is_empty() {
        return Err(SourceError::NoFiles { pattern: url(pattern), nearby: nearby(store, pattern).await });
    }
    let mut files: Vec<_> = found
        .into_iter()
        .map(|f| SourceFile {
            url: url(f.location.as_ref()),
            location: f.location.to_string(),
            bytes: f.size,
            etag: f.e_tag,
        })
        .collect();
    files.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(files)
}

fn hidden(file: &ObjectMeta, folder: &str) -> bool {
    let below = file.location.as_ref().strip_prefix(folder).unwrap_or(file.location.as_ref());
    below.split('/').any(|part| part.starts_with(['_', '.']))
}

async fn nearby(store: &Arc<dyn ObjectStore>, pattern: &str) -> Vec<String> {
    let fixed = pattern.find(['*', '?', '[']).map_or(pattern, |at| &pattern[..at]);
    let folder = fixed.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Ok(folder) = Path::parse(folder) else { return Vec::new() };
    let Ok(found) = store.list_with_delimiter(Some(&folder)).await else { return Vec::new() };
    let names =
        found.objects.iter().map(|f| f.location.filename()).chain(found.common_prefixes.iter().map(Path::filename));
    names.flatten().take(NEARBY).map(str::to_owned).collect()
}
