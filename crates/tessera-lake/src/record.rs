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
}

impl SnapshotState {
    /// As it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Held => "held",
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
    /// Published or held.
    pub state: SnapshotState,
    /// What the run left, by table.
    pub tables: BTreeMap<String, TableRecord>,
    /// The source files that were read.
    pub inputs: Vec<InputRecord>,
    /// Hash of the project file and the definitions in force.
    pub project_hash: String,
    /// Version of the program.
    pub code_version: String,
    /// Seed of everything random.
    pub seed: i64,
    /// Every gate that was asked.
    pub gates: Vec<GateRecord>,
    /// When, as the caller's clock says; the only field that a repeated run may change.
    pub published_at: String,
}

/// One table of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Version of the Delta table that holds this night.
    pub version: i64,
    /// Order-independent hash of the night's rows, 32 hex digits.
    pub fingerprint: String,
    /// Rows of the night.
    pub rows: u64,
    /// The night's files.
    pub files: Vec<FileRecord>,
}

/// One data file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Relative to the root of the lake.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// SHA-256 of the file, in lower-case hex.
    pub sha256: String,
}

/// One source file that a run read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Which entity it belongs to: `transactions`, ….
    pub entity: String,
    /// URL or path of the file.
    pub path: String,
    /// The store's version mark of the file, where it has one.
    pub etag: Option<String>,
    /// Size of the file.
    pub bytes: u64,
    /// Rows read from it.
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
}

/// A row of the registry: the content, and its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The night and the first 12 hex digits of the content's SHA-256, `2026-11-01-1a2b3c4d5e6f`.
    /// The content is everything but `published_at` and the place in the chain, so that the id
    /// follows from what the run did and not from when it did it.
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

impl From<&crate::DataFile> for FileRecord {
    fn from(file: &crate::DataFile) -> Self {
        Self { path: file.path.clone(), bytes: file.bytes, rows: file.rows, sha256: file.sha256.clone() }
    }
}
