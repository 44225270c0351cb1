//! The canonical entities: what a source may be mapped to.

use std::fmt;

use crate::table::{Column, Kind};

/// A canonical input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// People who may buy.
    Customers,
    /// Order lines.
    Transactions,
    /// Visits, e-mails, support cases …
    Interactions,
    /// Who was contacted by which campaign, or deliberately not.
    CampaignContacts,
    /// Answers to surveys.
    SurveyResponses,
    /// What marketing cost, by day and channel.
    MarketingCosts,
}

/// A column of an entity.
#[derive(Debug, Clone, Copy)]
pub struct EntityColumn {
    /// Its canonical name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether a source of the entity must map it, or `instead`.
    pub required: bool,
    /// A column of which it follows, if that is mapped.
    pub instead: Option<&'static str>,
    /// Whether the row says something else without it: a value that cannot be read then turns the row away, and is not only null.
    pub essential: bool,
    /// SQL over canonical columns of its value where the source has no such column.
    pub absent: Option<&'static str>,
    /// SQL of its value where the source's value is null.
    pub blank: Option<&'static str>,
    /// What it means.
    pub description: &'static str,
}

const fn column(name: &'static str, kind: Kind, description: &'static str) -> EntityColumn {
    EntityColumn {
        name,
        kind,
        required: false,
        instead: None,
        essential: false,
        absent: None,
        blank: None,
        description,
    }
}

const fn required(name: &'static str, kind: Kind, description: &'static str) -> EntityColumn {
    EntityColumn { required: true, essential: true, ..column(name, kind, description) }
}

const fn essential(name: &'static str, kind: Kind, description: &'static str) -> EntityColumn {
    EntityColumn { essential: true, ..column(name, kind, description) }
}

/// What is known of an entity: to add one is to add an entry.
struct Facts {
    entity: Entity,
    name: &'static str,
    columns: &'static [EntityColumn],
    has_customer: bool,
    event_time: &'static str,
    after: &'static str,
    later_times: &'static [&'static str],
    amount: Option<&'static str>,
    computed: &'static [Computed],
    personal: bool,
}

/// A column that the engine computes of those of a clean row.
#[derive(Debug, Clone, Copy)]
pub struct Computed {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// SQL over canonical columns.
    pub expression: &'static str,
    /// A column, and the SQL in place of `expression` where the source gives it.
    pub given: Option<(&'static str, &'static str)>,
    /// What it means.
    pub description: &'static str,
}

/// In the order in which a night reads them, which is that of the variants.
const FACTS: [Facts; 6] = [
    Facts {
        entity: Entity::Customers,
        name: "customers",
        columns: CUSTOMERS,
        has_customer: true,
        event_time: "signup_at",
        // Of two instants the later one counts; an absent one is passed over.
        after: "greatest(signup_at, updated_at) >= as_of",
        later_times: &[],
        amount: None,
        computed: &[],
        personal: true,
    },
    Facts {
        entity: Entity::Transactions,
        name: "transactions",
        columns: TRANSACTIONS,
        has_customer: true,
        event_time: "ordered_at",
        after: "ordered_at >= as_of",
        later_times: &[],
        amount: Some("CASE WHEN is_return THEN -amount ELSE amount END"),
        computed: &[
            Computed {
                name: "gross",
                kind: Kind::Money,
                expression: "line_gross(quantity, unit_price)",
                given: Some((
                    "total",
                    // A price that was made of the total is rounded, and no discount.
                    "CASE WHEN abs(line_gross(quantity, unit_price) - abs(total)) <= abs(quantity) * 0.0001 \
                     THEN CAST(abs(total) AS DECIMAL(38, 6)) \
                     ELSE greatest(line_gross(quantity, unit_price), CAST(abs(total) AS DECIMAL(38, 6))) END",
                )),
                description: "|quantity| × unit_price; where a total is given, no less than that",
            },
            Computed {
                name: "amount",
                kind: Kind::Money,
                expression: "line_net(quantity, unit_price, discount)",
                given: Some((
                    "total",
                    "coalesce(CAST(abs(total) AS DECIMAL(38, 6)), line_net(quantity, unit_price, discount))",
                )),
                description: "The total, or gross × (1 − discount); never negative for a positive price",
            },
        ],
        personal: false,
    },
    Facts {
        entity: Entity::Interactions,
        name: "interactions",
        columns: INTERACTIONS,
        has_customer: true,
        event_time: "occurred_at",
        after: "occurred_at >= as_of",
        later_times: &[],
        amount: None,
        computed: &[],
        personal: false,
    },
    Facts {
        entity: Entity::CampaignContacts,
        name: "campaign_contacts",
        columns: CAMPAIGN_CONTACTS,
        has_customer: true,
        event_time: "contacted_at",
        after: "contacted_at >= as_of",
        later_times: &["responded_at", "converted_at"],
        amount: Some("cost"),
        computed: &[],
        personal: false,
    },
    Facts {
        entity: Entity::SurveyResponses,
        name: "survey_responses",
        columns: SURVEY_RESPONSES,
        has_customer: true,
        event_time: "answered_at",
        after: "answered_at >= as_of",
        later_times: &[],
        amount: None,
        computed: &[],
        personal: true,
    },
    Facts {
        entity: Entity::MarketingCosts,
        name: "marketing_costs",
        columns: MARKETING_COSTS,
        has_customer: false,
        event_time: "spent_on",
        after: "spent_on >= as_of_date",
        later_times: &[],
        amount: Some("amount"),
        computed: &[],
        personal: false,
    },
];

