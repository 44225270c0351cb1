//! `vacuum`: removes what killed and superseded attempts left.
//!
//! Needed is what the stage records of a snapshot name, what a table's Delta log names (a night that was killed while it was
//! published may have committed a table), and what a record names that is young enough for its run to go on. Anything that is
//! young is left alone: somebody may be writing it. The registry, the logs and the probe are never touched.

use std::collections::BTreeSet;

use anyhow::Result;
use tessera_lake::{Object, SnapshotState};

use crate::{context::Context, record::StageRecord};

const HOUR: i64 = 3600;

/// Removes, or only lists, what is older than some hours and needed by nobody.
pub async fn vacuum(context: &Context, older_than_hours: u32, dry_run: bool) -> Result<()> {
    let lake = &context.lake;
    let before = jiff::Timestamp::now().as_second() - i64::from(older_than_hours) * HOUR;
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut recorded: BTreeSet<String> = BTreeSet::new();
    for snapshot in lake.registry().list().await? {
        let mut missing = false;
        for path in snapshot.content.stages.values() {
            missing |= lake.documents().get(path).await?.is_none();
        }
        if missing && snapshot.content.state == SnapshotState::Published {
            // Then its Delta logs alone say what it needs.
            for table in crate::reader::of_snapshot(context, &snapshot).await? {
                needed.extend(table.files.into_iter().map(|f| f.path));
            }
        }
        recorded.insert(format!("runs/{}/{}.json", snapshot.content.as_of, snapshot.content.run_id));
        recorded.extend(snapshot.content.stages.into_values());
    }
    let tables = lake.tables().await?;
    for table in &tables {
        needed.extend(lake.files(table, None, None).await?.files.into_iter().map(|f| f.path));
    }

    let mut gone: Vec<Object> = Vec::new();
    let mut documents = lake.objects("_tessera/stages").await?;
    documents.extend(lake.objects("_tessera/runs").await?);
    for document in documents {
        let path = document.path.trim_start_matches("_tessera/").to_owned();
        if !recorded.contains(&path) && document.modified < before {
            gone.push(document);
            continue;
        }
        if path.starts_with("stages/")
            && let Some(record) = StageRecord::read(&lake.documents(), &path).await?
        {
            needed.extend(record.files().map(|f| f.path.clone()));
        }
    }

    // Files of tables are called part-*.parquet; whatever else is there is not ours to judge.
    let mut folders: BTreeSet<String> = tables.into_iter().filter(|t| t != "snapshots").collect();
    folders.extend(tessera_contract::tables::all(&context.project).into_iter().map(|t| t.name));
    folders.insert("_tessera/state".to_owned());
    for folder in folders {
        let ours = |o: &Object| {
            let name = o.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("part-") && name.ends_with(".parquet") && !o.path.contains("/_delta_log/")
        };
        let files = lake.objects(&folder).await?.into_iter().filter(ours);
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
