//! What a stage leaves: where its files go, and the record of them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use tessera_contract::tables;
use tessera_engine::{Engine, write::WrittenFile};
use tessera_lake::DataFile;
use tessera_stages::{Folders, Outcome, Stage};

use super::Run;
use crate::{
    chain,
    record::{Kept, StageRecord, Written},
    upkeep,
};

impl Run<'_> {
    /// The folder of what a stage keeps.
    pub fn keeping(&self, at: usize) -> String {
        format!("_tessera/state/{}/{}", self.as_of, self.plan[at].stage.name)
    }

    /// Whether a table holds what is known, to which a night adds.
    fn grows(&self, name: &str) -> bool {
        tables::find(&self.context.project, name).is_some_and(|table| table.grows)
    }

    /// The folders of what a stage writes.
    pub(super) fn folders(&self, at: usize) -> Folders {
        let lake = |folder: &str| self.context.lake.path(folder).to_string();
        let tables = self.plan[at].stage.writes.iter().map(|name| match self.grows(name) {
            true => ((*name).to_owned(), lake(name)),
            false => ((*name).to_owned(), lake(&format!("{name}/as_of={}", self.as_of))),
        });
        Folders { tables: tables.collect(), kept: lake(&self.keeping(at)) }
    }

    pub(super) async fn write(&self, at: usize, engine: &Engine, mut outcome: Outcome) -> Result<StageRecord> {
        let stage = self.plan[at].stage;
        let mut record = StageRecord::new(stage.name, &self.id, 0.0);
        record.availability = outcome.availability;
        record.tables = stage.writes.iter().map(|name| ((*name).to_owned(), Written::default())).collect();
        for (name, stamp) in &outcome.stamps {
            let schema = arrow::datatypes::Schema::empty();
            record.kept.insert(name.clone(), Kept { stamp: stamp.clone(), schema, files: Vec::new() });
        }
        let folders = self.folders(at);
        for output in outcome.outputs {
            outcome.written.extend(output.write(engine, &folders).await?.0);
        }
        let night = self.as_of.to_string();
        for written in outcome.written {
            let name = written.name;
            if let Some(table) = record.tables.get_mut(&name) {
                let as_of = (!self.grows(&name)).then(|| night.clone());
                table.files.extend(written.files.into_iter().map(|file| self.data_file(file, as_of.clone())));
                continue;
            }
            let undeclared = || format!("the stage {} wrote {name}, which it does not declare", stage.name);
            let state = record.kept.get_mut(&name).with_context(undeclared)?;
            state.schema = written.schema.as_ref().clone();
            state.files.extend(written.files.into_iter().map(|file| self.data_file(file, None)));
        }
        self.take_over(stage, &outcome.stays, &mut record)?;
        upkeep::compact(self, engine, at, &mut record).await?;
        Ok(record)
    }

    /// What stays of the parent night's tables and states.
    fn take_over(&self, stage: &Stage, stays: &[tessera_stages::Stays], record: &mut StageRecord) -> Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        let own = parent.records.get(stage.name);
        for (name, state) in &mut record.kept {
            if !stays.iter().any(|s| s.name == *name) {
                continue;
            }
            let before =
                own.and_then(|r| r.kept.get(name)).with_context(|| format!("{name} stays, but is not there"))?;
            if state.schema.fields().is_empty() {
                state.schema = before.schema.clone();
            }
            state.files.splice(0..0, before.files.iter().cloned());
        }
        for (name, table) in &mut record.tables {
            let Some(before) = parent.table(name) else { continue };
            let all = before.all();
            let folders: BTreeSet<&str> = stays.iter().filter(|s| s.name == *name).map(|s| s.folder.as_str()).collect();
            table.stays = all.iter().filter(|f| folders.contains(chain::folder(name, f).as_str())).cloned().collect();
            table.goes_on = table.stays.len() == all.len();
        }
        Ok(())
    }

    /// A file as the lake calls it.
    pub fn data_file(&self, file: WrittenFile, as_of: Option<String>) -> DataFile {
        let lake = self.context.lake.path("").to_string();
        let path = file.path.strip_prefix(&lake).unwrap_or(&file.path).trim_start_matches('/').to_owned();
        DataFile {
            path,
            bytes: file.bytes,
            rows: file.rows,
            sha256: file.sha256,
            fingerprint: file.fingerprint.to_string(),
            as_of,
        }
    }
}
