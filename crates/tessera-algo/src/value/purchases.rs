//! How often somebody buys, and whether they still do: BG/NBD and MBG/NBD.
//!
//! While alive, a customer buys at a rate λ, and after each purchase is lost with probability p; over customers λ is Gamma(r, α) and p is Beta(a,
//! b). Of the modified model, a customer may be lost right after the first purchase too. Formulas: Fader, Hardie & Lee, "Counting Your
//! Customers" the Easy Way (Marketing Science 24, 2005), equations 6 to 10, and for MBG/NBD Batislam, Denizel & Filiztekin (International
//! Journal of Research in Marketing 24, 2007). Conditional expectations are brought by Euler's transformation (DLMF 15.8.1) to a series
//! whose parameters do not grow with the purchases, or, where its terms have two signs, found by integration.

use std::collections::HashMap;

use statrs::function::gamma::{digamma, ln_gamma};

use super::{
    Periods, TimeUnit,
    fit::{FEWEST, Fit, Likelihood, Parameter, Refused, estimates, maximum},
    hypergeometric::hyp2f1,
};

/// Which of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Nobody is lost before a second purchase.
    BgNbd,
    /// Some are.
    MbgNbd,
}

/// Customers who bought alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Buyers {
    /// Purchases after the first (x).
    pub repeats: u32,
    /// From the first purchase to the last (t_x).
    pub last: Periods,
    /// From the first purchase to the end of what is known (T).
    pub observed: Periods,
    /// How many they are.
    pub customers: u64,
}

/// A model of purchases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Purchases {
    /// Which.
    pub variant: Variant,
    /// What it measures time in.
    pub unit: TimeUnit,
    r: f64,
    alpha: f64,
    a: f64,
    b: f64,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::BgNbd, Self::MbgNbd];

    /// How it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BgNbd => "bg_nbd",
            Self::MbgNbd => "mbg_nbd",
        }
    }

    /// Chances that were taken to lose a customer beyond the purchases after the first.
    fn chances(self) -> f64 {
        match self {
            Self::BgNbd => 0.0,
            Self::MbgNbd => 1.0,
        }
    }
}

/// Of a number of purchases, what the likelihood is made of.
#[derive(Debug, Clone, Copy)]
struct OfRepeats {
    /// ln Γ(r+x)/Γ(r) + r ln α, and by r.
    rate: [f64; 2],
    /// ln B(a, b+x+j)/B(a, b), and by a and b.
    stayed: [f64; 3],
    /// ln B(a+1, b+x+j−1)/B(a, b), and by a and b, if one can have been lost.
    lost: Option<[f64; 3]>,
}

struct Of(Variant);

impl Likelihood for Of {
    type Group = Buyers;
    type Prepared = HashMap<u32, OfRepeats>;

    fn prepare(&self, parameters: &[f64], groups: &[Buyers]) -> Self::Prepared {
        let [r, alpha, a, b] = *parameters else { return HashMap::new() };
        let j = self.0.chances();
        let (gamma_r, psi_r, ln_alpha) = (ln_gamma(r), digamma(r), alpha.ln());
        let beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
        let (psi_a, psi_b, psi_ab) = (digamma(a), digamma(b), digamma(a + b));
        let mut all = HashMap::new();
        for group in groups {
            all.entry(group.repeats).or_insert_with(|| {
                let x = f64::from(group.repeats);
                let n = x + j;
                let (together, psi) = (ln_gamma(a + b + n), digamma(a + b + n));
                let stayed = ln_gamma(a) + ln_gamma(b + n) - together - beta;
                let lost = (n > 0.0).then(|| {
                    let value = ln_gamma(a + 1.0) + ln_gamma(b + n - 1.0) - together - beta;
                    [value, digamma(a + 1.0) - psi - psi_a + psi_ab, digamma(b + n - 1.0) - psi - psi_b + psi_ab]
                });
                OfRepeats {
                    rate: [ln_gamma(r + x) - gamma_r + r * ln_alpha, digamma(r + x) - psi_r + ln_alpha],
                    stayed: [stayed, psi_ab - psi, digamma(b + n) - psi - psi_b + psi_ab],
                    lost,
                }
            });
        }
        all
    }

