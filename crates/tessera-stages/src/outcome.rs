//! What a stage leaves: the rows of its tables, and what it keeps for the next night.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    arrow::datatypes::{Schema, SchemaRef},
    prelude::DataFrame,
};
use tessera_engine::{
    Engine,
    write::{Lifetime, Route, WrittenFile},
};

use crate::{Availability, Folders, Night, StageError};

/// What a stage leaves.
#[derive(Default)]
pub struct Outcome {
    /// The rows of its tables.
    pub outputs: Vec<Output>,
    /// What stays of the parent night's tables and kept states.
    pub stays: Vec<Stays>,
    /// What it keeps for the next night, by name, with the stamp under which that holds: of another stamp it is worth nothing.
    pub stamps: BTreeMap<String, String>,
    /// What was written already.
    pub written: Vec<Written>,
    /// What the sources give, if the stage found out.
    pub availability: Option<Availability>,
}

/// Files of a table, or of a state that a stage keeps.
pub struct Written {
    /// The table or state.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its files.
    pub files: Vec<WrittenFile>,
}

/// The parent night's rows in a folder of a table or kept state, which this night takes over as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stays {
    /// The table or state.
    pub name: String,
    /// The folder below it.
    pub folder: String,
}

impl Outcome {
    /// Takes over what the parent night had in a folder of a table.
    pub(crate) fn stays(&mut self, name: &str, folder: &str) {
        self.stays.push(Stays { name: name.to_owned(), folder: folder.to_owned() });
    }
}

impl From<Vec<Output>> for Outcome {
    fn from(outputs: Vec<Output>) -> Self {
        Self { outputs, ..Self::default() }
    }
}

/// A frame and the tables or states that its rows go to.
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
    /// When the frame lacks a column of the table, or has it of a type that cannot be made the table's.
    pub fn table(night: &Night<'_>, name: &str, frame: DataFrame) -> Result<Self, StageError> {
        let columns = frame.schema();
        let table = night.table(name)?;
        if let Some(column) = table.columns.iter().find(|c| !columns.has_column_with_unqualified_name(&c.name)) {
            return Err(StageError::Data(format!("the stage gives the table {name} no column {}", column.name)));
        }
        Self::partly(night, name, frame)
    }

    /// The same where nobody gives some of the columns: they are null.
    ///
    /// # Errors
    /// When the frame has a column of a type that cannot be made the table's.
    pub fn partly(night: &Night<'_>, name: &str, frame: DataFrame) -> Result<Self, StageError> {
        let table = night.table(name)?;
        let frame = tessera_engine::columns::conform(frame, &table)?;
        let route = Route::all(name, &table);
        Ok(Self { frame, routes: vec![route] })
    }

    /// Writes the rows: gives the files of tables and states, and the rows of every route by its name.
    ///
    /// # Errors
    /// When the plan fails or the store refuses.
    pub async fn write(
        self,
        engine: &Engine,
        folders: &Folders,
    ) -> Result<(Vec<Written>, BTreeMap<String, DataFrame>), StageError> {
        let Self { frame, mut routes } = self;
        routes.iter_mut().for_each(|route| route.prefix = folders.of(route));
        let lasting = routes.iter().filter(|route| route.lifetime != Lifetime::Scratch);
        let names: BTreeSet<String> = lasting.map(|route| route.name.clone()).collect();
        let (files, frames) = engine.write(frame, routes).await?;
        let mut written: Vec<Written> = names
            .into_iter()
            .map(|name| {
                let schema = frames.get(&name).map(|frame| Arc::new(frame.schema().as_arrow().clone()));
                Written { name, schema: schema.unwrap_or_else(|| Arc::new(Schema::empty())), files: Vec::new() }
            })
            .collect();
        for file in files {
            if let Some(one) = written.iter_mut().find(|w| w.name == file.route) {
                one.files.push(file);
            }
        }
        Ok((written, frames))
    }
}
