//! The rows of `causes`: where changes happened, beside what all cells share, the mix and what is left.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::DataFrame;
use tessera_algo::localise::{self, Cube, Finding, Located, Settings, Sums};
use tessera_contract::{AsOf, Entity, Kpi, table::MONEY};

use super::{
    Sums as OfPeople, Told,
    days::{Gap, Missing},
    first::{self, First},
    grids::{self, Grid, Members, SEGMENT},
    people::Between,
    table::REDEFINED,
};
use crate::{Night, StageError, rows};

/// A row of the table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub segment: Option<i32>,
    /// None of what is of the night's rows, whatever is added up of them.
    pub kpi: Option<String>,
    pub versus: &'static str,
    pub days: i32,
    pub rank: Option<i32>,
    pub finding: Option<&'static str>,
    pub dimensions: Vec<String>,
    pub contribution: Option<f64>,
    pub change: Option<f64>,
    pub power: Option<f64>,
    pub surprise: Option<f64>,
    pub p_value: Option<f64>,
    pub q_value: Option<f64>,
    pub recurrence: Option<f64>,
    /// The same on every night on which it is found.
    pub id: Option<String>,
    /// In days since 1970-01-01.
    pub since: Option<i32>,
    pub occurrences: Option<i32>,
    pub state: &'static str,
}

/// KPIs with their names.
type Kpis<'a> = Vec<(&'a str, &'a Kpi)>;

/// What is asked of a grid: a KPI, of a segment or of everybody.
struct Asked<'g, 'a> {
    grid: &'g Grid<'a>,
    name: &'a str,
    kpi: &'a Kpi,
    segment: Option<i64>,
    /// The change that is told.
    told: [f64; 2],
    /// What the cells make of the earlier night.
    then: f64,
    /// What is no place.
    firsts: Vec<First>,
    /// What the numerators after are divided by.
    by: f64,
}

