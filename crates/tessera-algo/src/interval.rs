//! 95 % intervals, and how many people it takes to see a difference.

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

/// The interval of a difference `a` − `b` of two independent estimates from their own intervals: square and add. With Wilson's
/// intervals of two shares it is Newcombe's method 10 (1998, Statistics in Medicine 17, 873–890); of other estimates, the method of variance
/// estimates recovery (Zou and Donner 2008, Statistics in Medicine 27, 1693–1702).
#[must_use]
pub fn difference((a, of_a): (f64, (f64, f64)), (b, of_b): (f64, (f64, f64))) -> (f64, f64) {
    let d = a - b;
    (d - (a - of_a.0).hypot(of_b.1 - b), d + (of_a.1 - a).hypot(b - of_b.0))
}

/// The 80 % quantile of the normal distribution.
const Z_POWER: f64 = 0.841_621_233_572_914;

/// How many people each of two groups has to have for a difference of these shares to be seen at 5 % with a power of 80 % (Fleiss 1981,
/// Statistical Methods for Rates and Proportions, equation 3.14, without correction for continuity). Absent for equal shares.
#[must_use]
pub fn needed(p: f64, q: f64) -> Option<f64> {
    let (d, mean) = (p - q, (p + q) / 2.0);
    let root = Z * (2.0 * mean * (1.0 - mean)).sqrt() + Z_POWER * (p * (1.0 - p) + q * (1.0 - q)).sqrt();
    (d != 0.0).then(|| (root * root / (d * d)).ceil())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_distr::{Distribution, Gamma};
    use rand_pcg::Pcg64;

    use super::*;

    #[test]
    fn differences_as_published() {
        // Newcombe (1998), Statistics in Medicine 17, table II, method 10.
        for (x, m, y, n, low, high) in [
            (56.0, 70.0, 48.0, 80.0, 0.0524, 0.3339),
            (9.0, 10.0, 3.0, 10.0, 0.1705, 0.8090),
            (10.0, 10.0, 0.0, 20.0, 0.6791, 1.0),
            (5.0, 56.0, 0.0, 29.0, -0.0381, 0.1926),
        ] {
            let (a, b) = difference((x / m, wilson(m, x)), (y / n, wilson(n, y)));
            assert!((a - low).abs() < 5e-5 && (b - high).abs() < 5e-5, "{x}/{m} - {y}/{n}: {a} {b}");
        }
    }

    /// 0.6 against 0.8 takes 82 people in each group; 0.05 against 0.1 takes 435 (the tables of Fleiss without correction).
    #[test]
    fn people_it_takes() {
        assert_eq!(needed(0.8, 0.6), Some(82.0));
        assert_eq!(needed(0.05, 0.10), Some(435.0));
        assert_eq!(needed(0.1, 0.1), None);
    }

    /// On 4,000 made panels each: shares near to 0 and not, spending per order of customers who differ, and a campaign against its holdout.
    #[test]
    fn intervals_cover_what_they_are_to() {
        let mut rng = Pcg64::seed_from_u64(5);
        let share = |n: f64, of: &[bool]| (of.iter().filter(|hit| **hit).count() as f64 / n, n);
        let draw = |rng: &mut Pcg64, n: usize, p: f64| (0..n).map(|_| rng.random::<f64>() < p).collect::<Vec<_>>();
        let covers = |(low, high): (f64, f64), truth: f64| low <= truth && truth <= high;
        let orders = Gamma::new(2.0, 1.5).expect("valid");
        let spend = Gamma::new(6.0, 5.0).expect("valid");
        let mut hits = [0_u32; 5];
        let panels = 4_000;
        for _ in 0..panels {
            for (at, (n, p)) in [(400, 0.02), (60, 0.4)].into_iter().enumerate() {
                let (mean, n) = share(n as f64, &draw(&mut rng, n, p));
                hits[at] += u32::from(covers(wilson(n, n * mean), p));
            }
            // Who orders more often spends more on an order: 30 each, and 2 more for every order.
            let all: Vec<(f64, f64)> = (0..150)
                .map(|_| {
                    let often = 1.0 + f64::floor(orders.sample(&mut rng));
                    ((0..often as usize).map(|_| spend.sample(&mut rng) + 2.0 * often).sum(), often)
                })
                .collect();
            let n = all.len() as f64;
            let mean = |of: &dyn Fn(&(f64, f64)) -> f64| all.iter().map(of).sum::<f64>() / n;
            let (x, y) = (mean(&|v| v.0), mean(&|v| v.1));
            let (xx, yy, xy) =
                (mean(&|v| (v.0 - x).powi(2)), mean(&|v| (v.1 - y).powi(2)), mean(&|v| (v.0 - x) * (v.1 - y)));
            let found = ratio(n, x, y, xx, yy, xy).expect("enough");
            hits[2] += u32::from(covers(found, 30.0 + 2.0 * TRUE_SECOND / TRUE_FIRST));
            for (at, (p, q)) in [(0.12, 0.08), (0.05, 0.05)].into_iter().enumerate() {
                let ((a, n), (b, m)) = (share(900.0, &draw(&mut rng, 900, p)), share(100.0, &draw(&mut rng, 100, q)));
                let found = difference((a, wilson(n, n * a)), (b, wilson(m, m * b)));
                hits[3 + at] += u32::from(covers(found, p - q));
            }
        }
        let coverage = hits.map(|n| f64::from(n) / f64::from(panels));
        assert!(coverage.iter().all(|c| (0.93..=0.97).contains(c)), "{coverage:?}");
    }

    /// Of 1 + floor(Gamma(2, 1.5)), the first two moments: sums over the tail (1 + x/1.5) exp(−x/1.5).
    const TRUE_FIRST: f64 = 3.500_805_912_351;
    const TRUE_SECOND: f64 = 16.830_626_525_465;

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
