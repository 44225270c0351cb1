//! What the registry keeps of a run: which versions of which tables it left, from which inputs, under
//! which definitions, and what the gates said.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotState {
    /// The tables it names are the night's.
    Published,
    /// A gate said no: kept for inspection, nothing was replaced.
    Held,
    /// Takes a published snapshot back, which from then on is nobody's current one and no parent.
    Retracted,
    /// Says that a snapshot is no longer retained: as if taken back, and its files may go.
    Expired,
}

impl SnapshotState {
    /// As it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Held => "held",
            Self::Retracted => "retracted",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for SnapshotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A finished run, as its runner describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotContent {
    /// The run; a run has one row.
    pub run_id: String,
    /// The night, `YYYY-MM-DD`.
    pub as_of: String,
    /// Published, held, retracted or expired.
    pub state: SnapshotState,
    /// The snapshot that the night went on from; empty for the first. Of a retraction or an expiry: the snapshot meant.
    pub parent: String,
    /// What the run left, by table.
    pub tables: BTreeMap<String, TableRecord>,
    /// The record of each stage, by its name: a document of the lake.
    pub stages: BTreeMap<String, String>,
    /// The source files that the night knows, by entity.
    pub inputs: Vec<InputRecord>,
    /// Hash over the state of those files: URL, size, entity tag.
    pub sources: String,
    /// Hash of the project file and the definitions in force.
    pub project_hash: String,
    /// The document that holds the resolved project, named by the hash of its text.
    pub project: String,
    /// Version of the program.
    pub code_version: String,
    /// The commit that the program was built from, where that is known.
    pub code_commit: String,
    /// Identity of the secret under which keys were made: it tells one secret from another, and gives nothing of it away.
    pub secret: String,
    /// Seed of everything random.
    pub seed: i64,
    /// Every gate that was asked.
    pub gates: Vec<GateRecord>,
    /// SHA-256 of files that say more than the columns do, by their path in the lake: the tables' Delta commits, the
    /// documents of the run and its stages, the registry's own commit before; a repeated run may change it.
    pub evidence: BTreeMap<String, String>,
    /// Why, where somebody had to say it: a retraction, an expiry.
    pub why: String,
    /// Who ran it and where, `user@host`; a repeated run may change it.
    pub recorded_by: String,
    /// When, as the caller's clock says; a repeated run may change it.
    pub published_at: String,
}

/// One table of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Version of the Delta table that holds this night; none for a run that was held.
    pub version: Option<i64>,
    /// Order-independent hash of the rows, 32 hex digits.
    pub fingerprint: String,
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The list of the files, see [`crate::digest`].
    pub digest: String,
}

impl TableRecord {
    /// What is said of a list of files.
    pub fn new(version: Option<i64>, fingerprint: String, files: &[crate::DataFile]) -> Self {
        Self {
            version,
            fingerprint,
            rows: files.iter().map(|f| f.rows).sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|f| f.bytes).sum(),
            digest: crate::digest(files),
        }
    }
}

/// The source files of an entity. The files themselves stand in the table `inputs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// `transactions`, ….
    pub entity: String,
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
}

/// What one gate said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateRecord {
    /// What was measured.
    pub metric: String,
    /// On what: the whole table, a segment, ….
    pub scope: String,
    /// The value; none where it could not be measured.
    pub value: Option<f64>,
    /// The limit; none where the gate has no number.
    pub threshold: Option<f64>,
    /// The verdict, in the words of the validation stage.
    pub state: String,
    /// Whether failing holds the run.
    pub required: bool,
    /// The finding in a sentence, where it says more than the numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub told: String,
}

/// A row of the registry: the content, and its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The night and the first 12 hex digits of the content's SHA-256, `2026-11-01-1a2b3c4d5e6f`.
    /// The content is everything but `published_at`, `recorded_by`, `evidence` and the place in the chain, so that the
    /// id follows from what the run did and not from who did it when.
    pub snapshot_id: String,
    /// Place in the chain, from 0 without gaps.
    pub sequence: i64,
    /// What the runner said.
    #[serde(flatten)]
    pub content: SnapshotContent,
    /// Hash of the row before, 64 zeros for the first.
    pub previous_hash: String,
    /// SHA-256 over the previous hash, a line feed, and the row as canonical JSON, see
    /// [`crate::Registry`].
    pub hash: String,
}
