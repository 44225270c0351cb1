//! `[value]`: what customers are going to be worth.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In what a model measures time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Days.
    Days,
    /// Weeks.
    Weeks,
    /// Twelfths of a year.
    Months,
}

/// Which model of purchases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseModel {
    /// Of the two, the one of the higher likelihood; the other where one is refused.
    Best,
    /// BG/NBD (Fader, Hardie & Lee 2005).
    BgNbd,
    /// MBG/NBD (Batislam, Denizel & Filiztekin 2007).
    MbgNbd,
}

/// `[value]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// Whether it is predicted.
    pub enabled: bool,
    /// Which model of purchases.
    pub model: PurchaseModel,
    /// The unit of its parameters; predictions are of days.
    pub time_unit: TimeUnit,
    /// Days ahead for which orders are predicted: a column each.
    pub horizons_days: Vec<u32>,
    /// Months ahead whose orders make up the value.
    pub months: u32,
    /// Discount a year: 0.1 is 10 %.
    pub discount_rate: f64,
    /// What of an order's value is kept: 1, revenue.
    pub margin: f64,
}

impl Value {
    /// What contradicts itself, with the path of its key.
    pub(super) fn problem(&self) -> Option<(String, String)> {
        let at = |key: &str, problem: String| Some((format!("value.{key}"), problem));
        let distinct: std::collections::BTreeSet<_> = self.horizons_days.iter().collect();
        if distinct.len() != self.horizons_days.len() || distinct.iter().any(|days| !(1..=3_660).contains(*days)) {
            return at("horizons_days", "days ahead are whole numbers from 1 to 3660, each once".into());
        }
        if !(0.0..1.0).contains(&self.discount_rate) {
            let problem = format!(
                "{} is no discount a year: it is a share, below 1; 10 % is 0.1 (a rate of a week or a month has to be one of a year)",
                self.discount_rate
            );
            return at("discount_rate", problem);
        }
        if !(self.margin > 0.0 && self.margin <= 1.0) {
            return at("margin", format!("{} is no share of an order's value: 35 % is 0.35", self.margin));
        }
        if !(1..=120).contains(&self.months) {
            return at(
                "months",
                format!("{} months: a value is of 1 to 120 months (days or weeks are none)", self.months),
            );
        }
        None
    }

    /// The columns of orders that are to be expected, each with its days ahead.
    pub fn horizons(&self) -> impl Iterator<Item = (String, u32)> + '_ {
        self.horizons_days.iter().map(|days| (format!("expected_orders_{days}"), *days))
    }
}
