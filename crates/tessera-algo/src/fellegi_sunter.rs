//! Probabilistic record linkage (Fellegi & Sunter 1969): what the levels at which two records compare weigh, learned without labels by
//! expectation maximisation (Winkler 1988).
//!
//! Pairs come as counts by pattern. `m`, the share of a level among pairs of one person, and the odds of a match are learned of candidate
//! pairs, block by block: what pairs of different people look like in a block, which makes them alike, is learned beside it for each and thrown
//! away. `u`, the share among all pairs of different people, is counted on random pairs, less the matches among them.

/// A pair's levels, four bits for each comparison, the first lowest: 0 unknown, then the levels from the best on, the last being `different`.
pub type Pattern = u64;

/// The level of a comparison in a pattern.
#[must_use]
pub fn level(pattern: Pattern, comparison: usize) -> usize {
    (pattern >> (4 * comparison) & 15) as usize
}

/// How a comparison is learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Its levels, `different` included and unknown not.
    pub levels: usize,
    /// The smallest share of the first level among pairs of one person that is believed: people share a household, or a name, more often than
    /// one is two.
    pub exact_at_least: f64,
    /// The largest share of `different` among them.
    pub different_at_most: f64,
}

/// The pairs of a block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// How many there are of each pattern.
    pub pairs: Vec<(Pattern, u64)>,
    /// Of each comparison, whether the block is made of what it compares: then different people of a block agree in it, and otherwise are like
    /// any two.
    pub made_of: Vec<bool>,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// The share of pairs of one person among all pairs.
    pub prior: f64,
    /// Of each comparison, of each level: the shares (m, u).
    pub levels: Vec<Vec<(f64, f64)>>,
    /// Of each comparison, of how many matches it says something, and of how many of these that they are `different`.
    pub seen: Vec<(f64, f64)>,
}

/// Pairs of one person that are assumed before any is seen.
const ASSUMED: f64 = 10.0;
/// The odds of a match in a block before any is seen. What agrees by a trait that the block is not known to be made of is not to pass for a
/// match because many do.
const ODDS: f64 = 0.001;
const PASSES: usize = 200;
const TOLERANCE: f64 = 1e-6;

/// Learns of `candidates`, by block, a part `share` of all, and of `random` pairs; there are `all` pairs. Patterns are taken in the given
/// order, so that it has to be the same for the same answer to the last bit.
#[must_use]
pub fn learn(shapes: &[Shape], candidates: &[Block], share: f64, random: &[(Pattern, u64)], all: f64) -> Learned {
    let mut learned = Learned {
        prior: 0.5 / all.max(1.0),
        levels: Vec::with_capacity(shapes.len()),
        seen: vec![(0.0, 0.0); shapes.len()],
    };
    for (comparison, shape) in shapes.iter().enumerate() {
        let m = assumed(shape.levels);
        let u = counted(shape.levels, comparison, random, |_| 1.0);
        learned.levels.push(m.into_iter().zip(u).collect());
    }
    let any: Vec<Vec<f64>> = learned.levels.iter().map(|of| of.iter().map(|(_, u)| *u).collect()).collect();
    // Of each block, the odds of a match, and what its pairs of different people look like.
    let mut blocks: Vec<(f64, Vec<Vec<f64>>)> = vec![(ODDS, any.clone()); candidates.len()];
    let passes = if candidates.iter().all(|block| block.pairs.is_empty()) { 0 } else { PASSES };
    for _ in 0..passes {
        let mut ones: Vec<Vec<f64>> =
            shapes.iter().map(|s| assumed(s.levels).iter().map(|m| m * ASSUMED).collect()).collect();
        let (mut matches, mut change): (f64, f64) = (0.0, 0.0);
        for (block, (odds, other)) in candidates.iter().zip(&mut blocks) {
            let mut others = any.clone();
            let (mut here, count) = (0.0, block.pairs.iter().map(|(_, n)| *n as f64).sum::<f64>());
            for (shares, made_of) in others.iter_mut().zip(&block.made_of) {
                // As many pairs as there are speak for what any two are like.
                shares.iter_mut().for_each(|share| *share *= if *made_of { 1.0 } else { count.max(1.0) });
            }
            for (pattern, n) in &block.pairs {
                let n = *n as f64;
                let mut log = odds.ln();
                for (comparison, (of, other)) in learned.levels.iter().zip(other.iter()).enumerate() {
                    if let Some(at) = level(*pattern, comparison).checked_sub(1) {
                        log += (of[at].0 / other[at]).ln();
                    }
                }
                let one = n / (1.0 + (-log).exp());
                here += one;
                for comparison in 0..shapes.len() {
                    if let Some(at) = level(*pattern, comparison).checked_sub(1) {
                        ones[comparison][at] += one;
                        others[comparison][at] += n - one;
                    }
                }
            }
            if count > 0.0 {
                others.iter_mut().for_each(|shares| normalise(shares, 1e-6));
                *other = others;
                let part = (here / count).clamp(1e-9, 1.0 - 1e-6);
                change = change.max((part - *odds / (1.0 + *odds)).abs());
                *odds = part / (1.0 - part);
            }
            matches += here;
        }
        for (comparison, shape) in shapes.iter().enumerate() {
            let assumed = assumed(shape.levels).last().map_or(0.0, |share| share * ASSUMED);
            let known: f64 = ones[comparison].iter().sum();
            let different = ones[comparison].last().copied().unwrap_or(0.0);
            learned.seen[comparison] = ((known - ASSUMED).max(0.0), (different - assumed).max(0.0));
            normalise(&mut ones[comparison], 1e-4);
            believe(&mut ones[comparison], shape);
            for (of, new) in learned.levels[comparison].iter_mut().zip(&ones[comparison]) {
                change = change.max((of.0 - new).abs());
                of.0 = *new;
            }
        }
        learned.prior = (matches / share).clamp(0.5, (all - 0.5).max(0.5)) / all.max(1.0);
        if change < TOLERANCE {
            break;
        }
    }
    for _ in 0..3 {
        let before = learned.clone();
        for (comparison, shape) in shapes.iter().enumerate() {
            let u = counted(shape.levels, comparison, random, |pattern| 1.0 - before.probability(pattern));
            for (of, u) in learned.levels[comparison].iter_mut().zip(u) {
                of.1 = u;
            }
        }
    }
    learned
}

