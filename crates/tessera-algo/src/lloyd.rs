//! The kernel of Lloyd's algorithm (Lloyd 1982, "Least squares quantization in PCM").
//!
//! A [`Pass`] takes columns of rows in, block by block and in any order, and keeps exact sums per cluster; passes over
//! parts of the rows merge to the pass over all of them, bit for bit. A row belongs to the nearest centroid, ties to the
//! lower id. The farthest rows are kept aside, ties by key, to reseed clusters that run empty.

use crate::{
    fixed::{from_fixed, to_fixed},
    nearest::{BLOCK, Nearest},
};

const VERSION: u8 = 1;

/// k points of d coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Centroids {
    k: usize,
    dims: usize,
    data: Vec<f64>,
}

/// Why a pass cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LloydError {
    /// The number of coordinates is not k × d, or one is not finite.
    #[error("{k} centroids of {dims} finite coordinates are needed")]
    Centroids {
        /// Clusters.
        k: usize,
        /// Coordinates of each.
        dims: usize,
    },
    /// Columns differ in number from the centroids' coordinates, or in length from one another.
    #[error("{expected} columns of one length are needed")]
    Columns {
        /// Coordinates of a centroid.
        expected: usize,
    },
    /// A value is infinite or not a number.
    #[error("a value in column {column} is not finite")]
    NotFinite {
        /// Column, from 0.
        column: usize,
    },
    /// Bytes that are not a written pass, or one of another shape.
    #[error("these bytes are not a pass of the same shape")]
    Malformed,
}

impl Centroids {
    /// Centroids, one after the other.
    ///
    /// # Errors
    /// When there are none, the shape does not fit, or a coordinate is not finite.
    pub fn new(k: usize, dims: usize, data: Vec<f64>) -> Result<Self, LloydError> {
        if k == 0 || dims == 0 || data.len() != k * dims || data.iter().any(|x| !x.is_finite()) {
            return Err(LloydError::Centroids { k, dims });
        }
        Ok(Self { k, dims, data })
    }

    /// Number of clusters.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of coordinates.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The centroid of a cluster.
    #[must_use]
    pub fn row(&self, id: usize) -> &[f64] {
        &self.data[id * self.dims..(id + 1) * self.dims]
    }

    /// The same centroids, numbered anew: the new cluster i is the old `order[i]`.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        let data = order.iter().flat_map(|id| self.row(*id)).copied().collect();
        Self { k: order.len(), dims: self.dims, data }
    }
}

/// A row far from its centroid.
#[derive(Debug, Clone, PartialEq)]
struct Far {
    squared: f64,
    key: u64,
    row: Vec<f64>,
}

/// What a pass over rows keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    k: usize,
    dims: usize,
    counts: Vec<u64>,
    sums: Vec<i128>,
    squares: Vec<i128>,
    distances: Vec<i128>,
    /// At most k rows, farthest first.
    far: Vec<Far>,
}

impl Pass {
    /// A pass that has seen nothing.
    #[must_use]
    pub fn new(centroids: &Centroids) -> Self {
        let (k, dims) = (centroids.k, centroids.dims);
        Self {
            k,
            dims,
            counts: vec![0; k],
            sums: vec![0; k * dims],
            squares: vec![0; k],
            distances: vec![0; k],
            far: Vec::new(),
        }
    }

    /// Takes rows in: a column per coordinate, and a key per row that decides ties.
    ///
    /// # Errors
    /// When columns are missing, differ in length, or hold a value that is not finite.
    pub fn update(&mut self, centroids: &Centroids, columns: &[&[f64]], keys: &[u64]) -> Result<(), LloydError> {
        check(centroids, columns, Some(keys.len()))?;
        // Wider vectors where the processor has them. Every row's arithmetic stays what it is: nothing is fused or reordered.
        pulp::Arch::new().dispatch(|| self.take(centroids, columns, keys));
        Ok(())
    }

