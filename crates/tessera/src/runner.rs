//! Runs the stages of a night: plans which of them are to be done, reads their inputs, writes their outputs, and remembers.
//!
//! A run is one night of one project over one state of its sources, going on from one parent; its id follows from these. Its
//! plan is a list of stages with their keys ([`crate::record`]): what `tessera plan` shows is what is then done. A stage is
//! done when its record stands in the lake (created once, never overwritten). Its files are in place before, and nobody sees
//! them until the night is published.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest, Sha256};
use tessera_contract::{AsOf, tables};
use tessera_engine::{Engine, Secret, columns::conform};
use tessera_lake::{LakeError, SnapshotContent, SnapshotRecord, SnapshotState};
use tessera_stages::{Input, Night, PUBLISH, STAGES, Source, Stage, StageError};

use crate::{
    chain::{self, Parent, Reading},
    context::Context,
    errors::{Changed, Usage},
    lease::{Lease, Work},
    neighbours::Neighbours,
    progress::Phase,
    publish, published,
    record::{RunRecord, StageRecord, Written},
    sources::{self, Found},
};

mod output;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A night in progress.
pub struct Run<'a> {
    /// Project and lake.
    pub context: &'a Context,
    /// The night.
    pub as_of: AsOf,
    /// See the module.
    pub id: String,
    /// What it goes on from.
    pub parent: Option<Parent>,
    /// What else is published around it.
    neighbours: Neighbours,
    /// The stages in their order, with the documents that record them.
    pub plan: Vec<Planned>,
    /// What is read of each source.
    pub readings: Vec<Reading>,
    /// The sources that were found.
    pub found: Vec<Found>,
    secret: Secret,
    /// A hash of their state.
    pub sources: String,
    /// The answer that the registry has already.
    pub recorded: Option<SnapshotRecord>,
    lease: Option<Lease>,
}

/// A stage of a run.
pub struct Planned {
    /// The stage.
    pub stage: &'static Stage,
    /// Its document.
    pub path: String,
    /// What it left, if it is done.
    pub done: Option<StageRecord>,
}

/// What is asked of a run, beside its night.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// Again, even if the same is current.
    pub force: bool,
    /// From all the files, whatever the parent night knows.
    pub full: bool,
}

