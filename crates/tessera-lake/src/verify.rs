//! Checksums of files in the lake, and whether a snapshot's files still are what was published.

use std::collections::BTreeMap;
use std::fmt;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::lake::concurrently;
use crate::schema::is_checkpointed;
use crate::{DataFile, Lake, LakeError, SnapshotRecord, TableFiles, digest};

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in lower-case hex.
    pub sha256: String,
}

/// A file that is not what the snapshot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFinding {
    /// Relative to the root of the lake.
    pub path: String,
    /// What is wrong with it.
    pub problem: FileProblem,
}

/// What can be wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileProblem {
    /// It is gone.
    Missing,
    /// It has another size.
    Size {
        /// Bytes when it was published.
        expected: u64,
        /// Bytes now.
        found: u64,
    },
    /// It has another content.
    Checksum {
        /// SHA-256 when it was published.
        expected: String,
        /// SHA-256 now.
        found: String,
    },
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "missing"),
            Self::Size { expected, found } => write!(f, "{found} bytes instead of {expected}"),
            Self::Checksum { expected, found } => write!(f, "sha256 {found} instead of {expected}"),
        }
    }
}

/// The commit that made a version of a table.
pub(crate) fn commit_path(table: &str, version: i64) -> String {
    format!("{table}/_delta_log/{version:020}.json")
}

/// The files that making versions of a table leaves in its log: commits and, now and then, a checkpoint.
pub fn log_paths(table: &str, versions: impl IntoIterator<Item = i64>) -> Vec<String> {
    let made = |version: i64| {
        let checkpoint =
            is_checkpointed(version).then(|| format!("{table}/_delta_log/{version:020}.checkpoint.parquet"));
        [Some(commit_path(table, version)), checkpoint].into_iter().flatten()
    };
    versions.into_iter().flat_map(made).collect()
}

impl Lake {
    /// Reads a file and gives its size and hash; none when there is no such file.
    pub async fn checksum(&self, path: &str) -> Result<Option<Checksum>, LakeError> {
        let error = |source| self.store_error("read", path, source);
        let mut stream = match self.store().get(&self.path(path)).await {
            Ok(found) => found.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        let mut hasher = Sha256::new();
        let mut bytes = 0;
        while let Some(chunk) = stream.try_next().await.map_err(error)? {
            hasher.update(&chunk);
            bytes += chunk.len() as u64;
        }
        Ok(Some(Checksum { bytes, sha256: hex::encode(hasher.finalize()) }))
    }

    /// Reads files and compares size and hash; empty when all hold.
    ///
    /// # Errors
    /// Only when the store cannot be read; a missing file is a finding.
    pub async fn verify_files(&self, files: &[DataFile]) -> Result<Vec<FileFinding>, LakeError> {
        let files = files.iter().map(|file| self.verify_file(file)).collect();
        let mut findings: Vec<FileFinding> = concurrently(files).await?.into_iter().flatten().collect();
        findings.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(findings)
    }

    /// The files of a table of a published snapshot, as its Delta log has them.
    ///
    /// # Errors
    /// [`LakeError::Log`] when the log says something else than what was published.
    pub async fn files_of(
        &self,
        snapshot: &SnapshotRecord,
        name: &str,
        by_night: bool,
    ) -> Result<TableFiles, LakeError> {
        let refuse = |problem: String| LakeError::Log {
            table: name.to_owned(),
            snapshot: snapshot.snapshot_id.clone(),
            problem,
        };
        let record =
            snapshot.content.tables.get(name).ok_or_else(|| refuse("the snapshot has no such table".into()))?;
        let version = record.version.ok_or_else(|| refuse("the snapshot was held, and nothing committed".into()))?;
        let night = by_night.then_some(snapshot.content.as_of.as_str());
        let table = self.files(name, Some(version), night).await?;
        if digest(&table.files) != record.digest {
            let (files, rows) = (table.files.len(), table.files.iter().map(|f| f.rows).sum::<u64>());
            return Err(refuse(format!(
                "version {version} has {files} files of {rows} rows, published were {} files of {} rows with another digest",
                record.files, record.rows
            )));
        }
        // Of what a commit says beside the files, readers believe more: which of them they may skip.
        let commit = commit_path(name, version);
        if let Some(expected) = snapshot.content.evidence.get(&commit)
            && let Some(problem) = self.changed(&commit, expected).await?
        {
            return Err(refuse(format!("{commit} {problem}")));
        }
        Ok(table)
    }

    /// SHA-256 of some files that exist, by path.
    pub async fn evidence(&self, paths: Vec<String>) -> Result<BTreeMap<String, String>, LakeError> {
        let one = |path: String| async move { Ok(self.checksum(&path).await?.map(|found| (path, found.sha256))) };
        Ok(concurrently(paths.into_iter().map(one).collect()).await?.into_iter().flatten().collect())
    }

    /// What is wrong with a file that a row of the registry gives as evidence. A commit may be gone: where a checkpoint holds
    /// what it said, it need not stay, and where none does, the log cannot be read.
    pub async fn changed(&self, path: &str, sha256: &str) -> Result<Option<&'static str>, LakeError> {
        Ok(match self.checksum(path).await? {
            Some(found) if found.sha256 == sha256 => None,
            Some(_) => Some("is another one than was written"),
            None if path.contains("/_delta_log/") => None,
            None => Some("is missing"),
        })
    }

    async fn verify_file(&self, file: &DataFile) -> Result<Option<FileFinding>, LakeError> {
        let problem = match self.checksum(&file.path).await? {
            None => FileProblem::Missing,
            Some(found) if found.bytes != file.bytes => FileProblem::Size { expected: file.bytes, found: found.bytes },
            Some(found) if found.sha256 != file.sha256 => {
                FileProblem::Checksum { expected: file.sha256.clone(), found: found.sha256 }
            }
            Some(_) => return Ok(None),
        };
        Ok(Some(FileFinding { path: file.path.clone(), problem }))
    }
}
