//! Which terms are not told by themselves: those of few people, and further ones until nothing of few follows.

use std::collections::{BTreeMap, BTreeSet};

use tessera_contract::table::MONEY;

use super::{
    Sums,
    people::Between,
    terms::{self, Cell, Cells, Flow, Part, Place, Term},
};
use crate::suppress::{self, Linear};

/// A sum's terms, and which of them are not told by themselves.
pub(super) struct OfSum {
    pub cells: Cells,
    pub hidden: BTreeSet<Place>,
    /// The rows that both nights tell.
    pub told: BTreeSet<Option<i64>>,
}

/// The rows of a sum that the earlier night tells, and those that this one does.
pub(super) type Nights = [BTreeSet<Option<i64>>; 2];

/// What is hidden of the terms of all sums.
pub(super) fn of_sums(sums: &Sums, between: &Between, all: Vec<Cells>, told: &[Nights], k: i64) -> Vec<OfSum> {
    // Two counts of people in a term that are apart by few tell of these few: the one of fewer is not told.
    let one = 10_i128.pow(MONEY.1 as u32);
    let counts = |cell: &Cell| cell.value.abs() == i128::from(cell.people) * one;
    let few = |at: &Place, cell: &Cell| {
        let near = |other: &Cell| counts(other) && other.people > cell.people && other.people - cell.people < k;
        cell.people < k || counts(cell) && all.iter().any(|cells| cells.get(at).is_some_and(near))
    };
    let of_sum = |(sum, (cells, told)): (usize, (&Cells, &Nights))| {
        let (flows, restated) = (&between.flows[sum], &between.restated[sum]);
        let unknowns = Unknowns::of(flows, restated, sums.everybody[sum]);
        let keys: Vec<&Place> = cells.keys().collect();
        let few: Vec<bool> = cells.iter().map(|(at, cell)| few(at, cell)).collect();
        let both: BTreeSet<Option<i64>> = told[0].intersection(&told[1]).copied().collect();
        let may = |((row, _), few): (&Place, &bool)| both.contains(row) && !few;
        let linear: Vec<Linear> = cells.values().map(|cell| unknowns.sum(&cell.parts)).collect();
        let mut secret = unknowns.few(k);
        secret.extend(linear.iter().zip(&few).filter(|(_, few)| **few).map(|(sum, _)| sum.clone()));
        let asked = suppress::Asked {
            unknowns: unknowns.places.len(),
            known: unknowns.known(told),
            secret,
            sums: (keys.iter().copied().zip(&few).map(may).zip(linear).zip(cells.values()))
                .map(|((may, sum), cell)| (sum, may.then_some(cell.people)))
                .collect(),
            together: together(cells, &both),
        };
        let told = suppress::told(&asked, k);
        keys.into_iter().zip(told).filter(|(_, told)| !told).map(|(key, _)| key.clone()).collect()
    };
    let mut hidden: Vec<BTreeSet<Place>> = all.iter().zip(told).enumerate().map(of_sum).collect();
    // Of sums that determine one another, two hide what any of them does.
    let relations = relations(&between.flows);
    loop {
        let before = hidden.clone();
        for relation in &relations {
            let any: BTreeSet<Place> = relation.iter().flat_map(|sum| hidden[*sum].iter().cloned()).collect();
            for sum in relation.iter().take(2) {
                hidden[*sum].extend(any.iter().filter(|place| all[*sum].contains_key(place)).cloned());
            }
        }
        if hidden == before {
            break;
        }
    }
    let both = told.iter().map(|[then, now]| then.intersection(now).copied().collect());
    let sums = all.into_iter().zip(hidden).zip(both);
    sums.map(|((cells, hidden), told)| OfSum { cells, hidden, told }).collect()
}

/// Sums that determine one another, by what the flows add: two that are equal, and three of which one is the sum of the others.
fn relations(flows: &[Vec<Flow>]) -> Vec<Vec<usize>> {
    let of: Vec<Vec<i128>> =
        flows.iter().map(|flows| flows.iter().flat_map(|flow| [flow.then, flow.change]).collect()).collect();
    let some: Vec<usize> = (0..of.len()).filter(|sum| of[*sum].iter().any(|v| *v != 0)).collect();
    let mut found = Vec::new();
    for (at, a) in some.iter().copied().enumerate() {
        for b in some[at + 1..].iter().copied() {
            if of[a] == of[b] {
                found.push(vec![a, b]);
            }
            let whole =
                |c: &usize| ![a, b].contains(c) && of[a].iter().zip(&of[b]).zip(&of[*c]).all(|((a, b), c)| a + b == *c);
            found.extend(some.iter().copied().filter(whole).map(|c| vec![a, b, c]));
        }
    }
    found
}

