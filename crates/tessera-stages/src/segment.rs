//! Segment: from features to segments.
//!
//! Reads `features`. Writes `feature_report` (what each is like, and whether it is clustered on), `model_candidates` (every number of segments that was tried on the sample, and why one was
//! chosen), `model`, `segments` (all customers), and, beside the parent night, `segment_lineage` and `segment_moves`.
//!
//! Candidates are fitted by smartcore on customers sampled by the hash of their key. The chosen one is refined on all
//! customers by Lloyd's algorithm (1982): each pass is one aggregate of the engine with exact sums, so that no
//! partitioning changes a centroid; an empty cluster is reseeded with the farthest customer. A segment keeps the id that the parent night gave it (`carry`); new
//! ones are numbered by the centroid of the ordering feature, largest first.

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray},
    common::ScalarValue,
    logical_expr::{Expr, ident},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_algo::{
    Matrix, kmeans,
    lloyd::{self, Centroids, Pass},
    parallel,
    scorecard::{self, Candidate, Criteria},
    stability, validity,
};
use tessera_contract::Feature;
use tessera_engine::{
    formula::text,
    functions::{centroids_literal, pass_from},
};

use crate::{
    Night, Outcome, Output, Stage, StageError, StageFuture, rows,
    scaled::{self, Axis, Known, Part},
};

mod carry;
mod model;
mod moves;
mod report;

pub(crate) use self::model::Model;
use self::{carry::carry, moves::moves, report::Report};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "segment",
    purpose: "tries numbers of segments on a sample, refines the chosen one on all customers",
    sources: false,
    reads: &["features", "accounts"],
    reads_previous: &["segments", "segment_lineage", "model", "accounts"],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &["feature_report", "model_candidates", "model", "segments", "segment_lineage", "segment_moves"],
    settings: &["segmentation"],
    decides: None,
    run,
};

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    segment(night).boxed()
}

/// Splits of the sample for the prediction strength.
const SPLITS: usize = 2;

async fn segment(night: &Night<'_>) -> Result<Outcome, StageError> {
    let settings = &night.project.segmentation;
    let known = Known::of(night).await?;
    if known.customers == 0 {
        return Err(StageError::Data("no customer has a purchase before the night: there is nobody to segment".into()));
    }
    let mut report = Report::new(night, &known)?;
    let wanted: Vec<(&str, &Feature)> = settings.features.iter().filter_map(|name| report.admits(name)).collect();
    let (axes, counted) = scaled::axes(night, &wanted, &known).await?;
    report.counted(counted, &axes);
    for (name, why) in report.left_out() {
        tracing::warn!("the feature {name} takes no part in the clustering: {why}");
    }
    if axes.is_empty() {
        return Err(StageError::Data("none of segmentation.features is available".into()));
    }
    let customers = known.customers;

    let frame = night.engine.materialise(night.sql(&scaled::query(&axes, "")).await?, "scaled").await?;
    let condition = scaled::sampled(settings.sample, customers);
    let sample = night.over(&format!("SELECT * FROM scaled WHERE {condition}"), &[("scaled", &frame)]).await?;
    let (_, sample, hashes) = scaled::sample(sample, axes.len()).await?;

    let is_number = |axis: &Axis| matches!(axis.part, Part::Number(_));
    let order_by = axes.iter().position(|axis| is_number(axis) && axis.feature == settings.order_by);
    let (candidates, chosen) = candidates(night, &sample, &hashes, order_by, customers)?;
    let centroids = refine(night, &frame, chosen.centroids, axes.len()).await?;
    let centroids = in_order(&centroids, order_by);
    let assigned = |centroids: &Centroids| {
        let assign = assign(night, centroids, axes.len())?.alias("a");
        Ok::<_, StageError>(frame.clone().select(vec![ident("customer_key"), ident("imputed"), assign])?)
    };
    let lineage = carry(night, &assigned(&centroids)?, centroids.k()).await?;
    let mut order: Vec<usize> = (0..centroids.k()).collect();
    order.sort_by_key(|at| lineage.ids[*at]);
    let centroids = centroids.reordered(&order);
    let ids: Vec<i32> = order.iter().map(|at| lineage.ids[*at]).collect();

    let model_id = model_id(&axes, &centroids);
    let names = names(&axes, &centroids);

    let assigned = assigned(&centroids)?;
    let cases: String = names.iter().enumerate().map(|(at, name)| format!(" WHEN {at} THEN {}", text(name))).collect();
    let of: String = ids.iter().enumerate().map(|(at, id)| format!(" WHEN {at} THEN {id}")).collect();
    let query = format!(
        "SELECT CASE place{of} END AS segment_id, customer_key, CASE place{cases} END AS segment_name, distance, margin, \
         margin < arrow_cast('{:?}', 'Float64') AS borderline, imputed FROM (SELECT customer_key, imputed, get_field(a, 'segment_id') AS place, \
         get_field(a, 'distance') AS distance, get_field(a, 'margin') AS margin FROM assigned)",
        settings.borderline
    );
    let segments = night.over(&query, &[("assigned", &assigned)]).await?;
    let moves = moves(night, &segments).await?;
    Ok(vec![
        Output::table(night, "feature_report", report.frame()?)?,
        Output::table(night, "model_candidates", candidates)?,
        Output::table(night, "model", model(night, &axes, &centroids, &ids, &model_id)?)?,
        Output::table(night, "segments", segments)?,
        Output::table(night, "segment_lineage", lineage.frame(night)?)?,
        Output::table(night, "segment_moves", moves)?,
    ]
    .into())
}