/// Where the changes since an earlier night happened, of KPIs that both nights have.
pub(super) async fn causes(
    night: &Night<'_>,
    (versus, as_of): (&'static str, AsOf),
    tables: &BTreeMap<String, DataFrame>,
    told: [&Told; 2],
    (both, sums): (&[(&str, &Kpi)], &OfPeople),
    (changes, between): (&[super::table::Row], &Between),
    table: &mut Vec<Row>,
) -> Result<(), StageError> {
    let row = |kpi: &str, segment: Option<i64>, state: &'static str| Row {
        segment: segment.and_then(|id| i32::try_from(id).ok()),
        kpi: Some(kpi.to_owned()),
        versus,
        days: as_of.days(),
        state,
        ..Row::default()
    };
    let changes = || changes.iter().filter(|change| change.versus == versus);
    let redefined: BTreeSet<&str> =
        changes().filter(|change| change.state == REDEFINED).map(|change| change.kpi.as_str()).collect();
    table.extend(redefined.iter().map(|kpi| row(kpi, None, REDEFINED)));
    let mut of_rows: Vec<(Option<Entity>, Kpis<'_>)> = Vec::new();
    for (name, kpi) in both.iter().filter(|(name, _)| !redefined.contains(name)) {
        let entity = grids::searched(night, kpi)?;
        match of_rows.iter_mut().find(|(of, _)| *of == entity) {
            Some((_, kpis)) => kpis.push((*name, *kpi)),
            None => of_rows.push((entity, vec![(*name, *kpi)])),
        }
    }
    if versus == "previous" {
        table.extend(first::doubts(night).await?.into_iter().map(|dimensions| Row {
            kpi: None,
            finding: Some("quality"),
            dimensions,
            ..row("", None, "ok")
        }));
    }
    let members = Members::of(night, as_of, tables, between).await?;
    let (mut all, mut gaps): (Vec<_>, Vec<Gap>) = (Vec::new(), Vec::new());
    for (entity, kpis) in &of_rows {
        all.push(match entity {
            Some(entity) => {
                let missing = Missing::of(night, *entity, kpis, as_of, tables).await?;
                gaps.extend(missing.gaps(kpis, members.both()).await?);
                members.rows(*entity, kpis, &missing).await?
            }
            None => members.people(kpis, sums).await?,
        });
    }
    let segments = told[1].segments.iter().filter(|id| told[0].segments.contains(*id)).copied();
    let scopes: Vec<Option<i64>> = [None].into_iter().chain(segments.map(Some)).collect();
    let (mut asked, mut cubes) = (Vec::new(), Vec::new());
    for grid in &all {
        for (name, kpi, x, y) in &grid.kpis {
            let whole = grid.whole(kpi);
            let is = [Some(*x), *y].map(|sum| sum.map_or(0, |sum| grid.total(sum, &whole, false)[1]));
            // Rows are rounded one by one to the digits that tables have, and what they add up to is rounded once.
            let apart = |is: i128, told: i128| (is - told).abs() > told.abs() / 1_000_000;
            let of_kpi = told[1].figure(name, None);
            if of_kpi.is_some_and(|told| apart(is[0], told.numerator) || y.is_some() && apart(is[1], told.denominator))
            {
                tracing::warn!(
                    "the rows of [kpis.{name}] add up to {} and {}, and not to what its numerator and denominator do: where it changed is not searched",
                    rows::show_money(is[0]),
                    rows::show_money(is[1])
                );
                table.push(row(name, None, "rows_differ"));
                continue;
            }
            for segment in &scopes {
                let (Some(then), Some(now)) = (told[0].figure(name, *segment), told[1].figure(name, *segment)) else {
                    table.push(row(name, *segment, "suppressed"));
                    continue;
                };
                let of = row(name, *segment, "ok").segment;
                let mut firsts = first::of_terms(
                    changes().filter(|change| change.kpi == *name && change.segment == of && change.state == "ok"),
                );
                let gaps = gaps.iter().filter(|gap| gap.kpi == *name && gap.segment == *segment);
                firsts.extend(gaps.map(|gap| gap.first.clone()));
                match Asked::of(grid, (name, kpi, *x, *y), *segment, [then, now], firsts) {
                    Some(one) => {
                        cubes.push(one.cube((*x, *y), told));
                        asked.push(one);
                    }
                    None => table.push(row(name, *segment, "not_available")),
                }
            }
        }
    }
    let settings = &night.project.causes;
    let settings = Settings {
        error: settings.false_discoveries,
        share: settings.share,
        resamples: settings.resamples,
        recurrence: settings.recurrence,
        fewest: usize::try_from(night.project.privacy.k).unwrap_or(usize::MAX),
    };
    let located = localise::locate(&cubes, &settings, night.engine.partitions());
    for (asked, located) in asked.iter().zip(located) {
        table.extend(asked.rows(&located, &row(asked.name, asked.segment, "ok"), night.project.causes.most));
    }
    Ok(())
}

impl<'g, 'a> Asked<'g, 'a> {
    /// None, where there is nothing to divide by.
    fn of(
        grid: &'g Grid<'a>,
        (name, kpi, x, y): (&'a str, &'a Kpi, usize, Option<usize>),
        segment: Option<i64>,
        told: [super::Figure; 2],
        firsts: Vec<First>,
    ) -> Option<Self> {
        let cells = grid.of(kpi, segment);
        let whole = |sum: usize| grid.total(sum, &cells, y.is_none()).map(money);
        let [then, by] = match (whole(x), y.map(whole)) {
            ([before, _], None) => [before, 1.0],
            ([before, _], Some([of, by])) => [before / of, by],
        };
        let offset = f64::from(kpi.offset);
        let value = |figure: super::Figure| match y {
            Some(_) => figure.value.map(|value| value - offset),
            None => Some(money(figure.numerator)),
        };
        let told = [value(told[0])?, value(told[1])?];
        (then.is_finite() && by != 0.0).then_some(Self { grid, name, kpi, segment, told, then, firsts, by })
    }

    fn cube(&self, (x, y): (usize, Option<usize>), told: [&Told; 2]) -> Cube {
        let grid = self.grid;
        // Cells of several scopes are one beside others.
        let mut cells: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
        for cell in grid.of(self.kpi, self.segment) {
            let key = self.dimensions().map(|at| grid.cells[at][cell]).collect();
            cells.entry(key).or_default().push(cell);
        }
        let sums = |sum: usize| {
            [0, 1].map(|night| {
                let each = |cells: &'_ Vec<usize>, part: usize| {
                    money(cells.iter().map(|cell| grid.at(sum, night, (*cell, part), y.is_none())).sum())
                };
                cells
                    .values()
                    .flat_map(|cells| (0..grid.parts).map(move |part| each(cells, part)))
                    .collect::<Vec<f64>>()
            })
        };
        let mut unnamed: Vec<Vec<u32>> = self.dimensions().map(|at| grid.unnamed(at)).collect();
        if self.segment.is_none() {
            // What is hidden of a segment is not told as a cell, nor what one of the nights does not have.
            let there = |id: Option<i64>| {
                told.iter().all(|night| {
                    id.is_some_and(|id| night.segments.contains(&id)) && night.figure(self.name, id).is_some()
                })
            };
            let hidden = grid.values[SEGMENT].iter().enumerate().filter(|(_, id)| !there(id.parse().ok()));
            unnamed[0].extend(hidden.map(|(at, _)| at as u32));
        }
        Cube {
            dimensions: (0..self.dimensions().len()).map(|at| cells.keys().map(|key| key[at]).collect()).collect(),
            parts: grid.parts,
            sums: match y {
                None => Sums::Sum(sums(x)),
                Some(y) => {
                    let ([a, b], [c, d]) = (sums(x), sums(y));
                    Sums::Ratio([[a, c], [b, d]])
                }
            },
            unnamed,
            // Whom a segment has follows from what they do, so that most segments have changes of their own.
            strata: self.segment.is_none().then(|| SEGMENT - self.dimensions().start),
        }
    }

    /// The dimensions of the grid by which it is searched: within a segment, not the segment.
    fn dimensions(&self) -> std::ops::Range<usize> {
        SEGMENT + usize::from(self.segment.is_some())..self.grid.dimensions.len()
    }

    /// What is told: the findings, and everything else, so that all adds up to the change.
    fn rows(&self, located: &Located, row: &Row, most: usize) -> Vec<Row> {
        let change = self.told[1] - self.told[0];
        let power = |contribution: f64| (change != 0.0).then(|| contribution / change);
        let first = self.dimensions().start;
        // A whole segment comes after the places in it, and in several.
        let mut told: Vec<(bool, Row)> = Vec::new();
        for first in &self.firsts {
            // Terms are exact where they are told, and what days lack is an estimate.
            let gap = first.finding == "missing";
            let contribution = if gap { short(first.contribution) } else { first.contribution };
            let row = Row {
                finding: Some(first.finding),
                dimensions: first.dimensions.clone(),
                contribution: Some(contribution),
                change: first.change.map(short),
                power: power(contribution),
                ..row.clone()
            };
            told.push((false, row));
        }
        for finding in located.findings.iter().take(most) {
            let contribution = short(finding.contribution() / self.by);
            let named = |(dimension, value): &(usize, u32)| {
                let at = first + dimension;
                format!("{}={}", self.grid.dimensions[at], self.grid.values[at][*value as usize])
            };
            let row = Row {
                finding: Some("where"),
                dimensions: finding.pattern.iter().map(named).collect(),
                contribution: Some(contribution),
                change: (finding.expected != 0.0).then(|| short(finding.contribution() / finding.expected.abs())),
                power: power(contribution),
                surprise: surprise(finding, located),
                p_value: Some(finding.p_value),
                q_value: Some(finding.q_value),
                recurrence: Some(finding.recurrence),
                ..row.clone()
            };
            told.push((finding.pattern.iter().all(|(dimension, _)| first + dimension == SEGMENT), row));
        }
        let size = |row: &Row| row.contribution.unwrap_or(0.0).abs();
        told.sort_by(|(segment, a), (other, b)| segment.cmp(other).then(size(b).total_cmp(&size(a))));
        let mut told: Vec<Row> = told.into_iter().map(|(_, row)| row).collect();
        (1..).zip(&mut told).for_each(|(rank, row)| row.rank = Some(rank));
        let untold: f64 = located.findings.iter().skip(most).map(|finding| finding.contribution() / self.by).sum();
        let mut others = vec![("rest", short(untold))];
        if self.kpi.denominator.is_some() {
            others.push(("mix", located.expected / self.by - self.then));
        }
        let contributions = told.iter().filter_map(|row| row.contribution);
        let explained: f64 = contributions.chain(others.iter().map(|(_, contribution)| *contribution)).sum();
        // What all share is what is left, and with it what is told by itself nowhere: terms of few, and the digits that findings do not tell. The
        // errors of doubles are nobody's.
        let shared = change - explained;
        let size = self.told[0].abs().max(self.told[1].abs()).max(explained.abs());
        others.push(("everywhere", if shared.abs() <= 1e-12 * size { 0.0 } else { shared }));
        told.extend(others.into_iter().map(|(finding, contribution)| Row {
            finding: Some(finding),
            contribution: Some(contribution),
            power: power(contribution),
            ..row.clone()
        }));
        told
    }
}