/// What the people of each flow add, before and now, and what is restated. What nobody adds to is no unknown.
struct Unknowns<'a> {
    flows: &'a [Flow],
    restated: &'a [Flow],
    of_everybody: bool,
    places: BTreeMap<Part, usize>,
}

impl<'a> Unknowns<'a> {
    fn of(flows: &'a [Flow], restated: &'a [Flow], of_everybody: bool) -> Self {
        let of_flow = |(at, f): (usize, &Flow)| [(f.some_then, Part::Then(at)), (f.some_now, Part::Now(at))];
        let of_restated = |(at, f): (usize, &Flow)| (f.changed, Part::Restated(at));
        let all = flows.iter().enumerate().flat_map(of_flow).chain(restated.iter().enumerate().map(of_restated));
        let some = all.filter(|(people, _)| *people > 0).map(|(_, part)| part);
        Self { flows, restated, of_everybody, places: some.zip(0..).collect() }
    }

    fn sum(&self, parts: &[(Part, i64)]) -> Linear {
        parts.iter().filter_map(|(part, factor)| Some((*self.places.get(part)?, *factor))).collect()
    }

    /// The sums that the KPIs of either night tell.
    fn known(&self, [then, now]: &Nights) -> Vec<Linear> {
        let those =
            |flows: &[Flow], row: Option<i64>, id: fn(&Flow) -> Option<i64>, part: fn(usize) -> Part, factor: i64| {
                let there =
                    flows.iter().enumerate().filter(|(_, flow)| terms::within(row, id(flow), self.of_everybody));
                there.map(|(at, _)| (part(at), factor)).collect::<Vec<_>>()
            };
        let was = |row: &Option<i64>| {
            let added = those(self.flows, *row, |flow| flow.was, Part::Then, 1);
            [added, those(self.restated, *row, |flow| flow.was, Part::Restated, -1)].concat()
        };
        let is = |row: &Option<i64>| those(self.flows, *row, |flow| flow.is, Part::Now, 1);
        then.iter().map(was).chain(now.iter().map(is)).map(|parts| self.sum(&parts)).collect()
    }

    /// What few people add before, now, or otherwise now.
    fn few(&self, k: i64) -> Vec<Linear> {
        let mut few = Vec::new();
        for (at, flow) in self.flows.iter().enumerate() {
            let (then, now) = ((Part::Then(at), 1), (Part::Now(at), 1));
            let change = [(Part::Then(at), -1), now];
            let three = [(flow.some_then, &[then][..]), (flow.some_now, &[now][..]), (flow.changed, &change[..])];
            few.extend(three.into_iter().filter(|(n, _)| *n > 0 && *n < k).map(|(_, parts)| self.sum(parts)));
        }
        few
    }
}

/// The terms, by number, whose sum is known: of a row that is told, a term of all segments, and who moved for a cause.
fn together(cells: &Cells, rows: &BTreeSet<Option<i64>>) -> Vec<Vec<Vec<(usize, i64)>>> {
    let those = |which: &dyn Fn(Option<i64>, &Term) -> bool| -> Vec<(usize, i64)> {
        let found = cells.iter().enumerate().filter(|(_, ((row, term), _))| which(*row, term));
        found.map(|(at, (_, cell))| (at, cell.people)).collect()
    };
    let mut together = Vec::new();
    for row in rows {
        // Who moved in may behave otherwise too.
        let but_in = those(&|r, term| r == *row && !matches!(term, Term::MovedIn(_)));
        together.push(vec![but_in, those(&|r, term| r == *row && *term != Term::Behaviour)]);
    }
    let named: BTreeSet<&Term> = cells.keys().map(|(_, term)| term).collect();
    for named in named {
        let of_segments = |other: &Term| those(&|row, term| row.is_some() && term == other);
        match named {
            Term::MovedOut(_) => {}
            Term::MovedIn(cause) => {
                together.push(vec![of_segments(named), of_segments(&Term::MovedOut(cause.clone()))]);
            }
            _ => together.push(vec![of_segments(named)]),
        }
    }
    together
}
