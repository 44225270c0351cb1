//! Reading a table: its latest version, and the files of any version.

use arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{Add, EagerSnapshot, Snapshot};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Lake, LakeError};

/// The partition column of every table of the pipeline: the night, a date.
pub const AS_OF: &str = "as_of";

/// The tag of an add action that holds the file's checksum.
pub(crate) const SHA256_TAG: &str = "sha256";
/// The tag that holds the content fingerprint of its rows.
pub(crate) const FINGERPRINT_TAG: &str = "fingerprint";

/// A Parquet file of a table. It does not hold the `as_of` column; the log does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Relative to the root of the lake: `features/as_of=2026-11-01/part-….parquet`.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// SHA-256 of the file, in lower-case hex; empty for a file that another Delta writer added.
    pub sha256: String,
    /// Content fingerprint of its rows, 32 hex digits; empty for a file that another Delta writer added.
    #[serde(default)]
    pub fingerprint: String,
    /// The night, `YYYY-MM-DD`; none in a table that has no nights.
    pub as_of: Option<String>,
}

/// SHA-256 over a list of files, hex: path, bytes, rows, SHA-256 and fingerprint of each, by tabs, a line each in the order
/// of their paths. It binds a snapshot to its files without naming them.
pub fn digest(files: &[DataFile]) -> String {
    let mut sorted: Vec<&DataFile> = files.iter().collect();
    sorted.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut hash = Sha256::new();
    for f in sorted {
        hash.update(format!("{}\t{}\t{}\t{}\t{}\n", f.path, f.bytes, f.rows, f.sha256, f.fingerprint));
    }
    hex::encode(hash.finalize())
}

/// What a version of a table consists of.
#[derive(Clone, Debug)]
pub struct TableFiles {
    /// The version that was read.
    pub version: i64,
    /// All columns in the table's order, `as_of` first; comments are in the fields' metadata.
    pub schema: SchemaRef,
    /// The active files, by path.
    pub files: Vec<DataFile>,
}

impl Lake {
    /// The latest version of a table; none when there is no such table.
    pub async fn version(&self, table: &str) -> Result<Option<i64>, LakeError> {
        let log = self.log_store(table)?;
        if !self.has_log(table).await? {
            return Ok(None);
        }
        match Snapshot::try_new(log.as_ref(), None).await {
            Ok(snapshot) => Ok(Some(snapshot.version().cast_signed())),
            Err(DeltaTableError::NotATable(_)) => Ok(None),
            Err(source) => Err(self.delta_error("read", table, source)),
        }
    }

    /// The schema and files of a version of a table (the latest if none is given), of one night or
    /// of all of them.
    pub async fn files(&self, table: &str, version: Option<i64>, as_of: Option<&str>) -> Result<TableFiles, LakeError> {
        let snapshot = self
            .snapshot(table, version)
            .await?
            .ok_or_else(|| LakeError::NoTable { table: table.to_owned(), url: self.url().to_string() })?;
        let mut files = self
            .adds(table, &snapshot)?
            .into_iter()
            .filter(|add| as_of.is_none() || night(add) == as_of)
            .map(|add| data_file(table, add))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(TableFiles { version: snapshot.version().cast_signed(), schema: snapshot.arrow_schema(), files })
    }

    /// The state of a table at a version, the latest if none is given; none when there is no table.
    pub(crate) async fn snapshot(&self, table: &str, version: Option<i64>) -> Result<Option<EagerSnapshot>, LakeError> {
        let log = self.log_store(table)?;
        // Of a log that isn't there, the Delta library gives an error of no use, and logs it.
        if !self.has_log(table).await? {
            return Ok(None);
        }
        match EagerSnapshot::try_new(log.as_ref(), version.map(i64::cast_unsigned)).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(DeltaTableError::NotATable(_)) => Ok(None),
            Err(source) => {
                let action = match version {
                    Some(version) => format!("read version {version} of"),
                    None => "read".to_owned(),
                };
                Err(self.delta_error(&action, table, source))
            }
        }
    }

    /// The active files as they stand in the log.
    pub(crate) fn adds(&self, table: &str, snapshot: &EagerSnapshot) -> Result<Vec<Add>, LakeError> {
        let files = snapshot.try_log_data().map_err(|source| self.delta_error("read", table, source))?;
        #[expect(deprecated, reason = "the tags of a file are not reachable in any other way")]
        let adds = files.iter().map(|file| file.add_action()).collect();
        Ok(adds)
    }

    pub(crate) fn delta_error(&self, action: &str, table: &str, source: DeltaTableError) -> LakeError {
        LakeError::Delta {
            action: action.to_owned(),
            table: table.to_owned(),
            url: self.place(table).to_string(),
            source: Box::new(source),
        }
    }
}

/// The night a file belongs to.
pub(crate) fn night(add: &Add) -> Option<&str> {
    add.partition_values.get(AS_OF)?.as_deref()
}

fn data_file(table: &str, add: Add) -> Result<DataFile, LakeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stats {
        num_records: u64,
    }
    let path = format!("{table}/{}", add.path);
    let refuse = |problem: &str| LakeError::File { path: path.clone(), problem: problem.to_owned() };
    if add.deletion_vector.is_some() {
        return Err(refuse("another writer marked rows in it as deleted, which is not supported"));
    }
    let stats: Stats = add
        .stats
        .as_deref()
        .and_then(|stats| serde_json::from_str(stats).ok())
        .ok_or_else(|| refuse("the log does not say how many rows it has"))?;
    let bytes = u64::try_from(add.size).map_err(|_| refuse("its size in the log is negative"))?;
    let as_of = night(&add).map(str::to_owned);
    let mut tags = add.tags.unwrap_or_default();
    let mut tag = |name| tags.remove(name).flatten().unwrap_or_default();
    let (sha256, fingerprint) = (tag(SHA256_TAG), tag(FINGERPRINT_TAG));
    Ok(DataFile { path, bytes, rows: stats.num_records, sha256, fingerprint, as_of })
}
