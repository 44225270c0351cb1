//! `[segmentation]`: who is segmented, by what, and how long a model stays.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load;
use crate::{Closeness, Criterion};

/// Who is segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Population {
    /// Whoever has bought before the night.
    Buyers,
    /// Every customer whom the sources name, whether or not they have bought.
    Customers,
}

/// `[segmentation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segmentation {
    /// Who is segmented.
    pub population: Population,
    /// Features that customers are clustered on.
    pub features: Vec<String>,
    /// Classes of features that are kept out of clustering, whatever `features` says.
    pub without: Vec<Closeness>,
    /// What the segments are for: an entry of `objectives`.
    pub objective: String,
    /// Name → the feature whose spread between the segments counts, and by whose centroids new segments are numbered, largest first.
    pub objectives: IndexMap<String, String>,
    /// What is tried: algorithms (`kmeans`, `agglomerative`, `dbscan`) and entries of `rules`.
    pub approaches: Vec<String>,
    /// Fixes what segments are found by; the others are still tried and shown.
    #[serde(default)]
    pub approach: Option<String>,
    /// Sets of the features that are tried: `all`, or those of one criterion.
    pub feature_sets: Vec<FeatureSet>,
    /// Fixes the set; the others are still tried and shown.
    #[serde(default)]
    pub feature_set: Option<FeatureSet>,
    /// Fewest segments tried.
    pub min_k: usize,
    /// Most segments tried.
    pub max_k: usize,
    /// Fixes the number of segments; the candidates are still tried and shown.
    #[serde(default)]
    pub k: Option<usize>,
    /// Customers in the sample.
    pub sample: usize,
    /// Seed of the candidates.
    pub seed: u64,
    /// Starts per candidate.
    pub starts: usize,
    /// Values of a feature beyond this quantile, at either end, count as the quantile in clustering, where the feature does not say
    /// otherwise; 0, none.
    pub winsorise: f64,
    /// Largest centroid shift, in standard deviations, at which refinement ends.
    pub tolerance: f64,
    /// Most passes over all customers.
    pub max_passes: usize,
    /// Margin under which a customer is borderline, and stays in the segment of the parent night.
    pub borderline: f64,
    /// A segment is that of the parent night if at least this share of the members of both is in both, of those who were there on both nights.
    pub carried_share: f64,
    /// Whether a night goes by the model and the segments of the parent night; otherwise it finds its own, and nobody is kept.
    pub reuse: bool,
    /// A better model is looked for after so many days; 0, every night.
    pub refit_days: u32,
    /// And when the population stability index of a feature clustered on, or of the distances to the centroids, reaches this.
    pub refit_psi: f64,
    /// What a better model's score has to exceed that of the one in use by.
    pub refit_margin: f64,
    /// Name → segments by rule.
    pub rules: IndexMap<String, RuleSet>,
}

/// Features of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureSet {
    /// All of `features`.
    All,
    /// Those of the criterion.
    Behavioural,
    /// Those of the criterion.
    Demographic,
    /// Those of the criterion.
    Geographic,
    /// Those of the criterion.
    Psychographic,
}

impl FeatureSet {
    const EVERY: [Self; 5] = [Self::All, Self::Behavioural, Self::Demographic, Self::Geographic, Self::Psychographic];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|set| set.name() == name)
    }

    /// Whether features of the criterion are in it.
    #[must_use]
    pub fn holds(self, criterion: Criterion) -> bool {
        match self {
            Self::All => true,
            Self::Behavioural => criterion == Criterion::Behavioural,
            Self::Demographic => criterion == Criterion::Demographic,
            Self::Geographic => criterion == Criterion::Geographic,
            Self::Psychographic => criterion == Criterion::Psychographic,
        }
    }

    /// As tables have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Behavioural => "behavioural",
            Self::Demographic => "demographic",
            Self::Geographic => "geographic",
            Self::Psychographic => "psychographic",
        }
    }
}

/// `[segmentation.rules.<name>]`: segments of the customers with certain scores. Every combination of scores is in exactly one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// What it goes by.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Name → score of a customer, from 1 on.
    pub scores: IndexMap<String, Score>,
    /// Name of a segment → score → the lowest and the highest that are in it; a score that is not named may be any.
    pub segments: IndexMap<String, IndexMap<String, (u32, u32)>>,
}

