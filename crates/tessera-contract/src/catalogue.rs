//! Entries of the catalogue: features, KPIs and quality rules are data with SQL expressions.
//!
//! The built-in entries stand in `defaults.toml` and are read like a user's own, so that adding one needs no Rust.
//! Three words may be used in every expression besides the columns named below: `as_of` (the night's instant),
//! `as_of_date` and `timezone` (the project's, as text).

mod breakdown;
mod cause;
mod feature;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use breakdown::Breakdown;
pub use cause::{Causes, Dimension, Rows};
pub use feature::{Closeness, Criterion, Feature, Impute, Scale, Scaling, ValueType};

use crate::Entity;

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
    /// Of the rows that agree in `by`, all but one are dropped as repeats (ledger: merged); without `by`, those that fail
    /// `expression`, which says how a repeat of another row is told.
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
    /// SQL over the canonical columns of the entity. A row passes when it is true; for `repair`, the new value. With `merge`, a row
    /// of which it is not true repeats another.
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
    /// Columns that files have and no file of the parent night had.
    ColumnsNew,
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
    /// Columns that have one value on a day of the last week, though they had several on every day of the four weeks before.
    DaysConstant,
    /// Days of the last week whose middle row has more than five times the money of those of the four weeks before, or less than a fifth.
    DaysPriced,
    /// Values of a column of few that are missing on the newest day, though they were there on that day of the week in the four weeks before.
    ValuesGone,
    /// Whether the newest day that is to be expected has far fewer rows than that day of the week in the four weeks before: below three
    /// fifths, and below what any of their days had.
    DayShort,
    /// Columns of which the known rows have more than one value.
    ColumnsVarying,
    /// Whole days between the newest day that has rows and the night; 0, the day before.
    NewestDay,
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
    /// … or the share of the rows that fail this rule …
    #[serde(default)]
    pub rule: Option<String>,
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
    /// Whether `at_most` gives way to what a night published in the four weeks before had: what is usual with a source holds no night.
    #[serde(default)]
    pub as_before: bool,
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
        let given = usize::from(self.measure.is_some())
            + usize::from(self.rule.is_some())
            + usize::from(self.expression.is_some());
        let problem = match &self.expression {
            _ if given != 1 => "a check has a `measure`, a `rule` or an `expression`: one of them",
            None if self.days.is_some() => "`days` are of a check with an `expression`",
            _ if bounds.iter().flatten().any(|bound| !bound.is_finite()) => "a bound is a number",
            _ => return None,
        };
        Some(problem.to_owned())
    }
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

/// What a business is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// More customers who buy more.
    Growth,
    /// Customers who stay.
    Retention,
    /// Customers who are worth more.
    Value,
    /// Campaigns that are worth what they cost.
    Campaigns,
    /// Customers who are content.
    Satisfaction,
}

/// Whose values a KPI adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Those of the customers who have a segment.
    #[default]
    Customers,
    /// Those of people without a segment too, in what is told of everybody: who was contacted or asked, and bought nothing yet.
    Everybody,
}

/// A factor of a KPI: the first is a sum, each further one a sum over the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// What it is called where a change is told.
    pub name: String,
    /// SQL over the features and customer attributes of one customer, of what is summed; of the last, the KPI's numerator.
    #[serde(default)]
    pub of: Option<String>,
}

/// A KPI: a sum, or a ratio of two sums, of per-customer values. So it is additive or the ratio of additive things, and
/// every change of it can be taken apart exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Whose values are added up.
    #[serde(default)]
    pub population: Whose,
    /// What whoever is after asks for the KPI; none, everybody does.
    #[serde(default)]
    pub objectives: Vec<Objective>,
    /// The interval.
    #[serde(default)]
    pub interval: Interval,
    /// The factors of a sum that is a product, by which a change of it is told; the last is the sum itself.
    #[serde(default)]
    pub factors: Vec<Factor>,
    /// The rows that its sums are of, if they are sums over rows: then a change is searched by dimensions of rows too.
    #[serde(default)]
    pub rows: Option<Rows>,
    /// Unit of the value.
    pub unit: String,
    /// Whether more is better; null where neither is.
    #[serde(default)]
    pub more_is_better: Option<bool>,
    /// The smallest value of the whole population over which the night is published; a gate by the KPI's name.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The largest.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// Whether a value beyond them holds the night.
    #[serde(default = "yes")]
    pub required: bool,
    /// What it is to be: stands beside the value.
    #[serde(default)]
    pub target: Option<f64>,
    /// What it is elsewhere: stands beside the value.
    #[serde(default)]
    pub benchmark: Option<f64>,
    /// What it means.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Kpi {
    /// What contradicts itself in the entry, if anything does: the key and what is wrong.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        if let Some(problem) = self.rows.as_ref().and_then(|rows| rows.problem(self.denominator.is_some())) {
            return Some(("rows", problem));
        }
        let (last, others) = self.factors.split_last()?;
        let problem = match () {
            () if self.denominator.is_some() => {
                "factors are of a sum: a KPI with a denominator is told by its two sums"
            }
            () if others.is_empty() || others.len() > 4 => "a product has 2 to 5 factors",
            () if last.of.is_some() || others.iter().any(|factor| factor.of.is_none()) => {
                "every factor but the last says what it sums: { name = \"orders\", of = \"orders_last90\" }; the last is the numerator itself"
            }
            () => return None,
        };
        Some(("factors", problem.to_owned()))
    }
}

impl Rule {
    /// What contradicts itself in the entry, if anything does.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = match self.severity {
            Severity::Merge if self.by.is_empty() == self.expression.is_empty() => {
                "a rule that merges has `by`, the columns that make two rows the same, or an `expression` that is true of rows that \
                 repeat no other: one of them"
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
