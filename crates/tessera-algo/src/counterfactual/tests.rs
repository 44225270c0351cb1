use proptest::prelude::*;

use super::*;

fn centroids(rows: &[Vec<f64>]) -> Centroids {
    Centroids::new(rows.len(), rows[0].len(), rows.concat()).expect("finite")
}

fn applied(customer: &[f64], found: &Counterfactual) -> Vec<f64> {
    let mut customer = customer.to_vec();
    for one in &found.moves {
        assert_eq!(customer[one.axis], one.from);
        customer[one.axis] = one.to;
    }
    customer
}

/// A customer, centroids and lists of allowed values of three axes.
fn lists() -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>)> {
    let x = || prop_oneof![(-4..5_i32).prop_map(f64::from), -4.0..4.0_f64];
    let row = || prop::collection::vec(x(), 3);
    let list = prop::collection::vec(x(), 0..7).prop_map(|mut values| {
        values.sort_by(f64::total_cmp);
        values
    });
    (row(), prop::collection::vec(row(), 2..6), prop::collection::vec(list, 3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Lists can be gone through in full: no other change is of fewer axes, or of as many and smaller.
    #[test]
    fn of_lists_it_is_the_best_of_all((customer, rows, lists) in lists(), any in any::<bool>(), which in 0..6_usize) {
        let centroids = centroids(&rows);
        let free: Vec<Free<'_>> = lists.iter().map(|list| Free::Among(list)).collect();
        let target = if any { Target::Other(nearest(&customer, &centroids)) } else { Target::Segment(which % rows.len()) };
        let there = |id: usize| match target { Target::Segment(to) => id == to, Target::Other(from) => id != from };
        let found = smallest(&customer, &centroids, &free, target, 3).expect("fits");
        let mut best: Option<(usize, f64)> = there(nearest(&customer, &centroids)).then_some((0, 0.0));
        let stay = |axis: usize| std::iter::once(None).chain(lists[axis].iter().copied().map(Some));
        for a in stay(0) { for b in stay(1) { for c in stay(2) {
            let moves = [a, b, c];
            let to: Vec<f64> = moves.iter().zip(&customer).map(|(to, x)| to.unwrap_or(*x)).collect();
            if there(nearest(&to, &centroids)) {
                let one = (moves.iter().flatten().count(), squared_distance(&to, &customer));
                if best.is_none_or(|best| one.0 < best.0 || (one.0 == best.0 && one.1 < best.1)) { best = Some(one); }
            }
        } } }
        prop_assert_eq!(found.is_some(), best.is_some());
        if let (Some(found), Some((axes, squared))) = (found, best) {
            prop_assert!(there(nearest(&applied(&customer, &found), &centroids)));
            prop_assert_eq!(nearest(&applied(&customer, &found), &centroids), found.segment);
            prop_assert_eq!(found.moves.len(), axes);
            prop_assert!((found.distance - squared.sqrt()).abs() < 1e-9, "{} {}", found.distance, squared.sqrt());
        }
    }

    /// Of any numbers, no point of a grid is nearer, on as many axes, or does it on fewer.
    #[test]
    fn of_any_numbers_no_point_of_a_grid_is_better(
        (customer, rows, lists) in lists(), bounds in prop::collection::vec((-4.0..2.0_f64, 0.0..4.0_f64), 3), kinds in prop::array::uniform3(0..4_i32), which in 0..6_usize,
    ) {
        let centroids = centroids(&rows);
        let free: Vec<Free<'_>> = (0..3).map(|axis| match kinds[axis] {
            0 => Free::Fixed,
            1 => Free::Among(&lists[axis]),
            _ => Free::Within(bounds[axis].0, bounds[axis].0 + bounds[axis].1),
        }).collect();
        let wanted = (nearest(&customer, &centroids) + 1 + which % (rows.len() - 1)) % rows.len();
        let found = smallest(&customer, &centroids, &free, Target::Segment(wanted), 3).expect("fits");
        let axes = found.as_ref().map_or(3, |found| found.moves.len());
        if let Some(found) = &found {
            prop_assert_eq!(nearest(&applied(&customer, found), &centroids), wanted);
            for one in &found.moves {
                let allowed = match free[one.axis] {
                    Free::Fixed => false,
                    Free::Within(low, high) => low <= one.to && one.to <= high,
                    Free::Among(values) => values.contains(&one.to),
                };
                prop_assert!(allowed);
            }
        }
        // The grid asks a little more than it takes, as a point found lies a hair beyond the boundary.
        let does = |to: &[f64]| {
            let own = squared_distance(to, &rows[wanted]);
            (0..rows.len()).all(|id| id == wanted || squared_distance(to, &rows[id]) - own > 1e-6)
        };
        let stay = |axis: usize| -> Vec<Option<f64>> {
            let steps: Vec<f64> = match free[axis] {
                Free::Fixed => vec![],
                Free::Among(values) => values.to_vec(),
                Free::Within(low, high) => (0..=24).map(|i| low + (high - low) * f64::from(i) / 24.0).collect(),
            };
            std::iter::once(None).chain(steps.into_iter().map(Some)).collect()
        };
        let grid = [stay(0), stay(1), stay(2)];
        for a in &grid[0] { for b in &grid[1] { for c in &grid[2] {
            let moves = [a, b, c];
            let n = moves.iter().filter(|m| m.is_some()).count();
            if n > axes { continue; }
            let to: Vec<f64> = moves.iter().zip(&customer).map(|(to, x)| to.unwrap_or(*x)).collect();
            if does(&to) {
                let distance = squared_distance(&to, &customer).sqrt();
                let found = found.as_ref().expect("there is one");
                prop_assert!(n == axes && distance >= found.distance - 1e-6, "{:?} {} {:?}", to, distance, found);
            }
        } } }
    }
}

