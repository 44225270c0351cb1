//! What each feature is like, so that nobody drowns in data: of whom it is known, how it spreads, what it repeats, and whether the
//! segments are made of it.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::describe::{self, Summary};
use tessera_contract::{Closeness, Criterion, Feature};

use crate::{Night, StageError, rows, scaled::Known};

/// From this rank correlation on, two features say the same.
const SAME: f64 = 0.95;
/// Below this share of the customers a feature is known of few.
const RARE: f64 = 0.5;

/// The report of a night's features.
pub(super) struct Report<'a> {
    night: &'a Night<'a>,
    known: &'a Known,
    /// What nobody gives that features are made of.
    missing: BTreeMap<String, String>,
    /// Why the features are not clustered on, of those that are to be left out.
    refused: BTreeMap<&'a str, String>,
    alpha: BTreeMap<&'a str, Option<f64>>,
    counted: BTreeMap<String, i64>,
    used: Vec<String>,
}

impl<'a> Report<'a> {
    /// What is known before anything is clustered.
    pub(super) fn new(night: &'a Night<'a>, known: &'a Known) -> Result<Self, StageError> {
        let (mut refused, mut alpha): (BTreeMap<&str, String>, BTreeMap<&str, Option<f64>>) = Default::default();
        let missing = night.availability.missing_features(night.project)?;
        for (name, feature) in night.project.enabled_features() {
            if night.project.segmentation.without.contains(&feature.privacy) {
                refused.insert(name, format!("segmentation.without keeps {} features out", closeness(feature.privacy)));
            }
            if feature.items.is_empty() {
                continue;
            }
            let items: Option<Vec<&[Option<f64>]>> =
                feature.items.iter().map(|item| known.numbers.get(item).map(Vec::as_slice)).collect();
            let value = items.and_then(|items| describe::cronbach(&items));
            alpha.insert(name, value);
            let least = feature.min_alpha.unwrap_or(0.0);
            match value {
                Some(value) if value >= least => {}
                Some(value) => {
                    let why = format!("its items do not go together: Cronbach's α is {value:.2}, and {least} is asked");
                    refused.entry(name).or_insert(why);
                }
                None => {
                    let known =
                        |item: &&String| known.numbers.get(*item).is_some_and(|all| all.iter().any(Option::is_some));
                    let why = match feature.items.iter().find(|item| !known(item)) {
                        Some(item) => format!("nobody answered its item {item}"),
                        None => "too few answer every item: it has no Cronbach's α".to_owned(),
                    };
                    refused.entry(name).or_insert(why);
                }
            }
        }
        Ok(Self { night, known, missing, refused, alpha, counted: BTreeMap::new(), used: Vec::new() })
    }

    /// The feature of that name, if it may be clustered on.
    pub(super) fn admits(&self, name: &'a str) -> Option<(&'a str, &'a Feature)> {
        let feature = self.night.project.features.get(name).filter(|feature| feature.enabled)?;
        (!self.refused.contains_key(name)).then_some((name, feature))
    }

