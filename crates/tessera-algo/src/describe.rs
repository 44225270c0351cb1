//! Columns with gaps, described: spread, association and the reliability of scales.

/// What a column is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many different values.
    pub distinct: usize,
    /// The mean.
    pub mean: f64,
    /// The standard deviation (n − 1); none of one value.
    pub std: Option<f64>,
    /// The 10 %, 50 % and 90 % quantiles.
    pub quantiles: [f64; 3],
    /// Skewness, the third standardised moment (Fisher–Pearson, not adjusted); none of equal values.
    pub skewness: Option<f64>,
}

/// The summary of some values; none of no value.
#[must_use]
pub fn summary(values: &[f64]) -> Option<Summary> {
    // Of a zero there is one.
    let mut sorted: Vec<f64> = values.iter().map(|x| x + 0.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let moment = |power: i32| sorted.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
    // Of equal values, rounding alone would tell a spread.
    let varies = sorted.first() != sorted.last();
    let variance = if varies { moment(2) } else { 0.0 };
    let [low, median, high] = [0.1, 0.5, 0.9].map(|p| quantile(&sorted, p));
    Some(Summary {
        distinct: sorted.chunk_by(|a, b| a.total_cmp(b).is_eq()).count(),
        mean,
        std: (sorted.len() > 1).then(|| (variance * n / (n - 1.0)).sqrt()),
        quantiles: [low?, median?, high?],
        skewness: (variance > 0.0).then(|| moment(3) / variance.powf(1.5)),
    })
}

/// A quantile of sorted values, linear between order statistics (type 7 of Hyndman & Fan 1996); none of no value.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let at = p * sorted.len().checked_sub(1)? as f64;
    let low = at.floor() as usize;
    let high = sorted.get(low + 1).unwrap_or(&sorted[low]);
    Some(sorted[low] + (at - at.floor()) * (high - sorted[low]))
}

/// The ranks of some values, from 1; equal values share the mean of theirs.
#[must_use]
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let values: Vec<f64> = values.iter().map(|x| x + 0.0).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let rank = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|at| ranks[*at] = rank);
        before += equal.len();
    }
    ranks
}

/// Pearson's correlation of pairs; none where one side does not vary.
#[must_use]
pub fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len().min(y.len()) as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
    }
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation (1904) of two columns over the rows that have both; none where one side does not vary there.
#[must_use]
pub fn spearman(x: &[Option<f64>], y: &[Option<f64>]) -> Option<f64> {
    let (x, y): (Vec<f64>, Vec<f64>) = x.iter().zip(y).filter_map(|(x, y)| x.zip(*y)).unzip();
    correlation(&ranks(&x), &ranks(&y))
}

/// Cronbach's α (1951) of the items of a scale over the rows that have all of them; none of fewer than two items or rows, or
/// where the sum does not vary.
#[must_use]
pub fn cronbach(items: &[&[Option<f64>]]) -> Option<f64> {
    let rows = items.first().map_or(0, |item| item.len());
    let whole: Vec<Vec<f64>> =
        (0..rows).filter_map(|row| items.iter().map(|item| *item.get(row)?).collect::<Option<Vec<f64>>>()).collect();
    if items.len() < 2 || whole.len() < 2 {
        return None;
    }
    let variance = |of: &dyn Fn(&[f64]) -> f64| {
        let mean = whole.iter().map(|row| of(row)).sum::<f64>() / whole.len() as f64;
        whole.iter().map(|row| (of(row) - mean).powi(2)).sum::<f64>() / (whole.len() - 1) as f64
    };
    let each: f64 = (0..items.len()).map(|item| variance(&|row| row[item])).sum();
    let sums: Vec<f64> = whole.iter().map(|row| row.iter().sum()).collect();
    // Sums that differ by their rounding alone are one.
    let largest = sums.iter().fold(0.0_f64, |most, sum| most.max(sum.abs()));
    if sums.iter().all(|sum| (sum - sums[0]).abs() <= 1e-12 * largest) {
        return None;
    }
    let total = variance(&|row| row.iter().sum());
    let k = items.len() as f64;
    (total > 0.0).then(|| k / (k - 1.0) * (1.0 - each / total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (p, expect) in [(0.5, 3.0), (0.1, 1.3), (0.9, 6.8)] {
            assert!((quantile(&sorted, p).expect("there are values") - expect).abs() < 1e-12);
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[7.0], 0.9), Some(7.0));
    }

    const X: [f64; 8] = [1.0, 5.0, 2.0, 2.0, 8.0, 3.0, 3.0, 9.0];
    const Y: [f64; 8] = [2.0, 4.0, 4.0, 1.0, 9.0, 3.0, 7.0, 8.0];

    /// As scipy 1.17 has it: `spearmanr`, `skew`, and NumPy's `std(ddof=1)`.
    #[test]
    fn spread_and_association_are_those_of_scipy() {
        let of_x = summary(&X).expect("values");
        assert!((of_x.skewness.expect("it varies") - 0.727_448_452_387_965_3).abs() < 1e-12, "{of_x:?}");
        assert!((of_x.std.expect("two values") - 2.948_970_764_763_288).abs() < 1e-12, "{of_x:?}");
        assert_eq!((of_x.distinct, of_x.mean), (6, 4.125));
        let rho = spearman(&some(&X), &some(&Y)).expect("both vary");
        assert!((rho - 0.806_075_410_152_658_8).abs() < 1e-12, "{rho}");
        // Whoever lacks one side is no pair.
        let (mut x, mut y) = (some(&X), some(&Y));
        x.extend([None, Some(100.0)]);
        y.extend([Some(100.0), None]);
        assert_eq!(spearman(&x, &y), Some(rho));
        assert_eq!(spearman(&some(&[1.0, 1.0]), &some(&[1.0, 2.0])), None);
        assert_eq!(summary(&[]), None);
    }

    /// As pingouin 0.7 has it: `cronbach_alpha`.
    #[test]
    fn alpha_is_that_of_pingouin() {
        let items = [
            some(&[4.0, 2.0, 5.0, 3.0, 1.0, 4.0, 5.0]),
            some(&[5.0, 1.0, 4.0, 3.0, 2.0, 4.0, 4.0]),
            some(&[3.0, 2.0, 5.0, 4.0, 1.0, 3.0, 5.0]),
        ];
        let views: Vec<&[Option<f64>]> = items.iter().map(Vec::as_slice).collect();
        assert!((cronbach(&views).expect("it varies") - 0.909_620_991_253_644_4).abs() < 1e-12);
        // Two items that are one are perfect, one alone is none.
        assert!((cronbach(&[&items[0], &items[0]]).expect("it varies") - 1.0).abs() < 1e-12);
        assert_eq!(cronbach(&[&items[0]]), None);
        // Sums that are all the same say nothing, and equal values have no spread.
        let (up, down) = (some(&[0.1, 0.2, 0.3]), some(&[0.9, 0.8, 0.7]));
        assert_eq!(cronbach(&[&up, &down]), None);
        let equal = summary(&[0.1; 10]).expect("values");
        assert_eq!((equal.distinct, equal.std, equal.skewness), (1, Some(0.0), None));
        assert_eq!(summary(&[0.0, -0.0]).expect("values").distinct, 1);
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
    }
}
