//! Which segment a customer is in: by the model, and by the segment of the parent night where two are about as near.

use datafusion::{logical_expr::ident, prelude::DataFrame};
use tessera_engine::{formula::text, functions::centroids_literal};

use super::{Model, passes::axis_columns};
use crate::{Night, StageError, scaled};

/// All customers by the model alone: `customer_key`, `key_hash`, `imputed`, `place` (the number of the centroid), `distance`, `margin`,
/// `second` and `second_distance`. `frame` is on the model's axes, if there is such a one.
pub(super) async fn nearest(
    night: &Night<'_>,
    model: &Model,
    frame: Option<&DataFrame>,
) -> Result<DataFrame, StageError> {
    if let Some(rules) = &model.rules {
        let cases: String = rules.iter().enumerate().map(|(at, rule)| format!(" WHEN {rule} THEN {at}")).collect();
        let further = format!(
            ", arrow_cast(CASE{cases} END, 'Int32') AS place, arrow_cast(NULL, 'Float64') AS distance, arrow_cast(NULL, 'Float64') AS margin, \
             arrow_cast(NULL, 'Int32') AS second, arrow_cast(NULL, 'Float64') AS second_distance"
        );
        let query = scaled::query(&model.axes, &further);
        let query = format!(
            "SELECT customer_key, key_hash, imputed, place, distance, margin, second, second_distance FROM ({query})"
        );
        return night.sql(&query).await;
    }
    let frame = match frame {
        Some(frame) => frame.clone(),
        None => night.sql(&scaled::query(&model.axes, "")).await?,
    };
    let udf = night.engine.session().state().scalar_functions().get("assign").cloned();
    let udf = udf.ok_or_else(|| StageError::Data("the session lacks assign".into()))?;
    let args = std::iter::once(centroids_literal(&model.centroids)).chain(axis_columns(model.axes.len()));
    let columns = ["customer_key", "key_hash", "imputed"].map(ident);
    let placed = frame.select(columns.into_iter().chain([udf.call(args.collect()).alias("a")]).collect::<Vec<_>>())?;
    let query = "SELECT customer_key, key_hash, imputed, get_field(a, 'segment_id') AS place, get_field(a, 'distance') AS distance, \
                 get_field(a, 'margin') AS margin, get_field(a, 'second_id') AS second, get_field(a, 'second_distance') AS second_distance \
                 FROM placed";
    night.over(query, &[("placed", &placed)]).await
}

/// The segments of the night, with `was` and `was_kept`, what the parent night's table says: who is borderline between the nearest one and that
/// of the parent night, the second nearest, stays there.
pub(super) async fn segments(night: &Night<'_>, model: &Model, nearest: &DataFrame) -> Result<DataFrame, StageError> {
    let (of, second) = (model.segment_of("place"), model.segment_of("second"));
    let borderline = format!("arrow_cast('{:?}', 'Float64')", night.project.segmentation.borderline);
    let near = format!(
        "SELECT customer_key, imputed, {of} AS segment_id, {second} AS second, distance, second_distance, margin, \
         coalesce(margin < {borderline}, false) AS borderline FROM nearest"
    );
    let names: String =
        model.ids.iter().zip(&model.names).map(|(id, name)| format!(" WHEN {id} THEN {}", text(name))).collect();
    let table = |from: &str| {
        format!(
            "SELECT segment_id, customer_key, CASE segment_id{names} END AS segment_name, distance, margin, borderline, kept, imputed, \
             was, was_kept FROM ({from})"
        )
    };
    let Some(before) = night.previous.get("segments") else {
        let none = "arrow_cast(NULL, 'Int32') AS was, arrow_cast(NULL, 'Boolean') AS was_kept, false AS kept";
        return night.over(&table(&format!("SELECT *, {none} FROM ({near})")), &[("nearest", nearest)]).await;
    };
    let reuse = night.project.segmentation.reuse;
    let kept = format!(
        "SELECT n.*, b.segment_id AS was, b.kept AS was_kept, \
         {reuse} AND coalesce(n.borderline AND n.second = b.segment_id AND n.segment_id <> b.segment_id, false) AS kept \
         FROM ({near}) AS n LEFT JOIN before AS b ON n.customer_key = b.customer_key"
    );
    let settled = format!(
        "SELECT customer_key, imputed, borderline, kept, was, was_kept, CASE WHEN kept THEN was ELSE segment_id END AS segment_id, \
         CASE WHEN kept THEN second_distance ELSE distance END AS distance, CASE WHEN kept THEN 0 - margin ELSE margin END AS margin \
         FROM ({kept})"
    );
    night.over(&table(&settled), &[("nearest", nearest), ("before", before)]).await
}
