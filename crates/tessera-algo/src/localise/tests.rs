use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal, Poisson};
use rand_pcg::Pcg64;

use super::*;

/// The cells of all combinations of some dimensions.
fn grid(sizes: &[u32]) -> Vec<Vec<u32>> {
    let cells: u32 = sizes.iter().product();
    let mut below = cells;
    sizes
        .iter()
        .map(|size| {
            below /= size;
            (0..cells).map(|cell| cell / below % size).collect()
        })
        .collect()
}

fn has(dimensions: &[Vec<u32>], cell: usize, pattern: &[(usize, u32)]) -> bool {
    pattern.iter().all(|(dimension, value)| dimensions[*dimension][cell] == *value)
}

fn cube(dimensions: Vec<Vec<u32>>, parts: usize, sums: Sums) -> Cube {
    let unnamed = vec![Vec::new(); dimensions.len()];
    Cube { dimensions, parts, sums, unnamed, strata: None }
}

fn found(cube: &Cube) -> Located {
    locate(std::slice::from_ref(cube), &Settings::default(), 1).remove(0)
}

fn patterns(located: &Located) -> Vec<Vec<(usize, u32)>> {
    located.findings.iter().map(|finding| finding.pattern.clone()).collect()
}

/// Counts whose means are a few hundred, with causes: patterns and what their means are multiplied by.
fn counts(seed: u64, sizes: &[u32], level: f64, causes: &[(&[(usize, u32)], f64)]) -> (Vec<Vec<u32>>, [Vec<f64>; 2]) {
    let mut random = Pcg64::seed_from_u64(seed);
    let dimensions = grid(sizes);
    let wide = LogNormal::new(5.0, 0.8).expect("a distribution");
    let cells = dimensions[0].len();
    let means: Vec<f64> = (0..cells).map(|_| wide.sample(&mut random)).collect();
    let mut draw = |mean: f64| Poisson::new(mean.max(1e-9)).expect("a distribution").sample(&mut random);
    let before = means.iter().map(|mean| draw(*mean)).collect();
    let after = (0..cells)
        .map(|cell| {
            let of = causes.iter().filter(|(pattern, _)| has(&dimensions, cell, pattern));
            draw(means[cell] * level * of.map(|(_, factor)| factor).product::<f64>())
        })
        .collect();
    (dimensions, [before, after])
}

/// Where nothing tells cells apart, all changed by one level.
#[test]
fn a_cell_without_dimensions_is_all() {
    let cube = cube(Vec::new(), 2, Sums::Sum([vec![6.0, 4.0], vec![8.0, 7.0]]));
    let located = found(&cube);
    assert_eq!((located.expected, located.actual, located.level), (10.0, 15.0, 1.5));
    assert_eq!(located.findings, []);
}

/// Segments that people come to and leave have levels of their own: what happened in all of them is found, and in one, with its size, before a segment
/// that changed otherwise than the others.
#[test]
fn strata_have_levels_of_their_own() {
    let everywhere: &[(usize, u32)] = &[(1, 2)];
    let somewhere: &[(usize, u32)] = &[(0, 3), (2, 1)];
    let levels = [0.7, 0.85, 1.0, 1.0, 1.0, 1.0, 1.15, 1.5];
    let strata: Vec<(Vec<(usize, u32)>, f64)> =
        levels.iter().enumerate().map(|(at, level)| (vec![(0, at as u32)], *level)).collect();
    let mut right = 0;
    for seed in 0..20 {
        let mut causes: Vec<(&[(usize, u32)], f64)> = strata.iter().map(|(at, level)| (&at[..], *level)).collect();
        causes.extend([(everywhere, 0.85), (somewhere, 0.6)]);
        let (dimensions, sums) = counts(seed, &[8, 5, 4, 3], 1.0, &causes);
        let is = |cell: usize, pattern: &[(usize, u32)]| has(&dimensions, cell, pattern);
        // What a cause took, of what would have been there without it.
        let lost: Vec<f64> = [(everywhere, 0.85), (somewhere, 0.6)]
            .iter()
            .map(|(pattern, factor)| {
                let came = (0..sums[1].len()).filter(|cell| is(*cell, pattern)).map(|cell| sums[1][cell]);
                came.sum::<f64>() * (1.0 - 1.0 / factor)
            })
            .collect();
        let cube = Cube { strata: Some(0), ..cube(dimensions.clone(), 1, Sums::Sum(sums)) };
        let located = found(&cube);
        let told = patterns(&located);
        let places = told.iter().take_while(|pattern| **pattern != [(0, 0)]).count();
        right += usize::from(told[..2].contains(&everywhere.to_vec()) && told[..2].contains(&somewhere.to_vec()));
        assert!(told.iter().all(|pattern| pattern.iter().any(|at| at.0 != 0) || pattern[0].1 != 4), "{told:?}");
        for (pattern, lost) in [everywhere, somewhere].into_iter().zip(lost) {
            if let Some(finding) = located.findings.iter().find(|finding| finding.pattern == pattern) {
                assert!((finding.contribution() / lost - 1.0).abs() < 0.25, "{} {lost} {seed}", finding.contribution());
            }
        }
        assert!(told.contains(&vec![(0, 7)]) && told.contains(&vec![(0, 0)]) && places >= 2, "{seed} {told:?}");
    }
    assert!(right >= 18, "{right} of 20");
}

