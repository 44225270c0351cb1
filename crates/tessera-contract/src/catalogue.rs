//! Entries of the catalogue: features, KPIs and quality rules are data with SQL expressions.
//!
//! The built-in entries stand in `defaults.toml` and are read like a user's own, so that adding one needs no Rust.
//! Three words may be used in every expression besides the columns named below: `as_of` (the night's instant),
//! `as_of_date` and `timezone` (the project's, as text).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Entity, table::Kind};

/// What happens to a row of which a rule's expression is not true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is counted in the ledger and kept.
    Warn,
    /// The value of `column` is replaced by the value of `expression`; rows that it changes are counted.
    Repair,
    /// It is set aside in the table `quarantine`.
    Quarantine,
    /// The night fails.
    Fail,
    /// Of the rows that agree in `by`, all but one are dropped as repeats (ledger: merged).
    Merge,
    /// Of the rows that agree in `by`, the first in the order of `prefer` is kept (ledger: superseded).
    Supersede,
}

/// A quality rule over the rows of one entity.
///
/// Rules act in the order of `order`: a row leaves at the first one that turns it away, and the ledger is that waterfall.
/// All the rules that a turned-away row fails are recorded with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The entity whose rows are looked at.
    #[schemars(with = "String")]
    #[serde(with = "entity_name")]
    pub entity: Entity,
    /// What happens to a row that fails.
    pub severity: Severity,
    /// Place in the waterfall; ties keep the order of the file.
    pub order: i64,
    /// SQL over the canonical columns of the entity. A row passes when it is true; for `repair`, the new value.
    #[serde(default)]
    pub expression: String,
    /// The repaired column (`repair` only).
    #[serde(default)]
    pub column: Option<String>,
    /// The columns that make two rows the same (`merge`, `supersede`); `*` is the row as it stands in the source, mapped or not.
    #[serde(default)]
    pub by: Vec<String>,
    /// SQL sort order whose first row is kept (`supersede`); ties by the remaining columns.
    #[serde(default)]
    pub prefer: Option<String>,
    /// What it is for, in words that stand in the ledger and in `check`.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

mod entity_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Entity;

    pub(super) fn serialize<S: Serializer>(entity: &Entity, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(entity.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Entity, D::Error> {
        let name = String::deserialize(from)?;
        Entity::parse(&name).ok_or_else(|| D::Error::custom(format!("`{name}` is no entity")))
    }
}

/// What a check measures of an entity, beside what SQL can say of its clean rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Files that the parent night knew and that are gone, if rows are gone with them.
    FilesGone,
    /// Files that lack a column in use which files before them have. Older files than a column's first are none.
    ColumnsGone,
    /// The share of the rows that is quarantined.
    QuarantinedShare,
    /// The same of the rows that came since the parent night.
    QuarantinedShareOfNew,
    /// The same of the file in which it is largest.
    QuarantinedShareOfFile,
    /// Clean rows, as a share of those of the parent night.
    RowsKept,
    /// Clean money likewise.
    AmountKept,
}

/// A check of the night's rows as a whole, before anything is made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The entity whose rows are looked at; absent, each that has a source.
    #[serde(default)]
    pub entity: Option<String>,
    /// What is measured …
    #[serde(default)]
    pub measure: Option<Measure>,
    /// … or an SQL aggregate over the entity's clean rows that the night knows; over transactions, `purchase` may be used too.
    #[serde(default)]
    pub expression: Option<String>,
    /// Of the clean rows, only those of so many days before the night.
    #[serde(default)]
    pub days: Option<u32>,
    /// The smallest value that passes.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The largest value that passes.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// How far the value may fall below the median of the nights published in the four weeks before, as a share of it; further, if
    /// those nights spread further.
    #[serde(default)]
    pub falls: Option<f64>,
    /// How far it may rise above it.
    #[serde(default)]
    pub rises: Option<f64>,
    /// Whether `at_least` and `at_most` are asked only where a night before is published.
    #[serde(default)]
    pub after_first: bool,
    /// Whether failing it holds the night.
    #[serde(default = "yes")]
    pub required: bool,
    /// What it is for.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Check {
    /// What contradicts itself in the entry, if anything does.
    pub(crate) fn problem(&self) -> Option<String> {
        let bounds = [self.at_least, self.at_most, self.falls, self.rises];
        let problem = match (self.measure, &self.expression) {
            (Some(_), Some(_)) | (None, None) => "a check has a `measure`, or an `expression`: one of them",
            (Some(_), None) if self.days.is_some() => "`days` are of a check with an `expression`",
            _ if bounds.iter().flatten().any(|bound| !bound.is_finite()) => "a bound is a number",
            _ => return None,
        };
        Some(problem.to_owned())
    }
}

