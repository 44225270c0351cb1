//! Numbers in, numbers out: clustering, its validity, the intervals of figures, what customers are worth, who is who,
//! and why they are where they are.
//!
//! Nothing here knows a table, a thread pool of others, a file or a clock. Sums whose order could matter are exact.

pub mod agglomerative;
pub mod agreement;
pub mod algorithms;
pub mod attribution;
pub mod bootstrap;
pub mod counterfactual;
pub mod dbscan;
pub mod describe;
pub mod drift;
pub mod fellegi_sunter;
pub mod fixed;
mod hashed;
mod held;
pub mod interval;
pub mod kmeans;
pub mod lineage;
pub mod lloyd;
pub mod localise;
pub mod matrix;
pub mod nearest;
pub mod parallel;
pub mod persons;
pub mod robust;
pub mod scorecard;
pub mod stability;
pub mod tree;
pub mod validity;
pub mod value;

pub use matrix::{Matrix, MatrixError};

/// 128 bits of hash (XXH3) of some bytes, as 32 hex digits.
#[must_use]
pub fn hash_hex(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}
