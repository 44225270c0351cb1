//! Making written files visible: one atomic Delta commit replaces one night of one table.
//!
//! A commit is planned against the latest version and written as the next one with a conditional
//! create. If another writer was faster, everything is planned again on what it left; whoever loses
//! a race therefore never mixes files with the winner. The run is recorded in the same commit, as a
//! Delta application transaction whose version is the table version it made: a run that commits
//! again is told that version and changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use arrow::array::types::Date32Type;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake_core::kernel::{Action, Add, EagerSnapshot, Remove, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::ObjectStoreExt;
use serde_json::json;

use crate::lake::concurrently;
use crate::schema::{Partitioning, TableShape, is_checkpointed};
use crate::table::{FINGERPRINT_TAG, SHA256_TAG, night};
use crate::verify::commit_path;
use crate::{AS_OF, DataFile, Lake, LakeError};

/// Of two writers that meet, one always gets through, so that this bounds how many may meet.
pub(crate) const ATTEMPTS: u32 = 64;

/// The version that holds a change.
enum Made {
    Now(i64),
    Before(i64),
}

/// What a commit does to the active files.
enum Change<'a> {
    /// Puts files in the place of those of a night, or of all.
    Replace { as_of: Option<&'a str>, files: &'a [DataFile] },
    /// Takes nights out.
    Drop(&'a BTreeSet<String>),
}

impl Lake {
    /// Replaces the night `as_of` of `table` with `files` (without a night: the whole table), creates the table if there is
    /// none, and returns the version that this made. Files that exist but were never committed stay invisible.
    ///
    /// - `schema`: all columns; of a table by night, `as_of` (Date32) first. `comment` in a field's metadata becomes the
    ///   column's comment, `description` in the schema's metadata the table's. New columns are added
    ///   to the table, see [`crate::LakeError::Column`] for what is refused.
    /// - `files`: lie below `<table>/` and hold every column but `as_of`; none empties the night or the table. Those that
    ///   are active already stay as they are.
    /// - `run_id`: committing the same files again under the same id returns the version that the first
    ///   commit made, and changes nothing.
    pub async fn commit(
        &self,
        table: &str,
        schema: &SchemaRef,
        as_of: Option<&str>,
        files: &[DataFile],
        run_id: &str,
    ) -> Result<i64, LakeError> {
        as_of.map(parse_date).transpose()?;
        let partitioning = if as_of.is_some() { Partitioning::AsOf } else { Partitioning::None };
        let shape = TableShape::new(table, schema, partitioning)?;
        let change = Change::Replace { as_of, files };
        // A run that was stopped between two tables and done again has other files: that is another commit.
        let digest = crate::digest(files);
        let mut id = format!("{run_id} {}", &digest[..16]);
        loop {
            let none = || LakeError::NoTable { table: table.to_owned(), url: self.url().to_string() };
            let made = self.change(table, &shape, &change, &id).await?.ok_or_else(none)?;
            match made {
                Made::Now(version) => return Ok(version),
                Made::Before(version) => {
                    // What the log remembers may be older than what is retained of it.
                    let then = self.files(table, Some(version), as_of).await;
                    match then {
                        Ok(then) if crate::digest(&then.files) == digest => return Ok(version),
                        Err(error) if error.is_temporary() => return Err(error),
                        _ => id.push_str(" again"),
                    }
                }
            }
        }
    }

    /// Takes nights out of a table by night, and returns the version that this made; none if there was nothing to take.
    /// Their files stay in the store and in older versions.
    pub async fn drop_nights(
        &self,
        table: &str,
        schema: &SchemaRef,
        nights: &BTreeSet<String>,
        run_id: &str,
    ) -> Result<Option<i64>, LakeError> {
        let shape = TableShape::new(table, schema, Partitioning::AsOf)?;
        Ok(self.change(table, &shape, &Change::Drop(nights), run_id).await?.map(|made| match made {
            Made::Now(version) | Made::Before(version) => version,
        }))
    }

