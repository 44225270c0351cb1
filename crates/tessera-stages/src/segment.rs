//! Segment: from features to segments.
//!
//! Reads `features`. Writes `feature_report` (what each is like, and whether it is clustered on), `drift` and `drift_bins` (how far each has
//! gone), `model_candidates` (what was tried on the sample, and why one was chosen), `model`, `segments` (all customers), `segment_rules` (the same in
//! people's units, as far as a small tree says it), and, beside the parent night, `segment_lineage` and `segment_moves`.
//!
//! A night keeps the model of the parent night until drift, its age, a gate or another definition asks for a better one ([`Ends`]). Then every
//! approach is tried on customers sampled by the hash of their key (`candidates`), and the model in use stays in the field. A chosen
//! k-means is refined on all customers by Lloyd's algorithm (1982): each pass is one aggregate of the engine with exact sums, so that no
//! partitioning changes a centroid; an empty cluster is reseeded with the farthest customer. A segment keeps the id that the parent night
//! gave it (`carry`); new ones are numbered by the centroid of the objective's feature, largest first. Who is borderline stays (`place`).

use datafusion::{logical_expr::ident, prelude::DataFrame};
use futures::FutureExt;
use tessera_algo::lloyd::Centroids;
use tessera_contract::Feature;
use tessera_engine::write::{Lifetime, Route};

use crate::{
    Night, Outcome, Output, Stage, StageError, StageFuture, rows,
    scaled::{self, Axis, Known, Part},
};

mod candidates;
mod carry;
mod drift;
mod ends;
mod explain;
mod model;
mod moves;
mod passes;
mod place;
mod report;
mod scores;
mod ways;

use self::{
    candidates::{Chosen, candidates, judged_alone},
    carry::{Places, carry},
    drift::Drift,
    ends::{Ends, day, definition, ends, fits, in_use},
    moves::moves,
    passes::{in_order, refine},
    report::Report,
    ways::{InUse, Sample, What},
};
pub(crate) use self::{model::Model, passes::labelled_pass, ways::known_approaches};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "segment",
    purpose: "keeps the parent night's model, or finds a better one, and places all customers",
    sources: false,
    reads: &["features", "accounts"],
    reads_previous: &["segments", "segment_lineage", "model", "accounts", "drift_bins"],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &[
        "feature_report",
        "model_candidates",
        "model",
        "segments",
        "segment_lineage",
        "segment_moves",
        "segment_rules",
        "drift",
        "drift_bins",
    ],
    settings: &["segmentation", "validation.gates"],
    decides: None,
    run,
};

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    segment(night).boxed()
}

