//! 95 % intervals.

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's score interval (1927) of a share: `successes` of `n`.
#[must_use]
pub fn wilson(n: f64, successes: f64) -> (f64, f64) {
    let p = successes / n;
    let z2 = Z * Z / n;
    let centre = (p + z2 / 2.0) / (1.0 + z2);
    let half = Z / (1.0 + z2) * (p * (1.0 - p) / n + z2 / (4.0 * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The delta-method interval (Cochran 1977, §2.11) of a ratio of means: x̄ / ȳ over n units, from the population moments of
/// the units. Absent below two units or when ȳ is 0.
#[must_use]
pub fn ratio(n: f64, mean_x: f64, mean_y: f64, var_x: f64, var_y: f64, cov: f64) -> Option<(f64, f64)> {
    if n < 2.0 || mean_y == 0.0 {
        return None;
    }
    let r = mean_x / mean_y;
    let variance = (var_x - 2.0 * r * cov + r * r * var_y).max(0.0) / (n - 1.0) / (mean_y * mean_y);
    let half = Z * variance.sqrt();
    Some((r - half, r + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_as_published() {
        // Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (x, n, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let (a, b) = wilson(n, x);
            assert!((a - low).abs() < 5e-5 && (b - high).abs() < 5e-5, "{x}/{n}: {a} {b}");
        }
    }

    #[test]
    fn with_a_constant_denominator_the_ratio_is_a_mean() {
        // 1, 2, 3, 4: mean 2.5, sample variance 5/3, half width z·√(5/12).
        let (low, high) = ratio(4.0, 2.5, 1.0, 1.25, 0.0, 0.0).expect("enough units");
        let half = Z * (5.0_f64 / 12.0).sqrt();
        assert!((low - (2.5 - half)).abs() < 1e-12 && (high - (2.5 + half)).abs() < 1e-12);
        assert_eq!(ratio(1.0, 2.5, 1.0, 0.0, 0.0, 0.0), None);
        assert_eq!(ratio(9.0, 2.5, 0.0, 1.0, 1.0, 0.0), None);
    }
}
