//! The search of the smallest change on one, two or three axes for one segment.
//!
//! Values from a list are tried one after the other, the nearest first; what is left on axes that may be any number is a point of a polyhedron,
//! and the one nearest to the customer lies where as many conditions as there are axes, or fewer, hold as equations. A condition alone says how
//! far the rest has to go at least: what cannot be better than the best is not tried.

use super::{Counterfactual, Free, Move, nearest};
use crate::{lloyd::Centroids, matrix::squared_distance};

/// How far beyond a boundary, as a share of the squares of the distances: enough for rounding not to undo it.
const HAIR: f64 = 1e-9;

/// That another centroid is farther than the segment's: `gap + Σ slope · move` is above 0.
struct Condition {
    gap: f64,
    slopes: Vec<f64>,
    /// By axis, the least and the most that a move adds.
    reach: Vec<(f64, f64)>,
}

pub(super) struct Search<'a> {
    customer: &'a [f64],
    centroids: &'a Centroids,
    free: &'a [Free<'a>],
    segment: usize,
    conditions: Vec<Condition>,
    hair: f64,
    /// The square of the distance of the best, and it.
    best: (f64, Option<Vec<(usize, f64)>>),
}

/// Where a search of some axes stands: the moves made, and what is left of the gaps.
#[derive(Clone)]
struct State {
    moves: Vec<(usize, f64)>,
    squared: f64,
    gaps: Vec<f64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(customer: &'a [f64], centroids: &'a Centroids, free: &'a [Free<'a>], segment: usize) -> Self {
        let own = centroids.row(segment);
        let far = |id: usize| squared_distance(customer, centroids.row(id));
        let conditions = (0..centroids.k()).filter(|id| *id != segment).map(|id| {
            let slopes: Vec<f64> = own.iter().zip(centroids.row(id)).map(|(to, other)| 2.0 * (to - other)).collect();
            let reach = slopes.iter().zip(customer).zip(free).map(|((slope, x), free)| reach(*slope, *x, free));
            Condition { gap: far(id) - far(segment), reach: reach.collect(), slopes }
        });
        let scale = (0..centroids.k()).map(far).fold(1.0, f64::max);
        let conditions = conditions.collect();
        Self { customer, centroids, free, segment, conditions, hair: HAIR * scale, best: (f64::INFINITY, None) }
    }

    /// The smallest change of so many axes that is below the square of a distance, and the square of its own.
    pub(super) fn smallest(mut self, axes: usize, below: f64) -> Option<(f64, Counterfactual)> {
        self.best.0 = below;
        let free: Vec<usize> = (0..self.free.len()).filter(|axis| self.free[*axis] != Free::Fixed).collect();
        let start = self.start();
        let mut sets: Vec<(f64, Vec<usize>)> =
            subsets(&free, axes).into_iter().map(|set| (self.at_least(&start.gaps, &set), set)).collect();
        sets.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (least, set) in sets {
            if least >= self.best.0 {
                break;
            }
            // Lists first, so that what is any number is solved in closed form at the end.
            let (mut rest, any): (Vec<usize>, Vec<usize>) =
                set.into_iter().partition(|axis| matches!(self.free[*axis], Free::Among(_)));
            rest.extend(any);
            self.go(&start, &rest);
        }
        let mut moves = self.best.1.take()?;
        moves.sort_unstable_by_key(|(axis, _)| *axis);
        let moves: Vec<Move> =
            moves.into_iter().map(|(axis, to)| Move { axis, from: self.customer[axis], to }).collect();
        Some((self.best.0, Counterfactual { segment: self.segment, moves, distance: self.best.0.sqrt() }))
    }

    fn start(&self) -> State {
        State { moves: Vec::new(), squared: 0.0, gaps: self.conditions.iter().map(|c| c.gap).collect() }
    }

    /// The square of the way that some axes have to go at least, by the condition that asks the most; infinite where one cannot be met.
    fn at_least(&self, gaps: &[f64], axes: &[usize]) -> f64 {
        let mut least = 0.0_f64;
        for (condition, gap) in self.conditions.iter().zip(gaps) {
            let lacks = -gap - self.hair;
            if lacks > axes.iter().map(|axis| condition.reach[*axis].1).sum() {
                return f64::INFINITY;
            }
            if lacks > 0.0 {
                let steep: f64 = axes.iter().map(|axis| condition.slopes[*axis].powi(2)).sum();
                least = least.max(if steep > 0.0 { lacks * lacks / steep } else { f64::INFINITY });
            }
        }
        least
    }

    fn go(&mut self, state: &State, rest: &[usize]) {
        if state.squared + self.at_least(&state.gaps, rest) >= self.best.0 {
            return;
        }
        let Some((axis, others)) = rest.split_first() else {
            self.accept(&state.moves);
            return;
        };
        let Free::Among(values) = self.free[*axis] else { return self.solve(state, rest) };
        // From where the customer is outwards, on either side.
        let x = self.customer[*axis];
        let (mut above, mut below) = (values.partition_point(|v| *v < x), values.partition_point(|v| *v < x));
        loop {
            let up = values.get(above).map(|v| (v - x, *v));
            let down = below.checked_sub(1).and_then(|at| values.get(at)).map(|v| (x - v, *v));
            let (far, value) = match (up, down) {
                (Some(up), Some(down)) if up.0 < down.0 => up,
                (_, Some(down)) => down,
                (Some(up), None) => up,
                (None, None) => break,
            };
            if down.is_some_and(|down| down == (far, value)) {
                below -= 1
            } else {
                above += 1
            }
            if state.squared + far * far >= self.best.0 {
                break;
            }
            let next = self.moved(state, *axis, value);
            self.go(&next, others);
        }
    }

    /// The state after a move.
    fn moved(&self, state: &State, axis: usize, to: f64) -> State {
        let by = to - self.customer[axis];
        let mut next = state.clone();
        next.moves.push((axis, to));
        next.squared += by * by;
        for (gap, condition) in next.gaps.iter_mut().zip(&self.conditions) {
            *gap += condition.slopes[axis] * by;
        }
        next
    }

    /// Takes a change if it does what it should.
    fn accept(&mut self, moves: &[(usize, f64)]) -> bool {
        let mut customer = self.customer.to_vec();
        let mut squared = 0.0;
        for (axis, to) in moves {
            squared += (to - customer[*axis]).powi(2);
            customer[*axis] = *to;
        }
        let does = nearest(&customer, self.centroids) == self.segment;
        if does && squared < self.best.0 {
            self.best = (squared, Some(moves.to_vec()));
        }
        does
    }

    /// The nearest point of the polyhedron on axes that may be any number within their bounds.
    fn solve(&mut self, state: &State, axes: &[usize]) {
        let n = axes.len();
        let at = |values: &dyn Fn(usize) -> f64| -> [f64; 3] {
            std::array::from_fn(|i| axes.get(i).map_or(0.0, |axis| values(*axis)))
        };
        // Each says that slopes · moves is a number at least.
        // What holds wherever these axes go, no point has to heed.
        let binds = |(condition, gap): &(&Condition, &f64)| {
            **gap + axes.iter().map(|axis| condition.reach[*axis].0).sum::<f64>() < 2.0 * self.hair
        };
        let mut planes: Vec<([f64; 3], f64)> = (self.conditions.iter().zip(&state.gaps))
            .filter(binds)
            .map(|(condition, gap)| (at(&|axis| condition.slopes[axis]), self.hair - gap))
            .collect();
        for (i, axis) in axes.iter().enumerate() {
            if let Free::Within(low, high) = self.free[*axis] {
                let along = |sign: f64| std::array::from_fn(|j| if i == j { sign } else { 0.0 });
                planes.push((along(1.0), low - self.customer[*axis]));
                planes.push((along(-1.0), self.customer[*axis] - high));
            }
        }
        let mut points: Vec<(f64, [f64; 3])> = vec![(0.0, [0.0; 3])];
        for size in 1..=n {
            for set in subsets(&(0..planes.len()).collect::<Vec<_>>(), size) {
                let chosen: Vec<_> = set.iter().map(|at| planes[*at]).collect();
                if let Some(point) = foot(&chosen) {
                    let squared: f64 = point.iter().map(|x| x * x).sum();
                    if state.squared + squared < self.best.0 {
                        points.push((squared, point));
                    }
                }
            }
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, point) in points {
            // Half of the hair is left to rounding.
            let holds = |(slopes, least): &([f64; 3], f64)| dot(slopes, &point) >= least - self.hair / 2.0;
            if planes.iter().all(holds) {
                let mut moves = state.moves.clone();
                for (axis, by) in axes.iter().zip(point) {
                    let Free::Within(low, high) = self.free[*axis] else { continue };
                    moves.push((*axis, (self.customer[*axis] + by).clamp(low, high)));
                }
                if self.accept(&moves) {
                    return;
                }
            }
        }
    }
}

