//! `vacuum`: removes what killed and superseded attempts left.
//!
//! Needed is what a snapshot of the registry names, what a table's Delta log names (a night that was killed while it was
//! published may have committed a table), and what a run names that is young enough to go on. Anything that is young is left
//! alone: somebody may be writing it. The registry, the logs and the probe are never touched.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use tessera_lake::Object;

use crate::{context::Context, runner::StageRecord};

const HOUR: i64 = 3600;

/// Removes, or only lists, what is older than some hours and needed by nobody.
pub async fn vacuum(context: &Context, older_than_hours: u32, dry_run: bool) -> Result<()> {
    let lake = &context.lake;
    let before = jiff::Timestamp::now().as_second() - i64::from(older_than_hours) * HOUR;
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut recorded: BTreeSet<String> = BTreeSet::new();
    for snapshot in lake.registry().list().await? {
        recorded.insert(snapshot.content.run_id);
        needed.extend(snapshot.content.tables.into_values().flat_map(|t| t.files).map(|f| f.path));
    }
    let tables = lake.tables().await?;
    for table in &tables {
        needed.extend(lake.files(table, None, None).await?.files.into_iter().map(|f| f.path));
    }

    let mut runs: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for document in lake.objects("_tessera/runs").await? {
        // _tessera/runs/<night>/<run>/<stage>.json
        if let Some(run) = document.path.rsplit('/').nth(1) {
            runs.entry(run.to_owned()).or_default().push(document);
        }
    }
    let mut gone: Vec<Object> = Vec::new();
    for (run, documents) in runs {
        if recorded.contains(&run) {
            continue;
        }
        if documents.iter().all(|d| d.modified < before) {
            gone.extend(documents);
            continue;
        }
        for document in documents {
            let path = document.path.trim_start_matches("_tessera/");
            let Some(bytes) = lake.documents().get(path).await? else { continue };
            let record: StageRecord = serde_json::from_slice(&bytes).with_context(|| document.path.clone())?;
            needed.extend(record.tables.into_values().flat_map(|t| t.files).map(|f| f.path));
        }
    }

    // Files of tables lie in the folder of a night; whatever else is there is not ours to judge.
    let mut folders: BTreeSet<String> = tables.into_iter().collect();
    folders.extend(tessera_contract::tables::all(&context.project).into_iter().map(|t| t.name));
    for folder in folders {
        let files =
            lake.objects(&folder).await?.into_iter().filter(|o| o.path.starts_with(&format!("{folder}/as_of=")));
        gone.extend(files.filter(|o| o.modified < before && !needed.contains(&o.path)));
    }
    gone.extend(lake.objects("_tessera/scratch").await?.into_iter().filter(|o| o.modified < before));

    let bytes: u64 = gone.iter().map(|o| o.bytes).sum();
    let paths: Vec<String> = gone.into_iter().map(|o| o.path).collect();
    if dry_run {
        paths.iter().for_each(|path| println!("{path}"));
        println!("{} files of {bytes} bytes would be removed", paths.len());
        return Ok(());
    }
    lake.remove(&paths).await?;
    println!("{} files of {bytes} bytes removed", paths.len());
    Ok(())
}
