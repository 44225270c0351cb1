//! The smallest change of a customer that would place them in another segment (a counterfactual explanation: Wachter, Mittelstadt & Russell
//! 2017, "Counterfactual explanations without opening the black box").
//!
//! A customer is in the segment whose centroid is nearest, ties to the lower number. Between two centroids the boundary is linear, so a segment
//! is where a few linear conditions hold, and the nearest point of it on some axes is found exactly. Fewest axes come first: what one does is
//! not told with two. Of as many axes, the smallest Euclidean distance on the scale counts, then the lower segment.
//!
//! Only axes that the caller sets free move, within bounds or from one allowed value to another (whole orders, whole days). Each free axis has to
//! be able to move by itself: of features that follow from one another, the caller sets one free. What is found was put to the test: the
//! centroid that is nearest afterwards is that of the segment.

mod search;

use self::search::Search;
use crate::{lloyd::Centroids, matrix::squared_distance};

/// How a coordinate may change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Free<'a> {
    /// Not at all.
    Fixed,
    /// To any number from the first to the second.
    Within(f64, f64),
    /// To one of these, which ascend: what whole numbers of the feature's unit are on the scale.
    Among(&'a [f64]),
}

/// Where the customer is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// In this cluster.
    Segment(usize),
    /// In any but this one.
    Other(usize),
}

/// A coordinate that changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// The axis.
    pub axis: usize,
    /// The coordinate before.
    pub from: f64,
    /// The coordinate after.
    pub to: f64,
}

/// The smallest change.
#[derive(Debug, Clone, PartialEq)]
pub struct Counterfactual {
    /// The cluster in which it places the customer.
    pub segment: usize,
    /// What changes, by axis; nothing where the customer is there already.
    pub moves: Vec<Move>,
    /// How far that is: the root of the sum of the moves' squares.
    pub distance: f64,
}

/// Why no change can be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CounterfactualError {
    /// Coordinates or axes differ in number from the centroids', or there is no such cluster.
    #[error("a customer and what may change of them on {dims} axes, and one of {k} clusters are needed")]
    Shape {
        /// Coordinates of a centroid.
        dims: usize,
        /// Clusters.
        k: usize,
    },
    /// A coordinate or bound is not finite, bounds are the wrong way round, or values do not ascend.
    #[error("what axis {axis} may change to is no finite range or list in order")]
    Axis {
        /// Axis, from 0.
        axis: usize,
    },
}

/// The cluster whose centroid is nearest, ties to the lower number: as customers are assigned.
#[must_use]
pub fn nearest(customer: &[f64], centroids: &Centroids) -> usize {
    let mut best = (0, f64::INFINITY);
    for id in 0..centroids.k() {
        let squared = squared_distance(customer, centroids.row(id));
        if squared < best.1 {
            best = (id, squared);
        }
    }
    best.0
}

/// The smallest change of at most `axes` coordinates (three at most) after which the customer is where they are to be; none where none of
/// so few is enough.
///
/// Where a coordinate may be any number, the point found lies a hair (10⁻⁹ of the squares of the distances) beyond the boundary.
///
/// # Errors
/// When shapes do not fit or what may change is no range.
pub fn smallest(
    customer: &[f64],
    centroids: &Centroids,
    free: &[Free<'_>],
    target: Target,
    axes: usize,
) -> Result<Option<Counterfactual>, CounterfactualError> {
    check(customer, centroids, free, target)?;
    let now = nearest(customer, centroids);
    let there = |id: usize| match target {
        Target::Segment(wanted) => id == wanted,
        Target::Other(left) => id != left,
    };
    if there(now) {
        return Ok(Some(Counterfactual { segment: now, moves: Vec::new(), distance: 0.0 }));
    }
    for axes in 1..=axes.min(3) {
        let mut best: Option<(f64, Counterfactual)> = None;
        for segment in (0..centroids.k()).filter(|id| there(*id)) {
            let below = best.as_ref().map_or(f64::INFINITY, |best| best.0);
            let found = Search::new(customer, centroids, free, segment).smallest(axes, below);
            best = found.or(best);
        }
        if let Some((_, best)) = best {
            return Ok(Some(best));
        }
    }
    Ok(None)
}

fn check(
    customer: &[f64],
    centroids: &Centroids,
    free: &[Free<'_>],
    target: Target,
) -> Result<(), CounterfactualError> {
    let (dims, k) = (centroids.dims(), centroids.k());
    let (Target::Segment(segment) | Target::Other(segment)) = target;
    if customer.len() != dims || free.len() != dims || segment >= k {
        return Err(CounterfactualError::Shape { dims, k });
    }
    let fits = |(x, free): (&f64, &Free<'_>)| {
        x.is_finite()
            && match free {
                Free::Fixed => true,
                Free::Within(low, high) => low.is_finite() && high.is_finite() && low <= high,
                Free::Among(values) => values.iter().all(|x| x.is_finite()) && values.is_sorted(),
            }
    };
    match customer.iter().zip(free).position(|axis| !fits(axis)) {
        Some(axis) => Err(CounterfactualError::Axis { axis }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
