//! Choosing among ways to segment: several indices, because any one of them alone misleads.
//!
//! Silhouette and Calinski–Harabasz often prefer two clusters, which helps nobody; the spread of what the project is after prefers
//! many. Each index of a candidate is taken as a share of the best candidate's, and the score is their weighted mean: 1 is best in
//! everything. Of candidates that are nearly as good, the one with the most segments is chosen that is predicted: Tibshirani & Walther
//! take the largest number with a prediction strength of 0.8, beyond which more strength says nothing. A candidate that the gates would hold is put aside while another passes them. The model that is in use stays, unless
//! another is better by more than a declared margin: what is nearly equal does not change from night to night.

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
    /// The share of the objective's variance that the segments explain; more is better.
    pub objective_spread: Option<f64>,
    /// Whether the project's own choices leave it in the field.
    pub allowed: bool,
    /// What it would be held for, if anything.
    pub fails: Option<String>,
    /// Whether it is the model that is in use.
    pub incumbent: bool,
}

/// The weights of silhouette, Calinski–Harabasz, Davies–Bouldin, prediction strength and objective spread.
pub const WEIGHTS: [f64; 5] = [1.0, 1.0, 1.0, 1.0, 2.0];

/// The prediction strength from which on clusters are predicted (Tibshirani & Walther 2005).
const PREDICTED: f64 = 0.8;
/// Scores that are no farther apart are nearly the same.
const NEAR: f64 = 0.01;

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// From 0 to 1; more is better.
    pub score: f64,
    /// Whether it is the one.
    pub chosen: bool,
    /// Why, or why not, in words.
    pub reason: String,
}

/// The indices on scales from 0 on, on which more is better.
fn useful(candidate: &Candidate) -> [f64; 5] {
    let known = |x: f64| if x.is_nan() { 0.0 } else { x.clamp(0.0, f64::MAX) };
    [
        known(candidate.silhouette),
        known(candidate.calinski_harabasz),
        // From 1 where segments touch nowhere down to 0.
        known(1.0 / (1.0 + candidate.davies_bouldin)),
        known(candidate.prediction_strength.unwrap_or(0.0)).min(PREDICTED),
        known(candidate.objective_spread.unwrap_or(0.0)),
    ]
}