/// Cells that were nothing before, here and there, are told as no cause and hide none; a value whose cells all were is one.
#[test]
fn what_was_not_there_before() {
    let one: &[(usize, u32)] = &[(1, 2)];
    for seed in 0..20 {
        let (dimensions, [mut before, after]) = counts(seed, &[6, 5, 4, 3], 1.0, &[(one, 0.6)]);
        (0..7).for_each(|at| before[(at * 53 + seed as usize) % 360] = 0.0);
        let sums = Sums::Sum([before, after]);
        assert_eq!(patterns(&found(&cube(dimensions, 1, sums))), [one.to_vec()], "{seed}");
        let (dimensions, [mut before, after]) = counts(seed, &[6, 5, 4, 3], 1.0, &[]);
        let new: Vec<usize> = (0..360).filter(|cell| dimensions[0][*cell] == 4).collect();
        new.iter().for_each(|cell| before[*cell] = 0.0);
        let sums = Sums::Sum([before, after]);
        assert_eq!(patterns(&found(&cube(dimensions, 1, sums))), [vec![(0, 4)]], "{seed}");
    }
}

#[test]
fn causes_are_found_with_their_size() {
    let one: &[(usize, u32)] = &[(1, 2)];
    let two: &[(usize, u32)] = &[(0, 3), (1, 1)];
    let three: &[(usize, u32)] = &[(0, 1), (1, 0), (2, 2)];
    for (seed, causes) in [
        vec![(one, 0.6)],
        vec![(two, 1.7)],
        vec![(three, 0.2)],
        vec![(one, 0.7), (two, 1.5)],
        vec![(two, 0.5), (three, 2.0)],
        // Two of the five values of a dimension, alike.
        vec![(&[(1, 3)], 0.5), (&[(1, 4)], 0.5)],
        // Alike, and of several dimensions: both have a short name.
        vec![(one, 0.5), (two, 0.5)],
        // Of the same dimensions, and not alike.
        vec![(two, 1.4), (&[(0, 1), (1, 3)], 2.2)],
    ]
    .into_iter()
    .enumerate()
    {
        let (dimensions, sums) = counts(seed as u64, &[6, 5, 4, 3], 1.05, &causes);
        let before = &sums[0];
        let effect = |pattern: &[(usize, u32)], factor: f64| -> f64 {
            let theirs = (0..before.len()).filter(|cell| has(&dimensions, *cell, pattern));
            theirs.map(|cell| 1.05 * (factor - 1.0) * before[cell]).sum()
        };
        let located = found(&cube(dimensions.clone(), 1, Sums::Sum(sums.clone())));
        let mut planted: Vec<_> = causes.iter().map(|(pattern, _)| pattern.to_vec()).collect();
        let mut told = patterns(&located);
        planted.sort();
        told.sort();
        assert_eq!(told, planted, "{seed} {located:?}");
        assert!((located.level - 1.05).abs() < 0.025, "{seed} {located:?}");
        for (pattern, factor) in &causes {
            let of = located.findings.iter().find(|finding| finding.pattern == *pattern).expect("told");
            let share = of.contribution() / effect(pattern, *factor);
            assert!((0.85..1.15).contains(&share), "{seed} {pattern:?} {share} {located:?}");
            assert!(of.q_value < 1e-6 && of.recurrence > 0.9, "{located:?}");
        }
        let sizes: Vec<f64> = located.findings.iter().map(|finding| finding.contribution().abs()).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    }
}

