//! Small files are brought together, so that their number stays flat however many nights there are.
//!
//! A night adds a few files to every table that grows. Files of one order of size form a tier; once a tier of a folder is
//! full, its files become one of the next. So a row is written anew a few times in its life, once for each tier, and a table
//! has at most a tier's worth of files of each size. The content fingerprint is a sum over rows and stays what it is. Files in
//! buckets are large already and stay where they are.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use datafusion::{logical_expr::ident, prelude::DataFrame};
use tessera_contract::{Entity, tables};
use tessera_engine::{
    Engine,
    write::{self, Lifetime, Route},
};
use tessera_lake::DataFile;

use crate::{chain, record::StageRecord, runner::Run};

/// Files of one size in one folder that become one.
const FULL: usize = 8;
/// Bytes below which a file is of the first tier; of each further tier they are eight times as many.
const FIRST: u64 = 256 << 10;
/// Files of this size are left alone.
const LARGE: u64 = 128 << 20;

/// The groups of files that are to become one each: of a table by folder, of a kept state (no table) all together.
fn crowded(table: Option<&str>, files: &[DataFile]) -> Vec<Vec<DataFile>> {
    let mut tiers: BTreeMap<(String, u32), Vec<DataFile>> = BTreeMap::new();
    for file in files.iter().filter(|f| f.bytes < LARGE && !f.path.contains("/bucket-")) {
        let mut tier = 0;
        while file.bytes >= FIRST << (3 * tier) {
            tier += 1;
        }
        tiers.entry((table.map(|t| chain::folder(t, file)).unwrap_or_default(), tier)).or_default().push(file.clone());
    }
    tiers.into_values().filter(|files| files.len() >= FULL).collect()
}

/// Brings together what a stage took over from the parent night.
pub async fn compact(run: &Run<'_>, engine: &Engine, at: usize, record: &mut StageRecord) -> Result<()> {
    let lake = &run.context.lake;
    for (name, table) in &mut record.tables {
        let contract =
            tables::find(&run.context.project, name).with_context(|| format!("the contract knows no table {name}"))?;
        for group in crowded(Some(name), &table.stays) {
            let below = chain::folder(name, &group[0]);
            let folder = lake.path(&format!("{name}/{below}")).to_string();
            let route = Route { prefix: folder, ..Route::all(name, &contract) };
            let frame = run.context.frame(engine, contract.file_schema(), &group, false)?;
            together(run, frame, route, &group, &mut table.stays).await?;
        }
    }
    for (name, state) in &mut record.kept {
        for group in crowded(None, &state.files) {
            let schema = std::sync::Arc::new(state.schema.clone());
            let frame = run.context.frame(engine, schema, &group, false)?;
            let columns = state.schema.fields().iter().map(|f| ident(f.name()).alias(f.name())).collect();
            let folder = lake.path(&format!("{}/{name}", run.keeping(at))).to_string();
            let route = Route { prefix: folder, ..Route::other(name, columns, Lifetime::Kept) };
            together(run, frame, route, &group, &mut state.files).await?;
        }
    }
    Ok(())
}

async fn together(
    run: &Run<'_>,
    frame: DataFrame,
    route: Route,
    group: &[DataFile],
    files: &mut Vec<DataFile>,
) -> Result<()> {
    // Sorted, they are one file; by the time of the event, whoever asks for a window skips the row groups of other times.
    let time = Entity::ALL.into_iter().find(|e| e.clean_table() == route.name).map(Entity::event_time);
    let first = frame.schema().fields().first().map(|f| f.name().clone()).unwrap_or_default();
    let frame = frame.sort(vec![ident(time.unwrap_or(&first)).sort(true, true)])?;
    let written = write::write(frame, &run.context.store_url()?, vec![route]).await?;
    let as_of = group.first().and_then(|f| f.as_of.clone());
    files.retain(|f| !group.iter().any(|g| g.path == f.path));
    files.extend(written.into_iter().map(|file| run.data_file(file, as_of.clone())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> DataFile {
        DataFile { path: path.into(), bytes, rows: 1, sha256: String::new(), fingerprint: String::new(), as_of: None }
    }

    #[test]
    fn a_full_tier_of_a_folder_becomes_one_file() {
        let mut files: Vec<_> = (0..7).map(|i| file(&format!("t/part-{i}.parquet"), 1000)).collect();
        files.extend((0..9).map(|i| file(&format!("t/a/part-{i}.parquet"), 1000)));
        files.extend((0..9).map(|i| file(&format!("t/bucket-1/part-{i}.parquet"), 1000)));
        files.extend((0..9).map(|i| file(&format!("t/b/part-{i}.parquet"), LARGE)));
        files.push(file("t/part-large.parquet", FIRST));
        let found = crowded(Some("t"), &files);
        assert_eq!(found.len(), 1);
        assert!(found[0].iter().all(|f| f.path.starts_with("t/a/")), "{found:?}");
        let kept: Vec<_> = (0..8).map(|i| file(&format!("_tessera/state/2026-01-0{i}/x/part-0.parquet"), 10)).collect();
        assert_eq!(crowded(None, &kept).len(), 1);
        files.push(file("t/part-7.parquet", FIRST - 1));
        assert_eq!(crowded(Some("t"), &files).len(), 2);
    }

    /// Every night adds a file of the first tier.
    #[test]
    fn the_number_of_files_stays_flat() {
        let mut files: Vec<DataFile> = Vec::new();
        let mut most = 0;
        for night in 0..1_000 {
            files.push(file(&format!("t/part-{night}.parquet"), 100_000));
            for group in crowded(Some("t"), &files) {
                let bytes = group.iter().map(|f| f.bytes).sum();
                files.retain(|f| !group.iter().any(|g| g.path == f.path));
                files.push(file(&format!("t/part-{night}-{bytes}.parquet"), bytes));
            }
            most = most.max(files.len());
        }
        assert!(most <= 4 * FULL, "{most}");
    }
}
