//! A seeded generator of a realistic, dirty shop: customers of several kinds, their orders and returns, visits and newsletters,
//! campaigns with holdout groups, surveys and marketing costs, with the errors that such files have and with changes planted on known
//! days. The truth about kinds, duplicates, errors and planted changes is written beside the data, for tests and benchmarks to compare
//! with; no job may read it.
//!
//! Everything about a customer follows from the shop's seed and the customer's number. Time runs forward: moving [`Shop::end`] adds
//! rows and never changes what happened before, and cutting customers into files or threads changes nothing at all. The same shop
//! gives byte-identical files.
//!
//! # Files
//! `customers/`, `transactions/`, `interactions/`, `campaign_contacts/`, `survey_responses/`, `marketing_costs/` hold `part-*.parquet`
//! or `part-*.csv`; `transactions/` also has `part-*-resent.*`, rows that are sent a second time. `truth/` holds `customers/part-*`,
//! `planted.json` and `dirt.json`. Any value may be missing. Times are the shop's wall clock.
//!
//! | folder | source column | canonical | remarks |
//! |---|---|---|---|
//! | customers | `cust_no` | customer_id | `C0000123`; sent again with a later `updated_at` after a change |
//! | | `email_address`, `phone_no`, `first_name`, `last_name` | email, phone, … | dirty |
//! | | `birthdate` | birth_date | |
//! | | `sex` | gender | `f`, `m`, `x` |
//! | | `yearly_income` | income | currency units, two decimals |
//! | | `education_level`, `job` | education, occupation | |
//! | | `street`, `zip`, `city`, `state`, `country_code` | –, postal_code, city, region, country | ISO 3166-1 alpha-2 when clean |
//! | | `registered_on` | signup_at | |
//! | | `acq_channel`, `acq_cost` | acquisition_channel, acquisition_cost | |
//! | | `optin_marketing`, `optin_profiling` | consent_marketing, consent_profiling | |
//! | | `updated_at` | – | when the row was sent |
//! | transactions | `order_no`, `line_no` | order_id, line_id | `S00001230042`; a return has the order's number and the line's + 100 |
//! | | `cust_no` | customer_id | |
//! | | `order_ts` | ordered_at | of a return: when it came back |
//! | | `sku`, `product_group` | product_id, category | |
//! | | `qty` | quantity | **negative for returns**: the canonical quantity is `abs(qty)` |
//! | | `net_unit_price` | unit_price | before the discount, without tax |
//! | | `discount_pct` | discount | whole percents: the canonical discount is `discount_pct / 100` |
//! | | `unit_cost` | unit_cost | |
//! | | `sales_channel` | channel | `web`, `app`, `store`, `phone` |
//! | | `return_flag` | is_return | `Y` or `N` |
//! | interactions | `cust_no`, `event_ts`, `event_type`, `medium`, `hits` | customer_id, occurred_at, kind, channel, count | `visit`, `email_sent`, `email_open`, `email_click`, `support`, `social` |
//! | campaign_contacts | `campaign_code`, `cust_no`, `contact_ts`, `medium` | campaign_id, customer_id, contacted_at, channel | |
//! | | `test_group`, `contact_cost` | group, cost | `treated`, `holdout` |
//! | | `response_ts`, `conversion_ts`, `conversion_value` | responded_at, converted_at, converted_amount | as known at the end of the data |
//! | survey_responses | `cust_no`, `answered_ts`, `question`, `rating`, `remark` | customer_id, answered_at, instrument, score, text | `nps` (0–10), `csat` and nine psychographic items (1–5) |
//! | marketing_costs | `cost_date`, `acq_channel`, `spend` | spent_on, channel, amount | |
//!
//! The types are in [`LAYOUT`], and how each is written in [`Type`].

mod archetype;
mod assortment;
mod calendar;
mod campaigns;
mod costs;
mod csv;
mod customer;
mod dirt;
mod effects;
mod engagement;
mod error;
mod layout;
mod names;
mod orders;
mod part;
mod person;
mod planted;
mod random;
mod row;
mod run;
mod story;
#[cfg(test)]
mod tests;
mod write;

use jiff::ToSpan;
use jiff::civil::Date;

pub use dirt::Dirt;
pub use error::GeneratorError;
pub use layout::{LAYOUT, Layout, Type};
pub use planted::{Planted, story};
pub use run::generate;

/// How the files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Parquet, Snappy, row groups of at most 131,072 rows.
    #[default]
    Parquet,
    /// Comma-separated UTF-8 with a header line.
    Csv,
}

impl Format {
    /// The ending of file names.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// A shop to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct Shop {
    /// How many customer numbers there are; second accounts of the same person count.
    pub customers: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// First day with data.
    pub start: Date,
    /// First day without data: the last night.
    pub end: Date,
    /// The day by which all customers have signed up, and which rates and shares of churn refer to. Keep it, with `planted`, when
    /// moving `end`.
    pub horizon: Date,
    /// Mean number of orders of a customer up to the horizon.
    pub orders_per_customer: f64,
    /// How the files are written.
    pub format: Format,
    /// What is wrong with the data.
    pub dirt: Dirt,
    /// What changes, and when.
    pub planted: Vec<Planted>,
    /// Threads that write; the files do not depend on it.
    pub threads: usize,
}

impl Shop {
    /// A shop with two years of data up to `end`, realistic dirt, and the default [`story`] in its last five months.
    pub fn new(customers: u64, seed: u64, end: Date) -> Self {
        Self {
            customers,
            seed,
            start: end.saturating_sub(2.years()),
            end,
            horizon: end,
            orders_per_customer: 12.0,
            format: Format::default(),
            dirt: Dirt::default(),
            planted: story(end),
            threads: 2,
        }
    }
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Customer numbers dealt with.
    pub customers_done: u64,
    /// Customer numbers in all.
    pub customers: u64,
    /// Transaction rows written so far.
    pub transactions: u64,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Customer numbers that signed up before the end.
    pub customers: u64,
    /// Rows by folder, in the order of [`LAYOUT`].
    pub rows: Vec<(&'static str, u64)>,
    /// Data files written, those of the truth included.
    pub files: u64,
    /// `{folder: {kind of damage: rows}}`, as in `truth/dirt.json`.
    pub dirt: serde_json::Value,
    /// What was planted with its size, as in `truth/planted.json`.
    pub planted: serde_json::Value,
}

impl Summary {
    /// Rows of a folder.
    pub fn rows_of(&self, folder: &str) -> u64 {
        self.rows.iter().find(|(name, _)| *name == folder).map_or(0, |(_, rows)| *rows)
    }
}