async fn segment(night: &Night<'_>) -> Result<Outcome, StageError> {
    let settings = &night.project.segmentation;
    let known = Known::of(night).await?;
    if known.customers == 0 {
        return Err(StageError::Data("no customer has a purchase before the night: there is nobody to segment".into()));
    }
    let mut report = Report::new(night, &known)?;
    let wanted: Vec<(&str, &Feature)> = settings.features.iter().filter_map(|name| report.admits(name)).collect();
    let definition = definition(night.project);
    let in_use = in_use(night).await?;
    // Where it puts tonight's customers.
    let mut there = None;
    // SQL of rules is of the night that made it: where the definition is another, its columns may be gone.
    let placed = |model: &&Model| fits(night, model) && (model.rules.is_none() || model.definition == definition);
    if let Some(model) = in_use.as_ref().filter(placed) {
        let near = night.materialised(place::nearest(night, model, None).await?, "nearest").await?;
        let (labels, distances) = sampled_places(night, &near, known.customers).await?;
        let sizes = sizes(night, &near, model.centroids.k()).await?;
        there = Some((near, InUse { model, labels, sizes }, distances));
    }
    let by_it = there.as_ref().map_or(&[][..], |(.., distances)| distances);
    let comparable = in_use.as_ref().is_some_and(|model| model.definition == definition);
    let drift = Drift::of(night, &known, by_it, comparable).await?;
    let mut ends = match &in_use {
        Some(model) => ends(night, model, &wanted, &known, &drift, &definition),
        None => Some(Ends::Over("there is no model to go on from".to_owned())),
    };
    let mut stays = None;
    if let (None, Some((near, placed, _))) = (&ends, &there) {
        let frame = night.sql(&scaled::query(&placed.model.axes, "")).await?;
        let sample = sample(night, &frame, &placed.model.axes, &known).await?;
        let (table, fails) = judged_alone(night, &sample, placed)?;
        match fails {
            Some(why) => ends = Some(Ends::Tried(format!("the one in use would be held: {why}"))),
            None => stays = Some((placed.model.clone(), near.clone(), table)),
        }
    }
    let (mut model, same, nearest, candidates, frozen) = match stays {
        Some((model, near, table)) => {
            tracing::info!("the model of {} stays", day(model.fitted_on));
            let (_, counted) = scaled::axes(night, &[], &known).await?;
            report.counted(counted, &wanted, &model.features());
            (model, true, near, table, None)
        }
        None => {
            let Some(Ends::Over(why) | Ends::Tried(why)) = &ends else {
                return Err(StageError::Data("the model in use has features that are not there".into()));
            };
            tracing::info!("a model is looked for: {why}");
            let (axes, counted) = scaled::axes(night, &wanted, &known).await?;
            if axes.is_empty() {
                return Err(StageError::Data("none of segmentation.features is available".into()));
            }
            let frame = night.engine.materialise(night.sql(&scaled::query(&axes, "")).await?, "scaled").await?;
            let sample = sample(night, &frame, &axes, &known).await?;
            let tried = there.as_ref().filter(|_| matches!(ends, Some(Ends::Tried(_))));
            let (table, chosen) = candidates(night, &sample, tried.map(|(_, placed, _)| placed))?;
            tracing::info!("{} of {} features: {}", chosen.algorithm, chosen.feature_set, chosen.reason);
            let (model, same, near) = match (found(night, &frame, &axes, &known, chosen, definition).await?, tried) {
                (Some((model, near)), _) => (model, false, near),
                (None, Some((near, placed, _))) => {
                    (Model { tried_on: night.as_of.days(), ..placed.model.clone() }, true, near.clone())
                }
                (None, None) => return Err(StageError::Data("there is no model in use".into())),
            };
            report.counted(counted, &wanted, &model.features());
            let (_, distances) = sampled_places(night, &near, known.customers).await?;
            (model, same, near, table, Some(drift.frozen(night, &known, &distances)))
        }
    };
    for (name, why) in report.left_out() {
        tracing::warn!("the feature {name} takes no part in the clustering: {why}");
    }

    let mut outcome = Outcome::default();
    let k = model.centroids.k();
    let (lineage, segments) = match same {
        true => {
            // The ids are known: whoever is kept is where it is kept.
            let segments = settled(night, &model, &nearest, &mut outcome).await?;
            (carry(night, Places::Same(&segments, &model), k).await?, segments)
        }
        false => {
            let lineage = carry(night, Places::New(&nearest), k).await?;
            model.ids.clone_from(&lineage.ids);
            let segments = settled(night, &model, &nearest, &mut outcome).await?;
            (lineage, segments)
        }
    };
    // Where the model is another, what the parent night's would have said.
    let before = match &there {
        Some((near, placed, _)) if !same => Some(place::segments(night, placed.model, near).await?),
        _ => None,
    };
    let moves = moves(night, &segments, if same { Some(&segments) } else { before.as_ref() }).await?;
    let rules = explain::rules(night, &model, &known, &segments).await?;
    let mut order: Vec<usize> = (0..model.ids.len()).collect();
    order.sort_by_key(|at| model.ids[*at]);
    model.reordered(&order);
    let used = model.features();
    outcome.outputs.extend([
        Output::table(night, "feature_report", report.frame()?)?,
        Output::table(night, "model_candidates", candidates)?,
        Output::table(night, "model", model.frame(night)?)?,
        Output::table(night, "segment_lineage", lineage.frame(night)?)?,
        Output::table(night, "segment_moves", moves)?,
        Output::table(night, "segment_rules", rules)?,
        Output::table(night, "drift", drift.frame(night, &used)?)?,
        Output::table(night, "drift_bins", frozen.as_ref().unwrap_or(&drift).bins(night)?)?,
    ]);
    Ok(outcome)
}

/// Writes the table `segments`. Gives of it what is held against the parent night: `customer_key`, `segment_id`, `was` and `was_kept`.
async fn settled(
    night: &Night<'_>,
    model: &Model,
    nearest: &DataFrame,
    outcome: &mut Outcome,
) -> Result<DataFrame, StageError> {
    let segments = place::segments(night, model, nearest).await?;
    let output = Output::table(night, "segments", segments.clone())?;
    if night.folders.is_none() {
        outcome.outputs.push(output);
        return Ok(segments);
    }
    let beside = ["customer_key", "segment_id", "was", "was_kept"].map(ident);
    let beside = Route::other("placed", beside.to_vec(), Lifetime::Scratch);
    let routes = output.routes.into_iter().chain([beside]).collect();
    let placed = night.write(outcome, Output { frame: segments, routes }).await?.remove("placed");
    placed.ok_or_else(|| StageError::Data("nothing was written of the segments".into()))
}

/// The sampled customers on some axes.
async fn sample<'a>(
    night: &Night<'_>,
    frame: &DataFrame,
    axes: &'a [Axis],
    known: &'a Known,
) -> Result<Sample<'a>, StageError> {
    let condition = scaled::sampled(night.project.segmentation.sample, known.customers);
    let sample = night.over(&format!("SELECT * FROM scaled WHERE {condition}"), &[("scaled", frame)]).await?;
    let (_, matrix, hashes) = scaled::sample(sample, axes.len()).await?;
    Ok(Sample { matrix, axes, hashes, known })
}