impl Learned {
    /// The weight of a level in bits; 0 for unknown. To be different never speaks for one person.
    #[must_use]
    pub fn weight(&self, comparison: usize, level: usize) -> f64 {
        let levels = &self.levels[comparison];
        match level.checked_sub(1).and_then(|at| levels.get(at)) {
            Some((m, u)) if level == levels.len() => (m / u).log2().min(0.0),
            Some((m, u)) => (m / u).log2(),
            None => 0.0,
        }
    }

    /// The weight of knowing nothing in bits: the logarithm of the odds of a match.
    #[must_use]
    pub fn prior_weight(&self) -> f64 {
        (self.prior / (1.0 - self.prior)).log2()
    }

    /// The probability that a pair of this pattern is one person.
    #[must_use]
    pub fn probability(&self, pattern: Pattern) -> f64 {
        let of = (0..self.levels.len()).map(|comparison| self.weight(comparison, level(pattern, comparison)));
        probability(self.prior_weight() + of.sum::<f64>())
    }
}

/// The probability of some bits of weight.
#[must_use]
pub fn probability(weight: f64) -> f64 {
    1.0 / (1.0 + (-weight).exp2())
}

/// The bits of weight of a probability.
#[must_use]
pub fn weight(probability: f64) -> f64 {
    (probability / (1.0 - probability)).log2()
}

/// What pairs of one person look like before any is seen.
fn assumed(levels: usize) -> Vec<f64> {
    let between = levels.saturating_sub(2).max(1) as f64;
    let share = |at: usize| match (at, at + 1 == levels) {
        (0, _) => 0.85,
        (_, true) => 0.05,
        _ => 0.1 / between,
    };
    let mut shares: Vec<f64> = (0..levels).map(share).collect();
    normalise(&mut shares, 1e-4);
    shares
}

/// The shares of the levels among pairs, each counted as `much` as it is worth.
fn counted(levels: usize, comparison: usize, pairs: &[(Pattern, u64)], much: impl Fn(Pattern) -> f64) -> Vec<f64> {
    let mut shares = vec![0.0; levels];
    for (pattern, n) in pairs {
        if let Some(at) = level(*pattern, comparison).checked_sub(1) {
            shares[at] += *n as f64 * much(*pattern);
        }
    }
    // Of what was not seen, half a pair.
    let known: f64 = shares.iter().sum();
    normalise(&mut shares, 0.5 / known.max(1.0));
    shares
}

fn normalise(shares: &mut [f64], least: f64) {
    let sum: f64 = shares.iter().sum();
    let floor = least.min(0.1);
    shares.iter_mut().for_each(|s| *s = if sum > 0.0 { (*s / sum).max(floor) } else { 1.0 });
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|s| *s /= sum);
}

