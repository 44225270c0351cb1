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
        assert_eq!(median_and_deviation(&[7.0]), Some((7.0, 0.0)));
        let odd = median_and_deviation(&[1.0, 2.0, 3.0, 4.0, 1e9]).expect("values");
        assert!((odd.0 - 3.0).abs() < 1e-12 && odd.1 < 2.0, "{odd:?}");
    }
}
