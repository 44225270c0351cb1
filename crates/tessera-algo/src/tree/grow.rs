//! The tree in full: each column is sorted once, and a split parts the sorted rows without sorting them anew.

use std::{collections::BTreeSet, ops::Range};

use super::{
    Rows, Settings, Split,
    simple::{self, between},
};

/// The rank of what is missing: last.
const MISSING: u32 = u32::MAX;
/// Weights add up to no more than two to the power of this, so that the squares of their sums are whole numbers of 64 bits.
const WEIGHT: i32 = 31;

/// A node of the full tree, which can be a leaf too.
pub(super) struct Grown {
    /// The weight of each segment.
    pub(super) counts: Vec<i64>,
    pub(super) split: Option<Split>,
}

/// The full tree, every node before its children.
pub(super) struct Full {
    pub(super) nodes: Vec<Grown>,
    /// The segments, in the order of the counts.
    pub(super) segments: Vec<u32>,
    /// By column, whether something is missing.
    pub(super) gaps: Vec<bool>,
}

/// A value's rank in its column, and its row.
#[derive(Clone, Copy)]
struct Entry {
    rank: u32,
    row: u32,
}

/// A row's segment and weight.
#[derive(Clone, Copy)]
struct Of {
    segment: u32,
    weight: u32,
}

/// A column's different values, sorted, and its rows in their order, those of a node together.
struct Sorted {
    values: Vec<f64>,
    /// Whether all are whole numbers.
    whole: bool,
    entries: Vec<Entry>,
}

/// A cut: what it gains, and where it lies. `rank` is the highest on its left; that of the last value where all that is known is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) gain: f64,
    pub(super) column: usize,
    pub(super) rank: u32,
    pub(super) missing_left: bool,
    /// Whether it parts the known from the missing.
    pub(super) known: bool,
}

struct Grower<'a> {
    columns: Vec<Sorted>,
    of: Vec<Of>,
    settings: &'a Settings,
    /// The weight that a leaf has at least.
    least: i64,
    segments: usize,
    left: Vec<bool>,
    aside: Vec<Entry>,
    nodes: Vec<Grown>,
}

impl Full {
    /// Grows the tree; none where there is nothing to learn from.
    pub(super) fn new(rows: &Rows<'_>, settings: &Settings) -> Option<Self> {
        let (mut grower, segments) = Grower::new(rows, settings)?;
        grower.node(0..rows.segments.len(), 0);
        let gaps = rows.columns.iter().map(|column| column.iter().any(|x| x.is_nan())).collect();
        Some(Self { nodes: grower.nodes, segments, gaps })
    }
}

/// Weights as whole numbers: multiplied by a power of two, so that whole ones stay what they are to one another.
fn whole_weights(rows: &Rows<'_>) -> Vec<u32> {
    let Some(weights) = rows.weights else { return vec![1; rows.segments.len()] };
    // Of a sum whose last bits depend on the order, the exponent alone is taken, and that of a sum in fixed point.
    let sum = crate::fixed::from_fixed(weights.iter().map(|weight| crate::fixed::to_fixed(*weight)).sum());
    if sum == 0.0 {
        return vec![0; weights.len()];
    }
    let fraction = weights.iter().any(|weight| weight.fract() != 0.0);
    let exponent = WEIGHT - 1 - sum.log2().ceil() as i32;
    let unit = 2_f64.powi(if fraction { exponent } else { exponent.min(0) });
    weights.iter().map(|weight| (weight * unit).round() as u32).collect()
}

impl Sorted {
    fn new(column: &[f64]) -> Self {
        let mut order: Vec<(f64, u32)> = (0..).zip(column).map(|(row, x)| (x + 0.0, row)).collect();
        // Only what is missing is no number, and it is last with either sign.
        order.sort_unstable_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
        let (mut values, mut entries) = (Vec::new(), Vec::with_capacity(order.len()));
        for (x, row) in order {
            if !x.is_nan() && values.last() != Some(&x) {
                values.push(x);
            }
            let rank = if x.is_nan() { MISSING } else { values.len() as u32 - 1 };
            entries.push(Entry { rank, row });
        }
        let whole = simple::whole(values.iter().copied());
        Self { values, whole, entries }
    }
}

