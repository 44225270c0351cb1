//! What the sources give, told once by ingest to the stages after it: which columns somebody maps, and which rules act on them.
//!
//! A feature or KPI over a column that nobody maps is not available, and never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_contract::{Entity, Severity};

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
}