    fn customers(group: &Buyers) -> f64 {
        group.customers as f64
    }

    fn of(&self, parameters: &[f64], prepared: &Self::Prepared, group: &Buyers, gradient: &mut [f64]) -> f64 {
        let (&[r, alpha, ..], Some(of)) = (parameters, prepared.get(&group.repeats)) else { return f64::NAN };
        let x = f64::from(group.repeats);
        let (until, since) = (alpha + group.observed.count(), alpha + group.last.count());
        let stayed = of.stayed[0] - (r + x) * until.ln();
        // The logarithm of the sum, and the share of either in it.
        let (value, share, lost) = match of.lost {
            None => (stayed, 1.0, [0.0; 3]),
            Some(of) => {
                let lost = of[0] - (r + x) * since.ln();
                let top = stayed.max(lost);
                let sum = (stayed - top).exp() + (lost - top).exp();
                (top + sum.ln(), (stayed - top).exp() / sum, of)
            }
        };
        let n = group.customers as f64;
        gradient[0] += n * (of.rate[1] - share * until.ln() - (1.0 - share) * since.ln());
        gradient[1] += n * (r / alpha - (r + x) * (share / until + (1.0 - share) / since));
        gradient[2] += n * (share * of.stayed[1] + (1.0 - share) * lost[1]);
        gradient[3] += n * (share * of.stayed[2] + (1.0 - share) * lost[2]);
        of.rate[0] + value
    }
}

impl Purchases {
    /// A model of given parameters.
    #[must_use]
    pub fn new(variant: Variant, unit: TimeUnit, [r, alpha, a, b]: [f64; 4]) -> Self {
        Self { variant, unit, r, alpha, a, b }
    }

    /// r, α, a and b.
    #[must_use]
    pub fn parameters(&self) -> [f64; 4] {
        [self.r, self.alpha, self.a, self.b]
    }

    /// The model of maximum likelihood. Groups are in an order of their own.
    ///
    /// # Errors
    /// Which assumption of the model does not hold.
    pub fn fit(variant: Variant, unit: TimeUnit, groups: &[Buyers], threads: usize) -> Result<Fit<Self>, Refused> {
        let name = variant.name();
        let customers: u64 = groups.iter().map(|group| group.customers).sum();
        let again: u64 = groups.iter().filter(|group| group.repeats > 0).map(|group| group.customers).sum();
        if again < FEWEST {
            return Err(Refused::Few(FEWEST));
        }
        let mean = |get: fn(&Buyers) -> f64| {
            groups.iter().map(|group| group.customers as f64 * get(group)).sum::<f64>() / customers.max(1) as f64
        };
        // The time in which a customer would buy once.
        let gap = (mean(|g| g.observed.count()) / mean(|g| f64::from(g.repeats)).max(1e-6)).max(1e-3);
        // In units of it, so that no unit of the time is nearer to a bound than another.
        let scaled = |time: Periods| Periods(time.count() / gap);
        let scaled: Vec<Buyers> =
            groups.iter().map(|g| Buyers { last: scaled(g.last), observed: scaled(g.observed), ..*g }).collect();
        let starts = [[0.25, 0.5, 2.0], [1.0, 1.0, 1.0], [2.0, 0.2, 5.0], [0.5, 3.0, 3.0]];
        let starts = starts.map(|[r, a, b]| vec![r, r, a, b]);
        let (found, errors, log_likelihood) = maximum(name, &Of(variant), &scaled, &starts, threads)?;
        let alike = "all customers buy equally often";
        let parameter = |name, bounds, scale| Parameter { name, bounds, scale };
        let parameters = [
            parameter("r", ["customers differ in how often they buy without bounds", alike], 1.0),
            parameter("alpha", ["there is no time between purchases", alike], gap),
            parameter("a", ["nobody is ever lost", "all customers are lost alike"], 1.0),
            parameter("b", ["everybody is lost at once", "nobody is ever lost, or all are lost alike"], 1.0),
        ];
        let estimates = estimates(name, &parameters, &found, &errors)?;
        let log_likelihood = log_likelihood - mean(|g| f64::from(g.repeats)) * customers as f64 * gap.ln();
        let model = Self::new(variant, unit, [0, 1, 2, 3].map(|at: usize| estimates[at].value));
        Ok(Fit { model, estimates, log_likelihood, customers })
    }

