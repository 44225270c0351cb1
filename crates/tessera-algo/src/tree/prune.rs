//! The best pruned tree with few leaves.

use super::{Leaf, Node, Settings, Split, grow::Full};

/// For a node, by the number of leaves from one on: the weight that is placed right, and how many of the leaves are on the left.
type Best = Vec<(i64, usize)>;

/// The nodes of the pruned tree, the root first. Leaves are not counted yet.
pub(super) fn pruned(full: &Full, settings: &Settings) -> Vec<Node> {
    let most = settings.leaves.unwrap_or(2 * full.segments.len()).max(1);
    let mut best: Vec<Best> = vec![Vec::new(); full.nodes.len()];
    // Children come after their parents.
    for (at, node) in full.nodes.iter().enumerate().rev() {
        let mut own = vec![(node.counts.iter().copied().max().unwrap_or(0), 0)];
        if let Some(split) = &node.split {
            let (left, right) = (&best[split.left], &best[split.right]);
            for leaves in 2..=most.min(left.len() + right.len()) {
                let lefts = (1..leaves).filter(|l| *l <= left.len() && leaves - l <= right.len());
                let right_of = |l: usize| left[l - 1].0 + right[leaves - l - 1].0;
                own.extend(lefts.map(|l| (right_of(l), l)).reduce(|a, b| if b.0 > a.0 { b } else { a }));
            }
        }
        best[at] = own;
    }
    let total: i64 = full.nodes[0].counts.iter().sum();
    let cost = settings.pays * total as f64;
    let worth = |(at, (right, _)): (usize, &(i64, usize))| *right as f64 - cost * at as f64;
    let leaves = (1..best[0].len()).fold(0, |most, at| {
        let better = worth((at, &best[0][at])) > worth((most, &best[0][most]));
        if better { at } else { most }
    });
    let mut nodes = Vec::new();
    keep(full, &best, 0, leaves + 1, &mut nodes);
    nodes
}

/// Adds a node with so many leaves; gives its number.
fn keep(full: &Full, best: &[Best], at: usize, leaves: usize, nodes: &mut Vec<Node>) -> usize {
    let own = nodes.len();
    let node = &full.nodes[at];
    // The first of equals is the lower segment.
    let most = (0..node.counts.len()).reduce(|a, b| if node.counts[b] > node.counts[a] { b } else { a }).unwrap_or(0);
    nodes.push(Node::Leaf(Leaf { segment: full.segments[most], rows: 0, weight: 0.0, correct: 0.0 }));
    if let Some(split) = node.split.filter(|_| leaves > 1) {
        let lefts = best[at][leaves - 1].1;
        let left = keep(full, best, split.left, lefts, nodes);
        let right = keep(full, best, split.right, leaves - lefts, nodes);
        nodes[own] = Node::Split(Split { left, right, ..split });
    }
    own
}