/// The candidate that goes on to all customers.
struct Chosen {
    centroids: Centroids,
}

/// Every k on the sample, judged; the table and the chosen one.
fn candidates(
    night: &Night<'_>,
    sample: &Matrix,
    hashes: &[u64],
    order_by: Option<usize>,
    customers: i64,
) -> Result<(DataFrame, Chosen), StageError> {
    let settings = &night.project.segmentation;
    let distinct = kmeans::distinct_rows(sample);
    let least = settings.k.unwrap_or(settings.min_k);
    if distinct < least {
        return Err(StageError::Data(format!(
            "{customers} customers with {distinct} different feature rows cannot make {least} segments; \
             lower segmentation.{}, add features, or wait for more data",
            if settings.k.is_some() { "k" } else { "min_k" }
        )));
    }
    let mut ks: Vec<usize> = (settings.min_k..=settings.max_k.min(distinct)).collect();
    if let Some(k) = settings.k.filter(|k| !ks.contains(k)) {
        ks.push(k);
        ks.sort_unstable();
    }
    let seeds: Vec<u64> = (0..settings.starts as u64).map(|i| settings.seed.wrapping_add(i)).collect();
    let refused = |e: &dyn std::fmt::Display| StageError::Data(e.to_string());
    let threads = night.engine.partitions();
    // The longest first, so that no thread is left alone with it at the end.
    let longest_first: Vec<usize> = ks.iter().rev().copied().collect();
    let mut fitted = parallel::map(&longest_first, threads, |k| {
        let fit = kmeans::fit_best(sample, *k, &seeds)?;
        // A half of the sample may have too few different rows.
        Ok((fit, stability::prediction_strength(sample, hashes, *k, settings.seed, SPLITS).ok()))
    });
    fitted.reverse();
    let fitted = fitted.into_iter().collect::<Result<Vec<_>, kmeans::KMeansError>>().map_err(|e| refused(&e))?;
    let (fits, strengths): (Vec<_>, Vec<_>) = fitted.into_iter().unzip();
    let labels: Vec<(&[u32], usize)> = fits.iter().zip(&ks).map(|(fit, k)| (fit.labels.as_slice(), *k)).collect();
    let silhouettes = validity::silhouettes(sample, &labels, threads).map_err(|e| refused(&e))?;
    let mut judged = Vec::new();
    for ((((labels, k), fit), silhouette), strength) in labels.iter().zip(&fits).zip(&silhouettes).zip(strengths) {
        let indices = validity::from_labels(sample, labels, *k).map_err(|e| refused(&e))?;
        judged.push(Candidate {
            k: *k,
            silhouette: silhouette.mean,
            calinski_harabasz: indices.calinski_harabasz,
            davies_bouldin: indices.davies_bouldin,
            prediction_strength: strength,
            min_share: indices.smallest as f64 / sample.rows() as f64,
            objective_spread: order_by.map(|column| validity::spread(sample, column, &fit.labels, *k)),
        });
    }
    let criteria = Criteria {
        pinned: settings.k,
        min_share: night.project.validation.gates.get("share").and_then(|g| g.at_least).unwrap_or(0.0),
        ..Criteria::default()
    };
    let scored = scorecard::choose(&judged, &criteria).map_err(|e| refused(&e))?;
    let best = scored.iter().position(|s| s.chosen).unwrap_or(0);
    let float = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let small = |values: Vec<usize>| -> ArrayRef {
        Arc::new(values.into_iter().map(|v| i32::try_from(v).ok()).collect::<Int32Array>())
    };
    let table = rows::frame(
        night.engine,
        vec![
            ("algorithm", Arc::new(StringArray::from(vec!["kmeans"; ks.len()]))),
            ("k", small(ks.clone())),
            ("seed", Arc::new(fits.iter().map(|f| i64::try_from(f.seed).ok()).collect::<Int64Array>())),
            ("inertia", float(fits.iter().map(|f| Some(f.inertia)).collect())),
            ("silhouette", float(judged.iter().map(|c| Some(c.silhouette)).collect())),
            ("davies_bouldin", float(judged.iter().map(|c| Some(c.davies_bouldin)).collect())),
            ("calinski_harabasz", float(judged.iter().map(|c| Some(c.calinski_harabasz)).collect())),
            ("prediction_strength", float(judged.iter().map(|c| c.prediction_strength).collect())),
            ("min_size", float(judged.iter().map(|c| Some(c.min_share)).collect())),
            ("objective_spread", float(judged.iter().map(|c| c.objective_spread).collect())),
            ("score", float(scored.iter().map(|s| Some(s.score)).collect())),
            ("chosen", Arc::new(scored.iter().map(|s| Some(s.chosen)).collect::<BooleanArray>())),
            ("reason", Arc::new(scored.iter().map(|s| Some(s.reason.as_str())).collect::<StringArray>())),
        ],
    )?;
    Ok((table, Chosen { centroids: fits[best].centroids.clone() }))
}

