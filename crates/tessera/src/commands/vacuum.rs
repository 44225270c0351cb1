//! `vacuum`: removes what nobody needs any more.
//!
//! Needed is what a retained snapshot names (its stage records, and the versions of its tables), what the newest version of a
//! table names, and what unfinished attempts left that are young enough to be gone on with. Whoever is at work is known by a
//! lease: nothing younger than the oldest of them is touched, nor what anybody left of their nights. The rows of the
//! registry, the projects that they name and the probe stay.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tessera_contract::tables as contract;
use tessera_lake::{Object, SnapshotState};

use crate::{
    context::Context,
    lease::{Lease, Work},
    record::StageRecord,
};

const HOUR: i64 = 3600;

/// Removes, or only lists, what is older than some hours and needed by nobody.
pub async fn vacuum(context: &Context, older_than_hours: u32, dry_run: bool) -> Result<()> {
    let lease = Lease::take(&context.lake, Work::Vacuum).await?;
    let done = under(&lease, context, older_than_hours, dry_run).await;
    lease.release().await;
    done
}

async fn under(lease: &Lease, context: &Context, older_than_hours: u32, dry_run: bool) -> Result<()> {
    let lake = &context.lake;
    let (now, workers) = lease.others().await?;
    let mut before = now - i64::from(older_than_hours) * HOUR;
    let mut nights: BTreeSet<String> = BTreeSet::new();
    for worker in workers {
        before = before.min(worker.since - 1);
        if let Work::Night(night) = worker.work {
            let said = format!("{} is at work at the night of {night}: what is newer is left alone", worker.by);
            if nights.insert(night) {
                println!("{said}");
            }
        }
    }
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut recorded: BTreeSet<String> = BTreeSet::new();
    let mut versions: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let history = lake.registry().history().await?;
    for snapshot in history.records() {
        let expired = history.expired(&snapshot.snapshot_id).and_then(|r| r.content.published_at.parse().ok());
        if expired.is_some_and(|at: jiff::Timestamp| at.as_second() <= before) {
            continue;
        }
        let mut missing = false;
        for path in snapshot.content.stages.values() {
            missing |= lake.documents().get(path).await?.is_none();
        }
        if missing && snapshot.content.state == SnapshotState::Published {
            // Then its Delta logs alone say what it needs.
            for table in crate::reader::of_snapshot(context, snapshot).await? {
                needed.extend(table.files.into_iter().map(|f| f.path));
            }
        }
        for (name, table) in &snapshot.content.tables {
            versions.entry(name.clone()).or_default().extend(table.version);
        }
        recorded.insert(format!("runs/{}/{}.json", snapshot.content.as_of, snapshot.content.run_id));
        recorded.extend(snapshot.content.stages.values().cloned());
    }

    let mut gone: Vec<Object> = Vec::new();
    let tables = lake.tables().await?;
    for table in &tables {
        needed.extend(lake.files(table, None, None).await?.files.into_iter().map(|f| f.path));
        let asked = versions.remove(table).unwrap_or_default();
        gone.extend(lake.spare_log(table, &asked).await?.into_iter().filter(|o| o.modified <= before));
    }
    let mut documents = lake.objects("_tessera/stages").await?;
    documents.extend(lake.objects("_tessera/runs").await?);
    for document in documents {
        let path = document.path.trim_start_matches("_tessera/").to_owned();
        let in_work = path.split('/').nth(1).is_some_and(|night| nights.contains(night));
        if !recorded.contains(&path) && !in_work && document.modified <= before {
            gone.push(document);
            continue;
        }
        if path.starts_with("stages/") {
            match StageRecord::read(&lake.documents(), &path).await {
                Ok(record) => needed.extend(record.iter().flat_map(StageRecord::files).map(|f| f.path.clone())),
                Err(error) if error.is::<tessera_lake::LakeError>() => return Err(error),
                // A run that needs it does the stage again.
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
    }

    // Files of tables are called part-*.parquet; whatever else is there is not ours to judge.
    let mut folders: BTreeSet<String> = tables.into_iter().filter(|t| t != "snapshots").collect();
    folders.extend(contract::all(&context.project).into_iter().map(|t| t.name));
    folders.insert("_tessera/state".to_owned());
    for folder in folders {
        let ours = |o: &Object| {
            let name = o.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("part-") && name.ends_with(".parquet") && !o.path.contains("/_delta_log/")
        };
        let files = lake.objects(&folder).await?.into_iter().filter(ours);
        gone.extend(files.filter(|o| o.modified <= before && !needed.contains(&o.path)));
    }
    gone.extend(lake.objects("_tessera/scratch").await?.into_iter().filter(|o| o.modified <= before));
    gone.extend(lease.of_the_dead().await?);

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
