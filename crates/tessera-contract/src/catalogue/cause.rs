//! Where the change of a KPI is searched: dimensions, and the rows that a KPI is made of.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{feature::no_length, yes};
use crate::Entity;

/// The relation of dimensions with one value per customer.
const FEATURES: &str = "features";

/// The relations whose rows belong to a customer and have a date.
const OVER: [&str; 4] = ["transactions", "campaign_contacts", "interactions", "survey_responses"];

/// `[causes]`: where the change of a KPI is searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Causes {
    /// The share of findings that may be false: the error of Benjamini and Hochberg's procedure over everything that is looked at since an earlier night.
    pub false_discoveries: f64,
    /// A finding whose part of the change is smaller is not told.
    pub share: f64,
    /// So many findings are told of a KPI and segment.
    pub most: usize,
    /// So many values of a dimension are told apart: those of most customers, or rows. The rest is together, and not named.
    pub values: usize,
    /// How often the customers are drawn anew to see whether a finding recurs.
    pub resamples: usize,
    /// Findings that recur in a smaller share of these are not told.
    pub recurrence: f64,
    /// Name → dimension. Customers are told apart by segment in any case.
    pub dimensions: IndexMap<String, Dimension>,
}

/// A dimension: each row, or each customer, has one value of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// Whose value it is: `features`, a customer's; or `transactions`, `campaign_contacts`, `interactions` or `survey_responses`, a row's.
    pub over: String,
    /// SQL over the features and attributes of a customer, or over a row.
    pub by: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// The rows that a KPI adds up, so that its change can be searched by dimensions of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// `transactions`, `campaign_contacts`, `interactions` or `survey_responses`.
    pub over: String,
    /// The rows of so long before the night: "90 days", from a midnight of the project's zone on. Absent, all of them.
    #[serde(default)]
    pub window: Option<String>,
    /// SQL that is true of the rows that count. Absent, all of them.
    #[serde(default, rename = "where")]
    pub which: Option<String>,
    /// SQL over a row: over all rows of a customer it adds up to the KPI's numerator.
    pub numerator: String,
    /// The same for the denominator, if the KPI has one.
    #[serde(default)]
    pub denominator: Option<String>,
}

impl Dimension {
    /// The entity whose rows have it; none, where customers do.
    #[must_use]
    pub fn entity(&self) -> Option<Entity> {
        Entity::parse(&self.over)
    }
}

impl Rows {
    /// SQL of an expression over the rows that count.
    #[must_use]
    pub fn value(&self, expression: &str) -> String {
        format!("CASE WHEN ({}) THEN {expression} END", self.which.as_deref().unwrap_or("true"))
    }

    /// What contradicts itself in the entry of a KPI, if anything does.
    pub(crate) fn problem(&self, ratio: bool) -> Option<String> {
        if !OVER.contains(&self.over.as_str()) {
            return Some(format!("`{}` has no rows to search: one of {}", self.over, OVER.join(", ")));
        }
        if self.denominator.is_some() != ratio {
            return Some("rows have a denominator where the KPI has one".to_owned());
        }
        no_length("window", self.window.as_deref()).map(|(_, problem)| problem)
    }
}

impl Causes {
    /// What contradicts itself, if anything does: the key and what is wrong.
    pub(crate) fn problem(&self) -> Option<(String, String)> {
        let wrong = |key: &str, problem: &str| Some((format!("causes.{key}"), problem.to_owned()));
        if !(0.0..=0.5).contains(&self.false_discoveries) {
            return wrong("false_discoveries", "a share from 0 to 0.5");
        }
        if !(0.0..=1.0).contains(&self.share) {
            return wrong("share", "a share from 0 to 1");
        }
        if !(0.0..=1.0).contains(&self.recurrence) {
            return wrong("recurrence", "a share from 0 to 1");
        }
        if !(2..=50).contains(&self.values) {
            return wrong("values", "2 to 50 values are told apart");
        }
        if !(1..=1000).contains(&self.resamples) {
            return wrong("resamples", "1 to 1,000");
        }
        for (name, dimension) in &self.dimensions {
            if !OVER.contains(&dimension.over.as_str()) && dimension.over != FEATURES {
                let problem =
                    format!("`{}` has no dimensions: features, or one of {}", dimension.over, OVER.join(", "));
                return Some((format!("causes.dimensions.{name}.over"), problem));
            }
            if name == "segment" || name.contains('=') {
                return Some((
                    format!("causes.dimensions.{name}"),
                    "segment is a dimension of its own, and names have no `=`".into(),
                ));
            }
        }
        None
    }
}
