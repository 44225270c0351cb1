//! Seeds and small draws. Every stream of random numbers is keyed by (seed, purpose, number), so what a customer does depends on
//! nothing but the shop and the customer's own number: neither on chunking, nor on threads, nor on where the data ends.

use rand::Rng;
use rand_pcg::Pcg64;

/// What a stream of random numbers is for; two purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Assortment = 1,
    Behaviour,
    Person,
    Orders,
    CampaignOrder,
    Engagement,
    Survey,
    Duplicate,
    Newcomer,
    Campaign,
    Costs,
    Dirt,
    Planted,
    Retyped,
    Lookalike,
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a bijection of 64 bits that scatters neighbours.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit hash of (seed, purpose, a, b).
pub(crate) fn hash(seed: u64, purpose: Purpose, a: u64, b: u64) -> u64 {
    mix(mix(mix(seed ^ ((purpose as u64) << 56)) ^ a).wrapping_add(b))
}

/// The stream of one number (a customer, a day) for one purpose.
pub(crate) fn stream(seed: u64, purpose: Purpose, number: u64) -> Pcg64 {
    let high = hash(seed, purpose, number, 0);
    let low = mix(high ^ number);
    Pcg64::new((u128::from(high) << 64) | u128::from(low), purpose as u128)
}

/// A hash as a number in [0, 1).
pub(crate) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A number in [0, 1).
pub(crate) fn uniform(rng: &mut Pcg64) -> f64 {
    rng.random::<f64>()
}

/// True with probability `p`; always one draw.
pub(crate) fn chance(rng: &mut Pcg64, p: f64) -> bool {
    uniform(rng) < p
}

/// A whole number in 0..n (0 when n is 0); always one draw.
pub(crate) fn below(rng: &mut Pcg64, n: usize) -> usize {
    ((uniform(rng) * n as f64) as usize).min(n.saturating_sub(1))
}

/// A count of failures before the first success, with the given mean, at most `cap`.
pub(crate) fn geometric(rng: &mut Pcg64, mean: f64, cap: u32) -> u32 {
    let again = mean / (1.0 + mean);
    let mut n = 0;
    while n < cap && chance(rng, again) {
        n += 1;
    }
    n
}

/// Weights made ready for drawing an index.
#[derive(Clone, Debug)]
pub(crate) struct Weights(Vec<f64>);

impl Weights {
    pub(crate) fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let cumulative = weights.iter().map(|w| {
            sum += w / total;
            sum
        });
        Self(cumulative.collect())
    }

    /// The index at `u` in [0, 1).
    pub(crate) fn at(&self, u: f64) -> usize {
        self.0.iter().position(|&c| u < c).unwrap_or(self.0.len().saturating_sub(1))
    }

    pub(crate) fn draw(&self, rng: &mut Pcg64) -> usize {
        self.at(uniform(rng))
    }
}
