//! What the data means, as data.
//!
//! Entities, tables and columns, the catalogue of features, KPIs and quality rules, the project file and the as-of date:
//! the vocabulary that every other crate speaks. Nothing here reads a file, knows a query engine or looks at a clock.

pub mod as_of;
pub mod catalogue;
pub mod entity;
pub mod names;
pub mod project;
pub mod table;
pub mod tables;

pub use as_of::{AsOf, AsOfError, Length};
pub use catalogue::{
    Breakdown, Causes, Check, Closeness, Criterion, Dimension, Factor, Feature, Impute, Interval, Kpi, Measure,
    Objective, Rows, Rule, Scale, Scaling, Severity, ValueType, Whose,
};
pub use entity::Entity;
pub use project::{Project, ProjectError};
pub use table::{Column, Kind, Table};

/// The embedded, commented defaults: every key of the project file with its value when nobody says otherwise.
pub const DEFAULTS: &str = include_str!("defaults.toml");
