//! Validate: may the segments go out?
//!
//! Reads `features`, `model`, `segments` and `drift`. Writes `validation`. Inertia, Calinski–Harabasz, Davies–Bouldin and the variance share are
//! computed over all customers by passes of the engine with exact sums, around the means of the segments as they are; silhouettes and what can
//! be acted upon over the sample, the stability of each segment over resamples of a part of it. Gates of the project file turn a figure into
//! pass or fail; whether a failure holds the run is the publishing step's to act upon.

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_algo::{
    Matrix,
    algorithms::Algorithm,
    bootstrap,
    lloyd::{Centroids, LloydError},
    validity,
};
use tessera_contract::{Project, ValueType, project::Gate};

use crate::{
    Night, Outcome, Output, Stage, StageError, StageFuture, rows, scaled,
    segment::{Model, labelled_pass},
    suppress,
};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "validate",
    purpose: "measures the segments and asks the gates",
    sources: false,
    reads: &["features", "model", "segments", "drift"],
    reads_previous: &[],
    reads_neighbours: &[],
    reads_history: &["validation"],
    writes: &["validation"],
    settings: &["validation", "privacy"],
    decides: None,
    run,
};

/// Customers of the sample that are clustered anew for the stability.
const RESAMPLED: usize = 2_000;
/// Starts of a fit of them.
const STARTS: u64 = 2;
/// Published nights before this one by which growth is measured.
const NIGHTS: usize = 7;

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    validate(night).boxed()
}

/// A figure; `segment` absent is the whole model.
struct Figure {
    segment: Option<i32>,
    metric: &'static str,
    value: Option<f64>,
    /// Whether it is of too few people to be told; gates are asked all the same.
    hidden: bool,
}

async fn validate(night: &Night<'_>) -> Result<Outcome, StageError> {
    let model = Model::read(night, night.input("model")?).await?;
    let (dims, k) = (model.axes.len(), model.centroids.k());
    let (actionable, further) = actionable(night);
    let scaled = night.sql(&scaled::query(&model.axes, &further)).await?;
    let query = format!(
        "SELECT f.*, {} AS label FROM segments AS s JOIN scaled AS f ON s.customer_key = f.customer_key",
        model.place_of("s.segment_id")
    );
    let frame = night.over(&query, &[("scaled", &scaled), ("segments", night.input("segments")?)]).await?;
    let frame = night.engine.materialise(frame, "labelled").await?;
    // Around the centroids of the model first: they tell the means of the segments as they are, around which they are measured.
    let refused = |e: LloydError| StageError::Data(e.to_string());
    let first = labelled_pass(night, &frame, &model.centroids).await?;
    let means = (0..k).flat_map(|at| first.mean(at).unwrap_or_else(|| model.centroids.row(at).to_vec())).collect();
    let means = Centroids::new(k, dims, means).map_err(refused)?;
    let pass = labelled_pass(night, &frame, &means).await?;
    let counts = pass.counts().to_vec();
    let customers: u64 = counts.iter().sum();
    let indices = validity::from_pass(&means, &pass).map_err(|e| StageError::Data(e.to_string()))?;

    let condition = scaled::sampled(night.project.segmentation.sample, i64::try_from(customers).unwrap_or(i64::MAX));
    let sample = night.over(&format!("SELECT * FROM labelled WHERE {condition}"), &[("labelled", &frame)]).await?;
    let (batch, sample, _) = scaled::sample(sample, dims).await?;
    let labels = rows::integers(&batch, "label")?;
    let labels: Vec<u32> = labels.into_iter().map(|l| l.and_then(|l| u32::try_from(l).ok()).unwrap_or(0)).collect();
    let silhouettes = validity::silhouettes(&sample, &[(&labels, k)], night.engine.partitions())
        .map_err(|e| StageError::Data(e.to_string()))?;
    let silhouette = silhouettes.first();
    let stability = match carried(night, &model).await? {
        Some(known) => known,
        None => stability(night, &model, &sample, &labels),
    };
    let effects = effects(&batch, &labels, k, actionable, night.project.privacy.k)?;
    let measured = measured(night, &frame, &model).await?;
    let growth = growth(night, &model.ids, &counts).await?;
    let psi = largest_psi(night).await?;

    let of_model = |metric, value: Option<f64>| Figure {
        segment: None,
        metric,
        value: value.filter(|value| value.is_finite()),
        hidden: false,
    };
    let mut figures = vec![
        of_model("inertia", Some(indices.inertia)),
        of_model("calinski_harabasz", Some(indices.calinski_harabasz)),
        of_model("davies_bouldin", Some(indices.davies_bouldin)),
        of_model("variance_between_share", Some(indices.variance_between_share)),
        of_model("features_used", Some(model.features().len() as f64)),
    ];
    figures.extend(silhouette.map(|s| of_model("silhouette", Some(s.mean))));
    figures.extend(psi.map(|psi| of_model("psi", Some(psi))));
    let people: Vec<i64> = counts.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
    let few = suppress::hidden(&people, night.project.privacy.k);
    for (at, count) in counts.iter().enumerate() {
        let segment = model.ids.get(at).copied();
        let of = |metric, value: Option<f64>| Figure {
            segment,
            metric,
            value: value.filter(|value| value.is_finite()),
            hidden: false,
        };
        // What tells of the members, where they are few.
        let of_people = |metric, value| Figure { hidden: few.groups[at], ..of(metric, value) };
        figures.push(of_people("customers", Some(*count as f64)));
        figures.push(of_people("share", Some(*count as f64 / customers.max(1) as f64)));
        figures.extend(silhouette.and_then(|s| s.per_cluster.get(at)).map(|s| of("silhouette_of_segment", Some(*s))));
        let rest =
            [("stability", &stability), ("actionable", &effects), ("measurable", &measured), ("growth", &growth)];
        for (metric, values) in rest {
            figures.extend(values[at].map(|value| of_people(metric, Some(value))));
        }
    }
    figures.extend(not_measured(|m| night.project.validation.gates.contains_key(m), &figures));
    Ok(vec![Output::table(night, "validation", table(night, &figures)?)?].into())
}