    /// Takes rows in that have their clusters, whichever centroid is nearest. Nobody is kept aside to seed with.
    ///
    /// # Errors
    /// When columns are missing, differ in length, or hold a value that is not finite, or a label is no cluster.
    pub fn update_labelled(
        &mut self,
        centroids: &Centroids,
        columns: &[&[f64]],
        labels: &[u32],
    ) -> Result<(), LloydError> {
        check(centroids, columns, Some(labels.len()))?;
        if labels.iter().any(|label| *label as usize >= self.k) {
            return Err(LloydError::Malformed);
        }
        for (row, label) in labels.iter().enumerate() {
            let id = *label as usize;
            let squared: f64 = columns.iter().zip(centroids.row(id)).map(|(c, x)| (c[row] - x) * (c[row] - x)).sum();
            self.counts[id] += 1;
            self.squares[id] += to_fixed(squared);
            self.distances[id] += to_fixed(squared.sqrt());
            for (sum, column) in self.sums[id * self.dims..(id + 1) * self.dims].iter_mut().zip(columns) {
                *sum += to_fixed(column[row]);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn take(&mut self, centroids: &Centroids, columns: &[&[f64]], keys: &[u64]) {
        let mut nearest = Nearest::new();
        for start in (0..keys.len()).step_by(BLOCK) {
            let n = BLOCK.min(keys.len() - start);
            nearest.find::<false>(centroids, columns, start, n);
            for i in 0..n {
                let (id, squared) = (nearest.ids[i] as usize, nearest.first[i]);
                self.counts[id] += 1;
                self.squares[id] += to_fixed(squared);
                self.distances[id] += to_fixed(squared.sqrt());
                for (sum, column) in self.sums[id * self.dims..(id + 1) * self.dims].iter_mut().zip(columns) {
                    *sum += to_fixed(column[start + i]);
                }
                if self.far.len() < self.k || self.far.last().is_some_and(|last| squared >= last.squared) {
                    let row = columns.iter().map(|c| c[start + i]).collect();
                    self.keep(Far { squared, key: keys[start + i], row });
                }
            }
        }
    }

    /// Takes a row, in fixed point, out of the cluster it was in and into another. Of that, counts and sums alone are told.
    pub(crate) fn place(&mut self, row: &[i128], from: Option<u32>, to: u32) {
        let mut change = |id: u32, by: fn(&mut i128, &i128)| {
            let id = id as usize;
            self.sums[id * self.dims..(id + 1) * self.dims].iter_mut().zip(row).for_each(|(sum, x)| by(sum, x));
        };
        change(to, |sum, x| *sum += x);
        self.counts[to as usize] += 1;
        if let Some(from) = from {
            change(from, |sum, x| *sum -= x);
            self.counts[from as usize] -= 1;
        }
    }

    fn keep(&mut self, far: Far) {
        let before = |a: &Far| a.squared > far.squared || (a.squared == far.squared && a.key < far.key);
        let at = self.far.partition_point(before);
        // The same place twice would give two equal centroids.
        if self.far.iter().any(|f| f.row == far.row) {
            if let Some(same) = self.far.iter_mut().find(|f| f.row == far.row) {
                same.key = same.key.min(far.key);
            }
            self.far.sort_by(|a, b| b.squared.total_cmp(&a.squared).then(a.key.cmp(&b.key)));
            return;
        }
        self.far.insert(at, far);
        self.far.truncate(self.k);
    }

    /// Takes the pass over other rows in.
    ///
    /// # Errors
    /// When it is of another shape.
    pub fn merge(&mut self, other: &Self) -> Result<(), LloydError> {
        if (self.k, self.dims) != (other.k, other.dims) {
            return Err(LloydError::Malformed);
        }
        let add = |into: &mut [i128], from: &[i128]| into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        add(&mut self.sums, &other.sums);
        add(&mut self.squares, &other.squares);
        add(&mut self.distances, &other.distances);
        other.far.iter().for_each(|far| self.keep(far.clone()));
        Ok(())
    }

    /// Rows per cluster.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Sum of the squared distances of a cluster's rows to its centroid.
    #[must_use]
    pub fn squares(&self, id: usize) -> f64 {
        from_fixed(self.squares[id])
    }

    /// Sum of the Euclidean distances of a cluster's rows to its centroid.
    #[must_use]
    pub fn distances(&self, id: usize) -> f64 {
        from_fixed(self.distances[id])
    }

    /// Sum of the squared distances of all rows.
    #[must_use]
    pub fn inertia(&self) -> f64 {
        from_fixed(self.squares.iter().sum())
    }

    /// The mean of a cluster's rows; absent when it has none.
    #[must_use]
    pub fn mean(&self, id: usize) -> Option<Vec<f64>> {
        let n = self.counts[id];
        (n > 0).then(|| {
            self.sums[id * self.dims..(id + 1) * self.dims].iter().map(|s| from_fixed(*s) / n as f64).collect()
        })
    }

    /// The mean of all rows.
    #[must_use]
    pub fn overall_mean(&self) -> Vec<f64> {
        let n: u64 = self.counts.iter().sum();
        (0..self.dims)
            .map(|j| from_fixed((0..self.k).map(|id| self.sums[id * self.dims + j]).sum()) / n.max(1) as f64)
            .collect()
    }

    /// The pass as bytes, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut word = |x: u64| bytes.extend_from_slice(&x.to_le_bytes());
        word(self.k as u64);
        word(self.dims as u64);
        self.counts.iter().for_each(|c| word(*c));
        word(self.far.len() as u64);
        for far in &self.far {
            word(far.squared.to_bits());
            word(far.key);
            far.row.iter().for_each(|x| word(x.to_bits()));
        }
        for sum in self.sums.iter().chain(&self.squares).chain(&self.distances) {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Pass::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LloydError> {
        let mut rest = bytes.strip_prefix(&[VERSION]).ok_or(LloydError::Malformed)?;
        let mut word = || -> Result<u64, LloydError> {
            let (head, tail) = rest.split_first_chunk::<8>().ok_or(LloydError::Malformed)?;
            rest = tail;
            Ok(u64::from_le_bytes(*head))
        };
        let size = |x: u64| usize::try_from(x).ok().filter(|x| *x <= bytes.len()).ok_or(LloydError::Malformed);
        let (k, dims) = (size(word()?)?, size(word()?)?);
        let counts = (0..k).map(|_| word()).collect::<Result<_, _>>()?;
        let far = (0..size(word()?)?)
            .map(|_| {
                let (squared, key) = (f64::from_bits(word()?), word()?);
                let row = (0..dims).map(|_| Ok(f64::from_bits(word()?))).collect::<Result<_, _>>()?;
                Ok(Far { squared, key, row })
            })
            .collect::<Result<_, LloydError>>()?;
        let wide: Vec<i128> = rest.as_chunks::<16>().0.iter().map(|b| i128::from_le_bytes(*b)).collect();
        if rest.len() != 16 * (k * dims + 2 * k) {
            return Err(LloydError::Malformed);
        }
        let (sums, wide) = wide.split_at(k * dims);
        let (squares, distances) = wide.split_at(k);
        Ok(Self { k, dims, counts, sums: sums.to_vec(), squares: squares.to_vec(), distances: distances.to_vec(), far })
    }
}

/// The centroids after a pass, and the farthest that one moved (infinite when an empty cluster was reseeded).
///
/// # Errors
/// When the pass is of another shape.
pub fn step(centroids: &Centroids, pass: &Pass) -> Result<(Centroids, f64), LloydError> {
    if (centroids.k, centroids.dims) != (pass.k, pass.dims) {
        return Err(LloydError::Malformed);
    }
    let mut far = pass.far.iter().filter(|f| f.squared > 0.0);
    let mut data = Vec::with_capacity(centroids.data.len());
    let mut shift: f64 = 0.0;
    for id in 0..pass.k {
        let old = centroids.row(id);
        match pass.mean(id) {
            Some(mean) => {
                shift = shift.max(crate::matrix::squared_distance(&mean, old).sqrt());
                data.extend(mean);
            }
            None => match far.next() {
                Some(far) => {
                    shift = f64::INFINITY;
                    data.extend_from_slice(&far.row);
                }
                // Every row stands on a centroid: nobody is left to seed with.
                None => data.extend_from_slice(old),
            },
        }
    }
    Ok((Centroids::new(pass.k, pass.dims, data)?, shift))
}

pub(crate) fn check(centroids: &Centroids, columns: &[&[f64]], rows: Option<usize>) -> Result<usize, LloydError> {
    let rows = rows.or_else(|| columns.first().map(|c| c.len())).unwrap_or(0);
    if columns.len() != centroids.dims || columns.iter().any(|c| c.len() != rows) {
        return Err(LloydError::Columns { expected: centroids.dims });
    }
    match columns.iter().position(|c| c.iter().any(|x| !x.is_finite())) {
        Some(column) => Err(LloydError::NotFinite { column }),
        None => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::squared_distance;
    use crate::nearest::assign_block;

    fn columns(rows: &[[f64; 2]]) -> [Vec<f64>; 2] {
        [0, 1].map(|c| rows.iter().map(|r| r[c]).collect())
    }

    fn pass(centroids: &Centroids, rows: &[[f64; 2]], keys: &[u64]) -> Pass {
        let [x, y] = columns(rows);
        let mut pass = Pass::new(centroids);
        pass.update(centroids, &[&x, &y], keys).expect("finite");
        pass
    }

    fn three() -> Centroids {
        Centroids::new(3, 2, vec![0.0, 0.0, 10.0, 0.0, 0.0, 10.0]).expect("finite")
    }

    proptest! {
        #[test]
        fn rows_in_any_order_and_any_parts_give_the_same_bits(
            rows in proptest::collection::vec([-20.0_f64..20.0, -20.0..20.0], 1..80),
            cut in 0_usize..80,
        ) {
            let centroids = three();
            let keys: Vec<u64> = (0..rows.len() as u64).collect();
            let whole = pass(&centroids, &rows, &keys);
            let cut = cut.min(rows.len());
            let mut backwards = pass(&centroids, &rows[cut..], &keys[cut..]);
            backwards.merge(&Pass::from_bytes(&pass(&centroids, &rows[..cut], &keys[..cut]).to_bytes()).expect("written")).expect("same shape");
            prop_assert_eq!(&backwards, &whole);
            let (a, b) = (step(&centroids, &whole).expect("finite"), step(&centroids, &backwards).expect("finite"));
            prop_assert_eq!(a, b);
        }

        #[test]
        fn every_row_goes_to_the_nearest_centroid(rows in proptest::collection::vec([-20.0_f64..20.0, -20.0..20.0], 1..1200)) {
            let centroids = three();
            let [x, y] = columns(&rows);
            let assigned = assign_block(&[&x, &y], &centroids).expect("finite");
            for ((row, id), second) in rows.iter().zip(&assigned.ids).zip(&assigned.seconds) {
                let to: Vec<f64> = (0..3).map(|c| squared_distance(row, centroids.row(c))).collect();
                prop_assert!(to.iter().all(|d| to[*id as usize] <= *d));
                let after = (0..3).filter(|c| *c != *id as usize).map(|c| to[c]).fold(f64::INFINITY, f64::min);
                prop_assert_eq!(to[*second as usize], after);
                prop_assert!(second != id);
            }
        }
    }

    /// With the labels that the rows have by distance, a labelled pass says what a pass does.
    #[test]
    fn a_labelled_pass_is_that_of_its_labels() {
        let centroids = three();
        let rows = [[1.0, 2.0], [9.0, 0.5], [0.25, 11.0], [5.0, 4.0], [-3.0, 0.0]];
        let [x, y] = columns(&rows);
        let whole = pass(&centroids, &rows, &[0, 1, 2, 3, 4]);
        let labels = assign_block(&[&x, &y], &centroids).expect("finite").ids;
        let mut labelled = Pass::new(&centroids);
        labelled.update_labelled(&centroids, &[&x, &y], &labels).expect("labels");
        assert_eq!((labelled.counts(), labelled.inertia()), (whole.counts(), whole.inertia()));
        assert!((0..3).all(|id| labelled.mean(id) == whole.mean(id) && labelled.distances(id) == whole.distances(id)));
        assert_eq!(labelled.update_labelled(&centroids, &[&x, &y], &[0, 1, 2, 2, 0]), Ok(()));
        assert_eq!(labelled.update_labelled(&centroids, &[&x, &y], &[9; 5]), Err(LloydError::Malformed));
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        let [x, y] = columns(&[[5.0, 0.0], [5.0, 5.0]]);
        let assigned = assign_block(&[&x, &y], &three()).expect("finite");
        assert_eq!((assigned.ids, assigned.seconds), (vec![0, 0], vec![1, 1]));
        assert_eq!(assigned.margins, [0.0, 0.0]);
    }

    #[test]
    fn an_empty_cluster_takes_the_farthest_row() {
        let centroids = Centroids::new(3, 2, vec![0.0, 0.0, 100.0, 100.0, -100.0, 100.0]).expect("finite");
        let pass = pass(&centroids, &[[0.0, 1.0], [0.0, 9.0], [3.0, 0.0], [9.0, 0.0]], &[4, 3, 2, 1]);
        let (next, shift) = step(&centroids, &pass).expect("finite");
        assert_eq!(shift, f64::INFINITY);
        // Both are 9 away: the smaller key comes first.
        assert_eq!((next.row(1), next.row(2)), ([9.0, 0.0].as_slice(), [0.0, 9.0].as_slice()));
    }

    #[test]
    fn one_pass_by_hand() {
        let centroids = Centroids::new(2, 2, vec![0.0, 0.0, 10.0, 0.0]).expect("finite");
        let pass = pass(&centroids, &[[1.0, 0.0], [3.0, 0.0], [9.0, 1.0]], &[0, 1, 2]);
        assert_eq!(pass.counts(), [2, 1]);
        assert_eq!((pass.squares(0), pass.squares(1)), (10.0, 2.0));
        assert_eq!(pass.inertia(), 12.0);
        let (next, shift) = step(&centroids, &pass).expect("finite");
        assert_eq!((next.row(0), next.row(1), shift), ([2.0, 0.0].as_slice(), [9.0, 1.0].as_slice(), 2.0));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(Centroids::new(1, 2, vec![0.0, f64::NAN]).is_err());
        let mut pass = Pass::new(&three());
        assert_eq!(pass.update(&three(), &[&[1.0], &[f64::INFINITY]], &[1]), Err(LloydError::NotFinite { column: 1 }));
        assert_eq!(pass.update(&three(), &[&[1.0], &[1.0, 2.0]], &[1]), Err(LloydError::Columns { expected: 2 }));
        assert!(Pass::from_bytes(b"\x01garbage").is_err());
    }
}
