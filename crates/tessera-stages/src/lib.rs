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
    pub run: for<'a> fn(&'a Night<'a>) -> BoxFuture<'a, Result<Vec<Output>, StageError>>,
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
