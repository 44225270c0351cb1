//! How good clusters are, without knowing the truth.
//!
//! Silhouette (Rousseeuw 1987), Calinski–Harabasz (1974), Davies–Bouldin (1979) and the share of variance between clusters;
//! the last three from labelled rows or from the exact sums of a [`Pass`] over any number of rows.

use crate::{
    Matrix,
    lloyd::{Centroids, LloydError, Pass},
    matrix::squared_distance,
};

/// Silhouettes of one labelling.
#[derive(Debug, Clone, PartialEq)]
pub struct Silhouette {
    /// Mean over all rows.
    pub mean: f64,
    /// Mean over the rows of each cluster; 0 for an empty one.
    pub per_cluster: Vec<f64>,
}

/// The indices that need sums only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Indices {
    /// Within-cluster sum of squares.
    pub inertia: f64,
    /// (B / (k − 1)) / (W / (n − k)); infinite when W is 0, NaN for one cluster.
    pub calinski_harabasz: f64,
    /// Mean over clusters of the worst ratio of scatter to separation; smaller is better.
    pub davies_bouldin: f64,
    /// B / (B + W); 0 when there is no variance.
    pub variance_between_share: f64,
    /// Rows of the smallest cluster.
    pub smallest: u64,
}

/// Why a labelling cannot be judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ValidityError {
    /// Labels and rows differ in number, or a label is not below k.
    #[error("{rows} labels below {k} are needed")]
    Labels {
        /// Rows of the sample.
        rows: usize,
        /// Clusters.
        k: usize,
    },
    /// The sums refuse.
    #[error(transparent)]
    Lloyd(#[from] LloydError),
}

/// The silhouettes of several labellings (labels, k) of the same rows, in one sweep over the pairs of rows.
///
/// Rows that no labelling tells apart are brought together: their distances to a row are added up as they come, once for all
/// labellings. A row alone in its cluster counts 0. The result does not depend on the number of threads.
///
/// # Errors
/// When labels do not fit the rows.
pub fn silhouettes(
    sample: &Matrix,
    labellings: &[(&[u32], usize)],
    threads: usize,
) -> Result<Vec<Silhouette>, ValidityError> {
    for (labels, k) in labellings {
        check(sample, labels, *k)?;
    }
    let n = sample.rows();
    let sizes: Vec<Vec<u32>> = labellings.iter().map(|(labels, k)| sizes(labels, *k)).collect();
    let cells = Cells::new(sample, labellings);
    let part = n.div_ceil(threads.max(1)).max(1);
    let mut points = vec![vec![0.0; n]; labellings.len()];
    {
        // Each thread gets the same range of rows of every labelling.
        let mut parts: Vec<Vec<&mut [f64]>> = Vec::new();
        for (l, all) in points.iter_mut().enumerate() {
            for (t, chunk) in all.chunks_mut(part).enumerate() {
                if l == 0 {
                    parts.push(Vec::new());
                }
                parts[t].push(chunk);
            }
        }
        std::thread::scope(|scope| {
            for (t, outs) in parts.into_iter().enumerate() {
                let (cells, sizes) = (&cells, &sizes);
                scope.spawn(move || {
                    pulp::Arch::new().dispatch(|| sweep(sample, cells, labellings, sizes, t * part, outs))
                });
            }
        });
    }
    Ok(points
        .iter()
        .zip(labellings)
        .zip(&sizes)
        .map(|((points, (labels, k)), sizes)| {
            let mut sums = vec![0.0; *k];
            points.iter().zip(*labels).for_each(|(s, label)| sums[*label as usize] += s);
            let per_cluster =
                sums.iter().zip(sizes).map(|(s, n)| if *n == 0 { 0.0 } else { s / f64::from(*n) }).collect();
            Silhouette { mean: points.iter().sum::<f64>() / n.max(1) as f64, per_cluster }
        })
        .collect())
}

/// Rows in the order of their labels.
struct Cells {
    /// Their coordinates, a column each.
    columns: Vec<Vec<f64>>,
    /// The end of each run of rows of the same labels; it begins where the one before ends.
    ends: Vec<usize>,
    /// By labelling, the label of each run.
    labels: Vec<Vec<u32>>,
}

