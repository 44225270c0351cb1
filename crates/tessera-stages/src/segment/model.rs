//! A model, and how its table holds it.

use std::{fmt::Write, sync::Arc};

use datafusion::{
    arrow::array::{ArrayRef, Date32Array, Float64Array, Int32Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::lloyd::Centroids;
use tessera_contract::Scaling;

use crate::{
    Night, StageError, rows,
    scaled::{Axis, Part},
};

/// Who is in which segment: who is nearest to its centroid, or fits its rule.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub axes: Vec<Axis>,
    pub centroids: Centroids,
    /// The segment of each centroid.
    pub ids: Vec<i32>,
    /// Its name.
    pub names: Vec<String>,
    /// SQL over features by centroid, where rules say who is in a segment.
    pub rules: Option<Vec<String>>,
    /// What found it.
    pub algorithm: String,
    /// The features that it looks at.
    pub feature_set: String,
    /// The night that found it, in days since 1970.
    pub fitted_on: i32,
    /// The last night that looked for a better one.
    pub tried_on: i32,
    /// Hash of the settings that it was looked for with.
    pub definition: String,
}

impl Model {
    /// Reads it.
    ///
    /// # Errors
    /// When the table is empty, or not one of ours.
    pub(crate) async fn read(night: &Night<'_>, table: &DataFrame) -> Result<Self, StageError> {
        // The order of the axes only has to be the same for every segment.
        let query = "SELECT * EXCLUDE (fitted_on, tried_on), arrow_cast(fitted_on, 'Int32') AS fitted_on, arrow_cast(tried_on, 'Int32') AS tried_on \
                     FROM model ORDER BY segment_id, feature, category NULLS LAST";
        let batch = rows::collect(night.over(query, &[("model", table)]).await?).await?;
        let ids = rows::integers(&batch, "segment_id")?;
        let text = |name: &str| rows::texts(&batch, name);
        let (features, transforms, categories) = (text("feature")?, text("transform")?, text("category")?);
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
        let centroids = centroids.map_err(|e| StageError::Data(e.to_string()))?;
        let each = || (0..centroids.k()).map(|at| at * axes.len());
        let (names, rules) = (text("segment_name")?, text("rule")?);
        let first = |name: &str| Ok::<_, StageError>(text(name)?.first().cloned().flatten().unwrap_or_default());
        let day = |name: &str| {
            let day = rows::integers(&batch, name)?.first().copied().flatten();
            Ok::<_, StageError>(day.and_then(|day| i32::try_from(day).ok()).unwrap_or(0))
        };
        Ok(Self {
            ids: each().filter_map(|row| i32::try_from(ids[row]?).ok()).collect(),
            names: each().map(|row| names[row].clone().unwrap_or_default()).collect(),
            rules: each().map(|row| rules[row].clone()).collect(),
            algorithm: first("algorithm")?,
            feature_set: first("feature_set")?,
            fitted_on: day("fitted_on")?,
            tried_on: day("tried_on")?,
            definition: first("definition")?,
            axes,
            centroids,
        })
    }

    /// The features that it looks at, each once.
    pub(crate) fn features(&self) -> Vec<&str> {
        let mut features: Vec<&str> = self.axes.iter().map(|axis| axis.feature.as_str()).collect();
        features.dedup();
        features
    }

    /// SQL of the segment by the number of the centroid that `place` is.
    pub(crate) fn segment_of(&self, place: &str) -> String {
        let of: String = self.ids.iter().enumerate().map(|(at, id)| format!(" WHEN {at} THEN {id}")).collect();
        format!("CASE {place}{of} END")
    }

    /// SQL of the number of the centroid by the segment that `segment` is.
    pub(crate) fn place_of(&self, segment: &str) -> String {
        let of: String = self.ids.iter().enumerate().map(|(at, id)| format!(" WHEN {id} THEN {at}")).collect();
        format!("arrow_cast(CASE {segment}{of} END, 'Int32')")
    }

    /// Its segments in another order.
    pub(super) fn reordered(&mut self, order: &[usize]) {
        self.centroids = self.centroids.reordered(order);
        self.ids = order.iter().map(|at| self.ids[*at]).collect();
        self.names = order.iter().map(|at| self.names[*at].clone()).collect();
        self.rules = self.rules.as_ref().map(|rules| order.iter().map(|at| rules[*at].clone()).collect());
    }

    /// Hash of who is in which segment by it.
    fn id(&self) -> String {
        let mut text = String::new();
        // In the order in which the table is read, whatever the order in which they were found.
        let mut order: Vec<usize> = (0..self.axes.len()).collect();
        let key = |axis: &Axis| (axis.feature.clone(), axis.category().is_none(), axis.category().map(str::to_owned));
        order.sort_by_key(|at| key(&self.axes[*at]));
        for at in order {
            let axis = &self.axes[at];
            let bounds = (axis.low, axis.high, axis.imputed, axis.mean, axis.scale);
            let _ = write!(text, "{} {} {:?} {bounds:?}:", axis.feature, axis.transform(), axis.category());
            (0..self.centroids.k()).for_each(|segment| {
                let _ = write!(text, " {:?}", self.centroids.row(segment)[at]);
            });
            text.push(';');
        }
        for rule in self.rules.iter().flatten() {
            let _ = write!(text, "{rule};");
        }
        tessera_algo::hash_hex(text.as_bytes())
    }

    /// As the table has it.
    pub(super) fn frame(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let cells: Vec<(usize, &Axis, f64)> = (0..self.centroids.k())
            .flat_map(|at| self.axes.iter().zip(self.centroids.row(at)).map(move |(axis, x)| (at, axis, *x)))
            .collect();
        let float = |get: &dyn Fn(&Axis) -> Option<f64>| -> ArrayRef {
            Arc::new(cells.iter().map(|(_, axis, _)| get(axis)).collect::<Float64Array>())
        };
        let text = |get: &dyn Fn(usize, &Axis) -> Option<String>| -> ArrayRef {
            Arc::new(cells.iter().map(|(at, axis, _)| get(*at, axis)).collect::<StringArray>())
        };
        let day =
            |day: i32| -> ArrayRef { Arc::new(Date32Array::from_iter_values(std::iter::repeat_n(day, cells.len()))) };
        let id = self.id();
        let columns = vec![
            (
                "segment_id",
                Arc::new(cells.iter().map(|(at, ..)| Some(self.ids[*at])).collect::<Int32Array>()) as ArrayRef,
            ),
            ("segment_name", text(&|at, _| Some(self.names[at].clone()))),
            ("feature", text(&|_, axis| Some(axis.feature.clone()))),
            ("category", text(&|_, axis| axis.category().map(str::to_owned))),
            ("model_id", text(&|_, _| Some(id.clone()))),
            ("centroid", Arc::new(cells.iter().map(|(.., x)| Some(*x)).collect::<Float64Array>())),
            ("mean", float(&|axis| Some(axis.mean))),
            ("scale", float(&|axis| Some(axis.scale))),
            ("transform", text(&|_, axis| Some(axis.transform().to_owned()))),
            ("low", float(&|axis| axis.low)),
            ("high", float(&|axis| axis.high)),
            ("imputed", float(&|axis| axis.imputed)),
            ("known_share", float(&|axis| Some(axis.known))),
            ("algorithm", text(&|_, _| Some(self.algorithm.clone()))),
            ("feature_set", text(&|_, _| Some(self.feature_set.clone()))),
            ("rule", text(&|at, _| self.rules.as_ref().map(|rules| rules[at].clone()))),
            ("fitted_on", day(self.fitted_on)),
            ("tried_on", day(self.tried_on)),
            ("definition", text(&|_, _| Some(self.definition.clone()))),
        ];
        rows::frame(night.engine, columns)
    }
}
