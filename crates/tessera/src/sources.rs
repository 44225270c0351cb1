//! Opens the sources of a project for the stages that read them.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use datafusion::prelude::DataFrame;
use object_store::ObjectStore;
use tessera_contract::{Entity, project::Source as Settings};
use tessera_engine::{Engine, formula, source};
use tessera_stages::{Feed, Night, Source};
use url::Url;

use crate::{
    chain::Reading,
    context::{Context, resolve},
    errors::Usage,
    store,
};

/// The sources of an entity, found but not yet read.
pub struct Found {
    /// What they are mapped to.
    pub entity: Entity,
    /// The files of all of them, in the order of the feeds.
    pub files: Vec<source::SourceFile>,
    feeds: Vec<FoundFeed>,
}

impl Found {
    /// The files, each with the name of its feed.
    pub fn by_feed(&self) -> impl Iterator<Item = (Option<&str>, &source::SourceFile)> {
        let feeds = self.feeds.iter().flat_map(|feed| std::iter::repeat_n(feed.name.as_deref(), feed.count));
        feeds.zip(&self.files)
    }
}

struct FoundFeed {
    name: Option<String>,
    /// How many of the entity's files are its own.
    count: usize,
    rows: FoundRows,
}

/// What the rows of a source are.
enum FoundRows {
    /// Those of its files.
    Files(Files),
    /// Those of a query over files, of which each table has some.
    Query { query: String, tables: Vec<(String, usize, Files)> },
}

/// How files are read.
#[derive(Clone)]
struct Files {
    store: Arc<dyn ObjectStore>,
    base: Url,
    format: source::SourceFormat,
}

/// Lists the files of every source.
pub async fn find(context: &Context) -> Result<Vec<Found>> {
    let project = &context.project;
    if project.sources.is_empty() {
        return Err(
            Usage("the project names no source: add [sources.transactions] with its url and columns".into()).into()
        );
    }
    let mut found = Vec::new();
    for entity in Entity::ALL.into_iter().filter(|entity| project.gives(*entity)) {
        let mut all = Found { entity, files: Vec::new(), feeds: Vec::new() };
        for feed in project.feeds(entity) {
            let (files, rows) = match &feed.source.query {
                None => {
                    let place = format!("sources.{}", feed.path);
                    let asks = feed.source.columns.values().any(|from| asks_for_file(from));
                    let (mut files, how) = find_files(context, &place, feed.source, asks).await?;
                    // A part of a path is part of a row where somebody asks for it, and tells no two rows apart otherwise.
                    let mapped: Vec<_> =
                        feed.source.columns.values().flat_map(|from| formula::names(from)).flatten().collect();
                    let asked = |name: &String| mapped.contains(name) || entity.column(name).is_some();
                    files.iter_mut().for_each(|file| file.constants.retain(|(name, _)| asked(name)));
                    (files, FoundRows::Files(how))
                }
                Some(query) => find_query(context, feed.path, query).await?,
            };
            all.feeds.push(FoundFeed { name: feed.name.map(str::to_owned), count: files.len(), rows });
            all.files.extend(files);
        }
        found.push(all);
    }
    Ok(found)
}

/// Whether SQL asks for the name of the file.
fn asks_for_file(sql: &str) -> bool {
    formula::names(sql).is_ok_and(|names| names.contains(source::FILE))
}

/// The files that a query reads.
async fn find_query(context: &Context, path: &str, query: &str) -> Result<(Vec<source::SourceFile>, FoundRows)> {
    let place = format!("sources.{path}.query");
    let names = formula::tables(query).with_context(|| place.clone())?;
    let known: Vec<_> = context.project.files.keys().map(|name| format!("`{name}`")).collect();
    let (mut all, mut tables) = (Vec::new(), Vec::new());
    for (name, made) in names {
        let Some(settings) = context.project.files.get(&name) else {
            if made {
                continue;
            }
            let known =
                if known.is_empty() { "there are none".to_owned() } else { format!("known are {}", known.join(", ")) };
            return Err(
                Usage(format!("{place}: the query reads `{name}`, but there is no [files.{name}]; {known}")).into()
            );
        };
        let (files, how) = find_files(context, &format!("files.{name}"), settings, asks_for_file(query)).await?;
        tables.push((name, files.len(), how));
        all.extend(files);
    }
    Ok((all, FoundRows::Query { query: query.to_owned(), tables }))
}

async fn find_files(
    context: &Context,
    path: &str,
    settings: &Settings,
    file_column: bool,
) -> Result<(Vec<source::SourceFile>, Files)> {
    let found = find_in(context, path, settings, file_column).await;
    let called = path.trim_start_matches("sources.");
    found.with_context(|| format!("the source of {called} ({path}.url = \"{}\")", settings.url))
}

/// The files at a path, pattern or URL, and where they lie.
pub async fn listed(url: &str) -> Result<(Arc<dyn ObjectStore>, Url, Vec<source::SourceFile>)> {
    let Place { store, base, path, pattern } = place(url)?;
    let files = source::list(&store, &base, &path, pattern.as_deref()).await?.files;
    Ok((store, base, files))
}

