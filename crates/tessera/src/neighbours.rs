//! The published nights around a night, against which it is held so that no two of them together tell of few people.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use datafusion::prelude::DataFrame;
use futures::{FutureExt, future::try_join_all};
use tessera_contract::tables;
use tessera_engine::{Engine, columns::conform};
use tessera_lake::{History, LakeError, SnapshotRecord};
use tessera_stages::STAGES;

use crate::{context::Context, record::StageRecord};

/// So many on either side are looked at.
const NIGHTS: usize = 7;

/// Snapshots that are current for the nights before and after a night, the nearest first.
#[derive(Default)]
pub struct Neighbours {
    before: Vec<SnapshotRecord>,
    after: Vec<SnapshotRecord>,
}

impl Neighbours {
    /// Those around a night; `again` if what is published of the night itself is to be another one.
    pub fn around(history: &History, as_of: &str, again: bool) -> Self {
        let night = |r: &SnapshotRecord| r.content.as_of.as_str() < as_of || again && r.content.as_of == as_of;
        let before = history.current().rev().filter(|r| night(r)).take(NIGHTS).cloned().collect();
        let after = history.current().filter(|r| r.content.as_of.as_str() > as_of).take(NIGHTS).cloned().collect();
        Self { before, after }
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.before.iter().chain(&self.after).map(|r| r.snapshot_id.as_str())
    }

    /// What a stage reads of them.
    pub async fn tables(
        &self,
        context: &Context,
        engine: &Engine,
        names: &[&'static str],
    ) -> Result<tessera_stages::Neighbours> {
        let mut given = [Vec::new(), Vec::new()];
        for (snapshots, given) in [&self.before, &self.after].into_iter().zip(&mut given) {
            let asked = snapshots.iter().filter(|_| !names.is_empty());
            let read = asked.map(|snapshot| one(context, engine, snapshot, names).boxed());
            given.extend(try_join_all(read).await?.into_iter().flatten());
        }
        let [before, after] = given;
        Ok(tessera_stages::Neighbours { before, after })
    }
}

/// The tables of one, unless the lake no longer knows where they are.
async fn one(
    context: &Context,
    engine: &Engine,
    snapshot: &SnapshotRecord,
    names: &[&'static str],
) -> Result<Option<BTreeMap<String, DataFrame>>> {
    let wrote: BTreeSet<&str> =
        STAGES.iter().filter(|s| s.writes.iter().any(|t| names.contains(t))).map(|s| s.name).collect();
    let mut given = BTreeMap::new();
    for path in wrote.iter().filter_map(|stage| snapshot.content.stages.get(*stage)) {
        let record = match StageRecord::read(&context.lake.documents(), path).await {
            Ok(Some(record)) => record,
            Err(error) if error.is::<LakeError>() => return Err(error),
            Ok(None) | Err(_) => {
                tracing::warn!("{path} is gone: what {} tells is not held against this night", snapshot.snapshot_id);
                return Ok(None);
            }
        };
        for name in names {
            let Some(written) = record.tables.get(*name) else { continue };
            let table =
                tables::find(&context.project, name).with_context(|| format!("the contract knows no table {name}"))?;
            let frame = context.frame(engine, table.file_schema(), &written.all(), false)?;
            given.insert((*name).to_owned(), conform(frame, &table)?);
        }
    }
    Ok(names.iter().all(|name| given.contains_key(*name)).then_some(given))
}