#[test]
fn the_boundary_that_binds_is_met() {
    // On the way from the first to the third lies the second: half way is not enough.
    let centroids = centroids(&[vec![0.0, 0.0], vec![2.0, 0.0], vec![4.0, 0.0]]);
    let any = [Free::Within(-9.0, 9.0); 2];
    let found = smallest(&[0.5, 0.0], &centroids, &any, Target::Segment(2), 3).expect("fits").expect("there is one");
    assert_eq!((found.segment, found.moves.len(), found.moves[0].axis), (2, 1, 0));
    assert!((found.moves[0].to - 3.0).abs() < 1e-7 && (found.distance - 2.5).abs() < 1e-7);
    let other = smallest(&[0.5, 0.0], &centroids, &any, Target::Other(0), 3).expect("fits").expect("there is one");
    assert!(other.segment == 1 && (other.distance - 0.5).abs() < 1e-7);
    // On the boundary the lower number is nearer, so a step of a list on it does for the lower and not for the higher.
    let steps = [1.0, 3.0, 3.5];
    let step = |from: f64, to| {
        let free = [Free::Among(&steps), Free::Fixed];
        smallest(&[from, 0.0], &centroids, &free, Target::Segment(to), 3).expect("fits").map(|found| found.moves[0].to)
    };
    assert_eq!([step(0.5, 2), step(4.0, 1), step(4.0, 0)], [Some(3.5), Some(3.0), Some(1.0)]);
    // Out of bounds, or nothing free, there is none; who is there has nothing to do.
    let near = [Free::Within(-1.0, 2.9), Free::Within(-9.0, 9.0)];
    assert_eq!(smallest(&[0.5, 0.0], &centroids, &near, Target::Segment(2), 3), Ok(None));
    assert_eq!(smallest(&[0.5, 0.0], &centroids, &any, Target::Segment(2), 0), Ok(None));
    let there = Counterfactual { segment: 0, moves: vec![], distance: 0.0 };
    assert_eq!(smallest(&[0.5, 0.0], &centroids, &any, Target::Segment(0), 3), Ok(Some(there)));
}

#[test]
fn two_axes_where_one_is_not_enough() {
    let centroids = centroids(&[vec![0.0; 4], vec![2.0, 2.0, 0.0, 0.0]]);
    let free = [Free::Within(-1.0, 1.5), Free::Within(-1.0, 1.5), Free::Within(-9.0, 9.0), Free::Fixed];
    let found = smallest(&[0.0; 4], &centroids, &free, Target::Segment(1), 3).expect("fits").expect("there is one");
    assert_eq!(found.moves.iter().map(|m| m.axis).collect::<Vec<_>>(), [0, 1]);
    assert!(found.moves.iter().all(|m| (m.to - 1.0).abs() < 1e-7) && (found.distance - 2.0_f64.sqrt()).abs() < 1e-7);
    assert_eq!(smallest(&[0.0; 4], &centroids, &free, Target::Segment(1), 1), Ok(None));
}

#[test]
fn what_is_no_question_is_refused() {
    let centroids = centroids(&[vec![0.0], vec![1.0]]);
    let ask =
        |customer: &[f64], free: &[Free<'_>], to| smallest(customer, &centroids, free, Target::Segment(to), 3).err();
    let shape = Some(CounterfactualError::Shape { dims: 1, k: 2 });
    assert_eq!(ask(&[0.0, 1.0], &[Free::Fixed], 1), shape);
    assert_eq!(ask(&[0.0], &[], 1), shape);
    assert_eq!(ask(&[0.0], &[Free::Fixed], 2), shape);
    for free in
        [Free::Within(1.0, 0.0), Free::Within(0.0, f64::NAN), Free::Among(&[2.0, 1.0]), Free::Among(&[f64::NAN])]
    {
        assert_eq!(ask(&[0.0], &[free], 1), Some(CounterfactualError::Axis { axis: 0 }));
    }
    assert_eq!(ask(&[f64::NAN], &[Free::Fixed], 1), Some(CounterfactualError::Axis { axis: 0 }));
}
