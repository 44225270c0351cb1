//! Checksums of files in the lake, and whether a snapshot's files still are what was published.

use std::fmt;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::lake::concurrently;
use crate::{FileRecord, Lake, LakeError, SnapshotRecord};

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

    /// Reads every file that a snapshot names and compares size and hash; empty when all hold.
    ///
    /// # Errors
    /// Only when the store cannot be read; a missing file is a finding.
    pub async fn verify_files(&self, snapshot: &SnapshotRecord) -> Result<Vec<FileFinding>, LakeError> {
        let tables = snapshot.content.tables.values();
        let files = tables.flat_map(|table| &table.files).map(|file| self.verify_file(file)).collect();
        let mut findings: Vec<FileFinding> = concurrently(files).await?.into_iter().flatten().collect();
        findings.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(findings)
    }

    async fn verify_file(&self, file: &FileRecord) -> Result<Option<FileFinding>, LakeError> {
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
