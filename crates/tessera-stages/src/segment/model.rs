//! A model as its table holds it.

use datafusion::prelude::DataFrame;
use tessera_algo::lloyd::Centroids;
use tessera_contract::Scaling;

use crate::{
    Night, StageError, rows,
    scaled::{Axis, Part},
};

/// What the table `model` of a night holds.
pub(crate) struct Model {
    pub axes: Vec<Axis>,
    pub centroids: Centroids,
    /// The segment of each centroid.
    pub ids: Vec<i32>,
}

impl Model {
    /// Reads it.
    ///
    /// # Errors
    /// When the table is empty, or not one of ours.
    pub(crate) async fn read(night: &Night<'_>, table: &DataFrame) -> Result<Self, StageError> {
        // The order of the axes only has to be the same for every segment.
        let query = "SELECT * FROM model ORDER BY segment_id, feature, category NULLS LAST";
        let batch = rows::collect(night.over(query, &[("model", table)]).await?).await?;
        let ids = rows::integers(&batch, "segment_id")?;
        let (features, transforms) = (rows::texts(&batch, "feature")?, rows::texts(&batch, "transform")?);
        let categories = rows::texts(&batch, "category")?;
        let float = |name: &str| rows::floats(&batch, name);
        let (mean, scale, low, high) = (float("mean")?, float("scale")?, float("low")?, float("high")?);
        let (imputed, known) = (float("imputed")?, float("known_share")?);
        let of_one = || (0..batch.num_rows()).filter(|i| ids[*i] == ids[0]);
        let axes: Vec<Axis> = of_one()
            .map(|i| Axis {
                feature: features[i].clone().unwrap_or_default(),
                part: match (transforms[i].as_deref(), &categories[i]) {
                    (Some("log1p"), _) => Part::Number(Scaling::Log1p),
                    (Some("one_hot"), category) => Part::Category(category.clone().unwrap_or_default()),
                    (Some("other"), _) => Part::Other(
                        of_one()
                            .filter(|j| features[*j] == features[i])
                            .filter_map(|j| categories[j].clone())
                            .collect(),
                    ),
                    _ => Part::Number(Scaling::None),
                },
                low: low[i],
                high: high[i],
                imputed: imputed[i],
                known: known[i].unwrap_or(1.0),
                mean: mean[i].unwrap_or(0.0),
                scale: scale[i].unwrap_or(1.0),
            })
            .collect();
        if axes.is_empty() {
            return Err(StageError::Data("the model table is empty".into()));
        }
        let coordinates = float("centroid")?.into_iter().map(|c| c.unwrap_or(0.0)).collect();
        let centroids = Centroids::new(batch.num_rows() / axes.len(), axes.len(), coordinates);
        let mut ids: Vec<i32> = ids.into_iter().filter_map(|id| i32::try_from(id?).ok()).collect();
        ids.dedup();
        Ok(Self { axes, centroids: centroids.map_err(|e| StageError::Data(e.to_string()))?, ids })
    }
}
