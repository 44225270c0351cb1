//! The search itself: the set of elements of one cuboid that is most unlike the rest, and sets of several.

use super::{
    cuboid::{Cuboid, Element},
    noise,
};

/// The size of a cell: the middle of what is expected at a level and of what came. Either is known from counts; to the middle, the errors of both
/// are the same, so that cells of which too much was expected by chance look no different from the others.
pub(super) fn size(expected: f64, actual: f64) -> f64 {
    f64::midpoint(expected.abs(), actual.abs())
}

/// What cells say of their deviation d, where actual − expected = d · size and a deviation of their variance: their sums over this variance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Likelihood {
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Likelihood {
    /// Of every cell, at the level of most cells.
    pub(super) fn of(expected: &[f64], actual: &[f64], variance: &[f64], level: f64) -> Vec<Self> {
        let of = |cell: usize| {
            let (calm, of) = (level * expected[cell], variance[cell]);
            let (x, y) = (size(calm, actual[cell]), actual[cell] - calm);
            match of > 0.0 {
                true => Self { xx: x * x / of, xy: x * y / of, yy: y * y / of },
                false => Self::default(),
            }
        };
        (0..expected.len()).map(of).collect()
    }

    fn plus(&mut self, other: &Self) {
        self.xx += other.xx;
        self.xy += other.xy;
        self.yy += other.yy;
    }

    fn minus(&mut self, other: &Self) {
        self.xx -= other.xx;
        self.xy -= other.xy;
        self.yy -= other.yy;
    }

    /// The deviation of least squares.
    fn deviation(&self) -> Option<f64> {
        (self.xx > 0.0).then(|| self.xy / self.xx)
    }

    /// How unlikely the cells are with a deviation: the negative logarithm.
    fn unlikely(&self, deviation: f64) -> f64 {
        (self.yy - 2.0 * deviation * self.xy + deviation * deviation * self.xx) / 2.0
    }
}

/// Searches that are followed side by side, and sets with which each goes on.
const PATHS: usize = 4;
const BRANCHES: usize = 5;
/// Causes of a search at whose deviation another begins.
const TURNS: usize = 3;

/// A search over cuboids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    pub cuboids: &'a [Cuboid],
    pub variance: &'a [f64],
    /// Sets that are taken at most.
    pub causes: usize,
}

/// A set of elements of one cuboid whose cells have one deviation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cause {
    pub cuboid: usize,
    pub elements: Vec<u32>,
    /// How much shorter a description is that names it.
    pub score: f64,
    /// What its name costs, and its place of that.
    pub cost: f64,
    place: f64,
}

/// What a search finds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub causes: Vec<Cause>,
    /// Of each cell, the element that has it, as [`Found::elements`] counts them from 1 on; 0 of none.
    cause_of: Vec<u16>,
    /// What the cells without a cause say, and those of each.
    free: Likelihood,
    of_causes: Vec<Likelihood>,
}

impl Found {
    fn none(of_cell: &[Likelihood]) -> Self {
        let mut free = Likelihood::default();
        of_cell.iter().for_each(|cell| free.plus(cell));
        Self { causes: Vec::new(), cause_of: vec![0; of_cell.len()], free, of_causes: Vec::new() }
    }

    /// The same with one more cause, of the cells that have none.
    fn with(&self, cause: Cause, cuboid: &Cuboid, of_cell: &[Likelihood]) -> Self {
        let mut found = self.clone();
        let (named, mut of_cause) = (found.elements().count(), Likelihood::default());
        for (at, element) in cause.elements.iter().enumerate() {
            for cell in cuboid.cells(*element).iter().map(|cell| *cell as usize) {
                if found.cause_of[cell] == 0 {
                    found.cause_of[cell] = u16::try_from(named + at + 1).unwrap_or(u16::MAX);
                    of_cause.plus(&of_cell[cell]);
                    found.free.minus(&of_cell[cell]);
                }
            }
        }
        found.causes.push(cause);
        found.of_causes.push(of_cause);
        found
    }

