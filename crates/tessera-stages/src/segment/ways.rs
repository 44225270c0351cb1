//! The ways to find segments: every approach of the project on every set of features, and the model in use.

use tessera_algo::{
    Matrix,
    algorithms::{ALGORITHMS, Algorithm, Fit},
    kmeans,
    lloyd::Centroids,
    stability,
};
use tessera_contract::{
    Project,
    project::segmentation::{FeatureSet, RuleSet},
};

use super::{Model, scores::Scores};
use crate::{
    Night, StageError,
    scaled::{Axis, Known},
};

/// Splits of the sample for the prediction strength.
const SPLITS: usize = 2;
/// A segment is dissolved into the others below so many times the share that the gate asks for: over all customers it may be smaller than
/// in the sample.
const SPARE: f64 = 1.5;

/// The sample that all are judged on.
pub(super) struct Sample<'a> {
    /// On the axes of all features, in the order of the hashes.
    pub matrix: Matrix,
    pub axes: &'a [Axis],
    pub hashes: Vec<u64>,
    /// Of the same customers in the same order.
    pub known: &'a Known,
}

/// The model in use, and where it puts the sample and everybody.
pub(super) struct InUse<'a> {
    pub model: &'a Model,
    pub labels: Vec<u32>,
    /// Of all customers by segment.
    pub sizes: Vec<u64>,
}

/// How a candidate is found.
pub(super) enum Way<'a> {
    Algorithm(&'static Algorithm),
    Rules(&'a RuleSet),
    /// The model in use.
    Parent(&'a InUse<'a>),
    /// On from its centroids.
    Warm(Centroids),
}

impl Way<'_> {
    /// Where it comes from, as the table has it.
    pub(super) fn origin(&self) -> &'static str {
        match self {
            Self::Parent(_) => "parent",
            Self::Warm(_) => "warm",
            Self::Algorithm(_) | Self::Rules(_) => "fresh",
        }
    }
}

/// A candidate to be.
pub(super) struct Job<'a> {
    pub way: Way<'a>,
    pub name: &'a str,
    pub set: FeatureSet,
    /// The axes of the set.
    pub columns: Vec<usize>,
    /// Segments that are asked for; none where they are found.
    pub k: Option<usize>,
}

/// What was found.
pub(super) struct Found {
    pub labels: Vec<u32>,
    pub k: usize,
    pub seed: Option<u64>,
    pub inertia: Option<f64>,
    pub dissolved: usize,
    pub strength: Option<f64>,
    pub what: What,
}

impl Found {
    /// Of labels alone.
    pub(super) fn of(labels: Vec<u32>, k: usize, what: What) -> Self {
        Self { labels, k, seed: None, inertia: None, dissolved: 0, strength: None, what }
    }
}

/// What makes a candidate a model.
#[derive(Clone)]
pub(super) enum What {
    /// Means on the axes of these numbers, from which Lloyd's algorithm goes on over all customers, or not.
    Means { centroids: Centroids, columns: Vec<usize>, refined: bool },
    /// A rule a segment, with its name.
    Rules { conditions: Vec<String>, names: Vec<String> },
    /// The model in use.
    Parent,
}

/// Every approach is an algorithm or rules of the project.
pub(crate) fn known_approaches(project: &Project) -> Result<(), StageError> {
    let settings = &project.segmentation;
    for name in settings.approaches.iter().chain(&settings.approach) {
        if Algorithm::named(name).is_none() && settings.rule_set(name).is_none() {
            let known: Vec<_> = (ALGORITHMS.iter().map(|algorithm| algorithm.name))
                .chain(settings.rules.iter().filter(|(_, rules)| rules.enabled).map(|(name, _)| name.as_str()))
                .collect();
            return Err(StageError::Expression {
                place: "segmentation.approaches".into(),
                problem: format!("`{name}` is neither an algorithm nor enabled rules; known are {}", known.join(", ")),
            });
        }
    }
    Ok(())
}

/// The model in use as a candidate, of these axes.
pub(super) fn parent<'a>(in_use: &'a InUse<'a>, columns: Vec<usize>) -> Job<'a> {
    let set = FeatureSet::named(&in_use.model.feature_set).unwrap_or(FeatureSet::All);
    let k = Some(in_use.model.centroids.k());
    Job { way: Way::Parent(in_use), name: &in_use.model.algorithm, set, columns, k }
}