impl<'a> Grower<'a> {
    fn new(rows: &Rows<'_>, settings: &'a Settings) -> Option<(Self, Vec<u32>)> {
        let segments: Vec<u32> = rows.segments.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let place = |id: &u32| segments.binary_search(id).map_or(0, |at| at as u32);
        let weights = whole_weights(rows);
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        if rows.columns.is_empty() || total == 0 {
            return None;
        }
        let of = rows.segments.iter().zip(weights).map(|(id, weight)| Of { segment: place(id), weight }).collect();
        let grower = Self {
            columns: rows.columns.iter().map(|column| Sorted::new(column)).collect(),
            of,
            settings,
            least: ((settings.share * total as f64).ceil() as i64).max(1),
            segments: segments.len(),
            left: vec![false; rows.segments.len()],
            aside: Vec::new(),
            nodes: Vec::new(),
        };
        Some((grower, segments))
    }

    /// Grows the node of the rows at some places of the sorted columns; gives its number.
    fn node(&mut self, at: Range<usize>, depth: usize) -> usize {
        let own = self.nodes.len();
        let counts = self.counts(&self.columns[0].entries[at.clone()]);
        self.nodes.push(Grown { counts: counts.clone(), split: None });
        let pure = counts.iter().filter(|count| **count > 0).count() < 2;
        let large = at.len() as u64 >= self.settings.fewest.saturating_mul(2);
        if pure || !large || depth == self.settings.depth {
            return own;
        }
        let Some(cut) = self.best(&at, &counts) else { return own };
        let threshold = (!cut.known).then(|| self.threshold(&at, &cut));
        let lacking = self.columns[cut.column].entries[at.end - 1].rank == MISSING;
        let lefts = self.part(&at, &cut, threshold);
        let left = self.node(at.start..at.start + lefts, depth + 1);
        let right = self.node(at.start + lefts..at.end, depth + 1);
        let weight = |at: usize| self.nodes[at].counts.iter().sum::<i64>();
        let missing_left = if lacking { cut.missing_left } else { weight(left) > weight(right) };
        self.nodes[own].split = Some(Split { column: cut.column, threshold, missing_left, left, right });
        own
    }

    fn counts(&self, entries: &[Entry]) -> Vec<i64> {
        let mut counts = vec![0; self.segments];
        for entry in entries {
            let of = self.of[entry.row as usize];
            counts[of.segment as usize] += i64::from(of.weight);
        }
        counts
    }

    /// The best cut of a node.
    fn best(&self, at: &Range<usize>, counts: &[i64]) -> Option<Cut> {
        let mut best: Option<Cut> = None;
        for column in 0..self.columns.len() {
            self.cuts(column, at, counts, |cut| {
                if best.is_none_or(|best| cut.gain > best.gain) {
                    best = Some(cut);
                }
            });
        }
        best
    }

