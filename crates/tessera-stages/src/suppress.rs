//! What is told of few people. A published figure stands for the people who make it up: a sum for those to whose value is not 0, a count
//! for those who are counted. Figures of fewer than `k` people are not told, nor so many others that the total, which is told, less
//! those that are told is one of `k` people at least (primary and complementary suppression; Hundepool et al., Statistical
//! Disclosure Control, 2012, chapter 4). Nobody at all discloses nobody.

/// What is hidden of a row of figures with their total.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub groups: Vec<bool>,
    pub total: bool,
}

/// Which figures of groups of so many `people` are hidden, and whether their total is. Of equal groups, the first is hidden first.
pub(crate) fn hidden(people: &[i64], k: u64) -> Hidden {
    let k = i64::try_from(k).unwrap_or(i64::MAX);
    let few = |n: i64| n > 0 && n < k;
    let mut groups: Vec<bool> = people.iter().map(|n| few(*n)).collect();
    let behind =
        |groups: &[bool]| people.iter().zip(groups).filter(|(_, hidden)| **hidden).map(|(n, _)| n).sum::<i64>();
    while few(behind(&groups)) {
        let next = (0..people.len()).filter(|i| !groups[*i] && people[*i] > 0).min_by_key(|i| people[*i]);
        let Some(next) = next else { break };
        groups[next] = true;
    }
    Hidden { total: few(people.iter().sum()), groups }
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

    #[test]
    fn a_total_of_few_is_hidden_with_all_that_makes_it_up() {
        assert_eq!(hidden(&[1, 2, 0], 5), Hidden { groups: vec![true, true, false], total: true });
    }

    proptest! {
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
