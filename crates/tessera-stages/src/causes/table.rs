//! The rows of `kpi_changes`: what is told of a change, and what is told together.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::DataFrame;
use tessera_contract::{AsOf, Kpi, Whose, table::MONEY};

use super::{
    Figure, Sums, Told,
    hidden::{self, OfSum},
    people::Between,
    terms::{self, Cells, Flow, Term},
};
use crate::{Night, StageError, kpis, rows};

/// A row of the table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub segment: Option<i32>,
    pub kpi: String,
    pub versus: &'static str,
    /// The earlier night, in days since 1970-01-01.
    pub days: i32,
    pub split: Option<&'static str>,
    pub term: Option<&'static str>,
    pub step: Option<i32>,
    pub detail: Option<String>,
    pub of_segment: Option<i32>,
    pub numerator: Option<i128>,
    pub denominator: Option<i128>,
    pub contribution: Option<f64>,
    pub from: Option<f64>,
    pub to: Option<f64>,
    pub state: &'static str,
}

/// The state of a KPI that added up something else on the earlier night.
pub(super) const REDEFINED: &str = "redefined";

/// A term that is told: what it adds to the numerator and the denominator.
#[derive(Debug, Default)]
struct Step {
    sums: [i128; 2],
    detail: Option<String>,
}

