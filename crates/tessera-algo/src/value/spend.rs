//! How much somebody spends when they buy: Gamma-Gamma.
//!
//! Values of a customer's purchases are Gamma(p, ν), and over customers ν is Gamma(q, γ). Formulas: Fader & Hardie, The Gamma-Gamma Model of
//! Monetary Value (2013), equations 1a and 5. How much is taken to have nothing to do with how often.

use std::collections::HashMap;

use statrs::function::gamma::{digamma, ln_gamma};

use super::fit::{FEWEST, Fit, Likelihood, Parameter, Refused, estimates, maximum};

const NAME: &str = "gamma_gamma";

/// An amount in units of the currency, not in its hundredths.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Money(pub f64);

/// Customers who spend alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spenders {
    /// Purchases whose mean it is (x).
    pub purchases: u32,
    /// The mean value of one, above 0.
    pub mean: Money,
    /// How many they are.
    pub customers: u64,
}

/// A model of the values of purchases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    p: f64,
    q: f64,
    gamma: f64,
}

/// ln Γ(px+q) − ln Γ(px) − ln Γ(q), and by p and q.
type OfPurchases = [f64; 3];

struct Of;

impl Likelihood for Of {
    type Group = Spenders;
    type Prepared = HashMap<u32, OfPurchases>;

    fn prepare(&self, parameters: &[f64], groups: &[Spenders]) -> Self::Prepared {
        let [p, q, _] = *parameters else { return HashMap::new() };
        let (gamma_q, psi_q) = (ln_gamma(q), digamma(q));
        let mut all = HashMap::new();
        for group in groups {
            all.entry(group.purchases).or_insert_with(|| {
                let x = f64::from(group.purchases);
                let psi = digamma(p * x + q);
                [ln_gamma(p * x + q) - ln_gamma(p * x) - gamma_q, x * (psi - digamma(p * x)), psi - psi_q]
            });
        }
        all
    }

    fn customers(group: &Spenders) -> f64 {
        group.customers as f64
    }

    fn of(&self, parameters: &[f64], prepared: &Self::Prepared, group: &Spenders, gradient: &mut [f64]) -> f64 {
        let (&[p, q, gamma], Some(of)) = (parameters, prepared.get(&group.purchases)) else { return f64::NAN };
        let x = f64::from(group.purchases);
        let Money(mean) = group.mean;
        let (ln_mean, ln_x, all) = (mean.ln(), x.ln(), gamma + x * mean);
        let ln_all = all.ln();
        let n = group.customers as f64;
        gradient[0] += n * (of[1] + x * (ln_mean + ln_x - ln_all));
        gradient[1] += n * (of[2] + gamma.ln() - ln_all);
        gradient[2] += n * (q / gamma - (p * x + q) / all);
        of[0] + q * gamma.ln() + (p * x - 1.0) * ln_mean + p * x * ln_x - (p * x + q) * ln_all
    }
}

impl Spend {
    /// A model of given parameters.
    #[must_use]
    pub fn new([p, q, gamma]: [f64; 3]) -> Self {
        Self { p, q, gamma }
    }

    /// p, q and γ.
    #[must_use]
    pub fn parameters(&self) -> [f64; 3] {
        [self.p, self.q, self.gamma]
    }

    /// The model of maximum likelihood. Groups are in an order of their own.
    ///
    /// # Errors
    /// Which assumption of the model does not hold.
    pub fn fit(groups: &[Spenders], threads: usize) -> Result<Fit<Self>, Refused> {
        let customers: u64 = groups.iter().map(|group| group.customers).sum();
        if customers < FEWEST {
            return Err(Refused::Few(FEWEST));
        }
        let sum: f64 = groups.iter().map(|group| group.customers as f64 * group.mean.0).sum();
        let mean = sum / customers as f64;
        // In units of it, so that no currency is nearer to a bound than another.
        let scaled: Vec<Spenders> = groups.iter().map(|g| Spenders { mean: Money(g.mean.0 / mean), ..*g }).collect();
        let starts = [[2.0, 3.0], [6.0, 4.0], [1.0, 2.0], [20.0, 10.0]];
        let starts = starts.map(|[p, q]| vec![p, q, (q - 1.0) / p]);
        let (found, errors, log_likelihood) = maximum(NAME, &Of, &scaled, &starts, threads)?;
        let [apart, alike] = ["customers differ without bounds", "all customers spend alike"];
        let same = "every purchase of a customer has the same value";
        let parameter = |name, bounds, scale| Parameter { name, bounds, scale };
        let parameters = [
            parameter("p", ["what customers spend has no mean", same], 1.0),
            parameter("q", [apart, alike], 1.0),
            parameter("gamma", [apart, alike], mean),
        ];
        let estimates = estimates(NAME, &parameters, &found, &errors)?;
        let model = Self::new([0, 1, 2].map(|at: usize| estimates[at].value));
        if model.q <= 1.0 {
            return Err(Refused::NoMean(model.q));
        }
        let log_likelihood = log_likelihood - customers as f64 * mean.ln();
        Ok(Fit { model, estimates, log_likelihood, customers })
    }

