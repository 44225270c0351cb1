//! Ballista: a session whose plans run on a cluster, the roles of such a cluster, and the guards that make losing an
//! executor safe.
//!
//! A plan is made where the night runs, exactly as for one process, and sent as a physical plan: the scheduler cuts it into
//! stages and does not plan anew. The roles are told what a plan may contain (functions, a codec for nodes, object stores) by
//! whoever starts them; nothing here knows a table, a stage of the night or one of our functions.
//!
//! What Ballista does when an executor is lost in the middle of a job is not safe: a stage whose input is gone is run again
//! from the start, results that were handed on are not taken back, and the job ends as a success with rows counted twice. So:
//!
//! - a job of which a task could not fetch its input fails ([`Guards::fail_on_lost_input`]);
//! - when an executor is lost, every running job is cancelled ([`Guards::cancel_on_loss`]);
//! - before a result is believed, it is made sure that no task of the job lost anything and that every executor that was there
//!   at the beginning is still there ([`Guards::verify`]);
//! - then the whole job is run again, a few times. Tasks of a cancelled job may go on for a while and write files; nobody ever
//!   names these.

mod client;
mod connections;
mod error;
mod executor;
mod in_process;
mod job;
mod joins;
mod leaves;
mod plan;
mod scheduler;

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

pub use client::{Cluster, Watch};
pub use error::ClusterError;
pub use executor::{ExecutorRole, run_executor};
pub use in_process::InProcess;
pub use job::JobProgress;
pub use scheduler::{SchedulerRole, run_scheduler};

/// The largest message between the processes: a plan names every file of its tables.
const LARGEST_MESSAGE: usize = 256 << 20;

/// A codec from another one, which knows what it does not.
pub type WithCodec = dyn Fn(Arc<dyn PhysicalExtensionCodec>) -> Arc<dyn PhysicalExtensionCodec> + Send + Sync;

/// What a plan may contain: the functions, settings and object stores of a session, and a codec for nodes of its own.
#[derive(Clone)]
pub struct Vocabulary {
    /// A session with the functions and stores.
    pub state: SessionState,
    /// Makes the codec, given the one for what is not its own.
    pub codec: Arc<WithCodec>,
}

impl Vocabulary {
    fn codec(&self) -> Arc<dyn PhysicalExtensionCodec> {
        (self.codec)(Arc::new(ballista_core::serde::BallistaPhysicalExtensionCodec::default()))
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

/// What makes the loss of an executor safe. All of them are on, except where a test shows what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// A task that cannot fetch its input fails the job.
    pub fail_on_lost_input: bool,
    /// The loss of an executor cancels the running jobs.
    pub cancel_on_loss: bool,
    /// A result counts only if nothing was lost while it was made.
    pub verify: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { fail_on_lost_input: true, cancel_on_loss: true, verify: true }
    }
}

#[cfg(test)]
mod tests;
