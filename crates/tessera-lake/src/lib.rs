//! The lake: Delta tables, run records and the snapshot registry on object storage.
//!
//! A [`Lake`] is a root URL and the object store behind it. The engine writes Parquet files; this
//! crate makes them visible. [`Lake::commit`] replaces one night of one table, or what is known of one that grows, in one
//! atomic Delta commit, [`Lake::files`] says which files a version of a table consists of, [`Documents`] keeps the
//! small JSON records of a run, and [`Registry`] is the hash-chained list of what was published.
//!
//! Everything rests on one property of the store: creating an object that exists must fail.
//! [`Lake::probe`] proves it before anything is published.
//!
//! The crate reads neither the clock nor the environment. Times in the Delta log are those that the
//! store reports for the files; only the informative `commitInfo.timestamp` is deltalake's own.

mod commit;
mod documents;
mod error;
mod history;
mod lake;
mod log;
mod objects;
mod record;
mod registry;
mod rows;
mod schema;
mod table;
mod verify;

pub use documents::Documents;
pub use error::{LakeError, is_temporary, was_cut_short};
pub use history::History;
pub use lake::Lake;
pub use objects::Object;
pub use record::{GateRecord, InputRecord, SnapshotContent, SnapshotRecord, SnapshotState, TableRecord};
pub use registry::{Finding, Registry};
pub use table::{AS_OF, DataFile, TableFiles, digest};
pub use verify::{Checksum, FileFinding, FileProblem, log_paths};

#[cfg(test)]
mod testing;