/// The places of the sampled customers, in the order of their hashes, and how far they are from the centroid.
async fn sampled_places(
    night: &Night<'_>,
    nearest: &DataFrame,
    customers: i64,
) -> Result<(Vec<u32>, Vec<Option<f64>>), StageError> {
    let condition = scaled::sampled(night.project.segmentation.sample, customers);
    let query = format!("SELECT place, distance FROM nearest WHERE {condition} ORDER BY key_hash, customer_key");
    let batch = rows::collect(night.over(&query, &[("nearest", nearest)]).await?).await?;
    let places = rows::integers(&batch, "place")?;
    let places = places.into_iter().map(|place| place.and_then(|place| u32::try_from(place).ok()).unwrap_or(0));
    Ok((places.collect(), rows::floats(&batch, "distance")?))
}

/// How many customers are nearest to each centroid.
async fn sizes(night: &Night<'_>, nearest: &DataFrame, k: usize) -> Result<Vec<u64>, StageError> {
    let query = "SELECT place, count(*) AS n FROM nearest WHERE place IS NOT NULL GROUP BY place";
    let batch = rows::collect(night.over(query, &[("nearest", nearest)]).await?).await?;
    let mut sizes = vec![0; k];
    for (place, n) in rows::integers(&batch, "place")?.into_iter().zip(rows::integers(&batch, "n")?) {
        if let Some(size) = place.and_then(|place| usize::try_from(place).ok()).and_then(|at| sizes.get_mut(at)) {
            *size = n.unwrap_or(0).unsigned_abs();
        }
    }
    Ok(sizes)
}

/// The chosen model over all customers, and where it puts them; none where it is the one in use.
async fn found(
    night: &Night<'_>,
    frame: &DataFrame,
    axes: &[Axis],
    known: &Known,
    chosen: Chosen,
    definition: String,
) -> Result<Option<(Model, DataFrame)>, StageError> {
    let settings = &night.project.segmentation;
    let tonight = night.as_of.days();
    let model = |axes: Vec<Axis>, centroids: Centroids, names: Vec<String>, rules: Option<Vec<String>>| Model {
        ids: (0..i32::try_from(centroids.k()).unwrap_or(i32::MAX)).collect(),
        axes,
        centroids,
        names,
        rules,
        algorithm: chosen.algorithm.clone(),
        feature_set: chosen.feature_set.clone(),
        fitted_on: tonight,
        tried_on: tonight,
        definition: definition.clone(),
    };
    let (model, near) = match chosen.what {
        What::Parent => return Ok(None),
        What::Means { centroids, columns, refined } => {
            let ours: Vec<Axis> = columns.iter().map(|column| axes[*column].clone()).collect();
            let narrow = match columns.len() == axes.len() {
                true => frame.clone(),
                false => night.engine.materialise(night.sql(&scaled::query(&ours, "")).await?, "narrow").await?,
            };
            let centroids = match refined {
                true => refine(night, &narrow, centroids).await?,
                false => centroids,
            };
            let is_number = |axis: &Axis| matches!(axis.part, Part::Number(_));
            let by = ours.iter().position(|axis| is_number(axis) && axis.feature == settings.objective_feature());
            let centroids = in_order(&centroids, by);
            let names = names(&ours, &centroids);
            let model = model(ours, centroids, names, None);
            let near = place::nearest(night, &model, Some(&narrow)).await?;
            (model, near)
        }
        What::Rules { conditions, names } => {
            // They are of their own features, and who is in them is known before their means are.
            let rules = settings.rule_set(&chosen.algorithm);
            let features = rules.map(|rules| rules.features()).unwrap_or_default();
            let features = features.into_iter().filter_map(|name| Some((name, night.project.features.get(name)?)));
            let (ours, _) = scaled::axes(night, &features.collect::<Vec<_>>(), known).await?;
            let dims = ours.len();
            let frame = night.engine.materialise(night.sql(&scaled::query(&ours, "")).await?, "of_rules").await?;
            let none = Centroids::new(names.len(), dims, vec![0.0; names.len() * dims]);
            let none = none.map_err(|e| StageError::Data(e.to_string()))?;
            let mut model = model(ours, none, names, Some(conditions));
            let near = night.materialised(place::nearest(night, &model, None).await?, "by_rules").await?;
            let query =
                "SELECT f.*, n.place AS label FROM scaled AS f JOIN nearest AS n ON f.customer_key = n.customer_key";
            let labelled = night.over(query, &[("scaled", &frame), ("nearest", &near)]).await?;
            let pass = labelled_pass(night, &labelled, &model.centroids).await?;
            let means = (0..model.centroids.k()).flat_map(|at| pass.mean(at).unwrap_or_else(|| vec![0.0; dims]));
            let means = Centroids::new(model.centroids.k(), dims, means.collect());
            model.centroids = means.map_err(|e| StageError::Data(e.to_string()))?;
            (model, near)
        }
    };
    let near = night.materialised(near, "found").await?;
    Ok(Some((model, near)))
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

#[cfg(test)]
mod tests;
