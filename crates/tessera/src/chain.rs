//! The chain of nights: what a night goes on from, and which files it has to read.
//!
//! The parent of a night is what is current for the newest published night before it. A source's files are compared with the
//! parent's manifest; where all that it knew is there and unchanged, only the others are read. In every other case the source
//! is read as a whole: the answer is the same, and why is said.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use object_store::ObjectStoreExt;
use tessera_contract::{Entity, Project, tables};
use tessera_engine::Engine;
use tessera_lake::{DataFile, History, LakeError, SnapshotRecord};
use tessera_stages::ingest;

use crate::{
    context::Context,
    published,
    record::{StageRecord, Written},
    sources::Found,
};

/// What a night goes on from.
pub struct Parent {
    /// The snapshot.
    pub snapshot: SnapshotRecord,
    /// What its stages left, by stage; those whose records are gone have tables alone.
    pub records: BTreeMap<String, StageRecord>,
    /// The source files that it knew.
    known: Vec<KnownFile>,
}

/// A file version of the manifest.
struct KnownFile {
    entity: String,
    feed: Option<String>,
    id: i64,
    url: String,
    state: String,
}

/// What is read of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The files, by their place in the list of those that were found.
    pub files: Vec<usize>,
    /// If the others were read by the parent night: how many numbers of files are taken.
    pub before: Option<i64>,
    /// If all are read: why.
    pub why: Option<String>,
    /// Whether all are those of the parent night, and no others.
    pub unchanged: bool,
}

impl Parent {
    /// What is current for the newest published night before `as_of`.
    pub async fn find(context: &Context, engine: &Engine, history: &History, as_of: &str) -> Result<Option<Self>> {
        let Some(snapshot) = history.parent(as_of).cloned() else { return Ok(None) };
        let mut records = BTreeMap::new();
        for stage in snapshot.content.stages.keys() {
            let mut record = published::stage(context, &snapshot, stage).await?;
            if let Some(lost) = lost(context, record.kept.values().flat_map(|k| &k.files)).await? {
                tracing::warn!("{lost} is gone: what the stage {stage} kept is made anew");
                record.kept.clear();
            }
            records.insert(stage.clone(), record);
        }
        let known = match records.values().find_map(|r| r.tables.get("inputs")) {
            Some(inputs) => known(context, engine, inputs).await.context("the parent night's list of source files")?,
            None => Vec::new(),
        };
        Ok(Some(Self { snapshot, records, known }))
    }

    /// A table as the parent night left it.
    pub fn table(&self, name: &str) -> Option<&Written> {
        self.records.values().find_map(|r| r.tables.get(name))
    }
}

/// The first of some files that is not there, or not whole.
async fn lost(context: &Context, files: impl Iterator<Item = &DataFile>) -> Result<Option<String>> {
    for file in files {
        match context.lake.store().head(&context.lake.path(&file.path)).await {
            Ok(found) if found.size == file.bytes => {}
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(Some(file.path.clone())),
            Err(source) => {
                return Err(LakeError::Store { action: "read", place: file.path.clone(), source }.into());
            }
        }
    }
    Ok(None)
}

async fn known(context: &Context, engine: &Engine, inputs: &Written) -> Result<Vec<KnownFile>> {
    let table = tables::find(&context.project, "inputs").context("the contract knows no table inputs")?;
    let frame = context.frame(engine, table.file_schema(), &inputs.all(), false)?;
    let query = "SELECT source, file_id, file, etag, bytes, feed FROM inputs";
    let words = tessera_engine::formula::Words::none();
    let batches = engine.sql(query, &[("inputs", &frame)], &words).await?.collect().await?;
    let mut files = Vec::new();
    for batch in batches {
        let (source, url, etag) = (texts(&batch, 0)?, texts(&batch, 2)?, texts(&batch, 3)?);
        let (id, bytes, feed) = (integers(&batch, 1)?, integers(&batch, 4)?, texts(&batch, 5)?);
        for row in 0..batch.num_rows() {
            files.push(KnownFile {
                entity: source[row].clone().unwrap_or_default(),
                feed: feed[row].clone(),
                id: id[row].unwrap_or(0),
                url: url[row].clone().unwrap_or_default(),
                state: state(u64::try_from(bytes[row].unwrap_or(0)).unwrap_or(0), etag[row].as_deref()),
            });
        }
    }
    Ok(files)
}