    /// Takes in for how many customers each feature is known, and what is clustered on of what was `wanted`.
    pub(super) fn counted(&mut self, counted: BTreeMap<String, i64>, wanted: &[(&'a str, &Feature)], used: &[&str]) {
        for (name, _) in self.night.project.enabled_features() {
            if counted.get(name) == Some(&0) {
                let why = self.missing.get(name).map_or("nobody has a value", String::as_str).to_owned();
                self.refused.insert(name, why);
            }
        }
        self.counted = counted;
        self.used = used.iter().map(|name| (*name).to_owned()).collect();
        for (name, _) in wanted.iter().filter(|(name, _)| !used.contains(name)) {
            let why = match self.known.has(name) {
                true => "the segments that were chosen are of other features (model_candidates)",
                false => "nobody in the sample has a value",
            };
            self.refused.entry(name).or_insert_with(|| why.to_owned());
        }
    }

    /// The features that were to be clustered on and are not, and why.
    pub(super) fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        let wanted = self.night.project.segmentation.features.iter();
        wanted.filter_map(|name| Some((name.as_str(), self.refused.get(name.as_str())?.as_str())))
    }

    /// The table.
    pub(super) fn frame(&self) -> Result<DataFrame, StageError> {
        let features: Vec<(&str, &Feature)> = self.night.project.enabled_features().collect();
        let customers = self.known.customers;
        let summaries: BTreeMap<&str, Summary> = (self.known.numbers.iter())
            .filter_map(|(name, values)| {
                let values: Vec<f64> = values.iter().copied().flatten().collect();
                Some((name.as_str(), describe::summary(&values)?))
            })
            .collect();
        let nearest = self.nearest(&summaries);
        let distinct = |name: &str| -> Option<i64> {
            let count = match self.known.texts.get(name) {
                Some(texts) => texts.iter().flatten().collect::<std::collections::BTreeSet<_>>().len(),
                None => summaries.get(name).map_or(0, |summary| summary.distinct),
            };
            i64::try_from(count).ok()
        };
        let used = |name: &str| self.used.iter().any(|used| used == name);
        let coverage = |name: &str| self.counted.get(name).map(|n| *n as f64 / customers.max(1) as f64);
        let reason = |name: &str| -> Option<String> {
            if let Some(why) = self.refused.get(name) {
                return Some(why.clone());
            }
            let mut odd = Vec::new();
            if distinct(name) == Some(1) {
                odd.push("it is the same for everybody".to_owned());
            }
            if let Some(share) = coverage(name).filter(|share| *share < RARE) {
                odd.push(format!("it is known of {:.0} % of the customers", share * 100.0));
            }
            if let Some((other, r)) =
                nearest.get(name).filter(|(other, r)| r.abs() >= SAME && used(name) && used(other))
            {
                odd.push(format!("it says what {other} says (rank correlation {r:.2}): together they count twice"));
            }
            (!odd.is_empty()).then(|| odd.join("; "))
        };
        let words = |get: &dyn Fn(&str, &Feature) -> Option<String>| -> ArrayRef {
            Arc::new(features.iter().map(|(name, feature)| get(name, feature)).collect::<StringArray>())
        };
        let floats = |get: &dyn Fn(&str) -> Option<f64>| -> ArrayRef {
            Arc::new(features.iter().map(|(name, _)| get(name)).collect::<Float64Array>())
        };
        let of = |get: fn(&Summary) -> Option<f64>| floats(&|name| summaries.get(name).and_then(get));
        let integers = |get: &dyn Fn(&str) -> Option<i64>| -> ArrayRef {
            Arc::new(features.iter().map(|(name, _)| get(name)).collect::<Int64Array>())
        };
        rows::frame(
            self.night.engine,
            vec![
                ("feature", words(&|name, _| Some(name.to_owned()))),
                ("criterion", words(&|_, feature| Some(criterion(feature.criterion).to_owned()))),
                ("privacy", words(&|_, feature| Some(closeness(feature.privacy).to_owned()))),
                ("clustered_on", Arc::new(features.iter().map(|(name, _)| Some(used(name))).collect::<BooleanArray>())),
                ("reason", words(&|name, _| reason(name))),
                ("customers", integers(&|name| self.counted.get(name).copied())),
                ("coverage", floats(&coverage)),
                ("distinct_values", integers(&distinct)),
                ("mean", of(|s| Some(s.mean))),
                ("std", of(|s| s.std)),
                ("p10", of(|s| Some(s.quantiles[0]))),
                ("median", of(|s| Some(s.quantiles[1]))),
                ("p90", of(|s| Some(s.quantiles[2]))),
                ("skewness", of(|s| s.skewness)),
                ("nearest", words(&|name, _| nearest.get(name).map(|(other, _)| (*other).to_owned()))),
                ("correlation", floats(&|name| nearest.get(name).map(|(_, r)| *r))),
                ("alpha", floats(&|name| self.alpha.get(name).copied().flatten())),
            ],
        )
    }

    /// Of each numeric feature, the one with which it is correlated the most by rank; ties by name.
    fn nearest(&self, summaries: &BTreeMap<&'a str, Summary>) -> BTreeMap<&'a str, (&'a str, f64)> {
        let known: &'a Known = self.known;
        let columns: Vec<(&'a str, &'a [Option<f64>])> = (known.numbers.iter())
            .filter(|(name, _)| summaries.get(name.as_str()).is_some_and(|summary| summary.distinct > 1))
            .map(|(name, values)| (name.as_str(), values.as_slice()))
            .collect();
        let mut nearest: BTreeMap<&str, (&str, f64)> = BTreeMap::new();
        // The ranks of a column that has no gap are asked for many times.
        let whole: Vec<Option<Vec<f64>>> = (columns.iter())
            .map(|(_, values)| values.iter().copied().collect::<Option<Vec<f64>>>().map(|all| describe::ranks(&all)))
            .collect();
        for (a, (x, of_x)) in columns.iter().enumerate() {
            for (b, (y, of_y)) in columns.iter().enumerate().skip(a + 1) {
                let r = match (&whole[a], &whole[b]) {
                    (Some(of_x), Some(of_y)) => describe::correlation(of_x, of_y),
                    _ => describe::spearman(of_x, of_y),
                };
                let Some(r) = r else { continue };
                for (one, other) in [(x, y), (y, x)] {
                    let best = nearest.get(one).is_none_or(|(_, best)| r.abs() > best.abs());
                    if best {
                        nearest.insert(one, (other, r));
                    }
                }
            }
        }
        nearest
    }
}

fn criterion(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Behavioural => "behavioural",
        Criterion::Demographic => "demographic",
        Criterion::Geographic => "geographic",
        Criterion::Psychographic => "psychographic",
    }
}

fn closeness(privacy: Closeness) -> &'static str {
    match privacy {
        Closeness::Ordinary => "ordinary",
        Closeness::Personal => "personal",
        Closeness::Sensitive => "sensitive",
    }
}
