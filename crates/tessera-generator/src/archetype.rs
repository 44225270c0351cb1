//! The kinds of customers that a shop has, as data: one line per trait, one entry per kind. To add a kind, add an entry; shares
//! need not sum to one. The last entry is the kind that only a planted change brings in.

/// How many categories the assortment has; the length of every category weight list.
pub(crate) const CATEGORIES: usize = 10;
/// Source spelling of the categories, with the prefix of their stock-keeping units and the median price in currency units.
pub(crate) const CATEGORY: [(&str, &str, f64); CATEGORIES] = [
    ("Groceries", "GRO", 4.5),
    ("Baby & Toys", "TOY", 16.0),
    ("Apparel", "APP", 34.0),
    ("Electronics", "ELE", 85.0),
    ("Home & Kitchen", "HOM", 26.0),
    ("Beauty", "BEA", 14.0),
    ("Books", "BOO", 12.0),
    ("Garden", "GAR", 22.0),
    ("Pets", "PET", 11.0),
    ("Gifts & Flowers", "GIF", 29.0),
];
/// Sales channels of the shop.
pub(crate) const CHANNEL: [&str; 4] = ["web", "app", "store", "phone"];

/// Where in a category's price range a kind of customer shops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Low,
    Middle,
    High,
}

/// The traits of one kind of customer. Shares and probabilities are fractions; `orders` is per year before the shop-wide scaling.
#[derive(Clone, Debug)]
pub(crate) struct Archetype {
    pub name: &'static str,
    /// Weight among new customers.
    pub share: f64,
    pub orders: f64,
    /// Shape of the gamma distributed gaps: 1 is memoryless, more is regular.
    pub regularity: f64,
    /// Buys once (rarely twice) and never again.
    pub one_off: bool,
    /// Share that signed up before the data starts.
    pub old: f64,
    /// Share that leaves for good within the data.
    pub churn: f64,
    /// Mean number of lines beyond the first, and of pieces beyond the first.
    pub lines: f64,
    pub pieces: f64,
    pub tier: Tier,
    /// Share of lines bought at a discount.
    pub discount: f64,
    /// Share of purchase lines sent back.
    pub returns: f64,
    pub categories: [f64; CATEGORIES],
    /// Share of lines from the customer's own favourite category.
    pub loyalty: f64,
    pub channels: [f64; 4],
    /// Multiplies the weight of a Saturday or Sunday.
    pub weekend: f64,
    /// Height of the Christmas, Black Friday and summer peaks.
    pub peaks: [f64; 3],
    /// E-mail opens per send, clicks per open, visits without a purchase per month, response to a campaign contact.
    pub open: f64,
    pub click: f64,
    pub visits: f64,
    pub response: f64,
    pub social: f64,
    /// Mean answer to the 0–10 question, and the 1–5 latent traits price, novelty, family.
    pub nps: f64,
    pub traits: [f64; 3],
    /// Mean age, share of women, factor on income.
    pub age: f64,
    pub women: f64,
    pub income: f64,
}

/// Index of the kind that appears only when planted.
pub(crate) const NEWCOMER: usize = ARCHETYPE.len() - 1;

