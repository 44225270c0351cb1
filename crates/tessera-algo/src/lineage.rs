//! Which cluster of tonight is which of an earlier night: by the members that they share (the transitions of MONIC, Spiliopoulou et al. 2006),
//! one to one so that the most members stay (the assignment problem; Kuhn 1955, Munkres 1957).

use pathfinding::{kuhn_munkres::kuhn_munkres, matrix::Matrix};

/// What became of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is the earlier cluster, and nobody else's.
    Carried,
    /// It took in other clusters that are no more; it goes on with the id of one, or, where none is half of it, with a new one.
    Merged,
    /// Most of its members were of one cluster, which goes on elsewhere or nowhere; or most members of one that is no more are among its own.
    Split,
    /// It is of no earlier cluster.
    Born,
}

/// An earlier cluster of which a cluster is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parent {
    /// Its place among the earlier ones.
    pub at: usize,
    /// The share of the parent's members who are in the cluster, of those who are in any.
    pub of_parent: f64,
    /// The share of the cluster's members who come from the parent, of those who were in any.
    pub of_cluster: f64,
}

/// A cluster of tonight.
#[derive(Debug, Clone, PartialEq)]
pub struct Descent {
    /// The place of the earlier cluster that it goes on as.
    pub goes_on: Option<usize>,
    /// What happened.
    pub event: Event,
    /// Of which clusters it is; that of `goes_on` is the first.
    pub parents: Vec<Parent>,
}

/// The descent of each cluster of tonight. `shared[i][j]` members of the earlier cluster `i` are in cluster `j` of tonight (all rows of one length); `least` is the
/// share of both that has to stay for a cluster to go on, and of one for it to descend. Ties go to the lower places.
#[must_use]
pub fn descent(shared: &[Vec<u64>], clusters: usize, least: f64) -> Vec<Descent> {
    let whole: Vec<u64> = shared.iter().map(|row| row.iter().sum()).collect();
    let of: Vec<u64> = (0..clusters).map(|j| shared.iter().map(|row| row[j]).sum()).collect();
    let enough = |n: u64, of: u64| n > 0 && n as f64 >= least * of as f64;
    // What is too little to go on by is no reason to match, nor to leave another unmatched.
    let strong: Vec<Vec<u64>> = shared
        .iter()
        .zip(&whole)
        .map(|(row, whole)| {
            row.iter().zip(&of).map(|(n, of)| if enough(*n, *whole.max(of)) { *n } else { 0 }).collect()
        })
        .collect();
    let stays = |(j, i): (usize, Option<usize>)| i.filter(|i| strong[*i][j] > 0);
    let goes_on: Vec<Option<usize>> = matched(&strong, clusters).into_iter().enumerate().map(stays).collect();
    let parent = |i: usize, j: usize| Parent {
        at: i,
        of_parent: shared[i][j] as f64 / whole[i].max(1) as f64,
        of_cluster: shared[i][j] as f64 / of[j].max(1) as f64,
    };
    let ended = |i: &usize| !goes_on.contains(&Some(*i));
    (0..clusters)
        .map(|j| {
            let into: Vec<usize> =
                (0..shared.len()).filter(ended).filter(|i| enough(shared[*i][j], whole[*i])).collect();
            let most = (0..shared.len())
                .filter(|i| enough(shared[*i][j], of[j]))
                .min_by_key(|i| std::cmp::Reverse(shared[*i][j]));
            let (event, parents) = match (goes_on[j], most) {
                (Some(own), _) if into.is_empty() => (Event::Carried, vec![own]),
                (Some(own), _) => (Event::Merged, std::iter::once(own).chain(into).collect()),
                (None, _) if into.len() > 1 => (Event::Merged, into),
                (None, most) => {
                    let parents: Vec<usize> =
                        most.into_iter().chain(into.into_iter().filter(|i| most != Some(*i))).collect();
                    (if parents.is_empty() { Event::Born } else { Event::Split }, parents)
                }
            };
            Descent { goes_on: goes_on[j], event, parents: parents.into_iter().map(|i| parent(i, j)).collect() }
        })
        .collect()
}

