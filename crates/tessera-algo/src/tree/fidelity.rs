//! How well a tree stands for what it learned from.

use std::collections::BTreeMap;

use crate::fixed::{from_fixed, to_fixed};

/// What a tree makes of the members of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfSegment {
    /// The segment.
    pub segment: u32,
    /// Its members.
    pub members: f64,
    /// Those whom the tree places in it.
    pub placed: f64,
    /// Those of them who are its members.
    pub correct: f64,
}

impl OfSegment {
    /// The share of those placed in it who are its members; none where the tree places nobody there.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        (self.placed > 0.0).then(|| self.correct / self.placed)
    }

    /// The share of its members whom the tree places in it; none without members.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        (self.members > 0.0).then(|| self.correct / self.members)
    }

    /// The share of its members whom the tree places elsewhere; none without members.
    #[must_use]
    pub fn elsewhere(&self) -> Option<f64> {
        (self.members > 0.0).then(|| (self.members - self.correct) / self.members)
    }
}

/// What a tree makes of customers.
#[derive(Debug, Clone, PartialEq)]
pub struct Fidelity {
    /// The customers.
    pub customers: f64,
    /// Those whom the tree places where they are.
    pub correct: f64,
    /// By segment, in the order of their numbers.
    pub segments: Vec<OfSegment>,
}

impl Fidelity {
    /// From counts: the segment, where the tree places them, and how many they are. Sums do not depend on the order.
    #[must_use]
    pub fn of(counts: impl IntoIterator<Item = (u32, u32, f64)>) -> Self {
        let mut sums: BTreeMap<u32, [i128; 3]> = BTreeMap::new();
        for (segment, placed, count) in counts {
            let count = to_fixed(count);
            let members = sums.entry(segment).or_default();
            members[0] += count;
            members[2] += if segment == placed { count } else { 0 };
            sums.entry(placed).or_default()[1] += count;
        }
        let in_all = |which: usize| from_fixed(sums.values().map(|sums| sums[which]).sum());
        let of = |(segment, sums): (&u32, &[i128; 3])| {
            let [members, placed, correct] = sums.map(from_fixed);
            OfSegment { segment: *segment, members, placed, correct }
        };
        Self { customers: in_all(0), correct: in_all(2), segments: sums.iter().map(of).collect() }
    }

    /// The share of the customers whom the tree places elsewhere: its price; none without customers.
    #[must_use]
    pub fn elsewhere(&self) -> Option<f64> {
        (self.customers > 0.0).then(|| (self.customers - self.correct) / self.customers)
    }
}
