//! The columns of every file, under the names that their source systems gave them.

/// How a value is written.
///
/// | type | Parquet | CSV |
/// |---|---|---|
/// | `Text` | UTF-8 | quoted where needed, empty for null |
/// | `Whole` | INT32 | digits |
/// | `Money` | DECIMAL(12, 2) | `12.90` |
/// | `Day` | DATE | `2025-03-04` |
/// | `Time` | TIMESTAMP(µs), local, no zone | `2025-03-04 13:22:10` |
/// | `Flag` | BOOLEAN | `true`, `false` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Characters.
    Text,
    /// A 32-bit integer.
    Whole,
    /// Hundredths.
    Money,
    /// A calendar day.
    Day,
    /// Wall-clock time of the shop.
    Time,
    /// True or false.
    Flag,
}

/// The files of one sort: a folder below the output directory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name of the folder.
    pub name: &'static str,
    /// Source names and types of the columns, in file order.
    pub columns: &'static [(&'static str, Type)],
}

/// Index into [`LAYOUT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity {
    Customers,
    Transactions,
    Interactions,
    CampaignContacts,
    SurveyResponses,
    MarketingCosts,
    Truth,
}

/// How many layouts there are.
pub(crate) const ENTITIES: usize = 7;

use Type::{Day, Flag, Money, Text, Time, Whole};

/// The layout of every folder that is written; the last one is the truth, which no job may read.
pub const LAYOUT: [Layout; ENTITIES] = [
    Layout {
        name: "customers",
        columns: &[
            ("cust_no", Text),
            ("email_address", Text),
            ("phone_no", Text),
            ("first_name", Text),
            ("last_name", Text),
            ("birthdate", Day),
            ("sex", Text),
            ("yearly_income", Money),
            ("education_level", Text),
            ("job", Text),
            ("street", Text),
            ("zip", Text),
            ("city", Text),
            ("state", Text),
            ("country_code", Text),
            ("registered_on", Day),
            ("acq_channel", Text),
            ("acq_cost", Money),
            ("optin_marketing", Flag),
            ("optin_profiling", Flag),
            ("updated_at", Time),
        ],
    },
    Layout {
        name: "transactions",
        columns: &[
            ("order_no", Text),
            ("line_no", Whole),
            ("cust_no", Text),
            ("order_ts", Time),
            ("sku", Text),
            ("product_group", Text),
            ("qty", Whole),
            ("net_unit_price", Money),
            ("discount_pct", Whole),
            ("unit_cost", Money),
            ("sales_channel", Text),
            ("return_flag", Text),
        ],
    },
    Layout {
        name: "interactions",
        columns: &[("cust_no", Text), ("event_ts", Time), ("event_type", Text), ("medium", Text), ("hits", Whole)],
    },
    Layout {
        name: "campaign_contacts",
        columns: &[
            ("campaign_code", Text),
            ("cust_no", Text),
            ("contact_ts", Time),
            ("medium", Text),
            ("test_group", Text),
            ("contact_cost", Money),
            ("response_ts", Time),
            ("conversion_ts", Time),
            ("conversion_value", Money),
        ],
    },
    Layout {
        name: "survey_responses",
        columns: &[("cust_no", Text), ("answered_ts", Time), ("question", Text), ("rating", Whole), ("remark", Text)],
    },
    Layout { name: "marketing_costs", columns: &[("cost_date", Day), ("acq_channel", Text), ("spend", Money)] },
    Layout {
        name: "truth/customers",
        columns: &[
            ("cust_no", Text),
            ("archetype", Text),
            ("signed_up_on", Day),
            ("churned_on", Day),
            ("duplicate_of", Text),
            ("looks_like", Text),
            ("because", Text),
        ],
    },
];
