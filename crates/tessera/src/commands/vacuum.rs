//! `vacuum`: removes what nobody needs any more.
//!
//! Needed is what a retained snapshot names (its stage records, and the versions of its tables), what the newest version of a
//! table names, and what unfinished attempts left that are young enough to be gone on with. Whoever is at work is known by a
//! lease: nothing younger than the oldest of them is touched, nor what anybody left of their nights. The rows of the
//! registry, the projects that they name and the probe stay.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use tessera_contract::tables as contract;
use tessera_lake::{Lake, LakeError, Object, SnapshotRecord, SnapshotState};

use crate::{
    context::Context,
    lease::{Lease, Work},
    record::StageRecord,
};

const HOUR: i64 = 3600;

/// Removes, or only lists, what is older than some hours and needed by nobody.
pub async fn vacuum(context: &Context, older_than_hours: u32, dry_run: bool) -> Result<()> {
    let work = if dry_run { Work::Look } else { Work::Vacuum };
    let lease = Lease::take(&context.lake, work).await?;
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
    let mut versions: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let history = lake.registry().history().await?;
    let gone_for_long = |snapshot: &SnapshotRecord| {
        let expired = history.expired(&snapshot.snapshot_id).and_then(|r| r.content.published_at.parse().ok());
        // The night that is at work may go on from it.
        nights.is_empty() && expired.is_some_and(|at: jiff::Timestamp| at.as_second() <= before)
    };
    let named = |r: &&SnapshotRecord| matches!(r.content.state, SnapshotState::Published | SnapshotState::Held);
    let stay: Vec<&SnapshotRecord> = history.records().iter().filter(named).filter(|r| !gone_for_long(r)).collect();
    let pages: BTreeSet<String> = stay.iter().map(|r| format!("_tessera/reports/{}.html", r.snapshot_id)).collect();
    let mut recorded: BTreeSet<String> = stay.iter().flat_map(|r| r.content.stages.values().cloned()).collect();
    let records = files_of_records(lake, &recorded).await?;
    let mut kept_folders: Vec<String> = Vec::new();
    for snapshot in stay {
        let content = &snapshot.content;
        let mut told = true;
        for (stage, path) in &content.stages {
            match records.get(path) {
                Some(Some(files)) => needed.extend(files.iter().cloned()),
                // Gone, or no record: then what the stage kept is not known either.
                _ => {
                    told = false;
                    kept_folders.push(format!("_tessera/state/{}/{stage}/", content.as_of));
                }
            }
        }
        if !told && content.state == SnapshotState::Held {
            bail!(
                "a stage record of the held snapshot {} is gone or broken, so that nobody knows what it needs; expire it first",
                snapshot.snapshot_id
            );
        }
        if !told {
            // Then its Delta logs say what its tables need.
            for table in crate::reader::of_snapshot(context, snapshot).await? {
                needed.extend(table.files.into_iter().map(|f| f.path));
            }
        }
        for (name, table) in &content.tables {
            versions.entry(name.clone()).or_default().extend(table.version);
        }
        recorded.insert(format!("runs/{}/{}.json", content.as_of, content.run_id));
    }

    let mut gone: Vec<Object> = Vec::new();
    // Tables of others may stand in the lake too: only ours are judged.
    let mut ours: BTreeSet<String> = contract::all(&context.project).into_iter().map(|t| t.name).collect();
    ours.extend(versions.keys().cloned());
    ours.extend(history.records().iter().flat_map(|r| r.content.tables.keys().cloned()));
    for table in lake.tables().await?.into_iter().filter(|t| ours.contains(t) || t == "snapshots") {
        needed.extend(lake.files(&table, None, None).await?.files.into_iter().map(|f| f.path));
        let asked = versions.remove(&table).unwrap_or_default();
        gone.extend(lake.spare_log(&table, &asked).await?.into_iter().filter(|o| o.modified <= before));
    }
    let reports = lake.objects("_tessera/reports").await?.into_iter();
    gone.extend(reports.filter(|o| o.modified <= before && !pages.contains(&o.path)));
    let mut documents = lake.objects("_tessera/stages").await?;
    documents.extend(lake.objects("_tessera/runs").await?);
    let mut unfinished: BTreeSet<String> = BTreeSet::new();
    for document in documents {
        let path = document.path.trim_start_matches("_tessera/").to_owned();
        if recorded.contains(&path) {
            continue;
        }
        let in_work = path.split('/').nth(1).is_some_and(|night| nights.contains(night));
        if !in_work && document.modified <= before {
            gone.push(document);
        } else if path.starts_with("stages/") {
            unfinished.insert(path);
        }
    }
    // Of a broken one nothing is needed: a run that finds it does the stage again.
    needed.extend(files_of_records(lake, &unfinished).await?.into_values().flatten().flatten());

    // Files of tables are called part-*.parquet; whatever else is there is not ours to judge.
    let mut folders = ours;
    folders.insert("_tessera/state".to_owned());
    for folder in folders {
        let ours = |o: &Object| {
            let name = o.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("part-") && name.ends_with(".parquet") && !o.path.contains("/_delta_log/")
        };
        let files = lake.objects(&folder).await?.into_iter().filter(ours);
        let spared = |o: &Object| kept_folders.iter().any(|folder| o.path.starts_with(folder));
        gone.extend(files.filter(|o| o.modified <= before && !needed.contains(&o.path) && !spared(o)));
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

/// The files that some stage records name, by record; none where there is no record that can be read.
async fn files_of_records(lake: &Lake, paths: &BTreeSet<String>) -> Result<BTreeMap<String, Option<Vec<String>>>> {
    let documents = lake.documents();
    let read = async |path: String| match StageRecord::read(&documents, &path).await {
        Ok(record) => Ok((path, record.map(|r| r.files().map(|f| f.path.clone()).collect()))),
        Err(error) if error.is::<LakeError>() => Err(error),
        Err(error) => {
            tracing::warn!("{error:#}");
            Ok((path, None))
        }
    };
    let reads: Vec<_> = paths.iter().cloned().map(read).collect();
    stream::iter(reads).buffered(16).try_collect().await
}
