//! Customer value: how often, and for how much, somebody is going to buy.
//!
//! Purchases follow BG/NBD (Fader, Hardie & Lee 2005) or MBG/NBD (Batislam, Denizel & Filiztekin 2007), values of purchases Gamma-Gamma (Fader
//! & Hardie 2013). Parameters are those of maximum likelihood over customers who are alike, counted together, so that the work does not
//! grow with the customers, and an order of theirs changes no digit. Lengths of time have their unit in their type.

mod fit;
mod hypergeometric;
mod purchases;
mod spend;

pub use self::{
    fit::{Estimate, Fit, Refused},
    purchases::{Buyers, Purchases, Variant},
    spend::{Money, Spend, Spenders},
};

/// A length of time in days.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Days(pub f64);

/// In what a model measures time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Days.
    Day,
    /// Weeks of seven days.
    Week,
    /// Twelfths of a year of 365.25 days.
    Month,
}

/// A length of time in the unit of a model. Days become one by [`TimeUnit::of`] alone.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Periods(f64);

impl TimeUnit {
    /// Days in it.
    #[must_use]
    pub fn days(self) -> f64 {
        match self {
            Self::Day => 1.0,
            Self::Week => 7.0,
            Self::Month => 365.25 / 12.0,
        }
    }

    /// The same length of time in this unit.
    #[must_use]
    pub fn of(self, Days(days): Days) -> Periods {
        Periods(days / self.days())
    }

    /// In days again.
    #[must_use]
    pub fn to_days(self, Periods(periods): Periods) -> Days {
        Days(periods * self.days())
    }
}

impl Periods {
    /// How many they are.
    #[must_use]
    pub fn count(self) -> f64 {
        self.0
    }
}

/// Σ of what is to be expected of each month, discounted: `expected` says of months ahead how many orders are to be expected until then, of `rate`
/// a year (0.1 is 10 %), over `months`.
#[must_use]
pub fn discounted(months: u32, rate: f64, expected: impl Fn(Periods) -> f64, unit: TimeUnit) -> f64 {
    let month = TimeUnit::Month.days();
    let factor = (1.0 + rate).powf(1.0 / 12.0);
    let (mut sum, mut before) = (0.0, 0.0);
    for at in 1..=months {
        let until = expected(unit.of(Days(f64::from(at) * month)));
        sum += (until - before) / factor.powi(at.try_into().unwrap_or(i32::MAX));
        before = until;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_discounted_one_by_one() {
        // One order a month: an annuity.
        let month = TimeUnit::Week.of(Days(TimeUnit::Month.days())).count();
        let sum = discounted(12, 0.21, |ahead| ahead.count() / month, TimeUnit::Week);
        let d = 1.21_f64.powf(1.0 / 12.0) - 1.0;
        assert!((sum - (1.0 - (1.0 + d).powi(-12)) / d).abs() < 1e-9, "{sum}");
        assert_eq!(TimeUnit::Week.of(Days(14.0)).count(), 2.0);
        assert_eq!(TimeUnit::Week.to_days(TimeUnit::Week.of(Days(3.0))).0, 3.0);
    }
}
