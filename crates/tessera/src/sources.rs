//! Opens the sources of a project for the stages that read them.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use object_store::ObjectStore;
use tessera_contract::{Entity, project::Source as Settings};
use tessera_engine::{Engine, source};
use tessera_stages::{Night, Source};
use url::Url;

use crate::{
    chain::Reading,
    context::{Context, resolve},
    errors::Usage,
    store,
};

/// A source that is found but not yet read.
pub struct Found {
    /// What it is mapped to.
    pub entity: Entity,
    /// Its files.
    pub files: Vec<source::SourceFile>,
    store: Arc<dyn ObjectStore>,
    base: Url,
    format: source::SourceFormat,
}

/// Lists the files of every source.
pub async fn find(context: &Context) -> Result<Vec<Found>> {
    if context.project.sources.is_empty() {
        return Err(
            Usage("the project names no source: add [sources.transactions] with its url and columns".into()).into()
        );
    }
    let mut found = Vec::new();
    for entity in Entity::ALL {
        let Some(settings) = context.project.source(entity) else { continue };
        let one = find_one(context, entity, settings).await;
        found.push(
            one.with_context(|| format!("the source of {entity} (sources.{entity}.url = \"{}\")", settings.url))?,
        );
    }
    Ok(found)
}

async fn find_one(context: &Context, entity: Entity, settings: &Settings) -> Result<Found> {
    let url = resolve(&context.folder, &settings.url);
    let Place { store, base, path, pattern } = place(&url)?;
    let source::Listed { mut files, mut passed_over } = source::list(&store, &base, &path, pattern.as_deref()).await?;
    if base.scheme() == "file" {
        // A pipe or a device would be waited for.
        let odd = files.extract_if(.., |file| !Path::new("/").join(&file.location).is_file());
        passed_over.extend(odd.map(|file| file.url));
        if pattern.is_none() {
            links_to_nowhere(&Path::new("/").join(&path), &mut passed_over);
        }
    }
    if !passed_over.is_empty() {
        tracing::warn!(
            "{entity}: {} of {url} not read, as no file of a known format (.csv, .ndjson, .parquet …): {}",
            passed_over.len(),
            in_short(&passed_over)
        );
    }
    if files.is_empty() {
        return Err(Usage(format!("{url} has no file that can be read")).into());
    }
    let kind = match settings.format {
        Some(format) => format,
        None => source::format_of(&files.first().map(|f| f.location.clone()).unwrap_or_default()).ok_or_else(|| {
            Usage(format!("the extension of {url} does not say its format; set sources.{entity}.format = \"csv\", \"ndjson\" or \"parquet\""))
        })?,
    };
    let mut null_values = vec![String::new()];
    null_values.extend(settings.null_values.iter().cloned());
    let format = source::SourceFormat {
        kind,
        delimiter: settings.delimiter,
        quote: None,
        encoding: settings.encoding,
        null_values,
    };
    Ok(Found { entity, files, store, base, format })
}

/// Where a source lies.
struct Place {
    store: Arc<dyn ObjectStore>,
    base: Url,
    /// The path of a file or folder in the store.
    path: String,
    /// Which of the folder's files, relative to it.
    pattern: Option<String>,
}

/// Names in a message.
const SHOWN: usize = 5;