    /// The same with the last cause parted, where its elements have more than one deviation.
    fn parted(mut self, of_cell: &[Likelihood]) -> Self {
        let last = self.causes.last().map_or(0, |cause| cause.elements.len());
        let named = self.elements().count() - last;
        self.part(named, of_cell);
        self
    }

    /// Parts the last cause, whose elements are counted from `named` on, as long as two deviations pay for another name. One would do for both
    /// where neither is told without the other.
    fn part(&mut self, named: usize, of_cell: &[Likelihood]) {
        let Some(last) = self.causes.last() else { return };
        if last.elements.len() < 2 {
            return;
        }
        let mut each = vec![Likelihood::default(); last.elements.len()];
        for (cell, cause) in self.cause_of.iter().enumerate() {
            if let Some(each) = usize::from(*cause).checked_sub(named + 1).and_then(|at| each.get_mut(at)) {
                each.plus(&of_cell[cell]);
            }
        }
        let mut order: Vec<usize> = (0..each.len()).collect();
        order.sort_by(|a, b| {
            let of = |at: usize| each[at].deviation().unwrap_or(0.0);
            of(*a).total_cmp(&of(*b)).then(a.cmp(b))
        });
        let parts = parted(&order, &each, last.place);
        if parts.len() < 2 {
            return;
        }
        let (Some(whole), Some(_)) = (self.causes.pop(), self.of_causes.pop()) else { return };
        let name = (whole.cost - whole.place) / whole.elements.len() as f64;
        let mut numbers = vec![0; each.len()];
        let mut next = named;
        for part in parts {
            let (mut elements, mut sum) = (Vec::new(), Likelihood::default());
            for at in part {
                next += 1;
                numbers[*at] = next;
                elements.push(whole.elements[*at]);
                sum.plus(&each[*at]);
            }
            let cost = whole.place + name * elements.len() as f64;
            self.causes.push(Cause { elements, cost, ..whole.clone() });
            self.of_causes.push(sum);
        }
        for cause in &mut self.cause_of {
            if let Some(number) = usize::from(*cause).checked_sub(named + 1).and_then(|at| numbers.get(at)) {
                *cause = u16::try_from(*number).unwrap_or(u16::MAX);
            }
        }
    }

    /// Whether a cell has no cause.
    pub(super) fn is_free(&self, cell: usize) -> bool {
        self.cause_of[cell] == 0
    }

    /// The cells of an element, by its place among [`Self::elements`].
    pub(super) fn cells_of(&self, element: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.cause_of.len()).filter(move |cell| usize::from(self.cause_of[*cell]) == element + 1)
    }

    /// The elements of all causes.
    pub(super) fn elements(&self) -> impl Iterator<Item = Element> + '_ {
        self.causes.iter().flat_map(|cause| cause.elements.iter().map(|element| (cause.cuboid, *element)))
    }

    /// The same in the order of their places.
    fn named(&self) -> Vec<Element> {
        let mut named: Vec<Element> = self.elements().collect();
        named.sort_unstable();
        named
    }

    /// The deviation of the cells without a cause.
    fn calm(&self) -> f64 {
        self.free.deviation().unwrap_or(0.0)
    }

    /// How short a description is that names the causes.
    fn score(&self) -> f64 {
        let of = |sum: &Likelihood| sum.deviation().map_or(0.0, |deviation| sum.unlikely(deviation));
        let cost: f64 = self.causes.iter().map(|cause| cause.cost).sum();
        -of(&self.free) - self.of_causes.iter().map(of).sum::<f64>() - cost
    }

    /// The deviation of every cell: of its cause, or of the cells without one.
    pub(super) fn deviations(&self) -> Vec<f64> {
        let each = self.causes.iter().zip(&self.of_causes);
        let of_elements: Vec<f64> =
            each.flat_map(|(cause, sum)| cause.elements.iter().map(|_| sum.deviation().unwrap_or(0.0))).collect();
        let of = |element: &u16| match element.checked_sub(1) {
            Some(element) => of_elements[usize::from(element)],
            None => self.calm(),
        };
        self.cause_of.iter().map(of).collect()
    }
}

