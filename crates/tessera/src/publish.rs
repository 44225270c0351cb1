//! The last step: the gates decide, the tables are committed, and the registry remembers.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, bail};
use arrow::datatypes::{Float64Type, SchemaRef};
use datafusion::arrow::{array::AsArray, record_batch::RecordBatch};
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tessera_contract::{Table, tables};
use tessera_lake::{
    DataFile, Documents, GateRecord, History, InputRecord, SnapshotContent, SnapshotRecord, SnapshotState, TableRecord,
};

use crate::{
    chain::{integers, texts},
    context::Context,
    errors::Held,
    progress::Phase,
    record::{RunRecord, Written},
    runner::{Run, VERSION},
};

/// Tables that are committed at once.
const AT_ONCE: usize = 8;

/// Commits what the stages wrote, unless a required gate fails: then the candidate is recorded as held, nothing changes
/// for readers, and the error is [`Held`].
pub async fn publish(run: &Run<'_>) -> Result<SnapshotRecord> {
    // A night that was held is not a night of which something is missing.
    hold(run).await?;
    if let Some(missing) = run.plan.iter().find(|p| p.done.is_none()) {
        bail!(
            "the stage {} of this run is not done; run `tessera stage {0} --as-of {1}` first",
            missing.stage.name,
            run.as_of
        );
    }
    let gates = gates(run).await?;
    record(run, gates).await
}

/// Records the night as held if what its stages found so far asks for that: then nothing more is made of it, and the error is
/// [`Held`].
pub async fn hold(run: &Run<'_>) -> Result<()> {
    let gates = gates(run).await?;
    match failing(&gates).is_empty() {
        true => Ok(()),
        false => record(run, gates).await.map(drop),
    }
}

/// What the required gates say that fail.
pub fn failing(gates: &[GateRecord]) -> Vec<String> {
    gates.iter().filter(|g| g.required && g.state == "fail").map(words).collect()
}

async fn record(run: &Run<'_>, gates: Vec<GateRecord>) -> Result<SnapshotRecord> {
    let step = Phase::start("publish", "commits the night's tables in one step each, and records them");
    let lake = &run.context.lake;
    run.stands().await?;
    let failing = failing(&gates);
    let state = if failing.is_empty() { SnapshotState::Published } else { SnapshotState::Held };

    let as_of = run.as_of.to_string();
    let history = lake.registry().history().await?;
    let one = async |name: &str, written: &Written| {
        let files = written.all();
        let version = match state {
            SnapshotState::Published => {
                let table = tables::find(&run.context.project, name)
                    .with_context(|| format!("the contract knows no table {name}"))?;
                Some(commit(run, &history, &table, &files).await?)
            }
            _ => None,
        };
        let record = TableRecord::new(version.map(|(own, _)| own), written.fingerprint()?.to_string(), &files);
        anyhow::Ok((name.to_owned(), record, version))
    };
    let commits: Vec<_> = run.records().flat_map(|r| &r.tables).map(|(name, written)| one(name, written)).collect();
    let committed: Vec<_> = futures::stream::iter(commits).buffered(AT_ONCE).try_collect().await?;
    // What was written to the logs since the last night: by this one and by whoever took nights out or put them back.
    let made = committed.iter().filter_map(|(name, _, versions)| {
        let (own, newest) = (*versions)?;
        let first = history.proven(name).map_or(0, |version| version + 1);
        let versions: BTreeSet<i64> = (first..=newest).chain([own]).collect();
        Some(tessera_lake::log_paths(name, versions))
    });
    let made = made.flatten();
    let done = || run.plan.iter().filter(|p| p.done.is_some());
    let documents = done().map(|p| p.path.clone()).chain([RunRecord::path(&as_of, &run.id)]);
    let evidence: Vec<String> = made.chain(documents.map(|path| Documents::place(&path))).collect();
    let content = SnapshotContent {
        run_id: run.id.clone(),
        as_of: as_of.clone(),
        state,
        parent: run.parent.as_ref().map(|p| p.snapshot.snapshot_id.clone()).unwrap_or_default(),
        tables: committed.into_iter().map(|(name, record, _)| (name, record)).collect(),
        stages: done().map(|p| (p.stage.name.to_owned(), p.path.clone())).collect(),
        inputs: inputs(run).await?,
        sources: run.sources.clone(),
        project_hash: run.context.project.hash(),
        project: project_text(run).await?,
        code_version: VERSION.to_owned(),
        code_commit: env!("TESSERA_COMMIT").to_owned(),
        secret: run.context.secret()?.identity(),
        seed: i64::try_from(run.context.project.segmentation.seed).unwrap_or(i64::MAX),
        gates,
        evidence: lake.evidence(evidence).await?,
        why: String::new(),
        recorded_by: recorded_by(),
        published_at: jiff::Timestamp::now().to_string(),
    };
    let snapshot = lake.registry().append(&content).await?;
    if snapshot.content.published_at != content.published_at {
        tracing::info!("another process published this run first; its snapshot counts");
    }
    if snapshot.content.state == SnapshotState::Held {
        step.done("held");
        return Err(Held { as_of, gates: failing.join("; "), snapshot_id: snapshot.snapshot_id }.into());
    }
    step.done(&snapshot.snapshot_id);
    Ok(snapshot)
}

