//! What is told of few people. A published figure stands for the people who make it up: a sum for those to whose value is not 0, a count
//! for those who are counted. Figures of fewer than `k` people are not told, nor so many others that the total, which is told, less
//! those that are told is one of `k` people at least (primary and complementary suppression; Hundepool et al., Statistical
//! Disclosure Control, 2012, chapter 4). Nobody at all discloses nobody.
//!
//! Whoever reads two sums reads their difference, which stands for the people whose values differ: of 100 customers 98 of whom came
//! back, it is the 2 who did not. So differences are held to the same, and of two sums one is hidden. Where one
//! sum is always that of two others (who came before came back or did not), two of the three are hidden in the same groups.
//!
//! Whoever reads two nights reads what changed between them, which stands for the people who came, left, moved or whose value is
//! another one. What is published cannot be hidden any more: the later night hides its own.

/// What is hidden of a row of figures with their total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub groups: Vec<bool>,
    pub total: bool,
}

/// A sum that is told.
pub(crate) struct Sum {
    /// How many people are behind it, group by group.
    pub people: Vec<i64>,
    /// Of two, the one of lower rank is hidden; of equal rank, that of fewer people.
    pub rank: u8,
}

/// Two sums, by their place among all, and of each group how many people's values of the two differ.
pub(crate) struct Apart {
    pub sums: [usize; 2],
    pub people: Vec<i64>,
}

/// A sum that is that of its parts, for everybody; somebody may add to several of them.
pub(crate) struct Parts {
    pub whole: usize,
    pub parts: Vec<usize>,
}

/// The fewest people of whom something may be told.
#[derive(Clone, Copy)]
struct Fewest(i64);

impl Fewest {
    fn of(k: u64) -> Self {
        Self(i64::try_from(k).unwrap_or(i64::MAX))
    }

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
    let fewest = Fewest::of(k);
    let mut groups: Vec<bool> = people.iter().map(|n| fewest.few(*n)).collect();
    fewest.fill(people, &mut groups);
    Hidden { total: fewest.few(people.iter().sum()), groups }
}

/// A sum as it stands on another night that is published.
pub(crate) struct Published {
    /// The sum, by its place among all.
    pub sum: usize,
    /// What that night hides of it, over its own groups.
    pub hidden: Hidden,
    /// How many people were where on that night and are where now.
    pub moves: Moves,
}

/// People by their group on another night and their group now; the last of either is to be in none. Counts may stop at `k`.
#[derive(Debug, Clone)]
pub(crate) struct Moves {
    then: usize,
    now: usize,
    cells: Vec<[i64; 3]>,
}

/// What is counted of people who were in one group and are in another: whose value is another one, whose was not 0, whose is not 0.
#[derive(Clone, Copy)]
enum Count {
    Changed,
    Then,
    Now,
}

impl Moves {
    /// Nobody, between so many groups.
    pub(crate) fn new(then: usize, now: usize) -> Self {
        Self { then, now, cells: vec![[0; 3]; (then + 1) * (now + 1)] }
    }

    /// Adds somebody with these values, from a group to a group; in none of that night or of this one, the value is 0.
    pub(crate) fn add(&mut self, from: Option<usize>, to: Option<usize>, values: [i128; 2]) {
        let cell = from.unwrap_or(self.then) * (self.now + 1) + to.unwrap_or(self.now);
        let counted = [values[0] != values[1], values[0] != 0, values[1] != 0];
        for (count, counted) in self.cells[cell].iter_mut().zip(counted) {
            *count += i64::from(counted);
        }
    }

    /// Puts what was counted otherwise between two groups.
    pub(crate) fn put(&mut self, from: Option<usize>, to: Option<usize>, counts: [i64; 3]) {
        self.cells[from.unwrap_or(self.then) * (self.now + 1) + to.unwrap_or(self.now)] = counts;
    }

    /// Whether, if there may be more people than were counted, it matters how many.
    pub(crate) fn undecided(&self, k: u64) -> bool {
        let fewest = Fewest::of(k);
        self.together(fewest).iter().any(|(then, now)| self.apart(then, now) < fewest.0)
    }

