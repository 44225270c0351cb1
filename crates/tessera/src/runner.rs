//! Runs the stages of a night: reads their inputs, writes their outputs, and remembers which are done.
//!
//! A run is one night of one project over one state of its sources; its id follows from these, so that a run that was
//! stopped is found again. A stage is done when its record stands in the lake (created once, never overwritten). Its files
//! are in place before, and nobody sees them until the night is published.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_contract::{AsOf, tables};
use tessera_engine::{
    Engine,
    fingerprint::Fingerprint,
    session::conform,
    write::{self, WriteSpec},
};
use tessera_lake::DataFile;
use tessera_stages::{Night, Output, PUBLISH, STAGES, Source, Stage};

use crate::{
    context::Context,
    errors::Usage,
    progress::Step,
    sources::{self, Found},
};

/// Version of the stage records' form.
const RECORD_VERSION: u32 = 1;

/// A night in progress.
pub struct Run<'a> {
    /// Project and lake.
    pub context: &'a Context,
    /// The night.
    pub as_of: AsOf,
    /// See the module.
    pub id: String,
    found: Vec<Found>,
    secret: tessera_engine::Secret,
}

/// What a finished stage left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageRecord {
    version: u32,
    /// The stage.
    pub stage: String,
    /// How long it took.
    pub seconds: f64,
    /// Its tables.
    pub tables: BTreeMap<String, Written>,
}

/// A table as a stage wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Written {
    /// Content fingerprint.
    pub fingerprint: Fingerprint,
    /// Rows.
    pub rows: u64,
    /// Files, relative to the lake.
    pub files: Vec<DataFile>,
}

impl<'a> Run<'a> {
    /// The run of a night: its sources are listed, nothing is read yet. `attempt` makes another run of the same state.
    pub async fn new(context: &'a Context, as_of: AsOf, attempt: Option<&str>) -> Result<Self> {
        let found = sources::find(context).await?;
        let secret = context.secret()?;
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        add(&context.project.hash());
        add(env!("CARGO_PKG_VERSION"));
        add(&secret.identity());
        for (file, state) in sources::identity(&found) {
            add(&file);
            add(&state);
        }
        if let Some(attempt) = attempt {
            add(attempt);
        }
        let id = format!("{as_of}-{}", &hex::encode(hash.finalize())[..12]);
        Ok(Self { context, as_of, id, found, secret })
    }

    /// The record of a stage, if it is done.
    pub async fn record(&self, stage: &str) -> Result<Option<StageRecord>> {
        let Some(bytes) = self.context.lake.documents().get(&self.path(stage)).await? else { return Ok(None) };
        let record: StageRecord =
            serde_json::from_slice(&bytes).with_context(|| format!("the record of the stage {stage}"))?;
        if record.version != RECORD_VERSION {
            bail!(
                "the record of the stage {stage} is of version {}, this program reads {RECORD_VERSION}",
                record.version
            );
        }
        Ok(Some(record))
    }

    fn path(&self, stage: &str) -> String {
        format!("runs/{}/{}/{stage}.json", self.as_of, self.id)
    }

    /// Every record so far, in the order of the stages.
    pub async fn records(&self) -> Result<Vec<StageRecord>> {
        let mut records = Vec::new();
        for stage in STAGES {
            records.extend(self.record(stage.name).await?);
        }
        Ok(records)
    }

    /// Runs the stages that are not done.
    pub async fn stages(&self) -> Result<()> {
        for stage in STAGES {
            if self.record(stage.name).await?.is_some() {
                tracing::info!(stage = stage.name, "{} is done already", stage.name);
                continue;
            }
            self.stage(stage).await?;
        }
        Ok(())
    }

    /// Runs one stage by name, for a workflow scheduler.
    pub async fn stage_named(&self, name: &str) -> Result<()> {
        let Some(stage) = STAGES.iter().find(|s| s.name == name) else {
            let known: Vec<_> = STAGES.iter().map(|s| s.name).chain([PUBLISH]).collect();
            return Err(Usage(format!("unknown stage `{name}`; known are {}", known.join(", "))).into());
        };
        if self.record(name).await?.is_some() {
            tracing::info!(stage = name, "{name} is done already");
            return Ok(());
        }
        for earlier in STAGES.iter().take_while(|s| s.name != name) {
            if self.record(earlier.name).await?.is_none() {
                bail!(
                    "the stage {name} needs {} of this run to be done; run `tessera stage {0} --as-of {1}` first",
                    earlier.name,
                    self.as_of
                );
            }
        }
        self.stage(stage).await
    }

