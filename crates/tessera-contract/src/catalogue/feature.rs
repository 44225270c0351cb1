//! Features and scales: what is computed of every customer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::yes;
use crate::{Entity, as_of::Length, table::Kind};

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

/// What stands for an unknown value in clustering. Who has one is told in `segments.imputed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Impute {
    /// The mean of the others on the feature's scale.
    #[default]
    Mean,
    /// Their median, of the sample.
    Median,
}

/// How close to a person a feature comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Closeness {
    /// What somebody does as a customer.
    #[default]
    Ordinary,
    /// What somebody is: age, income, education, place.
    Personal,
    /// What may disadvantage somebody: gender, health, belief, and what stands for them.
    Sensitive,
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
    /// Text: its most frequent values are clustered on, each as a column of 0 and 1.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// What it describes.
    pub criterion: Criterion,
    /// The relation of the expression: an entity (for `customers` one row per customer, for the others an aggregate
    /// over the customer's clean rows before the as-of instant), or `features`: a formula over features named earlier.
    pub over: String,
    /// SQL. Over transactions, `purchase` (not a return), `gross` and `amount` may be used beside the canonical columns, and
    /// `offered_share`, the share of the lines of the row's category and month that went at a discount.
    pub expression: String,
    /// Aggregates are over the rows of so long before the night: "90 days", "12 months", from a midnight of the project's zone on.
    /// Absent, over all rows.
    #[serde(default)]
    pub window: Option<String>,
    /// The window ends so long before the night: with `window = "90 days"` and `lag = "90 days"`, the 90 days before the last 90.
    #[serde(default)]
    pub lag: Option<String>,
    /// Of a scale, the features that it is the mean of, for its Cronbach's α. See `[scales]`.
    #[serde(default)]
    pub items: Vec<String>,
    /// Of a scale, the α below which it is not clustered on.
    #[serde(default)]
    pub min_alpha: Option<f64>,
    /// The type of the column.
    #[serde(default, rename = "type")]
    pub value_type: ValueType,
    /// Unit of the value.
    pub unit: String,
    /// Scale for clustering.
    #[serde(default)]
    pub scaling: Scaling,
    /// The value where a customer has no row in the relation, or the expression is null; absent means null, for which `impute`
    /// stands in clustering.
    #[serde(default)]
    pub missing: Option<String>,
    /// What stands for null in clustering.
    #[serde(default)]
    pub impute: Impute,
    /// In clustering, values beyond this quantile, at either end, count as the quantile (0.01: the lowest and the highest
    /// hundredth); 0, none. Quantiles are those of the sample. Absent, `segmentation.winsorise`.
    #[serde(default)]
    pub winsorise: Option<f64>,
    /// Of a text, how many of its values are clustered on, the most frequent first; the rest is `other`.
    #[serde(default = "five")]
    pub categories: usize,
    /// Whether one can act upon it: offer another price, channel or time.
    #[serde(default)]
    pub actionable: bool,
    /// How close to a person it comes: one class may be kept out of clustering (`segmentation.without`).
    #[serde(default)]
    pub privacy: Closeness,
    /// The column of customers that says whether they agree to its use: where it is false, the feature is null.
    #[serde(default)]
    pub consent: Option<String>,
    /// What it means.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn five() -> usize {
    5
}

impl Feature {
    /// What contradicts itself in the entry, if anything does: the key and what is wrong.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let lengths = [("window", &self.window), ("lag", &self.lag)];
        if let Some(wrong) = lengths.into_iter().find_map(|(key, given)| no_length(key, given.as_deref())) {
            return Some(wrong);
        }
        if self.lag.is_some() && self.window.is_none() {
            return Some(("lag", "a lag is of a window: say `window` too".to_owned()));
        }
        if self.window.is_some() && Entity::parse(&self.over).is_none_or(|over| over == Entity::Customers) {
            return Some(("window", format!("there are no rows of {} in time", self.over)));
        }
        if let Some(quantile) = self.winsorise.filter(|quantile| !(0.0..0.5).contains(quantile)) {
            return Some(("winsorise", format!("{quantile} is no quantile from 0 to below 0.5")));
        }
        if self.categories == 0 || self.categories > 50 {
            return Some(("categories", "1 to 50 values of a text are clustered on".to_owned()));
        }
        None
    }
}

