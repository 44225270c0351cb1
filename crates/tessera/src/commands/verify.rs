//! `snapshots verify`: whether the lake is what was published.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use tessera_contract::tables;
use tessera_lake::{DataFile, Documents, Finding, History, SnapshotRecord, SnapshotState};

use crate::{
    context::Context,
    publish,
    record::{RunRecord, StageRecord},
};

/// Everything that a published night claims: its place in the chain, its Delta logs, its files, the records of its stages; and that
/// readers who know no registry see what is current.
pub async fn verify(context: &Context, expect: Option<&str>) -> Result<()> {
    let lake = &context.lake;
    let (found, history) = lake.registry().verify_chain().await?;
    let mut findings: Vec<String> = found.iter().map(Finding::to_string).collect();
    let records = history.records();
    if records.is_empty() && findings.is_empty() {
        bail!("{} holds no registry with a snapshot: nothing was proven", lake.url());
    }
    if let Some(hash) = expect.filter(|hash| !records.iter().any(|r| r.hash == **hash)) {
        findings.push(format!("no row of the registry has the hash {hash}: rows are gone, or this is another lake"));
    }
    let mut files: BTreeMap<String, DataFile> = BTreeMap::new();
    let (mut logs, mut projects) = (0, BTreeSet::new());
    for record in records.iter().filter(|r| history.expired(&r.snapshot_id).is_none()) {
        let id = &record.snapshot_id;
        for (path, sha256) in record.content.evidence.iter().filter(|(path, _)| path.starts_with("_tessera/")) {
            if let Some(problem) = lake.changed(path, sha256).await? {
                findings.push(format!("{id}: {path} {problem}"));
            }
        }
        let project = &record.content.project;
        if projects.insert(project)
            && lake.documents().get(project).await?.is_none_or(|text| publish::project_path(&text) != *project)
        {
            findings.push(format!("{id}: {} is missing or another one than was written", Documents::place(project)));
        }
        for path in record.content.stages.values() {
            match StageRecord::read(&lake.documents(), path).await {
                Ok(Some(stage)) => {
                    let named = stage.files().map(|f| (f.path.clone(), f.clone()));
                    files.extend(named);
                    for (name, written) in &stage.tables {
                        let published = record.content.tables.get(name).map(|t| t.digest.as_str());
                        if published != Some(tessera_lake::digest(&written.all()).as_str()) {
                            findings.push(format!("{id} {path}: other files of {name} than were published"));
                        }
                    }
                }
                // Of what is evidence, that is said above.
                Ok(None) if record.content.evidence.contains_key(&Documents::place(path)) => {}
                Ok(None) => findings.push(format!("{id}: {path} is missing")),
                Err(error) => findings.push(format!("{id}: {error:#}")),
            }
        }
        if record.content.state != SnapshotState::Published {
            continue;
        }
        for name in record.content.tables.keys() {
            let by_night = tables::find(&context.project, name).is_none_or(|t| !t.grows);
            match lake.files_of(record, name, by_night).await {
                Ok(table) => {
                    logs += 1;
                    files.extend(table.files.into_iter().map(|f| (f.path.clone(), f)));
                }
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(error) => findings.push(crate::errors::message(&error.into())),
            }
        }
    }
    let evidence = history.evidence();
    let mut notes = Vec::new();
    let published = history.tables();
    for name in lake.tables().await?.into_iter().filter(|name| published.contains(name.as_str())) {
        findings.extend(lake.verify_log(&name, &evidence).await?.iter().map(Finding::to_string));
        for seen in seen_by_readers(context, &history, &name).await? {
            match seen {
                Seen::Unexplained(problem) => findings.push(problem),
                Seen::Unfinished(note) => notes.push(note),
            }
        }
    }
    let files: Vec<DataFile> = files.into_values().collect();
    findings.extend(lake.verify_files(&files).await?.into_iter().map(|f| format!("{}: {}", f.path, f.problem)));
    if !findings.is_empty() {
        bail!("{} findings in {} snapshots:\n{}", findings.len(), records.len(), findings.join("\n"));
    }
    let last = records.last().map(|r| r.hash.as_str()).unwrap_or_default();
    notes.iter().for_each(|note| println!("{note}"));
    println!(
        "{} snapshots: the chain holds to its last row, {last}; {logs} versions of tables and {} files are what was recorded",
        records.len(),
        files.len()
    );
    Ok(())
}

