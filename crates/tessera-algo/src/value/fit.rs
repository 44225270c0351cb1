//! Maximum likelihood of a few positive parameters.

use argmin::{
    core::{CostFunction, Error, Executor},
    solver::neldermead::NelderMead,
};
use thiserror::Error as Problem;

use crate::parallel;

/// Groups that are added up in one piece: the same pieces whatever the number of threads.
const PIECE: usize = 2048;
/// Groups among which starts are tried.
const TRIED: usize = 2_000;

/// Customers who bought again without whom nothing is fitted.
pub(super) const FEWEST: u64 = 50;
/// Between these a parameter is one.
const BOUNDS: [f64; 2] = [1e-5, 1e5];
/// The logarithm beyond which a parameter is on its way to a bound.
const FAR: f64 = 17.0;

/// A likelihood of groups of customers.
pub(super) trait Likelihood: Sync {
    /// Customers who are alike.
    type Group: Sync + Clone;
    /// What depends on the parameters alone.
    type Prepared: Sync;

    fn prepare(&self, parameters: &[f64], groups: &[Self::Group]) -> Self::Prepared;
    /// How many customers a group has.
    fn customers(group: &Self::Group) -> f64;
    /// Of one customer of a group the logarithm of the likelihood; its derivatives are added to `gradient`, times the customers.
    fn of(&self, parameters: &[f64], prepared: &Self::Prepared, group: &Self::Group, gradient: &mut [f64]) -> f64;
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Its name in the paper.
    pub name: &'static str,
    /// The value of maximum likelihood.
    pub value: f64,
    /// The standard error, by the inverse of the observed information.
    pub std_error: f64,
}

/// A model that was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit<M> {
    /// It.
    pub model: M,
    /// Its parameters.
    pub estimates: Vec<Estimate>,
    /// At the maximum.
    pub log_likelihood: f64,
    /// Customers that it was fitted on.
    pub customers: u64,
}

/// Why there is no model: the assumption that does not hold.
#[derive(Debug, Clone, PartialEq, Problem)]
pub enum Refused {
    /// Too few.
    #[error("fewer than {0} customers bought again")]
    Few(u64),
    /// The likelihood has no maximum that a start led to.
    #[error("from no start does the likelihood of {0} come to a maximum")]
    NoMaximum(&'static str),
    /// A parameter goes to 0 or beyond all bounds.
    #[error("{parameter} of {model} goes to {value:.3e}: {meaning}")]
    AtTheBound {
        /// The model.
        model: &'static str,
        /// Which.
        parameter: &'static str,
        /// Where it stood.
        value: f64,
        /// What that says of the customers.
        meaning: &'static str,
    },
    /// The likelihood is flat about the maximum.
    #[error("the customers do not tell the parameters of {0} apart: the likelihood is flat at its maximum")]
    Flat(&'static str),
    /// A mean that does not exist.
    #[error("q of Gamma-Gamma is {0:.3}: at 1 and below, the mean value of a purchase does not exist")]
    NoMean(f64),
}

/// The sum of the logarithms, and its gradient by the parameters.
fn sum<L: Likelihood>(likelihood: &L, parameters: &[f64], groups: &[L::Group], threads: usize) -> (f64, Vec<f64>) {
    let prepared = likelihood.prepare(parameters, groups);
    let pieces: Vec<&[L::Group]> = groups.chunks(PIECE).collect();
    let of = |piece: &&[L::Group]| {
        let mut gradient = vec![0.0; parameters.len()];
        let mut sum = 0.0;
        for group in *piece {
            sum += L::customers(group) * likelihood.of(parameters, &prepared, group, &mut gradient);
        }
        (sum, gradient)
    };
    // A thread costs as much as a piece.
    let sums: Vec<_> = match pieces.len() < 4 {
        true => pieces.iter().map(of).collect(),
        false => parallel::map(&pieces, threads, of),
    };
    let mut all = (0.0, vec![0.0; parameters.len()]);
    for (sum, gradient) in sums {
        all.0 += sum;
        all.1.iter_mut().zip(gradient).for_each(|(all, part)| *all += part);
    }
    all
}

/// The mean of the negative logarithms over the logarithms of the parameters, which may be anything.
struct Cost<'a, L: Likelihood> {
    likelihood: &'a L,
    groups: &'a [L::Group],
    customers: f64,
    threads: usize,
}

impl<L: Likelihood> Cost<'_, L> {
    fn both(&self, logs: &[f64]) -> (f64, Vec<f64>) {
        let parameters: Vec<f64> = logs.iter().map(|log| log.exp()).collect();
        let (value, gradient) = sum(self.likelihood, &parameters, self.groups, self.threads);
        let gradient = gradient.iter().zip(&parameters).map(|(g, p)| -g * p / self.customers);
        (-value / self.customers, gradient.collect())
    }
}

