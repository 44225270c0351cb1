//! How well clusters come back when the customers are others of the same kind (Hennig 2007, "Cluster-wise assessment of cluster
//! stability").
//!
//! Rows are drawn with replacement, as often as there are rows, and those drawn (each once, as fpc's `clusterboot` does by default)
//! are clustered anew. Of each cluster, the Jaccard similarity with the most similar new one among the drawn rows is taken; the mean
//! over the resamples is its stability. Hennig reads 0.75 and more as a valid, stable cluster, and below 0.6 as none to be trusted.

use crate::{Matrix, hashed, parallel};

/// The stability of each cluster. `cluster` gives the labels of some rows, if it can; absent of a cluster that was in no resample.
///
/// Resamples follow from `seed` alone: not from the number of threads.
#[must_use]
pub fn jaccard(
    sample: &Matrix,
    labels: &[u32],
    k: usize,
    (resamples, seed): (usize, u64),
    threads: usize,
    cluster: impl Fn(&Matrix, u64) -> Option<Vec<u32>> + Sync,
) -> Vec<Option<f64>> {
    let rounds: Vec<u64> = (0..resamples as u64).collect();
    let found = parallel::map(&rounds, threads, |round| {
        let drawn = drawn(sample.rows(), seed, *round);
        let again = cluster(&sample.select(&drawn), seed.wrapping_add(*round))?;
        let own: Vec<u32> = drawn.iter().map(|row| labels[*row]).collect();
        Some(similarities(&own, &again, k))
    });
    (0..k)
        .map(|id| {
            let all: Vec<f64> = found.iter().flatten().filter_map(|round| round[id]).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        })
        .collect()
}

/// The rows that a resample of `n` has, each once, in their order.
fn drawn(n: usize, seed: u64, round: u64) -> Vec<usize> {
    let mut there = vec![false; n];
    for draw in 0..n as u64 {
        there[hashed::below(n, round, draw, seed)] = true;
    }
    (0..n).filter(|row| there[*row]).collect()
}

/// Of each of `k` clusters, its Jaccard similarity with the most similar one of another clustering of the same rows.
fn similarities(own: &[u32], again: &[u32], k: usize) -> Vec<Option<f64>> {
    let others = again.iter().max().map_or(0, |last| *last as usize + 1);
    let mut both = vec![0_u32; k * others];
    let (mut sizes, mut other_sizes) = (vec![0_u32; k], vec![0_u32; others]);
    for (a, b) in own.iter().zip(again) {
        let (a, b) = (*a as usize, *b as usize);
        both[a * others + b] += 1;
        sizes[a] += 1;
        other_sizes[b] += 1;
    }
    let similarity = |a: usize, b: usize| {
        let both = both[a * others + b];
        f64::from(both) / f64::from(sizes[a] + other_sizes[b] - both)
    };
    (0..k).map(|a| (sizes[a] > 0).then(|| (0..others).map(|b| similarity(a, b)).fold(0.0, f64::max))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::kmeans::{self, tests::blobs};

    proptest! {
        /// Sets, as the definition has them.
        #[test]
        fn similarities_are_those_of_sets(rows in prop::collection::vec((0..4_u32, 0..5_u32), 1..60)) {
            let (own, again): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let set = |labels: &[u32], id: u32| -> BTreeSet<usize> { (0..labels.len()).filter(|i| labels[*i] == id).collect() };
            let found = similarities(&own, &again, 4);
            for id in 0..4 {
                let mine = set(&own, id);
                let best = (0..5)
                    .map(|other| {
                        let theirs = set(&again, other);
                        mine.intersection(&theirs).count() as f64 / mine.union(&theirs).count().max(1) as f64
                    })
                    .fold(0.0, f64::max);
                prop_assert_eq!(found[id as usize], (!mine.is_empty()).then_some(best));
            }
        }
    }

    #[test]
    fn a_resample_has_about_63_of_100_rows() {
        for round in 0..20 {
            let share = drawn(5_000, 7, round).len() as f64 / 5_000.0;
            assert!((share - (1.0 - (-1.0_f64).exp())).abs() < 0.02, "{share}");
        }
        assert_ne!(drawn(50, 7, 1), drawn(50, 7, 2));
    }

    fn stability(sample: &Matrix, k: usize, threads: usize) -> Vec<Option<f64>> {
        let labels = kmeans::fit_best(sample, k, &[1, 2, 3]).expect("clusters").labels;
        jaccard(sample, &labels, k, (30, 5), threads, |rows, seed| {
            kmeans::fit_best(rows, k, &[seed, seed + 1, seed + 2]).ok().map(|fit| fit.labels)
        })
    }

    #[test]
    fn true_clusters_come_back_and_false_ones_do_not() {
        let (sample, _) = blobs(3, 80, 3, 4);
        let three = stability(&sample, 3, 1);
        assert!(three.iter().all(|s| s.is_some_and(|s| s > 0.99)), "{three:?}");
        // A cloud cut in two is cut elsewhere the next time.
        let five = stability(&sample, 5, 2);
        assert!(five.iter().any(|s| s.is_some_and(|s| s < 0.75)), "{five:?}");
        assert_eq!(five, stability(&sample, 5, 3), "whatever the number of threads");
    }
}
