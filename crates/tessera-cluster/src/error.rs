//! What may go wrong between a session and its cluster.

use datafusion::common::DataFusionError;

/// Why a cluster gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The address cannot be one.
    #[error("`{0}` is no address of a scheduler: it reads HOST:PORT")]
    Address(String),
    /// Nobody answers.
    #[error("the scheduler at {address} cannot be reached: {problem}")]
    Unreachable {
        /// HOST:PORT.
        address: String,
        /// What happened last.
        problem: String,
    },
    /// The scheduler has nobody who works.
    #[error("the scheduler at {address} has no executor ({seconds} s waited)")]
    NoExecutor {
        /// HOST:PORT.
        address: String,
        /// How long was waited for one.
        seconds: u64,
    },
    /// Something that a result depends on is gone; the same job may succeed when run again.
    #[error("the cluster lost a part of the work: {0}")]
    Lost(String),
    /// The job failed for reasons of its own.
    #[error("the cluster could not do it: {0}")]
    Failed(String),
}

/// What stands in the message of a job that failed because something was lost rather than wrong. A stage "has failed" a
/// number of times when its tasks could not fetch what an earlier stage made.
const LOST: &[&str] = &[
    "most recent failure reason",
    "FetchPartitionError",
    "FetchFailed",
    "ExecutorLost",
    "ResultLost",
    "TaskKilled",
    "Cancelled",
    "tcp connect error",
    "executors",
];
/// What stands in a message where the same job may succeed another time.
const TEMPORARY: &[&str] =
    &["Resources exhausted", "ResourcesExhausted", "IoError", "IO error", "GrpcError", "GrpcConnectionError"];

/// What an object store's client says when it gave up on an answer that failed in the middle.
const STORE: &[&str] = &["error sending request", "request or response body error", "retries, max_retries", "IoError"];

impl ClusterError {
    /// The error of a job, by its message: Ballista has nothing but words.
    pub(crate) fn of_job(message: &str) -> Self {
        let message = innermost(message);
        match LOST.iter().any(|word| message.contains(word)) {
            true => Self::Lost(message),
            false => Self::Failed(message),
        }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Address(_) => false,
            Self::Unreachable { .. } | Self::NoExecutor { .. } | Self::Lost(_) => true,
            Self::Failed(message) => TEMPORARY.iter().any(|word| message.contains(word)),
        }
    }

    /// What to do about it, where the message does not say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("start one with `tessera scheduler`, or run with --engine local".into()),
            Self::NoExecutor { address, .. } => {
                Some(format!("start some with `tessera executor --scheduler {address}`"))
            }
            _ => None,
        }
    }

    /// Whether it is worth while to hand the same job in again at once.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Failed(message) => STORE.iter().any(|word| message.contains(word)),
            _ => false,
        }
    }
}

impl From<ClusterError> for DataFusionError {
    fn from(error: ClusterError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Whether a text reads HOST:PORT.
pub(crate) fn check_address(address: &str) -> Result<(), ClusterError> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(ClusterError::Address(address.to_owned())),
    }
}

/// A message without the layers that Ballista and DataFusion put around it.
fn innermost(message: &str) -> String {
    let text = message.split("\n\nbacktrace:").next().unwrap_or(message).trim();
    let text = ["DataFusionError(Execution(", "DataFusionError(External(", "DataFusionError("]
        .iter()
        .find_map(|layer| text.rsplit_once(layer))
        .map_or(text, |(_, inner)| inner);
    text.trim_matches(['"', ')', '}', ' ', '\n']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for right in ["scheduler:50050", "[::1]:50050"] {
            check_address(right).expect("an address");
        }
        for wrong in ["scheduler", ":1", "scheduler:x", "scheduler:99999"] {
            check_address(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_loss_is_told_from_a_fault() {
        let lost = ClusterError::of_job("Job x failed: FetchPartitionError(\"e1\", 2)");
        assert!(lost.may_pass() && lost.is_temporary());
        let gone = "Job failed due to stage 2 failed: Stage 2 has failed 1 times, most recent failure reason: \"Status { code: \
                    Unavailable, message: \\\"tcp connect error\\\" }\"";
        assert!(ClusterError::of_job(gone).may_pass());
        let fault = ClusterError::of_job("Task failed: Execution error: divide by zero");
        assert!(!fault.may_pass() && !fault.is_temporary());
        let memory = ClusterError::of_job("Resources exhausted: 3 bytes");
        assert!(!memory.may_pass() && memory.is_temporary());
    }
}
