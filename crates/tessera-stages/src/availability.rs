//! What the sources give, told once by ingest to the stages after it: which columns somebody maps, and which rules act on them.
//!
//! A feature or KPI over a column that nobody maps is not available, and never zero.

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};
use tessera_contract::{Entity, Project, Severity};
use tessera_engine::formula;

use crate::features::OFFERED;

/// What every source of the night gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// By entity. Those that have no source are not among them.
    pub entities: BTreeMap<String, Given>,
}

/// What one source gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The canonical columns, and the project's own, that can be read.
    pub columns: Vec<String>,
    /// The steps of its waterfall that take part, in their order.
    pub rules: Vec<Rule>,
}

/// A step of the waterfall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it does with a row.
    pub severity: Severity,
}

impl Availability {
    /// What a source gives, if there is one.
    #[must_use]
    pub fn of(&self, entity: Entity) -> Option<&Given> {
        self.entities.get(entity.name())
    }

    /// The canonical columns of an entity that nobody gives.
    #[must_use]
    pub fn absent(&self, entity: Entity) -> Vec<&'static str> {
        let given = self.of(entity);
        let has = |name: &str| given.is_some_and(|g| g.columns.iter().any(|c| c == name));
        entity.columns().iter().map(|c| c.name).filter(|name| !has(name)).collect()
    }

    /// The features of a project that nobody gives what they are made of, each with what is missing. They are null, and what is
    /// made of them says nothing rather than 0.
    ///
    /// # Errors
    /// When an expression is no SQL.
    pub fn missing_features(&self, project: &Project) -> Result<BTreeMap<String, String>, DataFusionError> {
        let mut missing: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let before = missing.len();
            for (name, feature) in project.enabled_features() {
                let mut words = formula::names(&feature.expression)?;
                if words.contains(OFFERED) {
                    words.extend(["category", "discount"].map(str::to_owned));
                }
                let over = &feature.over;
                let why = match Entity::ALL.into_iter().find(|e| e.name() == *over) {
                    // Why the first of what it is made of is not there.
                    None => words.iter().find_map(|word| missing.get(word)).cloned(),
                    Some(entity) if self.of(entity).is_none() => Some(format!("no source gives {over}")),
                    Some(entity) => {
                        let column = self.absent(entity).into_iter().find(|column| words.contains(*column));
                        column.map(|column| format!("{over} give no {column}"))
                    }
                };
                if let Some(why) = why {
                    missing.entry(name.to_owned()).or_insert(why);
                }
            }
            // Features of features may be told before those that they are made of.
            if missing.len() == before {
                return Ok(missing);
            }
        }
    }
}
