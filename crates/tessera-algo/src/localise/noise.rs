//! How far cells are from their expectation without a cause.

use super::{Cells, cuboid::Cuboid, scan};
use crate::robust;

/// The least standard deviation, as a share of what is expected: no sum is known better.
const LEAST: f64 = 1e-3;
/// The variance of the deviation of a cell of which nothing was expected, as a share of its squared size: two sizes from there, it says that much (seven
/// nats) at most. What was nothing before has no factor, and one cell that is new is none of a cause; a value whose cells all are is.
const BORN: f64 = 2.0 / 7.0;
/// What parts of a cell say of its variance counts as much as their number; what cells of its size say, as so many. Of fewer parts, a cell's own
/// change would be all that is known of its variance.
const PRIOR: f64 = 8.0;
/// Times that what each value says of the variance of its cells is fitted beside the other dimensions.
const SWEEPS: usize = 3;
/// Cells whose sampling is known, of which it takes so many to tell what cells differ by beyond it.
const KNOWN: usize = 10;
/// The median of a squared standard normal value (χ² of one degree of freedom).
const MEDIAN: f64 = 0.454_936_423_119_572_7;

/// The standard error of a median of n such squares, times √n: half over their density there.
const MEDIAN_ERROR: f64 = 1.061_264;

/// The level of all cells, and how sure each is.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    pub level: f64,
    /// The variance of a cell's deviation.
    pub variance: Vec<f64>,
    /// The part of it that is not of sampling: what cells differ by otherwise. Of cells without parts it is all.
    pub apart: Vec<f64>,
}

/// The noise of some cells; none of cells that cannot be compared.
pub(super) fn of(cells: &Cells, cuboids: &[Cuboid]) -> Option<Noise> {
    if cells.expected.iter().all(|expected| *expected <= 0.0) {
        return None;
    }
    let mut level = start(&cells.expected, &cells.actual, &cells.expected)?;
    let mut noise = None;
    for _ in 0..2 {
        let found = match cells.parts {
            1 => like_others(cells, level),
            _ => by_parts(cells, cuboids, level),
        };
        level = start(&cells.expected, &cells.actual, &found.variance).unwrap_or(level);
        noise = Some(Noise { level, ..found });
    }
    noise
}

/// The level of most cells: of those that are known to a fifth, if these are not few, since the middle of counts of a few is below their mean.
pub(super) fn start(expected: &[f64], actual: &[f64], variance: &[f64]) -> Option<f64> {
    let ratios = |least: f64| {
        let known = (0..expected.len()).filter(move |cell| {
            expected[*cell] > 0.0 && variance[*cell] > 0.0 && expected[*cell].powi(2) / variance[*cell] >= least
        });
        known.map(|cell| (actual[cell] / expected[cell], expected[cell] / variance[cell].sqrt()))
    };
    let least = if ratios(25.0).count() >= 20 { 25.0 } else { 0.0 };
    // Where most is gone, what is left of all.
    let together = actual.iter().sum::<f64>() / expected.iter().sum::<f64>();
    let usable = |level: &f64| *level > 0.0 && level.is_finite();
    robust::weighted_median(ratios(least)).filter(usable).or(Some(together).filter(usable)).or(Some(1.0))
}

fn deviations(cells: &Cells, level: f64) -> Vec<f64> {
    cells.expected.iter().zip(&cells.actual).map(|(expected, actual)| actual - level * expected).collect()
}

/// What a cell's variance follows: its counts, and its size. What is expected is known from counts too, so that none of it is not sure to be none.
fn sizes(cells: &Cells, level: f64) -> Vec<(f64, f64)> {
    let some = cells.expected.iter().chain(&cells.actual).map(|value| value.abs()).filter(|value| *value > 0.0);
    let least = robust::weighted_quantile(some.map(|value| (value, 1.0)), 0.05).unwrap_or(0.0);
    (0..cells.len())
        .map(|cell| match scan::size(level * cells.expected[cell], cells.actual[cell]) {
            0.0 => (0.0, 0.0),
            size => (cells.spread[cell] * size.max(least), size),
        })
        .collect()
}

