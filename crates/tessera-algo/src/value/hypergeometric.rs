//! Gauss's hypergeometric function.

/// ₂F₁(a, b; c; z) by its series, for 0 ≤ z < 1 and c that is no whole number below 1 (DLMF 15.2.1).
pub(super) fn hyp2f1(a: f64, b: f64, c: f64, z: f64) -> f64 {
    let (mut term, mut sum) = (1.0_f64, 1.0_f64);
    for n in 0..1_000_000 {
        let n = f64::from(n);
        term *= (a + n) * (b + n) / ((c + n) * (n + 1.0)) * z;
        sum += term;
        // From here on terms fall by z at least.
        if term.abs() <= 1e-17 * sum.abs() * (1.0 - z) && n > -c {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By mpmath at 40 digits.
    #[test]
    fn as_with_forty_digits() {
        for (a, b, c, z, expected) in [
            (-0.207, 2.9755, 2.219, 0.9, 0.278_255_236_570_965),
            (-0.207, 2.9755, 5.219, 0.5, 0.931_417_245_337_057),
            (0.5, 1.2, 3.3, 0.99, 1.354_873_143_072_404_2),
            (3.3, 0.2, 1.1, 0.7, 3.490_672_453_185_041),
            (-1.5, 0.3, 0.4, 0.95, 0.230_430_882_933_176_15),
            (-0.207, 2.97, 202.2, 0.93, 0.997_151_678_504_723),
            (1.0, 2.0, 3.0, 0.0, 1.0),
        ] {
            let found = hyp2f1(a, b, c, z);
            assert!((found - expected).abs() < 1e-13 * expected, "{a} {b} {c} {z}: {found}");
        }
    }
}
