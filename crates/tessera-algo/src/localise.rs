//! Where a change happened: the cells of a cube that changed otherwise than the rest, named by as few conditions as tell it.
//!
//! A cell is what is known of one combination of the values of all dimensions: what was to be expected of it and what came. Left alone,
//! every cell comes to its expectation times one level that all share. A cause is a set of elements of a cuboid (combinations of the
//! values of one to three dimensions) whose cells all changed by one further factor: what Li et al. (2019, "Generic and robust localization
//! of multi-dimensional root causes", ISSRE) call the generalised ripple effect.
//!
//! The set that is most unlike the rest is found by its likelihood ratio over all factors at once, each element paying for its name
//! (Speakman et al. 2016, "Penalized fast subset scanning", J. Comput. Graph. Stat. 25), and the sets of different cuboids are compared
//! by the length of what describes them (Rissanen 1978). What a cause explains is taken away, and the search goes on with the rest.
//!
//! Whether a cause is one is asked of everything that was looked at together (Benjamini and Hochberg 1995). Where cells come in parts
//! that are independent of one another (customers by the hash of their key), the parts say how sure their sums are (random groups:
//! Wolter 2007, "Introduction to Variance Estimation", chapter 2); where they do not, the cells that are like one another do, and a search is held against
//! searches over the same deviations dealt out anew.

mod cuboid;
mod noise;
mod scan;
mod significance;

use std::collections::BTreeMap;

use self::{
    cuboid::Cuboid,
    noise::Noise,
    scan::{Found, Scan},
    significance::Test,
};
use crate::parallel;

/// Conditions that one cause can have.
const LAYERS: usize = 3;
/// Sets of elements that a search takes at most.
const CAUSES: usize = 8;
/// Times that the levels of strata are known anew from what has no cause, at most.
const ROUNDS: usize = 3;
/// The least share of a stratum without a cause that tells its level.
const KNOWN: f64 = 0.05;
/// Elements of a cuboid at most: a finer one tells cells apart and names nothing that they share.
const ELEMENTS: usize = 20_000;

/// What is known of the cells, part by part.
#[derive(Debug, Clone)]
pub struct Cube {
    /// By dimension, the value of each cell, numbered from 0. No two cells have all values in common.
    pub dimensions: Vec<Vec<u32>>,
    /// The number of parts; the sums below are of cell `c` and part `p` at `c × parts + p`.
    pub parts: usize,
    /// What is compared.
    pub sums: Sums,
    /// By dimension, values that are not named: those that are several together, or nobody's.
    pub unnamed: Vec<Vec<u32>>,
    /// A dimension whose values have levels of their own, such as segments that people come to and leave because of what they do. Causes are what
    /// changed otherwise than the rest of its stratum; which strata changed otherwise than the others is told after them.
    pub strata: Option<usize>,
}

/// What is compared, of every cell and part.
#[derive(Debug, Clone)]
pub enum Sums {
    /// A sum, before and after.
    Sum([Vec<f64>; 2]),
    /// A ratio of two sums: numerators and denominators before, and after. Its rate is searched; the mix of the denominators is apart.
    Ratio([[Vec<f64>; 2]; 2]),
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// What all cells changed by, as a factor.
    pub level: f64,
    /// What was to be expected in all without a change: the sum before, or what the rates before make of the denominators after.
    pub expected: f64,
    /// What came.
    pub actual: f64,
    /// The causes, the largest contribution first, and after them strata.
    pub findings: Vec<Finding>,
    /// Elements that were looked at.
    pub looked_at: usize,
}

/// A combination of values that changed otherwise than the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its conditions: dimension and value.
    pub pattern: Vec<(usize, u32)>,
    /// What its cells were to be by the level of all (or of their stratum), without those of findings that were made before it.
    pub expected: f64,
    /// What they are.
    pub actual: f64,
    /// What they were to be at a level of 1.
    pub before: f64,
    /// How probable as much is without a cause, in two tails.
    pub p_value: f64,
    /// The same among everything that was looked at.
    pub q_value: f64,
    /// The share of resamples in which it is found again.
    pub recurrence: f64,
}

