//! The snapshot registry: the Delta table `snapshots` at the root of the lake, one row per run.
//!
//! The rows form a chain. Each carries the hash of the row before, and
//! `hash = sha256(previous_hash + "\n" + row)`, where `row` is the JSON object of all columns but the
//! two hashes, keys sorted, no white space, dates as `YYYY-MM-DD`, JSON columns as the text they are.
//! [`Registry::verify_chain`] finds rows that were changed, removed from the middle, or reordered.
//! What it cannot see is a tail that was cut off: keep the last hash elsewhere for that. Each row also names the SHA-256 of
//! the table's commit before it, and of a checkpoint that was made of it, so that of the Delta log all but the newest commit is proven
//! as it was written; of the newest one, the rows that it leads to are proven.
//!
//! Every append adds one small file, so that a night writes a few kilobytes however long the history
//! is. When 32 files have gathered, the next append puts all rows into one, in the same
//! commit: reading then costs tens of requests and not one per night, and the whole history is
//! rewritten once in about 32 nights.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use deltalake_core::kernel::{Action, Add, EagerSnapshot};
use object_store::ObjectStoreExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::commit::{ATTEMPTS, back_off, remove};
use crate::lake::concurrently;
use crate::rows::{self, NO_HASH, Row};
use crate::schema::{Partitioning, TableShape};
use crate::table::SHA256_TAG;
use crate::verify::log_paths;
use crate::{DataFile, History, Lake, LakeError, SnapshotContent, SnapshotRecord};

/// Name of the table.
pub(crate) const TABLE: &str = "snapshots";

/// Files that may gather before an append puts all rows into one.
const COMPACT_AT: usize = 32;

/// The list of what was published and held.
#[derive(Clone, Debug)]
pub struct Registry {
    lake: Lake,
    compact_at: usize,
}