/// Of each cluster of tonight the earlier one that it is matched with, so that as many members as can be are in matched ones.
fn matched(shared: &[Vec<u64>], clusters: usize) -> Vec<Option<usize>> {
    let mut matched = vec![None; clusters];
    if shared.is_empty() || clusters == 0 {
        return matched;
    }
    // Places that nobody takes make it a square.
    let side = shared.len().max(clusters);
    let weight = |(i, j): (usize, usize)| {
        shared.get(i).and_then(|row| row.get(j)).map_or(0, |n| i64::try_from(*n).unwrap_or(i64::MAX / 4))
    };
    let (_, assigned) = kuhn_munkres(&Matrix::from_fn(side, side, weight));
    for (i, j) in assigned.into_iter().enumerate().filter(|(i, j)| *i < shared.len() && *j < clusters) {
        matched[j] = Some(i);
    }
    matched
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(shared: &[Vec<u64>], clusters: usize) -> Vec<(Option<usize>, Event, Vec<usize>)> {
        let of = |d: Descent| (d.goes_on, d.event, d.parents.iter().map(|p| p.at).collect());
        descent(shared, clusters, 0.5).into_iter().map(of).collect()
    }

    #[test]
    fn what_becomes_of_clusters() {
        // The same in another order.
        assert_eq!(
            told(&[vec![2, 90], vec![50, 3]], 2),
            [(Some(1), Event::Carried, vec![1]), (Some(0), Event::Carried, vec![0])]
        );
        // One in two: the larger part goes on.
        assert_eq!(told(&[vec![40, 60]], 2), [(None, Event::Split, vec![0]), (Some(0), Event::Carried, vec![0])]);
        // In three, none of which is half of it.
        assert!(told(&[vec![34, 33, 33]], 3).iter().all(|d| *d == (None, Event::Split, vec![0])));
        // Two in one: the larger goes on.
        assert_eq!(told(&[vec![60], vec![40]], 1), [(Some(0), Event::Merged, vec![0, 1])]);
        assert_eq!(told(&[vec![33], vec![33], vec![34]], 1), [(None, Event::Merged, vec![0, 1, 2])]);
        // Of many, or of nobody who was there.
        assert_eq!(
            told(&[vec![80, 15, 0], vec![0, 0, 0]], 3),
            [(Some(0), Event::Carried, vec![0]), (None, Event::Split, vec![0]), (None, Event::Born, vec![])]
        );
        assert_eq!(told(&[], 1), [(None, Event::Born, vec![])]);
        // What keeps more than half goes on, though more members would be matched otherwise.
        assert_eq!(
            told(&[vec![60, 40], vec![40, 10]], 2),
            [(Some(0), Event::Merged, vec![0, 1]), (None, Event::Split, vec![0])]
        );
        // Of one that is no more, most are among others.
        assert_eq!(
            told(&[vec![10, 0], vec![15, 85], vec![15, 0]], 2),
            [(None, Event::Merged, vec![0, 2]), (Some(1), Event::Carried, vec![1])]
        );
        let of = descent(&[vec![60, 20], vec![30, 10]], 2, 0.5)[0].parents[0];
        assert_eq!((of.of_parent, of.of_cluster), (0.75, 60.0 / 90.0));
    }

    /// The most members that any one-to-one assignment keeps.
    fn best(shared: &[Vec<u64>], from: usize, taken: u32) -> u64 {
        if from == shared.len() {
            return 0;
        }
        let without = best(shared, from + 1, taken);
        let with = (0..shared[from].len()).filter(|j| taken >> j & 1 == 0);
        with.map(|j| shared[from][j] + best(shared, from + 1, taken | 1 << j)).max().unwrap_or(0).max(without)
    }

    proptest! {
        #[test]
        fn the_most_members_stay(shared in (1_usize..5, 1_usize..5).prop_flat_map(|(i, j)| proptest::collection::vec(proptest::collection::vec(0_u64..20, j), i))) {
            let clusters = shared[0].len();
            let kept: u64 = matched(&shared, clusters).iter().enumerate().filter_map(|(j, i)| Some(shared[(*i)?][j])).sum();
            prop_assert_eq!(kept, best(&shared, 0, 0));
            let all = descent(&shared, clusters, 0.5);
            let mut going: Vec<usize> = all.iter().filter_map(|d| d.goes_on).collect();
            going.sort_unstable();
            going.dedup();
            prop_assert_eq!(going.len(), all.iter().filter(|d| d.goes_on.is_some()).count());
            // Whoever keeps more than half of both goes on.
            for (i, row) in shared.iter().enumerate() {
                for (j, n) in row.iter().enumerate() {
                    let (whole, of): (u64, u64) = (row.iter().sum(), shared.iter().map(|row| row[j]).sum());
                    prop_assert!(2 * n <= whole.max(of) || all[j].goes_on == Some(i));
                }
            }
            for of in &all {
                prop_assert_eq!(of.parents.is_empty(), of.event == Event::Born);
                prop_assert!(of.goes_on.is_none() || of.parents[0].at == of.goes_on.unwrap_or(0));
            }
        }
    }
}
