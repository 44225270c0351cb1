//! Against published values, integration and made panels.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_distr::{Beta, Distribution, Exp, Gamma};
use rand_pcg::Pcg64;

use super::*;
use crate::value::{Days, fit::tests::gradient_is_right};

/// The CDNOW panel (Fader & Hardie 2001; brucehardie.com/datasets): repeats, days to the last purchase, days observed, mean value of a repeat
/// in cents, customers.
pub(in crate::value) fn cdnow() -> Vec<[u64; 5]> {
    let lines = include_str!("../cdnow.csv").lines().skip(1);
    let numbers = |line: &str| line.split(',').map(|n| n.parse().expect("a number")).collect::<Vec<u64>>();
    lines.map(|line| numbers(line).try_into().expect("five columns")).collect()
}

fn weeks(days: f64) -> Periods {
    TimeUnit::Week.of(Days(days))
}

fn group(repeats: u32, last: f64, observed: f64) -> Buyers {
    Buyers { repeats, last: Periods(last), observed: Periods(observed), customers: 1 }
}

fn panel() -> Vec<Buyers> {
    let of = |[x, last, observed, _, customers]: [u64; 5]| Buyers {
        repeats: x as u32,
        last: weeks(last as f64),
        observed: weeks(observed as f64),
        customers,
    };
    cdnow().into_iter().map(of).collect()
}

#[test]
fn the_published_fit() {
    // Fader, Hardie & Lee (2005), table 2.
    let fit = Purchases::fit(Variant::BgNbd, TimeUnit::Week, &panel(), 1).expect("fits");
    for (estimate, published) in fit.estimates.iter().zip([0.243, 4.414, 0.793, 2.426]) {
        assert!((estimate.value - published).abs() < 5e-4, "{estimate:?}");
    }
    assert!((fit.log_likelihood + 9582.4).abs() < 0.05, "{}", fit.log_likelihood);
    assert_eq!(fit.customers, 2357);
    // Standard errors by numpy from the inverse Hessian of the same likelihood: see the test of panels for what they are worth.
    assert!((fit.estimates[0].std_error - 0.0126).abs() < 1e-3, "{:?}", fit.estimates);
    // Fader & Hardie, Computing P(alive) and expectations, of the first customer.
    let expected = fit.model.expected(2, Periods(30.43), Periods(38.86), Periods(39.0));
    assert!((expected - 1.226).abs() < 5e-4, "{expected}");
    // Whatever the threads.
    assert_eq!(Purchases::fit(Variant::BgNbd, TimeUnit::Week, &panel(), 7).expect("fits"), fit);
}

#[test]
fn in_days_it_is_the_same_model() {
    let in_weeks = Purchases::fit(Variant::MbgNbd, TimeUnit::Week, &panel(), 1).expect("fits");
    let days = |g: Buyers| Buyers {
        last: TimeUnit::Day.of(TimeUnit::Week.to_days(g.last)),
        observed: TimeUnit::Day.of(TimeUnit::Week.to_days(g.observed)),
        ..g
    };
    let days: Vec<Buyers> = panel().into_iter().map(days).collect();
    let in_days = Purchases::fit(Variant::MbgNbd, TimeUnit::Day, &days, 1).expect("fits");
    let ([r, alpha, a, b], [r7, alpha7, a7, b7]) = (in_weeks.model.parameters(), in_days.model.parameters());
    for (one, other) in [(r, r7), (alpha * 7.0, alpha7), (a, a7), (b, b7)] {
        assert!((one / other - 1.0).abs() < 1e-6, "{one} {other}");
    }
}

/// ∫ of a function of p and 1 − p over 0 to 1 (tanh-sinh).
fn integral(of: impl Fn(f64, f64) -> f64) -> f64 {
    let h = 1.0 / 256.0;
    let terms = (-1024..=1024).map(|k| {
        let t = f64::from(k) * h;
        let s = std::f64::consts::FRAC_PI_2 * t.sinh();
        let (p, q) = (1.0 / (1.0 + (-2.0 * s).exp()), 1.0 / (1.0 + (2.0 * s).exp()));
        let weight = std::f64::consts::FRAC_PI_2 * t.cosh() / (s.cosh() * s.cosh()) / 2.0;
        if weight == 0.0 || p == 0.0 || q == 0.0 { 0.0 } else { weight * of(p, q) }
    });
    terms.sum::<f64>() * h
}