    /// Plans a change against the latest version and commits it, until nobody else is faster.
    async fn change(
        &self,
        table: &str,
        shape: &TableShape,
        change: &Change<'_>,
        run_id: &str,
    ) -> Result<Option<Made>, LakeError> {
        let mut described: Option<Vec<Add>> = None;
        for attempt in 1..=ATTEMPTS {
            let current = self.snapshot(table, None).await?;
            if let Some(version) = self.committed(table, current.as_ref(), run_id).await? {
                return Ok(Some(Made::Before(version)));
            }
            let active = match &current {
                Some(current) => self.adds(table, current)?,
                None => Vec::new(),
            };
            let (created, changes) = match change {
                Change::Replace { as_of, files } => {
                    let adds = match &described {
                        Some(adds) => adds,
                        None => described.insert(self.describe(table, *as_of, files, &active).await?),
                    };
                    (adds.iter().map(|add| add.modification_time).max(), replace(active, *as_of, adds))
                }
                Change::Drop(nights) => {
                    let gone = |add: &Add| night(add).is_some_and(|night| nights.contains(night));
                    let removes: Vec<Action> = active.into_iter().filter(gone).map(remove).collect();
                    if removes.is_empty() {
                        return Ok(None);
                    }
                    (None, removes)
                }
            };
            let mut actions = shape.actions(self, current.as_ref(), created.unwrap_or_default())?;
            actions.extend(changes);
            let committed = self.commit_once(table, current.as_ref(), shape, actions, run_id).await?;
            if let Some(version) = committed {
                return Ok(Some(Made::Now(version)));
            }
            back_off(attempt).await;
        }
        Err(LakeError::Contended { table: table.to_owned(), attempts: ATTEMPTS })
    }

    /// The version that a run made of a table, if it already did.
    pub(crate) async fn committed(
        &self,
        table: &str,
        current: Option<&EagerSnapshot>,
        run_id: &str,
    ) -> Result<Option<i64>, LakeError> {
        let Some(current) = current else {
            return Ok(None);
        };
        current
            .transaction_version(self.log_store(table)?.as_ref(), run_id)
            .await
            .map_err(|source| self.delta_error("read", table, source))
    }

