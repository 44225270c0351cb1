//! Segments by rule: the scores of customers, and the SQL that says who is in a segment.

use tessera_algo::drift::bin;
use tessera_contract::project::segmentation::{Best, RuleSet, Score};
use tessera_engine::formula::quote;

use crate::scaled::Known;

/// A rule set with the cuts of its scores.
pub(super) struct Scores<'a> {
    rules: &'a RuleSet,
    cuts: Vec<Vec<f64>>,
}

impl<'a> Scores<'a> {
    /// With the cuts of some of the customers, by their rows. None where nobody has a value.
    pub(super) fn of(rules: &'a RuleSet, known: &Known, rows: &[usize]) -> Option<Self> {
        let cuts = rules.scores.values().map(|score| cuts(score, known, rows)).collect::<Option<Vec<_>>>()?;
        Some(Self { rules, cuts })
    }

    /// The segments of some of the customers.
    pub(super) fn labels(&self, known: &Known, rows: &[usize]) -> Vec<u32> {
        let columns: Vec<_> = self.rules.scores.values().map(|score| known.numbers.get(&score.feature)).collect();
        rows.iter()
            .map(|row| {
                let scores: Vec<u32> = (self.rules.scores.values().zip(&self.cuts).zip(&columns))
                    .map(|((score, cuts), column)| of(score, cuts, column.and_then(|column| column[*row])))
                    .collect();
                self.rules.segment(&scores).and_then(|at| u32::try_from(at).ok()).unwrap_or(0)
            })
            .collect()
    }

    /// By segment, SQL over features that says who is in it.
    pub(super) fn conditions(&self) -> Vec<String> {
        let segments = self.rules.segments.values();
        segments
            .map(|of| {
                let parts: Vec<String> = (self.rules.scores.iter().zip(&self.cuts))
                    .filter_map(|((name, score), cuts)| condition(score, cuts, *of.get(name)?))
                    .collect();
                if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") }
            })
            .collect()
    }

    /// The names of the segments.
    pub(super) fn names(&self) -> Vec<String> {
        self.rules.segments.keys().cloned().collect()
    }
}

/// The cuts of a score: its own, or the order statistics of the customers.
fn cuts(score: &Score, known: &Known, rows: &[usize]) -> Option<Vec<f64>> {
    if let Some(cuts) = &score.cuts {
        return Some(cuts.clone());
    }
    let column = known.numbers.get(&score.feature)?;
    let mut values: Vec<f64> = rows.iter().filter_map(|row| column[*row]).collect();
    values.sort_unstable_by(f64::total_cmp);
    let (n, levels) = (values.len(), score.levels() as usize);
    (n > 0).then(|| (1..levels).map(|part| values[(n * part).div_ceil(levels) - 1]).collect())
}

fn of(score: &Score, cuts: &[f64], value: Option<f64>) -> u32 {
    let Some(value) = value else { return 1 };
    let below = u32::try_from(bin(cuts, value)).unwrap_or(0);
    match score.best {
        Best::High => 1 + below,
        Best::Low => score.levels() - below,
    }
}

/// SQL of a score between two; none where any is.
fn condition(score: &Score, cuts: &[f64], (lowest, highest): (u32, u32)) -> Option<String> {
    let levels = score.levels();
    if (lowest, highest) == (1, levels) {
        return None;
    }
    let (fewest, most) = match score.best {
        Best::High => (lowest - 1, highest - 1),
        Best::Low => (levels - highest, levels - lowest),
    };
    let x = format!("CAST({} AS DOUBLE)", quote(&score.feature));
    let above = (fewest > 0).then(|| format!("{x} > {}", number(cuts[fewest as usize - 1])));
    let up_to = (most < levels - 1).then(|| format!("{x} <= {}", number(cuts[most as usize])));
    let between = [above, up_to].into_iter().flatten().collect::<Vec<_>>().join(" AND ");
    // Whoever has no value scores 1.
    Some(if lowest == 1 { format!("({x} IS NULL OR {between})") } else { between })
}

/// SQL that any engine reads back to the same double.
fn number(value: f64) -> String {
    format!("CAST('{value:?}' AS DOUBLE)")
}

#[cfg(test)]
mod tests {
    use tessera_contract::Project;

    use super::*;

    fn rules(best: &str) -> RuleSet {
        let text = format!(
            "[segmentation.rules.mine]\ndescription = \"d\"\nscores.r = {{ feature = \"recency_days\", quantiles = 4, best = \"{best}\" }}\n\
             [segmentation.rules.mine.segments]\ntop = {{ r = [4, 4] }}\nmiddle = {{ r = [2, 3] }}\nrest = {{ r = [1, 1] }}\n"
        );
        Project::load("t", &text, &[]).expect("valid").segmentation.rules["mine"].clone()
    }

    #[test]
    fn customers_score_by_where_they_lie() {
        let values = [Some(1.0), Some(2.0), Some(3.0), Some(4.0), Some(5.0), Some(6.0), Some(7.0), Some(8.0), None];
        let known = Known { numbers: [("recency_days".to_owned(), values.to_vec())].into(), ..Known::default() };
        let all: Vec<usize> = (0..9).collect();
        let (high, low) = (rules("high"), rules("low"));
        let of = |rules| Scores::of(rules, &known, &all).expect("values");
        assert_eq!(of(&high).labels(&known, &all), [2, 2, 1, 1, 1, 1, 0, 0, 2]);
        assert_eq!(of(&low).labels(&known, &all), [0, 0, 1, 1, 1, 1, 2, 2, 2]);
        let x = "CAST(\"recency_days\" AS DOUBLE)";
        assert_eq!(
            of(&low).conditions(),
            [
                format!("{x} <= {}", number(2.0)),
                format!("{x} > {} AND {x} <= {}", number(2.0), number(6.0)),
                format!("({x} IS NULL OR {x} > {})", number(6.0))
            ]
        );
        assert_eq!(of(&high).conditions()[2], format!("({x} IS NULL OR {x} <= {})", number(2.0)));
    }
}