impl Cells {
    fn new(sample: &Matrix, labellings: &[(&[u32], usize)]) -> Self {
        let of = |row: usize| labellings.iter().map(move |(labels, _)| labels[row]);
        let mut order: Vec<usize> = (0..sample.rows()).collect();
        order.sort_by(|a, b| of(*a).cmp(of(*b)));
        let differ = |at: &usize| *at == order.len() || of(order[at - 1]).ne(of(order[*at]));
        let ends: Vec<usize> = (1..=order.len()).filter(differ).collect();
        let labels = labellings.iter().map(|(labels, _)| ends.iter().map(|end| labels[order[end - 1]]).collect());
        let labels = labels.collect();
        let columns = sample.columns().iter().map(|column| order.iter().map(|row| column[*row]).collect()).collect();
        Self { columns, ends, labels }
    }
}

/// Rows whose distances are worked on together: they stay in the first-level cache.
const BLOCK: usize = 512;

#[inline(always)]
fn sweep(
    sample: &Matrix,
    cells: &Cells,
    labellings: &[(&[u32], usize)],
    sizes: &[Vec<u32>],
    first: usize,
    mut outs: Vec<&mut [f64]>,
) {
    let n = sample.rows();
    let rows = outs.first().map_or(0, |o| o.len());
    let mut distances = vec![0.0; n];
    let mut of_cells = vec![0.0; cells.ends.len()];
    let mut sums: Vec<Vec<f64>> = labellings.iter().map(|(_, k)| vec![0.0; *k]).collect();
    for i in 0..rows {
        let row = sample.row(first + i);
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            let block = &mut distances[start..end];
            block.fill(0.0);
            for (column, c) in cells.columns.iter().zip(row) {
                for (d, x) in block.iter_mut().zip(&column[start..end]) {
                    let difference = x - c;
                    *d += difference * difference;
                }
            }
            block.iter_mut().for_each(|d| *d = d.sqrt());
        }
        let mut start = 0;
        for (sum, end) in of_cells.iter_mut().zip(&cells.ends) {
            *sum = total(&distances[start..*end]);
            start = *end;
        }
        for (l, (labels, _)) in labellings.iter().enumerate() {
            let sums = &mut sums[l];
            sums.fill(0.0);
            for (d, label) in of_cells.iter().zip(&cells.labels[l]) {
                sums[*label as usize] += d;
            }
            outs[l][i] = point(sums, &sizes[l], labels[first + i] as usize);
        }
    }
}

/// A sum in eight lanes, which the processor adds side by side.
#[inline(always)]
fn total(values: &[f64]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().chain(rest).sum()
}

fn point(sums: &[f64], sizes: &[u32], own: usize) -> f64 {
    if sizes[own] < 2 {
        return 0.0;
    }
    let a = sums[own] / f64::from(sizes[own] - 1);
    let others = sums.iter().zip(sizes).enumerate().filter(|(id, (_, n))| *id != own && **n > 0);
    let b = others.map(|(_, (s, n))| s / f64::from(*n)).fold(f64::INFINITY, f64::min);
    let widest = a.max(b);
    if b.is_infinite() || widest == 0.0 { 0.0 } else { (b - a) / widest }
}

/// The indices of labelled rows.
///
/// # Errors
/// When labels do not fit the rows.
pub fn from_labels(sample: &Matrix, labels: &[u32], k: usize) -> Result<Indices, ValidityError> {
    check(sample, labels, k)?;
    let dims = sample.cols();
    let sizes = sizes(labels, k);
    let mut means = vec![0.0; k * dims];
    for (i, label) in labels.iter().enumerate() {
        let id = *label as usize;
        let mean = &mut means[id * dims..(id + 1) * dims];
        mean.iter_mut().zip(sample.row(i)).for_each(|(m, x)| *m += x / f64::from(sizes[id]));
    }
    let mean = |id: usize| &means[id * dims..(id + 1) * dims];
    let mut parts: Vec<Part> = (0..k)
        .map(|id| Part { n: u64::from(sizes[id]), mean: mean(id).to_vec(), squares: 0.0, distances: 0.0 })
        .collect();
    for (i, label) in labels.iter().enumerate() {
        let part = &mut parts[*label as usize];
        let squared = squared_distance(sample.row(i), &part.mean);
        part.squares += squared;
        part.distances += squared.sqrt();
    }
    Ok(indices(&parts))
}

