//! The change of a sum between two nights, by what became of the people behind it. Exact, in units of the last digit.

use std::collections::{BTreeMap, BTreeSet};

use crate::figures::NOBODYS;

/// Why the change came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Term {
    /// Rows of the time before the earlier night that it did not know, or knew otherwise.
    Restated,
    /// Accounts that are part of another customer now.
    Identity,
    /// Customers who were not there.
    New,
    /// Customers who are gone.
    Left,
    /// What those added before who came from another segment, and the cause of their move.
    MovedIn(String),
    /// What those added before who went to another segment.
    MovedOut(String),
    /// What those add otherwise than before who were known.
    Behaviour,
}

impl Term {
    /// Its name in the table.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Restated => "restated",
            Self::Identity => "identity",
            Self::New => "new",
            Self::Left => "left",
            Self::MovedIn(_) => "moved_in",
            Self::MovedOut(_) => "moved_out",
            Self::Behaviour => "behaviour",
        }
    }

    /// The cause of a move.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::MovedIn(cause) | Self::MovedOut(cause) => {
                Some(cause).filter(|cause| !cause.is_empty()).map(String::as_str)
            }
            _ => None,
        }
    }
}

/// What people add to a sum who were in one segment and are in another, `identity` if they are made of other accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Their segment on the earlier night; none, if they were not there.
    pub was: Option<i64>,
    /// Their segment now.
    pub is: Option<i64>,
    /// The cause of their move, or `identity`.
    pub why: String,
    /// What they added before.
    pub then: i128,
    /// What they add otherwise now.
    pub change: i128,
    /// How many of them added something before.
    pub some_then: i64,
    /// How many of them add something else now.
    pub changed: i64,
    /// How many of them add something now.
    pub some_now: i64,
}

/// A term of the change of a segment's sum, or everybody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What it adds to the change.
    pub value: i128,
    /// How many people are behind it.
    pub people: i64,
    /// The parts of flows that it is the sum of, each with its factor.
    pub parts: Vec<(Part, i64)>,
}

/// What a flow adds: before, or now; or, of those restated, otherwise before than was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Then(usize),
    Now(usize),
    Restated(usize),
}

/// Terms by segment, none being everybody.
pub(crate) type Cells = BTreeMap<Place, Cell>;

/// A term of a segment's change, or everybody's.
pub(crate) type Place = (Option<i64>, Term);

/// Takes the change of a sum apart. `restated` is what people would have added on the earlier night by what is known now, beyond what
/// they did: the others go on from there. If the sum is not `of_everybody`, who has no segment is nobody.
pub(crate) fn cells(flows: &[Flow], restated: &[Flow], of_everybody: bool) -> Cells {
    let mut cells = Cells::new();
    let mut add = |row: Option<i64>, term: Term, value: i128, people: i64, parts: &[(Part, i64)]| {
        let cell = cells.entry((row, term)).or_default();
        cell.value += value;
        cell.people += people;
        cell.parts.extend_from_slice(parts);
    };
    for (at, flow) in restated.iter().enumerate() {
        if let Some(row) = group(flow.was, of_everybody).or(group(flow.is, of_everybody)) {
            for row in [Some(row), None] {
                add(row, Term::Restated, flow.change, flow.changed, &[(Part::Restated(at), 1)]);
            }
        }
    }
    for (at, flow) in flows.iter().enumerate() {
        let Flow { then, change, some_then, changed, some_now, .. } = *flow;
        let (was, is) = (group(flow.was, of_everybody), group(flow.is, of_everybody));
        let (before, after) = ((Part::Then(at), -1), (Part::Now(at), 1));
        if flow.why == "identity" {
            let mut identity = |row, was: bool, is: bool| match (was, is) {
                (true, true) => add(row, Term::Identity, change, changed, &[before, after]),
                (true, false) => add(row, Term::Identity, -then, some_then, &[before]),
                (false, true) => add(row, Term::Identity, then + change, some_now, &[after]),
                (false, false) => {}
            };
            for row in BTreeSet::from([None, was, is]) {
                let there = |id: Option<i64>| id.is_some() && (row.is_none() || row == id);
                identity(row, there(was), there(is));
            }
            continue;
        }
        match (was, is) {
            (None, None) => {}
            (None, Some(is)) => {
                for row in [Some(is), None] {
                    add(row, Term::New, change, changed, &[before, after]);
                }
            }
            (Some(was), None) => {
                for row in [Some(was), None] {
                    add(row, Term::Left, -then, some_then, &[before]);
                }
            }
            (Some(was), Some(is)) => {
                if was != is {
                    add(Some(was), Term::MovedOut(flow.why.clone()), -then, some_then, &[before]);
                    add(Some(is), Term::MovedIn(flow.why.clone()), then, some_then, &[(Part::Then(at), 1)]);
                }
                for row in [Some(is), None] {
                    add(row, Term::Behaviour, change, changed, &[before, after]);
                }
            }
        }
    }
    cells.retain(|_, cell| cell.people > 0);
    cells
}

