use proptest::prelude::*;

use super::*;

fn groups(people: &[i64]) -> Vec<bool> {
    hidden(people, 5).groups
}

fn sum(people: impl Into<Vec<i64>>) -> Sum {
    Sum { people: people.into(), rank: 0 }
}

#[test]
fn one_small_group_takes_a_second_with_it() {
    assert_eq!(groups(&[60, 37, 3]), [false, true, true]);
}

#[test]
fn two_small_groups_hide_one_another_only_if_they_are_enough() {
    assert_eq!(groups(&[93, 4, 3]), [false, true, true]);
    assert_eq!(groups(&[93, 40, 1, 1]), [false, true, true, true]);
}

#[test]
fn an_empty_group_discloses_nobody() {
    assert_eq!(groups(&[90, 0]), [false, false]);
    assert_eq!(groups(&[90, 0, 2]), [true, false, true]);
    assert_eq!(hidden(&[0, 0], 5), Hidden { groups: vec![false, false], total: false });
}

/// Of 100 customers 98 came back, of 50 all did: the 2 who did not are not told, nor what with the total would tell them.
#[test]
fn a_difference_of_few_hides_the_smaller_sum() {
    let apart = Apart { sums: [0, 1], people: vec![2, 0, 9] };
    let found = hidden_together(&[sum([100, 50, 30]), sum([98, 50, 21])], &[apart], &[], &[], &[], 5);
    assert_eq!(found[0], Hidden { groups: vec![false; 3], total: false });
    assert_eq!(found[1], Hidden { groups: vec![true, false, true], total: false });
}

/// Of two groups that stay who they are, one spends more through 2 people: it is hidden, and with it the other, or the two would
/// follow from the total, which changes by these 2.
#[test]
fn what_few_changed_is_hidden_on_the_later_night() {
    let mut moves = Moves::new(2, 2);
    (0..60).for_each(|_| moves.add(Some(0), Some(0), [3, 3]));
    (0..2).for_each(|_| moves.add(Some(0), Some(0), [3, 4]));
    (0..40).for_each(|_| moves.add(Some(1), Some(1), [1, 1]));
    let before = Hidden { groups: vec![false, false], total: false };
    let night = |moves: &Moves| [Published { sum: 0, hidden: before.clone(), moves: moves.clone() }];
    let found = hidden_together(&[sum([62, 40])], &[], &[], &[], &night(&moves), 5);
    assert_eq!(found[0], Hidden { groups: vec![true, false], total: true });
    (0..5).for_each(|_| moves.add(Some(1), Some(1), [1, 2]));
    let found = hidden_together(&[sum([62, 45])], &[], &[], &[], &night(&moves), 5);
    assert_eq!(found[0], Hidden { groups: vec![true, true], total: false });
    (0..3).for_each(|_| moves.add(Some(0), Some(0), [1, 2]));
    let found = hidden_together(&[sum([65, 45])], &[], &[], &[], &night(&moves), 5);
    assert_eq!(found[0], before);
}

/// Of 92 people 90 are in two campaigns; the other two follow, unless a campaign of enough goes with them. A campaign in which nobody of
/// the group is hides nothing.
#[test]
fn what_is_left_of_a_whole_is_of_enough() {
    let sums = || [sum([92, 101]), sum([50, 50]), sum([40, 40]), sum([2, 6]), sum([0, 5])];
    let parts = [Parts { whole: 0, parts: vec![1, 2, 3, 4] }];
    let found = hidden_together(&sums(), &[], &[], &parts, &[], 5);
    let hidden = |group: usize| found.iter().map(|h| h.groups[group]).collect::<Vec<_>>();
    assert_eq!(hidden(0), [false, false, true, true, false]);
    // What is hidden of the third in one group would follow from its total and the other group.
    assert!(found[3].groups[1] || found[3].total);
    assert!(!found[0].total);
}

#[test]
fn a_total_of_few_is_hidden_with_all_that_makes_it_up() {
    assert_eq!(hidden(&[1, 2, 0], 5), Hidden { groups: vec![true, true, false], total: true });
}