fn in_short(names: &[String]) -> String {
    let more = if names.len() > SHOWN { " …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

/// The place of a path or URL. A name that exists is taken as it stands, even if it has the signs of a pattern.
fn place(url: &str) -> Result<Place> {
    if !url.contains("://") {
        let absolute = std::path::absolute(url).with_context(|| format!("{url} is no path"))?;
        let (mut path, mut pattern) = (PathBuf::new(), Vec::new());
        for part in absolute.components() {
            let name = part.as_os_str().to_string_lossy();
            match part {
                Component::ParentDir if pattern.is_empty() => {
                    path.pop();
                }
                _ if pattern.is_empty() && (!name.contains(WILD) || path.join(part).exists()) => path.push(part),
                _ => pattern.push(name.into_owned()),
            }
        }
        if std::fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(Usage(format!("{url} is neither a file nor a folder, but a pipe or a device")).into());
        }
        return Ok(Place {
            store: Arc::new(object_store::local::LocalFileSystem::new()),
            base: Url::parse("file:///")?,
            path: path.display().to_string().trim_start_matches('/').to_owned(),
            pattern: (!pattern.is_empty()).then(|| pattern.join("/")),
        });
    }
    let parsed = Url::parse(url).with_context(|| format!("{url} is no URL"))?;
    let (_, path) = object_store::ObjectStoreScheme::parse(&parsed)?;
    let store = store::open(&parsed)?;
    let mut base = parsed.clone();
    base.set_path("/");
    // A pattern is no object path: take it as it was written.
    let written = url.splitn(4, '/').nth(3).unwrap_or_default();
    let (path, pattern) = match written.find(WILD) {
        Some(at) => {
            let folder = written[..at].rfind('/');
            (written[..folder.unwrap_or(0)].to_owned(), Some(written[folder.map_or(0, |at| at + 1)..].to_owned()))
        }
        None => (path.to_string(), None),
    };
    Ok(Place { store, base, path, pattern })
}

/// The signs of a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// Links below a folder whose targets are not there: the store lists none of them. Linked folders are not entered, as they may lead back.
fn links_to_nowhere(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => links_to_nowhere(&entry.path(), found),
            Ok(kind) if kind.is_symlink() && !entry.path().exists() => found.push(entry.path().display().to_string()),
            _ => {}
        }
    }
}

/// Opens what is to be read of what was found: headers and footers are read, rows are not.
pub async fn open(engine: &Engine, found: Vec<Found>, readings: &[Reading]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (one, reading) in found.into_iter().zip(readings) {
        let entity = one.entity;
        let before = reading.before;
        let wanted: Vec<_> = reading.files.iter().filter_map(|i| one.files.get(*i).cloned()).collect();
        if wanted.is_empty() && before.is_some() {
            let (files, footers) = (Vec::new(), Vec::new());
            sources.push(Source { entity, rows: None, files, footers, before, unchanged: false });
            continue;
        }
        engine.register_store(&one.base, Arc::clone(&one.store));
        let opened = source::open(one.store, &one.base, one.format, wanted.clone()).await;
        if before.is_some() && matches!(opened, Err(source::SourceError::Empty { .. })) {
            // Beside the files that were read before, that is no more than a warning.
            tracing::warn!("{entity}: what is new is empty and gives no row");
            let (files, footers) = (wanted, Vec::new());
            sources.push(Source { entity, rows: None, files, footers, before, unchanged: false });
            continue;
        }
        let table = opened.with_context(|| format!("the source of {entity}"))?;
        for warning in table.warnings() {
            tracing::warn!("{entity}: {warning}");
        }
        let (files, footers) = (table.files().to_vec(), table.footers().to_vec());
        let rows = Some(engine.session().read_table(Arc::new(table))?);
        sources.push(Source { entity, rows, files, footers, before, unchanged: reading.unchanged });
    }
    Ok(sources)
}

/// A night that knows nothing: to ask stages what they would do.
pub fn nothing<'a>(context: &'a Context, engine: &'a Engine, as_of: tessera_contract::AsOf) -> Night<'a> {
    Night {
        project: &context.project,
        as_of,
        engine,
        sources: &[],
        tables: BTreeMap::new(),
        parent: None,
        previous: BTreeMap::new(),
        neighbours: tessera_stages::Neighbours::default(),
        kept: BTreeMap::new(),
        availability: tessera_stages::Availability::default(),
        folders: None,
    }
}

/// What tells one state of the sources from another: path, tag and size of every file.
pub fn identity(found: &[Found]) -> BTreeMap<String, String> {
    found
        .iter()
        .flat_map(|one| one.files.iter().map(move |f| (one.entity, f)))
        .map(|(entity, f)| {
            (format!("{entity} {}", f.url), format!("{} {}", f.bytes, f.etag.as_deref().unwrap_or_default()))
        })
        .collect()
}