    async fn stage(&self, stage: &Stage) -> Result<()> {
        // Before hours of work rather than after.
        self.context.lake.probe().await?;
        let scratch = format!("_tessera/scratch/{}/{}-{}", self.id, stage.name, uuid::Uuid::new_v4().simple());
        let engine = self.context.engine(&self.secret, &scratch).await?;
        let step = Step::watched(stage.name, stage.purpose, engine.progress(), Arc::clone(&self.context.job));
        let result = self.execute(stage, &engine).await.with_context(|| format!("stage {}", stage.name));
        let folder = scratch.trim_start_matches("_tessera/");
        if let Err(error) = self.context.lake.documents().delete_prefix(folder).await {
            tracing::warn!("intermediate results stay in {scratch}: {error}");
        }
        let tables = result?;
        let rows: u64 = tables.values().map(|t| t.rows).sum();
        let count = tables.len();
        let record =
            StageRecord { version: RECORD_VERSION, stage: stage.name.to_owned(), seconds: step.seconds(), tables };
        let written =
            self.context.lake.documents().put_new(&self.path(stage.name), serde_json::to_vec_pretty(&record)?).await?;
        if !written {
            tracing::info!(stage = stage.name, "another process finished {} first; its result counts", stage.name);
        }
        step.done(&format!("{rows} rows in {count} tables"));
        Ok(())
    }

    async fn execute(&self, stage: &Stage, engine: &Engine) -> Result<BTreeMap<String, Written>> {
        let project = &self.context.project;
        let sources: Vec<Source> = match stage.sources {
            true => {
                let found = sources::find(self.context).await?;
                if sources::identity(&found) != sources::identity(&self.found) {
                    bail!("the source files changed while the night was running; run it again");
                }
                sources::open(engine, found).await?
            }
            false => Vec::new(),
        };
        let mut night = Night {
            project,
            as_of: self.as_of,
            engine,
            sources: &sources,
            tables: BTreeMap::new(),
            previous_kpis: None,
        };
        if stage.name == STAGES[0].name {
            tessera_stages::preflight(&night).await?;
        }
        let records = self.records().await?;
        for name in stage.reads {
            let table = tables::find(project, name).with_context(|| format!("the contract knows no table {name}"))?;
            let written = records.iter().find_map(|r| r.tables.get(*name));
            let files = written.map(|w| w.files.as_slice()).unwrap_or_default();
            night.tables.insert((*name).to_owned(), self.read(engine, &table, files)?);
        }
        if stage.writes.contains(&"kpis") {
            night.previous_kpis = self.previous(engine).await?;
        }
        let outputs = (stage.run)(&night).await?;
        self.write(stage, outputs).await
    }

    fn read(
        &self,
        engine: &Engine,
        table: &tessera_contract::Table,
        files: &[DataFile],
    ) -> Result<datafusion::prelude::DataFrame> {
        let files = files.iter().map(|f| self.context.stored(&f.path, f.bytes, f.rows)).collect();
        Ok(engine.read_buckets(table.file_schema(), &self.context.store_url()?, files)?)
    }

    /// The KPIs of the last published night before this one.
    async fn previous(&self, engine: &Engine) -> Result<Option<datafusion::prelude::DataFrame>> {
        let tonight = self.as_of.to_string();
        let records = self.context.lake.registry().list().await?;
        let last = records
            .into_iter()
            .filter(|r| r.content.state == tessera_lake::SnapshotState::Published && r.content.as_of < tonight)
            .max_by(|a, b| (&a.content.as_of, a.sequence).cmp(&(&b.content.as_of, b.sequence)));
        let Some(kpis) = last.as_ref().and_then(|r| r.content.tables.get("kpis")) else { return Ok(None) };
        let table = tables::find(&self.context.project, "kpis").context("the contract knows no table kpis")?;
        let files = kpis.files.iter().map(|f| self.context.stored(&f.path, f.bytes, f.rows)).collect();
        let frame = engine.read(table.file_schema(), &self.context.store_url()?, files)?;
        Ok(Some(conform(frame, &table)?))
    }

    async fn write(&self, stage: &Stage, outputs: Vec<Output>) -> Result<BTreeMap<String, Written>> {
        let mut tables: BTreeMap<String, Written> = stage
            .writes
            .iter()
            .map(|name| {
                ((*name).to_owned(), Written { fingerprint: Fingerprint::default(), rows: 0, files: Vec::new() })
            })
            .collect();
        let store = self.context.store_url()?;
        let lake = self.context.lake.path("").to_string();
        for mut output in outputs {
            for route in &mut output.routes {
                let folder = format!("{}/as_of={}", route.name, self.as_of);
                route.prefix = self.context.lake.path(&folder).to_string();
            }
            let spec = WriteSpec::new(&store, output.routes);
            for file in write::write(output.frame, spec).await? {
                let table = tables.get_mut(&file.route).with_context(|| {
                    format!("the stage {} wrote {}, which it does not declare", stage.name, file.route)
                })?;
                table.fingerprint = table.fingerprint + file.fingerprint;
                table.rows += file.rows;
                let path = file.path.strip_prefix(&lake).unwrap_or(&file.path).trim_start_matches('/').to_owned();
                table.files.push(DataFile {
                    path,
                    bytes: file.bytes,
                    rows: file.rows,
                    sha256: file.sha256,
                    as_of: Some(self.as_of.to_string()),
                });
            }
        }
        Ok(tables)
    }
}
