//! The snapshot registry: the Delta table `snapshots` at the root of the lake, one row per run.
//!
//! The rows form a chain. Each carries the hash of the row before, and
//! `hash = sha256(previous_hash + "\n" + row)`, where `row` is the JSON object of all columns but the
//! two hashes, keys sorted, no white space, dates as `YYYY-MM-DD`, JSON columns as the text they are.
//! [`Registry::verify_chain`] finds rows that were changed, removed from the middle, or reordered.
//! What it cannot see is a tail that was cut off: keep the last hash elsewhere for that.
//!
//! Every append adds one small file, so that a night writes a few kilobytes however long the history
//! is. When 32 files have gathered, the next append puts all rows into one, in the same
//! commit: reading then costs tens of requests and not one per night, and the whole history is
//! rewritten once in about 32 nights.

use std::collections::{BTreeMap, BTreeSet};

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
use crate::{DataFile, Lake, LakeError, SnapshotContent, SnapshotRecord, SnapshotState};

/// Name of the table.
const TABLE: &str = "snapshots";

/// Files that may gather before an append puts all rows into one.
const COMPACT_AT: usize = 32;

/// The list of what was published and held.
#[derive(Clone, Debug)]
pub struct Registry {
    lake: Lake,
    compact_at: usize,
}

/// A place where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainFinding {
    /// A row (`row 3, snapshot 2026-11-01-…`) or a file of the registry.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl Registry {
    pub(crate) fn new(lake: Lake) -> Self {
        Self { lake, compact_at: COMPACT_AT }
    }

    /// Appends a finished run and returns the row that was stored. A run that is already there is
    /// returned as it stands; racing runs follow one another in the chain.
    pub async fn append(&self, content: &SnapshotContent) -> Result<SnapshotRecord, LakeError> {
        let shape = TableShape::new(TABLE, &rows::schema(), Partitioning::None)?;
        for attempt in 1..=ATTEMPTS {
            let current = self.lake.snapshot(TABLE, None).await?;
            let adds = self.files(current.as_ref())?;
            let mut stored = self.rows(&adds).await?;
            if let Some(row) = stored.iter().find(|row| row.text("run_id") == content.run_id) {
                return row.record();
            }
            let (sequence, previous_hash) =
                stored.last().map_or((0, NO_HASH), |last| (last.sequence + 1, last.text("hash")));
            let row = Row::new(content, sequence, previous_hash)?;
            stored.push(row.clone());

            let compact = adds.len() >= self.compact_at;
            let written = if compact { stored.as_slice() } else { std::slice::from_ref(&row) };
            let add = self.write(written).await?;
            let written_at = add.modification_time;
            let mut actions = shape.actions(&self.lake, current.as_ref(), written_at)?;
            if compact {
                actions.extend(adds.into_iter().map(|add| remove(add, Some(written_at))));
            }
            actions.push(Action::Add(add));
            let committed = self.lake.commit_once(TABLE, current.as_ref(), &shape, actions, &content.run_id).await?;
            if committed.is_some() {
                return row.record();
            }
            back_off(attempt).await;
        }
        Err(LakeError::Contended { table: TABLE.to_owned(), attempts: ATTEMPTS })
    }

    /// All rows, oldest first.
    pub async fn list(&self) -> Result<Vec<SnapshotRecord>, LakeError> {
        let current = self.lake.snapshot(TABLE, None).await?;
        let rows = self.rows(&self.files(current.as_ref())?).await?;
        rows.iter().map(Row::record).collect()
    }

    /// The snapshot of this id.
    pub async fn get(&self, snapshot_id: &str) -> Result<Option<SnapshotRecord>, LakeError> {
        let records = self.list().await?;
        Ok(records.into_iter().find(|r| r.snapshot_id == snapshot_id))
    }

    /// What is current for a night, or at all: the row published last for that night, and without
    /// one, for the newest night that was published. A held run never changes it, publishing an older night again doesn't
    /// turn back what is current at all, and what was retracted isn't current.
    pub async fn latest_published(&self, as_of: Option<&str>) -> Result<Option<SnapshotRecord>, LakeError> {
        let mut current = current(self.list().await?).into_iter();
        Ok(current.rfind(|r| as_of.is_none_or(|night| r.content.as_of == night)))
    }

    /// The snapshot that a night goes on from: what is current for the newest night before it.
    pub async fn parent(&self, as_of: &str) -> Result<Option<SnapshotRecord>, LakeError> {
        let mut current = current(self.list().await?).into_iter();
        Ok(current.rfind(|r| r.content.as_of.as_str() < as_of))
    }

    /// Recomputes the chain from the stored bytes; empty when everything holds.
    ///
    /// # Errors
    /// Only when the Delta log or the store cannot be read: what is wrong in the rows is a finding.
    pub async fn verify_chain(&self) -> Result<Vec<ChainFinding>, LakeError> {
        let current = self.lake.snapshot(TABLE, None).await?;
        let mut findings = Vec::new();
        let mut stored = Vec::new();
        for add in self.files(current.as_ref())? {
            let place = place(&add);
            let mut find = |problem: String| {
                findings.push(ChainFinding { place: place.clone(), problem });
            };
            let Some(bytes) = self.read(&add).await? else {
                find("the file is missing".into());
                continue;
            };
            if Some(hex::encode(Sha256::digest(&bytes)).as_str()) != sha256(&add) {
                find("its bytes are not those that were committed".into());
            }
            match rows::decode(&place, bytes) {
                Ok(rows) => stored.extend(rows),
                Err(e) => find(e.to_string()),
            }
        }
        stored.sort_by_key(|row| row.sequence);
        findings.extend(check_chain(&stored));
        Ok(findings)
    }

    fn files(&self, current: Option<&EagerSnapshot>) -> Result<Vec<Add>, LakeError> {
        let mut adds = match current {
            Some(current) => self.lake.adds(TABLE, current)?,
            None => Vec::new(),
        };
        adds.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(adds)
    }

    /// The rows of the files, in the order of the chain.
    async fn rows(&self, adds: &[Add]) -> Result<Vec<Row>, LakeError> {
        let parts = adds.iter().map(|add| self.rows_of(add)).collect();
        let parts: Vec<Vec<Row>> = concurrently(parts).await?;
        let by_sequence: BTreeMap<i64, Row> = parts.into_iter().flatten().map(|row| (row.sequence, row)).collect();
        Ok(by_sequence.into_values().collect())
    }

    async fn rows_of(&self, add: &Add) -> Result<Vec<Row>, LakeError> {
        let bytes = self
            .read(add)
            .await?
            .ok_or_else(|| LakeError::Registry { place: place(add), problem: "the file is missing".into() })?;
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

/// What is current for each night that was published, by night: the last row of it that wasn't taken back.
pub fn current(records: Vec<SnapshotRecord>) -> Vec<SnapshotRecord> {
    let retracted: BTreeSet<String> = records
        .iter()
        .filter(|r| r.content.state == SnapshotState::Retracted)
        .map(|r| r.content.parent.clone())
        .collect();
    let mut nights: BTreeMap<String, SnapshotRecord> = BTreeMap::new();
    for record in records {
        if record.content.state == SnapshotState::Published && !retracted.contains(&record.snapshot_id) {
            nights.insert(record.content.as_of.clone(), record);
        }
    }
    nights.into_values().collect()
}

fn place(add: &Add) -> String {
    format!("{TABLE}/{}", add.path)
}

fn sha256(add: &Add) -> Option<&str> {
    add.tags.as_ref()?.get(SHA256_TAG)?.as_deref()
}

/// `rows` are in the order of their sequence.
fn check_chain(rows: &[Row]) -> Vec<ChainFinding> {
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
        findings.extend(problems.into_iter().map(|problem| ChainFinding { place: place.clone(), problem }));
        previous = row.text("hash");
        expected = row.sequence + 1;
    }
    findings
}

#[cfg(test)]
mod tests;