async fn find_in(
    context: &Context,
    key: &str,
    settings: &Settings,
    file_column: bool,
) -> Result<(Vec<source::SourceFile>, Files)> {
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
            "{key}: {} of {url} not read, as no file of a known format (.csv, .ndjson, .parquet …): {}",
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
            Usage(format!("the extension of {url} does not say its format; set {key}.format = \"csv\", \"ndjson\", \"parquet\" or \"spreadsheet\""))
        })?,
    };
    let format = source::SourceFormat { file_column, ..source::SourceFormat::of(kind, settings) };
    Ok((files, Files { store, base, format }))
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
    for (Found { entity, files, feeds }, reading) in found.into_iter().zip(readings) {
        let (mut opened, mut start) = (Vec::new(), 0);
        for feed in feeds {
            let own = start..start + feed.count;
            let wanted: Vec<_> = reading.files.iter().filter(|i| own.contains(i)).map(|i| files[*i].clone()).collect();
            let called = feed.name.as_ref().map_or(entity.to_string(), |name| format!("{entity}.{name}"));
            start = own.end;
            let goes_on = reading.before.is_some();
            opened.push(match feed.rows {
                FoundRows::Files(how) => open_files(engine, (&called, feed.name), how, wanted, goes_on).await?,
                FoundRows::Query { query, tables } => {
                    let rows = open_query(engine, &called, &query, tables, &wanted).await;
                    let rows = rows.with_context(|| format!("sources.{called}.query"))?;
                    // Its rows are numbered as those of one file.
                    let file = source::SourceFile {
                        location: String::new(),
                        url: format!("sources.{called}.query"),
                        bytes: wanted.iter().map(|f| f.bytes).sum(),
                        etag: None,
                        constants: Vec::new(),
                    };
                    let (files, footers, lacks) = (vec![file], vec![None], vec![Vec::new()]);
                    Feed { name: feed.name, rows: Some(rows), computed: true, files, footers, lacks }
                }
            });
        }
        sources.push(Source { entity, feeds: opened, before: reading.before, unchanged: reading.unchanged });
    }
    Ok(sources)
}

async fn open_files(
    engine: &Engine,
    (called, name): (&str, Option<String>),
    Files { store, base, format }: Files,
    wanted: Vec<source::SourceFile>,
    goes_on: bool,
) -> Result<Feed> {
    let nothing = |files: Vec<_>| {
        let (footers, lacks) = (vec![None; files.len()], vec![Vec::new(); files.len()]);
        Feed { name: name.clone(), rows: None, computed: false, files, footers, lacks }
    };
    if wanted.is_empty() && goes_on {
        return Ok(nothing(Vec::new()));
    }
    engine.register_store(&base, Arc::clone(&store));
    let opened = source::open(store, &base, format, wanted.clone()).await;
    if goes_on && matches!(opened, Err(source::SourceError::Empty { .. })) {
        // Beside the files that were read before, that is no more than a warning.
        tracing::warn!("{called}: what is new is empty and gives no row");
        return Ok(nothing(wanted));
    }
    let table = warned(called, opened)?;
    let (files, footers, lacks) = (table.files().to_vec(), table.footers().to_vec(), table.lacks().to_vec());
    let rows = Some(engine.session().read_table(Arc::new(table))?);
    Ok(Feed { rows, footers, lacks, ..nothing(files) })
}

async fn open_query(
    engine: &Engine,
    called: &str,
    query: &str,
    tables: Vec<(String, usize, Files)>,
    files: &[source::SourceFile],
) -> Result<DataFrame> {
    let (mut opened, mut start) = (Vec::new(), 0);
    for (name, count, Files { store, base, format }) in tables {
        engine.register_store(&base, Arc::clone(&store));
        let own = files.get(start..start + count).context("a query reads all its files")?;
        start += count;
        opened.push((name, warned(called, source::open(store, &base, format, own.to_vec()).await)?));
    }
    Ok(source::query::rows(engine, query, opened, &formula::Words::none()).await?)
}

fn warned(called: &str, opened: Result<source::SourceTable, source::SourceError>) -> Result<source::SourceTable> {
    let table = opened.with_context(|| format!("the source of {called}"))?;
    for warning in table.warnings() {
        tracing::warn!("{called}: {warning}");
    }
    Ok(table)
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
        history: Vec::new(),
        kept: BTreeMap::new(),
        availability: tessera_stages::Availability::default(),
        folders: None,
    }
}

/// What tells one state of the sources from another: path, tag and size of every file.
pub fn identity(found: &[Found]) -> BTreeMap<String, String> {
    found
        .iter()
        .flat_map(|one| one.by_feed().map(move |(feed, f)| (one.entity, feed.unwrap_or_default(), f)))
        .map(|(entity, feed, f)| {
            (format!("{entity} {feed} {}", f.url), format!("{} {}", f.bytes, f.etag.as_deref().unwrap_or_default()))
        })
        .collect()
}
