use proptest::prelude::*;

use super::*;

/// The gain of parting rows, as the definition has it.
fn gain(rows: &[(Vec<f64>, u32, f64)], left: impl Fn(&[f64]) -> bool, least: f64, fewest: usize) -> Option<f64> {
    let impurity = |side: Option<bool>| {
        let mut counts = [0.0; 4];
        let mut n = 0;
        for (row, segment, weight) in rows {
            if side.is_none_or(|side| left(row) == side) {
                counts[*segment as usize] += weight;
                n += 1;
            }
        }
        let all: f64 = counts.iter().sum();
        let gini = 1.0 - counts.iter().map(|c| (c / all).powi(2)).sum::<f64>();
        (side.is_none() || (all >= least && all > 0.0 && n >= fewest)).then_some(all * gini)
    };
    Some(impurity(None)? - impurity(Some(true))? - impurity(Some(false))?)
}

/// Every way to part the rows by a column: the largest gain.
fn exhaustive(rows: &[(Vec<f64>, u32, f64)], least: f64, fewest: usize) -> f64 {
    let mut best = 0.0_f64;
    for column in 0..rows[0].0.len() {
        let values = rows.iter().map(|row| row.0[column]).filter(|x| !x.is_nan());
        for t in values.chain([f64::INFINITY]) {
            for missing in [false, true] {
                let left = |row: &[f64]| if row[column].is_nan() { missing } else { row[column] <= t };
                best = best.max(gain(rows, left, least, fewest).unwrap_or(0.0));
            }
        }
    }
    best
}

type Row = (Vec<f64>, u32, f64);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![4 => (-3..4_i32).prop_map(f64::from), 1 => Just(f64::NAN), 1 => -2.0..2.0_f64];
    let weight = prop_oneof![3 => Just(1.0), 1 => (0..5_i32).prop_map(f64::from), 1 => 0.1..3.0_f64];
    prop::collection::vec((prop::collection::vec(value, 3), 0..4_u32, weight), 2..40)
}

proptest! {
    #[test]
    fn the_first_split_is_the_best_of_all(rows in rows(), fewest in 1..5_usize, share in 0.0..0.2_f64) {
        let columns: Vec<Vec<f64>> = (0..3).map(|c| rows.iter().map(|row| row.0[c]).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let segments: Vec<u32> = rows.iter().map(|row| row.1).collect();
        let weights: Vec<f64> = rows.iter().map(|row| row.2).collect();
        let total: f64 = weights.iter().sum();
        prop_assume!(total > 0.0);
        let of = Rows { columns: &columns, segments: &segments, weights: Some(&weights) };
        let settings = Settings { fewest: fewest as u64, share, ..Settings::default() };
        let (mut grower, _) = Grower::new(&of, &settings).expect("there are rows");
        let counts = grower.counts(&grower.columns[0].entries);
        let at = 0..rows.len();
        let best = grower.best(&at, &counts);
        // In the units in which weights are whole numbers.
        let unit = counts.iter().sum::<i64>() as f64 / total;
        let least = grower.least as f64 / unit * (1.0 - 1e-9);
        let expect = exhaustive(&rows, least, fewest);
        let found = best.map_or(0.0, |cut| cut.gain / unit);
        prop_assert!((found - expect).abs() <= 1e-6 * total, "{found} {expect}");
        if let Some(cut) = best {
            // The threshold makes the same two sides, and says what the cut gains.
            let threshold = (!cut.known).then(|| grower.threshold(&at, &cut));
            let left = |row: &[f64]| if row[cut.column].is_nan() { cut.missing_left } else { threshold.is_none_or(|t| row[cut.column] <= t) };
            let of_it = gain(&rows, left, 0.0, fewest).expect("enough on either side");
            prop_assert!((of_it - expect).abs() <= 1e-6 * total);
            let lefts = grower.part(&at, &cut, threshold);
            prop_assert_eq!(lefts, rows.iter().filter(|row| left(&row.0)).count());
            for column in &grower.columns {
                let (a, b) = column.entries.split_at(lefts);
                prop_assert!(a.is_sorted_by_key(|e| e.rank) && b.is_sorted_by_key(|e| e.rank));
                prop_assert!(a.iter().all(|e| left(&rows[e.row as usize].0)) && b.iter().all(|e| !left(&rows[e.row as usize].0)));
            }
        }
    }
}
