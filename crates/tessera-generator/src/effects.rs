//! The size of planted changes. As a change draws no random numbers of its own customers' streams, its effect is not an estimate: it
//! is the exact sum, by day, of what happened minus what would have happened.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use crate::calendar::iso;
use crate::planted::{Planted, describe, first_night};

/// What happened minus what would have happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub customers: i64,
    pub orders: i64,
    /// Order lines, those of returns included.
    pub lines: i64,
    /// Net revenue in ten-thousandths of a currency unit: exact, as discounts are whole percents.
    pub revenue: i64,
}

impl Effect {
    fn plus(&mut self, other: Self) {
        self.customers += other.customers;
        self.orders += other.orders;
        self.lines += other.lines;
        self.revenue += other.revenue;
    }

    fn to_json(self) -> Value {
        let sign = if self.revenue < 0 { "-" } else { "" };
        let size = self.revenue.unsigned_abs();
        json!({
            "customers": self.customers,
            "orders": self.orders,
            "lines": self.lines,
            "revenue": format!("{sign}{}.{:04}", size / 10_000, size % 10_000),
        })
    }
}

/// Effects by planted change and day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects(Vec<BTreeMap<i32, Effect>>);

impl Effects {
    pub(crate) fn new(planted: usize) -> Self {
        Self(vec![BTreeMap::new(); planted])
    }

    pub(crate) fn add(&mut self, plant: usize, day: i32, effect: Effect) {
        if let Some(days) = self.0.get_mut(plant) {
            days.entry(day).or_default().plus(effect);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (plant, days) in other.0.into_iter().enumerate() {
            for (day, effect) in days {
                self.add(plant, day, effect);
            }
        }
    }

    /// What was planted with its size, in the order of the shop's list.
    pub(crate) fn to_json(&self, planted: &[Planted], horizon: Date) -> Value {
        let entries = planted.iter().zip(&self.0).map(|(change, days)| {
            let mut total = Effect::default();
            days.values().for_each(|effect| total.plus(*effect));
            let by_day: Map<_, _> = days.iter().map(|(day, effect)| (iso(*day), effect.to_json())).collect();
            let mut entry = describe(change);
            entry["first_night"] = json!(first_night(change, horizon).to_string());
            entry["effect"] = total.to_json();
            entry["effect_by_day"] = Value::Object(by_day);
            entry
        });
        Value::Array(entries.collect())
    }
}