/// Scores the candidates and chooses one: the best of those allowed that pass the gates, of those allowed if none does; among those that are
/// predicted and nearly as good, the one with the most segments. Ties go to fewer segments, then to the one named first. None of none that is
/// allowed is chosen.
#[must_use]
pub fn choose(candidates: &[Candidate], margin: f64) -> Vec<Scored> {
    let all: Vec<[f64; 5]> = candidates.iter().map(useful).collect();
    let passes = |at: &usize| candidates[*at].allowed && candidates[*at].fails.is_none();
    let field: Vec<usize> = match (0..candidates.len()).any(|at| passes(&at)) {
        true => (0..candidates.len()).filter(passes).collect(),
        false => (0..candidates.len()).filter(|at| candidates[*at].allowed).collect(),
    };
    // Of the field: what one that is put aside is best in sets no measure.
    let most: Vec<f64> = (0..5).map(|i| field.iter().map(|at| all[*at][i]).fold(0.0, f64::max)).collect();
    let total: f64 = (0..5).filter(|i| most[*i] > 0.0).map(|i| WEIGHTS[i]).sum();
    let score = |own: &[f64; 5]| {
        let parts = (0..5).filter(|i| most[*i] > 0.0).map(|i| WEIGHTS[i] * (own[i] / most[i]).min(1.0));
        if total > 0.0 { parts.sum::<f64>() / total } else { 0.0 }
    };
    let scores: Vec<f64> = all.iter().map(score).collect();
    let best = field
        .iter()
        .copied()
        .min_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(candidates[*a].k.cmp(&candidates[*b].k)).then(a.cmp(b)));
    let predicted = |at: &usize| candidates[*at].prediction_strength.is_some_and(|strength| strength >= PREDICTED);
    let near = |at: &usize| best.is_some_and(|best| scores[*at] >= scores[best] - NEAR);
    let finest = (field.iter().copied().filter(|at| predicted(at) && near(at)))
        .min_by(|a, b| candidates[*b].k.cmp(&candidates[*a].k).then(scores[*b].total_cmp(&scores[*a])).then(a.cmp(b)));
    let leader = match (best, finest) {
        (Some(best), Some(finest)) if candidates[finest].k > candidates[best].k => Some(finest),
        _ => best,
    };
    let incumbent = field.iter().copied().find(|at| candidates[*at].incumbent);
    let stays = incumbent.filter(|at| leader.is_some_and(|leader| scores[leader] <= scores[*at] + margin));
    let chosen = stays.or(leader);
    (candidates.iter().enumerate())
        .map(|(at, candidate)| {
            let reason = match (&candidate.fails, Some(at) == chosen) {
                (None, true) if stays.is_some() && stays != leader => {
                    "in use, and none is better by more than the margin"
                }
                (None, true) if leader != best => "nearly the best score, with more segments that are predicted",
                (None, true) => "best score",
                (Some(why), true) => &format!("of those that are left all fail; this one: {why}"),
                (_, false) if !candidate.allowed => "the project fixes another",
                (Some(why), false) => why,
                (None, false) if stays.is_some() && best == Some(at) => {
                    "better than the one in use, by less than the margin"
                }
                (None, false) if chosen.is_some_and(|c| scores[c] == scores[at]) => {
                    "as good; fewer segments, or what is named first, go before"
                }
                (None, false) if chosen.is_some_and(|c| scores[c] < scores[at]) => {
                    "nearly as good, with fewer segments"
                }
                (None, false) => "scores less",
            };
            Scored { score: scores[at], chosen: Some(at) == chosen, reason: reason.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(k: usize, silhouette: f64, spread: f64) -> Candidate {
        Candidate {
            k,
            silhouette,
            calinski_harabasz: 100.0 * silhouette,
            davies_bouldin: 1.0 - silhouette,
            prediction_strength: Some(silhouette),
            objective_spread: Some(spread),
            allowed: true,
            fails: None,
            incumbent: false,
        }
    }

    fn chosen(candidates: &[Candidate], margin: f64) -> Option<usize> {
        choose(candidates, margin).iter().position(|scored| scored.chosen)
    }

    #[test]
    fn the_best_share_of_the_best_wins() {
        let all = [candidate(3, 0.5, 0.3), candidate(4, 0.45, 0.6), candidate(5, 0.3, 0.5)];
        let scored = choose(&all, 0.0);
        assert_eq!(scored.iter().map(|s| s.chosen).collect::<Vec<_>>(), [false, true, false]);
        assert!((scored[0].score - (4.0 + 2.0 * 0.5) / 6.0).abs() < 1e-12, "{scored:?}");
        // Whoever is put aside sets no measure, and is at most as good.
        let mut two = [candidate(4, 0.4, 0.4), candidate(3, 0.8, 0.8)];
        two[1].fails = Some("too small".into());
        assert_eq!(choose(&two, 0.0).iter().map(|s| s.score).collect::<Vec<_>>(), [1.0, 1.0]);
        let pinned: Vec<Candidate> = all.iter().map(|c| Candidate { allowed: c.k == 5, ..c.clone() }).collect();
        assert_eq!(chosen(&pinned, 0.0), Some(2));
        assert_eq!(chosen(&[], 0.0), None);
    }

    #[test]
    fn what_the_gates_would_hold_is_put_aside_unless_nothing_else_is_left() {
        let mut all = [candidate(3, 0.5, 0.6), candidate(4, 0.4, 0.5)];
        all[0].fails = Some("a segment has 0.10 % of the customers".into());
        assert_eq!(chosen(&all, 0.0), Some(1));
        assert!(choose(&all, 0.0)[0].reason.starts_with("a segment has 0.10 %"));
        assert_eq!(chosen(&all[..1], 0.0), Some(0));
    }

    #[test]
    fn of_nearly_equal_ones_the_finest_that_is_predicted_is_chosen() {
        let of = |k: usize, silhouette: f64, strength: f64| Candidate {
            prediction_strength: Some(strength),
            ..candidate(k, silhouette, 0.5)
        };
        let all = [of(5, 0.500, 0.95), of(7, 0.499, 0.85), of(9, 0.499, 0.4), of(10, 0.40, 0.9)];
        assert_eq!(chosen(&all, 0.0), Some(1));
        let told: Vec<String> = choose(&all, 0.0).into_iter().map(|scored| scored.reason).collect();
        assert_eq!(told[0], "nearly as good, with fewer segments");
        assert_eq!(told[1], "nearly the best score, with more segments that are predicted");
        assert_eq!(chosen(&[of(5, 0.500, 0.7), of(7, 0.499, 0.7)], 0.0), Some(0));
    }

    #[test]
    fn ties_go_to_fewer_segments() {
        assert_eq!(chosen(&[candidate(5, 0.4, 0.4), candidate(4, 0.4, 0.4)], 0.0), Some(1));
    }

    #[test]
    fn the_one_in_use_stays_unless_another_is_better_by_the_margin() {
        let mut all = [candidate(4, 0.40, 0.40), candidate(5, 0.41, 0.41)];
        all[0].incumbent = true;
        assert_eq!(chosen(&all, 0.05), Some(0));
        assert_eq!(choose(&all, 0.05)[1].reason, "better than the one in use, by less than the margin");
        assert_eq!(chosen(&all, 0.0), Some(1));
        all[0].fails = Some("too small".into());
        assert_eq!(chosen(&all, 0.05), Some(1));
    }
}
