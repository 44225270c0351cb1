//! Breakdowns: figures per campaign, channel, cohort.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Interval, feature::no_length, yes};
use crate::Entity;

/// The relation of breakdowns with one row per customer.
const FEATURES: &str = "features";

/// A figure that is told of each value of a dimension (a campaign, a channel, a cohort), by segment and of everybody: a ratio of two sums over
/// rows. People without a segment count in what is told of everybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breakdown {
    /// The rows: `campaign_contacts`, `interactions` or `survey_responses` before the night, or `features`, one per customer.
    pub over: String,
    /// Name of a dimension → SQL over a row, whose value is the item that the row counts for.
    pub by: IndexMap<String, String>,
    /// The rows of so long before the night: "90 days", from a midnight of the project's zone on. Absent, all of them. Over `features`, it
    /// is of what was spent.
    #[serde(default)]
    pub window: Option<String>,
    /// SQL that is true of the rows that count. Absent, all of them.
    #[serde(default, rename = "where")]
    pub which: Option<String>,
    /// SQL that is true of the rows that those are compared with: a holdout. The difference of the two ratios is told with its interval,
    /// and how many people it takes to see it.
    #[serde(default)]
    pub versus: Option<String>,
    /// SQL over a row: what is summed.
    #[serde(default = "nothing")]
    pub numerator: String,
    /// The same for what it is a ratio to.
    pub denominator: String,
    /// What is added to the ratio (−1 turns returns for money into returns on it).
    #[serde(default)]
    pub offset: i32,
    /// The numerator is what `marketing_costs` say was spent on the item, in the window.
    #[serde(default)]
    pub spent: bool,
    /// The window ends so long before the night: money is spent before customers come of it.
    #[serde(default)]
    pub lag: Option<String>,
    /// So many steps: the word `step` is 1, 2, … in the numerator, the denominator and `where`.
    #[serde(default)]
    pub steps: u32,
    /// So many items are told: those of most people, and the rest as `other`; of a breakdown in steps, the last ones by name.
    #[serde(default = "twelve")]
    pub most: usize,
    /// Whether it is told by segment too.
    #[serde(default = "yes")]
    pub segments: bool,
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

fn nothing() -> String {
    "0".to_owned()
}

fn twelve() -> usize {
    12
}

impl Breakdown {
    /// The relations that there are.
    pub const OVER: [&str; 4] = ["campaign_contacts", "interactions", "survey_responses", FEATURES];

    /// The entity whose rows are counted; none, where they are customers.
    #[must_use]
    pub fn entity(&self) -> Option<Entity> {
        Entity::parse(&self.over)
    }

    /// What contradicts itself in the entry, if anything does: the key and what is wrong.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let lengths = [("window", &self.window), ("lag", &self.lag)];
        if let Some(wrong) = lengths.into_iter().find_map(|(key, given)| no_length(key, given.as_deref())) {
            return Some(wrong);
        }
        if self.window.is_some() && self.over == FEATURES && !self.spent {
            return Some(("window", "features have no rows in time".to_owned()));
        }
        if self.by.is_empty() {
            return Some(("by", "a breakdown is by something: by = { channel = \"channel\" }".to_owned()));
        }
        if self.steps > 36 {
            return Some(("steps", "at most 36 steps are told".to_owned()));
        }
        if self.most == 0 || self.most > 50 {
            return Some(("most", "1 to 50 items are told".to_owned()));
        }
        if self.spent && (self.versus.is_some() || self.steps > 0 || self.segments || self.over != FEATURES) {
            let problem = "what is spent is over `features`, neither compared nor told in steps, and by segment nobody knows it: `segments = false`";
            return Some(("spent", problem.to_owned()));
        }
        if self.spent && self.window.is_none() {
            return Some(("spent", "what is spent is of a time: say `window` too".to_owned()));
        }
        if self.lag.is_some() && !self.spent {
            return Some(("lag", "a lag is of what was spent: `spent = true`".to_owned()));
        }
        None
    }
}
