//! Numbers that follow from a seed and a place alone, and from no state: the same on every thread and machine.

use xxhash_rust::xxh3::xxh3_64_with_seed;

fn hash(round: u64, at: u64, seed: u64) -> u64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&round.to_le_bytes());
    key[8..].copy_from_slice(&at.to_le_bytes());
    xxh3_64_with_seed(&key, seed)
}

/// A whole number below `n`: the high half of hash × n is even over these.
pub(crate) fn below(n: usize, round: u64, at: u64, seed: u64) -> usize {
    ((u128::from(hash(round, at, seed)) * n as u128) >> 64) as usize
}

/// A number above 0 and below 1.
pub(crate) fn unit(round: u64, at: u64, seed: u64) -> f64 {
    ((hash(round, at, seed) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}