#[rustfmt::skip]
pub(crate) const ARCHETYPE: [Archetype; 9] = [
    Archetype { name: "champions", share: 0.12, orders: 34.0, regularity: 1.3, one_off: false, old: 0.80, churn: 0.05,
        lines: 2.4, pieces: 0.5, tier: Tier::High, discount: 0.06, returns: 0.03, categories: [1.0, 0.5, 3.0, 4.0, 3.0, 2.0, 1.0, 1.0, 0.5, 1.0],
        loyalty: 0.25, channels: [5.0, 4.0, 1.5, 0.2], weekend: 1.1, peaks: [0.8, 0.8, 0.2], open: 0.55, click: 0.35, visits: 2.0,
        response: 0.12, social: 0.10, nps: 9.2, traits: [1.9, 4.1, 3.0], age: 44.0, women: 0.52, income: 1.55 },
    Archetype { name: "bargain_hunters", share: 0.18, orders: 13.0, regularity: 1.0, one_off: false, old: 0.72, churn: 0.22,
        lines: 1.4, pieces: 1.2, tier: Tier::Low, discount: 0.80, returns: 0.05, categories: [4.0, 2.0, 2.0, 1.0, 3.0, 3.0, 1.0, 0.5, 0.5, 0.5],
        loyalty: 0.25, channels: [5.0, 2.0, 2.0, 0.1], weekend: 1.1, peaks: [0.5, 4.0, 0.4], open: 0.50, click: 0.45, visits: 2.5,
        response: 0.10, social: 0.15, nps: 7.2, traits: [4.5, 2.6, 2.9], age: 38.0, women: 0.56, income: 0.75 },
    Archetype { name: "seasonal_gifters", share: 0.14, orders: 4.0, regularity: 1.0, one_off: false, old: 0.75, churn: 0.15,
        lines: 1.6, pieces: 0.6, tier: Tier::Middle, discount: 0.22, returns: 0.06, categories: [0.1, 4.0, 0.2, 0.3, 0.3, 0.4, 2.0, 0.1, 0.1, 14.0],
        loyalty: 0.45, channels: [6.0, 1.5, 2.0, 1.0], weekend: 1.2, peaks: [9.0, 4.0, 0.1], open: 0.20, click: 0.20, visits: 0.4,
        response: 0.04, social: 0.04, nps: 7.8, traits: [2.8, 2.9, 3.8], age: 52.0, women: 0.60, income: 1.10 },
    Archetype { name: "weekend_families", share: 0.16, orders: 17.0, regularity: 1.5, one_off: false, old: 0.75, churn: 0.10,
        lines: 3.6, pieces: 1.4, tier: Tier::Middle, discount: 0.18, returns: 0.03, categories: [8.0, 4.0, 1.0, 0.4, 2.0, 0.6, 0.5, 1.5, 1.5, 0.4],
        loyalty: 0.35, channels: [0.5, 0.3, 9.0, 0.2], weekend: 9.0, peaks: [0.6, 0.3, 0.3], open: 0.30, click: 0.20, visits: 0.5,
        response: 0.06, social: 0.05, nps: 8.3, traits: [3.4, 2.5, 4.6], age: 40.0, women: 0.50, income: 1.05 },
    Archetype { name: "steady_subscribers", share: 0.14, orders: 14.0, regularity: 40.0, one_off: false, old: 0.75, churn: 0.18,
        lines: 0.4, pieces: 0.2, tier: Tier::Middle, discount: 0.03, returns: 0.01, categories: [2.0, 0.3, 0.2, 0.2, 0.4, 4.0, 1.0, 0.3, 9.0, 0.3],
        loyalty: 0.90, channels: [7.0, 3.0, 0.1, 0.1], weekend: 1.0, peaks: [0.0, 0.0, 0.0], open: 0.35, click: 0.15, visits: 0.3,
        response: 0.03, social: 0.02, nps: 8.6, traits: [2.6, 2.4, 3.2], age: 47.0, women: 0.54, income: 1.00 },
    Archetype { name: "returners", share: 0.09, orders: 12.0, regularity: 1.0, one_off: false, old: 0.70, churn: 0.22,
        lines: 2.2, pieces: 0.2, tier: Tier::High, discount: 0.30, returns: 0.42, categories: [0.1, 0.4, 9.0, 1.0, 0.6, 1.5, 0.2, 0.1, 0.1, 0.3],
        loyalty: 0.65, channels: [4.0, 6.0, 0.3, 0.1], weekend: 1.2, peaks: [0.8, 1.5, 0.5], open: 0.40, click: 0.35, visits: 3.5,
        response: 0.06, social: 0.30, nps: 6.4, traits: [3.3, 4.4, 2.2], age: 30.0, women: 0.68, income: 0.95 },
    Archetype { name: "one_timers", share: 0.11, orders: 1.0, regularity: 1.0, one_off: true, old: 0.0, churn: 0.0,
        lines: 0.4, pieces: 0.2, tier: Tier::Middle, discount: 0.35, returns: 0.05, categories: [1.0, 1.0, 1.5, 3.0, 2.0, 1.0, 1.0, 1.0, 0.5, 2.0],
        loyalty: 0.10, channels: [7.0, 1.0, 1.0, 0.3], weekend: 1.1, peaks: [1.0, 1.5, 0.2], open: 0.10, click: 0.10, visits: 0.1,
        response: 0.01, social: 0.02, nps: 6.9, traits: [3.2, 2.9, 3.0], age: 42.0, women: 0.50, income: 1.00 },
    Archetype { name: "lapsed", share: 0.06, orders: 15.0, regularity: 1.2, one_off: false, old: 0.95, churn: 1.0,
        lines: 1.5, pieces: 0.5, tier: Tier::Middle, discount: 0.20, returns: 0.06, categories: [2.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        loyalty: 0.25, channels: [5.0, 1.0, 3.0, 1.0], weekend: 1.1, peaks: [0.8, 0.6, 0.2], open: 0.12, click: 0.08, visits: 0.3,
        response: 0.02, social: 0.02, nps: 5.6, traits: [3.0, 2.8, 3.0], age: 50.0, women: 0.48, income: 0.95 },
    Archetype { name: "social_shoppers", share: 0.0, orders: 42.0, regularity: 1.0, one_off: false, old: 0.0, churn: 0.0,
        lines: 0.3, pieces: 0.1, tier: Tier::Low, discount: 0.45, returns: 0.10, categories: [0.3, 0.3, 3.0, 0.5, 0.5, 9.0, 0.3, 0.1, 0.2, 0.8],
        loyalty: 0.50, channels: [0.3, 9.5, 0.1, 0.0], weekend: 1.6, peaks: [0.4, 1.0, 0.6], open: 0.08, click: 0.10, visits: 6.0,
        response: 0.09, social: 1.80, nps: 8.0, traits: [3.8, 4.7, 1.8], age: 22.0, women: 0.72, income: 0.55 },
];
