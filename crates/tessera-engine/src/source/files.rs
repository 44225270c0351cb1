//! From a path, a folder or a pattern to files.

use std::sync::Arc;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use url::Url;

use super::{SourceError, SourceFile, format_of};

/// Most names of neighbours in a message.
const NEARBY: usize = 8;

/// What stands at a place.
pub struct Listed {
    /// The files to read, by name.
    pub files: Vec<SourceFile>,
    /// The names of those that stand there too, but whose extension says no format that is read.
    pub passed_over: Vec<String>,
}

/// The files at `path` in the store: the file of this name, or all files of known formats below the folder of this name; with a
/// `pattern`, what of the folder's files it matches, of any extension (`*`, `**`, `?` and `[…]`, relative to the folder).
/// Names that begin with `_` or `.` are passed over. `base` is the store's URL, for messages.
///
/// # Errors
/// When nothing matches, or the store refuses.
pub async fn list(
    store: &Arc<dyn ObjectStore>,
    base: &Url,
    path: &str,
    pattern: Option<&str>,
) -> Result<Listed, SourceError> {
    let url = |path: &str| format!("{}{path}", base.as_str().replace("file:///", "/"));
    let whole = url(&[path, pattern.unwrap_or_default()].join(if pattern.is_some() { "/" } else { "" }));
    let refused = |source| SourceError::Store { file: whole.clone(), source };
    let problem = |e: &dyn std::fmt::Display| SourceError::Pattern { pattern: whole.clone(), problem: e.to_string() };
    let folder = Path::parse(path).map_err(|e| problem(&e))?;
    let glob = pattern.map(Pattern::new).transpose().map_err(|e| problem(&e))?;
    let below = async || store.list(Some(&folder)).try_collect::<Vec<ObjectMeta>>().await;
    let found = match pattern {
        Some(_) => below().await.map_err(refused)?,
        None => match store.head(&folder).await {
            Ok(file) => return Ok(Listed { files: vec![source_file(file, &url)], passed_over: Vec::new() }),
            Err(object_store::Error::NotFound { .. }) => below().await.map_err(refused)?,
            // A local folder is no object, which some stores say in their own way.
            Err(error) => match below().await.map_err(refused)? {
                all if all.is_empty() => return Err(refused(error)),
                all => all,
            },
        },
    };
    let inner = |f: &ObjectMeta| {
        f.location.as_ref().strip_prefix(folder.as_ref()).map(|p| p.trim_start_matches('/').to_owned())
    };
    let (mut wanted, mut passed_over) = (Vec::new(), Vec::new());
    for file in found {
        let Some(name) = inner(&file).filter(|name| !hidden(name)) else { continue };
        let known = match &glob {
            Some(glob) if !glob.matches_with(&name, OPTIONS) => continue,
            Some(_) => true,
            None => format_of(&name).is_some(),
        };
        match known {
            true => wanted.push(source_file(file, &url)),
            false => passed_over.push(name),
        }
    }
    if wanted.is_empty() {
        let nearby = nearby(store, path, pattern).await;
        return Err(SourceError::NoFiles { pattern: whole, nearby });
    }
    wanted.sort_by(|a, b| a.location.cmp(&b.location));
    passed_over.sort();
    Ok(Listed { files: wanted, passed_over })
}

const OPTIONS: MatchOptions =
    MatchOptions { require_literal_separator: true, require_literal_leading_dot: true, case_sensitive: true };

/// A file. What its folders say is said of every row.
fn source_file(file: ObjectMeta, url: &impl Fn(&str) -> String) -> SourceFile {
    let folders = file.location.as_ref().rsplit_once('/').map_or("", |(folders, _)| folders);
    let parts = folders.split('/').filter_map(|part| part.split_once('='));
    SourceFile {
        url: url(file.location.as_ref()),
        location: file.location.to_string(),
        bytes: file.size,
        etag: file.e_tag,
        constants: parts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

fn hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with(['_', '.']))
}

/// Names that stand where something was looked for.
async fn nearby(store: &Arc<dyn ObjectStore>, path: &str, pattern: Option<&str>) -> Vec<String> {
    let names = async |folder: &str| {
        let folder = Path::parse(folder).ok()?;
        let found = store.list_with_delimiter(Some(&folder)).await.ok()?;
        let names =
            found.objects.iter().map(|f| f.location.filename()).chain(found.common_prefixes.iter().map(Path::filename));
        let names: Vec<String> = names.flatten().take(NEARBY).map(str::to_owned).collect();
        (!names.is_empty()).then_some(names)
    };
    let above = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let fixed = pattern.and_then(|p| p[..p.find(['*', '?', '['])?].rsplit_once('/')).map(|(inner, _)| inner);
    let inner = fixed.map_or(path.to_owned(), |inner| format!("{path}/{inner}"));
    match names(&inner).await {
        Some(names) => names,
        None => names(above).await.unwrap_or_default(),
    }
}
