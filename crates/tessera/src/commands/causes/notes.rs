//! What was found on nights, and what people did about it: notes are documents of the lake, beside the nights and none of their rows.

use std::collections::BTreeMap;

use anyhow::Result;
use datafusion::arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use tessera_engine::formula::text;

use crate::{
    chain::{floats, texts},
    commands::query::Tables,
    context::Context,
    errors::Usage,
    publish::recorded_by,
    reader::Scope,
    show,
};

const FOLDER: &str = "annotations";

/// What somebody wrote about a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What was done, or is known.
    pub note: String,
    /// `user@host`.
    pub by: String,
    /// When it was written, in UTC.
    pub at: String,
}

/// Writes a note about a cause that a night knows.
pub async fn annotate(context: &Context, id: &str, note: &str, by: Option<String>) -> Result<()> {
    if note.trim().is_empty() {
        return Err(Usage("the note says nothing; say what was done: --note TEXT".to_owned()).into());
    }
    let tables = newest(context).await?;
    let known = format!(
        "SELECT count(*) FROM (SELECT cause_id FROM cause_episodes UNION ALL SELECT cause_id FROM causes) WHERE cause_id = {}",
        text(id)
    );
    if count(&tables.collect(&known).await?)? == 0 {
        let problem = format!("the newest night knows no cause `{id}`; `tessera causes list` has those that it knows");
        return Err(Usage(problem).into());
    }
    let note = Note {
        note: note.trim().to_owned(),
        by: by.unwrap_or_else(recorded_by),
        at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    let bytes = serde_json::to_vec_pretty(&note)?;
    let documents = context.lake.documents();
    // Two who write at once have a number each.
    for number in documents.list(&format!("{FOLDER}/{id}")).await?.len() + 1.. {
        let path = format!("{FOLDER}/{id}/{number:06}.json");
        if documents.put_new(&path, bytes.clone()).await? {
            break;
        }
    }
    eprintln!("noted of {id}");
    Ok(())
}

/// The notes about causes, by cause, the oldest first.
pub async fn notes(context: &Context) -> Result<BTreeMap<String, Vec<Note>>> {
    let documents = context.lake.documents();
    let mut notes: BTreeMap<String, Vec<Note>> = BTreeMap::new();
    for path in documents.list(FOLDER).await? {
        let Some(id) = path.split('/').nth(1) else { continue };
        let Some(bytes) = documents.get(&path).await? else { continue };
        match serde_json::from_slice(&bytes) {
            Ok(note) => notes.entry(id.to_owned()).or_default().push(note),
            Err(error) => tracing::warn!("_tessera/{path} is no note: {error}"),
        }
    }
    Ok(notes)
}

/// What was found on nights in a row, the newest first, with what people noted.
pub async fn list(context: &Context, as_json: bool) -> Result<()> {
    let tables = newest(context).await?;
    let query = "SELECT cause_id, kpi, coalesce('segment ' || CAST(segment_id AS VARCHAR), 'everybody') AS of, finding, \
                 array_to_string(dimensions, ', ') AS dimensions, CAST(since AS VARCHAR) AS since, CAST(\"until\" AS VARCHAR) AS \"until\", nights, \
                 contribution FROM cause_episodes ORDER BY \"until\" DESC, segment_id NULLS FIRST, abs(contribution) DESC, cause_id";
    let batches = tables.collect(query).await?;
    let notes = notes(context).await?;
    if as_json {
        return json(&batches, &notes);
    }
    let header = ["cause", "kpi", "of", "finding", "dimensions", "since", "until", "nights", "contribution"];
    println!("{}", show::table(&batches, &header)?);
    for (id, notes) in &notes {
        notes.iter().for_each(|note| println!("{id}  {}", note.told()));
    }
    Ok(())
}

fn json(batches: &[RecordBatch], notes: &BTreeMap<String, Vec<Note>>) -> Result<()> {
    let names = ["cause_id", "kpi", "of", "finding", "dimensions", "since", "until"];
    for batch in batches {
        let columns = (0..names.len()).map(|at| texts(batch, at)).collect::<Result<Vec<_>>>()?;
        let (nights, contributions) = (floats(batch, 7)?, floats(batch, 8)?);
        for row in 0..batch.num_rows() {
            let mut told: serde_json::Map<String, serde_json::Value> = names
                .iter()
                .zip(&columns)
                .map(|(name, column)| ((*name).to_owned(), column[row].clone().into()))
                .collect();
            told.insert("nights".into(), nights[row].into());
            told.insert("contribution".into(), contributions[row].into());
            let noted = columns[0][row].as_ref().and_then(|id| notes.get(id)).cloned().unwrap_or_default();
            told.insert("notes".into(), serde_json::to_value(noted)?);
            println!("{}", serde_json::Value::Object(told));
        }
    }
    Ok(())
}

impl Note {
    /// In a line, for people.
    pub fn told(&self) -> String {
        let day = self.at.split('T').next().unwrap_or_default();
        format!("{day}, {}: {}", show::printable(&self.by), show::printable(&self.note))
    }
}

/// The tables of the newest night.
pub async fn newest(context: &Context) -> Result<Tables> {
    let history = context.lake.registry().history().await?;
    let newest = history.newest().ok_or_else(|| Usage("no night is published yet".to_owned()))?;
    let tables = Tables::open(context, &Scope::Snapshot(newest.snapshot_id.clone()), false).await?;
    match tables.has_column("cause_episodes", "cause_id") {
        true => Ok(tables),
        false => Err(Usage("the newest night is of a program that gave causes no ids yet".to_owned()).into()),
    }
}

fn count(batches: &[RecordBatch]) -> Result<u64> {
    Ok(batches.first().map(|batch| floats(batch, 0)).transpose()?.and_then(|all| all[0]).map_or(0, |n| n as u64))
}
