//! Whether what was found is more than chance finds.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::{
    Cells,
    cuboid::{Cuboid, Element},
    noise::{self, Noise},
    scan::{self, Found, Likelihood, Scan},
};
use crate::hashed;

/// Searches over deviations dealt out anew, of which a share of the error may find as much.
const DEALT: usize = 59;
/// Cells of similar size that exchange their deviations.
const LIKE: usize = 40;

/// Whether a search finds more than searches over the same deviations do that are dealt out anew among cells of their size. Cells with
/// parts need no such search: their parts say how sure they are.
pub(super) fn unusual(cells: &Cells, noise: &Noise, scan: &Scan<'_>, found: &Found, error: f64) -> bool {
    if cells.parts > 1 || found.causes.is_empty() {
        return cells.parts > 1;
    }
    // The worth of the best set, at the level of most cells.
    let worth = |actual: &[f64]| {
        let level = noise::start(&cells.expected, actual, &noise.variance).unwrap_or(noise.level);
        let of_cell = Likelihood::of(&cells.expected, actual, &noise.variance, level);
        scan.sets(&of_cell, &scan.sums(&of_cell), 0.0, None).first().map_or(0.0, |best| best.score)
    };
    let found_worth = worth(&cells.actual);
    let mut known: Vec<usize> = (0..cells.len()).filter(|cell| noise.variance[*cell] > 0.0).collect();
    known.sort_by(|a, b| cells.expected[*a].total_cmp(&cells.expected[*b]).then(a.cmp(b)));
    // What was found would be dealt out too, and look like causes everywhere: its cells keep what they differ by from one another.
    let deviations = found.deviations();
    let standard = |cell: usize| {
        let calm = noise.level * cells.expected[cell];
        let fitted = match found.is_free(cell) {
            true => 0.0,
            false => deviations[cell] * scan::size(calm, cells.actual[cell]),
        };
        (cells.actual[cell] - calm - fitted) / noise.variance[cell].sqrt()
    };
    let allowed = ((error * (DEALT + 1) as f64) as usize).saturating_sub(1);
    let mut as_much = 0;
    for round in 0..DEALT as u64 {
        let mut actual = cells.actual.clone();
        for like in known.chunks(LIKE) {
            let mut order: Vec<usize> = like.to_vec();
            order.sort_by_cached_key(|cell| (hashed::below(usize::MAX, round, *cell as u64, 1), *cell));
            for (cell, from) in like.iter().zip(order) {
                actual[*cell] = noise.level * cells.expected[*cell] + standard(from) * noise.variance[*cell].sqrt();
            }
        }
        as_much += usize::from(worth(&actual) >= found_worth);
        if as_much > allowed {
            return false;
        }
    }
    true
}

/// Tests of sums over cells: that these are at the level of those that are part of nothing found.
pub(super) struct Test<'a> {
    cells: &'a Cells,
    noise: &'a Noise,
    weights: Vec<f64>,
    level: f64,
}

impl<'a> Test<'a> {
    pub(super) fn of(cells: &'a Cells, noise: &'a Noise, found: &Found) -> Self {
        let weight = |cell: usize| match noise.variance[cell] > 0.0 {
            true => scan::size(noise.level * cells.expected[cell], cells.actual[cell]) / noise.variance[cell],
            false => 0.0,
        };
        let weights: Vec<f64> = (0..cells.len()).map(weight).collect();
        // Weighted as the sums are that are tested.
        let free = || (0..cells.len()).filter(|cell| found.is_free(*cell));
        let sum = |of: &[f64]| free().map(|cell| weights[cell] * of[cell]).sum::<f64>();
        let level = sum(&cells.actual) / sum(&cells.expected);
        let level = if level.is_finite() { level } else { noise.level };
        Self { cells, noise, weights, level }
    }

    /// Adds a cell to what the parts say, and to the variance that is not theirs.
    fn add(&self, cell: usize, by_part: &mut [f64], apart: &mut f64) {
        let parts = self.cells.parts;
        *apart += self.weights[cell].powi(2) * self.noise.apart[cell];
        for (part, sum) in by_part.iter_mut().enumerate() {
            let at = cell * parts + part;
            *sum += self.weights[cell] * (self.cells.by_part[1][at] - self.level * self.cells.by_part[0][at]);
        }
    }

