//! Location and spread that a few odd values do not move.

/// Makes the median absolute deviation of normal values their standard deviation (1 / Φ⁻¹(3/4)).
const NORMAL: f64 = 1.482_602_218_505_602;

/// The median of some values, and their median absolute deviation from it as a standard deviation (Hampel 1974). None of no value.
#[must_use]
pub fn median_and_deviation(values: &[f64]) -> Option<(f64, f64)> {
    let median = median(values.to_vec())?;
    let deviations = values.iter().map(|value| (value - median).abs()).collect();
    Some((median, NORMAL * self::median(deviations)?))
}

/// The weighted median of values and their weights: see [`weighted_quantile`].
#[must_use]
pub fn weighted_median(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    weighted_quantile(values, 0.5)
}

/// A quantile of values and their weights: the least value up to which such a share of the weight is. Values without weight take no part; none
/// where there is no other.
#[must_use]
pub fn weighted_quantile(values: impl Iterator<Item = (f64, f64)>, quantile: f64) -> Option<f64> {
    let mut values: Vec<(f64, f64)> = values.filter(|(_, weight)| *weight > 0.0).collect();
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let share = values.iter().map(|(_, weight)| weight).sum::<f64>() * quantile;
    let mut below = 0.0;
    for (value, weight) in &values {
        below += weight;
        if below >= share {
            return Some(*value);
        }
    }
    values.last().map(|(value, _)| *value)
}

/// The middle value, or the mean of the two middle ones.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values and figures of R's `mad` on its own example, `c(1:9)`.
    #[test]
    fn as_r_has_it() {
        let nine: Vec<f64> = (1..10).map(f64::from).collect();
        let (median, deviation) = median_and_deviation(&nine).expect("values");
        assert!((median - 5.0).abs() < 1e-12 && (deviation - 2.965_204).abs() < 1e-6, "{median} {deviation}");
        assert_eq!(median_and_deviation(&[]), None);
        assert_eq!(weighted_median([(3.0, 1.0), (1.0, 1.0), (2.0, 5.0), (9.0, 0.0)].into_iter()), Some(2.0));
        assert_eq!(weighted_median([(3.0, 6.0), (1.0, 1.0), (2.0, 1.0)].into_iter()), Some(3.0));
        assert_eq!(weighted_median([(3.0, 0.0)].into_iter()), None);
        assert_eq!(median_and_deviation(&[7.0]), Some((7.0, 0.0)));
        let odd = median_and_deviation(&[1.0, 2.0, 3.0, 4.0, 1e9]).expect("values");
        assert!((odd.0 - 3.0).abs() < 1e-12 && odd.1 < 2.0, "{odd:?}");
    }
}