    /// The logarithm of the likelihood of one customer.
    #[must_use]
    pub fn log_likelihood(&self, group: &Spenders) -> f64 {
        let parameters = self.parameters();
        let prepared = Of.prepare(&parameters, std::slice::from_ref(group));
        Of.of(&parameters, &prepared, group, &mut [0.0; 3])
    }

    /// The value that is to be expected of a purchase of a customer whose `purchases` had this mean; without any, that of everybody.
    #[must_use]
    pub fn expected(&self, purchases: u32, mean: Money) -> Money {
        let x = f64::from(purchases);
        let known = if purchases == 0 { 0.0 } else { x * mean.0 };
        Money(self.p * (self.gamma + known) / (self.p * x + self.q - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, Gamma};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::value::{fit::tests::gradient_is_right, purchases::tests::cdnow};

    #[test]
    fn the_published_fit() {
        // Fader & Hardie (2013), section 5: the 946 customers with a repeat.
        let of = |[x, _, _, mean, customers]: [u64; 5]| {
            (x > 0).then_some(Spenders { purchases: x as u32, mean: Money(mean as f64 / 100.0), customers })
        };
        let groups: Vec<Spenders> = cdnow().into_iter().filter_map(of).collect();
        let fit = Spend::fit(&groups, 1).expect("fits");
        assert_eq!(fit.customers, 946);
        for (estimate, published) in fit.estimates.iter().zip([6.25, 3.74, 15.44]) {
            assert!((estimate.value - published).abs() < 1e-2, "{estimate:?}");
        }
    }

    #[test]
    fn another_currency_is_the_same_model() {
        let groups = simulated([4.0, 3.5, 20.0], 7);
        let dong: Vec<Spenders> = groups.iter().map(|g| Spenders { mean: Money(g.mean.0 * 3e7), ..*g }).collect();
        let [one, other] = [groups, dong].map(|groups| Spend::fit(&groups, 1).expect("fits"));
        let ([p, q, gamma], [p2, q2, gamma2]) = (one.model.parameters(), other.model.parameters());
        for (one, other) in [(p, p2), (q, q2), (gamma * 3e7, gamma2)] {
            assert!((one / other - 1.0).abs() < 1e-6, "{one} {other}");
        }
        let sum: f64 = simulated([4.0, 3.5, 20.0], 7).iter().map(|g| one.model.log_likelihood(g)).sum();
        assert!((sum - one.log_likelihood).abs() < 1e-6 * sum.abs(), "{sum} {}", one.log_likelihood);
    }

    #[test]
    fn an_expected_value_lies_between_that_of_everybody_and_their_own() {
        let model = Spend::new([6.25, 3.74, 15.44]);
        let all = model.expected(0, Money(f64::NAN)).0;
        assert!((all - 6.25 * 15.44 / 2.74).abs() < 1e-12);
        let mut before = all;
        for x in [1, 3, 10, 100, 10_000] {
            let Money(expected) = model.expected(x, Money(80.0));
            assert!(before < expected && expected < 80.0, "{x}: {expected}");
            before = expected;
        }
    }

    fn simulated([p, q, gamma]: [f64; 3], seed: u64) -> Vec<Spenders> {
        let mut rng = Pcg64::seed_from_u64(seed);
        let scales = Gamma::new(q, 1.0 / gamma).expect("valid");
        (0..6_000)
            .map(|at| {
                let purchases = 1 + at % 9;
                let nu: f64 = scales.sample(&mut rng);
                let value = Gamma::new(p, 1.0 / nu).expect("valid");
                let sum: f64 = (0..purchases).map(|_| value.sample(&mut rng)).sum();
                Spenders { purchases, mean: Money(sum / f64::from(purchases)), customers: 1 }
            })
            .collect()
    }

    #[test]
    fn parameters_of_made_panels_are_found() {
        let truth = [4.0, 3.5, 20.0];
        let mut within = [0; 3];
        for seed in 0..100 {
            let fit = Spend::fit(&simulated(truth, seed), 1).unwrap_or_else(|e| panic!("panel {seed}: {e}"));
            for (i, estimate) in fit.estimates.iter().enumerate() {
                within[i] += usize::from((estimate.value - truth[i]).abs() < 2.0 * estimate.std_error);
            }
        }
        assert!(within.iter().all(|n| *n >= 93), "{within:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_likelihood() {
        let group = Spenders { purchases: 4, mean: Money(31.0), customers: 1 };
        gradient_is_right(&Of, &[4.0, 3.5, 20.0], &group);
    }

    #[test]
    fn a_mean_that_does_not_exist_is_refused() {
        // Tails so heavy that q is below 1.
        let refused = Spend::fit(&simulated([3.0, 0.8, 10.0], 1), 1).expect_err("no mean");
        assert!(matches!(refused, Refused::NoMean(_)), "{refused}");
    }
}
