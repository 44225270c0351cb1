//! The sums behind a figure of some customers, and what follows from them.

use datafusion::arrow::array::RecordBatch;
use tessera_algo::interval;
use tessera_contract::{Interval, table::MONEY};

use super::ONE;
use crate::{StageError, rows};

/// Two sums over customers, with how they spread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    customers: f64,
    pub x: i128,
    pub y: i128,
    var_x: f64,
    var_y: f64,
    cov: f64,
    some_x: i64,
    /// Customers to whom the second is not 0.
    pub some_y: i64,
}

impl Moments {
    /// Those of every row of a column of moments.
    pub(crate) fn all(batch: &RecordBatch, column: &str) -> Result<Vec<Self>, StageError> {
        let moments = rows::fields(batch, column)?;
        let (x, y) = (rows::money(&moments, "sum_x")?, rows::money(&moments, "sum_y")?);
        let (some_x, some_y) = (rows::integers(&moments, "some_x")?, rows::integers(&moments, "some_y")?);
        let spread = ["n", "var_x", "var_y", "cov"].map(|field| rows::floats(&moments, field));
        let [n, var_x, var_y, cov] = spread;
        let (n, var_x, var_y, cov) = (n?, var_x?, var_y?, cov?);
        let of = |row: usize| Self {
            customers: n[row].unwrap_or(0.0),
            x: x[row].unwrap_or(0),
            y: y[row].unwrap_or(0),
            var_x: var_x[row].unwrap_or(0.0),
            var_y: var_y[row].unwrap_or(0.0),
            cov: cov[row].unwrap_or(0.0),
            some_x: some_x[row].unwrap_or(0),
            some_y: some_y[row].unwrap_or(0),
        };
        Ok((0..batch.num_rows()).map(of).collect())
    }

    /// The two sums in units.
    pub(crate) fn sums(&self) -> (f64, f64) {
        let unit = 10_f64.powi(i32::from(MONEY.1));
        (self.x as f64 / unit, self.y as f64 / unit)
    }

    /// The first over the second.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (x, y) = self.sums();
        (self.y != 0).then(|| x / y)
    }

    /// Whether each customer adds 0 or 1 to the first sum, and to the second.
    pub(crate) fn are_counts(&self) -> [bool; 2] {
        let one = |sum: i128, some: i64, var: f64| {
            let share = some as f64 / self.customers;
            sum == i128::from(some) * ONE && (some == 0 || (var - share * (1.0 - share)).abs() < 1e-9)
        };
        [one(self.x, self.some_x, self.var_x), one(self.y, self.some_y, self.var_y)]
    }

    /// Whether the ratio is a share of customers: each adds 0 or 1, and nobody to the first only.
    pub(crate) fn is_share(&self) -> bool {
        let n = self.customers;
        let (x, y) = (self.some_x as f64 / n, self.some_y as f64 / n);
        self.some_y > 0 && self.are_counts() == [true; 2] && (self.cov + x * y - x).abs() < 1e-9
    }

    /// The 95 % interval of the ratio. Where it is a share of customers, the delta method gives way to Wilson's: it says little of few.
    pub(crate) fn bounds(&self, interval: Interval) -> Option<(f64, f64)> {
        let (x, y) = self.sums();
        let n = self.customers;
        match interval {
            Interval::Wilson if self.y > 0 => Some(interval::wilson(y, x)),
            Interval::Ratio if self.is_share() => Some(interval::wilson(y, x)),
            Interval::Ratio => interval::ratio(n, x / n, y / n, self.var_x, self.var_y, self.cov),
            _ => None,
        }
    }
}