/// Of a ratio, a change of its denominators alone is none of the rate.
#[test]
fn a_rate_that_changed_is_found_whatever_its_denominators_do() {
    let mut random = Pcg64::seed_from_u64(7);
    let dimensions = grid(&[5, 4, 4]);
    let pattern: &[(usize, u32)] = &[(0, 2), (2, 3)];
    let mut draw = |mean: f64| Poisson::new(mean).expect("a distribution").sample(&mut random);
    let (mut before, mut after) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for cell in 0..dimensions[0].len() {
        let grown = if dimensions[1][cell] == 0 { 3.0 } else { 1.0 };
        let rate = if has(&dimensions, cell, pattern) { 0.12 } else { 0.2 };
        let (of, of_after) = (draw(2000.0), draw(2000.0 * grown));
        before[0].push(draw(0.2 * of));
        before[1].push(of);
        after[0].push(draw(rate * of_after));
        after[1].push(of_after);
    }
    let located = found(&cube(dimensions, 1, Sums::Ratio([before, after])));
    assert_eq!(patterns(&located), [pattern.to_vec()], "{located:?}");
    let change = located.findings[0].contribution() / located.findings[0].expected;
    assert!((change + 0.4).abs() < 0.03, "{located:?}");
}

/// People who buy on two nights: everybody is in one cell, and falls into a part.
fn people(seed: u64, (n, sizes): (usize, [u32; 3]), parts: usize, factor: impl Fn(&[u32]) -> f64) -> Cube {
    let mut random = Pcg64::seed_from_u64(seed);
    let dimensions = grid(&sizes);
    let cells = dimensions[0].len();
    let spends = LogNormal::new(3.0, 1.0).expect("a distribution");
    let mut sums = [vec![0.0; cells * parts], vec![0.0; cells * parts]];
    for _ in 0..n {
        let values: Vec<u32> =
            sizes.iter().map(|size| random.random_range(0..*size).min(random.random_range(0..*size))).collect();
        let cell = values.iter().zip(sizes).fold(0, |cell, (value, size)| cell * size as usize + *value as usize);
        let at = cell * parts + random.random_range(0..parts);
        // Half of them buy at all, and every fourth of these otherwise than before.
        if random.random::<f64>() < 0.5 {
            let spent: f64 = spends.sample(&mut random);
            let again = if random.random::<f64>() < 0.25 { spends.sample(&mut random) } else { spent };
            sums[0][at] += spent;
            sums[1][at] += again * factor(&values);
        }
    }
    cube(dimensions, parts, Sums::Sum(sums))
}

/// Many people in few cells, and few in many: a cell then has one of them or two.
const SHOPS: [(usize, [u32; 3]); 2] = [(3000, [4, 3, 5]), (900, [8, 6, 10])];

/// At an error of 5 %, at most that many nights without a change of anything but chance name a cause: of three KPIs together.
#[test]
fn nights_without_a_change_are_silent() {
    let nights = 400;
    let loud = (0..nights).filter(|night| {
        let shop = SHOPS[(*night % 2) as usize];
        let cubes: Vec<Cube> = (0..3).map(|kpi| people(*night * 10 + kpi, shop, 32, |_| 1.0)).collect();
        locate(&cubes, &Settings::default(), 1).iter().any(|located| !located.findings.is_empty())
    });
    let loud = loud.count();
    assert!(loud <= nights as usize / 20, "{loud} of {nights}");
    let cells = (0..200).filter(|seed| {
        let (dimensions, sums) = counts(1000 + seed, &[6, 5, 4], 0.97, &[]);
        !found(&cube(dimensions, 1, Sums::Sum(sums))).findings.is_empty()
    });
    let cells = cells.count();
    assert!(cells <= 10, "{cells} of 200");
}

