//! What could be the night's segments: every approach of the project on every set of features, judged on one sample and on the same axes.

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::{
    Matrix,
    algorithms::{Algorithm, Fit},
    kmeans,
    lloyd::Centroids,
    parallel,
    scorecard::{self, Candidate, Scored},
    stability,
    validity::{self, Indices, Silhouette},
};
use tessera_contract::{
    Criterion, Project, Scaling,
    project::segmentation::{FeatureSet, RuleSet},
};

use super::{Model, scores::Scores};
use crate::{
    Night, StageError, rows,
    scaled::{Axis, Known},
    validate,
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
enum Way<'a> {
    Algorithm(&'static Algorithm),
    Rules(&'a RuleSet),
    /// The model in use.
    Parent(&'a InUse<'a>),
    /// On from its centroids.
    Warm(Centroids),
}

/// A candidate to be.
struct Job<'a> {
    way: Way<'a>,
    name: &'a str,
    set: FeatureSet,
    /// The axes of the set.
    columns: Vec<usize>,
    /// Segments that are asked for; none where they are found.
    k: Option<usize>,
}

/// What was found.
struct Found {
    labels: Vec<u32>,
    k: usize,
    seed: Option<u64>,
    inertia: Option<f64>,
    dissolved: usize,
    strength: Option<f64>,
    what: What,
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

/// The chosen one.
pub(super) struct Chosen {
    pub what: What,
    pub algorithm: String,
    pub feature_set: String,
    /// Why, in words.
    pub reason: String,
}

/// Whether a feature of that criterion is in a set.
pub(super) fn in_set(set: FeatureSet, criterion: Criterion) -> bool {
    match set {
        FeatureSet::All => true,
        FeatureSet::Behavioural => criterion == Criterion::Behavioural,
        FeatureSet::Demographic => criterion == Criterion::Demographic,
        FeatureSet::Geographic => criterion == Criterion::Geographic,
        FeatureSet::Psychographic => criterion == Criterion::Psychographic,
    }
}

/// Every approach is an algorithm or rules of the project.
pub(crate) fn known_approaches(project: &Project) -> Result<(), StageError> {
    let settings = &project.segmentation;
    for name in settings.approaches.iter().chain(&settings.approach) {
        if Algorithm::named(name).is_none() && settings.rule_set(name).is_none() {
            let known: Vec<_> = (tessera_algo::algorithms::ALGORITHMS.iter().map(|algorithm| algorithm.name))
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

/// Tries and judges all; the table and the chosen one.
pub(super) fn candidates(
    night: &Night<'_>,
    sample: &Sample<'_>,
    in_use: Option<&InUse<'_>>,
) -> Result<(DataFrame, Chosen), StageError> {
    let settings = &night.project.segmentation;
    let jobs = jobs(night, sample, in_use);
    let distinct = kmeans::distinct_rows(&sample.matrix);
    let least = settings.k.unwrap_or(settings.min_k);
    if distinct < least && jobs.iter().any(|job| allowed(night, job, None) && matches!(job.way, Way::Algorithm(_))) {
        return Err(StageError::Data(format!(
            "{} customers with {distinct} different feature rows cannot make {least} segments; \
             lower segmentation.{}, add features, or wait for more data",
            sample.known.customers,
            if settings.k.is_some() { "k" } else { "min_k" }
        )));
    }
    let threads = night.engine.partitions();
    let found = parallel::map(&jobs, threads, |job| find(night, sample, job));
    let at: Vec<usize> = (0..jobs.len()).filter(|at| found[*at].is_ok()).collect();
    let ours: Vec<&Found> = found.iter().flatten().collect();
    let refused = |e: &dyn std::fmt::Display| StageError::Data(e.to_string());
    let labels: Vec<(&[u32], usize)> = ours.iter().map(|found| (found.labels.as_slice(), found.k)).collect();
    let silhouettes = validity::silhouettes(&sample.matrix, &labels, threads).map_err(|e| refused(&e))?;
    let objective = objective(night, sample.known);
    let mut judged: Vec<(Candidate, Indices)> = Vec::new();
    for ((at, found), silhouette) in at.iter().zip(&ours).zip(&silhouettes) {
        let indices = validity::from_labels(&sample.matrix, &found.labels, found.k).map_err(|e| refused(&e))?;
        let candidate = Candidate {
            k: found.k,
            silhouette: silhouette.mean,
            calinski_harabasz: indices.calinski_harabasz,
            davies_bouldin: indices.davies_bouldin,
            prediction_strength: found.strength,
            objective_spread: objective.as_ref().map(|x| validity::spread(x, &found.labels, found.k)),
            allowed: allowed(night, &jobs[*at], Some(found)),
            fails: match jobs[*at].columns.len() == sample.axes.len() {
                true => broken(night, sample, &jobs[*at], found, &indices, silhouette),
                // The gates will be asked on its own axes.
                false => {
                    let ours = sample.matrix.narrowed(&jobs[*at].columns);
                    let labels = (found.labels.as_slice(), found.k);
                    let indices = validity::from_labels(&ours, labels.0, labels.1).map_err(|e| refused(&e))?;
                    let own = validity::silhouettes(&ours, &[labels], threads).map_err(|e| refused(&e))?;
                    broken(night, sample, &jobs[*at], found, &indices, &own[0])
                }
            },
            incumbent: matches!(found.what, What::Parent),
        };
        judged.push((candidate, indices));
    }
    let only: Vec<Candidate> = judged.iter().map(|(candidate, _)| candidate.clone()).collect();
    let scored = scorecard::choose(&only, settings.refit_margin);
    let table = table(night, &jobs, &found, &at, &judged, &scored)?;
    let Some(best) = scored.iter().position(|scored| scored.chosen) else {
        let why = found.iter().find_map(|found| found.as_ref().err()).cloned().unwrap_or_default();
        return Err(StageError::Data(format!("no approach that the project allows finds segments: {why}")));
    };
    let job = &jobs[at[best]];
    let chosen = Chosen {
        what: ours[best].what.clone(),
        algorithm: job.name.to_owned(),
        feature_set: job.set.name().to_owned(),
        reason: scored[best].reason.clone(),
    };
    if let Some(why) = &judged[best].0.fails {
        tracing::warn!("no candidate passes every required gate: {why}");
    }
    Ok((table, chosen))
}

/// The row of a night that keeps its model, or what its sample fails.
pub(super) fn judged_alone(
    night: &Night<'_>,
    sample: &Sample<'_>,
    in_use: &InUse<'_>,
) -> Result<(DataFrame, Option<String>), StageError> {
    let job = parent_job(in_use, Vec::new());
    let found = [Ok(Found {
        labels: in_use.labels.clone(),
        k: in_use.model.centroids.k(),
        seed: None,
        inertia: None,
        dissolved: 0,
        strength: None,
        what: What::Parent,
    })];
    let Ok(ours) = &found[0] else { return Err(StageError::Data("there is no model".into())) };
    let refused = |e: &dyn std::fmt::Display| StageError::Data(e.to_string());
    let labels = [(ours.labels.as_slice(), ours.k)];
    let silhouettes =
        validity::silhouettes(&sample.matrix, &labels, night.engine.partitions()).map_err(|e| refused(&e))?;
    let indices = validity::from_labels(&sample.matrix, &ours.labels, ours.k).map_err(|e| refused(&e))?;
    let fails = broken(night, sample, &job, ours, &indices, &silhouettes[0]);
    let candidate = Candidate {
        k: ours.k,
        silhouette: silhouettes[0].mean,
        calinski_harabasz: indices.calinski_harabasz,
        davies_bouldin: indices.davies_bouldin,
        prediction_strength: None,
        objective_spread: objective(night, sample.known).map(|x| validity::spread(&x, &ours.labels, ours.k)),
        allowed: true,
        fails: fails.clone(),
        incumbent: true,
    };
    let reason = format!("in use since {}", super::day(in_use.model.fitted_on));
    let scored = [Scored { score: f64::NAN, chosen: true, reason }];
    Ok((table(night, &[job], &found, &[0], &[(candidate, indices)], &scored)?, fails))
}

fn parent_job<'a>(in_use: &'a InUse<'a>, columns: Vec<usize>) -> Job<'a> {
    let sets = [FeatureSet::Behavioural, FeatureSet::Demographic, FeatureSet::Geographic, FeatureSet::Psychographic];
    let set = sets.into_iter().find(|set| set.name() == in_use.model.feature_set).unwrap_or(FeatureSet::All);
    let k = Some(in_use.model.centroids.k());
    Job { way: Way::Parent(in_use), name: &in_use.model.algorithm, set, columns, k }
}

/// What is tried. The longest first, so that no thread is left alone with it at the end.
fn jobs<'a>(night: &'a Night<'_>, sample: &Sample<'_>, in_use: Option<&'a InUse<'a>>) -> Vec<Job<'a>> {
    let settings = &night.project.segmentation;
    let columns = |set: FeatureSet| -> Vec<usize> {
        let of = |axis: &Axis| night.project.features.get(&axis.feature).is_some_and(|f| in_set(set, f.criterion));
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
        let parent = parent_job(in_use, Vec::new());
        let rules = settings.rule_set(parent.name).filter(|_| in_use.model.rules.is_some());
        let columns = rules.map_or_else(|| columns(parent.set), scored);
        let refined = Algorithm::named(parent.name).is_some_and(|algorithm| algorithm.refined);
        if let Some(start) = warm(in_use.model, sample.axes, &columns).filter(|_| refined) {
            jobs.push(Job { way: Way::Warm(start), columns: columns.clone(), ..parent_job(in_use, Vec::new()) });
        }
        jobs.push(Job { columns, ..parent });
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
            let columns = (0..sample.axes.len()).collect();
            jobs.push(Job {
                way: Way::Rules(rules),
                name,
                set: FeatureSet::All,
                columns,
                k: Some(rules.segments.len()),
            });
        }
    }
    jobs
}

/// Whether the project's own choices leave a candidate in the field.
fn allowed(night: &Night<'_>, job: &Job<'_>, found: Option<&Found>) -> bool {
    let settings = &night.project.segmentation;
    let k = job.k.or(found.map(|found| found.k));
    settings.approach.as_ref().is_none_or(|name| name == job.name)
        && settings.feature_set.is_none_or(|set| set == job.set)
        && settings.k.is_none_or(|wanted| k.is_none_or(|k| k == wanted))
}

fn find(night: &Night<'_>, sample: &Sample<'_>, job: &Job<'_>) -> Result<Found, String> {
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
            let labels = in_use.labels.clone();
            Ok(Found { labels, k, seed: None, inertia: None, dissolved: 0, strength, what: What::Parent })
        }
        Way::Rules(rules) => {
            let all: Vec<usize> = (0..sample.matrix.rows()).collect();
            let scores = Scores::of(rules, sample.known, &all).ok_or("nobody has a value of one of its features")?;
            Ok(Found {
                labels: scores.labels(sample.known, &all),
                k: rules.segments.len(),
                seed: None,
                inertia: None,
                dissolved: 0,
                strength: strength_of_rules(night, sample, rules),
                what: What::Rules { conditions: scores.conditions(), names: scores.names() },
            })
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

/// The objective of the sampled customers, on the scale on which it is clustered.
fn objective(night: &Night<'_>, known: &Known) -> Option<Vec<Option<f64>>> {
    let name = night.project.segmentation.objective_feature();
    let scaling = night.project.features.get(name)?.scaling;
    let scaled = |x: f64| match scaling {
        Scaling::None => x,
        Scaling::Log1p => x.max(0.0).ln_1p(),
    };
    Some(known.numbers.get(name)?.iter().map(|value| value.map(scaled)).collect())
}

/// The first required gate that the sample fails.
fn broken(
    night: &Night<'_>,
    sample: &Sample<'_>,
    job: &Job<'_>,
    found: &Found,
    indices: &Indices,
    silhouette: &Silhouette,
) -> Option<String> {
    let (smallest, all) = match &job.way {
        Way::Parent(in_use) => (*in_use.sizes.iter().min()?, in_use.sizes.iter().sum::<u64>()),
        // A cluster of nobody is the smallest of all.
        _ => {
            let mut sizes = vec![0_u64; found.k];
            found.labels.iter().for_each(|label| sizes[*label as usize] += 1);
            (*sizes.iter().min()?, sample.matrix.rows() as u64)
        }
    };
    let share = smallest as f64 / all.max(1) as f64;
    let lowest = silhouette.per_cluster.iter().copied().fold(f64::INFINITY, f64::min);
    let figures = [
        ("share", share),
        ("customers", share * sample.known.customers as f64),
        ("silhouette", silhouette.mean),
        ("silhouette_of_segment", lowest),
        ("variance_between_share", indices.variance_between_share),
        ("calinski_harabasz", indices.calinski_harabasz),
        ("davies_bouldin", indices.davies_bouldin),
    ];
    validate::broken(night.project, &figures)
}

fn table(
    night: &Night<'_>,
    jobs: &[Job<'_>],
    found: &[Result<Found, String>],
    at: &[usize],
    judged: &[(Candidate, Indices)],
    scored: &[Scored],
) -> Result<DataFrame, StageError> {
    let place = |job: usize| at.iter().position(|at| *at == job);
    let all = || 0..jobs.len();
    let text = |get: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(all().map(|job| Some(get(job))).collect::<StringArray>())
    };
    let float = |get: &dyn Fn(&Candidate, &Indices) -> Option<f64>| -> ArrayRef {
        let of = |job| place(job).and_then(|at| get(&judged[at].0, &judged[at].1)).filter(|x| x.is_finite());
        Arc::new(all().map(of).collect::<Float64Array>())
    };
    let small = |get: &dyn Fn(usize) -> Option<usize>| -> ArrayRef {
        Arc::new(all().map(|job| get(job).and_then(|v| i32::try_from(v).ok())).collect::<Int32Array>())
    };
    let of = |job: usize| found[job].as_ref().ok();
    let inertia = |job| of(job).and_then(|found| found.inertia);
    let seed = |job| of(job).and_then(|found| i64::try_from(found.seed?).ok());
    let score = |job| place(job).map(|at| scored[at].score).filter(|score| score.is_finite());
    let least = |job| {
        let found = of(job)?;
        let mut sizes = vec![0_u64; found.k];
        found.labels.iter().for_each(|label| sizes[*label as usize] += 1);
        Some(*sizes.iter().min()? as f64 / found.labels.len().max(1) as f64)
    };
    rows::frame(
        night.engine,
        vec![
            ("algorithm", text(&|job| jobs[job].name.to_owned())),
            ("feature_set", text(&|job| jobs[job].set.name().to_owned())),
            (
                "origin",
                text(&|job| {
                    let origin = match jobs[job].way {
                        Way::Parent(_) => "parent",
                        Way::Warm(_) => "warm",
                        Way::Algorithm(_) | Way::Rules(_) => "fresh",
                    };
                    origin.to_owned()
                }),
            ),
            ("k", small(&|job| of(job).map(|found| found.k).or(jobs[job].k))),
            ("dissolved", small(&|job| of(job).map(|found| found.dissolved))),
            ("seed", Arc::new(all().map(seed).collect::<Int64Array>())),
            ("inertia", Arc::new(all().map(inertia).collect::<Float64Array>())),
            ("silhouette", float(&|c, _| Some(c.silhouette))),
            ("davies_bouldin", float(&|c, _| Some(c.davies_bouldin))),
            ("calinski_harabasz", float(&|c, _| Some(c.calinski_harabasz))),
            ("prediction_strength", float(&|c, _| c.prediction_strength)),
            ("min_size", Arc::new(all().map(least).collect::<Float64Array>())),
            ("objective_spread", float(&|c, _| c.objective_spread)),
            ("score", Arc::new(all().map(score).collect::<Float64Array>())),
            (
                "chosen",
                Arc::new(
                    all().map(|job| Some(place(job).is_some_and(|at| scored[at].chosen))).collect::<BooleanArray>(),
                ),
            ),
            (
                "reason",
                text(&|job| match (&found[job], place(job)) {
                    (Err(why), _) => why.clone(),
                    (Ok(_), Some(at)) => scored[at].reason.clone(),
                    (Ok(_), None) => String::new(),
                }),
            ),
        ],
    )
}
