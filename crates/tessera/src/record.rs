//! What the lake remembers of a run: a document for each stage that is done, and one for the run itself.
//!
//! A stage's document is named by a key: a hash of all that its result follows from (the stages before it, its own part of
//! the project file, the night). So a run that was stopped is found again, and a run whose project differs in a later part
//! finds what the earlier stages left.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use datafusion::arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};
use tessera_engine::fingerprint::Fingerprint;
use tessera_lake::{DataFile, Documents};
use tessera_stages::Availability;

/// Version of the documents' form.
const VERSION: u32 = 2;

/// What a finished stage left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    version: u32,
    /// The stage.
    pub stage: String,
    /// The run that did it.
    pub run: String,
    /// How long it took.
    pub seconds: f64,
    /// Its tables.
    pub tables: BTreeMap<String, Written>,
    /// What it keeps for itself on the next night.
    pub kept: BTreeMap<String, Kept>,
    /// What the sources give, if the stage reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
}

/// A table as a stage left it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Files of the night, relative to the lake.
    pub files: Vec<DataFile>,
    /// Files that the parent night left, as far as they stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stays: Vec<DataFile>,
    /// Whether the table is all that the parent night had, and what was added.
    #[serde(default)]
    pub goes_on: bool,
}

/// Rows that a stage keeps for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What they were made under.
    pub stamp: String,
    /// Their columns.
    pub schema: Schema,
    /// Their files, relative to the lake.
    pub files: Vec<DataFile>,
}

impl Written {
    /// All files of the table.
    pub fn all(&self) -> Vec<DataFile> {
        self.stays.iter().chain(&self.files).cloned().collect()
    }

    /// Content fingerprint of all rows.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        fingerprint(self.stays.iter().chain(&self.files))
    }
}

/// The content fingerprint of the rows of some files.
pub fn fingerprint<'a>(files: impl IntoIterator<Item = &'a DataFile>) -> Result<Fingerprint> {
    files.into_iter().try_fold(Fingerprint::default(), |sum, file| {
        let one: Fingerprint = file.fingerprint.parse().with_context(|| format!("{} has no fingerprint", file.path))?;
        Ok(sum + one)
    })
}

impl StageRecord {
    /// What a stage of a run left.
    pub fn new(stage: &str, run: &str, seconds: f64) -> Self {
        Self {
            version: VERSION,
            stage: stage.to_owned(),
            run: run.to_owned(),
            seconds,
            tables: BTreeMap::new(),
            kept: BTreeMap::new(),
            availability: None,
        }
    }

    /// The record at a place of the documents, if there is one.
    ///
    /// # Errors
    /// A [`tessera_lake::LakeError`] when the store cannot be asked; any other when what is there is no record.
    pub async fn read(documents: &Documents, path: &str) -> Result<Option<Self>> {
        let Some(bytes) = documents.get(path).await? else { return Ok(None) };
        Self::parse(&bytes).with_context(|| format!("the record {path}")).map(Some)
    }

    /// The record of these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            bail!("it is of version {version}, this program reads {VERSION}");
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        let tables = self.tables.values().flat_map(|t| t.stays.iter().chain(&t.files));
        tables.chain(self.kept.values().flat_map(|k| &k.files))
    }
}

/// The document of a run: under which keys its stages are recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run: String,
    /// The night.
    pub as_of: String,
    /// The snapshot that it goes on from.
    pub parent: Option<String>,
    /// By stage, the document.
    pub stages: BTreeMap<String, String>,
}

impl RunRecord {
    /// The path of a run's document.
    pub fn path(as_of: &str, run: &str) -> String {
        format!("runs/{as_of}/{run}.json")
    }

    /// The document of a run, if it ever began. A run's id begins with its night.
    pub async fn find(documents: &Documents, run: &str) -> Result<Option<Self>> {
        let as_of = run.get(..10).unwrap_or(run);
        let Some(bytes) = documents.get(&Self::path(as_of, run)).await? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("the record of the run {run}"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a release wrote, every later one of the same version reads.
    #[test]
    fn version_2() {
        let stored = r#"{"version":2,"stage":"ingest","run":"2026-01-01-0123456789ab","seconds":1.5,
            "tables":{"accounts":{"files":[{"path":"accounts/part-1.parquet","bytes":10,"rows":2,"sha256":"ab",
            "fingerprint":"00000000000000000000000000000003","as_of":null}],
            "stays":[{"path":"accounts/part-0.parquet","bytes":9,"rows":1,"sha256":"cd",
            "fingerprint":"00000000000000000000000000000004","as_of":null}],"goes_on":true}},
            "kept":{"waiting_transactions":{"stamp":"s","schema":{"fields":[{"name":"_locator","data_type":"Int64",
            "nullable":true,"dict_id":0,"dict_is_ordered":false,"metadata":{}}],"metadata":{}},"files":[]}},
            "availability":{"entities":{"transactions":{"columns":["order_id"],"rules":[{"name":"malformed",
            "severity":"quarantine"}]}}}}"#;
        let record = StageRecord::parse(stored.as_bytes()).expect("version 2");
        let accounts = &record.tables["accounts"];
        assert_eq!((accounts.all().len(), accounts.fingerprint().expect("two").0, accounts.goes_on), (2, 7, true));
        assert_eq!(record.kept["waiting_transactions"].schema.fields().len(), 1);
        assert_eq!(record.files().count(), 2);
        let again = serde_json::to_vec(&record).expect("JSON");
        assert_eq!(StageRecord::parse(&again).expect("its own"), record);
        let other = stored.replace("\"version\":2", "\"version\":3");
        assert!(StageRecord::parse(other.as_bytes()).is_err_and(|e| e.to_string().contains("version 3")));
    }
}
