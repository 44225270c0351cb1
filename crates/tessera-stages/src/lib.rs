//! The pipeline: one file a stage, listed once in the order of a night.
//!
//! A stage is a function from named inputs to named outputs. It may ask the engine to run a plan, and has no handle
//! with which it could read a clock, the environment or a store; the runner alone reads, writes and commits.

pub mod features;
pub mod ingest;
pub mod kpis;
pub mod reconcile;
mod rows;
pub mod scaled;
pub mod segment;
pub mod validate;

use std::collections::BTreeMap;

use datafusion::{error::DataFusionError, prelude::DataFrame};
use futures::future::BoxFuture;
use tessera_contract::{AsOf, Entity, Project};
use tessera_engine::{Engine, formula::Words, write::Route};

/// What a stage gives when it is awaited.
pub type StageFuture<'a> = BoxFuture<'a, Result<Vec<Output>, StageError>>;

/// A step of the night.
pub struct Stage {
    /// Its name on the command line and in workflows.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub purpose: &'static str,
    /// Whether it reads the sources.
    pub sources: bool,
    /// The tables it reads; those of an absent entity are empty.
    pub reads: &'static [&'static str],
    /// The tables it writes.
    pub writes: &'static [&'static str],
    /// The function.
    pub run: for<'a> fn(&'a Night<'a>) -> StageFuture<'a>,
}

/// The stages in the order in which they run. Publishing follows: it is the runner's, since it touches the lake.
pub const STAGES: &[Stage] =
    &[ingest::STAGE, reconcile::STAGE, features::STAGE, segment::STAGE, validate::STAGE, kpis::STAGE];

/// The name of the last step, which commits what the stages wrote.
pub const PUBLISH: &str = "publish";

/// What a stage is given.
pub struct Night<'a> {
    /// The project.
    pub project: &'a Project,
    /// The night.
    pub as_of: AsOf,
    /// The engine.
    pub engine: &'a Engine,
    /// The opened sources, for stages that read them.
    pub sources: &'a [Source],
    /// The tables that the stage reads, by name.
    pub tables: BTreeMap<String, DataFrame>,
    /// The KPIs of the last published night before this one, if there is one.
    pub previous_kpis: Option<DataFrame>,
}

/// An opened source.
pub struct Source {
    /// What it is mapped to.
    pub entity: Entity,
    /// Its rows: the owner's columns, `_locator` and `_defect`.
    pub rows: DataFrame,
    /// Its files, in the order in which locators number them.
    pub files: Vec<SourceFile>,
    /// Whether reading it again means parsing text again.
    pub text: bool,
}

/// A file of a source.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// URL.
    pub url: String,
    /// Entity tag, where the store has one.
    pub etag: Option<String>,
    /// Size.
    pub bytes: u64,
}

/// A frame and the tables that its rows go to.
pub struct Output {
    /// The rows.
    pub frame: DataFrame,
    /// Which of them go where; the columns are brought to the table's own by the runner.
    pub routes: Vec<Route>,
}

impl Output {
    /// All rows of the frame go to one table.
    ///
    /// # Errors
    /// When a column of the table cannot be made of the frame's.
    pub fn table(night: &Night<'_>, name: &str, frame: DataFrame) -> Result<Self, StageError> {
        let table = night.table(name)?;
        let frame = tessera_engine::session::conform(frame, &table)?;
        let route = Route::all(name, &table);
        Ok(Self { frame, routes: vec![route] })
    }
}