/// A place where something is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A row of the registry (`row 3, snapshot 2026-11-01-…`) or a file.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl Registry {
    pub(crate) fn new(lake: Lake) -> Self {
        Self { lake, compact_at: COMPACT_AT }
    }

    /// Appends a finished run and returns the row that was stored. A run that is already there is
    /// returned as it stands; racing runs follow one another in the chain.
    pub async fn append(&self, content: &SnapshotContent) -> Result<SnapshotRecord, LakeError> {
        let stored = self.append_all(std::slice::from_ref(content)).await?;
        stored.into_iter().next().ok_or_else(|| LakeError::Registry {
            place: content.run_id.clone(),
            problem: "the row is not among those that were stored".into(),
        })
    }

    /// The same for several, in one commit.
    pub async fn append_all(&self, contents: &[SnapshotContent]) -> Result<Vec<SnapshotRecord>, LakeError> {
        let shape = TableShape::new(TABLE, &rows::schema(), Partitioning::None)?;
        for attempt in 1..=ATTEMPTS {
            let current = self.lake.snapshot(TABLE, None).await?;
            let adds = self.files(current.as_ref())?;
            let mut stored = self.rows(&adds).await?;
            let before = stored.len();
            let own = match &current {
                Some(current) => self.lake.evidence(log_paths(TABLE, [current.version().cast_signed()])).await?,
                None => BTreeMap::new(),
            };
            for content in contents {
                if stored.iter().any(|row| row.text("run_id") == content.run_id) {
                    continue;
                }
                let last = stored.last();
                let (sequence, hash) = last.map_or((0, NO_HASH), |last| (last.sequence + 1, last.text("hash")));
                let mut content = content.clone();
                content.evidence.extend(own.clone());
                stored.push(Row::new(&content, sequence, hash)?);
            }
            let answer = |stored: &[Row]| {
                let asked = |row: &&Row| contents.iter().any(|c| c.run_id == row.text("run_id"));
                stored.iter().filter(asked).map(Row::record).collect()
            };
            if stored.len() == before {
                return answer(&stored);
            }

            let compact = adds.len() >= self.compact_at;
            let add = self.write(if compact { &stored } else { &stored[before..] }).await?;
            let written_at = add.modification_time;
            let mut actions = shape.actions(&self.lake, current.as_ref(), written_at)?;
            if compact {
                actions.extend(adds.into_iter().map(remove));
            }
            actions.push(Action::Add(add));
            let run_id = stored[before].text("run_id");
            if self.lake.commit_once(TABLE, current.as_ref(), &shape, actions, run_id).await?.is_some() {
                return answer(&stored);
            }
            back_off(attempt).await;
        }
        Err(LakeError::Contended { table: TABLE.to_owned(), attempts: ATTEMPTS })
    }

    /// All rows.
    ///
    /// # Errors
    /// Where the chain does not hold, nothing follows from the rows.
    pub async fn history(&self) -> Result<History, LakeError> {
        let current = self.lake.snapshot(TABLE, None).await?;
        let rows = self.rows(&self.files(current.as_ref())?).await?;
        Ok(History::new(rows.iter().map(Row::record).collect::<Result<_, _>>()?))
    }

    /// Recomputes the chain from the stored bytes: what does not hold, and the rows that can be read, whether they do or not.
    ///
    /// # Errors
    /// Only when the Delta log or the store cannot be read: what is wrong in the rows is a finding.
    pub async fn verify_chain(&self) -> Result<(Vec<Finding>, History), LakeError> {
        let current = self.lake.snapshot(TABLE, None).await?;
        let mut findings = Vec::new();
        let mut stored = Vec::new();
        for add in self.files(current.as_ref())? {
            let place = place(&add);
            let mut find = |problem: String| {
                findings.push(Finding { place: place.clone(), problem });
            };
            let Some(bytes) = self.read(&add).await? else {
                find("the file is missing".into());
                continue;
            };
            unlike(&add, &bytes).map(&mut find);
            if usize::try_from(add.size) != Ok(bytes.len()) {
                find(format!("it has {} bytes, the Delta log says {}", bytes.len(), add.size));
            }
            match rows::decode(&place, bytes) {
                Ok(rows) => stored.extend(rows),
                Err(e) => find(e.to_string()),
            }
        }
        stored.sort_by_key(|row| row.sequence);
        findings.extend(check_chain(&stored));
        let history = History::new(stored.iter().filter_map(|row| row.record().ok()).collect());
        findings.extend(self.lake.verify_log(TABLE, &history.evidence()).await?);
        Ok((findings, history))
    }

    fn files(&self, current: Option<&EagerSnapshot>) -> Result<Vec<Add>, LakeError> {
        let mut adds = match current {
            Some(current) => self.lake.adds(TABLE, current)?,
            None => Vec::new(),
        };
        adds.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(adds)
    }

    /// The rows of the files, in the order of the chain, which holds.
    async fn rows(&self, adds: &[Add]) -> Result<Vec<Row>, LakeError> {
        let parts = adds.iter().map(|add| self.rows_of(add)).collect();
        let mut rows: Vec<Row> = concurrently(parts).await?.into_iter().flatten().collect();
        rows.sort_by_key(|row| row.sequence);
        match check_chain(&rows).into_iter().next() {
            Some(Finding { place, problem }) => Err(LakeError::Registry { place, problem }),
            None => Ok(rows),
        }
    }

    async fn rows_of(&self, add: &Add) -> Result<Vec<Row>, LakeError> {
        let bytes = self
            .read(add)
            .await?
            .ok_or_else(|| LakeError::Registry { place: place(add), problem: "the file is missing".into() })?;
        if let Some(problem) = unlike(add, &bytes) {
            return Err(LakeError::Registry { place: place(add), problem });
        }
        rows::decode(&place(add), bytes)
    }

    async fn read(&self, add: &Add) -> Result<Option<Bytes>, LakeError> {
        let path = place(add);
        let store = self.lake.store();
        let read = async { store.get(&self.lake.path(&path)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.lake.store_error("read", &path, source)),
        }
    }

    /// Writes a file of rows. Its name follows from the last row's hash and the number of rows, so
    /// that a repeated attempt writes the same bytes to the same place.
    async fn write(&self, rows: &[Row]) -> Result<Add, LakeError> {
        let bytes = rows::encode(rows)?;
        let (sequence, hash) = rows.last().map_or((0, NO_HASH), |last| (last.sequence, last.text("hash")));
        let path = format!("{TABLE}/part-{sequence:08}-{}-{}.parquet", rows.len(), &hash[..12]);
        let file = DataFile {
            path: path.clone(),
            bytes: bytes.len() as u64,
            rows: rows.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
            fingerprint: String::new(),
            as_of: None,
        };
        self.lake
            .store()
            .put(&self.lake.path(&path), bytes.into())
            .await
            .map_err(|source| self.lake.store_error("write", &path, source))?;
        self.lake.add_action(TABLE, None, &file).await
    }
}

fn place(add: &Add) -> String {
    format!("{TABLE}/{}", add.path)
}

/// What is wrong with the bytes of a file, if they are not those that were committed.
fn unlike(add: &Add, bytes: &[u8]) -> Option<String> {
    let expected = add.tags.as_ref().and_then(|tags| tags.get(SHA256_TAG)?.as_deref());
    (expected != Some(hex::encode(Sha256::digest(bytes)).as_str()))
        .then(|| "its bytes are not those that were committed".to_owned())
}

/// `rows` are in the order of their sequence.
fn check_chain(rows: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut previous = NO_HASH;
    let mut expected = 0;
    for row in rows {
        let mut problems = Vec::new();
        if row.sequence != expected {
            problems.push(format!("expected row {expected} at this place"));
        }
        if row.text("previous_hash") != previous {
            problems.push("it does not continue the row before".into());
        }
        if row.text("hash") != row.expected_hash() {
            problems.push("its content does not match its hash".into());
        }
        if row.text("snapshot_id") != row.expected_id() {
            problems.push("its content does not match its id".into());
        }
        if let Err(e) = row.record() {
            problems.push(e.to_string());
        }
        let place = format!("row {}, snapshot {}", row.sequence, row.text("snapshot_id"));
        findings.extend(problems.into_iter().map(|problem| Finding { place: place.clone(), problem }));
        previous = row.text("hash");
        expected = row.sequence + 1;
    }
    findings
}

#[cfg(test)]
mod tests;
