//! Choosing the number of segments: several indices, because any one of them alone misleads.
//!
//! Silhouette and Calinski–Harabasz often prefer two clusters, which helps nobody; so candidates below the project's
//! smallest number are not even tried, those with a segment too small to act upon are put aside, and the others are ranked
//! by every index. The smallest weighted mean rank wins, ties to fewer segments.

use std::fmt::Write;

/// A candidate with its indices on the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Number of segments.
    pub k: usize,
    /// Mean silhouette; more is better.
    pub silhouette: f64,
    /// More is better.
    pub calinski_harabasz: f64,
    /// Less is better.
    pub davies_bouldin: f64,
    /// More is better; absent when it could not be computed.
    pub prediction_strength: Option<f64>,
    /// The smallest segment's share of the sample.
    pub min_share: f64,
    /// The share of the ordering feature's variance that the segments explain; more is better.
    pub objective_spread: Option<f64>,
}

/// What counts, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Criteria {
    /// The project's own choice, which wins whatever the indices say.
    pub pinned: Option<usize>,
    /// Candidates with a smaller segment are put aside, if any other is left.
    pub min_share: f64,
    /// Weights of silhouette, Calinski–Harabasz, Davies–Bouldin, prediction strength and objective spread.
    pub weights: [f64; 5],
}

impl Default for Criteria {
    fn default() -> Self {
        Self { pinned: None, min_share: 0.0, weights: [1.0, 1.0, 1.0, 1.0, 2.0] }
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Weighted mean rank, from 1; less is better.
    pub score: f64,
    /// Whether it is the one.
    pub chosen: bool,
    /// Why, or why not, in words.
    pub reason: String,
}

/// Why nothing can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScorecardError {
    /// There is no candidate, or not the pinned one.
    #[error("there is no candidate to choose")]
    NoCandidate,
}

/// Ranks the candidates and chooses one.
///
/// # Errors
/// When there is no candidate, or the pinned one is not among them.
pub fn choose(candidates: &[Candidate], criteria: &Criteria) -> Result<Vec<Scored>, ScorecardError> {
    let value = |c: &Candidate| {
        [
            Some(c.silhouette),
            Some(c.calinski_harabasz),
            Some(-c.davies_bouldin),
            c.prediction_strength,
            c.objective_spread,
        ]
    };
    let all: Vec<_> = candidates.iter().map(value).collect();
    let weight: f64 = criteria.weights.iter().sum();
    let scores: Vec<f64> = all
        .iter()
        .map(|own| (0..5).map(|i| criteria.weights[i] * rank(own[i], all.iter().map(|o| o[i]))).sum::<f64>() / weight)
        .collect();
    let large_enough: Vec<bool> = candidates.iter().map(|c| c.min_share >= criteria.min_share).collect();
    let any = large_enough.contains(&true);
    let chosen = match criteria.pinned {
        Some(k) => candidates.iter().position(|c| c.k == k),
        None => (0..candidates.len())
            .filter(|i| large_enough[*i] || !any)
            .min_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(candidates[*a].k.cmp(&candidates[*b].k))),
    };
    let chosen = chosen.ok_or(ScorecardError::NoCandidate)?;
    Ok((0..candidates.len())
        .map(|i| {
            let mut reason = match (criteria.pinned, i == chosen) {
                (Some(_), true) => "fixed by the project".to_owned(),
                (Some(k), false) => format!("the project fixes {k}"),
                (None, true) => "best mean rank".to_owned(),
                (None, false) if any && !large_enough[i] => {
                    format!(
                        "a segment has {:.2} % of the customers, {:.2} % are asked for",
                        100.0 * candidates[i].min_share,
                        100.0 * criteria.min_share
                    )
                }
                (None, false) if scores[i] == scores[chosen] => "as good, with more segments".to_owned(),
                (None, false) => "ranks behind".to_owned(),
            };
            let _ = write!(reason, " (mean rank {:.2})", scores[i]);
            Scored { score: scores[i], chosen: i == chosen, reason }
        })
        .collect())
}

/// The mean rank among equals; what is unknown ranks last.
fn rank(own: Option<f64>, all: impl Iterator<Item = Option<f64>>) -> f64 {
    let own = own.filter(|x| !x.is_nan()).unwrap_or(f64::NEG_INFINITY);
    let (mut better, mut same) = (0.0, 0.0);
    for other in all {
        let other = other.filter(|x| !x.is_nan()).unwrap_or(f64::NEG_INFINITY);
        better += f64::from(u8::from(other > own));
        same += f64::from(u8::from(other == own));
    }
    better + (same + 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(k: usize, silhouette: f64, spread: f64, min_share: f64) -> Candidate {
        Candidate {
            k,
            silhouette,
            calinski_harabasz: 100.0 * silhouette,
            davies_bouldin: 1.0 - silhouette,
            prediction_strength: Some(silhouette),
            min_share,
            objective_spread: Some(spread),
        }
    }

    fn chosen(candidates: &[Candidate], criteria: &Criteria) -> usize {
        let scored = choose(candidates, criteria).expect("there are candidates");
        candidates[scored.iter().position(|s| s.chosen).expect("one is chosen")].k
    }

    #[test]
    fn the_best_mean_rank_wins() {
        let all = [candidate(3, 0.5, 0.3, 0.2), candidate(4, 0.4, 0.6, 0.1), candidate(5, 0.3, 0.5, 0.1)];
        assert_eq!(chosen(&all, &Criteria::default()), 3);
        assert_eq!(chosen(&all, &Criteria { weights: [0.0, 0.0, 0.0, 0.0, 1.0], ..Criteria::default() }), 4);
        assert_eq!(chosen(&all, &Criteria { pinned: Some(5), ..Criteria::default() }), 5);
        assert_eq!(
            choose(&all, &Criteria { pinned: Some(9), ..Criteria::default() }),
            Err(ScorecardError::NoCandidate)
        );
    }

    #[test]
    fn tiny_segments_are_put_aside_unless_nothing_else_is_left() {
        let all = [candidate(3, 0.5, 0.3, 0.001), candidate(4, 0.4, 0.6, 0.1)];
        let criteria = Criteria { min_share: 0.01, ..Criteria::default() };
        assert_eq!(chosen(&all, &criteria), 4);
        assert!(choose(&all, &criteria).expect("there are candidates")[0].reason.starts_with("a segment has 0.10 %"));
        assert_eq!(chosen(&all[..1], &criteria), 3);
    }

    #[test]
    fn ties_go_to_fewer_segments() {
        let all = [candidate(5, 0.4, 0.4, 0.1), candidate(4, 0.4, 0.4, 0.1)];
        assert_eq!(chosen(&all, &Criteria::default()), 4);
    }
}