impl Finding {
    /// What it adds to the change.
    #[must_use]
    pub fn contribution(&self) -> f64 {
        self.actual - self.expected
    }
}

/// How it is searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of findings that may be false (Benjamini and Hochberg), and of searches without a cause that may name one.
    pub error: f64,
    /// Findings whose contribution is a smaller share of the change are left out.
    pub share: f64,
    /// Resamples.
    pub resamples: usize,
    /// Findings that are found again in a smaller share of them are left out.
    pub recurrence: f64,
    /// What is added to a sum before, after or otherwise, by an element that is named and by what is beside it, is of so many parts at least (so of
    /// as many units), or of none.
    pub fewest: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { error: 0.05, share: 0.02, resamples: 50, recurrence: 0.5, fewest: 1 }
    }
}

/// Finds where the changes of some cubes happened. Whether a finding is one is asked of all cubes together, and of all strata.
#[must_use]
pub fn locate(cubes: &[Cube], settings: &Settings, threads: usize) -> Vec<Located> {
    let mut located = search(cubes, settings, threads);
    let with: Vec<(usize, usize)> =
        cubes.iter().enumerate().filter_map(|(at, cube)| Some((at, cube.strata?))).collect();
    let left: Vec<Cube> = with.iter().map(|(at, strata)| cubes[*at].beside(*strata, &located[*at].findings)).collect();
    for ((at, strata), found) in with.iter().zip(search(&left, settings, threads)) {
        located[*at].looked_at += found.looked_at;
        located[*at].findings.extend(found.findings.into_iter().map(|finding| Finding {
            pattern: finding.pattern.into_iter().map(|(_, value)| (*strata, value)).collect(),
            ..finding
        }));
    }
    located
}

fn search(cubes: &[Cube], settings: &Settings, threads: usize) -> Vec<Located> {
    let searched = parallel::map(cubes, threads, |cube| Search::of(cube, settings).candidates(settings));
    let tests: Vec<f64> = searched.iter().flat_map(|candidates| candidates.tests.iter().copied()).collect();
    let mut q_values = significance::adjusted(&tests).into_iter();
    let kept = searched.into_iter().map(|Candidates { mut located, tests, places }| {
        let q_values: Vec<f64> = q_values.by_ref().take(tests.len()).collect();
        for (finding, place) in located.findings.iter_mut().zip(places) {
            finding.q_value = q_values[place];
        }
        located.looked_at = tests.len();
        located.keep(settings);
        located
    });
    // Only what is told is asked whether it is found again.
    let all: Vec<(&Cube, Located)> = cubes.iter().zip(kept).collect();
    parallel::map(&all, threads, |(cube, located)| {
        let mut located = located.clone();
        if !located.findings.is_empty() {
            let again = Search::of(cube, settings).recurrences(settings.resamples);
            for finding in &mut located.findings {
                finding.recurrence = again.get(&finding.pattern).copied().unwrap_or(0.0);
            }
            located.findings.retain(|finding| finding.recurrence >= settings.recurrence);
            located.settle();
        }
        located
    })
}

/// What a search finds of a cube, before all cubes are known.
struct Candidates {
    located: Located,
    /// The p-value of everything that was looked at, and the place of each finding's among these.
    tests: Vec<f64>,
    places: Vec<usize>,
}

/// The search over a cube.
struct Search {
    /// With its cells in the order of their values.
    cube: Cube,
    marks: Vec<Vec<bool>>,
    cells: Cells,
    cuboids: Vec<Cuboid>,
    /// None of cells that cannot be compared.
    found: Option<(Noise, Found)>,
}

