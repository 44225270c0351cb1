//! Passes over all customers: plans of the engine that add up exactly.

use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, ident},
    prelude::DataFrame,
};
use tessera_algo::lloyd::{self, Centroids, Pass};
use tessera_engine::functions::{centroids_literal, pass_from};

use crate::{Night, StageError, rows};

/// Lloyd's algorithm over all customers, one plan a pass.
pub(super) async fn refine(
    night: &Night<'_>,
    frame: &DataFrame,
    mut centroids: Centroids,
) -> Result<Centroids, StageError> {
    let settings = &night.project.segmentation;
    for pass in 1..=settings.max_passes {
        let sums = passed(night, "lloyd_pass", "key_hash", frame, &centroids).await?;
        let (next, shift) = lloyd::step(&centroids, &sums).map_err(|e| StageError::Data(e.to_string()))?;
        tracing::debug!(pass, shift, "Lloyd");
        centroids = next;
        if shift < settings.tolerance {
            break;
        }
    }
    Ok(centroids)
}

/// One pass over all customers of a frame with `label` (the number of the centroid) and `z0`, `z1` ….
pub(crate) async fn labelled_pass(
    night: &Night<'_>,
    frame: &DataFrame,
    centroids: &Centroids,
) -> Result<Pass, StageError> {
    passed(night, "labelled_pass", "label", frame, centroids).await
}

async fn passed(
    night: &Night<'_>,
    function: &str,
    second: &str,
    frame: &DataFrame,
    centroids: &Centroids,
) -> Result<Pass, StageError> {
    let udaf = night.engine.session().state().aggregate_functions().get(function).cloned();
    let udaf = udaf.ok_or_else(|| StageError::Data(format!("the session lacks {function}")))?;
    let mut args = vec![centroids_literal(centroids), ident(second)];
    args.extend(axis_columns(centroids.dims()));
    let batch = rows::collect(frame.clone().aggregate(Vec::new(), vec![udaf.call(args).alias("pass")])?).await?;
    Ok(pass_from(&ScalarValue::try_from_array(batch.column(0), 0)?)?)
}

/// The columns of the coordinates.
pub(super) fn axis_columns(dims: usize) -> impl Iterator<Item = Expr> {
    (0..dims).map(|i| ident(format!("z{i}")))
}

/// The centroids numbered by one coordinate, largest first; ties by all coordinates.
pub(super) fn in_order(centroids: &Centroids, order_by: Option<usize>) -> Centroids {
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