fn yes() -> bool {
    true
}

/// A score: in which part of a feature's values a customer's lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// A numeric feature. Whoever has no value of it scores 1.
    pub feature: String,
    /// So many parts of as many customers each, as far as equal values allow. Cuts are those of the sample when the model is fitted.
    #[serde(default)]
    pub quantiles: Option<u32>,
    /// Or between these values, in the feature's unit, rising; a value equal to one is below it.
    #[serde(default)]
    pub cuts: Option<Vec<f64>>,
    /// Which end scores the most.
    #[serde(default)]
    pub best: Best,
}

/// Which end of a feature's values scores the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// The highest values.
    #[default]
    High,
    /// The lowest.
    Low,
}

impl Score {
    /// Different scores.
    #[must_use]
    pub fn levels(&self) -> u32 {
        let cuts = self.cuts.as_ref().map(|cuts| u32::try_from(cuts.len()).unwrap_or(u32::MAX).saturating_add(1));
        cuts.or(self.quantiles).unwrap_or(1)
    }

    fn problem(&self) -> Option<String> {
        match (&self.quantiles, &self.cuts) {
            (Some(n), None) if !(2..=100).contains(n) => Some("2 to 100 quantiles are needed".into()),
            (None, Some(cuts)) if cuts.is_empty() || cuts.len() > 99 || !cuts.is_sorted_by(|a, b| a < b) => {
                Some("1 to 99 cuts are needed, each larger than the one before".into())
            }
            (Some(_), None) | (None, Some(_)) => None,
            _ => Some("either `quantiles` or `cuts` is needed".into()),
        }
    }
}

/// Combinations of scores beyond which nobody would read a rule set.
const CELLS: u64 = 10_000;

impl RuleSet {
    /// The features that it scores, each once.
    #[must_use]
    pub fn features(&self) -> Vec<&str> {
        let mut features: Vec<&str> = self.scores.values().map(|score| score.feature.as_str()).collect();
        features.sort_unstable();
        features.dedup();
        features
    }

    /// The number of the segment that a customer of these scores is in.
    #[must_use]
    pub fn segment(&self, scores: &[u32]) -> Option<usize> {
        self.segments.values().position(|of| self.takes(of, scores))
    }

    fn takes(&self, segment: &IndexMap<String, (u32, u32)>, scores: &[u32]) -> bool {
        self.scores
            .keys()
            .zip(scores)
            .all(|(name, score)| segment.get(name).is_none_or(|(lowest, highest)| (lowest..=highest).contains(&score)))
    }

    /// The key below the rule set and what is wrong with it: every combination of scores is looked at.
    fn problem(&self, is_number: impl Fn(&str) -> bool) -> Option<(String, String)> {
        if self.segments.len() < 2 || self.segments.len() > 64 {
            return Some(("segments".into(), "2 to 64 segments are needed".into()));
        }
        for (name, score) in &self.scores {
            if !is_number(&score.feature) {
                return Some((format!("scores.{name}.feature"), format!("`{}` is no numeric feature", score.feature)));
            }
            if let Some(problem) = score.problem() {
                return Some((format!("scores.{name}"), problem));
            }
        }
        for (name, of) in &self.segments {
            for (score, (lowest, highest)) in of {
                let known: Vec<_> = self.scores.keys().map(String::as_str).collect();
                let Some(levels) = self.scores.get(score).map(Score::levels) else {
                    return Some((format!("segments.{name}"), load::unknown(score, &known, "score")));
                };
                if *lowest < 1 || lowest > highest || *highest > levels {
                    let problem = format!("`{score} = [{lowest}, {highest}]`: scores go from 1 to {levels}");
                    return Some((format!("segments.{name}"), problem));
                }
            }
        }
        let levels: Vec<u32> = self.scores.values().map(Score::levels).collect();
        if levels.iter().try_fold(1_u64, |all, n| all.checked_mul(u64::from(*n))).is_none_or(|cells| cells > CELLS) {
            return Some(("scores".into(), format!("more than {CELLS} combinations of scores")));
        }
        let mut scores = vec![1; levels.len()];
        loop {
            let takers: Vec<_> = self.segments.iter().filter(|(_, of)| self.takes(of, &scores)).collect();
            if takers.len() != 1 {
                let cell: Vec<_> =
                    self.scores.keys().zip(&scores).map(|(name, score)| format!("{name} = {score}")).collect();
                let problem = match takers.as_slice() {
                    [(one, _), (other, _), ..] => {
                        format!("customers of {} are in both `{one}` and `{other}`", cell.join(", "))
                    }
                    _ => format!("customers of {} are in no segment", cell.join(", ")),
                };
                return Some(("segments".into(), problem));
            }
            // The next combination, the last score first.
            let at = (0..levels.len()).rev().find(|at| scores[*at] < levels[*at])?;
            scores[at] += 1;
            scores[at + 1..].fill(1);
        }
    }
}

