//! Candidates on a sample: smartcore's k-means from several starts, each polished to the nearest optimum.
//!
//! smartcore keeps its centroids to itself, gives NaN where rows are fewer than clusters, and tries one k-means++ start a
//! fit; so labels are asked of it, means are made of them, Lloyd's algorithm goes on from there, and the best of the
//! starts is kept.

use std::collections::HashSet;

use smartcore::{
    cluster::kmeans::{KMeans, KMeansParameters},
    linalg::basic::matrix::DenseMatrix,
};

use crate::{
    Matrix,
    algorithms::{Algorithm, Fit, FitError, averages},
    held::{Held, Rest},
    lloyd::Centroids,
    nearest::assign_block,
};

/// The entry of the list of algorithms.
pub const ALGORITHM: Algorithm =
    Algorithm { name: "kmeans", rows: usize::MAX, sized: true, refined: true, fit: fit_best };

/// Rows that are enough for a first guess.
const ENOUGH: usize = 2_500;
/// Starts that go on over all of many rows.
const FINALISTS: usize = 2;
/// Iterations of smartcore per start: our own passes go the same way on, and cost less.
const ITERATIONS: usize = 1;
/// Passes of polishing at most, and the shift (in units of the data) at which it ends.
const POLISH: usize = 300;
const SHIFT: f64 = 1e-4;

/// The number of different rows.
#[must_use]
pub fn distinct_rows(sample: &Matrix) -> usize {
    let rows = (0..sample.rows()).map(|i| sample.row(i).iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>());
    rows.collect::<HashSet<_>>().len()
}

/// The best of the starts; ties to the smaller seed. Of many rows, each start comes to rest on a part of them, and only those that are then best
/// on all rows go on there (Bradley & Fayyad 1998, "Refining initial points for k-means clustering").
///
/// # Errors
/// When the sample has fewer different rows than clusters, or smartcore refuses.
pub fn fit_best(sample: &Matrix, k: usize, seeds: &[u64]) -> Result<Fit, FitError> {
    let distinct = distinct_rows(sample);
    if distinct < k.max(1) {
        return Err(FitError::FewerDistinctRows { distinct, k });
    }
    let columns = sample.columns();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let keys: Vec<u64> = (0..sample.rows() as u64).collect();
    let held = Held::new(&columns, &keys);
    let mut starts: Vec<(f64, u64, Centroids)> = Vec::new();
    for seed in seeds {
        let start = if k == 1 { mean(sample)? } else { start(sample, k, *seed)? };
        starts.push((held.inertia(&start)?, *seed, start));
    }
    starts.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    if sample.rows() >= 2 * ENOUGH {
        starts.truncate(FINALISTS);
    }
    let mut best: Option<Fit> = None;
    for (_, seed, start) in starts {
        let Rest { centroids, inertia } = held.descend(start, POLISH, SHIFT)?;
        let better = best.as_ref().is_none_or(|b| inertia < b.inertia || (inertia == b.inertia && Some(seed) < b.seed));
        if better {
            let labels = assign_block(&columns, &centroids)?.ids;
            best = Some(Fit { centroids, labels, inertia, seed: Some(seed) });
        }
    }
    best.ok_or(FitError::NoSeed)
}

/// Goes on from given means.
///
/// # Errors
/// When they differ from the rows in their coordinates.
pub fn from(sample: &Matrix, start: Centroids) -> Result<Fit, FitError> {
    let columns = sample.columns();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let keys: Vec<u64> = (0..sample.rows() as u64).collect();
    let Rest { centroids, inertia } = Held::new(&columns, &keys).descend(start, POLISH, SHIFT)?;
    let labels = assign_block(&columns, &centroids)?.ids;
    Ok(Fit { centroids, labels, inertia, seed: None })
}

