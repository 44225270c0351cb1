//! What is told of few people. A published figure stands for the people who make it up: a sum for those to whose value is not 0, a count
//! for those who are counted. Figures of fewer than `k` people are not told, nor so many others that the total, which is told, less
//! those that are told is one of `k` people at least (primary and complementary suppression; Hundepool et al., Statistical
//! Disclosure Control, 2012, chapter 4). Nobody at all discloses nobody.
//!
//! Whoever reads two sums reads their difference, which stands for the people whose values differ: of 100 customers 98 of whom came
//! back, it is the 2 who did not. So differences are held to the same, and of two sums the one of fewer people is hidden. Where one
//! sum is always that of two others (who came before came back or did not), two of the three are hidden in the same groups.

/// What is hidden of a row of figures with their total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub groups: Vec<bool>,
    pub total: bool,
}

/// Two sums, by their place among all, and of each group how many people's values of the two differ.
pub(crate) struct Apart {
    pub sums: [usize; 2],
    pub people: Vec<i64>,
}

/// The fewest people of whom something may be told.
#[derive(Clone, Copy)]
struct Fewest(i64);

impl Fewest {
    fn few(self, people: i64) -> bool {
        people > 0 && people < self.0
    }

    /// Hides further groups, the smallest first, until what is hidden is of nobody or of enough. False when there are not so many.
    fn fill(self, people: &[i64], hidden: &mut [bool]) -> bool {
        while self.few(behind(people, hidden)) {
            let others = (0..people.len()).filter(|i| !hidden[*i] && people[*i] > 0);
            let Some(next) = others.min_by_key(|i| people[*i]) else { return false };
            hidden[next] = true;
        }
        true
    }
}

fn behind(people: &[i64], hidden: &[bool]) -> i64 {
    people.iter().zip(hidden).filter(|(_, hidden)| **hidden).map(|(n, _)| n).sum()
}

/// Which figures of groups of so many `people` are hidden, and whether their total is. Of equal groups, the first is hidden first.
pub(crate) fn hidden(people: &[i64], k: u64) -> Hidden {
    let fewest = Fewest(i64::try_from(k).unwrap_or(i64::MAX));
    let mut groups: Vec<bool> = people.iter().map(|n| fewest.few(*n)).collect();
    fewest.fill(people, &mut groups);
    Hidden { total: fewest.few(people.iter().sum()), groups }
}

/// The same of several sums over the same groups that are told side by side, so that no difference of two is of few people either.
pub(crate) fn hidden_together(sums: &[Vec<i64>], apart: &[Apart], k: u64) -> Vec<Hidden> {
    let fewest = Fewest(i64::try_from(k).unwrap_or(i64::MAX));
    let mut all: Vec<Hidden> = sums.iter().map(|people| hidden(people, k)).collect();
    let everybody: Vec<i64> = sums.iter().map(|people| people.iter().sum()).collect();
    let relations = relations(sums, apart);
    loop {
        let before = all.clone();
        for Apart { sums: [a, b], people } in apart {
            let weaker = if everybody[*a] < everybody[*b] { *a } else { *b };
            for (group, n) in people.iter().enumerate() {
                if fewest.few(*n) && !all[*a].groups[group] && !all[*b].groups[group] {
                    all[weaker].groups[group] = true;
                }
            }
            // What is hidden of a sum is its total less what is told; where the other sum is told of the same groups, so is the
            // difference.
            let [of_a, of_b] = [a, b].map(|sum| all[*sum].groups.clone());
            let either = of_a.iter().zip(&of_b).map(|(a, b)| *a || *b).collect();
            let overlap = of_a.iter().zip(&of_b).any(|(a, b)| *a && *b);
            let told = [a, b].map(|sum| !all[*sum].total);
            let differences = [
                (weaker, either, told[0] && told[1]),
                (*a, of_a, told[0] && !overlap),
                (*b, of_b, told[1] && !overlap),
            ];
            for (sum, hidden, _) in differences.into_iter().filter(|(_, _, told)| *told) {
                let mut more = hidden.clone();
                all[sum].total |= !fewest.fill(people, &mut more);
                for group in (0..more.len()).filter(|group| more[*group] && !hidden[*group]) {
                    all[sum].groups[group] = true;
                }
            }
        }
        // Two sums of a relation that are hidden in the same groups tell no more than either does.
        for relation in &relations {
            let mut weakest = relation.clone();
            weakest.sort_by_key(|sum| everybody[*sum]);
            let groups = weakest.first().map(|sum| all[*sum].groups.len()).unwrap_or_default();
            let hidden: Vec<bool> =
                (0..groups).map(|group| relation.iter().any(|sum| all[*sum].groups[group])).collect();
            let total = relation.iter().any(|sum| all[*sum].total);
            for sum in weakest.into_iter().take(2) {
                all[sum].groups.clone_from(&hidden);
                all[sum].total |= total;
            }
        }
        for (sum, people) in all.iter_mut().zip(sums).filter(|(sum, _)| !sum.total) {
            sum.total = !fewest.fill(people, &mut sum.groups);
        }
        if all == before {
            return all;
        }
    }
}

/// The sums that determine one another: two that are equal, and three of which one is the sum of the others. Found by who is behind
/// them, group by group; what only looks like one hides more than it must.
fn relations(sums: &[Vec<i64>], apart: &[Apart]) -> Vec<Vec<usize>> {
    let differ = |a: usize, b: usize| apart.iter().find(|d| d.sums == [a, b] || d.sums == [b, a]).map(|d| &d.people);
    let some = |people: &[i64]| people.iter().any(|n| *n > 0);
    let mut found = Vec::new();
    for a in 0..sums.len() {
        for b in (0..sums.len()).filter(|b| *b != a) {
            let Some(between) = differ(a, b) else { continue };
            if a < b && !some(between) && some(&sums[a]) {
                found.push(vec![a, b]);
            }
            for c in (b + 1..sums.len()).filter(|c| *c != a) {
                if some(between) && some(&sums[b]) && *between == sums[c] && differ(a, c) == Some(&sums[b]) {
                    found.push(vec![a, b, c]);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(people: &[i64]) -> Vec<bool> {
        hidden(people, 5).groups
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
        let found = hidden_together(&[vec![100, 50, 30], vec![98, 50, 21]], &[apart], 5);
        assert_eq!(found[0], Hidden { groups: vec![false; 3], total: false });
        assert_eq!(found[1], Hidden { groups: vec![true, false, true], total: false });
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
            let found = hidden_together(&sums, &apart, k);
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
}