/// The indices of all rows that a pass has seen. Scatter is measured around the centroids of the pass.
///
/// # Errors
/// When the pass is of another shape.
pub fn from_pass(centroids: &Centroids, pass: &Pass) -> Result<Indices, ValidityError> {
    if pass.counts().len() != centroids.k() {
        return Err(LloydError::Malformed.into());
    }
    let parts: Vec<Part> = pass
        .counts()
        .iter()
        .enumerate()
        .map(|(id, n)| {
            let mean = pass.mean(id).unwrap_or_else(|| centroids.row(id).to_vec());
            // Around its mean a cluster's sum of squares is smaller by n·|mean − centroid|².
            let squares = pass.squares(id) - *n as f64 * squared_distance(&mean, centroids.row(id));
            Part { n: *n, mean, squares: squares.max(0.0), distances: pass.distances(id) }
        })
        .collect();
    Ok(Indices { inertia: pass.inertia(), ..indices(&parts) })
}

struct Part {
    n: u64,
    mean: Vec<f64>,
    squares: f64,
    distances: f64,
}

fn indices(parts: &[Part]) -> Indices {
    let smallest = parts.iter().map(|p| p.n).min().unwrap_or(0);
    let parts: Vec<&Part> = parts.iter().filter(|p| p.n > 0).collect();
    let n: u64 = parts.iter().map(|p| p.n).sum();
    let k = parts.len() as f64;
    let dims = parts.first().map_or(0, |p| p.mean.len());
    let centre: Vec<f64> =
        (0..dims).map(|j| parts.iter().map(|p| p.n as f64 * p.mean[j]).sum::<f64>() / n as f64).collect();
    let within: f64 = parts.iter().map(|p| p.squares).sum();
    let between: f64 = parts.iter().map(|p| p.n as f64 * squared_distance(&p.mean, &centre)).sum();
    let scatter: Vec<f64> = parts.iter().map(|p| p.distances / p.n as f64).collect();
    let worst = (0..parts.len()).map(|i| {
        (0..parts.len())
            .filter(|j| *j != i)
            .map(|j| {
                let apart = squared_distance(&parts[i].mean, &parts[j].mean).sqrt();
                let together = scatter[i] + scatter[j];
                if together == 0.0 { 0.0 } else { together / apart }
            })
            .fold(0.0, f64::max)
    });
    Indices {
        inertia: within,
        calinski_harabasz: (between / (k - 1.0)) / (within / (n as f64 - k)),
        davies_bouldin: worst.sum::<f64>() / k,
        variance_between_share: if between + within > 0.0 { between / (between + within) } else { 0.0 },
        smallest,
    }
}

/// The share of the variance of some values that lies between the clusters (η²), of the rows that have one; 0 when they do not vary.
#[must_use]
pub fn spread(values: &[Option<f64>], labels: &[u32], k: usize) -> f64 {
    let known: Vec<(f64, usize)> = values.iter().zip(labels).filter_map(|(x, l)| Some(((*x)?, *l as usize))).collect();
    let mean = known.iter().map(|(x, _)| x).sum::<f64>() / known.len().max(1) as f64;
    let total: f64 = known.iter().map(|(x, _)| (x - mean).powi(2)).sum();
    let mut sums = vec![(0.0, 0.0); k];
    for (x, label) in known {
        let (n, sum) = &mut sums[label];
        *n += 1.0;
        *sum += x;
    }
    let between: f64 = sums.iter().filter(|(n, _)| *n > 0.0).map(|(n, sum)| n * (sum / n - mean).powi(2)).sum();
    if total > 0.0 { between / total } else { 0.0 }
}

fn sizes(labels: &[u32], k: usize) -> Vec<u32> {
    let mut sizes = vec![0; k];
    labels.iter().for_each(|label| sizes[*label as usize] += 1);
    sizes
}