/// From the deviations of all cells: a variance that grows with counts (a·n) and with sizes (b·x²), where the share of either is the one
/// under which the deviations are most likely to be of one Student's t of four degrees of freedom, and their spread is that of most.
fn like_others(cells: &Cells, level: f64) -> Noise {
    let (deviations, sizes) = (deviations(cells, level), sizes(cells, level));
    let known: Vec<usize> = (0..cells.len()).filter(|cell| sizes[*cell].1 > 0.0).collect();
    let typical = robust::weighted_median(known.iter().map(|cell| (sizes[*cell].0 / sizes[*cell].1.powi(2), 1.0)));
    let least = |cell: usize| (LEAST * sizes[cell].1).powi(2);
    let mut best: Option<(f64, Vec<f64>)> = None;
    for step in 0..13 {
        // From counts alone to sizes alone.
        let by_size = match step {
            0 => 0.0,
            12 => f64::INFINITY,
            _ => typical.unwrap_or(1.0) * 10_f64.powf(f64::from(step - 6) / 1.5),
        };
        let base = |cell: usize| match by_size.is_finite() {
            true => sizes[cell].0 + by_size * sizes[cell].1.powi(2),
            false => sizes[cell].1.powi(2),
        };
        let squares = known.iter().map(|cell| (deviations[*cell].powi(2) / base(*cell), 1.0));
        let scale = robust::weighted_median(squares).unwrap_or(0.0) / MEDIAN;
        let variance: Vec<f64> = (0..cells.len()).map(|cell| (scale * base(cell)).max(least(cell))).collect();
        let unlikely: f64 = known
            .iter()
            .map(|cell| 0.5 * variance[*cell].ln() + 2.5 * (deviations[*cell].powi(2) / variance[*cell] / 4.0).ln_1p())
            .sum();
        if best.as_ref().is_none_or(|(least, _)| unlikely < *least) {
            best = Some((unlikely, variance));
        }
    }
    let mut variance = best.map(|(_, variance)| variance).unwrap_or_default();
    for cell in known.iter().filter(|cell| cells.expected[**cell] == 0.0) {
        variance[*cell] = variance[*cell].max(BORN * sizes[*cell].1.powi(2));
    }
    Noise { level, apart: variance.clone(), variance }
}

/// How much larger the variance of what cells say together is than that of each makes it, as a rule: of the elements of one dimension, whose
/// parts tell it. What a few large orders make of the mean of all cells is no rule, and people who are in several cells are in all of these.
fn together(cells: &Cells, cuboids: &[Cuboid], (level, variance): (f64, &[f64])) -> f64 {
    let parts = cells.parts;
    let mut ratios = Vec::new();
    for cuboid in cuboids.iter().filter(|cuboid| cuboid.dimensions.len() == 1) {
        for element in 0..cuboid.elements as u32 {
            let (mut by_part, mut apart) = (vec![0.0; parts], 0.0);
            for cell in cuboid.cells(element).iter().map(|cell| *cell as usize).filter(|cell| variance[*cell] > 0.0) {
                let size = scan::size(level * cells.expected[cell], cells.actual[cell]);
                apart += size * size / variance[cell];
                for (part, sum) in by_part.iter_mut().enumerate() {
                    let at = cell * parts + part;
                    *sum += size / variance[cell] * (cells.by_part[1][at] - level * cells.by_part[0][at]);
                }
            }
            if apart > 0.0 && by_part.iter().filter(|sum| **sum != 0.0).count() as f64 >= PRIOR {
                ratios.push((by_parts_variance(&by_part) / apart, 1.0));
            }
        }
    }
    robust::weighted_median(ratios.into_iter()).filter(|ratio| *ratio > 0.0).unwrap_or(1.0)
}

/// The variance of a sum over parts that are independent of one another (random groups).
pub(super) fn by_parts_variance(by_part: &[f64]) -> f64 {
    let n = by_part.len() as f64;
    let mean = by_part.iter().sum::<f64>() / n;
    n / (n - 1.0) * by_part.iter().map(|part| (part - mean).powi(2)).sum::<f64>()
}

