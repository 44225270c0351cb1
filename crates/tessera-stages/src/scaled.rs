//! Customers on the scale on which they are clustered.
//!
//! A feature is transformed, then z-scored by the mean and the population standard deviation over all customers; what is
//! not known is the mean. A feature that nobody has is left out; one that never varies stands at 0.

use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_algo::Matrix;
use tessera_contract::{Scaling, ValueType};
use tessera_engine::formula::quote;

use crate::{Night, StageError, rows};

/// How one feature is brought to its scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The feature.
    pub feature: String,
    /// The transformation.
    pub scaling: Scaling,
    /// Mean of the transformed feature over all customers.
    pub mean: f64,
    /// Its population standard deviation; 1 where that is 0.
    pub scale: f64,
}

impl Axis {
    /// The axis of a feature by a row of the moments of its transformed values, if anybody has one.
    pub(crate) fn of(
        feature: &str,
        scaling: Scaling,
        moments: &RecordBatch,
        row: usize,
    ) -> Result<Option<Self>, StageError> {
        let one = |field: &str| Ok::<_, StageError>(rows::floats(moments, field)?.get(row).copied().flatten());
        let (Some(mean), Some(variance)) = (one("mean_x")?, one("var_x")?) else { return Ok(None) };
        let scale = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        Ok(Some(Self { feature: feature.to_owned(), scaling, mean, scale }))
    }

    /// SQL of the scaled value.
    #[must_use]
    pub fn expression(&self) -> String {
        let (mean, scale) = (literal(self.mean), literal(self.scale));
        format!("coalesce(({} - {mean}) / {scale}, {})", transformed(&self.feature, self.scaling), literal(0.0))
    }

    /// The transformation's name in the tables.
    #[must_use]
    pub fn transform(&self) -> &'static str {
        match self.scaling {
            Scaling::None => "none",
            Scaling::Log1p => "log1p",
        }
    }
}

/// A double as SQL that reads back to the same bits.
fn literal(value: f64) -> String {
    format!("arrow_cast('{value:?}', 'Float64')")
}

/// SQL of a feature after its transformation.
pub(crate) fn transformed(feature: &str, scaling: Scaling) -> String {
    let x = format!("CAST({} AS DOUBLE)", quote(feature));
    match scaling {
        Scaling::None => x,
        // The greatest of nothing and 0 would be 0, and not nothing.
        Scaling::Log1p => format!("ln(1 + CASE WHEN {x} < 0 THEN arrow_cast(0, 'Float64') ELSE {x} END)"),
    }
}

/// The numeric features with their scaling.
pub(crate) fn numeric<'a>(night: &'a Night<'_>) -> Vec<(&'a str, Scaling)> {
    let features = night.project.enabled_features();
    features.filter(|(_, f)| f.value_type != ValueType::Text).map(|(name, f)| (name, f.scaling)).collect()
}

/// The axes of the given features over all customers, and their number. Features without a value are left out.
///
/// # Errors
/// When the features cannot be read.
pub async fn axes(night: &Night<'_>, features: &[(&str, Scaling)]) -> Result<(Vec<Axis>, i64), StageError> {
    let columns: String = features
        .iter()
        .map(|(name, scaling)| format!(", moments({}) AS {}", transformed(name, *scaling), quote(name)))
        .collect();
    let batch =
        rows::collect(night.sql(&format!("SELECT count(*) AS customers{columns} FROM features")).await?).await?;
    let mut axes = Vec::new();
    for (name, scaling) in features {
        axes.extend(Axis::of(name, *scaling, &rows::fields(&batch, name)?, 0)?);
    }
    Ok((axes, rows::integers(&batch, "customers")?.first().copied().flatten().unwrap_or(0)))
}

/// SQL of all customers on the axes: `customer_key`, `key_hash`, `z0`, `z1` …, and the columns in `further`.
#[must_use]
pub fn query(axes: &[Axis], further: &str) -> String {
    let columns: String = axes.iter().enumerate().map(|(i, axis)| format!(", {} AS z{i}", axis.expression())).collect();
    format!("SELECT customer_key, row_hash(customer_key) AS key_hash{columns}{further} FROM features")
}

/// The condition that keeps about `wanted` of `customers` by the hash of their key: the same ones however rows come.
#[must_use]
pub fn sampled(wanted: usize, customers: i64) -> String {
    below(threshold(wanted, customers))
}

/// The hash below which are about `wanted` of `customers`, if not all.
pub(crate) fn threshold(wanted: usize, customers: i64) -> Option<i64> {
    let share = wanted as f64 / customers.max(1) as f64;
    (share < 1.0).then(|| (share * 2.0_f64.powi(64) - 2.0_f64.powi(63)) as i64)
}

/// The condition on hashes below it.
pub(crate) fn below(threshold: Option<i64>) -> String {
    threshold.map_or_else(|| "true".to_owned(), |threshold| format!("key_hash < {threshold}"))
}

/// The sampled customers in the order of their hashes: the batch, its matrix and its hashes.
///
/// # Errors
/// When the frame lacks the columns of [`query`].
pub async fn sample(frame: DataFrame, dims: usize) -> Result<(RecordBatch, Matrix, Vec<u64>), StageError> {
    use datafusion::prelude::col;
    let frame = frame.sort(vec![col("key_hash").sort(true, false), col("customer_key").sort(true, false)])?;
    let batch = rows::collect(frame).await?;
    let columns = (0..dims).map(|i| rows::floats(&batch, &format!("z{i}"))).collect::<Result<Vec<_>, _>>()?;
    let mut data = Vec::with_capacity(batch.num_rows() * dims);
    for row in 0..batch.num_rows() {
        data.extend(columns.iter().map(|c| c[row].unwrap_or(0.0)));
    }
    let matrix = Matrix::new(batch.num_rows(), dims, data).map_err(|e| StageError::Data(e.to_string()))?;
    let hashes = rows::integers(&batch, "key_hash")?.into_iter().map(|h| h.unwrap_or(0) as u64).collect();
    Ok((batch, matrix, hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_range_of_hashes() {
        assert_eq!(sampled(100, 50), "true");
        assert_eq!(sampled(1, 2), "key_hash < 0");
        assert_eq!(sampled(1, 4), format!("key_hash < {}", i64::MIN / 2));
    }

    #[test]
    fn doubles_survive_as_text() {
        for value in [0.1, -1e-300, 1e300, 1.0 / 3.0, 5.0] {
            let text = literal(value);
            let inner = text.trim_start_matches("arrow_cast('").split('\'').next().expect("quoted");
            assert_eq!(inner.parse::<f64>().expect("a double").to_bits(), value.to_bits());
        }
    }
}
