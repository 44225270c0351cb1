//! Agglomerative clustering by smartcore: single linkage (Florek 1951, Sneath 1957), cut at a number of clusters.
//!
//! Single linkage follows chains of near rows. Where clouds touch it leaves one cluster and a few stragglers, which the
//! scorecard then says of it; where they do not, it finds them whatever their shape.

use smartcore::{
    cluster::agglomerative::{AgglomerativeClustering, AgglomerativeClusteringParameters},
    linalg::basic::matrix::DenseMatrix,
};

use crate::{
    Matrix,
    algorithms::{Algorithm, Fit, FitError, means},
    kmeans::distinct_rows,
};

/// The entry of the list of algorithms. All pairs of rows are looked at.
pub const ALGORITHM: Algorithm = Algorithm { name: "agglomerative", rows: 500, sized: true, refined: false, fit };

fn fit(sample: &Matrix, k: usize, _: &[u64]) -> Result<Fit, FitError> {
    let distinct = distinct_rows(sample);
    if distinct < k.max(1) {
        return Err(FitError::FewerDistinctRows { distinct, k });
    }
    let x = DenseMatrix::new(sample.rows(), sample.cols(), sample.data().to_vec(), false)?;
    let parameters = AgglomerativeClusteringParameters::default().with_n_clusters(k);
    let model = AgglomerativeClustering::<f64, usize, DenseMatrix<f64>, Vec<usize>>::fit(&x, parameters)?;
    // Labels are numbers of no order: they are counted from 0 as they come.
    let mut seen: Vec<usize> = Vec::new();
    let labels: Vec<usize> = (model.labels.iter())
        .map(|label| {
            seen.iter().position(|s| s == label).unwrap_or_else(|| {
                seen.push(*label);
                seen.len() - 1
            })
        })
        .collect();
    let means = means(sample, &labels, seen.len()).filter(|_| seen.len() == k);
    Fit::nearest(sample, means.ok_or(FitError::TooFew { found: seen.len() })?, None)
}
