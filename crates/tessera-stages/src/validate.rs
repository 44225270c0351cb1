//! Validate: may the segments go out?
//!
//! Reads `features` and `model`. Writes `validation`. Inertia, Calinski–Harabasz, Davies–Bouldin and the variance share are
//! computed over all customers by one pass of the engine with exact sums, the silhouette over the sample, sizes per
//! segment. Gates of the project file turn a figure into pass or fail; whether a failure holds the run is the
//! publishing step's to act upon.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
use futures::FutureExt;
use tessera_algo::{nearest, validity};
use tessera_contract::{Project, project::Gate};

use crate::{
    Night, Outcome, Output, Stage, StageError, StageFuture, rows, scaled,
    segment::{Model, lloyd_pass},
    suppress,
};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "validate",
    purpose: "measures the segments and asks the gates",
    sources: false,
    reads: &["features", "model"],
    reads_previous: &[],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &["validation"],
    settings: &["validation", "privacy"],
    decides: None,
    run,
};

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
    let Model { axes, centroids, ids } = Model::read(night, night.input("model")?).await?;
    let frame = night.sql(&scaled::query(&axes, "")).await?;
    let pass = lloyd_pass(night, &frame, &centroids, axes.len()).await?;
    let counts = pass.counts().to_vec();
    let customers: u64 = counts.iter().sum();
    let indices = validity::from_pass(&centroids, &pass).map_err(|e| StageError::Data(e.to_string()))?;

    let condition = scaled::sampled(night.project.segmentation.sample, i64::try_from(customers).unwrap_or(i64::MAX));
    let sample = night.over(&format!("SELECT * FROM scaled WHERE {condition}"), &[("scaled", &frame)]).await?;
    let (_, sample, _) = scaled::sample(sample, axes.len()).await?;
    let columns: Vec<Vec<f64>> =
        (0..axes.len()).map(|c| (0..sample.rows()).map(|r| sample.row(r)[c]).collect()).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let labels = nearest::assign_block(&columns, &centroids).map_err(|e| StageError::Data(e.to_string()))?.ids;
    let silhouettes = validity::silhouettes(&sample, &[(&labels, centroids.k())], night.engine.partitions())
        .map_err(|e| StageError::Data(e.to_string()))?;
    let silhouette = silhouettes.first();

    let model =
        |metric, value: f64| Figure { segment: None, metric, value: value.is_finite().then_some(value), hidden: false };
    let mut figures = vec![
        model("inertia", indices.inertia),
        model("calinski_harabasz", indices.calinski_harabasz),
        model("davies_bouldin", indices.davies_bouldin),
        model("variance_between_share", indices.variance_between_share),
        model("features_used", axes.len() as f64),
    ];
    figures.extend(silhouette.map(|s| model("silhouette", s.mean)));
    let people: Vec<i64> = counts.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
    let few = suppress::hidden(&people, night.project.privacy.k);
    for (at, count) in counts.iter().enumerate() {
        let segment = ids.get(at).copied();
        let of =
            |metric, value: f64| Figure { segment, metric, value: value.is_finite().then_some(value), hidden: false };
        let size = |metric, value| Figure { hidden: few.groups[at], ..of(metric, value) };
        figures.push(size("customers", *count as f64));
        figures.push(size("share", *count as f64 / customers.max(1) as f64));
        figures.extend(silhouette.and_then(|s| s.per_cluster.get(at)).map(|s| of("silhouette_of_segment", *s)));
    }
    figures.extend(not_measured(|m| night.project.validation.gates.contains_key(m), &figures));
    Ok(vec![Output::table(night, "validation", table(night, &figures)?)?].into())
}

/// What gates may ask for. A gate on a figure that a night could not measure (a silhouette of one customer) fails.
fn not_measured(asked: impl Fn(&str) -> bool, figures: &[Figure]) -> Vec<Figure> {
    let missing = METRICS.iter().filter(|m| asked(m) && !figures.iter().any(|f| f.metric == **m));
    missing.map(|metric| Figure { segment: None, metric, value: None, hidden: false }).collect()
}

/// What is measured, of the model and of every segment.
const METRICS: [&str; 9] = [
    "inertia",
    "calinski_harabasz",
    "davies_bouldin",
    "variance_between_share",
    "features_used",
    "silhouette",
    "customers",
    "share",
    "silhouette_of_segment",
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

fn table(night: &Night<'_>, figures: &[Figure]) -> Result<datafusion::prelude::DataFrame, StageError> {
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
        let gate = Gate { at_least: Some(0.1), at_most: Some(0.9), required: true, description: String::new() };
        assert_eq!(verdict(Some(&gate), Some(0.1)), ("pass", Some(0.1), "required"));
        assert_eq!(verdict(Some(&gate), Some(0.95)), ("fail", Some(0.9), "required"));
        assert_eq!(verdict(Some(&gate), None), ("fail", Some(0.1), "required"));
        assert_eq!(verdict(None, Some(0.5)), ("info", None, "none"));
        let figures = [Figure { segment: Some(0), metric: "share", value: Some(1.0), hidden: false }];
        let missing: Vec<_> =
            not_measured(|m| m == "silhouette" || m == "share", &figures).iter().map(|f| (f.metric, f.value)).collect();
        assert_eq!(missing, [("silhouette", None)]);
    }

    #[tokio::test]
    async fn gates_are_asked_of_the_model_and_of_every_segment() {
        let features = "
            customer_key | recency_days
            A            | 1
            B            | 3
            C            | 11
            D            | 13";
        let model = "
            segment_id | feature      | centroid | mean | scale | transform
            0          | recency_days | -1       | 7    | 5     | none
            1          | recency_days | 1        | 7    | 5     | none";
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n[validation.gates.share]\nat_least = 0.6\nrequired = true\n[privacy]\nk = 2\n",
            as_of: "2025-04-01",
            sources: &[],
            tables: &[("features", features), ("model", model)],
            previous: &[],
            looks_at: &[("validation", "")],
        };
        insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
        validation
        segment_id | metric                 | scope   | value    | threshold | state | gate
                   | calinski_harabasz      | model   | 50       |           | info  | none
                   | davies_bouldin         | model   | 0.2      |           | info  | none
                   | features_used          | model   | 1        |           | info  | none
                   | inertia                | model   | 0.16     |           | info  | none
                   | silhouette             | model   | 0.79798  | 0.05      | pass  | required
                   | variance_between_share | model   | 0.961538 | 0.1       | pass  | required
        0          | customers              | segment | 2        | 5         | fail  | required
        0          | share                  | segment | 0.5      | 0.6       | fail  | required
        0          | silhouette_of_segment  | segment | 0.79798  |           | info  | none
        1          | customers              | segment | 2        | 5         | fail  | required
        1          | share                  | segment | 0.5      | 0.6       | fail  | required
        1          | silhouette_of_segment  | segment | 0.79798  |           | info  | none
        ");
    }
}