/// The same without clusters of fewer than `least` rows: the smallest is dissolved, what was left goes on, until none is so small
/// or two are left. Gives how many were dissolved.
///
/// # Errors
/// When means and rows differ in their coordinates.
pub fn dissolved(sample: &Matrix, mut fit: Fit, least: usize) -> Result<(Fit, usize), FitError> {
    let mut times = 0;
    while fit.centroids.k() > 2 {
        let mut sizes = vec![0_usize; fit.centroids.k()];
        fit.labels.iter().for_each(|label| sizes[*label as usize] += 1);
        let Some((smallest, _)) = sizes.iter().enumerate().filter(|(_, n)| **n < least).min_by_key(|(_, n)| **n) else {
            break;
        };
        let others: Vec<usize> = (0..fit.centroids.k()).filter(|id| *id != smallest).collect();
        let seed = fit.seed;
        fit = Fit { seed, ..from(sample, fit.centroids.reordered(&others))? };
        times += 1;
    }
    Ok((fit, times))
}

/// smartcore's first guess. Of many rows each start looks at another part, and comes to rest there.
fn start(sample: &Matrix, k: usize, seed: u64) -> Result<Centroids, FitError> {
    let parts = (sample.rows() / ENOUGH).max(1);
    let part: Vec<usize> = (0..sample.rows()).skip((seed % parts as u64) as usize).step_by(parts).collect();
    let part = (parts > 1).then(|| sample.select(&part)).filter(|part| distinct_rows(part) >= k);
    let shown = part.as_ref().unwrap_or(sample);
    let x = DenseMatrix::new(shown.rows(), shown.cols(), shown.data().to_vec(), false)?;
    let parameters = KMeansParameters { k, max_iter: ITERATIONS, seed: Some(seed) };
    let labels: Vec<u32> =
        KMeans::<f64, u32, DenseMatrix<f64>, Vec<u32>>::fit(&x, parameters).and_then(|model| model.predict(&x))?;
    let guess = means(shown, &labels, k)?;
    match part {
        Some(part) => Ok(from(&part, guess)?.centroids),
        None => Ok(guess),
    }
}

/// The means of labelled rows. A label without rows takes the row farthest from the mean of all that none has taken.
fn means(sample: &Matrix, labels: &[u32], k: usize) -> Result<Centroids, FitError> {
    let dims = sample.cols();
    let (mut means, counts) = averages(sample, labels.iter().map(|label| *label as usize), k);
    let all = mean(sample)?;
    let mut far: Vec<usize> = (0..sample.rows()).collect();
    if counts.contains(&0) {
        let squared = |i: usize| crate::matrix::squared_distance(sample.row(i), all.row(0));
        far.sort_by(|a, b| squared(*b).total_cmp(&squared(*a)).then(a.cmp(b)));
        far.dedup_by(|a, b| sample.row(*a) == sample.row(*b));
    }
    let mut far = far.into_iter();
    for id in (0..k).filter(|id| counts[*id] == 0) {
        means[id * dims..(id + 1) * dims].copy_from_slice(sample.row(far.next().unwrap_or(0)));
    }
    Ok(Centroids::new(k, dims, means)?)
}