    /// The two-sided p-value of such sums.
    fn p_value(&self, by_part: &[f64], apart: f64) -> f64 {
        let (sum, n) = (by_part.iter().sum::<f64>(), by_part.len() as f64);
        let variance = apart + if n > 1.0 { noise::by_parts_variance(by_part) } else { 0.0 };
        if variance <= 0.0 {
            return 1.0;
        }
        let t = -(sum.abs() / variance.sqrt());
        let tail = match StudentsT::new(0.0, 1.0, (n - 1.0).max(1.0)) {
            Ok(student) if n > 1.0 => student.cdf(t),
            _ => Normal::standard().cdf(t),
        };
        (2.0 * tail).min(1.0)
    }

    /// The p-value of every element of every cuboid.
    pub(super) fn of_elements(&self, cuboids: &[Cuboid]) -> Vec<f64> {
        let parts = self.cells.parts;
        let mut tests = Vec::new();
        for cuboid in cuboids {
            let (mut by_part, mut apart) = (vec![0.0; cuboid.elements * parts], vec![0.0; cuboid.elements]);
            for (cell, element) in cuboid.of_cell.iter().enumerate() {
                let element = *element as usize;
                self.add(cell, &mut by_part[element * parts..][..parts], &mut apart[element]);
            }
            tests.extend(by_part.chunks(parts).zip(apart).map(|(by_part, apart)| self.p_value(by_part, apart)));
        }
        tests
    }

    /// The p-value of some cells.
    pub(super) fn of_cells(&self, cells: &[usize]) -> f64 {
        let (mut by_part, mut apart) = (vec![0.0; self.cells.parts], 0.0);
        cells.iter().for_each(|cell| self.add(*cell, &mut by_part, &mut apart));
        self.p_value(&by_part, apart)
    }
}

/// The least error at which Benjamini and Hochberg's procedure takes each of some hypotheses for false.
pub(super) fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*b].total_cmp(&p_values[*a]));
    let (mut least, n) = (1.0_f64, p_values.len() as f64);
    let mut adjusted = vec![1.0; p_values.len()];
    for (at, which) in order.into_iter().enumerate() {
        least = least.min(p_values[which] * n / (n - at as f64));
        adjusted[which] = least;
    }
    adjusted
}

/// The share of resamples in which each element is found again: of the parts with replacement, or of the deviations that cells of their
/// kind have (a parametric bootstrap).
pub(super) fn recurrences(cells: &Cells, noise: &Noise, scan: &Scan<'_>, found: &Found, rounds: usize) -> Vec<f64> {
    let elements: Vec<Element> = found.elements().collect();
    let deviations = found.deviations();
    let mut times = vec![0_usize; elements.len()];
    let level = Test::of(cells, noise, found).level;
    for round in 0..rounds as u64 {
        let (expected, actual) = match cells.parts {
            1 => dealt(cells, noise, &deviations, round),
            parts => drawn(cells, parts, round),
        };
        let again: Vec<Element> = scan.causes_at(&expected, &actual, level).elements().collect();
        for (times, element) in times.iter_mut().zip(&elements) {
            *times += usize::from(again.contains(element));
        }
    }
    times.into_iter().map(|times| times as f64 / rounds.max(1) as f64).collect()
}

/// The sums of as many parts as there are, with replacement.
fn drawn(cells: &Cells, parts: usize, round: u64) -> (Vec<f64>, Vec<f64>) {
    let mut times = vec![0.0; parts];
    for draw in 0..parts {
        times[hashed::below(parts, round, draw as u64, 2)] += 1.0;
    }
    let sums = |which: usize| -> Vec<f64> {
        let cell = |values: &[f64]| values.iter().zip(&times).map(|(value, times)| value * times).sum();
        cells.by_part[which].chunks(parts).map(cell).collect()
    };
    (sums(0), sums(1))
}

/// What cells would be with what was found, and normal deviations of their variance.
fn dealt(cells: &Cells, noise: &Noise, deviations: &[f64], round: u64) -> (Vec<f64>, Vec<f64>) {
    let normal = Normal::standard();
    let actual = (0..cells.len()).map(|cell| {
        let calm = noise.level * cells.expected[cell];
        let fitted = calm + deviations[cell] * scan::size(calm, cells.actual[cell]);
        fitted + noise.variance[cell].sqrt() * normal.inverse_cdf(hashed::unit(round, cell as u64, 3))
    });
    (cells.expected.clone(), actual.collect())
}
