//! How rows become data files: one pass over a plan feeds one or several tables, each partition in parallel.
//!
//! DataFusion's own writers append to a folder and are one task on a cluster; and a cleaning pass that fills a clean table
//! and a quarantine would have to run twice. So writing is a node of ours: it routes the rows of each partition to Parquet
//! files with names of their own, and its result is the list of the files, with rows, bytes, SHA-256 and content
//! fingerprint. Nothing names a file before it is complete; what a failed attempt left is named by nobody.

mod bucket;
mod exec;
mod file;
mod node;

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
    },
    common::{DataFusionError, Result},
    logical_expr::{Extension, LogicalPlan, ident},
    physical_plan::{ExecutionPlan, collect, display::DisplayableExecutionPlan, displayable},
    prelude::{DataFrame, Expr},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tessera_contract::Table;
use tracing::Instrument;
use url::Url;

pub(crate) use exec::{WriteExec, WriteExecSpec};
pub(crate) use node::WritePlanner;

use crate::{buckets::Buckets, columns::as_column, fingerprint::Fingerprint};

/// Rows for one table.
#[derive(Debug, Clone)]
pub struct Route {
    /// The table.
    pub name: String,
    /// Folder below the table's: rows that stay or go together from night to night. Empty for the table's own.
    pub folder: String,
    /// Folder of its files in the store, without slashes around it.
    pub prefix: String,
    /// Which rows; absent, all of them.
    pub filter: Option<Expr>,
    /// The columns of the file, each under its name. They are computed for the rows that pass only.
    pub columns: Vec<Expr>,
    /// The columns that count for the fingerprint.
    pub fingerprinted: Vec<String>,
    /// Whether rows of one value are kept together.
    pub buckets: Option<Buckets>,
    /// How long the files are to live.
    pub lifetime: Lifetime,
}

impl Route {
    /// Every row, with the columns of the table as they stand in the frame.
    #[must_use]
    pub fn all(name: &str, table: &Table) -> Self {
        Self {
            name: name.to_owned(),
            folder: String::new(),
            prefix: String::new(),
            filter: None,
            columns: table.columns.iter().map(|c| as_column(ident(&c.name), c)).collect(),
            fingerprinted: table.fingerprinted(),
            buckets: None,
            lifetime: Lifetime::Kept,
        }
    }

    /// Rows that are no table of the contract: kept for the next night, say.
    #[must_use]
    pub fn other(name: &str, columns: Vec<Expr>, lifetime: Lifetime) -> Self {
        Self {
            name: name.to_owned(),
            folder: String::new(),
            prefix: String::new(),
            filter: None,
            columns,
            fingerprinted: Vec::new(),
            buckets: None,
            lifetime,
        }
    }

    /// All rows of a frame as they are, for a while.
    #[must_use]
    pub fn whole(name: &str, frame: &DataFrame, lifetime: Lifetime) -> Self {
        let columns = frame.schema().fields().iter().map(|f| ident(f.name()).alias(f.name())).collect();
        Self::other(name, columns, lifetime)
    }
}

/// What is written where. The expressions live in the node beside it, so that this can travel as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct RouteSpec {
    name: String,
    prefix: String,
    filtered: bool,
    columns: Vec<String>,
    fingerprinted: Vec<String>,
    buckets: Option<Buckets>,
    lifetime: Lifetime,
}

/// How long files are to live, which decides how they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub enum Lifetime {
    /// For keeping: zstd, dictionaries, statistics.
    Kept,
    /// For reading once or a few times, soon: not compressed.
    Scratch,
    /// For reading every night: compressed lightly, no dictionaries, statistics.
    State,
}

/// A file that a plan wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// The route's name.
    pub route: String,
    /// Path in the store.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Content fingerprint of its rows.
    pub fingerprint: Fingerprint,
}

/// The columns of the plan's result.
pub(crate) fn manifest_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("route", DataType::Utf8, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("sha256", DataType::Utf8, false),
        Field::new("fingerprint", DataType::Utf8, false),
    ]))
}

/// The frame whose execution writes; its rows are the files.
///
/// # Errors
/// When a route names a column that the frame lacks.
pub fn write_plan(frame: DataFrame, store: &Url, routes: Vec<Route>) -> Result<DataFrame> {
    let (state, input) = frame.into_parts();
    let node = node::WriteNode::new(input, store, routes)?;
    Ok(DataFrame::new(state, LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

/// The rows of a frame; the log is told how the engine went about it.
///
/// # Errors
/// When the plan fails.
pub async fn run(frame: DataFrame) -> Result<Vec<RecordBatch>> {
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    tracing::trace!("{}", displayable(plan.as_ref()).indent(false));
    let batches = collect(Arc::clone(&plan), context).await?;
    tracing::trace!("done:\n{}", DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false));
    let bytes = spilled(plan.as_ref());
    if bytes > 0 {
        tracing::debug!(spilled_bytes = bytes, "memory did not suffice: parts went to disk and back");
    }
    Ok(batches)
}

/// Bytes that the nodes of a plan spilled.
fn spilled(plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|m| m.spilled_bytes()).unwrap_or(0);
    own + plan.children().into_iter().map(|child| spilled(child.as_ref())).sum::<usize>()
}

/// Writes the rows of a frame into a store. Files come in the order of their paths.
///
/// # Errors
/// When the plan fails or the store refuses; files that are complete by then stay, and nobody names them.
pub async fn write(frame: DataFrame, store: &Url, routes: Vec<Route>) -> Result<Vec<WrittenFile>> {
    let tables = routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(",");
    let span = tracing::debug_span!("write", tables);
    let mut files = Vec::new();
    for batch in run(write_plan(frame, store, routes)?).instrument(span).await? {
        let text = |i: usize| batch.column(i).as_string::<i32>();
        let number = |i: usize| batch.column(i).as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            files.push(WrittenFile {
                route: text(0).value(row).to_owned(),
                path: text(1).value(row).to_owned(),
                rows: number(2).value(row),
                bytes: number(3).value(row),
                sha256: text(4).value(row).to_owned(),
                fingerprint: text(5).value(row).parse().map_err(|e| DataFusionError::External(Box::new(e)))?,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests;