fn mean(sample: &Matrix) -> Result<Centroids, FitError> {
    let n = sample.rows().max(1) as f64;
    let mut data = vec![0.0; sample.cols()];
    for i in 0..sample.rows() {
        data.iter_mut().zip(sample.row(i)).for_each(|(s, x)| *s += x / n);
    }
    Ok(Centroids::new(1, sample.cols(), data)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::agreement::adjusted_rand;

    /// Uniform doubles in [0, 1) from a counter (SplitMix64).
    pub(crate) fn uniform(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// `k` clouds of `n` rows around far-apart centres, with their labels.
    pub(crate) fn blobs(k: usize, n: usize, dims: usize, seed: u64) -> (Matrix, Vec<u32>) {
        let mut next = uniform(seed);
        let centres: Vec<Vec<f64>> = (0..k)
            .map(|c| (0..dims).map(|d| if d == c % dims { 12.0 * (1 + c / dims) as f64 } else { 0.0 }).collect())
            .collect();
        let mut data = Vec::new();
        let mut labels = Vec::new();
        for (c, centre) in centres.iter().enumerate() {
            for _ in 0..n {
                // The sum of four uniforms is near enough to a normal.
                data.extend(centre.iter().map(|x| x + (next() + next() + next() + next() - 2.0)));
                labels.push(c as u32);
            }
        }
        (Matrix::new(k * n, dims, data).expect("finite"), labels)
    }

    #[test]
    fn well_separated_clouds_are_found_for_fifty_seeds() {
        for seed in 0..50 {
            let (sample, truth) = blobs(4, 60, 4, seed);
            let fit = fit_best(&sample, 4, &[seed, seed + 1, seed + 2, seed + 3, seed + 4]).expect("four clouds");
            assert_eq!(adjusted_rand(&truth, &fit.labels), Some(1.0), "seed {seed}");
        }
    }

    /// Of so many rows, each start sees a part.
    #[test]
    fn a_part_is_enough_for_a_first_guess() {
        for seed in 0..6 {
            let (sample, truth) = blobs(5, ENOUGH, 3, seed);
            let fit = fit_best(&sample, 5, &[seed, seed + 1, seed + 2, seed + 3]).expect("five clouds");
            assert_eq!(adjusted_rand(&truth, &fit.labels), Some(1.0), "seed {seed}");
        }
        // Where a part has fewer places than clusters, all rows are looked at.
        let place = |i: usize| if i.is_multiple_of(4) { (i / 4 % 3) as f64 } else { 7.0 };
        let sample = Matrix::new(4 * ENOUGH, 1, (0..4 * ENOUGH).map(place).collect()).expect("finite");
        let fit = fit_best(&sample, 4, &[0, 1, 2, 3]).expect("four places");
        assert_eq!(fit.inertia, 0.0);
    }

    #[test]
    fn fewer_different_rows_than_clusters_is_told() {
        let sample = Matrix::new(4, 1, vec![1.0, 1.0, 2.0, 2.0]).expect("finite");
        assert_eq!(fit_best(&sample, 3, &[1]), Err(FitError::FewerDistinctRows { distinct: 2, k: 3 }));
        let fit = fit_best(&sample, 2, &[1, 2, 3]).expect("two places");
        assert_eq!(fit.inertia, 0.0);
        assert_eq!(fit_best(&sample, 2, &[]), Err(FitError::NoSeed));
    }

    /// A few who are far from everybody make no cluster of their own.
    #[test]
    fn small_clusters_are_dissolved() {
        let (blobs, truth) = blobs(3, 200, 3, 7);
        let mut data = blobs.data().to_vec();
        data.extend([500.0, 0.0, 0.0, 500.0, 1.0, 0.0, 0.0, 500.0, 0.0]);
        let sample = Matrix::new(603, 3, data).expect("finite");
        let fit = fit_best(&sample, 5, &[1, 2, 3]).expect("five clusters");
        let (fit, times) = dissolved(&sample, fit, 6).expect("the same coordinates");
        assert_eq!((fit.centroids.k(), times), (3, 2));
        assert_eq!(adjusted_rand(&truth, &fit.labels[..600]), Some(1.0));
        let (same, none) = dissolved(&sample, fit.clone(), 6).expect("the same coordinates");
        assert_eq!((same, none), (fit, 0));
    }

    #[test]
    fn one_cluster_is_the_mean() {
        let sample = Matrix::new(3, 1, vec![0.0, 3.0, 6.0]).expect("finite");
        let fit = fit_best(&sample, 1, &[7]).expect("one cluster");
        assert_eq!((fit.centroids.row(0), fit.inertia), ([3.0].as_slice(), 18.0));
    }

    #[test]
    fn duplicates_leave_no_cluster_empty() {
        let mut data = vec![0.0; 200];
        data.extend([5.0, 6.0, 7.0]);
        let sample = Matrix::new(203, 1, data).expect("finite");
        for seed in 0..20 {
            let fit = fit_best(&sample, 4, &[seed]).expect("four places");
            let used: HashSet<_> = fit.labels.iter().collect();
            assert_eq!(used.len(), 4, "seed {seed}");
        }
    }
}
