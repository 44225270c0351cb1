//! The published nights around a night, against which it is held so that no two of them together tell of few people.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use datafusion::prelude::DataFrame;
use futures::{FutureExt, future::try_join_all};
use jiff::civil::Date;
use tessera_contract::tables;
use tessera_engine::{Engine, columns::conform};
use tessera_lake::{History, SnapshotRecord};
use tessera_stages::{STAGES, Stage};

use crate::{context::Context, published};

/// So many on either side are looked at.
const NIGHTS: usize = 7;

/// Snapshots that are current for the nights before and after a night, the nearest first.
#[derive(Default)]
pub struct Neighbours {
    before: Vec<SnapshotRecord>,
    after: Vec<SnapshotRecord>,
    /// Those of nights before it, and not of itself.
    earlier: Vec<SnapshotRecord>,
}

impl Neighbours {
    /// Those around a night; `again` if what is published of the night itself is to be another one. Unless no two nights together may tell
    /// of few people, only those before count. Of the nights `compared` with it, those that are before it count among the earlier ones.
    pub fn around(history: &History, as_of: &str, again: bool, between: bool, compared: &[String]) -> Self {
        let night = |r: &SnapshotRecord| r.content.as_of.as_str() < as_of || again && r.content.as_of == as_of;
        let most = if between { NIGHTS } else { 0 };
        let before = history.current().rev().filter(|r| night(r)).take(most).cloned().collect();
        let after = history.current().filter(|r| r.content.as_of.as_str() > as_of).take(most).cloned().collect();
        let earlier = history.current().rev().filter(|r| r.content.as_of.as_str() < as_of).enumerate();
        let earlier = earlier.filter(|(ago, r)| *ago < NIGHTS || compared.contains(&r.content.as_of));
        let earlier = earlier.map(|(_, r)| r.clone()).collect();
        Self { before, after, earlier }
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.before.iter().chain(&self.after).map(|r| r.snapshot_id.as_str())
    }

    /// The ids of the nights before.
    pub fn earlier_ids(&self) -> impl Iterator<Item = &str> {
        self.earlier.iter().map(|r| r.snapshot_id.as_str())
    }

    /// What a stage reads of the nights before.
    pub async fn history(
        &self,
        context: &Context,
        engine: &Engine,
        names: &[&'static str],
    ) -> Result<Vec<(Date, BTreeMap<String, DataFrame>)>> {
        dated(context, engine, self.earlier.iter().filter(|_| !names.is_empty()), names).await
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
            given.extend(dated(context, engine, asked, names).await?);
        }
        let [before, after] = given;
        Ok(tessera_stages::Neighbours { before, after })
    }
}

/// The tables of several, each with its night.
async fn dated(
    context: &Context,
    engine: &Engine,
    asked: impl Iterator<Item = &SnapshotRecord>,
    names: &[&'static str],
) -> Result<Vec<(Date, BTreeMap<String, DataFrame>)>> {
    let read = asked.map(|snapshot| {
        async move {
            let night = context.night(&snapshot.content.as_of)?.date();
            anyhow::Ok((night, one(context, engine, snapshot, names).await?))
        }
        .boxed()
    });
    try_join_all(read).await
}

/// The tables of one.
async fn one(
    context: &Context,
    engine: &Engine,
    snapshot: &SnapshotRecord,
    names: &[&'static str],
) -> Result<BTreeMap<String, DataFrame>> {
    let mut given = BTreeMap::new();
    // A night of an earlier version had fewer stages.
    let had = |stage: &&Stage| snapshot.content.stages.contains_key(stage.name);
    for stage in STAGES.iter().filter(had).filter(|stage| stage.writes.iter().any(|table| names.contains(table))) {
        let record = published::stage(context, snapshot, stage.name).await?;
        for (name, written) in record.tables.iter().filter(|(name, _)| names.contains(&name.as_str())) {
            let table =
                tables::find(&context.project, name).with_context(|| format!("the contract knows no table {name}"))?;
            let files = written.all();
            published::proven(context, name, &files).await?;
            let frame = context.frame(engine, table.file_schema(), &files, false)?;
            given.insert(name.clone(), conform(frame, &table)?);
        }
    }
    Ok(given)
}