    /// Writes the version after `current`; none when another writer made that version first.
    pub(crate) async fn commit_once(
        &self,
        table: &str,
        current: Option<&EagerSnapshot>,
        shape: &TableShape,
        actions: Vec<Action>,
        run_id: &str,
    ) -> Result<Option<i64>, LakeError> {
        let next = current.map_or(0, |current| current.version() + 1);
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(false))
            .with_metadata([("runId".to_owned(), json!(run_id))])
            .with_application_transaction(Transaction::new(run_id, next.cast_signed()));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Overwrite,
            partition_by: Some(shape.partitioning().columns()),
            predicate: None,
        };
        let error = |source| self.delta_error("commit to", table, source);
        let prepared = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(current.map(|current| current as &dyn TableReference), self.log_store(table)?, operation)
            .into_prepared_commit_future()
            .await
            .map_err(error)?;
        let finished = match prepared.await {
            Ok(finished) => finished,
            Err(
                DeltaTableError::VersionAlreadyExists(_)
                | DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) },
            ) => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        let version = finished.version;
        self.settle(&commit_path(table, version.cast_signed())).await?;
        // A checkpoint only makes reading faster; the commit stands without it.
        if is_checkpointed(version.cast_signed())
            && let Err(problem) = finished.await
        {
            tracing::warn!(table, version, %problem, "could not write a checkpoint of the Delta log");
        }
        Ok(Some(version.cast_signed()))
    }

    /// The add actions of files that exist and have the size that is said of them. Those among `active` were looked at when
    /// they were committed.
    async fn describe(
        &self,
        table: &str,
        as_of: Option<&str>,
        files: &[DataFile],
        active: &[Add],
    ) -> Result<Vec<Add>, LakeError> {
        let known: HashMap<&str, &Add> = active.iter().map(|add| (add.path.as_str(), add)).collect();
        let mut seen = BTreeSet::new();
        let mut adds = Vec::new();
        let mut looked_up = Vec::new();
        for file in files {
            let refuse = |problem: &str| LakeError::File { path: file.path.clone(), problem: problem.to_owned() };
            if !seen.insert(&file.path) {
                return Err(refuse("it is named twice"));
            }
            if file.as_of.as_deref() != as_of {
                return Err(refuse("it belongs to another night than the commit"));
            }
            let path = file.path.strip_prefix(table).and_then(|path| path.strip_prefix('/'));
            match path.and_then(|path| known.get(path)) {
                Some(add) => adds.push((*add).clone()),
                None => looked_up.push(self.add_action(table, as_of, file)),
            }
        }
        adds.extend(concurrently(looked_up).await?);
        adds.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(adds)
    }

    pub(crate) async fn add_action(&self, table: &str, as_of: Option<&str>, file: &DataFile) -> Result<Add, LakeError> {
        let refuse = |problem: String| LakeError::File { path: file.path.clone(), problem };
        let path = file
            .path
            .strip_prefix(table)
            .and_then(|path| path.strip_prefix('/'))
            .ok_or_else(|| refuse(format!("it does not lie below {table}/")))?;
        let found = match self.store().head(&self.path(&file.path)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(refuse("it does not exist".into()));
            }
            Err(source) => return Err(self.store_error("read", &file.path, source)),
        };
        if found.size != file.bytes {
            return Err(refuse(format!("it has {} bytes, not {}", found.size, file.bytes)));
        }
        self.settle(&file.path).await?;
        let partition = as_of.map(|night| (AS_OF.to_owned(), Some(night.to_owned())));
        Ok(Add {
            path: path.to_owned(),
            partition_values: partition.into_iter().collect(),
            size: i64::try_from(file.bytes).map_err(|_| refuse("it is too large".into()))?,
            modification_time: found.last_modified.timestamp_millis(),
            data_change: true,
            stats: Some(json!({ "numRecords": file.rows }).to_string()),
            tags: Some(HashMap::from([
                (SHA256_TAG.to_owned(), Some(file.sha256.clone())),
                (FINGERPRINT_TAG.to_owned(), Some(file.fingerprint.clone())),
            ])),
            ..Add::default()
        })
    }
}

/// An add for every file that is not active, and a remove for every other active file of the night or of the whole table.
fn replace(active: Vec<Add>, as_of: Option<&str>, adds: &[Add]) -> Vec<Action> {
    let stay: BTreeSet<&str> = adds.iter().map(|add| add.path.as_str()).collect();
    let there: BTreeSet<String> = active.iter().map(|add| add.path.clone()).collect();
    let new: Vec<Add> = adds.iter().filter(|add| !there.contains(&add.path)).cloned().collect();
    let concerned = |add: &Add| as_of.is_none() || night(add) == as_of;
    let mut old: Vec<Add> =
        active.into_iter().filter(|add| concerned(add) && !stay.contains(add.path.as_str())).collect();
    old.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let removes = old.into_iter().map(remove);
    removes.chain(new.into_iter().map(Action::Add)).collect()
}

/// Says that a file is no longer active. Without a time, checkpoints leave it out: what may be deleted is for `vacuum` alone to
/// know, which asks the registry and no tombstone, so that a log does not grow with all that was ever removed.
pub(crate) fn remove(add: Add) -> Action {
    Action::Remove(Remove {
        path: add.path,
        data_change: true,
        deletion_timestamp: None,
        partition_values: Some(add.partition_values),
        ..Remove::default()
    })
}

/// Days since 1970-01-01 of a date in the form `YYYY-MM-DD`.
pub(crate) fn parse_date(as_of: &str) -> Result<i32, LakeError> {
    let bytes = as_of.as_bytes();
    let shaped = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
    shaped.then(|| Date32Type::parse(as_of)).flatten().ok_or_else(|| LakeError::Date { as_of: as_of.to_owned() })
}

/// Leaves the winner time to finish; without it the losers would only list the log in vain.
pub(crate) async fn back_off(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(50)))).await;
}

#[cfg(test)]
mod tests;