/// What the newest version of a table has that is not what is current.
enum Seen {
    /// Something was begun and not finished.
    Unfinished(String),
    /// No command of ours leaves that.
    Unexplained(String),
}

/// Whether plain Delta readers, who know the newest version and no registry, see of a table what is current.
async fn seen_by_readers(context: &Context, history: &History, name: &str) -> Result<Vec<Seen>> {
    let by_night = tables::find(&context.project, name).is_none_or(|t| !t.grows);
    let newest = match context.lake.files(name, None, None).await {
        Ok(newest) => newest,
        Err(error) if error.is_temporary() => return Err(error.into()),
        Err(error) => return Ok(vec![Seen::Unexplained(crate::errors::message(&error.into()))]),
    };
    let mut there: BTreeMap<Option<String>, Vec<DataFile>> = BTreeMap::new();
    for file in newest.files {
        there.entry(file.as_of.clone()).or_default().push(file);
    }
    let night = |r: &SnapshotRecord| by_night.then(|| r.content.as_of.clone());
    let digest = |r: &SnapshotRecord| r.content.tables.get(name).map(|t| t.digest.clone());
    let nothing = tessera_lake::digest(&[]);
    let mut current: BTreeMap<Option<String>, String> = BTreeMap::new();
    for record in history.current().filter(|_| by_night).chain(history.newest().filter(|_| !by_night)) {
        current.insert(night(record), digest(record).unwrap_or_else(|| nothing.clone()));
    }
    let mut seen = Vec::new();
    let nights: BTreeSet<Option<String>> = there.keys().chain(current.keys()).cloned().collect();
    for key in nights {
        let files = tessera_lake::digest(there.get(&key).map_or(&[], Vec::as_slice));
        if files == *current.get(&key).unwrap_or(&nothing) {
            continue;
        }
        let of = key.as_ref().map_or_else(String::new, |night| format!(" of {night}"));
        let place = format!("{name}: its newest version {}{of}", newest.version);
        let same = |r: &&SnapshotRecord| night(r) == key && digest(r).as_ref() == Some(&files);
        let withdrawn = history.records().iter().filter(same).find_map(|r| history.withdrawn(&r.snapshot_id));
        let begun = begun(context, history, name, key.as_deref(), &files).await?;
        seen.push(match (withdrawn, begun) {
            (Some(row), _) => Seen::Unfinished(format!(
                "{place} is still that of {}, which is {}: do that again, or run the night",
                row.content.parent, row.content.state
            )),
            (None, Some(run)) => Seen::Unfinished(format!(
                "{place} is that of the run {run}, which was stopped while it published: run its night again"
            )),
            (None, None) => {
                Seen::Unexplained(format!("{place} is not what is current: somebody else wrote to the table"))
            }
        });
    }
    Ok(seen)
}

/// The unfinished run whose stage left these files of a table, if there is one.
async fn begun(
    context: &Context,
    history: &History,
    name: &str,
    night: Option<&str>,
    digest: &str,
) -> Result<Option<String>> {
    let documents = context.lake.documents();
    let published: BTreeSet<&str> = history.records().iter().map(|r| r.content.run_id.as_str()).collect();
    for path in documents.list(&night.map_or_else(|| "runs".to_owned(), |night| format!("runs/{night}"))).await? {
        let id = path.rsplit('/').next().and_then(|file| file.strip_suffix(".json")).unwrap_or_default();
        if published.contains(id) {
            continue;
        }
        let Ok(Some(run)) = RunRecord::find(&documents, id).await else { continue };
        for path in run.stages.values() {
            let Ok(Some(stage)) = StageRecord::read(&documents, path).await else { continue };
            if stage.tables.get(name).is_some_and(|t| tessera_lake::digest(&t.all()) == digest) {
                return Ok(Some(id.to_owned()));
            }
        }
    }
    Ok(None)
}
