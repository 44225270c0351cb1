//! From an error to an exit code and a message that a tired person understands.

use std::process::ExitCode;

use datafusion::error::DataFusionError;
use tessera_cluster::ClusterError;
use tessera_contract::{AsOfError, ProjectError};
use tessera_engine::source::SourceError;
use tessera_lake::LakeError;
use tessera_stages::StageError;

use crate::{panics, show};

/// Usage or project file.
pub const USAGE: u8 = 2;
/// A gate held the run.
pub const HELD: u8 = 3;
/// Try again later (EX_TEMPFAIL).
pub const TEMPORARY: u8 = 75;

/// A gate said no.
#[derive(Debug, thiserror::Error)]
#[error("the night of {as_of} is held: {gates}")]
pub struct Held {
    /// The night.
    pub as_of: String,
    /// Which gates, and by how much.
    pub gates: String,
    /// The candidate, for inspection.
    pub snapshot_id: String,
}

/// The command was used wrongly.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// What was read is not what is there now: the same command finds the new state.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Changed(pub String);

/// The library that reads files gave up over one.
#[derive(Debug, thiserror::Error)]
#[error("a file cannot be read, its reader gave up over it ({0}): it is damaged")]
pub struct Damaged(pub String);

/// Prints the error with what to do about it; the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let gave_up = panics::reader_gave_up().filter(|_| message(error).contains("panicked"));
    let damaged = gave_up.map(|said| Damaged(said.to_owned()).into());
    let error = damaged.as_ref().unwrap_or(error);
    eprintln!("error: {}", show::printable(&message(error)));
    if let Some(hint) = hint(error) {
        eprintln!("  hint: {}", show::printable(&hint));
    }
    ExitCode::from(code(error))
}

/// The chain of causes in one line, without saying anything twice.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = plain(&cause.to_string());
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// DataFusion's wrapping words say nothing to a person.
fn plain(text: &str) -> String {
    let mut text = text.trim();
    for prefix in [
        "External error: ",
        "Execution error: ",
        "Error during planning: ",
        "Schema error: ",
        "Arrow error: ",
        "Shared error: ",
    ] {
        while let Some(rest) = text.strip_prefix(prefix) {
            text = rest;
        }
    }
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    // The list of everybody who holds memory helps nobody; what could not be had stands in the last line.
    match text.split_once("Resources exhausted: ").and_then(|(_, t)| t.lines().last()) {
        Some(last) => format!("memory ran out: {}", without_aggregates(last.trim_start_matches("Error: "))),
        None => text.to_owned(),
    }
}

/// An aggregation is named by all that it computes, which for features is a page.
fn without_aggregates(text: &str) -> String {
    match (text.split_once(" ("), text.rsplit_once(") with ")) {
        (Some((who, _)), Some((_, what))) => format!("{who} with {what}"),
        _ => text.to_owned(),
    }
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Held>() {
            return HELD;
        }
        if cause.is::<Changed>() {
            return TEMPORARY;
        }
        if cause.is::<Usage>() || cause.is::<ProjectError>() || cause.is::<AsOfError>() {
            return USAGE;
        }
        if matches!(cause.downcast_ref(), Some(StageError::Expression { .. })) {
            return USAGE;
        }
        match cause.downcast_ref::<LakeError>() {
            Some(LakeError::Url { .. }) => return USAGE,
            Some(lake) if lake.is_temporary() => return TEMPORARY,
            _ => {}
        }
        match cluster_error(cause) {
            Some(ClusterError::Address(_)) => return USAGE,
            // What a store said to an executor arrives here as text.
            Some(cluster) if cluster.is_temporary() || tessera_lake::is_temporary(cluster) => return TEMPORARY,
            _ => {}
        }
        if let Some(SourceError::Store { source, .. }) = source_error(cause)
            && tessera_lake::is_temporary(source)
        {
            return TEMPORARY;
        }
        if engine_error(cause).is_some_and(temporary) {
            return TEMPORARY;
        }
    }
    1
}

/// The engine's error, also inside a stage's.
fn engine_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a DataFusionError> {
    match cause.downcast_ref() {
        Some(StageError::Engine(inner)) => Some(inner),
        _ => cause.downcast_ref(),
    }
}

/// Whether the same command may succeed later: the store's time-outs and refusals, and memory or disk that others use.
fn temporary(error: &DataFusionError) -> bool {
    let root = error.find_root();
    matches!(root, DataFusionError::ResourcesExhausted(_)) || tessera_lake::is_temporary(root)
}

/// What to do, where the error itself does not say.
fn hint(error: &anyhow::Error) -> Option<String> {
    for cause in error.chain() {
        if let Some(held) = cause.downcast_ref::<Held>() {
            let of_segments = ["of segment", "of model"].iter().any(|scope| held.gates.contains(scope));
            let few = if of_segments { "; few customers make few segments (segmentation.min_k and max_k)" } else { "" };
            return Some(format!(
                "what was published before stays current; look at the candidate with `tessera snapshots show {}`, at what a gate \
                 means with `tessera explain gate NAME`, and at [quality.checks], [validation.gates] and the KPI's own entry of the project file if the gate is too strict{few}",
                held.snapshot_id
            ));
        }
        if cause.is::<Damaged>() || matches!(cause.downcast_ref(), Some(LakeError::Registry { .. })) {
            return Some(
                "`tessera snapshots verify` tells all that is not as it was written; put it back from a copy".into(),
            );
        }
        if let Some(hint) = cluster_error(cause).and_then(ClusterError::hint) {
            return Some(hint);
        }
        if matches!(engine_error(cause).map(DataFusionError::find_root), Some(DataFusionError::ResourcesExhausted(_))) {
            return Some("raise engine.memory_limit, or lower engine.partitions so that each has more".into());
        }
        if code(error) == TEMPORARY {
            continue;
        }
        if let Some(hint) = source_error(cause).and_then(SourceError::hint) {
            return Some(hint);
        }
    }
    (code(error) == TEMPORARY).then(|| "run it again: what is finished is not done twice".into())
}

/// A source's error travels inside the engine's.
fn source_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a SourceError> {
    inside(cause)
}

/// So does a cluster's.
fn cluster_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a ClusterError> {
    inside(cause)
}

fn inside<'a, E: std::error::Error + 'static>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    if let Some(error) = cause.downcast_ref() {
        return Some(error);
    }
    match engine_error(cause)?.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}
