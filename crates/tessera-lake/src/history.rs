//! What the rows of the registry say together: which snapshots are current, withdrawn, or the parent of a night.

use std::collections::{BTreeMap, BTreeSet};

use crate::{SnapshotRecord, SnapshotState, log};

/// Every row of the registry, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    records: Vec<SnapshotRecord>,
    /// By snapshot, the row that expires it, or else retracts it.
    withdrawn: BTreeMap<String, usize>,
    /// By night, what is current.
    current: BTreeMap<String, usize>,
}

impl History {
    /// The history of these rows.
    pub fn new(records: Vec<SnapshotRecord>) -> Self {
        let mut withdrawn = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            match record.content.state {
                SnapshotState::Expired => {
                    withdrawn.insert(record.content.parent.clone(), at);
                }
                // What expired stays so: its files may be gone.
                SnapshotState::Retracted => {
                    withdrawn.entry(record.content.parent.clone()).or_insert(at);
                }
                SnapshotState::Published | SnapshotState::Held => {}
            }
        }
        let mut current = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            if record.content.state == SnapshotState::Published && !withdrawn.contains_key(&record.snapshot_id) {
                current.insert(record.content.as_of.clone(), at);
            }
        }
        Self { records, withdrawn, current }
    }

    /// The rows.
    pub fn records(&self) -> &[SnapshotRecord] {
        &self.records
    }

    /// The row of this id.
    pub fn get(&self, snapshot_id: &str) -> Option<&SnapshotRecord> {
        self.records.iter().find(|r| r.snapshot_id == snapshot_id)
    }

    /// The row that retracts or expires a snapshot.
    pub fn withdrawn(&self, snapshot_id: &str) -> Option<&SnapshotRecord> {
        self.withdrawn.get(snapshot_id).map(|at| &self.records[*at])
    }

    /// Whether what a snapshot names is no longer retained.
    pub fn expired(&self, snapshot_id: &str) -> Option<&SnapshotRecord> {
        self.withdrawn(snapshot_id).filter(|r| r.content.state == SnapshotState::Expired)
    }

    /// The published and held snapshots that are retained, oldest first.
    pub fn retained(&self) -> impl DoubleEndedIterator<Item = &SnapshotRecord> {
        let left = |r: &&SnapshotRecord| matches!(r.content.state, SnapshotState::Published | SnapshotState::Held);
        self.records.iter().filter(left).filter(|r| self.expired(&r.snapshot_id).is_none())
    }

    /// What is current, by night: the row published last for it that wasn't withdrawn. A held run never changes it.
    pub fn current(&self) -> impl DoubleEndedIterator<Item = &SnapshotRecord> {
        self.current.values().map(|at| &self.records[*at])
    }

    /// What is current for a night.
    pub fn of_night(&self, as_of: &str) -> Option<&SnapshotRecord> {
        self.current.get(as_of).map(|at| &self.records[*at])
    }

    /// What is current for the newest night. Publishing an older night again doesn't turn it back.
    pub fn newest(&self) -> Option<&SnapshotRecord> {
        self.current().next_back()
    }

    /// The names of the tables that any snapshot has.
    pub fn tables(&self) -> BTreeSet<&str> {
        self.records.iter().flat_map(|r| r.content.tables.keys().map(String::as_str)).collect()
    }

    /// SHA-256 by path of all that the rows give as evidence.
    pub fn evidence(&self) -> BTreeMap<String, String> {
        self.records.iter().flat_map(|r| r.content.evidence.clone()).collect()
    }

    /// The newest version of a table of whose commit a row gives evidence.
    pub fn proven(&self, table: &str) -> Option<i64> {
        log::proven(table, self.records.iter().flat_map(|r| r.content.evidence.keys()))
    }

    /// The snapshot that a night goes on from: what is current for the newest night before it.
    pub fn parent(&self, as_of: &str) -> Option<&SnapshotRecord> {
        self.current.range(..as_of.to_owned()).next_back().map(|(_, at)| &self.records[*at])
    }
}
