//! Lloyd's algorithm over rows that are all held in memory.
//!
//! After the first passes few rows change their cluster. The sums of a cluster are whole numbers, so that taking a row out of
//! one and into another leaves what adding up all rows anew would: every step is that of a [`Pass`], bit for bit, and costs
//! the distances alone.

use crate::{
    fixed::to_fixed,
    lloyd::{Centroids, LloydError, Pass, check, step},
    nearest,
};

/// The rows, a column per coordinate, with a key each that decides ties.
pub(crate) struct Held<'a> {
    columns: &'a [&'a [f64]],
    keys: &'a [u64],
    /// The rows one after the other, in fixed point.
    fixed: Vec<i128>,
}

/// Where the algorithm came to rest.
pub(crate) struct Rest {
    pub(crate) centroids: Centroids,
    /// Within-cluster sum of squares.
    pub(crate) inertia: f64,
}

impl<'a> Held<'a> {
    pub(crate) fn new(columns: &'a [&'a [f64]], keys: &'a [u64]) -> Self {
        let fixed = (0..keys.len()).flat_map(|row| columns.iter().map(move |column| to_fixed(column[row]))).collect();
        Self { columns, keys, fixed }
    }

    /// Goes on from centroids until none moves by more than `shift`, for `passes` at most.
    ///
    /// # Errors
    /// When columns and centroids do not fit, or a value is not finite.
    pub(crate) fn descend(&self, start: Centroids, passes: usize, shift: f64) -> Result<Rest, LloydError> {
        check(&start, self.columns, Some(self.keys.len()))?;
        let dims = start.dims();
        let mut running = Pass::new(&start);
        let mut centroids = start;
        let (mut before, mut now): (Vec<u32>, Vec<u32>) = Default::default();
        for _ in 0..passes {
            nearest::ids(&centroids, self.columns, &mut now);
            for (row, to) in now.iter().enumerate() {
                let from = before.get(row).copied();
                if from != Some(*to) {
                    running.place(&self.fixed[row * dims..(row + 1) * dims], from, *to);
                }
            }
            std::mem::swap(&mut before, &mut now);
            let (next, moved) = match running.counts().contains(&0) {
                // Which rows are far enough away to seed a cluster anew, only a pass over all finds.
                true => step(&centroids, &self.pass(&centroids)?)?,
                false => step(&centroids, &running)?,
            };
            if moved <= shift {
                break;
            }
            centroids = next;
        }
        let inertia = self.inertia(&centroids)?;
        Ok(Rest { centroids, inertia })
    }

    /// Within-cluster sum of squares around some centroids.
    ///
    /// # Errors
    /// When columns and centroids do not fit.
    pub(crate) fn inertia(&self, centroids: &Centroids) -> Result<f64, LloydError> {
        Ok(self.pass(centroids)?.inertia())
    }

    fn pass(&self, centroids: &Centroids) -> Result<Pass, LloydError> {
        let mut pass = Pass::new(centroids);
        pass.update(centroids, self.columns, self.keys)?;
        Ok(pass)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pass after pass.
    fn naive(held: &Held<'_>, mut centroids: Centroids, passes: usize, shift: f64) -> Centroids {
        for _ in 0..passes {
            let (next, moved) = step(&centroids, &held.pass(&centroids).expect("finite")).expect("same shape");
            if moved <= shift {
                break;
            }
            centroids = next;
        }
        centroids
    }

    proptest! {
        /// Also where rows are the same and clusters run empty.
        #[test]
        fn it_is_pass_after_pass(
            rows in prop::collection::vec((0..9_i32, -40..40_i32, -1.0..1.0_f64), 1..60),
            starts in prop::collection::vec((-3..12_i32, -50..50_i32), 1..6),
            passes in 0..12_usize,
        ) {
            let first: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let second: Vec<f64> = rows.iter().map(|r| f64::from(r.1) * if r.2 > 0.0 { 1.0 } else { 0.37 }).collect();
            let columns = [first.as_slice(), second.as_slice()];
            let keys: Vec<u64> = (0..rows.len() as u64).collect();
            let held = Held::new(&columns, &keys);
            let start: Vec<f64> = starts.iter().flat_map(|s| [f64::from(s.0), f64::from(s.1) / 3.0]).collect();
            let start = Centroids::new(starts.len(), 2, start).expect("finite");
            let rest = held.descend(start.clone(), passes, 1e-4).expect("fits");
            let expect = naive(&held, start, passes, 1e-4);
            prop_assert_eq!(rest.inertia, held.pass(&expect).expect("finite").inertia());
            prop_assert_eq!(rest.centroids, expect);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let start = Centroids::new(1, 1, vec![0.0]).expect("finite");
        let (column, keys) = ([1.0, f64::NAN], [0, 1]);
        let refused = Held::new(&[&column], &keys).descend(start, 3, 0.0);
        assert_eq!(refused.err(), Some(LloydError::NotFinite { column: 0 }));
    }
}