impl Entity {
    /// All of them, in the order in which a night reads them.
    pub const ALL: [Self; FACTS.len()] = {
        let mut all = [Self::Customers; FACTS.len()];
        let mut at = 0;
        while at < FACTS.len() {
            all[at] = FACTS[at].entity;
            at += 1;
        }
        all
    };

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// Its name in the project file.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The entity of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// The name of the table of its clean rows.
    #[must_use]
    pub fn clean_table(self) -> String {
        format!("clean_{}", self.name())
    }

    /// SQL of whether a row happened at or after the as-of instant, so that the night does not know it yet.
    #[must_use]
    pub fn after(self) -> &'static str {
        self.facts().after
    }

    /// The column that says when a row happened.
    #[must_use]
    pub fn event_time(self) -> &'static str {
        self.facts().event_time
    }

    /// Columns of things that may happen to a row later: at or after the as-of instant they read as null.
    #[must_use]
    pub fn later_times(self) -> &'static [&'static str] {
        self.facts().later_times
    }

    /// The SQL expression over canonical and computed columns of the money that a row carries, for the ledger.
    #[must_use]
    pub fn amount(self) -> Option<&'static str> {
        self.facts().amount
    }

    /// Whether its rows may be of somebody who bought nothing yet.
    #[must_use]
    pub fn tells_of_prospects(self) -> bool {
        matches!(self, Self::Interactions | Self::CampaignContacts | Self::SurveyResponses)
    }

    /// Whether rows belong to a customer.
    #[must_use]
    pub fn has_customer(self) -> bool {
        self.facts().has_customer
    }

    /// Whether clean rows say who somebody is, or what somebody wrote.
    #[must_use]
    pub fn is_personal(self) -> bool {
        self.facts().personal
    }

    /// Its canonical columns.
    #[must_use]
    pub fn columns(self) -> &'static [EntityColumn] {
        self.facts().columns
    }

    /// The columns that the engine computes of the canonical ones.
    #[must_use]
    pub fn computed(self) -> &'static [Computed] {
        self.facts().computed
    }

    /// The canonical column of that name.
    #[must_use]
    pub fn column(self, name: &str) -> Option<&'static EntityColumn> {
        self.columns().iter().find(|c| c.name == name)
    }

    /// The columns of the clean table: the account key in place of the customer id, then the canonical columns, then
    /// the computed ones, then what was repaired.
    #[must_use]
    pub fn clean_columns(self) -> Vec<Column> {
        let mut columns = Vec::new();
        if self.has_customer() {
            columns.push(Column::new(
                "account_key",
                Kind::Text,
                "Pseudonymous, immutable id of the source customer id",
            ));
        }
        for c in self.columns().iter().filter(|c| c.name != "customer_id") {
            columns.push(Column::new(c.name, c.kind, c.description));
        }
        columns.extend(self.computed().iter().map(|c| Column::new(c.name, c.kind, c.description)));
        columns.push(Column::new(
            "repaired_by",
            Kind::TextList,
            "Names of the repair rules that changed the row; null when none did",
        ));
        columns.push(Column::new(
            "repaired_from",
            Kind::TextList,
            "What the repaired columns held before, a text for each of repaired_by; null when nothing was repaired",
        ));
        columns.push(Column::new(
            "warned_by",
            Kind::TextList,
            "Names of the warning rules that the row fails; null when none",
        ));
        columns
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const CUSTOMERS: &[EntityColumn] = &[
    required("customer_id", Kind::Text, "The owner's id of the customer"),
    column("email", Kind::Text, "E-mail address"),
    column("phone", Kind::Text, "Telephone number"),
    column("first_name", Kind::Text, "Given name"),
    column("last_name", Kind::Text, "Family name"),
    column("birth_date", Kind::Date, "Date of birth"),
    column("gender", Kind::Text, "Gender as the owner records it"),
    column("income", Kind::Price, "Yearly income in the project's currency"),
    column("education", Kind::Text, "Level of education"),
    column("occupation", Kind::Text, "Occupation"),
    column("country", Kind::Text, "Country, best as ISO 3166-1 alpha-2"),
    column("region", Kind::Text, "Region"),
    column("city", Kind::Text, "City"),
    column("postal_code", Kind::Text, "Postal code"),
    column("address", Kind::Text, "Street with house number"),
    column(
        "national_id",
        Kind::Text,
        "An id that the person has elsewhere and keeps: of social security, a loyalty card, a passport",
    ),
    column("signup_at", Kind::Instant, "When the customer signed up"),
    essential(
        "updated_at",
        Kind::Instant,
        "When this record of the customer was written; a night does not know later ones",
    ),
    column("acquisition_channel", Kind::Text, "The channel that won the customer"),
    column("acquisition_cost", Kind::Price, "What winning the customer cost"),
    essential("consent_marketing", Kind::Boolean, "Consent to be contacted"),
    essential(
        "consent_profiling",
        Kind::Boolean,
        "Consent to be profiled; false leaves the customer out of features and segments",
    ),
];

const TRANSACTIONS: &[EntityColumn] = &[
    EntityColumn {
        // Keyed, since it stands where the customer's id must not.
        absent: Some("customer_key(concat(customer_id, ' ', CAST(ordered_at AS VARCHAR)))"),
        ..essential(
            "order_id",
            Kind::Text,
            "Id of the order that the line belongs to; unmapped, what a customer buys at one time is one order",
        )
    },
    column("line_id", Kind::Text, "Id of the line within the order"),
    required("customer_id", Kind::Text, "The owner's id of the customer"),
    required("ordered_at", Kind::Instant, "When the order was placed"),
    column("product_id", Kind::Text, "Product"),
    column("category", Kind::Text, "Product category"),
    EntityColumn {
        instead: Some("total"),
        absent: Some("1"),
        ..required("quantity", Kind::Quantity, "Units; the sign is dropped, is_return carries it")
    },
    EntityColumn {
        instead: Some("total"),
        absent: Some(
            "greatest(CASE WHEN discount > 0 AND discount < 1 THEN CAST(CAST(abs(total) AS DOUBLE) / \
             (CAST(nullif(abs(quantity), 0) AS DOUBLE) * (1 - CAST(discount AS DOUBLE))) AS DECIMAL(38, 10)) \
             ELSE abs(total) / nullif(abs(quantity), 0) END, CASE WHEN total <> 0 THEN 0.0001 END)",
        ),
        ..required("unit_price", Kind::Price, "Price of one unit before discount")
    },
    essential("discount", Kind::Fraction, "Discount as a fraction of 0–1; absent means 0"),
    column("unit_cost", Kind::Price, "What one unit cost the owner"),
    column("channel", Kind::Text, "Sales channel"),
    EntityColumn {
        absent: Some("coalesce(quantity < 0 OR total < 0, false)"),
        blank: Some("false"),
        ..essential(
            "is_return",
            Kind::Boolean,
            "Whether the line takes goods back; unmapped, a negative quantity or total says so",
        )
    },
    essential(
        "total",
        Kind::Price,
        "What the line came to after discount, in place of quantity × unit_price × (1 − discount); `amount` is without its sign",
    ),
];

const INTERACTIONS: &[EntityColumn] = &[
    required("customer_id", Kind::Text, "The owner's id of the customer"),
    required("occurred_at", Kind::Instant, "When it happened"),
    required("kind", Kind::Text, "visit, email_sent, email_open, email_click, social, support …"),
    column("channel", Kind::Text, "Channel"),
    EntityColumn { absent: Some("1"), ..column("count", Kind::Integer, "How many the row stands for; absent means 1") },
];

const CAMPAIGN_CONTACTS: &[EntityColumn] = &[
    required("campaign_id", Kind::Text, "Campaign"),
    required("customer_id", Kind::Text, "The owner's id of the customer"),
    required("contacted_at", Kind::Instant, "When the customer was contacted, or would have been"),
    column("channel", Kind::Text, "Channel"),
    column("group", Kind::Text, "`treated` or `holdout`"),
    essential("cost", Kind::Price, "What the contact cost"),
    column("responded_at", Kind::Instant, "When the customer responded"),
    column("converted_at", Kind::Instant, "When the customer converted"),
    column("converted_amount", Kind::Price, "What the conversion was worth"),
];

const SURVEY_RESPONSES: &[EntityColumn] = &[
    required("customer_id", Kind::Text, "The owner's id of the customer"),
    required("answered_at", Kind::Instant, "When the answer was given"),
    required("instrument", Kind::Text, "`nps`, `csat`, or the name of a psychographic item"),
    required("score", Kind::Price, "The score on the instrument's scale"),
    column("text", Kind::Text, "Free text; personal"),
];

const MARKETING_COSTS: &[EntityColumn] = &[
    required("spent_on", Kind::Date, "The day"),
    required("channel", Kind::Text, "Acquisition channel"),
    required("amount", Kind::Price, "What was spent"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entity_has_its_own_entry() {
        for (at, facts) in FACTS.iter().enumerate() {
            assert_eq!(facts.entity as usize, at, "{}", facts.name);
            assert_eq!(Entity::parse(facts.name), Some(facts.entity));
            assert!(facts.entity.column(facts.event_time).is_some(), "{}", facts.name);
            assert_eq!(facts.entity.column("customer_id").is_some(), facts.has_customer, "{}", facts.name);
        }
    }
}
