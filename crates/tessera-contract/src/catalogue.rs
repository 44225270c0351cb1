//! Entries of the catalogue: features, KPIs and quality rules are data with SQL expressions.
//!
//! The built-in entries stand in `defaults.toml` and are read like a user's own, so that adding one needs no Rust.
//! Three words may be used in every expression besides the columns named below: `as_of` (the night's instant),
//! `as_of_date` and `timezone` (the project's, as text).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Entity, as_of::Length, table::Kind};

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
        for (key, given) in [("window", &self.window), ("lag", &self.lag)] {
            if let Some(text) = given
                && Length::parse(text).is_none()
            {
                return Some((
                    key,
                    format!("`{text}` is no length of time: write \"90 days\", \"12 weeks\" or \"6 months\""),
                ));
            }
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
    /// The interval.
    #[serde(default)]
    pub interval: Interval,
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