/// A search under way.
#[derive(Debug, Clone)]
struct Path {
    found: Found,
    score: f64,
    /// The deviation of the cells without a cause, as far as is known.
    calm: f64,
    /// Whether nothing more pays for its name.
    ended: bool,
}

impl Path {
    fn of(found: Found) -> Self {
        Self { score: found.score(), calm: found.calm(), found, ended: false }
    }
}

impl Scan<'_> {
    /// The causes, one after the other, of the searches whose causes are worth most together: the best set may be one that several causes
    /// are parts of by chance, and each by itself has a shorter name. A search starts at the level of most cells, and again at the one that the rest of it has
    /// and at those of the causes that it finds: a cause may have most of the cells, and the rest then looks like one.
    pub(super) fn causes(&self, expected: &[f64], actual: &[f64]) -> Found {
        let level = noise::start(expected, actual, self.variance).unwrap_or(1.0);
        let of_cell = Likelihood::of(expected, actual, self.variance, level);
        let sums = self.sums(&of_cell);
        let mut best = Path::of(Found::none(&of_cell));
        let first = self.from(&of_cell, &sums, 0.0);
        let others = first.found.of_causes.iter().filter_map(Likelihood::deviation).take(TURNS);
        let starts: Vec<f64> = [first.calm].into_iter().chain(others).collect();
        for path in [first].into_iter().chain(starts.into_iter().map(|start| self.from(&of_cell, &sums, start))) {
            if path.score > best.score {
                best = path;
            }
        }
        best.found
    }

    /// The same from one level only: that of a search over cells that are like these.
    pub(super) fn causes_at(&self, expected: &[f64], actual: &[f64], level: f64) -> Found {
        let of_cell = Likelihood::of(expected, actual, self.variance, level);
        self.from(&of_cell, &self.sums(&of_cell), 0.0).found
    }

    fn from(&self, of_cell: &[Likelihood], sums: &[Vec<Likelihood>], start: f64) -> Path {
        let mut paths = vec![Path { calm: start, ..Path::of(Found::none(of_cell)) }];
        for _ in 0..self.causes {
            if paths.iter().all(|path| path.ended) {
                break;
            }
            let mut next: Vec<Path> = Vec::new();
            for mut before in paths {
                let sets = match before.ended {
                    true => Vec::new(),
                    false => self.sets(of_cell, sums, before.calm, Some(&before.found)),
                };
                for cause in sets.into_iter().take(BRANCHES) {
                    let cuboid = &self.cuboids[cause.cuboid];
                    next.push(Path::of(before.found.with(cause, cuboid, of_cell).parted(of_cell)));
                }
                before.ended = true;
                next.push(before);
            }
            next.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.found.named().cmp(&b.found.named())));
            // Two ways to the same causes are one.
            next.dedup_by(|b, a| a.found.named() == b.found.named());
            next.truncate(PATHS);
            paths = next;
        }
        let shorter = paths.into_iter().map(|path| Path::of(self.shorter(path.found, of_cell, sums)));
        let first =
            |a: &Path, b: &Path| a.score.total_cmp(&b.score).then_with(|| b.found.named().cmp(&a.found.named()));
        shorter.max_by(first).unwrap_or_else(|| Path::of(Found::none(of_cell)))
    }

    /// The same causes with shorter names: where a cause has most of what a coarser element has, that is named instead. Two causes of one
    /// deviation have one name in the cuboid of both, and it is a long one.
    fn shorter(&self, mut found: Found, of_cell: &[Likelihood], sums: &[Vec<Likelihood>]) -> Found {
        let mut score = found.score();
        loop {
            let all = (0..found.causes.len()).flat_map(|at| (0..self.cuboids.len()).map(move |above| (at, above)));
            let shorter = all.filter_map(|(at, above)| self.above(&found, at, above, of_cell, sums));
            let shorter = shorter.map(|found| (found.score(), found)).filter(|(other, _)| *other > score + 1e-9);
            match shorter.reduce(|a, b| if b.0 > a.0 { b } else { a }) {
                Some((better, other)) => (score, found) = (better, other),
                None => return found,
            }
        }
    }

    /// What is found with elements of a coarser cuboid in place of those of a cause that they have.
    fn above(
        &self,
        found: &Found,
        at: usize,
        above: usize,
        of_cell: &[Likelihood],
        sums: &[Vec<Likelihood>],
    ) -> Option<Found> {
        let (cause, coarse) = (&found.causes[at], &self.cuboids[above]);
        let fine = &self.cuboids[cause.cuboid];
        let is_above = coarse.dimensions.len() < fine.dimensions.len()
            && coarse.dimensions.iter().all(|dimension| fine.dimensions.contains(dimension));
        if !is_above || cause.elements.len() < 2 {
            return None;
        }
        let first = 1 + found.causes[..at].iter().map(|cause| cause.elements.len()).sum::<usize>();
        let own = first..first + cause.elements.len();
        // Of every coarse element, what is free or the cause's, and what is the cause's of it.
        let mut has = vec![[0.0; 2]; coarse.elements];
        for (cell, of) in found.cause_of.iter().enumerate() {
            let mine = own.contains(&usize::from(*of));
            if mine || *of == 0 {
                let has = &mut has[coarse.of_cell[cell] as usize];
                has[0] += of_cell[cell].xx;
                has[1] += if mine { of_cell[cell].xx } else { 0.0 };
            }
        }
        let most = |element: &u32| {
            let [all, mine] = has[*element as usize];
            coarse.named[*element as usize] && mine > 0.5 * all
        };
        let parents: Vec<u32> = (0..coarse.elements as u32).filter(most).collect();
        let parent = |element: &u32| coarse.of_cell[fine.examples[*element as usize] as usize];
        let left: Vec<u32> =
            cause.elements.iter().copied().filter(|element| parents.binary_search(&parent(element)).is_err()).collect();
        if parents.is_empty() || left.len() + parents.len() >= cause.elements.len() {
            return None;
        }
        let [name, place] = self.prices(above, &sums[above], of_cell);
        let short = Cause {
            cuboid: above,
            cost: place + name * parents.len() as f64,
            elements: parents,
            score: cause.score,
            place,
        };
        let mut causes = Vec::new();
        for (other, kept) in found.causes.iter().enumerate() {
            if other != at {
                causes.push(kept.clone());
                continue;
            }
            if !left.is_empty() {
                let name = (cause.cost - cause.place) / cause.elements.len() as f64;
                let cost = cause.place + name * left.len() as f64;
                causes.push(Cause { elements: left.clone(), cost, ..cause.clone() });
            }
        }
        causes.push(short);
        let none = Found::none(of_cell);
        Some(causes.into_iter().fold(none, |found, cause| {
            let cuboid = &self.cuboids[cause.cuboid];
            found.with(cause, cuboid, of_cell)
        }))
    }

    /// What the name of an element of a cuboid costs, and the place of a cause.
    fn prices(&self, cuboid: usize, sums: &[Likelihood], of_cell: &[Likelihood]) -> [f64; 2] {
        let cells = of_cell.iter().filter(|cell| cell.xx > 0.0).count().max(2) as f64;
        let there = sums.iter().filter(|sum| sum.xx > 0.0).count().max(2) as f64;
        let layer = self.cuboids[cuboid].dimensions.len() as f64;
        [there.ln() + 1.0, 0.5 * cells.ln() + layer * (self.cuboids.len() as f64).ln()]
    }

    /// What the elements of every cuboid say.
    pub(super) fn sums(&self, of_cell: &[Likelihood]) -> Vec<Vec<Likelihood>> {
        let of = |cuboid: &Cuboid| {
            let mut sums = vec![Likelihood::default(); cuboid.elements];
            for (cell, element) in of_cell.iter().zip(&cuboid.of_cell) {
                sums[*element as usize].plus(cell);
            }
            sums
        };
        self.cuboids.iter().map(of).collect()
    }

    /// Of every cuboid, the set of elements whose name pays most for itself, if any does; the best first.
    pub(super) fn sets(
        &self,
        of_cell: &[Likelihood],
        sums: &[Vec<Likelihood>],
        calm: f64,
        taken: Option<&Found>,
    ) -> Vec<Cause> {
        let taken: Vec<usize> =
            taken.map_or(Vec::new(), |found| (0..of_cell.len()).filter(|cell| !found.is_free(*cell)).collect());
        let mut found: Vec<Cause> = Vec::new();
        for (at, (cuboid, sums)) in self.cuboids.iter().zip(sums).enumerate() {
            let mut left = sums.clone();
            for cell in &taken {
                left[cuboid.of_cell[*cell] as usize].minus(&of_cell[*cell]);
            }
            // What is left of an element that is taken is nothing but the errors of a sum.
            for (left, whole) in left.iter_mut().zip(sums) {
                if left.xx <= 1e-9 * whole.xx {
                    *left = Likelihood::default();
                }
            }
            let set = set(&left, &cuboid.named, calm, self.prices(at, sums, of_cell));
            found.extend(set.map(|cause| Cause { cuboid: at, ..cause }));
        }
        // Of the same worth, the coarser one.
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.cuboid.cmp(&b.cuboid)));
        found
    }
}