    /// Shows the cuts of a column that leave enough on either side and gain something, from the lowest.
    ///
    /// Gini's impurity of a side, times its weight, is the weight less the sum of the squares of its segments' weights through the weight:
    /// so the gain is of whole numbers, and of their quotients alone.
    fn cuts(&self, column: usize, at: &Range<usize>, counts: &[i64], mut show: impl FnMut(Cut)) {
        let entries = &self.columns[column].entries[at.clone()];
        let known = entries.partition_point(|entry| entry.rank != MISSING);
        let (entries, missing) = entries.split_at(known);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        if first.rank == last.rank && missing.is_empty() {
            return;
        }
        let absent = self.counts(missing);
        let squares = |counts: &[i64]| counts.iter().map(|n| n * n).sum::<i64>();
        let (total, absents) = (counts.iter().sum::<i64>(), absent.iter().sum::<i64>());
        let (none, of_absent) = (squares(counts) as f64 / total as f64, squares(&absent));
        let few = (missing.len() as u64, self.settings.fewest);
        let mut show = |lefts: (usize, i64, i64), rights: (usize, i64, i64), rank, missing_left, is_known| {
            let enough = |(n, weight, _): (usize, i64, i64)| n as u64 >= few.1 && weight >= self.least;
            if enough(lefts) && enough(rights) {
                let gain = lefts.2 as f64 / lefts.1 as f64 + rights.2 as f64 / rights.1 as f64 - none;
                // What is less is rounding.
                if gain > 1e-12 * total as f64 {
                    show(Cut { gain, column, rank, missing_left, known: is_known });
                }
            }
        };
        // Of each side: the weights of the segments, their sum, the sum of their squares, and of their products with what is missing.
        let mut left = vec![0_i64; self.segments];
        let mut right: Vec<i64> = counts.iter().zip(&absent).map(|(all, absent)| all - absent).collect();
        let (mut weights, mut weight_right) = (0, total - absents);
        let (mut square, mut square_right) = (0, squares(&right));
        let (mut cross, mut cross_right) = (0, right.iter().zip(&absent).map(|(a, b)| a * b).sum::<i64>());
        for (n, entry) in entries.iter().enumerate() {
            let of = self.of[entry.row as usize];
            let (segment, weight) = (of.segment as usize, i64::from(of.weight));
            square += weight * (2 * left[segment] + weight);
            square_right -= weight * (2 * right[segment] - weight);
            left[segment] += weight;
            right[segment] -= weight;
            (weights, weight_right) = (weights + weight, weight_right - weight);
            if few.0 > 0 {
                let both = weight * absent[segment];
                (cross, cross_right) = (cross + both, cross_right - both);
            }
            let Some(next) = entries.get(n + 1) else { break };
            if next.rank == entry.rank {
                continue;
            }
            let (n, m) = (n + 1, entries.len() - n - 1);
            if few.0 == 0 {
                show((n, weights, square), (m, weight_right, square_right), entry.rank, false, false);
                continue;
            }
            let with = |weight: i64, square: i64, cross: i64| (weight + absents, square + 2 * cross + of_absent);
            let (weight, squared) = with(weight_right, square_right, cross_right);
            show((n, weights, square), (m + missing.len(), weight, squared), entry.rank, false, false);
            let (weight, squared) = with(weights, square, cross);
            show((n + missing.len(), weight, squared), (m, weight_right, square_right), entry.rank, true, false);
        }
        if !missing.is_empty() {
            show((entries.len(), weights, square), (missing.len(), absents, of_absent), last.rank, false, true);
        }
    }

    /// The simplest number between the two values next to a cut.
    fn threshold(&self, at: &Range<usize>, cut: &Cut) -> f64 {
        let column = &self.columns[cut.column];
        let entries = &column.entries[at.clone()];
        let next = entries.partition_point(|entry| entry.rank <= cut.rank);
        let value = |rank: u32| column.values[rank as usize];
        between(value(cut.rank), value(entries[next].rank), column.whole)
    }

    /// Puts the rows of a node that are left of a cut before the others in every column, each side in its order; says how many are left.
    fn part(&mut self, at: &Range<usize>, cut: &Cut, threshold: Option<f64>) -> usize {
        let own = &self.columns[cut.column];
        let last = threshold.map_or(own.values.len(), |t| own.values.partition_point(|x| *x <= t));
        let mut lefts = 0;
        for entry in &own.entries[at.clone()] {
            let left = if entry.rank == MISSING { cut.missing_left } else { (entry.rank as usize) < last };
            self.left[entry.row as usize] = left;
            lefts += usize::from(left);
        }
        for column in &mut self.columns {
            let entries = &mut column.entries[at.clone()];
            self.aside.clear();
            let mut to = 0;
            for from in 0..entries.len() {
                let entry = entries[from];
                if self.left[entry.row as usize] {
                    entries[to] = entry;
                    to += 1;
                } else {
                    self.aside.push(entry);
                }
            }
            entries[to..].copy_from_slice(&self.aside);
        }
        lefts
    }
}

#[cfg(test)]
mod tests;
