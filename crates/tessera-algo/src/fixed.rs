//! Doubles as fixed-point integers, so that their sum does not depend on its order.
//!
//! The unit is 2⁻⁴⁰ (about 9 · 10⁻¹³). Scaled features and their squared distances fit with room for 10¹⁸ rows.

const UNIT: f64 = (1_u64 << 40) as f64;

/// Added to a double below 2⁵¹ and taken off again, it leaves the nearest whole number, ties to even: the processor rounds
/// the sum. `f64::round_ties_even` says the same, but is a function call where the baseline instruction set lacks it.
const SHIFT: f64 = (3_u64 << 51) as f64;

/// The nearest fixed-point number, ties to even; values beyond ±2⁸⁷ are held at that bound.
#[must_use]
#[inline]
pub fn to_fixed(x: f64) -> i128 {
    let scaled = x * UNIT;
    if scaled.abs() < (1_u64 << 51) as f64 {
        return i128::from((scaled + SHIFT - SHIFT) as i64);
    }
    scaled.round_ties_even() as i128
}

/// The double nearest to a fixed-point number.
#[must_use]
pub fn from_fixed(x: i128) -> f64 {
    x as f64 / UNIT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_error_is_half_a_unit(x in -1e6_f64..1e6) {
            prop_assert!((from_fixed(to_fixed(x)) - x).abs() <= 0.5 / UNIT + x.abs() * f64::EPSILON);
        }

        #[test]
        fn sums_do_not_depend_on_their_order(mut xs in proptest::collection::vec(-1e9_f64..1e9, 0..50)) {
            let forward: i128 = xs.iter().map(|x| to_fixed(*x)).sum();
            xs.reverse();
            prop_assert_eq!(forward, xs.iter().map(|x| to_fixed(*x)).sum::<i128>());
        }
    }

    proptest! {
        #[test]
        fn rounding_is_to_even(x in -3000.0_f64..3000.0) {
            prop_assert_eq!(to_fixed(x), (x * UNIT).round_ties_even() as i128);
        }
    }

    #[test]
    fn halves_go_to_even() {
        for (halves, expect) in [(1.0, 0), (3.0, 2), (5.0, 2), (-1.0, 0), (-3.0, -2)] {
            assert_eq!(to_fixed(halves / 2.0 / UNIT), expect);
        }
    }

    #[test]
    fn large_values_are_still_exact() {
        assert_eq!(from_fixed(to_fixed(1e15)), 1e15);
        assert_eq!(from_fixed(to_fixed(-8_388_608.5)), -8_388_608.5);
    }
}
