//! Why a customer is nearer to one segment than to another, and why that changed: by feature, so that it adds up.
//!
//! What decides is the difference d²(x, from) − d²(x, to) of the squared distances to two centroids, above 0 where `to` is nearer. On an axis it
//! is (x − from)² − (x − to)², so it is a sum over axes, and those of a feature (of a text there are several) are added up.
//!
//! Between two nights both the customer and the model may have changed, and what one does depends on what the other is. The change is shared out
//! as Shapley (1953, "A value for n-person games") has it, each part measured with the other as it was and as it is, and the mean taken (of two
//! factors, Kitagawa 1955, "Components of a difference between two rates"). As the difference is a sum over features, so is every share of it:
//! with every feature a player of its own, nothing else would come out.
//!
//! All figures are multiples of one power of two, so few of them that every sum of some is a double without rounding: contributions add up to
//! their total bit for bit, in any order.

/// A customer between two centroids of one model, on its axes.
#[derive(Debug, Clone, Copy)]
pub struct Between<'a> {
    /// By axis, the number of its feature.
    pub features: &'a [usize],
    /// The customer's coordinates.
    pub customer: &'a [f64],
    /// The centroid of the one segment.
    pub from: &'a [f64],
    /// The centroid of the other.
    pub to: &'a [f64],
}

/// Why one segment is nearer than another.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// By feature, what it adds to d²(x, from) − d²(x, to).
    pub features: Vec<f64>,
    /// The sum.
    pub total: f64,
}

/// Why that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// By feature, what the customer's own change adds.
    pub data: Vec<f64>,
    /// By feature, what the model's change adds: centroids, means, scales, features that came or went.
    pub model: Vec<f64>,
    /// The difference before.
    pub before: f64,
    /// The difference after: `before` and all contributions.
    pub after: f64,
}

/// Why there is no attribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributionError {
    /// Axes, coordinates and centroids differ in number, or a feature is none of those asked for.
    #[error("a customer and two centroids on axes of {features} features are needed")]
    Axes {
        /// Features.
        features: usize,
    },
    /// A coordinate is infinite or not a number.
    #[error("a coordinate is not finite")]
    NotFinite,
}

impl Between<'_> {
    /// What each feature adds to the difference, before it is brought to the grid.
    fn terms(&self, features: usize) -> Result<Vec<f64>, AttributionError> {
        let dims = self.features.len();
        let fits = [self.customer, self.from, self.to].iter().all(|x| x.len() == dims);
        if !fits || self.features.iter().any(|feature| *feature >= features) {
            return Err(AttributionError::Axes { features });
        }
        let mut terms = vec![0.0; features];
        for (axis, feature) in self.features.iter().enumerate() {
            let (x, from, to) = (self.customer[axis], self.from[axis], self.to[axis]);
            // The same as (x − from)² − (x − to)², without the squares' rounding.
            terms[*feature] += (to - from) * ((x - from) + (x - to));
        }
        if terms.iter().any(|term| !term.is_finite()) {
            return Err(AttributionError::NotFinite);
        }
        Ok(terms)
    }
}

/// Why the second segment is nearer than the first, or not. Features are numbered below `features`; one without an axis adds nothing.
///
/// # Errors
/// When lengths do not fit, or a coordinate is not finite.
pub fn difference(between: &Between<'_>, features: usize) -> Result<Difference, AttributionError> {
    let terms = between.terms(features)?;
    let grid = Grid::of(&[&terms]);
    let whole = grid.whole(&terms);
    Ok(Difference { features: grid.doubles(&whole), total: grid.double(whole.iter().sum()) })
}

