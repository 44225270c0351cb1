//! `report`: the page of a night, made of what its tables say, and kept beside them in the lake.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use datafusion::arrow::array::RecordBatch;
use serde_json::{Map, Value};
use tessera_lake::{Documents, SnapshotRecord};
use tessera_report::{Answers, Entry, EntryKind, Facts, Night, QUERIES, Scope as Asks};

use super::query::Tables;
use crate::{context::Context, errors::Usage, reader::Scope};

/// What was asked for.
pub struct Wanted {
    pub as_of: Option<String>,
    pub snapshot: Option<String>,
    /// The plain text, on standard output.
    pub text: bool,
    /// Another place than the lake.
    pub out: Option<PathBuf>,
    pub open: bool,
}

/// Writes the page of a night, or prints its text.
pub async fn report(context: &Context, wanted: &Wanted) -> Result<()> {
    let history = context.lake.registry().history().await?;
    let record = match (&wanted.as_of, &wanted.snapshot) {
        (Some(date), _) => history.of_night(&context.night(date)?.to_string()),
        (None, Some(id)) => history.get(id),
        (None, None) => history.newest(),
    };
    let record = record
        .ok_or_else(|| Usage("there is no such night; `tessera snapshots list` shows which there are".to_owned()))?;
    let facts = facts(context, record).await?;
    if wanted.text {
        print!("{}", tessera_report::text(&facts));
        return Ok(());
    }
    let place = match &wanted.out {
        Some(file) => {
            std::fs::write(file, tessera_report::html(&facts))
                .with_context(|| format!("{} cannot be written", file.display()))?;
            file.display().to_string()
        }
        None => keep(context, record, &facts).await?,
    };
    println!("{place}");
    if wanted.open {
        let local = Path::new(&place);
        if !local.exists() {
            let problem = format!("{place} is in an object store; write it to a file with --out to open it");
            return Err(Usage(problem).into());
        }
        open::that(local).with_context(|| format!("nothing here opens {place}"))?;
    }
    Ok(())
}

/// Writes the page of a night into the lake, and gives its place.
pub async fn write(context: &Context, record: &SnapshotRecord) -> Result<String> {
    keep(context, record, &facts(context, record).await?).await
}

async fn keep(context: &Context, record: &SnapshotRecord, facts: &Facts) -> Result<String> {
    let path = format!("reports/{}.html", record.snapshot_id);
    context.lake.documents().put(&path, tessera_report::html(facts)).await?;
    let url = context.lake.url();
    let inside = Documents::place(&path);
    Ok(match url.to_file_path() {
        Ok(folder) => folder.join(inside).display().to_string(),
        Err(()) => format!("{}/{inside}", url.as_str().trim_end_matches('/')),
    })
}

async fn facts(context: &Context, record: &SnapshotRecord) -> Result<Facts> {
    let project = &context.project;
    let k = u32::try_from(project.privacy.k).unwrap_or(u32::MAX);
    let as_of = &record.content.as_of;
    let night = Tables::open(context, &Scope::Snapshot(record.snapshot_id.clone()), false).await?;
    let nights = Tables::open(context, &Scope::Everything, false).await?;
    let mut answers = Answers::new();
    for query in QUERIES {
        let tables = if query.scope == Asks::Night { &night } else { &nights };
        if !query.tables.iter().all(|table| tables.has(table)) {
            continue;
        }
        match tables.collect(&query.of(as_of, k)).await {
            Ok(batches) => drop(answers.insert(query.name.to_owned(), rows(&batches)?)),
            // Tables of former programs have fewer columns.
            Err(error) => tracing::warn!("the report of {as_of} goes without {}: {error:#}", query.name),
        }
    }
    let kpis = project.enabled_kpis().map(|(name, kpi)| Entry {
        kind: EntryKind::Kpi,
        name: name.to_owned(),
        unit: kpi.unit.clone(),
        description: kpi.description.clone(),
        headline: project.headline(kpi),
    });
    let features = project.enabled_features().map(|(name, feature)| Entry {
        kind: EntryKind::Feature,
        name: name.to_owned(),
        unit: feature.unit.clone(),
        description: feature.description.clone(),
        headline: false,
    });
    let of = Night {
        as_of: as_of.clone(),
        snapshot_id: record.snapshot_id.clone(),
        project: project.project.name.clone(),
        currency: project.project.currency.clone(),
        timezone: project.project.timezone.clone(),
        k,
    };
    Ok(Facts::new(of, kpis.chain(features).collect(), &answers)?)
}

/// Rows as JSON has them; what is null is left out.
fn rows(batches: &[RecordBatch]) -> Result<Vec<Map<String, Value>>> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner())?;
    lines.lines().filter(|line| !line.is_empty()).map(|line| Ok(serde_json::from_str(line)?)).collect()
}