impl Search {
    fn of(cube: &Cube, settings: &Settings) -> Self {
        let cube = cube.in_order();
        let (cells, marks) = (Cells::of(&cube), cube.sums.marks());
        let mut cuboids = Cuboid::all(&cube.dimensions, LAYERS, ELEMENTS);
        cuboid::name(&mut cuboids, &cube, &marks, settings.fewest);
        let mut search = Self { cube, marks, cells, cuboids, found: None };
        match search.cube.strata {
            Some(strata) => search.level(strata),
            None => search.found = search.causes(),
        }
        search
    }

    fn scan<'a>(&'a self, noise: &'a Noise) -> Scan<'a> {
        Scan { cuboids: &self.cuboids, variance: &noise.variance, causes: CAUSES }
    }

    fn causes(&self) -> Option<(Noise, Found)> {
        let noise = noise::of(&self.cells, &self.cuboids)?;
        let found = self.scan(&noise).causes(&self.cells.expected, &self.cells.actual);
        Some((noise, found))
    }

    /// Expects of every stratum what those of its cells changed by that have no cause, which is known when the causes are.
    fn level(&mut self, strata: usize) {
        let whole = self.cells.clone();
        for cuboid in self.cuboids.iter_mut().filter(|cuboid| cuboid.dimensions == [strata]) {
            cuboid.named.fill(false);
        }
        let mut free = vec![true; whole.len()];
        for _ in 0..ROUNDS {
            self.cells = whole.levelled(&self.cube.dimensions[strata], &free);
            self.found = self.causes();
            let Some((_, found)) = &self.found else { return };
            let now: Vec<bool> = (0..free.len()).map(|cell| found.is_free(cell)).collect();
            if now == free {
                return;
            }
            free = now;
        }
    }

    /// What is found, as far as one cube can say: contributions and the level are settled when it is known what is told.
    fn candidates(&self, settings: &Settings) -> Candidates {
        let Self { cells, cuboids, .. } = self;
        let located = Located {
            level: 1.0,
            expected: cells.expected.iter().sum(),
            actual: cells.actual.iter().sum(),
            findings: Vec::new(),
            looked_at: 0,
        };
        let mut candidates = Candidates { located, tests: Vec::new(), places: Vec::new() };
        let Some((noise, found)) = &self.found else { return candidates };
        let test = Test::of(cells, noise, found);
        candidates.tests = test.of_elements(cuboids);
        if !significance::unusual(cells, noise, &self.scan(noise), found, settings.error) {
            return candidates;
        }
        for (at, element) in found.elements().enumerate() {
            // What an earlier finding has is not counted again.
            let own: Vec<usize> = found.cells_of(at).collect();
            if !cuboid::tells_of_few(&self.marks, self.cube.parts, &own, settings.fewest) {
                let (place, p_value) = (cuboid::place(cuboids, element), test.of_cells(&own));
                let sum = |of: &[f64]| own.iter().map(|cell| of[*cell]).sum::<f64>();
                candidates.tests[place] = p_value;
                candidates.places.push(place);
                candidates.located.findings.push(Finding {
                    pattern: cuboids[element.0].pattern(&self.cube.dimensions, element.1),
                    expected: sum(&cells.expected),
                    before: sum(&cells.expected),
                    actual: sum(&cells.actual),
                    p_value,
                    q_value: 1.0,
                    recurrence: 0.0,
                });
            }
        }
        candidates
    }

    /// The share of resamples in which each pattern is found again.
    fn recurrences(&self, resamples: usize) -> BTreeMap<Vec<(usize, u32)>, f64> {
        let Some((noise, found)) = &self.found else { return BTreeMap::new() };
        let shares = significance::recurrences(&self.cells, noise, &self.scan(noise), found, resamples);
        let pattern = |element: cuboid::Element| self.cuboids[element.0].pattern(&self.cube.dimensions, element.1);
        found.elements().map(pattern).zip(shares).collect()
    }
}

impl Sums {
    fn each(&self, sums: impl Fn(&Vec<f64>) -> Vec<f64>) -> Self {
        match self {
            Self::Sum(nights) => Self::Sum(nights.each_ref().map(sums)),
            Self::Ratio(nights) => Self::Ratio(nights.each_ref().map(|night| night.each_ref().map(&sums))),
        }
    }