/// Commits a table of the night. What is known is what the newest published night knows: an older night that is made again
/// has its version of it, and the newest one's is put back on top.
/// Gives that version, and the newest that was made.
async fn commit(run: &Run<'_>, history: &History, table: &Table, files: &[DataFile]) -> Result<(i64, i64)> {
    let lake = &run.context.lake;
    let as_of = run.as_of.to_string();
    let night = (!table.grows).then_some(as_of.as_str());
    let version = lake.commit(&table.name, &described(table), night, files, &run.id).await?;
    if table.grows
        && let Some(newest) = history.newest().filter(|r| r.content.as_of > as_of)
    {
        let files = lake.files_of(newest, &table.name, false).await?.files;
        let again = format!("{} over {}", newest.content.run_id, run.id);
        let on_top = lake.commit(&table.name, &described(table), None, &files, &again).await?;
        return Ok((version, on_top));
    }
    Ok((version, version))
}

/// The columns of a table with what it is for.
pub fn described(table: &Table) -> SchemaRef {
    let description = [("description".to_owned(), table.description.clone())].into();
    Arc::new(table.schema().as_ref().clone().with_metadata(description))
}

/// Shows plain readers what is current again, after a night was taken back: of what the night says what it had replaced, of
/// what is known the newest night's. `id` names the commits.
pub async fn put_back(context: &Context, as_of: &str, id: &str) -> Result<()> {
    let lake = &context.lake;
    let history = lake.registry().history().await?;
    for name in lake.tables().await? {
        let Some(table) = tables::find(&context.project, &name) else { continue };
        let night = (!table.grows).then_some(as_of);
        let current = night.map_or_else(|| history.newest(), |night| history.of_night(night));
        let files = match current.filter(|r| r.content.tables.contains_key(&name)) {
            Some(snapshot) => lake.files_of(snapshot, &name, !table.grows).await?.files,
            None => Vec::new(),
        };
        lake.commit(&name, &described(&table), night, &files, id).await?;
    }
    Ok(())
}

fn words(gate: &GateRecord) -> String {
    if !gate.told.is_empty() {
        return gate.told.clone();
    }
    let number = |v: Option<f64>| v.map_or("unknown".to_owned(), |v| format!("{v:.4}"));
    format!("{} of {} is {}, the gate asks for {}", gate.metric, gate.scope, number(gate.value), number(gate.threshold))
}

/// The gates that were asked so far: of the rows as a whole, and of the segments.
async fn gates(run: &Run<'_>) -> Result<Vec<GateRecord>> {
    let mut gates = Vec::new();
    if run.table("quality").is_some() {
        gates.extend(quality_gates(run).await?);
    }
    if run.table("validation").is_some() {
        let query = "SELECT metric, CASE WHEN segment_id IS NULL THEN scope ELSE scope || ' ' || segment_id END AS scope, \
                     value, threshold, state, gate FROM validation WHERE gate <> 'none' ORDER BY metric, segment_id";
        gates.extend(figure_gates(run, "validation", query).await?);
    }
    if run.table("kpis").is_some() {
        let query = "SELECT kpi, 'everybody' AS scope, value, threshold, verdict, gate FROM kpis WHERE gate IS NOT NULL ORDER BY kpi";
        gates.extend(figure_gates(run, "kpis", query).await?);
    }
    Ok(gates)
}

