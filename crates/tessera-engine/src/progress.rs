//! How far the work of a session is: for people to watch, never for a result.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use datafusion::execution::SessionState;

/// Rows that passed the scans of sources and the writing nodes so far. A source that is read twice counts twice.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    written: AtomicU64,
    elsewhere: Mutex<Option<Elsewhere>>,
}

/// How far the work is that other processes do for this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// Steps of the plan that are done.
    pub stages_done: usize,
    /// Steps of the plan.
    pub stages: usize,
    /// Pieces of work that are done.
    pub tasks_done: usize,
    /// Pieces of work that have begun.
    pub tasks: usize,
    /// Rows that were read so far.
    pub rows_read: usize,
    /// Rows that were handed on so far.
    pub rows_written: usize,
}

impl Progress {
    /// That of a session.
    #[must_use]
    pub fn of(state: &SessionState) -> Arc<Self> {
        state.config().get_extension().unwrap_or_default()
    }

    /// The plan that other processes work on, if there is one.
    #[must_use]
    pub fn elsewhere(&self) -> Option<Elsewhere> {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how far other processes are.
    pub fn set(&self, elsewhere: &Elsewhere) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = Some(*elsewhere);
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