/// Why the difference between two segments changed. Of either model, the customer as they were and as they are, on its axes: four views in
/// all, `[[old model, before], [old model, now]], [[new model, before], [new model, now]]`. Where the model stayed, both are the same.
///
/// # Errors
/// When lengths do not fit, or a coordinate is not finite.
pub fn change(views: &[[Between<'_>; 2]; 2], features: usize) -> Result<Change, AttributionError> {
    let [[old_before, old_now], [new_before, new_now]] = views;
    let terms = [old_before, old_now, new_before, new_now].map(|view| view.terms(features));
    let [a, b, c, d] = terms;
    let (a, b, c, d) = (a?, b?, c?, d?);
    let grid = Grid::of(&[&a, &b, &c, &d]);
    let [a, b, c, d] = [a, b, c, d].map(|terms| grid.whole(&terms));
    let (mut data, mut model) = (Vec::with_capacity(features), Vec::with_capacity(features));
    for feature in 0..features {
        let (a, b, c, d) = (a[feature], b[feature], c[feature], d[feature]);
        // Halves, twice over.
        data.push(grid.half((b - a) + (d - c)));
        model.push(grid.half((c - a) + (d - b)));
    }
    Ok(Change { data, model, before: grid.double(a.iter().sum()), after: grid.double(d.iter().sum()) })
}

/// The multiples of a power of two to which figures are rounded: 2⁻⁴⁰, or more where that leaves sums without room.
struct Grid {
    exponent: i32,
}

impl Grid {
    /// The grid on which any sum of what is made of some terms, in halves, has less than 53 bits.
    fn of(terms: &[&[f64]]) -> Self {
        let bound: f64 = terms.iter().flat_map(|terms| terms.iter()).map(|term| term.abs()).sum();
        // Above the bound: its exponent and one.
        let above = ((bound.to_bits() >> 52) & 0x7ff) as i32 - 1022;
        Self { exponent: (above - 48).max(-40) }
    }

    fn whole(&self, terms: &[f64]) -> Vec<i64> {
        let unit = 2_f64.powi(self.exponent);
        terms.iter().map(|term| (term / unit).round_ties_even() as i64).collect()
    }

    fn double(&self, whole: i64) -> f64 {
        whole as f64 * 2_f64.powi(self.exponent)
    }

    fn half(&self, whole: i64) -> f64 {
        whole as f64 * 2_f64.powi(self.exponent - 1)
    }

    fn doubles(&self, whole: &[i64]) -> Vec<f64> {
        whole.iter().map(|whole| self.double(*whole)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::squared_distance;

    type Axes = Vec<(usize, [f64; 8])>;

    /// Four features on up to eight axes: the customer before and now on the axes of either model, and two centroids of both.
    fn axes() -> impl Strategy<Value = Axes> {
        let x = prop_oneof![3 => -4.0..4.0_f64, 1 => (-3..4_i32).prop_map(f64::from), 1 => -1e5..1e5_f64];
        prop::collection::vec((0..4_usize, prop::array::uniform8(x)), 1..9)
    }

    fn column(axes: &Axes, at: usize) -> Vec<f64> {
        axes.iter().map(|(_, x)| x[at]).collect()
    }

    proptest! {
        #[test]
        fn contributions_add_up(axes in axes(), turned in any::<bool>()) {
            let features: Vec<usize> = axes.iter().map(|(feature, _)| *feature).collect();
            let x: Vec<Vec<f64>> = (0..8).map(|at| column(&axes, at)).collect();
            let view = |customer: usize, from: usize, to: usize| Between { features: &features, customer: &x[customer], from: &x[from], to: &x[to] };
            let views = [[view(0, 4, 5), view(1, 4, 5)], [view(2, 6, 7), view(3, 6, 7)]];
            let one = difference(&views[0][0], 4).expect("fits");
            let scale: f64 = x.iter().flatten().map(|x| x * x).sum::<f64>() + 1.0;
            let order = |n: usize| -> Vec<usize> { if turned { (0..n).rev().collect() } else { (0..n).collect() } };
            prop_assert_eq!(order(4).iter().map(|f| one.features[*f]).sum::<f64>(), one.total);
            let far = |view: &Between<'_>| squared_distance(view.customer, view.from) - squared_distance(view.customer, view.to);
            prop_assert!((one.total - far(&views[0][0])).abs() <= 1e-11 * scale);
            let of = change(&views, 4).expect("fits");
            let all: Vec<f64> = of.data.iter().zip(&of.model).flat_map(|(a, b)| [*a, *b]).collect();
            // Bit for bit, in either order, from either end.
            prop_assert_eq!(order(8).iter().fold(of.before, |sum, at| sum + all[*at]), of.after);
            prop_assert_eq!(order(8).iter().map(|at| all[*at]).sum::<f64>(), of.after - of.before);
            prop_assert!((of.before - far(&views[0][0])).abs() <= 1e-11 * scale);
            prop_assert!((of.after - far(&views[1][1])).abs() <= 1e-11 * scale);
        }

        /// Every feature's data and model a player: the mean over all orders in which they change.
        #[test]
        fn they_are_shapleys(axes in axes()) {
            let axes: Axes = axes.into_iter().take(3).enumerate().map(|(at, (_, x))| (at, x.map(|x| x % 10.0))).collect();
            let n = axes.len();
            let features: Vec<usize> = (0..n).collect();
            let x: Vec<Vec<f64>> = (0..8).map(|at| column(&axes, at)).collect();
            let view = |customer: usize, from: usize, to: usize| Between { features: &features, customer: &x[customer], from: &x[from], to: &x[to] };
            let of = change(&[[view(0, 4, 5), view(1, 4, 5)], [view(2, 6, 7), view(3, 6, 7)]], n).expect("fits");
            let value = |set: usize| -> f64 {
                (0..n).map(|f| {
                    let (now, new) = (set >> f & 1, set >> (n + f) & 1);
                    let (customer, from, to) = (x[now + 2 * new][f], x[4 + 2 * new][f], x[5 + 2 * new][f]);
                    (customer - from).powi(2) - (customer - to).powi(2)
                }).sum()
            };
            let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
            for player in 0..2 * n {
                let shapley: f64 = (0..1_usize << (2 * n)).filter(|set| set >> player & 1 == 0).map(|set| {
                    let (before, all) = (set.count_ones(), 2 * n as u32);
                    factorial(before) * factorial(all - before - 1) / factorial(all) * (value(set | 1 << player) - value(set))
                }).sum();
                let found = if player < n { of.data[player] } else { of.model[player - n] };
                prop_assert!((found - shapley).abs() < 1e-9, "{found} {shapley}");
            }
        }
    }

    #[test]
    fn a_model_that_stays_adds_nothing() {
        let (before, now, from, to) = ([0.5, -1.0], [2.0, -1.0], [0.0, 0.0], [3.0, -0.5]);
        let view = |customer| Between { features: &[0, 1], customer, from: &from, to: &to };
        let views = [view(&before), view(&now)];
        let of = change(&[views, views], 2).expect("fits");
        assert_eq!(of, Change { data: vec![9.0, 0.0], model: vec![0.0, 0.0], before: -5.25, after: 3.75 });
        assert_eq!(difference(&views[1], 2), Ok(Difference { features: vec![3.0, 0.75], total: 3.75 }));
        assert_eq!(difference(&views[1], 1), Err(AttributionError::Axes { features: 1 }));
        assert_eq!(difference(&view(&[f64::NAN, 0.0]), 2), Err(AttributionError::NotFinite));
        assert_eq!(difference(&view(&[0.0]), 2), Err(AttributionError::Axes { features: 2 }));
    }
}