    /// What has to be of many or of nobody, of every cell and part: what is added to each sum before, after, and otherwise than before.
    fn marks(&self) -> Vec<Vec<bool>> {
        let of = |before: &[f64], after: &[f64]| -> [Vec<bool>; 3] {
            [
                before.iter().map(|x| *x != 0.0).collect(),
                after.iter().map(|y| *y != 0.0).collect(),
                before.iter().zip(after).map(|(x, y)| x != y).collect(),
            ]
        };
        match self {
            Self::Sum([before, after]) => of(before, after).into(),
            Self::Ratio([[x, y], [u, v]]) => of(x, u).into_iter().chain(of(y, v)).collect(),
        }
    }
}

impl Cube {
    /// The same with its cells in the order of their values.
    fn in_order(&self) -> Self {
        let key = |cell: &usize| self.dimensions.iter().map(|values| values[*cell]).collect::<Vec<u32>>();
        // Of no dimension there is one cell.
        let mut order: Vec<usize> = (0..self.dimensions.first().map_or(1, Vec::len)).collect();
        order.sort_by_cached_key(key);
        let sums =
            |sums: &Vec<f64>| order.iter().flat_map(|cell| &sums[cell * self.parts..][..self.parts]).copied().collect();
        let sums = self.sums.each(sums);
        let dimensions =
            self.dimensions.iter().map(|values| order.iter().map(|cell| values[*cell]).collect()).collect();
        Self { dimensions, sums, unnamed: self.unnamed.clone(), ..*self }
    }

    /// The strata, each one cell, without the cells of findings.
    fn beside(&self, strata: usize, findings: &[Finding]) -> Self {
        let has = |finding: &Finding, cell: usize| {
            finding.pattern.iter().all(|(dimension, value)| self.dimensions[*dimension][cell] == *value)
        };
        let mut cells: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (cell, value) in self.dimensions[strata].iter().enumerate() {
            if !findings.iter().any(|finding| has(finding, cell)) {
                cells.entry(*value).or_default().push(cell);
            }
        }
        let sums = |sums: &Vec<f64>| -> Vec<f64> {
            let of = |cells: &Vec<usize>, part| cells.iter().map(|cell| sums[cell * self.parts + part]).sum();
            cells.values().flat_map(|cells| (0..self.parts).map(move |part| of(cells, part))).collect()
        };
        Self {
            dimensions: vec![cells.keys().copied().collect()],
            parts: self.parts,
            sums: self.sums.each(sums),
            unnamed: vec![self.unnamed[strata].clone()],
            strata: None,
        }
    }
}

impl Located {
    /// Puts the level at what the cells of no finding changed by, now that some are not told, and the contributions beyond it.
    fn settle(&mut self) {
        let told: f64 = self.findings.iter().map(|finding| finding.before).sum();
        let came: f64 = self.findings.iter().map(|finding| finding.actual).sum();
        let left = self.expected - told;
        let level = (self.actual - came) / left;
        if left.abs() > self.expected.abs() / 100.0 && level.is_finite() {
            self.level = level;
        }
        self.findings.iter_mut().for_each(|finding| finding.expected = self.level * finding.before);
        self.findings.sort_by(|a, b| {
            b.contribution().abs().total_cmp(&a.contribution().abs()).then_with(|| a.pattern.cmp(&b.pattern))
        });
    }

    /// Keeps what is sure enough and large enough, the largest first.
    fn keep(&mut self, settings: &Settings) {
        self.findings.retain(|finding| finding.q_value <= settings.error);
        self.settle();
        let moved: f64 = self.findings.iter().map(|finding| finding.contribution().abs()).sum();
        let least = settings.share * moved.max((self.actual - self.expected).abs());
        self.findings.retain(|finding| finding.contribution().abs() >= least);
        self.settle();
    }
}

