//! Simpler thresholds, at a price that is declared.

use std::collections::BTreeMap;

use super::{
    Node, Rows, Settings, Split, Tree,
    simple::{self, between},
};
use crate::fixed::to_fixed;

/// Moves the thresholds of a tree, from the root down, to simpler numbers. No leaf gets too small or another segment by it, and each split may
/// place its part of the slack elsewhere.
pub(super) fn rounded(tree: &mut Tree, rows: &Rows<'_>, settings: &Settings, slack: f64) {
    let total: i128 = (0..rows.segments.len()).map(|row| to_fixed(rows.weight(row))).sum();
    let splits = tree.nodes.iter().filter(|node| matches!(node, Node::Split(_))).count();
    let limits = Limits {
        fewest: settings.fewest,
        least: (settings.share * total as f64) as i128,
        loss: (slack * total as f64 / splits.max(1) as f64) as i128,
    };
    below(tree, rows, 0, (0..rows.segments.len()).collect(), &limits);
}

struct Limits {
    /// Rows of a leaf.
    fewest: u64,
    /// Weight of a leaf.
    least: i128,
    /// Weight that a split may place elsewhere.
    loss: i128,
}

fn below(tree: &mut Tree, rows: &Rows<'_>, at: usize, here: Vec<usize>, limits: &Limits) {
    let Some(Node::Split(split)) = tree.nodes.get(at).copied() else { return };
    let simpler = split.threshold.and_then(|t| simpler(tree, rows, (&split, t), &here, limits.loss));
    if let Some(simpler) = simpler {
        tree.nodes[at] = Node::Split(Split { threshold: Some(simpler), ..split });
        if !keeps(tree, rows, at, &here, limits) {
            tree.nodes[at] = Node::Split(split);
        }
    }
    let Some(Node::Split(split)) = tree.nodes.get(at).copied() else { return };
    let (left, right) = here.into_iter().partition(|row| split.leads_left(rows.value(*row, split.column)));
    below(tree, rows, split.left, left, limits);
    below(tree, rows, split.right, right, limits);
}

/// The simplest threshold around one from which moving loses no more than so much at any value on the way.
fn simpler(tree: &Tree, rows: &Rows<'_>, (split, t): (&Split, f64), here: &[usize], loss: i128) -> Option<f64> {
    // What is won by each value that moves to the left.
    let mut won: Vec<(f64, i128)> = Vec::with_capacity(here.len());
    for row in here {
        let x = rows.value(*row, split.column);
        if !x.is_nan() {
            let right =
                |from| tree.segment(tree.leaf_from(from, |column| rows.value(*row, column))) == rows.segments[*row];
            let both = i128::from(right(split.left)) - i128::from(right(split.right));
            won.push((x, both * to_fixed(rows.weight(*row))));
        }
    }
    won.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let values: Vec<(f64, i128)> =
        won.chunk_by(|a, b| a.0 == b.0).map(|same| (same[0].0, same.iter().map(|(_, won)| won).sum())).collect();
    let own = values.partition_point(|(x, _)| *x <= t);
    // The cut lies before the value of this number; there is none before the first and after the last.
    let reach = |moves: &mut dyn Iterator<Item = (usize, i128)>| {
        let mut sum = 0;
        moves
            .map_while(|(cut, won)| {
                sum += won;
                (sum >= -loss).then_some(cut)
            })
            .last()
    };
    let first = reach(&mut (1..own).rev().map(|cut| (cut, -values[cut].1))).unwrap_or(own);
    let last = reach(&mut (own + 1..values.len()).map(|cut| (cut, values[cut - 1].1))).unwrap_or(own);
    let (low, high) = (values.get(first.checked_sub(1)?)?.0, values.get(last)?.0);
    Some(between(low, high, simple::whole(rows.columns[split.column].iter().copied())))
}

/// Whether the leaves below a node are still large enough, and most of each in its segment.
fn keeps(tree: &Tree, rows: &Rows<'_>, at: usize, here: &[usize], limits: &Limits) -> bool {
    let mut leaves: BTreeMap<usize, (u64, BTreeMap<u32, i128>)> = BTreeMap::new();
    for row in here {
        let (n, weights) = leaves.entry(tree.leaf_from(at, |column| rows.value(*row, column))).or_default();
        *n += 1;
        *weights.entry(rows.segments[*row]).or_default() += to_fixed(rows.weight(*row));
    }
    let enough = |(leaf, (n, weights)): (&usize, &(u64, BTreeMap<u32, i128>))| {
        let most = weights.iter().reduce(|a, b| if b.1 > a.1 { b } else { a }).map(|(segment, _)| *segment);
        *n >= limits.fewest && weights.values().sum::<i128>() >= limits.least && most == Some(tree.segment(*leaf))
    };
    let mut below = vec![at];
    let mut all = 0;
    while let Some(at) = below.pop() {
        match &tree.nodes[at] {
            Node::Split(split) => below.extend([split.left, split.right]),
            Node::Leaf(_) => all += 1,
        }
    }
    leaves.len() == all && leaves.iter().all(enough)
}