/// Why a stage could not finish.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The engine: a plan that cannot be made, a source that cannot be read, memory that ran out.
    #[error(transparent)]
    Engine(#[from] DataFusionError),
    /// A value of Arrow that is not as it should be.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// An expression of the project does not fit the data.
    #[error("{place}: {problem}")]
    Expression {
        /// Path of the key.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The data cannot be segmented.
    #[error("{0}")]
    Data(String),
    /// The ledger does not balance: rows or money were lost or made, which must never be published.
    #[error("the ledger of {source_name} does not balance: {what}")]
    Unbalanced {
        /// Entity.
        source_name: String,
        /// The two sides.
        what: String,
    },
    /// A rule of severity `fail` was broken.
    #[error("{rows} rows of {entity} break the rule `{rule}`, which fails the night")]
    RuleBroken {
        /// Entity.
        entity: String,
        /// Rule.
        rule: String,
        /// Rows.
        rows: i64,
    },
}

/// Plans what the project says in SQL, before anything is read: rules over the sources, features and KPIs over empty
/// tables. A mistake in the last KPI is told at once, and not after the night's work.
///
/// # Errors
/// [`StageError::Expression`] with the entry that cannot be planned.
pub async fn preflight(night: &Night<'_>) -> Result<(), StageError> {
    ingest::plan(night).await?;
    let mut tables = BTreeMap::new();
    for table in tessera_contract::tables::all(night.project) {
        let empty = night.engine.none(table.file_schema())?;
        tables.insert(table.name, empty);
    }
    let empty = Night {
        project: night.project,
        as_of: night.as_of,
        engine: night.engine,
        sources: night.sources,
        tables,
        previous_kpis: None,
    };
    (features::STAGE.run)(&empty).await?;
    (kpis::STAGE.run)(&empty).await?;
    validate::known_gates(night.project)
}

/// The first entry of the catalogue that cannot be planned: `query` makes a query of each expression alone.
pub(crate) async fn blame(
    night: &Night<'_>,
    entries: Vec<(String, String)>,
    query: impl Fn(&str) -> String,
    tables: &[(&str, &DataFrame)],
) -> Option<StageError> {
    for (place, expression) in entries {
        if let Err(alone) = night.over(&query(&expression), tables).await {
            return Some(StageError::Expression { place, problem: format!("`{expression}`: {}", in_short(&alone)) });
        }
    }
    None
}

/// The first line of an engine's message, without the positions in a query that nobody wrote.
fn in_short(error: &StageError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = ["Schema error: ", "Error during planning: ", "SQL error: "]
        .iter()
        .fold(line, |l, p| l.strip_prefix(p).unwrap_or(l));
    let line = line.strip_prefix("ParserError(\"").and_then(|l| l.strip_suffix("\")")).unwrap_or(line);
    line.split(" at Line:").next().unwrap_or(line).to_owned()
}

impl Night<'_> {
    /// The words of catalogue expressions.
    #[must_use]
    pub fn words(&self) -> Words {
        Words::new(self.as_of, &self.project.project.timezone)
    }

    /// An input table.
    ///
    /// # Errors
    /// When the stage did not declare that it reads it.
    pub fn input(&self, name: &str) -> Result<&DataFrame, StageError> {
        self.tables.get(name).ok_or_else(|| StageError::Data(format!("the stage was not given the table `{name}`")))
    }

    /// A query over the input tables.
    ///
    /// # Errors
    /// When it cannot be planned.
    pub async fn sql(&self, query: &str) -> Result<DataFrame, StageError> {
        let tables: Vec<_> = self.tables.iter().map(|(name, frame)| (name.as_str(), frame)).collect();
        Ok(self.engine.sql(query, &tables, &self.words()).await?)
    }

    /// A query over given frames.
    ///
    /// # Errors
    /// When it cannot be planned.
    pub async fn over(&self, query: &str, tables: &[(&str, &DataFrame)]) -> Result<DataFrame, StageError> {
        Ok(self.engine.sql(query, tables, &self.words()).await?)
    }

    fn table(&self, name: &str) -> Result<tessera_contract::Table, StageError> {
        tessera_contract::tables::find(self.project, name)
            .ok_or_else(|| StageError::Data(format!("the contract knows no table `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_reads_what_an_earlier_one_wrote() {
        let mut written: Vec<&str> = Vec::new();
        for stage in STAGES {
            for table in stage.reads {
                assert!(written.contains(table), "{} reads {table} before it is written", stage.name);
            }
            written.extend(stage.writes);
        }
        let project = Project::load("tessera.toml", "", &[]).expect("defaults");
        let mut known: Vec<_> = tessera_contract::tables::all(&project).into_iter().map(|t| t.name).collect();
        known.sort();
        let mut written: Vec<_> = written.into_iter().map(str::to_owned).collect();
        written.sort();
        assert_eq!(written, known, "every table of the contract is written by exactly one stage");
    }
}