/// What changed between an earlier night and this one.
pub(super) struct Changes<'a> {
    versus: &'static str,
    as_of: AsOf,
    told: [&'a Told; 2],
    sums: &'a Sums,
    between: &'a Between,
    k: i64,
    /// All segments of either night, and everybody.
    rows: Vec<Option<i64>>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(
        versus: &'static str,
        as_of: AsOf,
        told: [&'a Told; 2],
        sums: &'a Sums,
        between: &'a Between,
        k: i64,
    ) -> Self {
        let segments: BTreeSet<i64> = told.iter().flat_map(|night| &night.segments).copied().collect();
        let rows = [None].into_iter().chain(segments.into_iter().map(Some)).collect();
        Self { versus, as_of, told, sums, between, k, rows }
    }

    /// Adds the rows of KPIs which both nights have.
    pub(super) fn add(&self, kpis: &[(&str, &Kpi)], table: &mut Vec<Row>) -> Result<(), StageError> {
        let all: Vec<Cells> = (0..self.sums.list.len())
            .map(|sum| terms::cells(&self.between.flows[sum], &self.between.restated[sum], self.sums.everybody[sum]))
            .collect();
        // By sum, the rows that either night tells.
        let mut told = vec![[BTreeSet::new(), BTreeSet::new()]; all.len()];
        for (name, kpi) in kpis {
            for sum in self.sums.told_of(kpi) {
                for (night, told) in self.told.iter().zip(&mut told[sum]) {
                    told.extend(self.rows.iter().filter(|row| night.figure(name, **row).is_some()).copied());
                }
            }
        }
        let of_sums = hidden::of_sums(self.sums, self.between, all, &told, self.k);
        for (name, kpi) in kpis {
            let mut redefined = false;
            for row in &self.rows {
                let rows = self.of(name, kpi, *row, &of_sums)?;
                redefined |= rows.iter().any(|row| row.state == REDEFINED);
                table.extend(rows);
            }
            if !redefined {
                table.extend(self.by_segment(name, kpi));
            }
        }
        Ok(())
    }

    /// What both nights tell.
    fn figures(&self, kpi: &str, row: Option<i64>) -> Option<[Figure; 2]> {
        Some([self.told[0].figure(kpi, row)?, self.told[1].figure(kpi, row)?])
    }

    /// The waterfall of a KPI for a segment, or everybody.
    fn of(&self, name: &str, kpi: &Kpi, row: Option<i64>, of_sums: &[OfSum]) -> Result<Vec<Row>, StageError> {
        let of_row = Row {
            segment: row.and_then(|id| i32::try_from(id).ok()),
            kpi: name.to_owned(),
            versus: self.versus,
            days: self.as_of.days(),
            state: "ok",
            ..Row::default()
        };
        let Some([then, now]) = self.figures(name, row) else {
            return Ok(vec![Row { state: "suppressed", ..of_row }]);
        };
        let ratio = kpi.denominator.is_some();
        let sums = self.sums.told_of(kpi);
        let changes = [now.numerator - then.numerator, now.denominator - then.denominator];
        for (sum, change) in sums.iter().zip(changes) {
            let of_terms: i128 =
                of_sums[*sum].cells.iter().filter(|((r, _), _)| *r == row).map(|(_, cell)| cell.value).sum();
            if of_terms != change {
                let is = self.tonight(*sum, row);
                let tonight = [now.numerator, now.denominator][usize::from(*sum != sums[0])];
                if is != tonight {
                    return Err(StageError::Data(format!(
                        "the terms of {name} add up to {} and not to its {}: this is a mistake of Tessera",
                        rows::show_money(is),
                        rows::show_money(tonight)
                    )));
                }
                // That night added up something else.
                return Ok(vec![Row { state: REDEFINED, from: then.value, to: now.value, ..of_row }]);
            }
        }
        let unit = 10_f64.powi(i32::from(MONEY.1));
        let floats = |x: i128| x as f64 / unit;
        let weights = match ratio {
            false => Some((1.0, 0.0)),
            true => terms::midpoint(
                (floats(then.numerator), floats(then.denominator)),
                (floats(now.numerator), floats(now.denominator)),
            ),
        };
        let Some(weights) = weights else {
            return Ok(vec![Row { state: "not_available", from: then.value, to: now.value, ..of_row }]);
        };

        // Terms in their order, and last what is not told by itself.
        let mut steps: BTreeMap<Option<(Term, usize)>, Step> = BTreeMap::new();
        let hides = |term: &Term| sums.iter().any(|sum| of_sums[*sum].hidden.contains(&(row, term.clone())));
        for (which, sum) in sums.iter().enumerate() {
            for ((_, term), cell) in of_sums[*sum].cells.iter().filter(|((r, _), _)| *r == row) {
                let key = if hides(term) { None } else { Some((term.clone(), 0)) };
                let detail = key.as_ref().and_then(|_| term.cause()).map(str::to_owned);
                steps.entry(key).or_insert(Step { sums: [0; 2], detail }).sums[which] += cell.value;
            }
        }
        if let Some(factors) = self.factors(kpi, row, of_sums).filter(|_| sums.len() == 1)
            && steps.remove(&Some((Term::Behaviour, 0))).is_some()
        {
            for (at, (factor, share)) in kpi.factors.iter().zip(factors).enumerate() {
                let step = Step { sums: [share, 0], detail: Some(factor.name.clone()) };
                steps.insert(Some((Term::Behaviour, at)), step);
            }
        }
        let withheld = steps.remove(&None);
        let mut ordered: Vec<(&'static str, Step)> =
            steps.into_iter().filter_map(|(key, step)| Some((key?.0.name(), step))).collect();
        ordered.extend(withheld.map(|step| ("withheld", step)));
        if ordered.is_empty() {
            ordered.push((Term::Behaviour.name(), Step::default()));
        }
        let mut level = then.value.or((!ratio).then_some(f64::from(kpi.offset)));
        let last = ordered.len() - 1;
        let end = now.value.or((!ratio).then_some(f64::from(kpi.offset)));
        let rows = ordered.into_iter().enumerate().map(|(at, (term, Step { sums: [x, y], detail }))| {
            let contribution = weights.0 * floats(x) + weights.1 * floats(y);
            let from = level;
            level = if at == last { end } else { level.map(|level| level + contribution) };
            Row {
                split: Some("people"),
                term: Some(term),
                step: i32::try_from(at + 1).ok(),
                detail,
                numerator: Some(x),
                denominator: ratio.then_some(y),
                contribution: Some(contribution),
                from,
                to: level,
                ..of_row.clone()
            }
        });
        Ok(rows.collect())
    }

    /// What a sum is tonight.
    fn tonight(&self, sum: usize, row: Option<i64>) -> i128 {
        let counts = |is: Option<i64>| terms::within(row, is, self.sums.everybody[sum]);
        self.between.flows[sum].iter().filter(|flow| counts(flow.is)).map(|flow| flow.then + flow.change).sum()
    }

    /// What each factor of a KPI adds to what those do otherwise who were known, if nothing of the row's terms is hidden.
    fn factors(&self, kpi: &Kpi, row: Option<i64>, of_sums: &[OfSum]) -> Option<Vec<i128>> {
        let whole = kpis::added(kpi)[0].clone();
        let of =
            |factor: &tessera_contract::Factor| factor.of.as_deref().map_or(whole.clone(), |of| kpis::whose(kpi, of));
        let sums: Vec<usize> =
            kpi.factors.iter().map(|factor| self.sums.place(&of(factor), kpi)).collect::<Option<_>>()?;
        let open =
            |sum: &usize| of_sums[*sum].told.contains(&row) && !of_sums[*sum].hidden.iter().any(|(r, _)| *r == row);
        let stayed = |flow: &&Flow| {
            let everybody = kpi.population == Whose::Everybody;
            let known = terms::within(None, flow.was, everybody) && terms::within(row, flow.is, everybody);
            known && flow.why != "identity"
        };
        let few = |at: &usize| {
            let people = |of: fn(&Flow) -> i64| self.between.flows[*at].iter().filter(stayed).map(of).sum::<i64>();
            [people(|flow| flow.some_then), people(|flow| flow.some_now)].iter().any(|n| *n > 0 && *n < self.k)
        };
        if sums.is_empty() || !sums.iter().all(open) || sums.iter().any(few) {
            return None;
        }
        let sum = |at: usize, of: fn(&Flow) -> i128| self.between.flows[at].iter().filter(stayed).map(of).sum::<i128>();
        let then: Vec<i128> = sums.iter().map(|at| sum(*at, |flow| flow.then)).collect();
        let now: Vec<i128> = sums.iter().map(|at| sum(*at, |flow| flow.then + flow.change)).collect();
        terms::shapley(&then, &now)
    }

    /// The change of everybody's figure by segment, where all segments are told on both nights.
    fn by_segment(&self, name: &str, kpi: &Kpi) -> Vec<Row> {
        let whole = self.figures(name, None);
        let segments: Vec<i64> = self.rows.iter().flatten().copied().collect();
        let each: Option<Vec<[Figure; 2]>> = segments.iter().map(|id| self.figures(name, Some(*id))).collect();
        let (Some(whole), Some(mut each)) = (whole, each) else { return Vec::new() };
        if segments.is_empty() {
            return Vec::new();
        }
        // What is everybody's and no segment's is of people without one.
        let rest = [0, 1].map(|night| {
            let sum = |of: fn(&Figure) -> i128| {
                of(&whole[night]) - each.iter().map(|figures| of(&figures[night])).sum::<i128>()
            };
            let (x, y) = (sum(|f| f.numerator), sum(|f| f.denominator));
            let value = (kpi.denominator.is_some() && y != 0).then(|| x as f64 / y as f64 + f64::from(kpi.offset));
            Figure { numerator: x, denominator: y, value }
        });
        let some = rest.iter().any(|rest| (rest.numerator, rest.denominator) != (0, 0));
        each.extend(some.then_some(rest));
        let unit = 10_f64.powi(i32::from(MONEY.1));
        let pair = |figure: &Figure| (figure.numerator as f64 / unit, figure.denominator as f64 / unit);
        let nights = [0, 1].map(|night| each.iter().map(|figures| pair(&figures[night])).collect::<Vec<_>>());
        let of_row = |at: usize, term: &'static str, contribution: f64, state: &'static str| Row {
            kpi: name.to_owned(),
            versus: self.versus,
            days: self.as_of.days(),
            split: Some("segments"),
            term: Some(term),
            of_segment: segments.get(at).and_then(|id| i32::try_from(*id).ok()),
            contribution: Some(contribution),
            state,
            ..Row::default()
        };
        if kpi.denominator.is_none() {
            let change = |(at, figures): (usize, &[Figure; 2])| {
                let numerator = figures[1].numerator - figures[0].numerator;
                Row { numerator: Some(numerator), ..of_row(at, "change", numerator as f64 / unit, "ok") }
            };
            return each.iter().enumerate().map(change).collect();
        }
        let Some(parts) = terms::rate_and_mix(&nights[0], &nights[1]) else { return Vec::new() };
        // Simpson (1951): every segment goes the other way than all of them together.
        let change = |figures: &[Figure; 2]| Some(figures[1].value? - figures[0].value?);
        let turned = change(&whole).is_some_and(|all| {
            let there = each.iter().filter(|figures| figures.iter().any(|figure| figure.denominator != 0));
            let own: Vec<Option<f64>> = there.map(change).collect();
            own.len() > 1 && own.iter().all(|own| own.is_some_and(|own| own * all < 0.0))
        });
        let state = if turned { "reversed" } else { "ok" };
        let rows = parts
            .into_iter()
            .enumerate()
            .flat_map(|(at, (rate, mix))| [of_row(at, "rate", rate, state), of_row(at, "mix", mix, state)]);
        rows.collect()
    }
}

pub(super) fn frame(night: &Night<'_>, table: &[Row]) -> Result<DataFrame, StageError> {
    let of = rows::Columns(table);
    rows::frame(
        night.engine,
        vec![
            ("segment_id", of.small(|r| r.segment)),
            ("kpi", of.texts(|r| Some(&r.kpi))),
            ("versus", of.texts(|r| Some(r.versus))),
            ("versus_as_of", of.dates(|r| Some(r.days))),
            ("split", of.texts(|r| r.split)),
            ("term", of.texts(|r| r.term)),
            ("step", of.small(|r| r.step)),
            ("detail", of.texts(|r| r.detail.as_deref())),
            ("of_segment_id", of.small(|r| r.of_segment)),
            ("numerator", of.money(|r| r.numerator)?),
            ("denominator", of.money(|r| r.denominator)?),
            ("contribution", of.floats(|r| r.contribution)),
            ("from", of.floats(|r| r.from)),
            ("to", of.floats(|r| r.to)),
            ("state", of.texts(|r| Some(r.state))),
        ],
    )
}