/// The surprise of a finding: how far its share of the whole is from what it was (Bhagwan et al. 2014, equation 1).
fn surprise(finding: &Finding, located: &Located) -> Option<f64> {
    let (p, q) = (finding.expected / located.level / located.expected, finding.actual / located.actual);
    let share = |x: f64| (0.0..=1.0).contains(&x);
    let term = |x: f64| if x > 0.0 { x * (2.0 * x / (p + q)).ln() / 2.0 } else { 0.0 };
    (share(p) && share(q)).then(|| short(term(p) + term(q)))
}

/// Three digits: what a few people add is not told.
fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        // Nothing has no sign.
        return value + 0.0;
    }
    let unit = 10_f64.powi(2 - value.abs().log10().floor() as i32);
    (value * unit).round() / unit
}

pub(super) fn money(value: i128) -> f64 {
    value as f64 / 10_f64.powi(i32::from(MONEY.1))
}

pub(super) fn frame(night: &Night<'_>, table: &[Row]) -> Result<DataFrame, StageError> {
    let of = rows::Columns(table);
    rows::frame(
        night.engine,
        vec![
            ("segment_id", of.small(|r| r.segment)),
            ("kpi", of.texts(|r| r.kpi.as_deref())),
            ("versus", of.texts(|r| Some(r.versus))),
            ("versus_as_of", of.dates(|r| Some(r.days))),
            ("rank", of.small(|r| r.rank)),
            ("finding", of.texts(|r| r.finding)),
            ("dimensions", of.lists(|r| &r.dimensions)),
            ("contribution", of.floats(|r| r.contribution)),
            ("change", of.floats(|r| r.change)),
            ("explanatory_power", of.floats(|r| r.power)),
            ("surprise", of.floats(|r| r.surprise)),
            ("p_value", of.floats(|r| r.p_value)),
            ("q_value", of.floats(|r| r.q_value)),
            ("bootstrap_share", of.floats(|r| r.recurrence)),
            ("cause_id", of.texts(|r| r.id.as_deref())),
            ("since", of.dates(|r| r.since)),
            ("occurrences", of.small(|r| r.occurrences)),
            ("state", of.texts(|r| Some(r.state))),
        ],
    )
}