impl<L: Likelihood> CostFunction for Cost<'_, L> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, logs: &Vec<f64>) -> Result<f64, Error> {
        // Far out there are no digits, and nobody wants to be there.
        let cost = self.both(logs).0;
        Ok(if cost.is_finite() { cost } else { f64::MAX })
    }
}

/// The maximum, from the start that leads highest: parameters, standard errors, logarithm of the likelihood; on the way to a bound, where it
/// was left. Starts are tried on every n-th group where these are many; from there on Newton's steps over all of them end at the same digits
/// from wherever they began.
pub(super) fn maximum<L: Likelihood>(
    name: &'static str,
    likelihood: &L,
    groups: &[L::Group],
    starts: &[Vec<f64>],
    threads: usize,
) -> Result<(Vec<f64>, Vec<f64>, f64), Refused> {
    let cost = |groups| Cost { likelihood, groups, customers: total::<L>(groups), threads };
    let some: Vec<L::Group> = groups.iter().step_by(groups.len().div_ceil(TRIED).max(1)).cloned().collect();
    let mut best: Option<(f64, Vec<f64>)> = None;
    for start in starts {
        let logs: Vec<f64> = start.iter().map(|p| p.ln()).collect();
        let beside = (0..logs.len()).map(|i| {
            let mut corner = logs.clone();
            corner[i] += 0.5;
            corner
        });
        let corners = beside.chain([logs.clone()]).collect();
        let Ok(solver) = NelderMead::new(corners).with_sd_tolerance(1e-9) else { continue };
        let run = Executor::new(cost(&some), solver).configure(|state| state.max_iters(400)).run();
        let Ok(run) = run else { continue };
        let state = run.state;
        if let Some(logs) = state.best_param.filter(|logs| logs.iter().all(|log| log.is_finite()))
            && state.best_cost.is_finite()
            && best.as_ref().is_none_or(|(cost, _)| state.best_cost < *cost)
        {
            best = Some((state.best_cost, logs));
        }
    }
    let (_, logs) = best.ok_or(Refused::NoMaximum(name))?;
    let logs = newton(&cost(groups), logs).ok_or(Refused::NoMaximum(name))?;
    let parameters: Vec<f64> = logs.iter().map(|log| log.exp()).collect();
    let (value, _) = sum(likelihood, &parameters, groups, threads);
    if logs.iter().any(|log| log.abs() > FAR) {
        let unknown = vec![f64::NAN; parameters.len()];
        return Ok((parameters, unknown, value));
    }
    let gradient = |at: &[f64]| sum(likelihood, at, groups, threads).1;
    let steps: Vec<f64> = parameters.iter().map(|p| p * 1e-4).collect();
    let information: Vec<f64> = jacobian(&parameters, &steps, gradient).iter().map(|second| -second).collect();
    let inverse = inverse(&information, parameters.len()).ok_or(Refused::Flat(name))?;
    let variances: Vec<f64> = (0..parameters.len()).map(|i| inverse[i * parameters.len() + i]).collect();
    if !variances.iter().all(|variance| *variance > 0.0 && variance.is_finite()) {
        return Err(Refused::Flat(name));
    }
    Ok((parameters, variances.iter().map(|variance| variance.sqrt()).collect(), value))
}