/// The segment that counts: who has none is nobody in a sum that is not of everybody.
fn group(id: Option<i64>, of_everybody: bool) -> Option<i64> {
    id.filter(|id| of_everybody || *id != NOBODYS)
}

/// Whether somebody in a segment counts for that of a row, or for everybody.
pub(crate) fn within(row: Option<i64>, id: Option<i64>, of_everybody: bool) -> bool {
    let id = group(id, of_everybody);
    id.is_some() && (row.is_none() || row == id)
}

/// A change of a product, by factor: what each adds, whatever the others are (Shapley 1953). `sums` are those whose quotients are the
/// factors: the first by itself, each further one over the one before; the last is what changed, and its shares add up to its change exactly.
/// None, where a factor is not known.
pub(crate) fn shapley(then: &[i128], now: &[i128]) -> Option<Vec<i128>> {
    let factors = |sums: &[i128]| -> Option<Vec<f64>> {
        let over = |at: usize| match at {
            0 => Some(sums[0] as f64),
            _ => (sums[at - 1] != 0).then(|| sums[at] as f64 / sums[at - 1] as f64),
        };
        (0..sums.len()).map(over).collect()
    };
    let (before, after) = (factors(then)?, factors(now)?);
    let n = before.len();
    let factorial = |n: usize| (1..=n).product::<usize>() as f64;
    let product =
        |with: usize| -> f64 { (0..n).map(|at| if with >> at & 1 == 1 { after[at] } else { before[at] }).product() };
    let mut shares: Vec<i128> = (0..n)
        .map(|at| {
            let without = (0..1_usize << n).filter(|with| with >> at & 1 == 0);
            let share = without.map(|with| {
                let size = with.count_ones() as usize;
                let weight = factorial(size) * factorial(n - 1 - size) / factorial(n);
                weight * (product(with | 1 << at) - product(with))
            });
            share.sum::<f64>().round() as i128
        })
        .collect();
    // What rounding left is the last one's.
    let whole = now.last()? - then.last()?;
    let others: i128 = shares[..n - 1].iter().sum();
    *shares.last_mut()? = whole - others;
    Some(shares)
}

/// What the change of a ratio is by the change of its numerator and denominator: each with the mean of the other before and after, so that
/// they add up (Kitagawa 1955). The numbers by which a change of the numerator, and of the denominator, count.
pub(crate) fn midpoint(then: (f64, f64), now: (f64, f64)) -> Option<(f64, f64)> {
    let known = then.1 != 0.0 && now.1 != 0.0;
    known.then(|| ((1.0 / then.1 + 1.0 / now.1) / 2.0, -(then.0 + now.0) / 2.0 / (then.1 * now.1)))
}