/// P(alive), the expectation and the likelihood by integration over p, λ by hand.
fn integrated(model: &Purchases, group: &Buyers, ahead: f64) -> [f64; 3] {
    let [r, alpha, a, b] = model.parameters();
    let (x, j) = (f64::from(group.repeats), model.variant.chances());
    let beta = (ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)).exp();
    let prior = |p: f64, q: f64| p.powf(a - 1.0) * q.powf(b - 1.0) / beta;
    let rate = |time: f64| (ln_gamma(r + x) - ln_gamma(r) + r * alpha.ln() - (r + x) * (alpha + time).ln()).exp();
    let (until, since) = (group.observed.count(), group.last.count());
    let alive = integral(|p, q| prior(p, q) * q.powf(x + j)) * rate(until);
    let lost = match x + j > 0.0 {
        true => integral(|p, q| prior(p, q) * p * q.powf(x + j - 1.0)) * rate(since),
        false => 0.0,
    };
    // Of an alive customer (1 − e^(−λpt)) / p more.
    let bought = |p: f64| -((r + x) * -(p * ahead / (alpha + until)).ln_1p()).exp_m1();
    let more = integral(|p, q| prior(p, q) * q.powf(x + j) * bought(p) / p) * rate(until);
    [alive / (alive + lost), more / (alive + lost), (alive + lost).ln()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn as_by_integration(
        r in 0.2..3.0_f64, alpha in 0.5..20.0_f64, a in 0.3..4.0_f64, b in 0.6..6.0_f64,
        x in 0..25_u32, last in 0.05..1.0_f64, observed in 0.5..100.0_f64, ahead in 0.5..80.0_f64, modified: bool,
    ) {
        let variant = if modified { Variant::MbgNbd } else { Variant::BgNbd };
        let model = Purchases::new(variant, TimeUnit::Week, [r, alpha, a, b]);
        let group = group(x, if x == 0 { 0.0 } else { last * observed }, observed);
        let [alive, more, likelihood] = integrated(&model, &group, ahead);
        prop_assert!((model.alive(x, group.last, group.observed) - alive).abs() < 1e-8);
        prop_assert!((model.log_likelihood(&group) - likelihood).abs() < 1e-8);
        let expected = model.expected(x, group.last, group.observed, Periods(ahead));
        prop_assert!((expected - more).abs() < 1e-8 * more.max(1.0), "{expected} {more}");
    }

    #[test]
    fn the_gradient_is_that_of_the_likelihood(
        r in 0.2..3.0_f64, alpha in 0.5..20.0_f64, a in 0.3..4.0_f64, b in 0.6..6.0_f64,
        x in 0..25_u32, modified: bool,
    ) {
        let variant = if modified { Variant::MbgNbd } else { Variant::BgNbd };
        gradient_is_right(&Of(variant), &[r, alpha, a, b], &group(x, if x == 0 { 0.0 } else { 7.5 }, 20.0));
    }
}