/// Holds the share of the last level down, and that of the first up.
fn believe(shares: &mut [f64], shape: &Shape) {
    let at_most = shape.different_at_most;
    if let Some((last, before)) = shares.split_last_mut()
        && *last > at_most
        && *last < 1.0
    {
        let factor = (1.0 - at_most) / (1.0 - *last);
        before.iter_mut().for_each(|s| *s *= factor);
        *last = at_most;
    }
    if let Some((first, rest)) = shares.split_first_mut()
        && *first < shape.exact_at_least
    {
        let factor = (1.0 - shape.exact_at_least) / (1.0 - *first);
        rest.iter_mut().for_each(|s| *s *= factor);
        *first = shape.exact_at_least;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape { levels: 3, exact_at_least: 0.0, different_at_most: 1.0 };

    /// Pairs drawn of known shares: what is learned is what they were drawn of.
    #[test]
    fn what_pairs_were_made_of_is_found() {
        let m = [[0.8, 0.15, 0.05], [0.9, 0.02, 0.08], [0.6, 0.3, 0.1], [0.7, 0.1, 0.2]];
        let u = [[0.01, 0.02, 0.97], [0.001, 0.009, 0.99], [0.05, 0.05, 0.9], [0.02, 0.03, 0.95]];
        let pairs = |of: &[[f64; 3]; 4], n: f64| {
            let mut all: BTreeMap<Pattern, f64> = BTreeMap::new();
            for code in 0..81_u64 {
                let levels = [code % 3, code / 3 % 3, code / 9 % 3, code / 27];
                let p: f64 = levels.iter().zip(of).map(|(l, of)| of[*l as usize]).product();
                let pattern = levels.iter().enumerate().map(|(at, l)| (l + 1) << (4 * at)).sum();
                all.insert(pattern, p * n);
            }
            all
        };
        let (ones, others) = (pairs(&m, 20_000.0), pairs(&u, 80_000.0));
        let candidates: Vec<_> = ones.iter().map(|(p, n)| (*p, (n + others[p]).round() as u64)).collect();
        let random: Vec<_> = pairs(&u, 1e7).into_iter().map(|(p, n)| (p, n.round() as u64)).collect();
        let learned = learn(&[SHAPE; 4], &[Block { pairs: candidates, made_of: vec![true; 4] }], 1.0, &random, 1e9);
        assert!((learned.prior * 1e9 - 20_000.0).abs() < 300.0, "{}", learned.prior * 1e9);
        for (comparison, levels) in learned.levels.iter().enumerate() {
            for (at, (found_m, found_u)) in levels.iter().enumerate() {
                assert!((found_m - m[comparison][at]).abs() < 0.01, "{comparison} {at}: {found_m}");
                assert!((found_u / u[comparison][at] - 1.0).abs() < 0.02, "{comparison} {at}: {found_u}");
            }
        }
    }

    #[test]
    fn without_a_pair_nothing_is_a_match() {
        let learned = learn(&[SHAPE], &[], 1.0, &[], 0.0);
        assert!(learned.levels[0].iter().all(|(m, u)| m.is_finite() && *u > 0.0));
        let learned = learn(&[SHAPE; 2], &[], 1.0, &[(0x33, 100)], 100.0);
        assert!(learned.probability(0x33) < 0.01);
    }

    #[test]
    fn households_are_no_persons() {
        // Same address, other names: a hundred thousand of them, and a hundred who are one.
        let own = Shape { levels: 2, exact_at_least: 0.5, different_at_most: 0.25 };
        let shapes = [own, SHAPE, own];
        let (household, one) = (0x212, 0x111);
        let random = [(0x232, 999_000), (0x132, 900), (0x231, 90), (0x212, 10)];
        let block = Block { pairs: vec![(household, 100_000), (one, 100)], made_of: vec![false, true, false] };
        let learned = learn(&shapes, &[block], 1.0, &random, 1e10);
        assert!(learned.probability(one) > 0.9, "{learned:?}");
        assert!(learned.probability(household) < 0.01, "{learned:?}");
    }

    proptest! {
        #[test]
        fn shares_are_shares(
            pairs in proptest::collection::vec((0_u64..4, 0_u64..4, 1_u64..1000), 0..20),
            share in 0.01_f64..1.0,
        ) {
            let patterns: BTreeMap<Pattern, u64> = pairs.iter().map(|(a, b, n)| (a | b << 4, *n)).collect();
            let patterns: Vec<_> = patterns.into_iter().collect();
            let learned = learn(&[SHAPE; 2], &[Block { pairs: patterns.clone(), made_of: vec![true, false] }], share, &patterns, 1e6);
            for levels in &learned.levels {
                let (m, u): (f64, f64) = (levels.iter().map(|l| l.0).sum(), levels.iter().map(|l| l.1).sum());
                prop_assert!((m - 1.0).abs() < 1e-9 && (u - 1.0).abs() < 1e-9);
                prop_assert!(levels.iter().all(|(m, u)| *m > 0.0 && *u > 0.0));
            }
            prop_assert!(learned.prior > 0.0 && learned.prior < 1.0);
        }
    }
}