/// Some order for a hundred times what others do: what all of them do otherwise is found, and chance is not.
#[test]
fn orders_of_all_sizes_say_as_much() {
    let of = |seed: u64, factor: f64| {
        let mut cube = people(seed, SHOPS[0], 64, |values| if values[2] == 1 { factor } else { 1.0 });
        if let Sums::Sum(nights) = &mut cube.sums {
            for night in nights {
                for (spent, kind) in night.chunks_mut(64).zip(&cube.dimensions[0]) {
                    spent.iter_mut().for_each(|spent| *spent *= 5_f64.powi(*kind as i32));
                }
            }
        }
        found(&cube)
    };
    let loud = (0..200).filter(|seed| !of(*seed, 1.0).findings.is_empty()).count();
    assert!(loud <= 10, "{loud} of 200");
    let right = (0..40).filter(|seed| patterns(&of(*seed, 0.75)) == [vec![(2, 1)]]).count();
    assert!(right >= 30, "{right} of 40");
}

#[test]
fn what_people_do_otherwise_in_a_cell_is_found() {
    for seed in 0..10 {
        let cube = people(seed, SHOPS[0], 32, |values| if values[0] == 1 && values[1] == 0 { 0.4 } else { 1.0 });
        let located = found(&cube);
        assert_eq!(patterns(&located), [vec![(0, 1), (1, 0)]], "{seed} {located:?}");
        assert!(located.findings[0].recurrence > 0.5, "{located:?}");
        // Of nine hundred, a quarter buys hardly anything, whatever else tells them apart.
        let cube = people(seed, SHOPS[1], 32, |values| if values[0] == 0 { 0.2 } else { 1.0 });
        let located = found(&cube);
        assert_eq!(patterns(&located), [vec![(0, 0)]], "{seed} {located:?}");
    }
}

/// What a few are behind is not named, and neither is what leaves a few out; nor are values that are several together.
#[test]
fn nobody_is_named() {
    let change = |values: &[u32]| if values[0] == 1 && values[1] == 0 { 0.4 } else { 1.0 };
    let everything = people(5, SHOPS[0], 64, change);
    let all = locate(std::slice::from_ref(&everything), &Settings::default(), 1).remove(0);
    assert_eq!(patterns(&all), [vec![(0, 1), (1, 0)]], "{all:?}");
    let many = Settings { fewest: 65, ..Settings::default() };
    let few = locate(std::slice::from_ref(&everything), &many, 1).remove(0);
    assert!(few.findings.is_empty(), "{few:?}");
    let mut hidden = everything;
    hidden.unnamed[0].push(1);
    let hidden = found(&hidden);
    assert!(
        hidden.findings.iter().flat_map(|finding| &finding.pattern).all(|condition| *condition != (0, 1)),
        "{hidden:?}"
    );
    // In a cube of two countries, one of few, the other is everybody but these.
    let sums = [vec![9.0, 8.0, 7.0, 9.0, 0.0, 1.0, 0.0, 0.0], vec![5.0, 4.0, 2.0, 3.0, 0.0, 2.0, 0.0, 0.0]];
    let rest = cube(vec![vec![0, 1], vec![0, 0]], 4, Sums::Sum(sums));
    for (fewest, named) in [(1, [true, true]), (2, [false, false])] {
        let mut cuboids = Cuboid::all(&rest.dimensions, 3, 100);
        cuboid::name(&mut cuboids, &rest, &rest.sums.marks(), fewest);
        assert_eq!(cuboids[0].named, named, "{fewest}");
    }
}

/// The fifteen p-values of the paper's example, and what R's `p.adjust` makes of them.
#[test]
fn the_error_is_that_of_benjamini_and_hochberg() {
    let p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ];
    let q = significance::adjusted(&p);
    let r = [
        0.0015, 0.003, 0.0095, 0.035_625, 0.0603, 0.063_857, 0.063_857, 0.0645, 0.0765, 0.486, 0.581_182, 0.714_875,
        0.753_231, 0.813_214, 1.0,
    ];
    assert!(q.iter().zip(r).all(|(q, r)| (q - r).abs() < 1e-6), "{q:?}");
    // The paper rejects four at 0.05.
    assert_eq!(q.iter().filter(|q| **q <= 0.05).count(), 4);
    assert!(significance::adjusted(&[]).is_empty());
}

