//! The one reader that turns a night, a snapshot or a run into tables: which files, and of which columns.

use anyhow::{Context as _, Result};
use datafusion::arrow::datatypes::SchemaRef;
use tessera_contract::tables as contract;
use tessera_lake::{DataFile, SnapshotRecord, SnapshotState};

use crate::{
    context::Context,
    errors::Usage,
    record::{RunRecord, StageRecord},
};

/// Which rows a query sees.
pub enum Scope {
    /// Every published night, and what the newest one knows.
    Everything,
    /// The published night of a date.
    Night(String),
    /// One snapshot, published or held.
    Snapshot(String),
    /// What the stages of one run have written so far.
    Run(String),
}

/// A table that was found.
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its columns; of what a night says, `as_of` first.
    pub schema: SchemaRef,
    /// Its files.
    pub files: Vec<DataFile>,
}

/// The tables of a scope.
pub async fn tables(context: &Context, scope: &Scope) -> Result<Vec<Found>> {
    let registry = context.lake.registry();
    match scope {
        Scope::Everything => everything(context).await,
        Scope::Night(date) => {
            let history = registry.history().await?;
            let found = history.of_night(date).ok_or_else(|| {
                Usage(format!("no night of {date} is published; `tessera snapshots list` shows which are"))
            })?;
            of_snapshot(context, found).await
        }
        Scope::Snapshot(id) => {
            let history = registry.history().await?;
            let found = history.get(id).ok_or_else(|| {
                Usage(format!("there is no snapshot {id}; `tessera snapshots list` shows which there are"))
            })?;
            if let Some(expired) = history.expired(id) {
                let (at, why) = (&expired.content.published_at, &expired.content.why);
                return Err(
                    Usage(format!("the snapshot {id} expired at {at} ({why}): its files are not retained")).into()
                );
            }
            of_snapshot(context, found).await
        }
        Scope::Run(id) => {
            let found = RunRecord::find(&context.lake.documents(), id)
                .await?
                .ok_or_else(|| Usage(format!("there is no run {id}; the log of a night and `tessera plan` name it")))?;
            of_records(context, found.stages.values()).await
        }
    }
}

/// The tables of a snapshot.
pub async fn of_snapshot(context: &Context, snapshot: &SnapshotRecord) -> Result<Vec<Found>> {
    if snapshot.content.state != SnapshotState::Published {
        return of_records(context, snapshot.content.stages.values()).await;
    }
    let mut found = Vec::new();
    for name in snapshot.content.tables.keys() {
        let by_night = contract::find(&context.project, name).is_none_or(|t| !t.grows);
        let table = context.lake.files_of(snapshot, name, by_night).await?;
        found.push(Found { name: name.clone(), schema: table.schema, files: table.files });
    }
    Ok(found)
}

/// The tables that some stages have recorded.
pub async fn of_records(context: &Context, paths: impl Iterator<Item = &String>) -> Result<Vec<Found>> {
    let documents = context.lake.documents();
    let mut found = Vec::new();
    for path in paths {
        let Some(record) = StageRecord::read(&documents, path).await? else { continue };
        for (name, written) in record.tables {
            let table = contract::find(&context.project, &name)
                .with_context(|| format!("the contract knows no table {name}"))?;
            found.push(Found { name, schema: table.schema(), files: written.all() });
        }
    }
    Ok(found)
}

/// Every table of the lake: all published nights, and of what is known the newest. What a night left that is not (or not yet)
/// in the registry is not seen.
async fn everything(context: &Context) -> Result<Vec<Found>> {
    let lake = &context.lake;
    let history = lake.registry().history().await?;
    let mut found = Vec::new();
    for name in lake.tables().await? {
        let mut table = lake.files(&name, None, None).await?;
        let contract = contract::find(&context.project, &name);
        let by_night = contract.as_ref().is_none_or(|t| !t.grows);
        if contract.is_some() || history.newest().is_some_and(|r| r.content.tables.contains_key(&name)) {
            let newest = history.newest().filter(|_| !by_night);
            let nights = history.current().filter(|_| by_night);
            let mut files = Vec::new();
            for snapshot in nights.chain(newest) {
                let Some(published) = snapshot.content.tables.get(&name) else { continue };
                let night = by_night.then_some(snapshot.content.as_of.as_str());
                let mut its: Vec<DataFile> =
                    table.files.iter().filter(|f| f.as_of.as_deref() == night).cloned().collect();
                if tessera_lake::digest(&its) != published.digest {
                    its = lake.files_of(snapshot, &name, by_night).await?.files;
                }
                files.extend(its);
            }
            table.files = files;
        }
        found.push(Found { name, schema: table.schema, files: table.files });
    }
    if found.is_empty() {
        return Err(Usage(format!("{} holds no table: is it the lake, and was a night published?", lake.url())).into());
    }
    Ok(found)
}