    fn of(&self, from: usize, to: usize, count: Count) -> i64 {
        self.cells[from * (self.now + 1) + to][count as usize]
    }

    /// For how many people what they add to the groups `then` of that night is not what they add to the groups `now` of this one.
    fn apart(&self, then: &[bool], now: &[bool]) -> i64 {
        let mut people = 0;
        for from in 0..=self.then {
            for to in 0..=self.now {
                let (before, after) = (then.get(from) == Some(&true), now.get(to) == Some(&true));
                people += match (before, after) {
                    (true, true) => self.of(from, to, Count::Changed),
                    (true, false) => self.of(from, to, Count::Then),
                    (false, true) => self.of(from, to, Count::Now),
                    (false, false) => 0,
                };
            }
        }
        people
    }

    /// Groups of that night and of this one that may be looked at together: not one without another if between them went so many
    /// that it would be to look at enough people, nor those from which so many went to none or came from none.
    fn together(&self, fewest: Fewest) -> Vec<(Vec<bool>, Vec<bool>)> {
        let (all, none) = (self.then + self.now, self.then + self.now);
        let mut set: Vec<usize> = (0..=all).collect();
        for from in 0..=self.then {
            for to in 0..=self.now {
                let least = match (from == self.then, to == self.now) {
                    (true, _) => self.of(from, to, Count::Now),
                    (_, true) => self.of(from, to, Count::Then),
                    _ => self.of(from, to, Count::Then).min(self.of(from, to, Count::Now)),
                };
                if least >= fewest.0 {
                    let a = set[if from == self.then { none } else { from }];
                    let b = set[if to == self.now { none } else { self.then + to }];
                    set.iter_mut().filter(|s| **s == a.max(b)).for_each(|s| *s = a.min(b));
                }
            }
        }
        let mut names: Vec<usize> = set[..all].iter().copied().filter(|s| *s != set[none]).collect();
        names.sort_unstable();
        names.dedup();
        let within = |names: &[usize]| -> (Vec<bool>, Vec<bool>) {
            let within: Vec<bool> = set[..all].iter().map(|s| names.contains(s)).collect();
            (within[..self.then].to_vec(), within[self.then..].to_vec())
        };
        let but = |one: &usize| names.iter().copied().filter(|n| n != one).collect::<Vec<_>>();
        let some = |which: usize| (0..names.len()).filter(move |i| which >> i & 1 == 1);
        let mut found: Vec<_> = match names.len() > MANY {
            true => names.iter().flat_map(|one| [within(&[*one]), within(&but(one))]).collect(),
            false => (1..1_usize << names.len())
                .map(|which| within(&some(which).map(|i| names[i]).collect::<Vec<_>>()))
                .collect(),
        };
        found.push((vec![true; self.then], vec![true; self.now]));
        found.retain(|(_, now)| now.contains(&true));
        found
    }
}

/// Beyond so many sets of groups, not every union of them is looked at.
const MANY: usize = 10;

/// Whether a sum over some groups follows from what is told: of each of them, or of all and of each of the others.
fn follows(hidden: &Hidden, within: &[bool]) -> bool {
    let told = |which: bool| hidden.groups.iter().zip(within).all(|(hidden, w)| *w != which || !hidden);
    told(true) || !hidden.total && told(false)
}