/// A parameter as its paper has it.
pub(super) struct Parameter {
    pub name: &'static str,
    /// What it says of the customers if it goes to 0, and if it goes beyond all bounds.
    pub bounds: [&'static str; 2],
    /// By how much it is larger in the units of the data than in those of the fit.
    pub scale: f64,
}

/// Estimates in the units of the data; an error where one stands at its bound.
pub(super) fn estimates(
    model: &'static str,
    parameters: &[Parameter],
    found: &[f64],
    errors: &[f64],
) -> Result<Vec<Estimate>, Refused> {
    let all = parameters.iter().zip(found).zip(errors).map(|((parameter, value), error)| {
        let beyond = [*value < BOUNDS[0], *value > BOUNDS[1]].iter().position(|beyond| *beyond);
        match beyond {
            Some(which) => {
                let meaning = parameter.bounds[which];
                Err(Refused::AtTheBound { model, parameter: parameter.name, value: *value, meaning })
            }
            None => Ok(Estimate {
                name: parameter.name,
                value: value * parameter.scale,
                std_error: error * parameter.scale,
            }),
        }
    });
    all.collect()
}

fn total<L: Likelihood>(groups: &[L::Group]) -> f64 {
    groups.iter().map(L::customers).sum()
}

/// Newton's steps, halved while they lead nowhere.
fn newton<L: Likelihood>(cost: &Cost<'_, L>, mut logs: Vec<f64>) -> Option<Vec<f64>> {
    let dims = logs.len();
    for _ in 0..50 {
        let (here, gradient) = cost.both(&logs);
        if gradient.iter().all(|g| g.abs() < 1e-11) || logs.iter().any(|log| log.abs() > FAR) {
            return Some(logs);
        }
        let steps = vec![1e-4; dims];
        let second = jacobian(&logs, &steps, |at| cost.both(at).1);
        // Where it is no valley, down the slope.
        let step: Vec<f64> = match inverse(&second, dims) {
            Some(inverse) => {
                (0..dims).map(|i| -(0..dims).map(|j| inverse[i * dims + j] * gradient[j]).sum::<f64>()).collect()
            }
            None => gradient.iter().map(|g| -g).collect(),
        };
        let largest = step.iter().fold(0.0_f64, |all, s| all.max(s.abs()));
        if largest < 1e-12 {
            return Some(logs);
        }
        let mut share = (1.0_f64).min(2.0 / largest);
        let better = loop {
            let next: Vec<f64> = logs.iter().zip(&step).map(|(log, s)| log + share * s).collect();
            let (there, slope) = cost.both(&next);
            // Close to the maximum the cost has no more digits, and the slope has.
            let flatter = |a: &[f64], b: &[f64]| a.iter().map(|g| g * g).sum::<f64>() < b.iter().map(|g| g * g).sum();
            if there.is_finite() && (there < here || (there - here).abs() < 1e-12 && flatter(&slope, &gradient)) {
                break Some(next);
            }
            share /= 2.0;
            if share < 1e-6 {
                break None;
            }
        };
        match better {
            Some(next) => logs = next,
            None => return gradient.iter().all(|g| g.abs() < 1e-6).then_some(logs),
        }
    }
    None
}

/// Central differences of a gradient, row by row, made symmetric.
fn jacobian(at: &[f64], steps: &[f64], gradient: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let dims = at.len();
    let mut all = vec![0.0; dims * dims];
    for i in 0..dims {
        let moved = |by: f64| {
            let mut at = at.to_vec();
            at[i] += by;
            gradient(&at)
        };
        let (up, down) = (moved(steps[i]), moved(-steps[i]));
        for j in 0..dims {
            all[i * dims + j] = (up[j] - down[j]) / (2.0 * steps[i]);
        }
    }
    for i in 0..dims {
        for j in 0..i {
            let mean = f64::midpoint(all[i * dims + j], all[j * dims + i]);
            (all[i * dims + j], all[j * dims + i]) = (mean, mean);
        }
    }
    all
}

/// The inverse of a symmetric positive definite matrix, by Cholesky's factor; none if it is no such.
fn inverse(matrix: &[f64], dims: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; dims * dims];
    for i in 0..dims {
        for j in 0..=i {
            let product: f64 = (0..j).map(|k| factor[i * dims + k] * factor[j * dims + k]).sum();
            let rest = matrix[i * dims + j] - product;
            if i == j {
                // Where digits end, it is flat.
                if rest.is_nan() || rest <= 1e-12 * matrix[i * dims + i].abs() {
                    return None;
                }
                factor[i * dims + i] = rest.sqrt();
            } else {
                factor[i * dims + j] = rest / factor[j * dims + j];
            }
        }
    }
    let mut all = vec![0.0; dims * dims];
    for column in 0..dims {
        let mut y = vec![0.0; dims];
        for i in 0..dims {
            let known: f64 = (0..i).map(|k| factor[i * dims + k] * y[k]).sum();
            y[i] = (f64::from(u8::from(i == column)) - known) / factor[i * dims + i];
        }
        for i in (0..dims).rev() {
            let known: f64 = (i + 1..dims).map(|k| factor[k * dims + i] * all[k * dims + column]).sum();
            all[i * dims + column] = (y[i] - known) / factor[i * dims + i];
        }
    }
    Some(all)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Holds the gradient of a group against central differences.
    pub(in crate::value) fn gradient_is_right<L: Likelihood>(likelihood: &L, at: &[f64], group: &L::Group) {
        let value = |at: &[f64], gradient: &mut [f64]| {
            likelihood.of(at, &likelihood.prepare(at, std::slice::from_ref(group)), group, gradient)
        };
        let mut gradient = vec![0.0; at.len()];
        value(at, &mut gradient);
        for i in 0..at.len() {
            let moved = |by: f64| {
                let mut at = at.to_vec();
                at[i] += by;
                value(&at, &mut vec![0.0; at.len()])
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[i] - numeric).abs() < 1e-5 * numeric.abs().max(1.0), "{i}: {gradient:?} {numeric}");
        }
    }

    #[test]
    fn an_inverse_by_hand() {
        // Of [[4, 2], [2, 3]]: [[3, −2], [−2, 4]] / 8.
        let found = inverse(&[4.0, 2.0, 2.0, 3.0], 2).expect("positive definite");
        for (found, expected) in found.iter().zip([0.375, -0.25, -0.25, 0.5]) {
            assert!((found - expected).abs() < 1e-15);
        }
        assert_eq!(inverse(&[1.0, 2.0, 2.0, 1.0], 2), None);
    }
}