/// What is wrong with the length of time that a key gives, if anything is.
pub(super) fn no_length(key: &'static str, given: Option<&str>) -> Option<(&'static str, String)> {
    let text = given.filter(|text| Length::parse(text).is_none())?;
    Some((key, format!("`{text}` is no length of time: write \"90 days\", \"12 weeks\" or \"6 months\"")))
}

/// A scale: a psychographic score that is the mean of the answers to several items of a survey. It becomes a feature per item and
/// one of the scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The instruments of survey_responses.
    pub items: Vec<String>,
    /// Those of them that are asked the other way round.
    #[serde(default)]
    pub reversed: Vec<String>,
    /// The lowest and the highest score of an item.
    pub range: (f64, f64),
    /// The column of customers that says whether they agree to its use, for the scale and its items.
    #[serde(default)]
    pub consent: Option<String>,
    /// The Cronbach's α (1951) below which the scale is not clustered on.
    #[serde(default = "acceptable")]
    pub min_alpha: f64,
    /// What it means.
    pub description: String,
}

fn acceptable() -> f64 {
    0.6
}

impl Scale {
    /// The name of the feature of an item.
    fn item(name: &str, item: &str) -> String {
        let words: String =
            item.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        format!("{name}_{words}")
    }

    /// The features that the scale is, by name: its items', and its own.
    pub(crate) fn features(&self, name: &str) -> Vec<(String, Feature)> {
        let feature = |over: &str, expression: String, description: String| Feature {
            criterion: Criterion::Psychographic,
            over: over.to_owned(),
            expression,
            window: None,
            lag: None,
            items: Vec::new(),
            min_alpha: None,
            value_type: ValueType::Float,
            unit: "score".to_owned(),
            scaling: Scaling::None,
            missing: None,
            impute: Impute::Mean,
            winsorise: None,
            categories: five(),
            actionable: false,
            privacy: Closeness::Personal,
            consent: self.consent.clone(),
            description,
            enabled: true,
        };
        let (low, high) = self.range;
        let items: Vec<(String, Feature)> = (self.items.iter())
            .map(|item| {
                let mean = format!("avg(score) FILTER (WHERE instrument = '{}')", item.replace('\'', "''"));
                let turned = self.reversed.contains(item);
                let expression = if turned { format!("{} - ({mean})", low + high) } else { mean };
                let turned = if turned { ", turned round" } else { "" };
                (
                    Self::item(name, item),
                    feature(
                        "survey_responses",
                        expression,
                        format!("Mean answer to {item} of the scale {name}{turned}"),
                    ),
                )
            })
            .collect();
        let names: Vec<String> = items.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expression = format!("({}) / {}.0", names.join(" + "), names.len().max(1));
        let mut scale = feature("features", expression, self.description.clone());
        scale.items = items.iter().map(|(name, _)| name.clone()).collect();
        scale.min_alpha = Some(self.min_alpha);
        items.into_iter().chain([(name.to_owned(), scale)]).collect()
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn problem(&self, name: &str) -> Option<String> {
        let mut names: Vec<String> = self.items.iter().map(|item| Self::item(name, item)).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return Some(format!(
                "two items are the feature `{}`: name each once, told apart by letters or digits",
                twice[0]
            ));
        }
        let known = |item: &&String| self.items.contains(*item);
        match self.range {
            _ if self.items.len() < 2 => Some("a scale has two items or more".to_owned()),
            _ if !self.reversed.iter().all(|item| known(&item)) => {
                let other = self.reversed.iter().find(|item| !known(item))?;
                Some(format!("`{other}` is asked the other way round, and is no item of the scale"))
            }
            (low, high) if low < high && low.is_finite() && high.is_finite() => None,
            (low, high) => Some(format!("a range is from the lowest score to the highest, unlike [{low}, {high}]")),
        }
    }
}
