//! The population stability index: how far a distribution has gone from where it was, on bins that were frozen then.
//!
//! PSI = Σ (p − q)·ln(p / q) over the bins. Under no change, with n customers then and m tonight, it is about
//! χ² of B − 1 degrees of freedom times 1/n + 1/m (Yurdakul & Naranjo 2020, "Statistical properties of the population stability
//! index"), which gives its critical value. By custom below 0.1 is no change to speak of, and from 0.25 on one to act upon.

use statrs::distribution::{ChiSquared, ContinuousCDF};

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// The index.
    pub psi: f64,
    /// What it does not exceed in 95 of 100 comparisons without a change.
    pub critical: f64,
}

/// The cuts between bins of sorted values: bins are closed on the right, a value that many have is a bin of its own, and what was
/// never seen below the smallest value has one.
#[must_use]
pub fn cuts(sorted: &[f64], bins: usize) -> Vec<f64> {
    cuts_at(sorted, &(1..bins).collect::<Vec<_>>(), bins)
}

/// The same at some of `of` parts: with 900 and 990 of 1,000, the last bin has a hundredth of the values.
#[must_use]
pub fn cuts_at(sorted: &[f64], parts: &[usize], of: usize) -> Vec<f64> {
    let (Some(first), n) = (sorted.first(), sorted.len()) else { return Vec::new() };
    let mut cuts: Vec<f64> = parts.iter().map(|part| sorted[(n * part).div_ceil(of).clamp(1, n) - 1]).collect();
    cuts.dedup();
    if cuts.first() == Some(first) {
        cuts.insert(0, first.next_down());
    }
    cuts
}

/// The bin of a value: 0 up to the first cut.
#[must_use]
pub fn bin(cuts: &[f64], value: f64) -> usize {
    cuts.partition_point(|cut| *cut < value)
}

/// The comparison of counts by bin, then and now. Half a customer more in every bin keeps an empty one from being infinitely far.
/// None where there is nobody on one side, or one bin.
#[must_use]
pub fn psi(then: &[u64], now: &[u64]) -> Option<Drift> {
    let (n, m) = (then.iter().sum::<u64>(), now.iter().sum::<u64>());
    let bins = then.iter().zip(now).filter(|(p, q)| **p + **q > 0).count();
    if n == 0 || m == 0 || then.len() != now.len() || bins < 2 {
        return None;
    }
    let share = |count: u64, of: u64| (count as f64 + 0.5) / (of as f64 + 0.5 * bins as f64);
    let seen = then.iter().zip(now).filter(|(p, q)| **p + **q > 0);
    let psi = seen.map(|(p, q)| (share(*p, n) - share(*q, m)) * (share(*p, n) / share(*q, m)).ln()).sum();
    let chi = ChiSquared::new((bins - 1) as f64).ok()?.inverse_cdf(0.95);
    Some(Drift { psi, critical: chi * (1.0 / n as f64 + 1.0 / m as f64) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmeans::tests::uniform;

    /// χ²₉ at 0.95 is 16.919 (tables).
    #[test]
    fn the_index_by_hand() {
        let then = [100, 100, 100, 100, 100, 100, 100, 100, 100, 100];
        let now = [120, 80, 100, 100, 100, 100, 100, 100, 100, 100];
        let drift = psi(&then, &now).expect("ten bins");
        let by_hand = (0.02_f64) * 1.2_f64.ln() + (-0.02_f64) * 0.8_f64.ln();
        assert!((drift.psi - by_hand).abs() < 2e-4, "{drift:?} {by_hand}");
        assert!((drift.critical - 16.919 * 0.002).abs() < 1e-5, "{drift:?}");
        assert_eq!(psi(&then, &then).map(|d| d.psi), Some(0.0));
        assert_eq!(psi(&[5], &[7]), None);
        assert_eq!(psi(&[5, 0], &[0, 0]), None);
        // What was never there before is far, not infinitely.
        assert!(psi(&[1000, 0], &[500, 500]).is_some_and(|d| d.psi > 2.0 && d.psi.is_finite()));
    }

    #[test]
    fn bins_are_as_full_as_ties_allow() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(cuts(&sorted, 10), [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]);
        assert_eq!((bin(&[10.0, 20.0], 10.0), bin(&[10.0, 20.0], 10.5), bin(&[10.0, 20.0], 21.0)), (0, 1, 2));
        // Most have none: none is a bin of its own, and so is less than none.
        let mut tied = vec![0.0; 95];
        tied.extend([1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(cuts(&tied, 10), [0.0_f64.next_down(), 0.0]);
        assert_eq!(cuts(&[], 10), [] as [f64; 0]);
        assert_eq!(cuts_at(&sorted, &[500, 990], 1_000), [50.0, 99.0]);
    }

    /// Two samples of one distribution are said to differ on five nights of a hundred.
    #[test]
    fn no_change_is_silent_at_the_declared_rate() {
        let mut alarms = 0;
        for trial in 0..2_000 {
            let mut next = uniform(trial * 10_000);
            let (mut then, mut now) = ([0; 10], [0; 10]);
            (0..800).for_each(|_| then[(next() * 10.0) as usize] += 1);
            (0..1_200).for_each(|_| now[(next() * 10.0) as usize] += 1);
            let drift = psi(&then, &now).expect("ten bins");
            alarms += u32::from(drift.psi > drift.critical);
        }
        assert!((70..=130).contains(&alarms), "{alarms} of 2000");
    }
}