/// What is tried. The longest first, so that no thread is left alone with it at the end.
pub(super) fn jobs<'a>(night: &'a Night<'_>, sample: &Sample<'_>, in_use: Option<&'a InUse<'a>>) -> Vec<Job<'a>> {
    let settings = &night.project.segmentation;
    let columns = |set: FeatureSet| -> Vec<usize> {
        let of = |axis: &Axis| night.project.features.get(&axis.feature).is_some_and(|f| set.holds(f.criterion));
        (0..sample.axes.len()).filter(|at| of(&sample.axes[*at])).collect()
    };
    // Rules are of the features that they score; where none of them is clustered on, they are judged by all.
    let scored = |rules: &RuleSet| -> Vec<usize> {
        let features = rules.features();
        let ours = (0..sample.axes.len()).filter(|at| features.contains(&sample.axes[*at].feature.as_str()));
        Some(ours.collect::<Vec<_>>())
            .filter(|ours| !ours.is_empty())
            .unwrap_or_else(|| (0..sample.axes.len()).collect())
    };
    let mut ks: Vec<usize> = (settings.min_k..=settings.max_k).collect();
    ks.extend(settings.k.filter(|k| !ks.contains(k)));
    ks.sort_unstable_by(|a, b| b.cmp(a));
    let mut sets: Vec<(FeatureSet, Vec<usize>)> = Vec::new();
    for set in &settings.feature_sets {
        let columns = columns(*set);
        // Where it is what another is, it is tried once.
        if !columns.is_empty() && sets.iter().all(|(_, other)| *other != columns) {
            sets.push((*set, columns));
        }
    }
    let mut jobs = Vec::new();
    if let Some(in_use) = in_use {
        let model = in_use.model;
        let rules = settings.rule_set(&model.algorithm).filter(|_| model.rules.is_some());
        let set = FeatureSet::named(&model.feature_set).unwrap_or(FeatureSet::All);
        let columns = rules.map_or_else(|| columns(set), scored);
        let refined = Algorithm::named(&model.algorithm).is_some_and(|algorithm| algorithm.refined);
        if let Some(start) = warm(model, sample.axes, &columns).filter(|_| refined) {
            jobs.push(Job { way: Way::Warm(start), ..parent(in_use, columns.clone()) });
        }
        jobs.push(parent(in_use, columns));
    }
    for (set, columns) in sets {
        for name in &settings.approaches {
            let Some(algorithm) = Algorithm::named(name) else { continue };
            let asked: Vec<Option<usize>> =
                if algorithm.sized { ks.iter().copied().map(Some).collect() } else { vec![None] };
            jobs.extend(asked.into_iter().map(|k| Job {
                way: Way::Algorithm(algorithm),
                name,
                set,
                columns: columns.clone(),
                k,
            }));
        }
    }
    for name in &settings.approaches {
        if let Some(rules) = settings.rule_set(name) {
            let (columns, k) = (scored(rules), Some(rules.segments.len()));
            jobs.push(Job { way: Way::Rules(rules), name, set: FeatureSet::All, columns, k });
        }
    }
    jobs
}

/// Whether the project's own choices leave a candidate in the field.
pub(super) fn allowed(night: &Night<'_>, job: &Job<'_>, found: Option<&Found>) -> bool {
    let settings = &night.project.segmentation;
    let k = job.k.or(found.map(|found| found.k));
    settings.approach.as_ref().is_none_or(|name| name == job.name)
        && settings.feature_set.is_none_or(|set| set == job.set)
        && settings.k.is_none_or(|wanted| k.is_none_or(|k| k == wanted))
}