/// The same of several sums over the same groups that are told side by side, so that no difference of two is of few people either,
/// nor one between this and another published night. `relations` are sums that determine one another.
pub(crate) fn hidden_together(
    sums: &[Sum],
    apart: &[Apart],
    relations: &[Vec<usize>],
    parts: &[Parts],
    nights: &[Published],
    k: u64,
) -> Vec<Hidden> {
    let fewest = Fewest::of(k);
    let mut all: Vec<Hidden> = sums.iter().map(|sum| hidden(&sum.people, k)).collect();
    let worth: Vec<(u8, i64)> = sums.iter().map(|sum| (sum.rank, sum.people.iter().sum())).collect();
    let between: Vec<_> = nights.iter().map(|night| between(night, fewest)).collect();
    loop {
        let before = all.clone();
        for Apart { sums: [a, b], people } in apart {
            let weaker = if worth[*a] < worth[*b] { *a } else { *b };
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
        for relation in relations {
            let mut weakest = relation.clone();
            weakest.sort_by_key(|sum| worth[*sum]);
            let groups = weakest.first().map(|sum| all[*sum].groups.len()).unwrap_or_default();
            let hidden: Vec<bool> =
                (0..groups).map(|group| relation.iter().any(|sum| all[*sum].groups[group])).collect();
            let total = relation.iter().any(|sum| all[*sum].total);
            for sum in weakest.into_iter().take(2) {
                all[sum].groups.clone_from(&hidden);
                all[sum].total |= total;
            }
        }
        for Parts { whole, parts } in parts {
            for group in 0..all[*whole].groups.len() {
                let people = |part: usize| sums[part].people[group];
                while !all[*whole].groups[group]
                    && let Some(more) = more(fewest, parts, &people, &|part| all[part].groups[group])
                {
                    match more {
                        Some(part) => all[part].groups[group] = true,
                        None => all[*whole].groups[group] = true,
                    }
                }
            }
            let people = |part: usize| sums[part].people.iter().sum();
            while !all[*whole].total
                && let Some(more) = more(fewest, parts, &people, &|part| all[part].total)
            {
                match more {
                    Some(part) => all[part].total = true,
                    None => all[*whole].total = true,
                }
            }
        }
        for (night, within) in nights.iter().zip(&between) {
            let (told, people) = (&mut all[night.sum], &sums[night.sum].people);
            let total = within.iter().any(|groups| !groups.contains(&false));
            for within in within {
                hide(told, people, within, total);
            }
        }
        for (told, sum) in all.iter_mut().zip(sums).filter(|(told, _)| !told.total) {
            told.total = !fewest.fill(&sum.people, &mut told.groups);
        }
        if all == before {
            return all;
        }
    }
}

/// What else has to be hidden of a whole that is told, so that what is hidden of its parts is not what is left of it: two parts at least, one of them
/// of enough people; a part, or if there is none, the whole. Parts of nobody hide nothing.
fn more(
    fewest: Fewest,
    parts: &[usize],
    people: &dyn Fn(usize) -> i64,
    hidden: &dyn Fn(usize) -> bool,
) -> Option<Option<usize>> {
    let some = || parts.iter().copied().filter(|part| people(*part) > 0);
    let (mut count, mut most) = (0, 0);
    for part in some().filter(|part| hidden(*part)) {
        count += 1;
        most = most.max(people(part));
    }
    if count == 0 || count > 1 && most >= fewest.0 {
        return None;
    }
    let open = || some().filter(|part| !hidden(*part));
    let enough = open().filter(|part| most >= fewest.0 || people(*part) >= fewest.0);
    Some(enough.min_by_key(|part| people(*part)))
}

/// Groups of this night whose sum must not follow, because what follows from the other night with it is of few people.
fn between(night: &Published, fewest: Fewest) -> Vec<Vec<bool>> {
    let told = |then: &[bool]| follows(&night.hidden, then);
    let together = night.moves.together(fewest).into_iter();
    let few = together.filter(|(then, now)| told(then) && fewest.few(night.moves.apart(then, now)));
    let mut found: Vec<Vec<bool>> = few.map(|(_, now)| now).collect();
    found.sort_by_key(|within| within.iter().filter(|w| **w).count());
    found
}

/// Hides the smallest group within, and the smallest without or the total, until the sum over those within does not follow.
fn hide(told: &mut Hidden, people: &[i64], within: &[bool], total: bool) {
    while follows(told, within) {
        let smallest = |which: bool, told: &Hidden| {
            let groups = (0..people.len()).filter(|g| within[*g] == which && !told.groups[*g]);
            groups.min_by_key(|g| (people[*g] == 0, people[*g]))
        };
        let all = |which: bool| !(0..people.len()).any(|g| within[g] == which && told.groups[g]);
        match (all(true).then(|| smallest(true, told)).flatten(), smallest(false, told)) {
            (Some(group), _) => told.groups[group] = true,
            (None, Some(group)) if all(false) && !total => told.groups[group] = true,
            _ => told.total = true,
        }
    }
}

#[cfg(test)]
mod tests {
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
}
