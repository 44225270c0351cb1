//! Prediction strength (Tibshirani & Walther 2005, "Cluster validation by prediction strength").
//!
//! The rows are split in two; both halves are clustered. For each cluster of the test half: of the pairs of its members,
//! the share that the training half's centroids put together as well. The strength is the smallest such share.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    Matrix,
    kmeans::{self, KMeansError},
    nearest::assign_block,
};

/// Starts of a fit.
const STARTS: u64 = 2;

/// The mean strength over `splits` halvings. `keys` are stable keys of the rows, by whose hash they are split, so that
/// the order of rows does not matter.
///
/// # Errors
/// When a half has fewer different rows than clusters.
pub fn prediction_strength(
    sample: &Matrix,
    keys: &[u64],
    k: usize,
    seed: u64,
    splits: usize,
) -> Result<f64, KMeansError> {
    let mut total = 0.0;
    for split in 0..splits as u64 {
        let side = |key: u64| xxh3_64_with_seed(&key.to_le_bytes(), seed.wrapping_add(split)) & 1 == 0;
        let (train, test): (Vec<usize>, Vec<usize>) = (0..sample.rows()).partition(|i| side(keys[*i]));
        let (train, test) = (sample.select(&train), sample.select(&test));
        let seeds: Vec<u64> = (0..STARTS).map(|s| seed.wrapping_add(s)).collect();
        let train = kmeans::fit_best(&train, k, &seeds)?;
        let own = kmeans::fit_best(&test, k, &seeds)?;
        let columns = test.columns();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let predicted = assign_block(&columns, &train.centroids)?.ids;
        total += strength(&own.labels, &predicted, k);
    }
    Ok(total / splits.max(1) as f64)
}

/// The smallest share of pairs that stay together. Clusters of one member have no pair and are passed over.
fn strength(own: &[u32], predicted: &[u32], k: usize) -> f64 {
    let mut together = vec![vec![0_u64; k]; k];
    own.iter().zip(predicted).for_each(|(a, b)| together[*a as usize][*b as usize] += 1);
    let pairs = |n: u64| (n * n.saturating_sub(1)) as f64;
    together
        .iter()
        .filter(|row| row.iter().sum::<u64>() > 1)
        .map(|row| row.iter().map(|n| pairs(*n)).sum::<f64>() / pairs(row.iter().sum()))
        .fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmeans::tests::{blobs, uniform};

    /// The definition, pair by pair.
    fn naive(own: &[u32], predicted: &[u32], k: u32) -> f64 {
        let mut worst: f64 = 1.0;
        for cluster in 0..k {
            let members: Vec<_> = (0..own.len()).filter(|i| own[*i] == cluster).collect();
            let pairs: Vec<_> =
                members.iter().flat_map(|i| members.iter().filter(move |j| *j != i).map(move |j| (*i, *j))).collect();
            if !pairs.is_empty() {
                let same = pairs.iter().filter(|(i, j)| predicted[*i] == predicted[*j]).count();
                worst = worst.min(same as f64 / pairs.len() as f64);
            }
        }
        worst
    }

    #[test]
    fn the_counts_are_the_pairs() {
        let mut next = uniform(3);
        for _ in 0..20 {
            let mut labels = || (0..40).map(|_| (next() * 4.0) as u32).collect::<Vec<_>>();
            let (own, predicted) = (labels(), labels());
            assert!((strength(&own, &predicted, 4) - naive(&own, &predicted, 4)).abs() < 1e-12);
        }
    }

    #[test]
    fn true_clusters_are_predicted_and_false_ones_are_not() {
        let (sample, _) = blobs(3, 80, 3, 4);
        let keys: Vec<u64> = (0..240).collect();
        assert_eq!(prediction_strength(&sample, &keys, 3, 1, 2).expect("three clouds"), 1.0);
        assert!(prediction_strength(&sample, &keys, 6, 1, 2).expect("enough rows") < 0.8);
    }
}