/// The kind of description of a customer that a feature adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// What they do.
    Behavioural,
    /// Who they are.
    Demographic,
    /// Where they are.
    Geographic,
    /// How they think.
    Psychographic,
}

/// How a feature is brought to a scale before clustering; z-scores follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// As it is.
    #[default]
    None,
    /// ln(1 + max(x, 0)).
    Log1p,
}

/// The type of a feature's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// A double.
    #[default]
    Float,
    /// A whole number.
    Integer,
    /// Exact money.
    Money,
    /// Text; cannot be clustered on.
    Text,
}

impl ValueType {
    /// The column kind.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Float => Kind::Float,
            Self::Integer => Kind::Integer,
            Self::Money => Kind::Money,
            Self::Text => Kind::Text,
        }
    }
}

/// A feature: one value per customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// What it describes.
    pub criterion: Criterion,
    /// The relation of the expression: an entity (for `customers` one row per customer, for the others an aggregate
    /// over the customer's clean rows before the as-of instant), or `features`: a formula over features named earlier.
    pub over: String,
    /// SQL. Over transactions, `purchase` (not a return), `gross` and `amount` may be used beside the canonical columns.
    pub expression: String,
    /// The type of the column.
    #[serde(default, rename = "type")]
    pub value_type: ValueType,
    /// Unit of the value.
    pub unit: String,
    /// Scale for clustering.
    #[serde(default)]
    pub scaling: Scaling,
    /// The value where a customer has no row in the relation, or the expression is null; absent means null, which
    /// counts as the population mean in clustering.
    #[serde(default)]
    pub missing: Option<String>,
    /// What it means.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// The interval that is given with a KPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// None: a plain count or sum.
    #[default]
    None,
    /// Wilson (1927): numerator and denominator count customers.
    Wilson,
    /// Delta method for a ratio of sums, the customer being the unit.
    Ratio,
}

/// A KPI: a sum, or a ratio of two sums, of per-customer values. So it is additive or the ratio of additive things, and
/// every change of it can be taken apart exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kpi {
    /// SQL over the features and customer attributes of one customer: what is summed.
    pub numerator: String,
    /// The same for the denominator; absent for a plain sum.
    #[serde(default)]
    pub denominator: Option<String>,
    /// What is added to the ratio (−1 turns a quotient into growth).
    #[serde(default)]
    pub offset: i32,
    /// The interval.
    #[serde(default)]
    pub interval: Interval,
    /// Unit of the value.
    pub unit: String,
    /// Whether more is better; null where neither is.
    #[serde(default)]
    pub more_is_better: Option<bool>,
    /// What it means.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Rule {
    /// What contradicts itself in the entry, if anything does.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = match self.severity {
            Severity::Merge if self.by.is_empty() => {
                "a rule that merges needs `by`: the columns that make two rows the same"
            }
            Severity::Supersede if self.by.is_empty() => "a rule that supersedes needs `by`: the key of a row",
            Severity::Repair if self.column.is_none() => "a rule that repairs needs `column`: the one it changes",
            Severity::Warn | Severity::Repair | Severity::Quarantine | Severity::Fail if self.expression.is_empty() => {
                "the rule needs an `expression`"
            }
            _ => return None,
        };
        Some(problem.to_owned())
    }
}
