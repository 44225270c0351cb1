//! Which centroid of a few a row is nearest to.

use crate::lloyd::{Centroids, LloydError, check};

/// Rows that are worked on together: their distances stay in the first-level cache.
pub(crate) const BLOCK: usize = 512;

/// The nearest centroids of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// Cluster of each row.
    pub ids: Vec<u32>,
    /// Euclidean distance to its centroid.
    pub distances: Vec<f64>,
    /// (d2 − d1) / d2 of the two nearest centroids; 1 where there is one, 0 where a row stands on both.
    pub margins: Vec<f64>,
    /// The second nearest cluster, ties to the lower id; the nearest where there is one.
    pub seconds: Vec<u32>,
    /// Euclidean distance to its centroid; infinite where there is one.
    pub second_distances: Vec<f64>,
}

/// Assigns rows, given as a column per coordinate.
///
/// # Errors
/// When columns are missing, differ in length, or hold a value that is not finite.
pub fn assign_block(columns: &[&[f64]], centroids: &Centroids) -> Result<Assigned, LloydError> {
    let rows = check(centroids, columns, None)?;
    let mut assigned = Assigned {
        ids: Vec::with_capacity(rows),
        distances: Vec::with_capacity(rows),
        margins: Vec::with_capacity(rows),
        seconds: Vec::with_capacity(rows),
        second_distances: Vec::with_capacity(rows),
    };
    blocks::<true>(centroids, columns, |nearest, n| {
        assigned.ids.extend_from_slice(&nearest.ids[..n]);
        assigned.seconds.extend_from_slice(&nearest.seconds[..n]);
        for i in 0..n {
            let (first, second) = (nearest.first[i].sqrt(), nearest.second[i].sqrt());
            assigned.distances.push(first);
            assigned.second_distances.push(second);
            assigned.margins.push(match (centroids.k(), second > 0.0) {
                (1, _) => 1.0,
                (_, true) => (second - first) / second,
                (_, false) => 0.0,
            });
        }
    });
    Ok(assigned)
}

/// The nearest centroid of each row, of columns that fit (see [`check`]).
pub(crate) fn ids(centroids: &Centroids, columns: &[&[f64]], ids: &mut Vec<u32>) {
    ids.clear();
    blocks::<false>(centroids, columns, |nearest, n| ids.extend_from_slice(&nearest.ids[..n]));
}

/// Shows the rows block by block, in their order.
fn blocks<const SECOND: bool>(centroids: &Centroids, columns: &[&[f64]], mut show: impl FnMut(&Nearest, usize)) {
    let rows = columns.first().map_or(0, |c| c.len());
    let mut nearest = Nearest::new();
    for start in (0..rows).step_by(BLOCK) {
        let n = BLOCK.min(rows - start);
        pulp::Arch::new().dispatch(|| nearest.find::<SECOND>(centroids, columns, start, n));
        show(&nearest, n);
    }
}

/// The two nearest centroids of the rows of a block.
pub(crate) struct Nearest {
    squared: [f64; BLOCK],
    pub(crate) first: [f64; BLOCK],
    second: [f64; BLOCK],
    pub(crate) ids: [u32; BLOCK],
    seconds: [u32; BLOCK],
}

impl Nearest {
    pub(crate) fn new() -> Self {
        Self { squared: [0.0; BLOCK], first: [0.0; BLOCK], second: [0.0; BLOCK], ids: [0; BLOCK], seconds: [0; BLOCK] }
    }

    /// Each row's arithmetic goes through the coordinates in order, whatever block the row is in. Which is the second nearest is told
    /// to who asks `SECOND`: a pass over all rows does not.
    #[inline(always)]
    pub(crate) fn find<const SECOND: bool>(
        &mut self,
        centroids: &Centroids,
        columns: &[&[f64]],
        start: usize,
        n: usize,
    ) {
        self.first[..n].fill(f64::INFINITY);
        self.second[..n].fill(f64::INFINITY);
        self.ids[..n].fill(0);
        self.seconds[..n].fill(0);
        for id in 0..centroids.k() {
            let squared = &mut self.squared[..n];
            squared.fill(0.0);
            for (column, c) in columns.iter().zip(centroids.row(id)) {
                for (squared, x) in squared.iter_mut().zip(&column[start..start + n]) {
                    let difference = x - c;
                    *squared += difference * difference;
                }
            }
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            if SECOND {
                let row = self.first[..n].iter().zip(&self.second[..n]).zip(&self.ids[..n]);
                for ((seconds, ((first, second), nearest)), squared) in
                    self.seconds[..n].iter_mut().zip(row).zip(squared.iter())
                {
                    // Of one centroid the second is itself.
                    let after = if *squared < *second || id <= 1 { id } else { *seconds };
                    *seconds = if *squared < *first { *nearest } else { after };
                }
            }
            let best = self.first[..n].iter_mut().zip(&mut self.second[..n]).zip(&mut self.ids[..n]);
            for (((first, second), nearest), squared) in best.zip(squared.iter()) {
                let closer = *squared < *first;
                *second = if closer { *first } else { second.min(*squared) };
                *nearest = if closer { id } else { *nearest };
                *first = if closer { *squared } else { *first };
            }
        }
    }
}