/// The cells over all parts, with what each part adds to their deviations.
#[derive(Debug, Clone)]
struct Cells {
    expected: Vec<f64>,
    actual: Vec<f64>,
    /// How much less sure a cell of its size is than others: a rate of few, by which many are multiplied.
    spread: Vec<f64>,
    parts: usize,
    /// What a part adds to what was expected and what came, at `cell × parts + part`: sums of deviations follow for any level.
    by_part: [Vec<f64>; 2],
}

impl Cells {
    fn of(cube: &Cube) -> Self {
        let parts = cube.parts;
        let total = |values: &[f64]| -> Vec<f64> { values.chunks(parts).map(|part| part.iter().sum()).collect() };
        match &cube.sums {
            Sums::Sum([before, after]) => {
                let expected = total(before);
                Self {
                    spread: vec![1.0; expected.len()],
                    actual: total(after),
                    expected,
                    parts,
                    by_part: [before.clone(), after.clone()],
                }
            }
            Sums::Ratio([[x, y], [u, v]]) => {
                let [x_all, y_all, u_all, v_all] = [x, y, u, v].map(|values| total(values));
                let whole = x_all.iter().sum::<f64>() / y_all.iter().sum::<f64>();
                // Of a ratio to nothing, nothing is expected.
                let whole = if whole.is_finite() { whole } else { 0.0 };
                let rates: Vec<f64> =
                    x_all.iter().zip(&y_all).map(|(x, y)| if *y == 0.0 { whole } else { x / y }).collect();
                let expected: Vec<f64> = rates.iter().zip(&v_all).map(|(rate, v)| rate * v).collect();
                let spread = y_all.iter().zip(&v_all).map(|(y, v)| 1.0 + (v / (y + 1.0)).abs()).collect();
                // The deviation as each part moves it (its influence): of the numerators after, and of the rate before.
                let mut by_part = [vec![0.0; x.len()], vec![0.0; x.len()]];
                for at in 0..x.len() {
                    let cell = at / parts;
                    let grown = if y_all[cell] == 0.0 { 0.0 } else { v_all[cell] / y_all[cell] };
                    by_part[0][at] = rates[cell] * v[at] + grown * (x[at] - rates[cell] * y[at]);
                    by_part[1][at] = u[at];
                }
                Self { expected, actual: u_all, spread, parts, by_part }
            }
        }
    }

    /// Cells of which what came of the free ones of their stratum is expected, and of all as much as before.
    fn levelled(&self, strata: &[u32], free: &[bool]) -> Self {
        let mut sums: BTreeMap<u32, [f64; 3]> = BTreeMap::new();
        for (cell, stratum) in strata.iter().enumerate() {
            let [all, expected, actual] = sums.entry(*stratum).or_default();
            *all += self.expected[cell];
            *expected += if free[cell] { self.expected[cell] } else { 0.0 };
            *actual += if free[cell] { self.actual[cell] } else { 0.0 };
        }
        let of = |which: usize| sums.values().map(|sum| sum[which]).sum::<f64>();
        let usable = |level: &f64| *level > 0.0 && level.is_finite();
        let whole = Some(of(2) / of(1)).filter(usable).unwrap_or(1.0);
        let own = |[all, expected, actual]: &[f64; 3]| {
            Some(actual / expected).filter(|level| usable(level) && *expected > KNOWN * all).unwrap_or(whole)
        };
        let levels: BTreeMap<u32, f64> = sums.iter().map(|(stratum, sum)| (*stratum, own(sum))).collect();
        let before: f64 = sums.iter().map(|(stratum, sum)| levels[stratum] * sum[0]).sum();
        let by = Some(of(0) / before).filter(usable).unwrap_or(1.0);
        let mut levelled = self.clone();
        for (cell, stratum) in strata.iter().enumerate() {
            let level = by * levels[stratum];
            levelled.expected[cell] *= level;
            levelled.by_part[0][cell * self.parts..(cell + 1) * self.parts].iter_mut().for_each(|part| *part *= level);
        }
        levelled
    }

    fn len(&self) -> usize {
        self.expected.len()
    }
}

#[cfg(test)]
mod tests;