#[test]
fn whatever_the_parameters_an_expectation_is_one() {
    let beyond = [0.01, 0.5, 5.0, 60.0, 700.0, 1e4, 1e5];
    for (r, a, b) in beyond.iter().flat_map(|r| beyond.iter().flat_map(move |a| beyond.map(|b| (*r, *a, b)))) {
        for variant in Variant::ALL {
            let model = Purchases::new(variant, TimeUnit::Week, [r, r * 2.0, a, b]);
            for (x, observed) in [(0, 0.0), (0, 50.0), (3, 20.0), (400, 900.0)] {
                let mut before = 0.0;
                for ahead in [4.0, 52.0, 520.0] {
                    let more = model.expected_if_alive(x, Periods(observed), Periods(ahead));
                    let most = (r + f64::from(x)) * ahead / (r * 2.0 + observed);
                    assert!(
                        more.is_finite() && more <= most && more >= before * (1.0 - 1e-9),
                        "{model:?} {x} {ahead}: {more}"
                    );
                    before = more;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_series_is_the_integral(
        r in 0.2..8.0_f64, alpha in 0.5..20.0_f64, a in 0.3..40.0_f64, b in 0.3..40.0_f64,
        x in 0..25_u32, observed in 0.0..100.0_f64, ahead in 0.5..80.0_f64, modified: bool,
    ) {
        let variant = if modified { Variant::MbgNbd } else { Variant::BgNbd };
        let model = Purchases::new(variant, TimeUnit::Week, [r, alpha, a, b]);
        let series = model.expected_if_alive(x, Periods(observed), Periods(ahead));
        let integral = model.integrated(f64::from(x), ahead / (alpha + observed));
        prop_assert!((series - integral).abs() < 1e-6 * integral, "{series} {integral}");
    }
}

#[test]
fn a_heavy_buyer_and_a_limit_stay_numbers() {
    let model = Purchases::new(Variant::BgNbd, TimeUnit::Week, [0.243, 4.414, 1.0, 2.426]);
    let expected = model.expected(5_000, Periods(500.0), Periods(500.0), Periods(52.0));
    assert!(expected > 480.0 && expected < 520.0, "{expected}");
    let near = Purchases::new(Variant::BgNbd, TimeUnit::Week, [0.243, 4.414, 1.000_01, 2.426]);
    let difference = model.expected(3, Periods(9.0), Periods(12.0), Periods(52.0))
        - near.expected(3, Periods(9.0), Periods(12.0), Periods(52.0));
    assert!(difference.abs() < 1e-4);
}

/// A panel of customers who came over the first half of the time, as the model says.
pub(in crate::value) fn simulated(
    variant: Variant,
    [r, alpha, a, b]: [f64; 4],
    customers: usize,
    weeks: f64,
    seed: u64,
) -> Vec<Buyers> {
    let mut rng = Pcg64::seed_from_u64(seed);
    let (rates, losses) = (Gamma::new(r, 1.0 / alpha).expect("valid"), Beta::new(a, b).expect("valid"));
    let mut groups = Vec::new();
    for at in 0..customers {
        let observed = weeks - weeks / 2.0 * at as f64 / customers as f64;
        let (rate, loss): (f64, f64) = (rates.sample(&mut rng), losses.sample(&mut rng));
        let (mut time, mut last, mut repeats) = (0.0, 0.0, 0);
        let lost = |rng: &mut Pcg64| rand::Rng::random::<f64>(rng) < loss;
        let mut alive = variant == Variant::BgNbd || !lost(&mut rng);
        while alive {
            time += if rate > 1e-12 { Exp::new(rate).expect("positive").sample(&mut rng) } else { f64::INFINITY };
            if time > observed {
                break;
            }
            (last, repeats, alive) = (time, repeats + 1, !lost(&mut rng));
        }
        groups.push(group(repeats, last, observed));
    }
    groups
}

/// Of a panel: with fewer, estimates are skew.
const CUSTOMERS: usize = 6_000;

/// Of a hundred panels, in how many each parameter is within two standard errors.
fn recovered(variant: Variant, truth: [f64; 4]) -> [usize; 4] {
    let mut within = [0; 4];
    for seed in 0..100 {
        let fit = Purchases::fit(variant, TimeUnit::Week, &simulated(variant, truth, CUSTOMERS, 104.0, seed), 1);
        let fit = fit.unwrap_or_else(|e| panic!("panel {seed}: {e}"));
        for (i, estimate) in fit.estimates.iter().enumerate() {
            within[i] += usize::from((estimate.value - truth[i]).abs() < 2.0 * estimate.std_error);
        }
    }
    within
}

#[test]
fn parameters_of_made_panels_are_found() {
    for variant in Variant::ALL {
        let within = recovered(variant, [0.5, 6.0, 0.8, 2.5]);
        assert!(within.iter().all(|n| *n >= 93), "{variant:?}: {within:?}");
    }
}

#[test]
fn of_the_two_models_the_one_that_made_the_panel_fits_better() {
    for variant in Variant::ALL {
        let better = (0..20).filter(|seed| {
            let panel = simulated(variant, [0.5, 6.0, 1.2, 2.0], 4_000, 104.0, *seed);
            let of = |variant| Purchases::fit(variant, TimeUnit::Week, &panel, 1).expect("fits").log_likelihood;
            of(variant) > Variant::ALL.into_iter().filter(|v| *v != variant).map(of).fold(f64::MIN, f64::max)
        });
        assert!(better.count() >= 17, "{variant:?}");
    }
}

/// Customers who come back at their own pace until a day, some of whom are gone: no model made them, and a fit ends all the same.
#[test]
fn customers_of_no_model_are_fitted_or_refused() {
    for known in [60_u32, 182, 366, 600] {
        let mut groups = Vec::new();
        for customer in 0..400_u32 {
            let (pace, lost) = (9 + customer * 7 % 61, 60 + customer * 31 % 500);
            let first = customer * 13 % 150;
            let (mut day, mut last, mut days) = (first, first, 0);
            while day < known && (days == 0 || customer % 2 == 1 && day <= first + lost) {
                (last, days) = (day, days + 1);
                day += pace + day * customer % 11;
            }
            if days > 0 {
                groups.push(Buyers {
                    repeats: days - 1,
                    last: weeks(f64::from(last - first)),
                    observed: weeks(f64::from(known - 1 - first)),
                    customers: 1,
                });
            }
        }
        for variant in Variant::ALL {
            match Purchases::fit(variant, TimeUnit::Week, &groups, 2) {
                Ok(fit) => assert!(fit.log_likelihood.is_finite() && known > 60, "{known} {variant:?}: {fit:?}"),
                Err(refused) => println!("{known} {variant:?}: {refused}"),
            }
        }
    }
}

#[test]
fn what_the_customers_do_not_tell_is_refused() {
    // Nobody is lost, and all buy every week.
    let regular: Vec<Buyers> = (10..200).map(|weeks| group(weeks, f64::from(weeks), f64::from(weeks))).collect();
    let refused = Purchases::fit(Variant::BgNbd, TimeUnit::Week, &regular, 1).expect_err("nothing to tell");
    assert!(matches!(refused, Refused::AtTheBound { .. } | Refused::Flat(_) | Refused::NoMaximum(_)), "{refused}");
    let once: Vec<Buyers> = panel().into_iter().filter(|g| g.repeats == 0).collect();
    let few = Purchases::fit(Variant::BgNbd, TimeUnit::Week, &once, 1);
    assert_eq!(few, Err(Refused::Few(FEWEST)));
}

#[test]
fn customers_counted_together_are_those_counted_alone() {
    let alone = simulated(Variant::BgNbd, [0.5, 6.0, 0.8, 2.5], 2_000, 52.0, 3);
    let whole = |g: &Buyers| (g.repeats, g.last.count().floor() as u64, g.observed.count().floor() as u64);
    let mut groups: BTreeMap<_, u64> = BTreeMap::new();
    alone.iter().for_each(|g| *groups.entry(whole(g)).or_default() += 1);
    let floored: Vec<Buyers> =
        alone.iter().map(|g| group(g.repeats, g.last.count().floor(), g.observed.count().floor())).collect();
    let together = groups.into_iter().map(|((repeats, last, observed), customers)| Buyers {
        customers,
        ..group(repeats, last as f64, observed as f64)
    });
    let fit = |groups: &[Buyers]| Purchases::fit(Variant::BgNbd, TimeUnit::Week, groups, 1).expect("fits");
    let (one, other) = (fit(&floored), fit(&together.collect::<Vec<_>>()));
    for (one, other) in one.estimates.iter().zip(&other.estimates) {
        assert!((one.value / other.value - 1.0).abs() < 1e-6, "{one:?} {other:?}");
    }
}