/// How many features one can act upon, and SQL of them on their scale for clustering, each `a0`, `a1` ….
fn actionable(night: &Night<'_>) -> (usize, String) {
    let ours = night.project.enabled_features().filter(|(_, f)| f.actionable && f.value_type != ValueType::Text);
    let ours: Vec<String> = ours.map(|(name, feature)| scaled::transformed(name, feature.scaling)).collect();
    (ours.len(), ours.iter().enumerate().map(|(at, sql)| format!(", {sql} AS a{at}")).collect())
}

/// Of each segment, the largest distance of its mean from that of the sample in a feature that one can act upon, in standard deviations.
fn effects(
    batch: &RecordBatch,
    labels: &[u32],
    k: usize,
    features: usize,
    fewest: u64,
) -> Result<Vec<Option<f64>>, StageError> {
    let mut largest: Vec<Option<f64>> = vec![None; k];
    for feature in 0..features {
        let values = rows::floats(batch, &format!("a{feature}"))?;
        let known: Vec<(f64, usize)> =
            values.iter().zip(labels).filter_map(|(x, label)| Some(((*x)?, *label as usize))).collect();
        let n = known.len().max(1) as f64;
        let mean = known.iter().map(|(x, _)| x).sum::<f64>() / n;
        let deviation = (known.iter().map(|(x, _)| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        for (id, largest) in largest.iter_mut().enumerate() {
            let (mut members, mut sum) = (0.0, 0.0);
            known.iter().filter(|(_, label)| *label == id).for_each(|(x, _)| {
                members += 1.0;
                sum += x;
            });
            // Of few members it would be theirs.
            if members >= fewest.max(1) as f64 && deviation > 0.0 {
                let effect = ((sum / members - mean) / deviation).abs();
                *largest = Some(largest.map_or(effect, |other| other.max(effect)));
            }
        }
    }
    Ok(largest)
}

/// The stability that the night before told, of a model for which no better one was looked for since: it is a property of the segments and
/// not of the night.
async fn carried(night: &Night<'_>, model: &Model) -> Result<Option<Vec<Option<f64>>>, StageError> {
    let parent = night.parent.filter(|_| model.tried_on != night.as_of.days()).map(|parent| parent.date());
    let told = night.history.first().filter(|(date, _)| Some(*date) == parent);
    let Some(said) = told.and_then(|(_, tables)| tables.get("validation")) else { return Ok(None) };
    let query = "SELECT segment_id, value FROM said WHERE metric = 'stability' AND value IS NOT NULL";
    let batch = rows::collect(night.over(query, &[("said", said)]).await?).await?;
    let (segments, values) = (rows::integers(&batch, "segment_id")?, rows::floats(&batch, "value")?);
    let of = |id: &i32| segments.iter().position(|s| *s == Some(i64::from(*id))).and_then(|row| values[row]);
    let all: Vec<Option<f64>> = model.ids.iter().map(of).collect();
    // What was hidden then is measured anew.
    Ok(all.iter().all(Option::is_some).then_some(all))
}

/// Of each segment, how well it comes back among resampled customers; rules find the same whoever comes.
fn stability(night: &Night<'_>, model: &Model, sample: &Matrix, labels: &[u32]) -> Vec<Option<f64>> {
    let (settings, resamples) = (&night.project.segmentation, night.project.validation.resamples);
    let k = model.centroids.k();
    let Some(algorithm) = Algorithm::named(&model.algorithm).filter(|_| resamples > 0) else { return vec![None; k] };
    let part: Vec<usize> = (0..sample.rows().min(RESAMPLED).min(algorithm.rows)).collect();
    let (part, labels) = (sample.select(&part), &labels[..part.len()]);
    bootstrap::jaccard(&part, labels, k, (resamples, settings.seed), night.engine.partitions(), |rows, seed| {
        let seeds: Vec<u64> = (0..STARTS).map(|start| seed.wrapping_add(start)).collect();
        algorithm.fit_near(rows, k, &seeds, &model.centroids).ok().map(|fit| fit.labels)
    })
}

/// Of each segment, the share of its members of whom every feature of the model is known.
async fn measured(night: &Night<'_>, frame: &DataFrame, model: &Model) -> Result<Vec<Option<f64>>, StageError> {
    let query =
        "SELECT label, count(*) AS n, count(*) FILTER (WHERE imputed = 0) AS known FROM labelled GROUP BY label";
    let batch = rows::collect(night.over(query, &[("labelled", frame)]).await?).await?;
    let (labels, n) = (rows::integers(&batch, "label")?, rows::integers(&batch, "n")?);
    let known = rows::integers(&batch, "known")?;
    let mut shares = vec![None; model.centroids.k()];
    for (row, label) in labels.into_iter().enumerate() {
        if let Some(share) = label.and_then(|at| usize::try_from(at).ok()).and_then(|at| shares.get_mut(at)) {
            let (n, known) = (n[row].unwrap_or(0), known[row].unwrap_or(0));
            // Of few who are known, or are not, it would tell.
            let few = |people: i64| people > 0 && people.unsigned_abs() < night.project.privacy.k;
            *share = (n > 0).then(|| if few(known) || few(n - known) { f64::NAN } else { known as f64 / n as f64 });
        }
    }
    Ok(shares)
}

/// Of each segment, the slope of its size over the published nights before and tonight (least squares), as a share of its mean size a night.
async fn growth(night: &Night<'_>, ids: &[i32], counts: &[u64]) -> Result<Vec<Option<f64>>, StageError> {
    // By segment, nights ago and size.
    let mut sizes: Vec<Vec<(f64, f64)>> = counts.iter().map(|n| vec![(0.0, *n as f64)]).collect();
    for (ago, (_, tables)) in night.history.iter().take(NIGHTS).enumerate() {
        let Some(said) = tables.get("validation") else { continue };
        let query = "SELECT segment_id, value FROM said WHERE metric = 'customers' AND value IS NOT NULL";
        let batch = rows::collect(night.over(query, &[("said", said)]).await?).await?;
        let (segments, values) = (rows::integers(&batch, "segment_id")?, rows::floats(&batch, "value")?);
        for (segment, value) in segments.into_iter().zip(values) {
            let at = segment.and_then(|segment| ids.iter().position(|id| i64::from(*id) == segment));
            if let (Some(at), Some(value)) = (at, value) {
                sizes[at].push((-(ago as f64 + 1.0), value));
            }
        }
    }
    Ok(sizes.iter().map(|sizes| slope(sizes)).collect())
}

/// The slope of points over their mean height; of three points at least.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (points.len() > 2 && y > 0.0).then(|| together / spread / y)
}

/// The largest population stability index of a feature clustered on; none on a night that froze the bins.
async fn largest_psi(night: &Night<'_>) -> Result<Option<f64>, StageError> {
    let query = "SELECT max(psi) AS psi FROM drift WHERE clustered_on";
    let batch = rows::collect(night.sql(query).await?).await?;
    Ok(rows::floats(&batch, "psi")?.first().copied().flatten())
}

/// The first required gate that some figures fail, in words.
pub(crate) fn broken(project: &Project, figures: &[(&str, f64)]) -> Option<String> {
    figures.iter().find_map(|(metric, value)| {
        let gate = project.validation.gates.get(*metric).filter(|gate| gate.required)?;
        let (state, threshold, _) = verdict(Some(gate), Some(*value).filter(|value| value.is_finite()));
        let asked = if gate.at_least.is_some_and(|least| value.is_nan() || *value < least) { "least" } else { "most" };
        let threshold = threshold.filter(|_| state == "fail")?;
        Some(format!("{metric} is {}, and at {asked} {threshold} is asked for", short(*value)))
    })
}

/// Three significant digits.
fn short(value: f64) -> String {
    let places = (2.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// What gates may ask for. A gate on a figure that a night could not measure (a silhouette of one customer) fails, unless it is one that not
/// every night and every model has.
fn not_measured(asked: impl Fn(&str) -> bool, figures: &[Figure]) -> Vec<Figure> {
    let missing =
        METRICS.iter().filter(|m| !SOMETIMES.contains(m) && asked(m) && !figures.iter().any(|f| f.metric == **m));
    missing.map(|metric| Figure { segment: None, metric, value: None, hidden: false }).collect()
}

/// What there is from the second or third night on, for some models, or where features are there.
const SOMETIMES: [&str; 5] = ["psi", "stability", "actionable", "measurable", "growth"];

/// What is measured, of the model and of every segment.
const METRICS: [&str; 14] = [
    "inertia",
    "calinski_harabasz",
    "davies_bouldin",
    "variance_between_share",
    "features_used",
    "silhouette",
    "customers",
    "share",
    "silhouette_of_segment",
    "psi",
    "stability",
    "actionable",
    "measurable",
    "growth",
];

/// Every gate asks for something that is measured.
pub(crate) fn known_gates(project: &Project) -> Result<(), StageError> {
    match project.validation.gates.keys().find(|name| !METRICS.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(StageError::Expression {
            place: format!("validation.gates.{name}"),
            problem: match project.kpis.contains_key(name) {
                true => format!("the gate of a KPI stands with it: [kpis.{name}] at_least = …"),
                false => format!("nothing of that name is measured; measured are {}", METRICS.join(", ")),
            },
        }),
    }
}

/// Pass, fail, or only for information.
pub(crate) fn verdict(gate: Option<&Gate>, value: Option<f64>) -> (&'static str, Option<f64>, &'static str) {
    let Some(gate) = gate else { return ("info", None, "none") };
    let low = gate.at_least.filter(|least| value.is_none_or(|v| v < *least));
    let high = gate.at_most.filter(|most| value.is_none_or(|v| v > *most));
    let broken = low.or(high);
    let state = if broken.is_some() { "fail" } else { "pass" };
    (state, broken.or(gate.at_least).or(gate.at_most), if gate.required { "required" } else { "advisory" })
}

fn table(night: &Night<'_>, figures: &[Figure]) -> Result<DataFrame, StageError> {
    let gates = &night.project.validation.gates;
    let verdicts: Vec<_> = figures.iter().map(|f| verdict(gates.get(f.metric), f.value)).collect();
    let text = |values: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    rows::frame(
        night.engine,
        vec![
            ("segment_id", Arc::new(figures.iter().map(|f| f.segment).collect::<Int32Array>())),
            ("metric", text(figures.iter().map(|f| f.metric).collect())),
            ("scope", text(figures.iter().map(|f| if f.segment.is_some() { "segment" } else { "model" }).collect())),
            ("value", Arc::new(figures.iter().map(|f| f.value.filter(|_| !f.hidden)).collect::<Float64Array>())),
            ("threshold", Arc::new(verdicts.iter().map(|v| v.1).collect::<Float64Array>())),
            ("state", text(verdicts.iter().map(|v| v.0).collect())),
            ("gate", text(verdicts.iter().map(|v| v.2).collect())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Given};

    #[test]
    fn a_figure_that_cannot_be_measured_fails_its_gate() {
        let gate = Gate { at_least: Some(0.1), at_most: Some(0.9), required: true, ..Gate::default() };
        assert_eq!(verdict(Some(&gate), Some(0.1)), ("pass", Some(0.1), "required"));
        assert_eq!(verdict(Some(&gate), Some(0.95)), ("fail", Some(0.9), "required"));
        assert_eq!(verdict(Some(&gate), None), ("fail", Some(0.1), "required"));
        assert_eq!(verdict(None, Some(0.5)), ("info", None, "none"));
        let figures = [Figure { segment: Some(0), metric: "share", value: Some(1.0), hidden: false }];
        let missing: Vec<_> =
            not_measured(|m| m == "silhouette" || m == "share", &figures).iter().map(|f| (f.metric, f.value)).collect();
        assert_eq!(missing, [("silhouette", None)]);
    }

    #[test]
    fn growth_is_a_share_of_the_mean_size_a_night() {
        // 100, 110, 120: ten a night, of 110.
        let slope_of = slope(&[(0.0, 120.0), (-1.0, 110.0), (-2.0, 100.0)]).expect("three nights");
        assert!((slope_of - 10.0 / 110.0).abs() < 1e-12, "{slope_of}");
        assert_eq!(slope(&[(0.0, 120.0), (-1.0, 110.0)]), None);
        assert_eq!([0.000_73, 0.01, 12.345, 1234.5].map(short), ["0.00073", "0.01", "12.3", "1234"]);
    }

    #[tokio::test]
    async fn gates_are_asked_of_the_model_and_of_every_segment() {
        let features = "
            customer_key | recency_days
            A            | 1
            B            | 3
            C            | 11
            D            | 13
            E            | 12";
        let model = "
            segment_id | feature      | centroid | mean | scale | transform
            0          | recency_days | -1       | 7    | 5     | none
            1          | recency_days | 1        | 7    | 5     | none";
        // D is kept where another is nearer.
        let segments = "
            segment_id | customer_key
            0          | A
            0          | B
            0          | D
            1          | C
            1          | E";
        let drift = "
            feature      | clustered_on | psi
            recency_days | true         | 0.3
            monetary     | false        | 0.9";
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n[validation.gates.share]\nat_least = 0.6\nrequired = true\n[privacy]\nk = 2\n",
            as_of: "2025-04-01",
            sources: &[],
            tables: &[("features", features), ("model", model), ("segments", segments), ("drift", drift)],
            previous: &[],
            looks_at: &[("validation", "")],
        };
        insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
        validation
        segment_id | metric                 | scope   | value     | threshold | state | gate
                   | calinski_harabasz      | model   | 1.472946  |           | info  | none
                   | davies_bouldin         | model   | 0.92381   |           | info  | none
                   | features_used          | model   | 1         |           | info  | none
                   | inertia                | model   | 3.326667  |           | info  | none
                   | psi                    | model   | 0.3       | 0.25      | fail  | advisory
                   | silhouette             | model   | 0.294191  | 0.05      | pass  | required
                   | variance_between_share | model   | 0.329301  | 0.1       | pass  | required
        0          | customers              | segment | 3         | 5         | fail  | required
        0          | measurable             | segment | 1         | 0.5       | pass  | advisory
        0          | share                  | segment | 0.6       | 0.6       | pass  | required
        0          | silhouette_of_segment  | segment | -0.078728 |           | info  | none
        1          | customers              | segment | 2         | 5         | fail  | required
        1          | measurable             | segment | 1         | 0.5       | pass  | advisory
        1          | share                  | segment | 0.4       | 0.6       | fail  | required
        1          | silhouette_of_segment  | segment | 0.853571  |           | info  | none
        ");
    }
}