/// Elements in the order of their deviations, parted as long as two deviations pay for another place.
fn parted<'a>(order: &'a [usize], each: &[Likelihood], place: f64) -> Vec<&'a [usize]> {
    let own = |sum: &Likelihood| sum.deviation().map_or(0.0, |deviation| sum.unlikely(deviation));
    let mut right = Likelihood::default();
    order.iter().for_each(|at| right.plus(&each[*at]));
    let together = own(&right);
    let (mut left, mut best) = (Likelihood::default(), (place, 0));
    for (at, element) in order.iter().enumerate().take(order.len().saturating_sub(1)) {
        left.plus(&each[*element]);
        right.minus(&each[*element]);
        let gain = together - own(&left) - own(&right);
        if gain > best.0 {
            best = (gain, at + 1);
        }
    }
    match best.1 {
        0 => vec![order],
        at => {
            let (low, high) = order.split_at(at);
            [parted(low, each, place), parted(high, each, place)].concat()
        }
    }
}

/// The set of elements that is worth most with one deviation other than that of the rest, each for the price of its `name`, and all for that of
/// their `place`.
fn set(sums: &[Likelihood], named: &[bool], calm: f64, [name, place]: [f64; 2]) -> Option<Cause> {
    let gain = |sum: &Likelihood, deviation: f64| sum.unlikely(calm) - sum.unlikely(deviation);
    // Whatever the deviation, an element is not worth more than with its own.
    let worth: Vec<usize> = (0..sums.len())
        .filter(|at| named[*at] && sums[*at].deviation().is_some_and(|own| gain(&sums[*at], own) > name))
        .collect();
    let mut best: Option<Cause> = None;
    for start in &worth {
        let Some(mut deviation) = sums[*start].deviation() else { continue };
        let mut elements = Vec::new();
        for _ in 0..4 {
            elements = worth.iter().copied().filter(|at| gain(&sums[*at], deviation) > name).collect::<Vec<usize>>();
            let mut all = Likelihood::default();
            elements.iter().for_each(|at| all.plus(&sums[*at]));
            deviation = all.deviation().unwrap_or(deviation);
        }
        let cost = place + name * elements.len() as f64;
        let score = elements.iter().map(|at| gain(&sums[*at], deviation)).sum::<f64>() - cost;
        if score > 0.0 && best.as_ref().is_none_or(|best| score > best.score) {
            let elements = elements.iter().map(|at| *at as u32).collect();
            best = Some(Cause { cuboid: 0, elements, score, cost, place });
        }
    }
    best
}