/// Of what was measured, the registry is told the verdict, and more only where it holds the night.
async fn quality_gates(run: &Run<'_>) -> Result<Vec<GateRecord>> {
    let query = "SELECT \"check\", source, state, gate, told FROM quality WHERE gate <> 'none' ORDER BY 1, 2";
    let mut gates = Vec::new();
    for batch in query_table(run, "quality", query).await? {
        let column = |at: usize| anyhow::Ok(texts(&batch, at)?.into_iter().map(Option::unwrap_or_default));
        let columns = column(0)?.zip(column(1)?).zip(column(2)?.zip(column(3)?)).zip(column(4)?);
        for (((metric, scope), (state, gate)), told) in columns {
            let required = gate == "required";
            let told = if state == "fail" && required { told } else { String::new() };
            gates.push(GateRecord { metric, scope, value: None, threshold: None, state, required, told });
        }
    }
    Ok(gates)
}

/// The gates of a table of figures: metric, scope, value, threshold, state, gate.
async fn figure_gates(run: &Run<'_>, table: &str, query: &str) -> Result<Vec<GateRecord>> {
    let mut gates = Vec::new();
    for batch in query_table(run, table, query).await? {
        let (metric, scope, state, gate) = (texts(&batch, 0)?, texts(&batch, 1)?, texts(&batch, 4)?, texts(&batch, 5)?);
        let value: Vec<_> = batch.column(2).as_primitive::<Float64Type>().iter().collect();
        let threshold: Vec<_> = batch.column(3).as_primitive::<Float64Type>().iter().collect();
        for row in 0..batch.num_rows() {
            gates.push(GateRecord {
                metric: metric[row].clone().unwrap_or_default(),
                scope: scope[row].clone().unwrap_or_default(),
                value: value[row],
                threshold: threshold[row],
                state: state[row].clone().unwrap_or_default(),
                required: gate[row].as_deref() == Some("required"),
                told: String::new(),
            });
        }
    }
    Ok(gates)
}

async fn inputs(run: &Run<'_>) -> Result<Vec<InputRecord>> {
    let query = "SELECT source, count(*) AS files, sum(bytes) AS bytes, sum(rows) AS rows FROM inputs GROUP BY source \
                 ORDER BY source";
    let mut inputs = Vec::new();
    for batch in query_table(run, "inputs", query).await? {
        let source = texts(&batch, 0)?;
        let (files, bytes, rows) = (integers(&batch, 1)?, integers(&batch, 2)?, integers(&batch, 3)?);
        let number = |v: Option<i64>| u64::try_from(v.unwrap_or(0)).unwrap_or(0);
        for row in 0..batch.num_rows() {
            inputs.push(InputRecord {
                entity: source[row].clone().unwrap_or_default(),
                files: number(files[row]),
                bytes: number(bytes[row]),
                rows: number(rows[row]),
            });
        }
    }
    Ok(inputs)
}

/// The resolved project as a document that is named by the hash of its text.
async fn project_text(run: &Run<'_>) -> Result<String> {
    let text = serde_json::to_string_pretty(&run.context.project)?;
    let path = project_path(text.as_bytes());
    // Over one that somebody damaged too.
    run.context.lake.documents().put(&path, text).await?;
    Ok(path)
}

/// The document of a project's text: it is named by what it says.
pub fn project_path(text: &[u8]) -> String {
    format!("projects/{}.json", hex::encode(Sha256::digest(text)))
}

/// Who runs the program, and where.
pub fn recorded_by() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = sysinfo::System::host_name();
    format!("{}@{}", user.unwrap_or_default(), host.unwrap_or_default())
}

/// A query over one table that a stage of the run wrote.
async fn query_table(run: &Run<'_>, name: &str, query: &str) -> Result<Vec<RecordBatch>> {
    let engine = run.context.engine(None, "_tessera/scratch").await?;
    let table =
        tables::find(&run.context.project, name).with_context(|| format!("the contract knows no table {name}"))?;
    let written = run.table(name).with_context(|| format!("no stage of the run left the table {name}"))?;
    let frame = run.context.frame(&engine, table.file_schema(), &written.all(), false)?;
    let words = tessera_engine::formula::Words::none();
    Ok(engine.sql(query, &[(name, &frame)], &words).await?.collect().await?)
}