/// Finds it, if it can be found.
pub(super) fn find(night: &Night<'_>, sample: &Sample<'_>, job: &Job<'_>) -> Result<Found, String> {
    let settings = &night.project.segmentation;
    let seeds: Vec<u64> = (0..settings.starts as u64).map(|i| settings.seed.wrapping_add(i)).collect();
    let narrowed = sample.matrix.narrowed(&job.columns);
    let strength = |algorithm: &'static Algorithm, known: &Centroids| {
        if known.dims() != narrowed.cols() {
            return None;
        }
        stability::prediction_strength(&sample.hashes, settings.seed, SPLITS, |train, test| {
            stability::halves(algorithm, &narrowed, known, settings.seed, train, test)
        })
    };
    // How many a cluster of the sample has to have; who asks for a number of segments gets it.
    let gate = night.project.validation.gates.get("share").and_then(|gate| gate.at_least).unwrap_or(0.0);
    let least = match settings.k {
        Some(_) => 0,
        None => (SPARE * gate * sample.matrix.rows() as f64).ceil() as usize,
    };
    let means = |fit: Fit, dissolved: usize, refined: bool, strength: Option<f64>| Found {
        k: fit.centroids.k(),
        labels: fit.labels,
        seed: fit.seed,
        inertia: Some(fit.inertia),
        dissolved,
        strength,
        what: What::Means { centroids: fit.centroids, columns: job.columns.clone(), refined },
    };
    match &job.way {
        Way::Algorithm(algorithm) => {
            let k = job.k.unwrap_or(0);
            let shown = narrowed.rows().min(algorithm.rows);
            let part: Vec<usize> = (0..shown).collect();
            let part = (shown < narrowed.rows()).then(|| narrowed.select(&part));
            let fit = (algorithm.fit)(part.as_ref().unwrap_or(&narrowed), k, &seeds).map_err(|e| e.to_string())?;
            let fit = match part {
                Some(_) => Fit::nearest(&narrowed, fit.centroids, fit.seed).map_err(|e| e.to_string())?,
                None => fit,
            };
            let (fit, dissolved) = match algorithm.refined {
                true => kmeans::dissolved(&narrowed, fit, least).map_err(|e| e.to_string())?,
                false => (fit, 0),
            };
            let strength = strength(algorithm, &fit.centroids);
            Ok(means(fit, dissolved, algorithm.refined, strength))
        }
        Way::Warm(start) => {
            let fit = kmeans::from(&narrowed, start.clone()).map_err(|e| e.to_string())?;
            let (fit, dissolved) = kmeans::dissolved(&narrowed, fit, least).map_err(|e| e.to_string())?;
            let strength = strength(&kmeans::ALGORITHM, &fit.centroids);
            Ok(means(fit, dissolved, true, strength))
        }
        Way::Parent(in_use) => {
            let k = in_use.model.centroids.k();
            let rules = settings.rule_set(job.name).and_then(|rules| strength_of_rules(night, sample, rules));
            // On tonight's axes, where these are the same.
            let known = warm(in_use.model, sample.axes, &job.columns);
            let algorithm = Algorithm::named(job.name).zip(known);
            let strength = algorithm.map_or(rules, |(algorithm, known)| strength(algorithm, &known));
            Ok(Found { strength, ..Found::of(in_use.labels.clone(), k, What::Parent) })
        }
        Way::Rules(rules) => {
            let all: Vec<usize> = (0..sample.matrix.rows()).collect();
            let scores = Scores::of(rules, sample.known, &all).ok_or("nobody has a value of one of its features")?;
            let what = What::Rules { conditions: scores.conditions(), names: scores.names() };
            let labels = scores.labels(sample.known, &all);
            let strength = strength_of_rules(night, sample, rules);
            Ok(Found { strength, ..Found::of(labels, rules.segments.len(), what) })
        }
    }
}

/// How well the cuts of one half put the other together.
fn strength_of_rules(night: &Night<'_>, sample: &Sample<'_>, rules: &RuleSet) -> Option<f64> {
    stability::prediction_strength(&sample.hashes, night.project.segmentation.seed, SPLITS, |train, test| {
        let of = |rows: &[usize]| Some(Scores::of(rules, sample.known, rows)?.labels(sample.known, test));
        Some((of(test)?, of(train)?))
    })
}

/// The centroids of the model in use on tonight's axes, if it is made of the same ones.
fn warm(model: &Model, axes: &[Axis], columns: &[usize]) -> Option<Centroids> {
    let same = |a: &Axis, b: &Axis| a.feature == b.feature && a.part == b.part;
    let places: Vec<usize> = (columns.iter())
        .map(|column| model.axes.iter().position(|axis| same(axis, &axes[*column])))
        .collect::<Option<_>>()?;
    if places.len() != model.axes.len() || places.is_empty() || model.rules.is_some() {
        return None;
    }
    let moved = (0..model.centroids.k()).flat_map(|at| {
        let row = model.centroids.row(at);
        places.iter().zip(columns).map(|(place, column)| {
            let (old, new) = (&model.axes[*place], &axes[*column]);
            (row[*place] * old.scale + old.mean - new.mean) / new.scale
        })
    });
    Centroids::new(model.centroids.k(), columns.len(), moved.collect()).ok()
}
