//! The last step: the gates decide, the tables are committed, and the registry remembers.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use datafusion::arrow::{
    array::AsArray,
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use tessera_contract::tables;
use tessera_lake::{GateRecord, InputRecord, SnapshotContent, SnapshotRecord, SnapshotState, TableRecord};
use tessera_stages::STAGES;

use crate::{
    errors::Held,
    progress::Step,
    runner::{Run, StageRecord},
};

/// Commits what the stages wrote, unless a required gate fails: then the candidate is recorded as held, nothing changes
/// for readers, and the error is [`Held`].
pub async fn publish(run: &Run<'_>) -> Result<SnapshotRecord> {
    let step = Step::start("publish", "commits the night's tables in one step each, and records them");
    let lake = &run.context.lake;
    lake.probe().await?;
    let records = run.records().await?;
    if let Some(missing) = STAGES.iter().find(|s| !records.iter().any(|r| r.stage == s.name)) {
        bail!(
            "the stage {} of this run is not done; run `tessera stage {0} --as-of {1}` first",
            missing.name,
            run.as_of
        );
    }
    let gates = gates(run, &records).await?;
    let failing: Vec<_> =
        gates.iter().filter(|(g, required)| *required && g.state == "fail").map(|(g, _)| words(g)).collect();
    let state = if failing.is_empty() { SnapshotState::Published } else { SnapshotState::Held };

    let as_of = run.as_of.to_string();
    let mut committed = BTreeMap::new();
    for (name, written) in records.iter().flat_map(|r| &r.tables) {
        let version = match state {
            SnapshotState::Published => {
                let table = tables::find(&run.context.project, name)
                    .with_context(|| format!("the contract knows no table {name}"))?;
                let description = [("description".to_owned(), table.description.clone())].into();
                let schema = std::sync::Arc::new(table.schema().as_ref().clone().with_metadata(description));
                lake.commit(name, &schema, &as_of, &written.files, &run.id).await?
            }
            SnapshotState::Held => -1,
        };
        let files = written.files.iter().map(Into::into).collect();
        let fingerprint = written.fingerprint.to_string();
        committed.insert(name.clone(), TableRecord { version, fingerprint, rows: written.rows, files });
    }
    let content = SnapshotContent {
        run_id: run.id.clone(),
        as_of: as_of.clone(),
        state,
        tables: committed,
        inputs: inputs(run, &records).await?,
        project_hash: run.context.project.hash(),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: i64::try_from(run.context.project.segmentation.seed).unwrap_or(i64::MAX),
        gates: gates.into_iter().map(|(g, _)| g).collect(),
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

fn words(gate: &GateRecord) -> String {
    let number = |v: Option<f64>| v.map_or("unknown".to_owned(), |v| format!("{v:.4}"));
    format!("{} of {} is {}, the gate asks for {}", gate.metric, gate.scope, number(gate.value), number(gate.threshold))
}

/// The gates that were asked, and whether each is required.
async fn gates(run: &Run<'_>, records: &[StageRecord]) -> Result<Vec<(GateRecord, bool)>> {
    let query = "SELECT metric, CASE WHEN segment_id IS NULL THEN scope ELSE scope || ' ' || segment_id END AS scope, \
                 value, threshold, state, gate FROM validation WHERE gate <> 'none' ORDER BY metric, segment_id";
    let batches = query_record(run, records, "validation", query).await?;
    let mut gates = Vec::new();
    for batch in batches {
        let text = |i: usize| cast(batch.column(i), &DataType::Utf8);
        let (metric, scope, state, gate) = (text(0)?, text(1)?, text(4)?, text(5)?);
        let (metric, scope) = (metric.as_string::<i32>(), scope.as_string::<i32>());
        let (state, gate) = (state.as_string::<i32>(), gate.as_string::<i32>());
        let value: Vec<_> = batch.column(2).as_primitive::<Float64Type>().iter().collect();
        let threshold: Vec<_> = batch.column(3).as_primitive::<Float64Type>().iter().collect();
        for row in 0..batch.num_rows() {
            let record = GateRecord {
                metric: metric.value(row).to_owned(),
                scope: scope.value(row).to_owned(),
                value: value[row],
                threshold: threshold[row],
                state: state.value(row).to_owned(),
            };
            gates.push((record, gate.value(row) == "required"));
        }
    }
    Ok(gates)
}

async fn inputs(run: &Run<'_>, records: &[StageRecord]) -> Result<Vec<InputRecord>> {
    let query = "SELECT source, file, etag, bytes, rows FROM inputs ORDER BY source, file";
    let mut inputs = Vec::new();
    for batch in query_record(run, records, "inputs", query).await? {
        let text = |i: usize| cast(batch.column(i), &DataType::Utf8);
        let number = |i: usize| cast(batch.column(i), &DataType::UInt64);
        let (source, file, etag) = (text(0)?, text(1)?, text(2)?);
        let (bytes, rows) = (number(3)?, number(4)?);
        for row in 0..batch.num_rows() {
            let tag: Vec<_> = etag.as_string::<i32>().iter().collect();
            inputs.push(InputRecord {
                entity: source.as_string::<i32>().value(row).to_owned(),
                path: file.as_string::<i32>().value(row).to_owned(),
                etag: tag[row].map(str::to_owned),
                bytes: bytes.as_primitive::<arrow::datatypes::UInt64Type>().value(row),
                rows: rows.as_primitive::<arrow::datatypes::UInt64Type>().value(row),
            });
        }
    }
    Ok(inputs)
}

/// A query over one table that a stage of the run wrote.
async fn query_record(
    run: &Run<'_>,
    records: &[StageRecord],
    name: &str,
    query: &str,
) -> Result<Vec<arrow::array::RecordBatch>> {
    let engine = run.context.engine(&run.context.secret()?, "_tessera/scratch").await?;
    let table =
        tables::find(&run.context.project, name).with_context(|| format!("the contract knows no table {name}"))?;
    let files = records.iter().find_map(|r| r.tables.get(name)).map(|t| t.files.as_slice()).unwrap_or_default();
    let files = files.iter().map(|f| run.context.stored(&f.path, f.bytes, f.rows)).collect();
    let frame = engine.read(table.file_schema(), &run.context.store_url()?, files)?;
    let words = tessera_engine::formula::Words::none();
    Ok(engine.sql(query, &[(name, &frame)], &words).await?.collect().await?)
}