/// The change of everybody's ratio by segment, from its numerators and denominators before and now: what the segment's own ratio adds, and what
/// its share of the denominator does, against the mean of all (Kitagawa 1955). A segment that was not there, or is not, adds by its share.
pub(crate) fn rate_and_mix(then: &[(f64, f64)], now: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let all = |sums: &[(f64, f64)]| sums.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    let (before, after) = (all(then), all(now));
    if before.1 == 0.0 || after.1 == 0.0 {
        return None;
    }
    let mean = (before.0 / before.1 + after.0 / after.1) / 2.0;
    // Without a denominator a numerator is no ratio, and would be lost.
    let whole = |sums: &[(f64, f64)]| sums.iter().all(|(x, y)| *y != 0.0 || *x == 0.0);
    if !whole(then) || !whole(now) {
        return None;
    }
    let of = |(x0, y0): (f64, f64), (x1, y1): (f64, f64)| {
        let (w0, w1) = (y0 / before.1, y1 / after.1);
        let (r0, r1) = match (y0 != 0.0, y1 != 0.0) {
            (true, true) => (x0 / y0, x1 / y1),
            (true, false) => (x0 / y0, x0 / y0),
            (false, true) => (x1 / y1, x1 / y1),
            (false, false) => (mean, mean),
        };
        ((w0 + w1) / 2.0 * (r1 - r0), ((r0 + r1) / 2.0 - mean) * (w1 - w0))
    };
    Some(then.iter().zip(now).map(|(then, now)| of(*then, *now)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Somebody: where and what they were, what they would have been by what is known now, and where and what they are.
    #[derive(Debug, Clone)]
    struct Person {
        was: Option<(i64, i128)>,
        known_now: Option<i128>,
        is: Option<(i64, i128)>,
        why: &'static str,
    }

    fn people() -> impl Strategy<Value = Vec<Person>> {
        let place = || proptest::option::of((-1..4_i64, prop_oneof![Just(0_i128), -50..200_i128]));
        let restated = proptest::option::weighted(0.2, 0..200_i128);
        let why = prop_oneof![Just(""), Just("data"), Just("refit"), Just("identity")];
        let one = (place(), restated, place(), why).prop_map(|(was, known_now, is, why)| {
            let known_now = known_now.filter(|_| why != "identity" && (was.is_some() || is.is_some()));
            Person { was, known_now, is, why }
        });
        proptest::collection::vec(one, 0..60)
    }

    /// What somebody adds: who has no segment, nothing to a sum of customers.
    fn added(at: Option<(i64, i128)>, of_everybody: bool) -> i128 {
        at.filter(|(segment, _)| of_everybody || *segment != NOBODYS).map_or(0, |(_, v)| v)
    }

    /// What the query gives: one flow a person is as good as their sums.
    fn flows(people: &[Person], of_everybody: bool) -> (Vec<Flow>, Vec<Flow>) {
        let (mut flows, mut restated) = (Vec::new(), Vec::new());
        for person in people {
            let published = added(person.was, of_everybody);
            let then = person.known_now.unwrap_or(published);
            let change = added(person.is, of_everybody) - then;
            let (was, is) = (person.was.map(|(s, _)| s), person.is.map(|(s, _)| s));
            let flow = |then: i128, change: i128| Flow {
                was,
                is,
                why: person.why.to_owned(),
                then,
                change,
                some_then: i64::from(then != 0),
                changed: i64::from(change != 0),
                some_now: i64::from(then + change != 0),
            };
            flows.push(flow(then, change));
            if person.known_now.is_some() {
                restated.push(flow(published, then - published));
            }
        }
        (flows, restated)
    }

    proptest! {
        /// Whoever they are: the terms of each segment add up to its change, and those of everybody to theirs.
        #[test]
        fn terms_add_up(people in people(), of_everybody in any::<bool>()) {
            let (flows, restated) = flows(&people, of_everybody);
            let cells = cells(&flows, &restated, of_everybody);
            let sum = |at: Option<(i64, i128)>, row: Option<i64>| match at {
                Some((segment, _)) if row.is_none_or(|row| row == segment) => added(at, of_everybody),
                _ => 0,
            };
            for row in [None, Some(0), Some(1), Some(2), Some(3)] {
                let change: i128 = people.iter().map(|p| sum(p.is, row) - sum(p.was, row)).sum();
                let of_terms: i128 = cells.iter().filter(|((r, _), _)| *r == row).map(|(_, cell)| cell.value).sum();
                prop_assert_eq!(of_terms, change, "{:?} {:?}", row, cells);
            }
        }

        #[test]
        fn factors_add_up(then in proptest::collection::vec(1..1_000_000_i128, 3), now in proptest::collection::vec(1..1_000_000_i128, 3)) {
            let shares = shapley(&then, &now).expect("known");
            prop_assert_eq!(shares.iter().sum::<i128>(), now[2] - then[2]);
            // The mean over all orders, one by one.
            let factors = |s: &[i128]| [s[0] as f64, s[1] as f64 / s[0] as f64, s[2] as f64 / s[1] as f64];
            let (a, b) = (factors(&then), factors(&now));
            let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
            let mut naive = [0.0; 3];
            for order in orders {
                let mut at = a;
                for factor in order {
                    let before: f64 = at.iter().product();
                    at[factor] = b[factor];
                    naive[factor] += (at.iter().product::<f64>() - before) / 6.0;
                }
            }
            for (share, naive) in shares.iter().zip(naive) {
                prop_assert!((*share as f64 - naive).abs() < 2.0 + naive.abs() * 1e-9, "{shares:?} {naive:?}");
            }
        }

        #[test]
        fn rate_and_mix_add_up(then in proptest::collection::vec((0.0..100.0_f64, 1.0..100.0_f64), 4), now in proptest::collection::vec((0.0..100.0_f64, 1.0..100.0_f64), 4)) {
            let ratio = |sums: &[(f64, f64)]| sums.iter().map(|s| s.0).sum::<f64>() / sums.iter().map(|s| s.1).sum::<f64>();
            let parts = rate_and_mix(&then, &now).expect("known");
            let whole: f64 = parts.iter().map(|(rate, mix)| rate + mix).sum();
            prop_assert!((whole - (ratio(&now) - ratio(&then))).abs() < 1e-9);
            let all = |sums: &[(f64, f64)]| sums.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            let (a, b) = (all(&then), all(&now));
            let (of_x, of_y) = midpoint(a, b).expect("known");
            let by_both = of_x * (b.0 - a.0) + of_y * (b.1 - a.1);
            prop_assert!((by_both - (ratio(&now) - ratio(&then))).abs() < 1e-9);
        }
    }

    #[test]
    fn what_moves_adds_what_it_was_worth_and_behaves_after() {
        let moved = Flow {
            was: Some(0),
            is: Some(1),
            why: "data".into(),
            then: 100,
            change: -30,
            some_then: 9,
            changed: 7,
            some_now: 8,
        };
        let cells = cells(&[moved], &[], false);
        let of = |row: Option<i64>, term: Term| cells.get(&(row, term)).map(|cell| (cell.value, cell.people));
        assert_eq!(of(Some(0), Term::MovedOut("data".into())), Some((-100, 9)));
        assert_eq!(of(Some(1), Term::MovedIn("data".into())), Some((100, 9)));
        assert_eq!(of(Some(1), Term::Behaviour), Some((-30, 7)));
        assert_eq!(of(None, Term::Behaviour), Some((-30, 7)));
    }

    /// Example of Kitagawa's decomposition with a segment that is born: the shares add up to the change of the whole.
    #[test]
    fn a_segment_that_is_born_adds_by_its_share() {
        let parts = rate_and_mix(&[(10.0, 100.0), (0.0, 0.0)], &[(10.0, 100.0), (30.0, 100.0)]).expect("known");
        assert!(parts[0].0.abs() < 1e-12 && parts[1].0.abs() < 1e-12, "{parts:?}");
        assert!((parts.iter().map(|(r, m)| r + m).sum::<f64>() - 0.1).abs() < 1e-12, "{parts:?}");
    }
}
