//! A tree as rules: of each leaf one condition a column.

use super::{Node, Tree};

/// What a rule asks of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// The column.
    pub column: usize,
    /// Above the first and up to the second, as far as there is a bound; none where nothing that is known will do.
    pub known: Option<(Option<f64>, Option<f64>)>,
    /// Whether what is missing will do.
    pub missing: bool,
    /// Whether some row that was learned from lacked the column.
    pub gaps: bool,
}

/// Who is in a leaf: whoever all conditions hold of.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The number of the leaf's node.
    pub leaf: usize,
    /// The segment.
    pub segment: u32,
    /// The conditions, in the order in which the tree asks first.
    pub conditions: Vec<Condition>,
}

impl Tree {
    /// The rules, a leaf each, from the left: every customer is in one. Those of a segment are alternatives.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.below(0, Vec::new(), &mut rules);
        rules
    }

    fn below(&self, at: usize, conditions: Vec<Condition>, rules: &mut Vec<Rule>) {
        match self.nodes.get(at) {
            Some(Node::Leaf(leaf)) => rules.push(Rule { leaf: at, segment: leaf.segment, conditions }),
            Some(Node::Split(split)) => {
                for left in [true, false] {
                    let mut all = conditions.clone();
                    let seen = all.iter().position(|condition| condition.column == split.column);
                    let known = Some((None, None));
                    let gaps = self.gaps.get(split.column).copied().unwrap_or(true);
                    let before = Condition { column: split.column, known, missing: true, gaps };
                    let at = seen.unwrap_or_else(|| {
                        all.push(before);
                        all.len() - 1
                    });
                    let own = &mut all[at];
                    own.missing &= split.missing_left == left;
                    own.known = own.known.and_then(|(low, high)| match (split.threshold, left) {
                        (Some(t), true) => Some((low, Some(high.map_or(t, |high: f64| high.min(t))))),
                        (Some(t), false) => Some((Some(low.map_or(t, |low: f64| low.max(t))), high)),
                        (None, true) => Some((low, high)),
                        (None, false) => None,
                    });
                    self.below(if left { split.left } else { split.right }, all, rules);
                }
            }
            None => {}
        }
    }
}
