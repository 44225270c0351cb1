//! The simplest number between two others: the one that people would say.

/// A number between two neighbours keeps this share of the gap away from both: nearer, it would be one of them rather than what parts them.
const AWAY: f64 = 0.125;
/// Digits by which any two doubles can be told apart.
const DIGITS: i32 = 17;

/// The number with the fewest significant digits that is above `low` and below `high`, an eighth of the gap away from both. Of several, the one
/// that ends in 5; else the nearest to the middle, then the lower. Where no double lies between the two it is `low` itself.
#[must_use]
pub fn simplest(low: f64, high: f64) -> f64 {
    // Halves first: the gap between two doubles may be none.
    let away = AWAY * high - AWAY * low;
    let (from, to) = (low + away, high - away);
    if !(low < from && from < to && to < high) {
        let middle = f64::midpoint(low, high);
        return if low < middle && middle < high { middle } else { low };
    }
    let top = from.abs().max(to.abs()).log10().floor() as i32 + 1;
    (top - DIGITS..=top).rev().find_map(|place| of_place(from, to, place)).unwrap_or(f64::midpoint(from, to))
}

/// The same, of a column that has whole numbers alone: up to and including this one.
pub(super) fn between(low: f64, high: f64, whole: bool) -> f64 {
    let simplest = simplest(low, high);
    if whole { simplest.floor() } else { simplest }
}

/// Whether all that is known is whole numbers.
pub(super) fn whole(mut values: impl Iterator<Item = f64>) -> bool {
    values.all(|x| x.is_nan() || (x.fract() == 0.0 && x.abs() < 1e15))
}

/// The preferred multiple of a power of ten between two numbers.
fn of_place(from: f64, to: f64, place: i32) -> Option<f64> {
    // As text, so that it is the double nearest to the decimal.
    let number = |k: i64| format!("{k}e{place}").parse::<f64>().ok();
    let unit = number(1)?;
    let (first, last) = ((from / unit).floor() as i64, (to / unit).ceil() as i64);
    let middle = f64::midpoint(from, to);
    (first..=last.min(first.saturating_add(20)))
        .filter_map(|k| Some((k, number(k).filter(|x| from < *x && *x < to)?)))
        .min_by(|(a, x), (b, y)| {
            let far = |x: f64| (x - middle).abs();
            (a % 5 != 0).cmp(&(b % 5 != 0)).then(far(*x).total_cmp(&far(*y))).then(x.total_cmp(y))
        })
        .map(|(_, x)| x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_people_would_say() {
        for (low, high, expect) in [
            (2.9, 4.1, 3.5),
            (2.6, 3.9, 3.0),
            (1.9, 3.0, 2.5),
            (1.7, 1.8, 1.75),
            (29.7, 31.2, 30.0),
            (241.3, 262.0, 250.0),
            (70.0, 110.0, 100.0),
            (899.0, 1_204.0, 1_000.0),
            (0.011, 0.013, 0.012),
            (-0.3, 0.2, 0.0),
            (-4.0, -3.0, -3.5),
            (-1e-300, 1e300, 5e299),
            (1.0, 1.0 + f64::EPSILON, 1.0),
            (1.0, 1.0 + 2.0 * f64::EPSILON, 1.0 + f64::EPSILON),
            (-f64::MAX, f64::MAX, 0.0),
            (123_456.0, 123_457.0, 123_456.5),
        ] {
            assert_eq!(simplest(low, high), expect, "{low} {high}");
        }
    }

    /// Of how many significant digits a number is.
    fn digits(x: f64) -> usize {
        format!("{x:e}").bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count()
    }

    proptest! {
        #[test]
        fn it_is_between_and_none_is_simpler(low in -1e6_f64..1e6, gap in prop_oneof![1e-9_f64..1e-3, 1e-3_f64..1.0, 1.0_f64..1e6]) {
            let high = low + gap;
            let found = simplest(low, high);
            prop_assert!(low <= found && found < high && (low < found || f64::midpoint(low, high) == low));
            // What has a digit less, next to it on either side, is outside.
            let (from, to) = (low + gap * AWAY, high - gap * AWAY);
            let n = digits(found);
            if n > 1 && found != 0.0 {
                for step in [-1.0, 1.0] {
                    let shorter: f64 = format!("{:.*e}", n - 2, found).parse().expect("a number");
                    let unit = 10_f64.powi(found.abs().log10().floor() as i32 + 2 - n as i32);
                    for x in [shorter, shorter + step * unit] {
                        prop_assert!(digits(x) >= n || x <= from * (1.0 + 1e-12 * from.signum()) || x >= to * (1.0 - 1e-12 * to.signum()), "{} for {}", x, found);
                    }
                }
            }
        }
    }
}
