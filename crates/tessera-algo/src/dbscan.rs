//! DBSCAN (Ester, Kriegel, Sander & Xu 1996) by smartcore: clusters are where rows lie dense, and their number is found.
//!
//! A row is dense with 2·d others in its neighbourhood (Sander et al. 1998), the neighbourhood as wide as nineteen of twenty rows
//! need for that. What is nobody's belongs to the nearest cluster.

use smartcore::{
    algorithm::neighbour::KNNAlgorithmName,
    cluster::dbscan::{DBSCAN, DBSCANParameters},
    linalg::basic::matrix::DenseMatrix,
    metrics::distance::euclidian::Euclidian,
};

use crate::{
    Matrix,
    algorithms::{Algorithm, Fit, FitError, means},
    describe::quantile,
    kmeans::distinct_rows,
    matrix::squared_distance,
};

/// The entry of the list of algorithms. All pairs of rows are looked at.
pub const ALGORITHM: Algorithm = Algorithm { name: "dbscan", rows: 1_500, sized: false, refined: false, fit };

/// The share of the rows that are to be dense.
const DENSE: f64 = 0.95;

fn fit(sample: &Matrix, _: usize, _: &[u64]) -> Result<Fit, FitError> {
    let distinct = distinct_rows(sample);
    if distinct < 2 {
        return Err(FitError::FewerDistinctRows { distinct, k: 2 });
    }
    let neighbours = (2 * sample.cols()).clamp(1, sample.rows() - 1);
    let eps = reach(sample, neighbours);
    if eps <= 0.0 {
        return Err(FitError::TooFew { found: 1 });
    }
    let x = DenseMatrix::new(sample.rows(), sample.cols(), sample.data().to_vec(), false)?;
    // smartcore counts the row itself among its neighbours.
    let parameters = DBSCANParameters::default()
        .with_eps(eps)
        .with_min_samples(neighbours + 1)
        .with_algorithm(KNNAlgorithmName::LinearSearch);
    let model = DBSCAN::<f64, u32, DenseMatrix<f64>, Vec<u32>, Euclidian<f64>>::fit(&x, parameters)?;
    // It counts clusters from 1 on: 0 is nobody's.
    let noise = usize::MAX;
    let labels: Vec<u32> = model.predict(&x)?;
    let labels: Vec<usize> = labels.iter().map(|label| (*label as usize).checked_sub(1).unwrap_or(noise)).collect();
    let found = labels.iter().filter(|label| **label != noise).max().map_or(0, |last| last + 1);
    let means = means(sample, &labels, found).filter(|_| found > 1);
    Fit::nearest(sample, means.ok_or(FitError::TooFew { found })?, None)
}

/// The distance to the n-th neighbour that [`DENSE`] of the rows do not exceed.
fn reach(sample: &Matrix, n: usize) -> f64 {
    let mut farthest: Vec<f64> = (0..sample.rows())
        .map(|row| {
            let mut all: Vec<f64> =
                (0..sample.rows()).map(|other| squared_distance(sample.row(row), sample.row(other))).collect();
            all.select_nth_unstable_by(n, f64::total_cmp).1.sqrt()
        })
        .collect();
    farthest.sort_unstable_by(f64::total_cmp);
    quantile(&farthest, DENSE).unwrap_or(0.0)
}
