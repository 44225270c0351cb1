//! Prediction strength (Tibshirani & Walther 2005, "Cluster validation by prediction strength").
//!
//! The rows are split in two; both halves are clustered. For each cluster of the test half: of the pairs of its members,
//! the share that the training half's centroids put together as well. The strength is the smallest such share.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    Matrix,
    algorithms::{Algorithm, Fit},
    lloyd::Centroids,
};

/// Starts of a fit, beside the means of all rows.
const STARTS: u64 = 3;

/// The mean strength over `splits` halvings. `keys` are stable keys of the rows, by whose hash they are split, so that
/// the order of rows does not matter. `halves` gives the labels of the second rows, by themselves and as the first ones predict them; where it
/// cannot, nothing is told.
pub fn prediction_strength(
    keys: &[u64],
    seed: u64,
    splits: usize,
    halves: impl Fn(&[usize], &[usize]) -> Option<(Vec<u32>, Vec<u32>)>,
) -> Option<f64> {
    let mut total = 0.0;
    for split in 0..splits as u64 {
        let side = |key: u64| xxh3_64_with_seed(&key.to_le_bytes(), seed.wrapping_add(split)) & 1 == 0;
        let (train, test): (Vec<usize>, Vec<usize>) = (0..keys.len()).partition(|i| side(keys[*i]));
        let (own, predicted) = halves(&train, &test)?;
        total += strength(&own, &predicted);
    }
    Some(total / splits.max(1) as f64)
}

/// The labels of the rows of one half by an algorithm, and as it predicts them of the other; `known` are the means of all rows.
#[must_use]
pub fn halves(
    algorithm: &Algorithm,
    sample: &Matrix,
    known: &Centroids,
    seed: u64,
    train: &[usize],
    test: &[usize],
) -> Option<(Vec<u32>, Vec<u32>)> {
    let seeds: Vec<u64> = (0..STARTS).map(|s| seed.wrapping_add(s)).collect();
    let shown = |rows: &[usize]| sample.select(&rows[..rows.len().min(algorithm.rows)]);
    let test = shown(test);
    let train = algorithm.fit_near(&shown(train), known.k(), &seeds, known).ok()?;
    let own = algorithm.fit_near(&test, known.k(), &seeds, known).ok()?;
    let predicted = Fit::nearest(&test, train.centroids, None).ok()?;
    Some((own.labels, predicted.labels))
}

/// The smallest share of pairs that stay together. Clusters of one member have no pair and are passed over.
fn strength(own: &[u32], predicted: &[u32]) -> f64 {
    let clusters = |labels: &[u32]| labels.iter().max().map_or(0, |last| *last as usize + 1);
    let mut together = vec![vec![0_u64; clusters(predicted)]; clusters(own)];
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
    use crate::kmeans::{
        self,
        tests::{blobs, uniform},
    };

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
            assert!((strength(&own, &predicted) - naive(&own, &predicted, 4)).abs() < 1e-12);
        }
    }

    #[test]
    fn true_clusters_are_predicted_and_false_ones_are_not() {
        let (sample, _) = blobs(3, 80, 3, 4);
        let keys: Vec<u64> = (0..240).collect();
        let of = |k| {
            let whole = kmeans::fit_best(&sample, k, &[1, 2, 3]).expect("enough rows").centroids;
            prediction_strength(&keys, 1, 2, |a, b| halves(&kmeans::ALGORITHM, &sample, &whole, 1, a, b))
        };
        assert_eq!(of(3), Some(1.0));
        assert!(of(6).is_some_and(|strength| strength < 0.8));
        // A half has fewer rows than clusters.
        assert_eq!(of(200), None);
    }
}
