//! The algorithms that look for clusters in a sample. To add one, write its file and name it in [`ALGORITHMS`].
//!
//! Whatever an algorithm calls a cluster is kept as its mean: a row belongs to the nearest one, so that every customer has a
//! place, tonight and on later nights, whether it was in the sample or not.

use crate::{
    Matrix, agglomerative, dbscan, kmeans,
    lloyd::{Centroids, LloydError},
    nearest::assign_block,
};

/// All algorithms, the most trusted first.
pub const ALGORITHMS: &[Algorithm] = &[kmeans::ALGORITHM, agglomerative::ALGORITHM, dbscan::ALGORITHM];

/// A way to find clusters.
#[derive(Debug)]
pub struct Algorithm {
    /// As projects and tables call it.
    pub name: &'static str,
    /// Rows that it is shown at most: what more of them cost, they are not worth.
    pub rows: usize,
    /// Whether it is told how many clusters to find; otherwise it finds their number.
    pub sized: bool,
    /// Whether its means are a start from which Lloyd's algorithm goes on over all rows.
    pub refined: bool,
    /// The clusters of rows, of different starts where it has any; the number is passed over where it is not `sized`.
    pub fit: fn(&Matrix, usize, &[u64]) -> Result<Fit, FitError>,
}

impl Algorithm {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
    }
}

impl Algorithm {
    /// The clusters of rows of which some of the same kind are known to have some means: where the algorithm has starts, these are one more. A part
    /// of the rows may then differ from the whole by what it is, and not by where a start got stuck.
    ///
    /// # Errors
    /// When the rows have no such clusters.
    pub fn fit_near(&self, rows: &Matrix, k: usize, seeds: &[u64], known: &Centroids) -> Result<Fit, FitError> {
        let found = (self.fit)(rows, k, seeds)?;
        if !self.refined || known.dims() != rows.cols() || known.k() != found.centroids.k() {
            return Ok(found);
        }
        let near = kmeans::from(rows, known.clone())?;
        Ok(if near.inertia < found.inertia { near } else { found })
    }
}

/// Clusters that were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The means.
    pub centroids: Centroids,
    /// Cluster of each row: that of the nearest mean.
    pub labels: Vec<u32>,
    /// Sum of the squared distances of the rows to their means.
    pub inertia: f64,
    /// The seed of the start that was kept, where there are starts.
    pub seed: Option<u64>,
}

/// Why rows have no such clusters.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Some clusters would have to be empty.
    #[error("{distinct} different rows cannot make {k} clusters")]
    FewerDistinctRows {
        /// Different rows of the sample.
        distinct: usize,
        /// Clusters asked for.
        k: usize,
    },
    /// The algorithm finds the number of clusters, and finds too few.
    #[error("it finds {found} cluster(s) alone")]
    TooFew {
        /// Clusters.
        found: usize,
    },
    /// No start was given.
    #[error("at least one seed is needed")]
    NoSeed,
    /// smartcore refused.
    #[error("smartcore: {0}")]
    Smartcore(String),
    /// The passes refused.
    #[error(transparent)]
    Lloyd(#[from] LloydError),
}

impl From<smartcore::error::Failed> for FitError {
    fn from(failed: smartcore::error::Failed) -> Self {
        Self::Smartcore(failed.to_string())
    }
}

impl Fit {
    /// Every row with the nearest of some means.
    ///
    /// # Errors
    /// When rows and means differ in their coordinates.
    pub fn nearest(sample: &Matrix, centroids: Centroids, seed: Option<u64>) -> Result<Self, FitError> {
        let columns = sample.columns();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let assigned = assign_block(&columns, &centroids)?;
        let inertia = assigned.distances.iter().map(|d| d * d).sum();
        Ok(Self { centroids, labels: assigned.ids, inertia, seed })
    }
}

/// The mean of the rows of each label, one after the other, and how many there are; the mean of none is none. A label that is not below `k` is of
/// no cluster.
pub(crate) fn averages(sample: &Matrix, labels: impl Iterator<Item = usize>, k: usize) -> (Vec<f64>, Vec<usize>) {
    let dims = sample.cols();
    let (mut sums, mut counts) = (vec![0.0; k * dims], vec![0_usize; k]);
    for (row, label) in labels.enumerate().filter(|(_, label)| *label < k) {
        counts[label] += 1;
        sums[label * dims..(label + 1) * dims].iter_mut().zip(sample.row(row)).for_each(|(sum, x)| *sum += x);
    }
    for (sums, n) in sums.chunks_mut(dims.max(1)).zip(&counts) {
        sums.iter_mut().for_each(|sum| *sum /= (*n).max(1) as f64);
    }
    (sums, counts)
}

/// The same as centroids; none where a cluster has no row.
pub(crate) fn means(sample: &Matrix, labels: &[usize], k: usize) -> Option<Centroids> {
    let (means, counts) = averages(sample, labels.iter().copied(), k);
    if counts.contains(&0) { None } else { Centroids::new(k, sample.cols(), means).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agreement::adjusted_rand, kmeans::tests::blobs};

    /// Every one of them, on what anybody sees.
    #[test]
    fn each_finds_well_separated_clouds() {
        for algorithm in ALGORITHMS {
            for seed in 0..4 {
                let (sample, truth) = blobs(4, 60, 4, seed);
                let fit = (algorithm.fit)(&sample, 4, &[seed, seed + 1, seed + 2]).expect("four clouds");
                assert_eq!(adjusted_rand(&truth, &fit.labels), Some(1.0), "{} seed {seed}", algorithm.name);
                assert_eq!(fit.centroids.k(), 4, "{} seed {seed}", algorithm.name);
            }
            assert!(Algorithm::named(algorithm.name).is_some_and(|named| named.name == algorithm.name));
        }
    }

    #[test]
    fn rows_that_are_all_the_same_have_no_clusters() {
        let sample = Matrix::new(30, 2, vec![1.5; 60]).expect("finite");
        for algorithm in ALGORITHMS {
            assert!((algorithm.fit)(&sample, 3, &[1]).is_err(), "{}", algorithm.name);
        }
    }
}
