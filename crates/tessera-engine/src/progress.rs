//! How far the work of a session in this process is: for people to watch, never for a result.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use datafusion::execution::SessionState;

/// Rows that passed the scans of sources and the writing nodes so far. A source that is read twice counts twice.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    written: AtomicU64,
}

impl Progress {
    /// That of a session.
    #[must_use]
    pub fn of(state: &SessionState) -> Arc<Self> {
        state.config().get_extension().unwrap_or_default()
    }

    /// Rows read from sources.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Rows that reached a writing node.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(crate) fn add_read(&self, rows: usize) {
        self.read.fetch_add(rows as u64, Relaxed);
    }

    pub(crate) fn add_written(&self, rows: usize) {
        self.written.fetch_add(rows as u64, Relaxed);
    }
}
