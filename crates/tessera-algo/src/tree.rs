//! A small tree that says in people's units which segment a customer is in, and how many it places elsewhere.
//!
//! It is a surrogate (Craven & Shavlik 1996, "Extracting tree-structured representations of trained networks"): it learns where another model
//! put the customers, and its price is the share that it puts elsewhere. Splits are those of CART (Breiman, Friedman, Olshen & Stone 1984,
//! "Classification and regression trees"): the decrease of Gini's impurity is the largest over all columns and cuts. The tree is grown in full,
//! and of all its pruned trees with no more leaves than wanted the one is kept that places the most as they are, less what each leaf costs
//! (their cost-complexity, solved exactly as Bohanec & Bratko 1994, "Trading accuracy for simplicity in decision trees"). So a split that does
//! not pay is not shown, and one that pays only by what comes below it is.
//!
//! Whom a column says nothing of goes to the side that is learned for them; where nobody was so, to the heavier one. Nothing depends on the order
//! of the rows. Among equal splits the first column is taken, then the lowest cut, then the side above for what is missing.
// smartcore's tree has private nodes, no leaf limit, weights or missing values, and its splits depend on the order of the rows: it skips a cut
// where the last of several equal values has the label of the next value's first row.

mod fidelity;
mod grow;
mod prune;
mod round;
mod rules;
mod simple;
mod sql;

pub use self::{
    fidelity::{Fidelity, OfSegment},
    rules::{Condition, Rule},
    simple::simplest,
    sql::{Column, case, rule},
};
use crate::fixed::{from_fixed, to_fixed};

/// Rows to learn from, or to be judged by.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The columns, of one length; not a number is what is missing.
    pub columns: &'a [&'a [f64]],
    /// The segment of each row.
    pub segments: &'a [u32],
    /// What each row counts; 1 where there are none.
    pub weights: Option<&'a [f64]>,
}

/// How large a tree may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Leaves at most; twice the segments where there is none.
    pub leaves: Option<usize>,
    /// Questions at most before a leaf.
    pub depth: usize,
    /// Rows of a leaf at least.
    pub fewest: u64,
    /// The share of the weight that a leaf has at least.
    pub share: f64,
    /// The share of the weight that a further leaf has to place better.
    pub pays: f64,
    /// The share of the weight that simpler thresholds may place elsewhere, all together. Where there is none, thresholds stay between the two
    /// values next to the cut, and are as simple as that allows.
    pub slack: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { leaves: None, depth: 6, fewest: 10, share: 0.005, pays: 0.005, slack: Some(0.005) }
    }
}

/// A question and where its answers lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// The column that is asked.
    pub column: usize,
    /// Up to this, and including it, is left; none where all that is known is.
    pub threshold: Option<f64>,
    /// Whether what is missing is left.
    pub missing_left: bool,
    /// The node of those who are left.
    pub left: usize,
    /// The node of the others.
    pub right: usize,
}

impl Split {
    fn leads_left(&self, x: f64) -> bool {
        if x.is_nan() { self.missing_left } else { self.threshold.is_none_or(|t| x <= t) }
    }
}

/// Where the questions end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leaf {
    /// The segment that most of it are in, ties to the lower one.
    pub segment: u32,
    /// Rows that it was learned from.
    pub rows: u64,
    /// What they count.
    pub weight: f64,
    /// What those of them count who are in the segment.
    pub correct: f64,
}

impl Leaf {
    /// The share of the weight that is in the segment.
    #[must_use]
    pub fn purity(&self) -> f64 {
        self.correct / self.weight
    }
}

/// A question or a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Node {
    /// A question.
    Split(Split),
    /// A leaf.
    Leaf(Leaf),
}

/// A tree, the root first and every node before those that it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// By column, whether some row that it was learned from lacked it.
    pub gaps: Vec<bool>,
}

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Nothing to learn from.
    #[error("a tree needs a column and a row that counts")]
    Nothing,
    /// Columns, segments or weights differ in length.
    #[error("the {what} have {found} rows where {expected} are needed")]
    Length {
        /// What differs.
        what: &'static str,
        /// Its rows.
        found: usize,
        /// The rows of the segments.
        expected: usize,
    },
    /// A value is infinite.
    #[error("a value in column {column} is infinite")]
    Infinite {
        /// Column, from 0.
        column: usize,
    },
    /// A weight is negative or no number.
    #[error("the weight of row {row} is not 0 or more")]
    Weight {
        /// Row, from 0.
        row: usize,
    },
}