/// A column of texts.
pub fn texts(batch: &RecordBatch, column: usize) -> Result<Vec<Option<String>>> {
    let column = cast(batch.column(column), &DataType::Utf8)?;
    Ok(column.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect())
}

/// A column of whole numbers.
pub fn integers(batch: &RecordBatch, column: usize) -> Result<Vec<Option<i64>>> {
    let column = cast(batch.column(column), &DataType::Int64)?;
    Ok(column.as_primitive::<Int64Type>().iter().collect())
}

/// A column of doubles.
pub fn floats(batch: &RecordBatch, column: usize) -> Result<Vec<Option<f64>>> {
    let column = cast(batch.column(column), &DataType::Float64)?;
    Ok(column.as_primitive::<Float64Type>().iter().collect())
}

/// What tells one version of a file from another.
fn state(bytes: u64, etag: Option<&str>) -> String {
    format!("{bytes} {}", etag.unwrap_or_default())
}

/// What is read of a source that was found. `full`: all of it, whatever is known.
pub fn reading(project: &Project, found: &Found, parent: Option<&Parent>, full: bool) -> Reading {
    let all = |why: String| Reading {
        files: (0..found.files.len()).collect(),
        before: None,
        why: Some(why),
        unchanged: false,
    };
    if full {
        return all("so it was asked for".into());
    }
    let Some(parent) = parent else { return all("no night before this one is published".into()) };
    let known: Vec<_> = parent.known.iter().filter(|k| k.entity == found.entity.name()).collect();
    // A file may be read by two feeds, each in its own way.
    let files = found.by_feed().enumerate();
    let now: BTreeMap<(Option<&str>, &str), (usize, String)> =
        files.map(|(i, (feed, f))| ((feed, f.url.as_str()), (i, state(f.bytes, f.etag.as_deref())))).collect();
    if let Some(why) = ingest::reads_all(project, found.entity) {
        let same =
            |k: &&KnownFile| now.get(&(k.feed.as_deref(), k.url.as_str())).is_some_and(|(_, state)| *state == k.state);
        let unchanged = known.len() == now.len() && known.iter().all(same);
        return Reading { unchanged, ..all(why) };
    }
    if known.is_empty() {
        return all("the parent night did not know the source".into());
    }
    let mut new: Vec<usize> = (0..found.files.len()).collect();
    for file in &known {
        match now.get(&(file.feed.as_deref(), file.url.as_str())) {
            None => return all(format!("{} is gone since the parent night", file.url)),
            Some((_, state)) if *state != file.state => {
                return all(format!("{} is another file than on the parent night", file.url));
            }
            Some((at, _)) => new.retain(|i| i != at),
        }
    }
    let before = known.iter().map(|k| k.id + 1).max().unwrap_or(0);
    Reading { files: new, before: Some(before), why: None, unchanged: false }
}

/// The folder below a table in which a file stands, buckets aside.
pub fn folder(table: &str, file: &DataFile) -> String {
    let path = file.path.strip_prefix(table).unwrap_or(&file.path).trim_start_matches('/');
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    if folders.last().is_some_and(|f| f.strip_prefix("bucket-").is_some_and(|n| n.parse::<u32>().is_ok())) {
        folders.pop();
    }
    folders.join("/")
}

/// For people: what is read of each source.
pub fn describe(entity: Entity, reading: &Reading, found: usize) -> String {
    if reading.unchanged {
        return format!("{entity}: the same {found} files");
    }
    match (&reading.why, reading.files.len()) {
        (Some(why), _) => format!("{entity}: all {found} files, because {why}"),
        (None, 0) => format!("{entity}: no new file"),
        (None, new) => format!("{entity}: {new} new of {found} files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_below_a_table() {
        let file = |path: &str| DataFile {
            path: path.into(),
            bytes: 0,
            rows: 0,
            sha256: String::new(),
            fingerprint: String::new(),
            as_of: None,
        };
        assert_eq!(
            folder("quarantine", &file("quarantine/transactions/waiting/part-1.parquet")),
            "transactions/waiting"
        );
        assert_eq!(folder("clean_transactions", &file("clean_transactions/bucket-12/part-1.parquet")), "");
        assert_eq!(folder("clean_transactions", &file("clean_transactions/part-1.parquet")), "");
        assert_eq!(folder("x", &file("x/bucket-a/part-1.parquet")), "bucket-a");
    }
}
