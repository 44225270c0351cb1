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

mod lines;

pub(crate) use self::lines::{Asked, Linear, told};

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
mod tests;