/// The least and the most that moving a coordinate adds to a condition.
fn reach(slope: f64, x: f64, free: &Free<'_>) -> (f64, f64) {
    let ends = match free {
        Free::Fixed => (x, x),
        Free::Within(low, high) => (*low, *high),
        Free::Among([]) => return (f64::INFINITY, f64::NEG_INFINITY),
        Free::Among(values) => (values[0], values[values.len() - 1]),
    };
    let (a, b) = (slope * (ends.0 - x), slope * (ends.1 - x));
    (a.min(b), a.max(b))
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The point nearest to the origin at which one to three planes `slopes · x = least` meet; none where they are parallel. By Gram–Schmidt: each plane
/// is taken at a right angle to those before it.
fn foot(planes: &[([f64; 3], f64)]) -> Option<[f64; 3]> {
    let mut point = [0.0; 3];
    let mut before: Vec<[f64; 3]> = Vec::new();
    for (slopes, least) in planes {
        let mut across = *slopes;
        // Twice, against cancellation.
        for base in before.iter().chain(&before) {
            let along = dot(&across, base);
            across.iter_mut().zip(base).for_each(|(x, b)| *x -= along * b);
        }
        let length = dot(&across, &across).sqrt();
        let whole = dot(slopes, slopes).sqrt();
        if length.is_nan() || length <= 1e-9 * whole || whole == 0.0 {
            return None;
        }
        across.iter_mut().for_each(|x| *x /= length);
        let by = (least - dot(slopes, &point)) / dot(slopes, &across);
        point.iter_mut().zip(&across).for_each(|(x, b)| *x += by * b);
        before.push(across);
    }
    Some(point)
}

/// The subsets of a size, in order.
fn subsets(of: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    (0..of.len())
        .flat_map(|at| {
            subsets(&of[at + 1..], size - 1).into_iter().map(move |rest| std::iter::once(of[at]).chain(rest).collect())
        })
        .collect()
}