/// Lloyd's algorithm over all customers, one plan a pass.
async fn refine(
    night: &Night<'_>,
    frame: &DataFrame,
    mut centroids: Centroids,
    dims: usize,
) -> Result<Centroids, StageError> {
    let settings = &night.project.segmentation;
    for pass in 1..=settings.max_passes {
        let sums = lloyd_pass(night, frame, &centroids, dims).await?;
        let (next, shift) = lloyd::step(&centroids, &sums).map_err(|e| StageError::Data(e.to_string()))?;
        tracing::debug!(pass, shift, "Lloyd");
        centroids = next;
        if shift < settings.tolerance {
            break;
        }
    }
    Ok(centroids)
}

/// One pass over all customers of a frame with `key_hash` and `z0`, `z1` ….
pub(crate) async fn lloyd_pass(
    night: &Night<'_>,
    frame: &DataFrame,
    centroids: &Centroids,
    dims: usize,
) -> Result<Pass, StageError> {
    let udaf = night.engine.session().state().aggregate_functions().get("lloyd_pass").cloned();
    let udaf = udaf.ok_or_else(|| StageError::Data("the session lacks lloyd_pass".into()))?;
    let mut args = vec![centroids_literal(centroids), ident("key_hash")];
    args.extend(axis_columns(dims));
    let batch = rows::collect(frame.clone().aggregate(Vec::new(), vec![udaf.call(args).alias("pass")])?).await?;
    Ok(pass_from(&ScalarValue::try_from_array(batch.column(0), 0)?)?)
}

fn axis_columns(dims: usize) -> impl Iterator<Item = Expr> {
    (0..dims).map(|i| ident(format!("z{i}")))
}

/// The nearest centroid of a row of such a frame.
pub(crate) fn assign(night: &Night<'_>, centroids: &Centroids, dims: usize) -> Result<Expr, StageError> {
    let udf = night.engine.session().state().scalar_functions().get("assign").cloned();
    let udf = udf.ok_or_else(|| StageError::Data("the session lacks assign".into()))?;
    Ok(udf.call(std::iter::once(centroids_literal(centroids)).chain(axis_columns(dims)).collect()))
}

