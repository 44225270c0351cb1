//! The pipeline: one file a stage, listed once in the order of a night.
//!
//! A stage is a function from named inputs to named outputs. It may ask the engine to run a plan, and has no handle
//! with which it could read a clock, the environment or a store; the runner alone says where things go, and commits.

mod ages;
mod availability;
mod breakdowns;
pub mod causes;
pub mod features;
mod figures;
pub mod identity;
pub mod ingest;
pub mod kpis;
mod outcome;
mod profile;
pub mod quality;
pub mod reconcile;
mod rows;
pub mod scaled;
pub mod segment;
mod suppress;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod value;

use std::collections::BTreeMap;

use datafusion::{error::DataFusionError, prelude::DataFrame};
use futures::future::BoxFuture;
use jiff::civil::Date;
use tessera_contract::{AsOf, Entity, Project};
use tessera_engine::{
    Engine,
    formula::Words,
    source::SourceFile,
    write::{Lifetime, Route},
};

pub use availability::{Availability, Given, Rule};
pub use outcome::{Outcome, Output, Stays, Written};

/// What a stage gives when it is awaited.
pub type StageFuture<'a> = BoxFuture<'a, Result<Outcome, StageError>>;

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
    /// The tables of the parent night that it reads.
    pub reads_previous: &'static [&'static str],
    /// The tables of other published nights that it reads, see [`Neighbours`].
    pub reads_neighbours: &'static [&'static str],
    /// The tables of nights published before this one that it reads, see [`Night::history`].
    pub reads_history: &'static [&'static str],
    /// The tables it writes.
    pub writes: &'static [&'static str],
    /// The sections of the project file that its result depends on, beside those of the stages before it.
    pub settings: &'static [&'static str],
    /// The table among those it writes of which a failed required row ends the night.
    pub decides: Option<&'static str>,
    /// The function.
    pub run: for<'a> fn(&'a Night<'a>) -> StageFuture<'a>,
}

/// The stages in the order in which they run. Publishing follows: it is the runner's, since it touches the lake.
pub const STAGES: &[Stage] = &[
    ingest::STAGE,
    reconcile::STAGE,
    quality::STAGE,
    identity::STAGE,
    features::STAGE,
    value::STAGE,
    segment::STAGE,
    validate::STAGE,
    kpis::STAGE,
    causes::STAGE,
];

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
    pub tables: BTreeMap<String, Input>,
    /// The night that this one goes on from.
    pub parent: Option<AsOf>,
    /// What the stage reads of the parent night, by name; empty where there is no parent.
    pub previous: BTreeMap<String, DataFrame>,
    /// What it reads of other published nights.
    pub neighbours: Neighbours,
    /// Nights published before this one, the nearest first, each with the tables that the stage reads of it.
    pub history: Vec<(Date, BTreeMap<String, DataFrame>)>,
    /// What the same stage kept for this night, by name.
    pub kept: BTreeMap<String, Kept>,
    /// What the sources give, told by ingest.
    pub availability: Availability,
    /// Where what the stage writes goes. Without it the stage is only planned.
    pub folders: Option<Folders>,
}

/// Published nights around a night, by name the tables that a stage reads of them; the nearest first.
#[derive(Default)]
pub struct Neighbours {
    /// Nights before it, and what is published of itself.
    pub before: Vec<(Date, BTreeMap<String, DataFrame>)>,
    /// Nights after it.
    pub after: Vec<(Date, BTreeMap<String, DataFrame>)>,
}

/// Folders of the engine's store, without slashes around them.
pub struct Folders {
    /// Of each table that the stage writes.
    pub tables: BTreeMap<String, String>,
    /// Of what the stage keeps for the next night.
    pub kept: String,
}

impl Folders {
    /// The folder of a route's files.
    #[must_use]
    pub fn of(&self, route: &Route) -> String {
        let folder = match self.tables.get(&route.name) {
            Some(folder) => folder.clone(),
            None => format!("{}/{}", self.kept, route.name),
        };
        match route.folder.as_str() {
            "" => folder,
            below => format!("{folder}/{below}"),
        }
    }
}

/// A table that a stage reads.
#[derive(Clone)]
pub struct Input {
    /// Its rows.
    pub frame: DataFrame,
    /// Those of them that the parent night did not have, where it had all the others.
    pub added: Option<DataFrame>,
}