/// What the variance of each cell is to be by its counts and by its values: orders of a segment, or of a category, may be large or small ones, whatever the
/// others are (fitted by iterative proportional scaling). Given are what the parts of every cell say, with their number, and its counts.
fn usual(own: &[(f64, f64)], sizes: &[(f64, f64)], cuboids: &[Cuboid]) -> Vec<f64> {
    let sum = |of: &dyn Fn(usize) -> f64| (0..own.len()).map(of).sum::<f64>();
    let (variance, counts, parts) = (sum(&|at| own[at].0), sum(&|at| sizes[at].0), sum(&|at| own[at].1));
    if counts <= 0.0 || parts <= 0.0 {
        return vec![0.0; own.len()];
    }
    let mut usual: Vec<f64> = sizes.iter().map(|(count, _)| count * variance / counts).collect();
    // What a value says by few parts counts for little.
    let little = KNOWN as f64 * PRIOR * variance / parts;
    for _ in 0..SWEEPS {
        for cuboid in cuboids.iter().filter(|cuboid| cuboid.dimensions.len() == 1) {
            for element in 0..cuboid.elements as u32 {
                let cells = || cuboid.cells(element).iter().map(|cell| *cell as usize);
                let (is, was) = cells().fold((0.0, 0.0), |(is, was), cell| (is + own[cell].0, was + usual[cell]));
                let by = (is + little) / (was + little);
                cells().for_each(|cell| usual[cell] *= by);
            }
        }
    }
    usual
}

/// From the parts of every cell, and what cells differ by beyond that: b·x², the least under which half of the cells are within what half
/// of as many normal values may be.
fn by_parts(cells: &Cells, cuboids: &[Cuboid], level: f64) -> Noise {
    let (deviations, sizes) = (deviations(cells, level), sizes(cells, level));
    let own: Vec<(f64, f64)> = (0..cells.len())
        .map(|cell| {
            let at = cell * cells.parts..(cell + 1) * cells.parts;
            let each: Vec<f64> = at.map(|at| cells.by_part[1][at] - level * cells.by_part[0][at]).collect();
            (by_parts_variance(&each), each.iter().filter(|deviation| **deviation != 0.0).count() as f64)
        })
        .collect();
    let usual = usual(&own, &sizes, cuboids);
    let mut sampling: Vec<f64> = own
        .iter()
        .zip(&sizes)
        .zip(usual)
        .map(|(((variance, n), (_, size)), usual)| {
            let n = if *n < PRIOR { 0.0 } else { *n };
            ((n * variance + PRIOR * usual) / (n + PRIOR)).max((LEAST * size).powi(2))
        })
        .collect();
    let scale = together(cells, cuboids, (level, &sampling));
    sampling.iter_mut().for_each(|variance| *variance *= scale);
    let known: Vec<usize> = (0..cells.len()).filter(|cell| sizes[*cell].1 > 0.0 && own[*cell].1 >= PRIOR).collect();
    // The median of so many squares is within two of its standard errors in nineteen of twenty cases.
    let most = MEDIAN + 2.0 * MEDIAN_ERROR / (known.len() as f64).sqrt();
    let wide = |by_size: f64| {
        let squares = known
            .iter()
            .map(|cell| (deviations[*cell].powi(2) / (sampling[*cell] + by_size * sizes[*cell].1.powi(2)), 1.0));
        robust::weighted_median(squares).is_some_and(|median| median > most)
    };
    let (mut low, mut high) = (0.0, 4.0);
    if known.len() >= KNOWN && wide(low) {
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if wide(middle) { low = middle } else { high = middle }
        }
    }
    let apart: Vec<f64> = sizes.iter().map(|(_, size)| low * size.powi(2)).collect();
    let variance = sampling.iter().zip(&apart).map(|(sampling, apart)| sampling + apart).collect();
    Noise { level, variance, apart }
}