    /// The logarithm of the likelihood of one customer.
    #[must_use]
    pub fn log_likelihood(&self, group: &Buyers) -> f64 {
        let of = Of(self.variant);
        let parameters = self.parameters();
        let prepared = of.prepare(&parameters, std::slice::from_ref(group));
        of.of(&parameters, &prepared, group, &mut [0.0; 4])
    }

    /// The probability that a customer with `repeats` has not been lost.
    #[must_use]
    pub fn alive(&self, repeats: u32, last: Periods, observed: Periods) -> f64 {
        let n = f64::from(repeats) + self.variant.chances();
        if n == 0.0 {
            return 1.0;
        }
        let (until, since) = (self.alpha + observed.count(), self.alpha + last.count());
        let odds = self.a / (self.b + n - 1.0) * ((self.r + f64::from(repeats)) * (until / since).ln()).exp();
        1.0 / (1.0 + odds)
    }

    /// How many purchases are to be expected in the time `ahead` of a customer who has not been lost.
    #[must_use]
    pub fn expected_if_alive(&self, repeats: u32, observed: Periods, ahead: Periods) -> f64 {
        let x = f64::from(repeats);
        let j = self.variant.chances();
        let Self { r, alpha, .. } = *self;
        let tau = ahead.count() / (alpha + observed.count());
        let most = (r + x) * tau;
        // Where terms of the series are of two signs, digits are lost; where they grow beyond all bounds, all are.
        if self.a + self.b + j - 1.0 - r < -8.0 || self.a > 50.0 {
            return self.integrated(x, tau).clamp(0.0, most);
        }
        // At a = 1, and where c is 0, there is a limit.
        let a = if (self.a - 1.0).abs() < 1e-7 { self.a + 1e-7 } else { self.a };
        let c = a + self.b + x + j - 1.0;
        let c = if c.abs() < 1e-7 { c + 1e-7 } else { c };
        let z = ahead.count() / (alpha + observed.count() + ahead.count());
        let kept = (1.0 - z).powf(a - 1.0) * hyp2f1(a - 1.0, a + self.b + j - 1.0 - r, c, z);
        (c / (a - 1.0) * (1.0 - kept)).clamp(0.0, most)
    }

    /// The same by integration over p, which is Beta(a, b+x+j) of those who are alive: of (1 − (1+pτ)^−(r+x)) / p (tanh-sinh).
    fn integrated(&self, x: f64, tau: f64) -> f64 {
        const STEP: f64 = 1.0 / 32.0;
        let b = self.b + x + self.variant.chances();
        // By the logarithms of p and 1 − p, since the weights of a narrow Beta are beyond all bounds.
        let nodes: Vec<(f64, f64)> = (-160..=160)
            .map(|k| {
                let t = f64::from(k) * STEP;
                let s = std::f64::consts::FRAC_PI_2 * t.sinh();
                let (ln_p, ln_q) = (-(-2.0 * s).exp().ln_1p(), -(2.0 * s).exp().ln_1p());
                let p = ln_p.exp();
                let bought = match p * tau < 1e-12 {
                    true => (self.r + x) * tau,
                    false => -((self.r + x) * -(p * tau).ln_1p()).exp_m1() / p,
                };
                (self.a * ln_p + b * ln_q + t.cosh().ln(), bought)
            })
            .collect();
        let top = nodes.iter().map(|(weight, _)| *weight).fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut all) = (0.0, 0.0);
        for (weight, bought) in nodes {
            let weight = (weight - top).exp();
            (sum, all) = (sum + weight * bought, all + weight);
        }
        sum / all
    }

    /// How many are to be expected of a customer.
    #[must_use]
    pub fn expected(&self, repeats: u32, last: Periods, observed: Periods, ahead: Periods) -> f64 {
        self.alive(repeats, last, observed) * self.expected_if_alive(repeats, observed, ahead)
    }
}

#[cfg(test)]
pub(super) mod tests;