/// What a stage kept on the parent night for itself.
pub struct Kept {
    /// What it was made under: see [`Outcome::stamps`].
    pub stamp: String,
    /// The rows.
    pub frame: DataFrame,
    /// How many there are.
    pub rows: u64,
}

/// The opened sources of an entity.
pub struct Source {
    /// What they are mapped to.
    pub entity: Entity,
    /// Each of them, in the order of the project file.
    pub feeds: Vec<Feed>,
    /// Where the parent night has read the other files, which are as they were: how many numbers of files are taken.
    pub before: Option<i64>,
    /// Whether the files, all of which are to be read, are those of the parent night.
    pub unchanged: bool,
}

/// An opened source.
pub struct Feed {
    /// Its name among those of its entity, if it is declared as one of several.
    pub name: Option<String>,
    /// The rows of [`Feed::files`], with the columns of [`tessera_engine::source`]. None where there is no file to read.
    pub rows: Option<DataFrame>,
    /// Whether these are the rows of a query, which it costs more to ask twice than to write down.
    pub computed: bool,
    /// The files to read, in the order in which locators number them.
    pub files: Vec<SourceFile>,
    /// The rows that the footers of these files say they have, where they have one.
    pub footers: Vec<Option<u64>>,
    /// Of each of these files, the columns that it lacks and others of the source have.
    pub lacks: Vec<Vec<String>>,
}

impl Feed {
    /// The same of so many of its first rows.
    pub(crate) fn limited(&self, rows: usize) -> Result<Self, DataFusionError> {
        let limit = |frame: &DataFrame| frame.clone().limit(0, Some(rows));
        Ok(Self {
            name: self.name.clone(),
            rows: self.rows.as_ref().map(limit).transpose()?,
            computed: self.computed,
            files: self.files.clone(),
            footers: self.footers.clone(),
            lacks: self.lacks.clone(),
        })
    }
}

