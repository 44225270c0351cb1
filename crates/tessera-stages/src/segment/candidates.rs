//! What could be the night's segments: all that was found, judged on one sample and on the same axes.

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::{
    kmeans, parallel,
    scorecard::{self, Candidate, Scored},
    validity::{self, Indices, Silhouette, ValidityError},
};
use tessera_contract::Scaling;

use super::{
    day,
    ways::{Found, InUse, Job, Sample, Way, What, allowed, find, jobs, parent},
};
use crate::{Night, StageError, rows, scaled::Known, validate};

/// A candidate as the scorecard takes it, with all its indices.
type Judged = (Candidate, Indices);

/// The chosen one.
pub(super) struct Chosen {
    pub what: What,
    pub algorithm: String,
    pub feature_set: String,
    /// Why, in words.
    pub reason: String,
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
    let found = parallel::map(&jobs, night.engine.partitions(), |job| find(night, sample, job));
    let ours: Vec<(&Job<'_>, &Found)> =
        jobs.iter().zip(&found).filter_map(|(job, found)| Some((job, found.as_ref().ok()?))).collect();
    let judged = judge(night, sample, &ours)?;
    let only: Vec<Candidate> = judged.iter().map(|(candidate, _)| candidate.clone()).collect();
    let scored = scorecard::choose(&only, settings.refit_margin);
    let mut told = judged.iter().zip(&scored);
    let lines = jobs.iter().zip(&found).filter_map(|(job, found)| {
        let found = match found {
            Ok(found) => told.next().map(|(judged, scored)| Ok((found, judged, scored)))?,
            Err(why) => Err(why.as_str()),
        };
        Some(Line { job, found })
    });
    let table = table(night, &lines.collect::<Vec<_>>())?;
    let Some(best) = scored.iter().position(|scored| scored.chosen) else {
        let why = found.iter().find_map(|found| found.as_ref().err()).cloned().unwrap_or_default();
        return Err(StageError::Data(format!("no approach that the project allows finds segments: {why}")));
    };
    let (job, found) = ours[best];
    let chosen = Chosen {
        what: found.what.clone(),
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
    let job = parent(in_use, (0..sample.axes.len()).collect());
    let found = Found::of(in_use.labels.clone(), in_use.model.centroids.k(), What::Parent);
    let judged = judge(night, sample, &[(&job, &found)])?;
    let [judged] = judged.as_slice() else { return Err(StageError::Data("the model in use was not judged".into())) };
    // Alone it has no score.
    let reason = format!("in use since {}", day(in_use.model.fitted_on));
    let scored = Scored { score: f64::NAN, chosen: true, reason };
    let line = Line { job: &job, found: Ok((&found, judged, &scored)) };
    Ok((table(night, &[line])?, judged.0.fails.clone()))
}

/// The figures of what was found.
fn judge(night: &Night<'_>, sample: &Sample<'_>, found: &[(&Job<'_>, &Found)]) -> Result<Vec<Judged>, StageError> {
    let refused = |e: ValidityError| StageError::Data(e.to_string());
    let threads = night.engine.partitions();
    let labels: Vec<(&[u32], usize)> = found.iter().map(|(_, found)| (found.labels.as_slice(), found.k)).collect();
    let silhouettes = validity::silhouettes(&sample.matrix, &labels, threads).map_err(refused)?;
    let objective = objective(night, sample.known);
    let mut judged = Vec::new();
    for (((job, found), labels), silhouette) in found.iter().zip(&labels).zip(&silhouettes) {
        let indices = validity::from_labels(&sample.matrix, labels.0, labels.1).map_err(refused)?;
        let fails = match job.columns.len() == sample.axes.len() {
            true => broken(night, sample, job, &indices, silhouette),
            // The gates will be asked on its own axes.
            false => {
                let ours = sample.matrix.narrowed(&job.columns);
                let indices = validity::from_labels(&ours, labels.0, labels.1).map_err(refused)?;
                let own = validity::silhouettes(&ours, &[*labels], threads).map_err(refused)?;
                broken(night, sample, job, &indices, &own[0])
            }
        };
        let candidate = Candidate {
            k: found.k,
            silhouette: silhouette.mean,
            calinski_harabasz: indices.calinski_harabasz,
            davies_bouldin: indices.davies_bouldin,
            prediction_strength: found.strength,
            objective_spread: objective.as_ref().map(|x| validity::spread(x, labels.0, labels.1)),
            allowed: allowed(night, job, Some(found)),
            fails,
            incumbent: matches!(found.what, What::Parent),
        };
        judged.push((candidate, indices));
    }
    Ok(judged)
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
    indices: &Indices,
    silhouette: &Silhouette,
) -> Option<String> {
    let (smallest, all) = match &job.way {
        Way::Parent(in_use) => (*in_use.sizes.iter().min()?, in_use.sizes.iter().sum::<u64>()),
        _ => (indices.smallest, sample.matrix.rows() as u64),
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

/// A row of the table.
struct Line<'a> {
    job: &'a Job<'a>,
    /// With what was judged of it, or why nothing was found.
    found: Result<(&'a Found, &'a Judged, &'a Scored), &'a str>,
}

fn table(night: &Night<'_>, lines: &[Line<'_>]) -> Result<DataFrame, StageError> {
    let text = |get: &dyn Fn(&Line<'_>) -> String| -> ArrayRef {
        Arc::new(lines.iter().map(|line| Some(get(line))).collect::<StringArray>())
    };
    let float = |get: &dyn Fn(&Found, &Judged, &Scored) -> Option<f64>| -> ArrayRef {
        let of = |line: &Line<'_>| line.found.ok().and_then(|(f, j, s)| get(f, j, s)).filter(|x| x.is_finite());
        Arc::new(lines.iter().map(of).collect::<Float64Array>())
    };
    let small = |get: &dyn Fn(&Line<'_>) -> Option<usize>| -> ArrayRef {
        Arc::new(lines.iter().map(|line| get(line).and_then(|v| i32::try_from(v).ok())).collect::<Int32Array>())
    };
    let of = |line: &Line<'_>| line.found.ok().map(|(found, ..)| (found.k, found.dissolved));
    let seed = |line: &Line<'_>| line.found.ok().and_then(|(found, ..)| i64::try_from(found.seed?).ok());
    let chosen = |line: &Line<'_>| Some(line.found.is_ok_and(|(.., scored)| scored.chosen));
    rows::frame(
        night.engine,
        vec![
            ("algorithm", text(&|line| line.job.name.to_owned())),
            ("feature_set", text(&|line| line.job.set.name().to_owned())),
            ("origin", text(&|line| line.job.way.origin().to_owned())),
            ("k", small(&|line| of(line).map(|(k, _)| k).or(line.job.k))),
            ("dissolved", small(&|line| of(line).map(|(_, dissolved)| dissolved))),
            ("seed", Arc::new(lines.iter().map(seed).collect::<Int64Array>())),
            ("inertia", float(&|found, _, _| found.inertia)),
            ("silhouette", float(&|_, (c, _), _| Some(c.silhouette))),
            ("davies_bouldin", float(&|_, (c, _), _| Some(c.davies_bouldin))),
            ("calinski_harabasz", float(&|_, (c, _), _| Some(c.calinski_harabasz))),
            ("prediction_strength", float(&|_, (c, _), _| c.prediction_strength)),
            (
                "min_size",
                float(&|found, (_, indices), _| Some(indices.smallest as f64 / found.labels.len().max(1) as f64)),
            ),
            ("objective_spread", float(&|_, (c, _), _| c.objective_spread)),
            ("score", float(&|_, _, scored| Some(scored.score))),
            ("chosen", Arc::new(lines.iter().map(chosen).collect::<BooleanArray>())),
            ("reason", text(&|line| line.found.map_or_else(str::to_owned, |(.., scored)| scored.reason.clone()))),
        ],
    )
}
