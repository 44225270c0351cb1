//! What a stage of a published snapshot left.

use anyhow::{Context as _, Result, bail};
use sha2::{Digest, Sha256};
use tessera_contract::tables;
use tessera_lake::{DataFile, Documents, SnapshotRecord};
use tessera_stages::STAGES;

use crate::{
    context::Context,
    record::{StageRecord, Written},
};

/// Small tables that decide what later nights tell: which model stays, which ids segments have, what is hidden, what a check passes.
const DECIDE: [&str; 9] = [
    "drift_bins",
    "kpi_breakdowns",
    "kpis",
    "model",
    "quality",
    "segment_lineage",
    "segment_profiles",
    "segments",
    "validation",
];

/// Refuses files of such a table that are not as they were written: a changed bit may read as another segment, and a night that goes by it
/// would be another one.
pub async fn proven(context: &Context, table: &str, files: &[DataFile]) -> Result<()> {
    if !DECIDE.contains(&table) {
        return Ok(());
    }
    let ours: Vec<DataFile> = files.iter().filter(|file| !file.sha256.is_empty()).cloned().collect();
    if let Some(found) = context.lake.verify_files(&ours).await?.first() {
        bail!(
            "{}: {}, and this night goes by it: put it back as it was, or take its night back (`tessera snapshots retract`)",
            found.path,
            found.problem
        );
    }
    Ok(())
}

/// The record of a stage as it was written. Where it is gone or another one, its tables by their Delta logs, and nothing that it kept.
pub async fn stage(context: &Context, snapshot: &SnapshotRecord, stage: &str) -> Result<StageRecord> {
    let path = snapshot.content.stages.get(stage).with_context(|| format!("the snapshot has no stage {stage}"))?;
    let place = Documents::place(path);
    let problem = match context.lake.documents().get(path).await? {
        None => "is gone".to_owned(),
        Some(bytes) if snapshot.content.evidence.get(&place) != Some(&hex::encode(Sha256::digest(&bytes))) => {
            "is another one than was written".to_owned()
        }
        Some(bytes) => match StageRecord::parse(&bytes) {
            Ok(record) => return Ok(record),
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!(
        "{place} {problem}: which files there are is asked of the Delta logs, what else it kept is made anew"
    );
    let mut record = StageRecord::new(stage, &snapshot.content.run_id, 0.0);
    for name in STAGES.iter().filter(|s| s.name == stage).flat_map(|s| s.writes) {
        let table =
            tables::find(&context.project, name).with_context(|| format!("the contract knows no table {name}"))?;
        let files = context.lake.files_of(snapshot, name, !table.grows).await?.files;
        record.tables.insert((*name).to_owned(), Written { files, ..Written::default() });
    }
    Ok(record)
}