impl Rows<'_> {
    fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[row])
    }

    fn value(&self, row: usize, column: usize) -> f64 {
        self.columns[column][row]
    }

    fn check(&self) -> Result<(), TreeError> {
        let expected = self.segments.len();
        let one =
            |what, found| if found == expected { Ok(()) } else { Err(TreeError::Length { what, found, expected }) };
        self.columns.iter().try_for_each(|column| one("columns", column.len()))?;
        one("weights", self.weights.map_or(expected, <[f64]>::len))?;
        if let Some(column) = self.columns.iter().position(|column| column.iter().any(|x| x.is_infinite())) {
            return Err(TreeError::Infinite { column });
        }
        let no_weight = |weight: &f64| !(weight.is_finite() && *weight >= 0.0);
        if let Some(row) = self.weights.and_then(|weights| weights.iter().position(no_weight)) {
            return Err(TreeError::Weight { row });
        }
        Ok(())
    }
}

impl Tree {
    /// Learns a tree.
    ///
    /// # Errors
    /// When there is nothing to learn from, lengths differ, or a number is none to learn from.
    pub fn grow(rows: &Rows<'_>, settings: &Settings) -> Result<Self, TreeError> {
        rows.check()?;
        let full = grow::Full::new(rows, settings).ok_or(TreeError::Nothing)?;
        let mut tree = Self { nodes: prune::pruned(&full, settings), gaps: full.gaps };
        if let Some(slack) = settings.slack {
            round::rounded(&mut tree, rows, settings, slack);
        }
        tree.count(rows);
        Ok(tree)
    }

    /// Says of each leaf what it has of some rows. Weights are added up in fixed point, whatever their order.
    fn count(&mut self, rows: &Rows<'_>) {
        let mut sums = vec![(0_u64, 0_i128, 0_i128); self.nodes.len()];
        for (row, segment) in rows.segments.iter().enumerate() {
            let at = self.leaf_by(|column| rows.value(row, column));
            let weight = to_fixed(rows.weight(row));
            let own = self.segment(at) == *segment;
            let (n, all, correct) = &mut sums[at];
            (*n, *all, *correct) = (*n + 1, *all + weight, *correct + if own { weight } else { 0 });
        }
        for (node, (n, all, correct)) in self.nodes.iter_mut().zip(sums) {
            if let Node::Leaf(leaf) = node {
                (leaf.rows, leaf.weight, leaf.correct) = (n, from_fixed(all), from_fixed(correct));
            }
        }
    }

    /// The same tree with its leaves counted over other rows.
    ///
    /// # Errors
    /// When lengths differ, or a number is none.
    pub fn counted(&self, rows: &Rows<'_>) -> Result<Self, TreeError> {
        rows.check()?;
        let mut tree = self.clone();
        tree.count(rows);
        Ok(tree)
    }

    /// The leaf of a customer, as the number of its node. `value` is not a number where the column says nothing.
    #[must_use]
    pub fn leaf_by(&self, value: impl Fn(usize) -> f64) -> usize {
        self.leaf_from(0, value)
    }

    fn leaf_from(&self, mut at: usize, value: impl Fn(usize) -> f64) -> usize {
        while let Some(Node::Split(split)) = self.nodes.get(at) {
            let x = value(split.column);
            at = if split.leads_left(x) { split.left } else { split.right };
        }
        at
    }

    /// The segment in which the tree places a customer, by a value of each column.
    #[must_use]
    pub fn place(&self, row: &[f64]) -> u32 {
        let at = self.leaf_by(|column| row.get(column).copied().unwrap_or(f64::NAN));
        self.segment(at)
    }

    /// The segment of a leaf.
    fn segment(&self, at: usize) -> u32 {
        self.nodes.get(at).map_or(0, |node| if let Node::Leaf(leaf) = node { leaf.segment } else { 0 })
    }

    /// The leaves with the numbers of their nodes, from the left.
    pub fn leaves(&self) -> impl Iterator<Item = (usize, &Leaf)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| match node {
            Node::Leaf(leaf) => Some((at, leaf)),
            Node::Split(_) => None,
        })
    }

    /// What the tree makes of some rows: the share that it places elsewhere, by segment and in all.
    ///
    /// # Errors
    /// When lengths differ, or a number is none.
    pub fn fidelity(&self, rows: &Rows<'_>) -> Result<Fidelity, TreeError> {
        rows.check()?;
        Ok(Fidelity::of(rows.segments.iter().enumerate().map(|(row, segment)| {
            let at = self.leaf_by(|column| rows.value(row, column));
            (*segment, self.segment(at), rows.weight(row))
        })))
    }
}

#[cfg(test)]
mod tests;