#[test]
fn cubes_of_nothing_say_nothing() {
    let nothing = cube(vec![vec![], vec![]], 1, Sums::Sum([vec![], vec![]]));
    assert!(found(&nothing).findings.is_empty());
    let zeros = cube(grid(&[2, 2]), 2, Sums::Sum([vec![0.0; 8], vec![0.0; 8]]));
    assert!(found(&zeros).findings.is_empty());
    let unseen = cube(grid(&[2, 2]), 1, Sums::Sum([vec![0.0; 4], vec![1.0, 2.0, 3.0, 4.0]]));
    assert!(found(&unseen).findings.is_empty());
    let ratio = cube(grid(&[2]), 1, Sums::Ratio([[vec![0.0; 2], vec![0.0; 2]], [vec![1.0; 2], vec![2.0; 2]]]));
    assert!(found(&ratio).findings.is_empty());
    assert!(locate(&[], &Settings::default(), 1).is_empty());
}

/// Strata of a part of which nothing is left, by chance or because a cause has all of it, say nothing wrong.
#[test]
fn strata_of_nothing() {
    for seed in 0..2000_u64 {
        let mut random = Pcg64::seed_from_u64(seed);
        let dimensions = grid(&[random.random_range(1..5), random.random_range(1..4), random.random_range(1..3)]);
        let parts = [1, 2, 40][random.random_range(0..3)];
        let cells = dimensions[0].len() * parts;
        let nothing = random.random_range(0.0..1.0);
        let mut draw = || -> Vec<f64> {
            let mut one = |_| if random.random_bool(nothing) { 0.0 } else { f64::from(random.random_range(-2..100)) };
            (0..cells).map(&mut one).collect()
        };
        let sums = match seed % 2 {
            0 => Sums::Sum([draw(), draw()]),
            _ => Sums::Ratio([[draw(), draw()], [draw(), draw()]]),
        };
        let located = found(&Cube { strata: Some(0), ..cube(dimensions, parts, sums) });
        assert!(located.level.is_finite() && located.findings.iter().all(|f| f.contribution().is_finite()), "{seed}");
    }
}

proptest! {
    /// Whatever the cells are, what is told of them is finite, adds up, and does not depend on their order nor on the number of threads.
    #[test]
    fn the_order_of_cells_is_nothing(
        cells in prop::collection::btree_map((0_u32..4, 0_u32..5, 0_u32..3), (-50_i32..500, -50_i32..500), 1..60),
        parts in 1_usize..4,
        by in 1_usize..50,
    ) {
        let cells: Vec<(u32, u32, u32, i32, i32)> = cells.into_iter().map(|((a, b, c), (x, y))| (a, b, c, x, y)).collect();
        let of = |cells: &[(u32, u32, u32, i32, i32)]| {
            let dimensions = vec![
                cells.iter().map(|c| c.0).collect(),
                cells.iter().map(|c| c.1).collect(),
                cells.iter().map(|c| c.2).collect(),
            ];
            let spread = |value: i32| (0..parts).map(move |part| f64::from(value + part as i32));
            let sums = [cells.iter().flat_map(|c| spread(c.3)).collect(), cells.iter().flat_map(|c| spread(c.4)).collect()];
            cube(dimensions, parts, Sums::Sum(sums))
        };
        let mut turned = cells.clone();
        let by = by % turned.len();
        turned.rotate_left(by);
        let all = [of(&cells), of(&turned)];
        let located = locate(&all, &Settings::default(), 2);
        prop_assert_eq!(&located, &locate(&all, &Settings::default(), 1));
        prop_assert_eq!(patterns(&located[0]), patterns(&located[1]));
        for finding in &located[0].findings {
            prop_assert!(finding.contribution().is_finite() && (0.0..=1.0).contains(&finding.q_value));
            prop_assert!((0.0..=1.0).contains(&finding.recurrence));
        }
        let told: f64 = located[0].findings.iter().map(|finding| finding.actual).sum();
        prop_assert!(told.is_finite() && located[0].level.is_finite());
    }
}