impl<'a> Run<'a> {
    /// A run that is to be done, under a lease: whoever has it ends it with [`Run::end`].
    pub async fn begin(context: &'a Context, as_of: AsOf, ask: Ask) -> Result<Self> {
        context.keep_private()?;
        // Before hours of work rather than after.
        context.lake.probe().await?;
        let lease = Lease::take(&context.lake, Work::Night(as_of.to_string())).await?;
        match Self::new(context, as_of, ask).await {
            Ok(run) => Ok(Self { lease: Some(lease), ..run }),
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// Gives up the lease.
    pub async fn end(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }

    /// The run of a night: its sources are listed, its stages planned, no row is read.
    pub async fn new(context: &'a Context, as_of: AsOf, ask: Ask) -> Result<Self> {
        let found = sources::find(context).await?;
        let secret = context.secret()?;
        let history = context.lake.registry().history().await?;
        let records = history.records();
        let night = as_of.to_string();
        let other = records.iter().rfind(|r| r.content.state == SnapshotState::Published);
        if let Some(other) = other.filter(|r| r.content.secret != secret.identity()) {
            return Err(Usage(format!(
                "the nights of this lake were made under another secret ({}, this one is {}): no key would be the same; set \
                 TESSERA_SECRET to theirs, or name another lake",
                other.content.secret,
                secret.identity()
            ))
            .into());
        }
        let engine = context.engine(Some(&secret), "_tessera/scratch").await?;
        let parent = Parent::find(context, &engine, &history, &night).await?;
        let readings = found.iter().map(|f| chain::reading(&context.project, f, parent.as_ref(), ask.full)).collect();
        let mut run = Self {
            context,
            as_of,
            id: String::new(),
            parent,
            neighbours: Neighbours::default(),
            plan: Vec::new(),
            readings,
            sources: hex::encode(Sha256::digest(format!("{:?}", sources::identity(&found)))),
            found,
            secret,
            recorded: None,
            lease: None,
        };
        // The same question over the same files has its answer, whatever night it went on from.
        let same = |r: &SnapshotContent| {
            r.sources == run.sources && r.project_hash == context.project.hash() && r.code_version == VERSION
        };
        let newest = history.retained().rfind(|r| r.content.as_of == night);
        let held = newest.filter(|r| r.content.state == SnapshotState::Held);
        let mut answers = history.of_night(&night).into_iter().chain(held);
        run.recorded = answers.rfind(|r| !ask.force && same(&r.content)).cloned();
        let between = context.project.privacy.between_nights;
        let month = tessera_stages::causes::month_before(as_of);
        let compared: Vec<String> = tessera_stages::kpis::compared(&context.project, as_of)
            .into_iter()
            .flatten()
            .chain(tessera_stages::value::looked_back(&context.project, as_of))
            .chain(month)
            .map(|d| d.to_string())
            .collect();
        run.neighbours = Neighbours::around(&history, &night, run.recorded.is_none(), between, &compared);
        // A run that the registry has, and that is asked for again, is another attempt.
        for attempt in 1.. {
            run.name(ask, attempt);
            let known = records.iter().any(|r| r.content.run_id == run.id);
            if !known || run.recorded.as_ref().is_some_and(|r| r.content.run_id == run.id) {
                break;
            }
        }
        let documents = context.lake.documents();
        let mut broken = false;
        for planned in &mut run.plan {
            planned.done = match StageRecord::read(&documents, &planned.path).await {
                Ok(done) => done.filter(|_| !broken),
                // A store that cannot be asked says nothing of the record.
                Err(error) if error.is::<LakeError>() => return Err(error),
                Err(error) => {
                    tracing::warn!("the stage {} is done again: {error:#}", planned.stage.name);
                    context.lake.remove(&[format!("_tessera/{}", planned.path)]).await?;
                    None
                }
            };
            broken |= planned.done.is_none();
        }
        Ok(run)
    }

    /// The keys of the stages, and the id, which follows from them.
    fn name(&mut self, ask: Ask, attempt: u32) {
        let project = &self.context.project;
        let parent = self.parent.as_ref().map(|p| p.snapshot.snapshot_id.as_str()).unwrap_or_default();
        let mut keys: BTreeMap<&str, String> = BTreeMap::new();
        let mut plan = Vec::new();
        for stage in STAGES {
            let mut hash = Sha256::new();
            let mut add = |text: &str| {
                hash.update(text.len().to_le_bytes());
                hash.update(text);
            };
            add(VERSION);
            add(stage.name);
            add(&self.as_of.to_string());
            for section in stage.settings {
                add(section);
                add(&project.section(section).unwrap_or_default());
            }
            if stage.sources {
                add(parent);
                add(&self.secret.identity());
                for (file, state) in sources::identity(&self.found) {
                    add(&file);
                    add(&state);
                }
                if ask.full {
                    add("full");
                }
                if attempt > 1 {
                    add(&format!("attempt {attempt}"));
                }
            }
            if !stage.reads_neighbours.is_empty() {
                self.neighbours.ids().for_each(&mut add);
            }
            if !stage.reads_history.is_empty() {
                self.neighbours.earlier_ids().for_each(&mut add);
            }
            for earlier in STAGES.iter().take_while(|s| s.name != stage.name) {
                if earlier.writes.iter().any(|table| stage.reads.contains(table)) {
                    add(&keys[earlier.name]);
                }
            }
            let key = hex::encode(hash.finalize())[..16].to_owned();
            let path = format!("stages/{}/{}-{key}.json", self.as_of, stage.name);
            keys.insert(stage.name, key);
            plan.push(Planned { stage, path, done: None });
        }
        let mut hash = Sha256::new();
        keys.values().for_each(|key| hash.update(key));
        hash.update(project.hash());
        self.id = format!("{}-{}", self.as_of, &hex::encode(hash.finalize())[..12]);
        self.plan = plan;
    }

    /// The records so far, in the order of the stages.
    pub fn records(&self) -> impl Iterator<Item = &StageRecord> {
        self.plan.iter().filter_map(|p| p.done.as_ref())
    }

    /// A table of the run, if its stage is done.
    pub fn table(&self, name: &str) -> Option<&Written> {
        self.records().find_map(|r| r.tables.get(name))
    }

    /// Writes down that the run begins, for whoever wants to look at it before it is published.
    async fn write_down(&self) -> Result<()> {
        let record = RunRecord {
            run: self.id.clone(),
            as_of: self.as_of.to_string(),
            parent: self.parent.as_ref().map(|p| p.snapshot.snapshot_id.clone()),
            stages: self.plan.iter().map(|p| (p.stage.name.to_owned(), p.path.clone())).collect(),
        };
        let path = RunRecord::path(&record.as_of, &record.run);
        self.context.lake.documents().put_new(&path, serde_json::to_vec_pretty(&record)?).await?;
        Ok(())
    }

    /// Runs the stages that are not done.
    pub async fn stages(&mut self) -> Result<()> {
        self.write_down().await?;
        for at in 0..self.plan.len() {
            let Planned { stage, done, .. } = &self.plan[at];
            match done {
                Some(_) => tracing::info!(stage = stage.name, "{} is done already", stage.name),
                None => self.stage(at).await?,
            }
            self.decided(at).await?;
        }
        Ok(())
    }

    /// Runs one stage by name, for a workflow scheduler.
    pub async fn stage_named(&mut self, name: &str) -> Result<()> {
        let Some(at) = self.plan.iter().position(|p| p.stage.name == name) else {
            let known: Vec<_> = STAGES.iter().map(|s| s.name).chain([PUBLISH]).collect();
            return Err(Usage(format!("unknown stage `{name}`; known are {}", known.join(", "))).into());
        };
        if self.plan[at].done.is_some() {
            tracing::info!(stage = name, "{name} is done already");
            return self.decided(at).await;
        }
        if let Some(missing) = self.plan[..at].iter().find(|p| p.done.is_none()) {
            bail!(
                "the stage {name} needs {} of this run to be done; run `tessera stage {0} --as-of {1}` first",
                missing.stage.name,
                self.as_of
            );
        }
        self.write_down().await?;
        self.stage(at).await?;
        self.decided(at).await
    }

    /// Ends the night if a stage that decides that found what holds it.
    async fn decided(&self, at: usize) -> Result<()> {
        match self.plan[at].stage.decides {
            Some(_) => publish::hold(self).await,
            None => Ok(()),
        }
    }

    /// Makes sure that what the run goes on from is still there.
    pub async fn stands(&self) -> Result<()> {
        match &self.lease {
            Some(lease) => lease.stands().await,
            None => Ok(()),
        }
    }

    async fn stage(&mut self, at: usize) -> Result<()> {
        self.stands().await?;
        let stage = self.plan[at].stage;
        let scratch = format!("_tessera/scratch/{}/{}-{}", self.id, stage.name, uuid::Uuid::new_v4().simple());
        let engine = self.context.engine(Some(&self.secret), &scratch).await?;
        let step = Phase::watched(stage.name, stage.purpose, engine.progress(), Arc::clone(&self.context.job));
        let result = self.execute(at, &engine).await.with_context(|| format!("stage {}", stage.name));
        let folder = scratch.trim_start_matches("_tessera/");
        if let Err(error) = self.context.lake.documents().delete_prefix(folder).await {
            tracing::warn!("intermediate results stay in {scratch}: {error}");
        }
        let mut record = result?;
        record.seconds = step.seconds();
        let rows: u64 = record.tables.values().flat_map(|t| &t.files).map(|f| f.rows).sum();
        let count = record.tables.len();
        let documents = self.context.lake.documents();
        let path = self.plan[at].path.clone();
        if !documents.put_new(&path, serde_json::to_vec_pretty(&record)?).await? {
            tracing::info!(stage = stage.name, "another process finished {} first; its result counts", stage.name);
            record = StageRecord::read(&documents, &path).await?.context("the record was there a moment ago")?;
        }
        self.plan[at].done = Some(record);
        step.done(&format!("{rows} rows in {count} tables"));
        Ok(())
    }

    async fn execute(&mut self, at: usize, engine: &Engine) -> Result<StageRecord> {
        let stage = self.plan[at].stage;
        if !stage.sources {
            for name in stage.reads_previous {
                if let Some(written) = self.parent.as_ref().and_then(|parent| parent.table(name)) {
                    published::proven(self.context, name, &written.all()).await?;
                }
            }
            let mut night = self.night(at, engine, &[])?;
            night.neighbours = self.neighbours.tables(self.context, engine, stage.reads_neighbours).await?;
            night.history = self.neighbours.history(self.context, engine, stage.reads_history).await?;
            let outcome = (stage.run)(&night).await?;
            return self.write(at, engine, outcome).await;
        }
        let mut first = true;
        loop {
            let found = sources::find(self.context).await?;
            if sources::identity(&found) != sources::identity(&self.found) {
                return Err(Changed("the source files changed while the night was running".into()).into());
            }
            for (found, reading) in found.iter().zip(&self.readings) {
                tracing::info!("{}", chain::describe(found.entity, reading, found.files.len()));
            }
            let sources = sources::open(engine, found, &self.readings).await?;
            let night = self.night(at, engine, &sources)?;
            let planned = match std::mem::take(&mut first) {
                true => tessera_stages::preflight(&night).await.map(drop),
                false => Ok(()),
            };
            let done = match planned {
                Ok(()) => (stage.run)(&night).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(outcome) => return self.write(at, engine, outcome).await,
                Err(StageError::ReadAll { entity, why }) => {
                    let read = self.found.iter().position(|f| f.entity == entity);
                    let reading = read.map(|i| &mut self.readings[i]).filter(|r| r.before.is_some());
                    let reading = reading.with_context(|| format!("{entity} were read as a whole: {why}"))?;
                    let files = self.found.iter().find(|f| f.entity == entity).map_or(0, |f| f.files.len());
                    *reading = Reading { files: (0..files).collect(), before: None, why: Some(why), unchanged: false };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What a stage is given.
    fn night<'b>(&'b self, at: usize, engine: &'b Engine, sources: &'b [Source]) -> Result<Night<'b>> {
        let stage = self.plan[at].stage;
        let project = &self.context.project;
        let schema = |name: &str| {
            let table = tables::find(project, name).with_context(|| format!("the contract knows no table {name}"))?;
            Ok::<_, anyhow::Error>(table.file_schema())
        };
        let mut given = BTreeMap::new();
        for name in stage.reads {
            let written = self.table(name).with_context(|| {
                format!("no record of this run names the table {name}, which the stage {} reads", stage.name)
            })?;
            let frame = self.context.frame(engine, schema(name)?, &written.all(), true)?;
            let added = match written.goes_on {
                true => Some(self.context.frame(engine, schema(name)?, &written.files, true)?),
                false => None,
            };
            given.insert((*name).to_owned(), Input { frame, added });
        }
        let mut previous = BTreeMap::new();
        let mut kept = BTreeMap::new();
        let mut night_before = None;
        if let Some(parent) = &self.parent {
            night_before = Some(self.context.night(&parent.snapshot.content.as_of)?);
            for name in stage.reads_previous {
                let Some(written) = parent.table(name) else { continue };
                let table =
                    tables::find(project, name).with_context(|| format!("the contract knows no table {name}"))?;
                let frame = self.context.frame(engine, table.file_schema(), &written.all(), false)?;
                previous.insert((*name).to_owned(), conform(frame, &table)?);
            }
            let record = parent.records.get(stage.name);
            for (name, state) in record.iter().flat_map(|r| &r.kept) {
                let frame = self.context.frame(engine, Arc::new(state.schema.clone()), &state.files, false)?;
                let rows = state.files.iter().map(|f| f.rows).sum();
                kept.insert(name.clone(), tessera_stages::Kept { stamp: state.stamp.clone(), frame, rows });
            }
        }
        Ok(Night {
            project,
            as_of: self.as_of,
            engine,
            sources,
            tables: given,
            parent: night_before,
            previous,
            neighbours: tessera_stages::Neighbours::default(),
            history: Vec::new(),
            kept,
            availability: self.records().find_map(|r| r.availability.clone()).unwrap_or_default(),
            folders: Some(self.folders(at)),
        })
    }
}