proptest! {
    /// However people's values are, no sum over any groups that can be computed from what is told is of few people, nor is a
    /// difference of two such sums. What can be computed: told groups, and the told total less told groups.
    #[test]
    fn no_difference_of_few_can_be_computed(
        values in proptest::collection::vec((0_usize..4, proptest::array::uniform3(0_i64..3)), 0..60),
        ranks in proptest::array::uniform4(0_u8..2),
        k in 1_u64..8,
    ) {
        // The last is always the sum of the first two.
        let values: Vec<(usize, [i64; 4])> =
            values.into_iter().map(|(group, [a, b, c])| (group, [a, b, c, a + b])).collect();
        let count = |which: &dyn Fn(&[i64; 4]) -> bool| -> Vec<i64> {
            let of = |group| values.iter().filter(|(g, v)| *g == group && which(v)).count();
            (0..4).map(|group| i64::try_from(of(group)).expect("few")).collect()
        };
        let sums: Vec<Vec<i64>> = (0..4).map(|s| count(&|v| v[s] != 0)).collect();
        let pairs = [[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]];
        let apart = pairs.map(|[a, b]| Apart { sums: [a, b], people: count(&|v| v[a] != v[b]) });
        let holds = |c: usize, a: usize, b: usize| values.iter().all(|(_, v)| v[c] == v[a] + v[b]);
        let mut relations = vec![vec![0, 1, 3]];
        for (a, b) in [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)] {
            if values.iter().all(|(_, v)| v[a] == v[b]) {
                relations.push(vec![a, b]);
            }
            relations.extend((0..4).filter(|c| ![a, b].contains(c) && holds(*c, a, b)).map(|c| vec![a, b, c]));
        }
        let told: Vec<Sum> = sums.iter().zip(ranks).map(|(people, rank)| Sum { people: people.clone(), rank }).collect();
        let found = hidden_together(&told, &apart, &relations, &[], &[], k);
        let few = |n: i64| n > 0 && n < i64::try_from(k).expect("few");
        for groups in 1..16_usize {
            let within = |group: usize| groups & (1 << group) != 0;
            let told = |s: usize, inside: bool| (0..4).all(|g| within(g) != inside || !found[s].groups[g]);
            let mut known = [0, 1, 2, 3].map(|s| told(s, true) || !found[s].total && told(s, false));
            if [0, 1, 3].iter().filter(|s| known[**s]).count() == 2 {
                [0, 1, 3].iter().for_each(|s| known[*s] = true);
            }
            let of = |people: &[i64]| (0..4).filter(|g| within(*g)).map(|g| people[g]).sum::<i64>();
            for s in (0..4).filter(|s| known[*s]) {
                prop_assert!(!few(of(&sums[s])), "sum {s} over {groups:04b}: {found:?}");
            }
            for pair in apart.iter().filter(|pair| pair.sums.iter().all(|s| known[*s])) {
                prop_assert!(!few(of(&pair.people)), "{:?} over {groups:04b}: {found:?}", pair.sums);
            }
        }
    }

    /// However people came, left, moved and changed between two nights: no sum over any groups of the later follows from what
    /// it tells whose difference to what follows from the earlier is of few people.
    #[test]
    fn no_change_of_few_can_be_computed(
        people in proptest::collection::vec(
            (proptest::option::weighted(0.9, 0_usize..3), proptest::option::weighted(0.9, 0_usize..3), 0_i128..3, 0_i128..3, 0_u8..4),
            0..80,
        ),
        k in 1_u64..8,
    ) {
        // Most stay where and what they are.
        let people: Vec<_> = people
            .into_iter()
            .map(|(from, to, then, now, stays)| if stays > 0 { (from, from, then, then) } else { (from, to, then, now) })
            .map(|(from, to, then, now)| (from, to, from.map_or(0, |_| then), to.map_or(0, |_| now)))
            .collect();
        let count = |which: &dyn Fn(usize) -> usize| i64::try_from((0..people.len()).map(which).sum::<usize>()).expect("few");
        let behind = |group: usize, now: bool| count(&|i| {
            let (from, to, then, value) = people[i];
            usize::from(if now { to == Some(group) && value != 0 } else { from == Some(group) && then != 0 })
        });
        let then: Vec<i64> = (0..3).map(|g| behind(g, false)).collect();
        let now: Vec<i64> = (0..3).map(|g| behind(g, true)).collect();
        let mut moves = Moves::new(3, 3);
        for (from, to, then, now) in &people {
            moves.add(*from, *to, [*then, *now]);
        }
        let before = hidden(&then, k);
        let nights = [Published { sum: 0, hidden: before.clone(), moves }];
        let found = hidden_together(&[sum(now)], &[], &[], &[], &nights, k).remove(0);
        let within = |groups: usize| (0..3).map(|g| groups >> g & 1 == 1).collect::<Vec<_>>();
        for (g, h) in (1..8).flat_map(|g| (0..8).map(move |h| (within(g), within(h)))) {
            if follows(&found, &g) && follows(&before, &h) {
                let apart = count(&|i| {
                    let (from, to, then, now) = people[i];
                    let then = if from.is_some_and(|f| h[f]) { then } else { 0 };
                    let now = if to.is_some_and(|t| g[t]) { now } else { 0 };
                    usize::from(then != now)
                });
                prop_assert!(apart == 0 || apart >= i64::try_from(k).expect("small"), "{apart} of {g:?} less {h:?}: {found:?}");
            }
        }
    }

    /// By what is told, nothing can be computed of fewer than k people: neither a figure by itself, nor the total less others.
    #[test]
    fn nothing_of_few_can_be_computed(people in proptest::collection::vec(0_i64..30, 1..12), k in 1_u64..12) {
        let k_people = i64::try_from(k).expect("small");
        let hidden = hidden(&people, k);
        let told: i64 = people.iter().zip(&hidden.groups).filter(|(_, h)| !**h).map(|(n, _)| n).sum();
        for (n, _) in people.iter().zip(&hidden.groups).filter(|(_, h)| !**h) {
            prop_assert!(*n == 0 || *n >= k_people);
        }
        let total: i64 = people.iter().sum();
        if !hidden.total {
            let rest = total - told;
            prop_assert!(rest == 0 || rest >= k_people, "{people:?}: {rest} people are left");
        }
    }
}