/// The centroids numbered by one coordinate, largest first; ties by all coordinates.
fn in_order(centroids: &Centroids, order_by: Option<usize>) -> Centroids {
    let mut order: Vec<usize> = (0..centroids.k()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (centroids.row(*a), centroids.row(*b));
        let first = order_by.map_or(std::cmp::Ordering::Equal, |i| b[i].total_cmp(&a[i]));
        first.then_with(|| {
            b.iter().zip(a).map(|(b, a)| b.total_cmp(a)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        })
    });
    centroids.reordered(&order)
}

/// Two features that set a segment apart the most, as words; equal names are told apart by number.
fn names(axes: &[Axis], centroids: &Centroids) -> Vec<String> {
    let words = |axis: &Axis| {
        let feature = axis.feature.trim_end_matches("_days").replace('_', " ");
        match &axis.part {
            Part::Number(_) => feature,
            Part::Category(value) => format!("{feature} {value}"),
            Part::Other(_) => format!("other {feature}"),
        }
    };
    let mut names: Vec<String> = (0..centroids.k())
        .map(|id| {
            let mut effects: Vec<_> = centroids.row(id).iter().zip(axes).collect();
            effects.sort_by(|(a, x), (b, y)| b.abs().total_cmp(&a.abs()).then_with(|| x.feature.cmp(&y.feature)));
            let parts: Vec<_> = effects
                .iter()
                .take(2)
                .map(|(effect, axis)| format!("{} {}", if **effect < 0.0 { "low" } else { "high" }, words(axis)))
                .collect();
            parts.join(", ")
        })
        .collect();
    for i in 0..names.len() {
        let same: Vec<_> = (i..names.len()).filter(|j| names[*j] == names[i]).collect();
        if same.len() > 1 {
            for (n, j) in same.into_iter().enumerate() {
                names[j] = format!("{} ({})", names[j], n + 1);
            }
        }
    }
    names
}

fn model_id(axes: &[Axis], centroids: &Centroids) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for axis in axes {
        let _ = write!(text, "{axis:?};");
    }
    for id in 0..centroids.k() {
        let _ = write!(text, "{:?};", centroids.row(id));
    }
    tessera_algo::hash_hex(text.as_bytes())
}

fn model(
    night: &Night<'_>,
    axes: &[Axis],
    centroids: &Centroids,
    ids: &[i32],
    model_id: &str,
) -> Result<DataFrame, StageError> {
    let cells: Vec<(usize, usize)> = (0..centroids.k()).flat_map(|id| (0..axes.len()).map(move |a| (id, a))).collect();
    let float = |get: &dyn Fn(usize, usize) -> f64| -> ArrayRef {
        Arc::new(cells.iter().map(|(id, a)| Some(get(*id, *a))).collect::<Float64Array>())
    };
    let maybe = |get: &dyn Fn(&Axis) -> Option<f64>| -> ArrayRef {
        Arc::new(cells.iter().map(|(_, a)| get(&axes[*a])).collect::<Float64Array>())
    };
    let text = |get: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(cells.iter().map(|(_, a)| Some(get(*a))).collect::<StringArray>())
    };
    let columns = vec![
        ("segment_id", Arc::new(cells.iter().map(|(at, _)| Some(ids[*at])).collect::<Int32Array>()) as ArrayRef),
        ("feature", text(&|a| axes[a].feature.clone())),
        ("category", Arc::new(cells.iter().map(|(_, a)| axes[*a].category()).collect::<StringArray>())),
        ("model_id", text(&|_| model_id.to_owned())),
        ("centroid", float(&|id, a| centroids.row(id)[a])),
        ("mean", float(&|_, a| axes[a].mean)),
        ("scale", float(&|_, a| axes[a].scale)),
        ("transform", text(&|a| axes[a].transform().to_owned())),
        ("low", maybe(&|axis| axis.low)),
        ("high", maybe(&|axis| axis.high)),
        ("imputed", maybe(&|axis| axis.imputed)),
        ("known_share", float(&|_, a| axes[a].known)),
    ];
    rows::frame(night.engine, columns)
}

#[cfg(test)]
mod tests;