impl Segmentation {
    /// The feature that the objective is.
    #[must_use]
    pub fn objective_feature(&self) -> &str {
        self.objectives.get(&self.objective).map_or("", String::as_str)
    }

    /// The enabled rule set of that name.
    #[must_use]
    pub fn rule_set(&self, name: &str) -> Option<&RuleSet> {
        self.rules.get(name).filter(|rules| rules.enabled)
    }

    /// As far as a model depends on it: what was looked for, and not how long it stays.
    #[must_use]
    pub fn definition(&self) -> String {
        let of = Self {
            borderline: 0.0,
            carried_share: 1.0,
            reuse: true,
            refit_days: 0,
            refit_psi: 0.0,
            refit_margin: 0.0,
            ..self.clone()
        };
        format!("{of:?}")
    }

    /// The key that is wrong, and what is wrong with it.
    pub(super) fn problem(&self, features: &[&str], is_number: impl Fn(&str) -> bool) -> Option<(String, String)> {
        let at = |key: &str, problem: String| Some((format!("segmentation.{key}"), problem));
        for (place, name) in self.features.iter().enumerate() {
            if !features.contains(&name.as_str()) {
                return at("features", load::unknown(name, features, "feature"));
            }
            if self.features[..place].contains(name) {
                return at("features", format!("`{name}` is there twice"));
            }
        }
        for (objective, feature) in &self.objectives {
            if !features.contains(&feature.as_str()) {
                if *objective != self.objective {
                    continue;
                }
                return at(&format!("objectives.{objective}"), load::unknown(feature, features, "feature"));
            }
            if !is_number(feature) {
                return at(
                    &format!("objectives.{objective}"),
                    format!("the feature `{feature}` is text: segments have no order by it"),
                );
            }
        }
        if !self.objectives.contains_key(&self.objective) {
            let known: Vec<_> = self.objectives.keys().map(String::as_str).collect();
            return at("objective", load::unknown(&self.objective, &known, "objective"));
        }
        if self.features.is_empty() {
            return at("features", "at least one feature is needed".into());
        }
        let rules = self.rules.iter().filter(|(_, rules)| rules.enabled);
        for (name, rules) in rules {
            if let Some((key, problem)) = rules.problem(|name| features.contains(&name) && is_number(name)) {
                return at(&format!("rules.{name}.{key}"), problem);
            }
        }
        if self.approaches.is_empty() || self.approach.as_ref().is_some_and(|name| !self.approaches.contains(name)) {
            return at("approaches", "at least one is needed, and `approach` has to be among them".into());
        }
        if self.feature_sets.is_empty() || self.feature_set.is_some_and(|set| !self.feature_sets.contains(&set)) {
            return at("feature_sets", "at least one is needed, and `feature_set` has to be among them".into());
        }
        if !(self.carried_share > 0.0 && self.carried_share <= 1.0) {
            return at("carried_share", "a share above 0, and at most 1, is needed".into());
        }
        if self.min_k < 2 || self.max_k < self.min_k || self.max_k > 64 {
            let problem = format!("2 ≤ min_k ≤ max_k ≤ 64 is needed, not {} and {}", self.min_k, self.max_k);
            return at("min_k", problem);
        }
        if self.k.is_some_and(|k| !(2..=64).contains(&k)) {
            return at("k", "k must be between 2 and 64".into());
        }
        if !(0.0..0.5).contains(&self.winsorise) {
            return at("winsorise", format!("{} is no quantile from 0 to below 0.5", self.winsorise));
        }
        for (key, value) in
            [("borderline", self.borderline), ("refit_psi", self.refit_psi), ("refit_margin", self.refit_margin)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return at(key, format!("{value} is not 0 or more"));
            }
        }
        if self.sample < 100
            || self.starts == 0
            || self.max_passes == 0
            || self.tolerance.is_nan()
            || self.tolerance <= 0.0
        {
            let problem = "sample ≥ 100, starts ≥ 1, max_passes ≥ 1 and tolerance > 0 are needed";
            return Some(("segmentation".into(), problem.into()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::Project;

    fn problem(text: &str) -> String {
        let text = format!("[segmentation.rules.mine]\ndescription = \"d\"\n{text}\n");
        Project::load("t", &text, &[]).expect_err("it is refused").to_string()
    }

    const TWO: &str = "scores.r = { feature = \"recency_days\", cuts = [30, 90], best = \"low\" }\nscores.f = { feature = \"frequency\", quantiles = 2 }\n";

    #[test]
    fn every_combination_of_scores_is_in_one_segment() {
        let whole =
            format!("{TWO}[segmentation.rules.mine.segments]\nnear = {{ r = [2, 3] }}\nfar = {{ r = [1, 1] }}\n");
        let project = Project::load("t", &format!("[segmentation.rules.mine]\ndescription = \"d\"\n{whole}"), &[]);
        let rules = project.expect("whole").segmentation.rules["mine"].clone();
        assert_eq!([[1, 1], [1, 2], [2, 1], [3, 2]].map(|scores| rules.segment(&scores)), [1, 1, 0, 0].map(Some));

        let gap = problem(&format!(
            "{TWO}[segmentation.rules.mine.segments]\na = {{ r = [2, 3] }}\nb = {{ r = [1, 1], f = [1, 1] }}\n"
        ));
        assert!(gap.contains("customers of r = 1, f = 2 are in no segment"), "{gap}");
        let twice =
            problem(&format!("{TWO}[segmentation.rules.mine.segments]\na = {{ r = [1, 2] }}\nb = {{ r = [2, 3] }}\n"));
        assert!(twice.contains("customers of r = 2, f = 1 are in both `a` and `b`"), "{twice}");
        let high = problem(&format!("{TWO}[segmentation.rules.mine.segments]\na = {{ r = [1, 4] }}\nb = {{}}\n"));
        assert!(high.contains("`r = [1, 4]`: scores go from 1 to 3"), "{high}");
        let unknown = problem(&format!("{TWO}[segmentation.rules.mine.segments]\na = {{ m = [1, 2] }}\nb = {{}}\n"));
        assert!(unknown.contains("unknown score `m`"), "{unknown}");
    }

    #[test]
    fn a_score_is_of_a_number_and_has_parts() {
        let of = |score: &str| {
            problem(&format!(
                "scores.r = {score}\n[segmentation.rules.mine.segments]\na = {{ r = [1, 1] }}\nb = {{ r = [2, 2] }}\n"
            ))
        };
        assert!(of("{ feature = \"gender\", quantiles = 2 }").contains("`gender` is no numeric feature"));
        assert!(of("{ feature = \"monetary\" }").contains("either `quantiles` or `cuts` is needed"));
        assert!(of("{ feature = \"monetary\", cuts = [5, 5] }").contains("each larger than the one before"));
    }

    /// The usual ten cover everything once: the defaults would not load otherwise.
    #[test]
    fn the_usual_segments_are_there() {
        let project = Project::load("t", "", &[]).expect("defaults");
        assert_eq!(project.segmentation.rule_set("rfm").map(|rules| rules.segments.len()), Some(10));
    }

    #[test]
    fn how_long_a_model_stays_is_no_part_of_what_it_is() {
        let of = |text: &str| Project::load("t", text, &[]).expect("valid").segmentation.definition();
        assert_eq!(of(""), of("[segmentation]\nrefit_days = 3\nborderline = 0.1\n"));
        assert_ne!(of(""), of("[segmentation]\nmin_k = 3\n"));
    }
}
