//! How far two labellings of the same rows agree.

use std::collections::BTreeMap;

/// The adjusted Rand index (Hubert & Arabie 1985): 1 for the same partition, about 0 for unrelated ones. Absent when the
/// labellings differ in length or have fewer than two rows.
#[must_use]
pub fn adjusted_rand(a: &[u32], b: &[u32]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 2 {
        return None;
    }
    let count = |keys: Vec<(u32, u32)>| {
        let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        keys.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
        counts.values().map(|n| pairs(*n)).sum::<f64>()
    };
    let both = count(a.iter().copied().zip(b.iter().copied()).collect());
    let in_a = count(a.iter().map(|a| (*a, 0)).collect());
    let in_b = count(b.iter().map(|b| (*b, 0)).collect());
    let expected = in_a * in_b / pairs(a.len() as u64);
    let most = (in_a + in_b) / 2.0;
    Some(if most == expected { 1.0 } else { (both - expected) / (most - expected) })
}

fn pairs(n: u64) -> f64 {
    n as f64 * (n as f64 - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_scikit_learns_documentation() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[0, 0, 1, 1]), Some(1.0));
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[1, 1, 0, 0]), Some(1.0));
        let third = adjusted_rand(&[0, 0, 1, 2], &[0, 0, 1, 1]).expect("same length");
        assert!((third - 0.571_428_571_428_571).abs() < 1e-12);
        assert_eq!(adjusted_rand(&[0, 0, 0, 0], &[0, 1, 2, 3]), Some(0.0));
        assert_eq!(adjusted_rand(&[0], &[0]), None);
    }
}