fn check(sample: &Matrix, labels: &[u32], k: usize) -> Result<(), ValidityError> {
    if labels.len() != sample.rows() || labels.iter().any(|l| *l as usize >= k) {
        return Err(ValidityError::Labels { rows: sample.rows(), k });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kmeans::tests::blobs, nearest::assign_block};

    /// Rousseeuw's definition, word by word.
    fn naive(sample: &Matrix, labels: &[u32], k: usize) -> f64 {
        let n = sample.rows();
        let distance = |i: usize, j: usize| squared_distance(sample.row(i), sample.row(j)).sqrt();
        let to = |i: usize, cluster: u32| {
            let members: Vec<_> = (0..n).filter(|j| *j != i && labels[*j] == cluster).collect();
            (!members.is_empty()).then(|| members.iter().map(|j| distance(i, *j)).sum::<f64>() / members.len() as f64)
        };
        let s = (0..n).map(|i| {
            let Some(a) = to(i, labels[i]) else { return 0.0 };
            let b = (0..k as u32).filter(|c| *c != labels[i]).filter_map(|c| to(i, c)).fold(f64::INFINITY, f64::min);
            (b - a) / a.max(b)
        });
        s.sum::<f64>() / n as f64
    }

    #[test]
    fn the_sweep_is_the_definition_for_any_number_of_threads() {
        let (sample, truth) = blobs(3, 40, 2, 9);
        let other: Vec<u32> = (0..120).map(|i| i % 5).collect();
        let one = silhouettes(&sample, &[(&truth, 3), (&other, 5)], 1).expect("labels fit");
        assert!((one[0].mean - naive(&sample, &truth, 3)).abs() < 1e-12);
        assert!((one[1].mean - naive(&sample, &other, 5)).abs() < 1e-12);
        for threads in [2, 3, 7, 500] {
            assert_eq!(silhouettes(&sample, &[(&truth, 3), (&other, 5)], threads).expect("labels fit"), one);
        }
    }

    #[test]
    fn a_lonely_row_counts_nothing() {
        let sample = Matrix::new(3, 1, vec![0.0, 1.0, 10.0]).expect("finite");
        let s = silhouettes(&sample, &[(&[0, 0, 1], 2)], 1).expect("labels fit");
        // a = 1; b = 10 and 9: (0.9 + 8/9 + 0) / 3.
        assert!((s[0].mean - (0.9 + 8.0 / 9.0) / 3.0).abs() < 1e-15);
        assert_eq!(s[0].per_cluster[1], 0.0);
    }

    /// Fisher's iris (UCI 53), its species as labels, as scikit-learn 1.9 judges it: see `tests/iris.csv` beside.
    #[test]
    fn iris_as_scikit_learn_has_it() {
        let mut data = Vec::new();
        let mut labels = Vec::new();
        for line in include_str!("../tests/iris.csv").lines() {
            let mut parts = line.split(',');
            data.extend(parts.by_ref().take(4).map(|x| x.parse::<f64>().expect("a number")));
            labels.push(parts.next().expect("a species").parse::<u32>().expect("a number"));
        }
        let sample = Matrix::new(150, 4, data).expect("finite");
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs(), "{a} is not {b}");
        let silhouette = silhouettes(&sample, &[(&labels, 3)], 2).expect("labels fit");
        near(silhouette[0].mean, IRIS_SILHOUETTE);
        let indices = from_labels(&sample, &labels, 3).expect("labels fit");
        near(indices.calinski_harabasz, IRIS_CALINSKI_HARABASZ);
        near(indices.davies_bouldin, IRIS_DAVIES_BOULDIN);
    }

    const IRIS_SILHOUETTE: f64 = 0.503_477_440_693_296_1;
    const IRIS_CALINSKI_HARABASZ: f64 = 487.330_876_374_899_84;
    const IRIS_DAVIES_BOULDIN: f64 = 0.751_370_709_475_673_7;

    #[test]
    fn sums_say_what_labels_say() {
        let (sample, _) = blobs(4, 50, 3, 5);
        let fit = crate::kmeans::fit_best(&sample, 4, &[1, 2, 3]).expect("four clouds");
        let columns = sample.columns();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let mut pass = Pass::new(&fit.centroids);
        pass.update(&fit.centroids, &columns, &(0..200).collect::<Vec<_>>()).expect("finite");
        let labels = assign_block(&columns, &fit.centroids).expect("finite").ids;
        let (a, b) = (
            from_pass(&fit.centroids, &pass).expect("same shape"),
            from_labels(&sample, &labels, 4).expect("labels fit"),
        );
        for (a, b) in [
            (a.inertia, b.inertia),
            (a.calinski_harabasz, b.calinski_harabasz),
            (a.davies_bouldin, b.davies_bouldin),
            (a.variance_between_share, b.variance_between_share),
        ] {
            assert!((a - b).abs() < 1e-9 * b.abs(), "{a} is not {b}");
        }
        assert_eq!(a.smallest, b.smallest);
    }

    #[test]
    fn spread_is_one_when_clusters_explain_everything() {
        let values = [Some(1.0), Some(1.0), Some(5.0), Some(5.0), None];
        assert_eq!(spread(&values, &[0, 0, 1, 1, 1], 2), 1.0);
        assert_eq!(spread(&values, &[0, 1, 0, 1, 1], 2), 0.0);
    }
}