impl Source {
    /// The files to read of all feeds, each with its feed, in the order of their numbers.
    pub fn files(&self) -> impl Iterator<Item = (&Feed, &SourceFile)> {
        self.feeds.iter().flat_map(|feed| feed.files.iter().map(move |file| (feed, file)))
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
    /// What the parent night left of a source does not suffice: all its files have to be read.
    #[error("{entity} have to be read as a whole: {why}")]
    ReadAll {
        /// The source.
        entity: Entity,
        /// Why.
        why: String,
    },
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
pub async fn preflight(night: &Night<'_>) -> Result<Availability, StageError> {
    let availability = ingest::plan(night).await?;
    let mut tables = BTreeMap::new();
    for table in tessera_contract::tables::all(night.project) {
        let empty = night.engine.none(table.file_schema())?;
        tables.insert(table.name, Input { frame: empty, added: None });
    }
    let empty = Night { availability, ..night.over_tables(night.as_of, tables) };
    (quality::STAGE.run)(&empty).await?;
    identity::plan(&empty).await?;
    (features::STAGE.run)(&empty).await?;
    (kpis::STAGE.run)(&empty).await?;
    segment::known_approaches(night.project)?;
    validate::known_gates(night.project)?;
    Ok(empty.availability)
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
pub(crate) fn in_short(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = ["Schema error: ", "Error during planning: ", "SQL error: "]
        .iter()
        .fold(line, |l, p| l.strip_prefix(p).unwrap_or(l));
    let line = line.strip_prefix("ParserError(\"").and_then(|l| l.strip_suffix("\")")).unwrap_or(line);
    line.split(" at Line:").next().unwrap_or(line).to_owned()
}

impl Night<'_> {
    /// The same sources over other tables, as of a night, with none before or around it: stages are planned over it, and write nothing.
    pub(crate) fn over_tables(&self, as_of: AsOf, tables: BTreeMap<String, Input>) -> Self {
        Self {
            project: self.project,
            as_of,
            engine: self.engine,
            sources: self.sources,
            tables,
            parent: None,
            previous: BTreeMap::new(),
            neighbours: Neighbours::default(),
            history: Vec::new(),
            kept: BTreeMap::new(),
            availability: self.availability.clone(),
            folders: None,
        }
    }

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
        self.given(name).map(|input| &input.frame)
    }

    /// An input table with what is new of it.
    ///
    /// # Errors
    /// When the stage did not declare that it reads it.
    pub fn given(&self, name: &str) -> Result<&Input, StageError> {
        self.tables.get(name).ok_or_else(|| StageError::Data(format!("the stage was not given the table `{name}`")))
    }

    /// The customers with their attributes: what their account says, or their accounts together.
    ///
    /// # Errors
    /// When the stage does not read `clean_customers`, `accounts` and `golden_records`.
    pub(crate) async fn customers(&self) -> Result<DataFrame, StageError> {
        let (clean, accounts) = (self.input("clean_customers")?, self.input("accounts")?);
        self.customers_of(clean, accounts, Some(self.input("golden_records")?)).await
    }

    /// The same of another night; of one before persons were resolved, without golden records.
    ///
    /// # Errors
    /// When the tables cannot be joined.
    pub(crate) async fn customers_of(
        &self,
        clean: &DataFrame,
        accounts: &DataFrame,
        golden: Option<&DataFrame>,
    ) -> Result<DataFrame, StageError> {
        let names = clean.schema().fields().iter().map(|f| f.name().as_str());
        let names: Vec<_> = names.filter(|n| *n != "account_key").collect();
        let kept: String = names.iter().map(|n| format!(", c.{0} AS {0}", tessera_engine::formula::quote(n))).collect();
        let alone =
            format!("SELECT a.customer_key{kept} FROM clean AS c JOIN accounts AS a ON c.account_key = a.account_key");
        let Some(golden) = golden else {
            return self.over(&alone, &[("clean", clean), ("accounts", accounts)]).await;
        };
        let together: String = names
            .iter()
            .map(|n| match golden.schema().has_column_with_unqualified_name(n) {
                true => format!(", {}", tessera_engine::formula::quote(n)),
                false => format!(", NULL AS {}", tessera_engine::formula::quote(n)),
            })
            .collect();
        let query = format!(
            "SELECT o.* FROM ({alone}) AS o LEFT ANTI JOIN golden AS g ON o.customer_key = g.customer_key \
             UNION ALL SELECT customer_key{together} FROM golden"
        );
        self.over(&query, &[("clean", clean), ("accounts", accounts), ("golden", golden)]).await
    }

    /// A frame that several plans read, written to scratch. A stage that is only planned writes none.
    ///
    /// # Errors
    /// When the plan fails or the store refuses.
    pub(crate) async fn materialised(&self, frame: DataFrame, name: &str) -> Result<DataFrame, StageError> {
        match self.folders {
            Some(_) => Ok(self.engine.materialise(frame, name).await?),
            None => Ok(frame),
        }
    }

    /// Writes rows that the same stage will be given on the next night, and gives them as they were written.
    ///
    /// # Errors
    /// When the plan fails or the store refuses.
    pub(crate) async fn keep(
        &self,
        outcome: &mut Outcome,
        name: &str,
        frame: DataFrame,
    ) -> Result<DataFrame, StageError> {
        let route = Route::whole(name, &frame, Lifetime::State);
        let mut frames = self.write(outcome, Output { frame: frame.clone(), routes: vec![route] }).await?;
        Ok(frames.remove(name).unwrap_or(frame))
    }

    /// Writes an output now, so that the stage can go on from it: gives the rows of every route by its name. A stage that is only
    /// planned writes nothing, and is given nothing.
    ///
    /// # Errors
    /// When the plan fails or the store refuses.
    pub(crate) async fn write(
        &self,
        outcome: &mut Outcome,
        output: Output,
    ) -> Result<BTreeMap<String, DataFrame>, StageError> {
        let Some(folders) = &self.folders else { return Ok(BTreeMap::new()) };
        let (written, frames) = output.write(self.engine, folders).await?;
        outcome.written.extend(written);
        Ok(frames)
    }

    /// A query over the input tables.
    ///
    /// # Errors
    /// When it cannot be planned.
    pub async fn sql(&self, query: &str) -> Result<DataFrame, StageError> {
        let tables: Vec<_> = self.tables.iter().map(|(name, input)| (name.as_str(), &input.frame)).collect();
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
    fn what_stages_depend_on_is_there() {
        let project = Project::load("tessera.toml", "", &[]).expect("defaults");
        for stage in STAGES {
            let unknown = stage.settings.iter().find(|section| project.section(section).is_none());
            assert_eq!(unknown, None, "{}", stage.name);
            assert!(stage.decides.is_none_or(|table| stage.writes.contains(&table)), "{}", stage.name);
        }
    }

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
