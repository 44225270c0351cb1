//! Changes that can be planted into a shop, and the story that is planted by default.

use jiff::civil::Date;
use jiff::{Span, ToSpan};
use serde_json::{Value, json};

use crate::archetype::{ARCHETYPE, NEWCOMER};
use crate::calendar::epoch_day;

/// A change that happens on a known day. Kinds, categories and channels go by the names that the data and the truth use.
#[derive(Clone, Debug, PartialEq)]
pub enum Planted {
    /// One day is missing from the transaction files.
    DataGap {
        /// The missing day.
        on: Date,
    },
    /// A campaign that works: treated customers of some kinds place an extra order.
    Campaign {
        /// Day of the contact; the extra orders fall into the two weeks after it.
        on: Date,
        /// Kinds of customers contacted.
        archetypes: Vec<String>,
        /// Share of the treated who place an extra order because of it.
        lift: f64,
    },
    /// A sales channel fails for some days. Orders that are not lost go to the first channel, `web`.
    ChannelOutage {
        /// The failing channel.
        channel: String,
        /// First day.
        from: Date,
        /// Number of days.
        days: u16,
        /// Share of the channel's orders that are lost.
        lost: f64,
    },
    /// One category gets dearer for one kind of customer, for good.
    PriceRise {
        /// Product group.
        category: String,
        /// Kind of customer.
        archetype: String,
        /// First day of the new price.
        from: Date,
        /// Fraction added to the price.
        rise: f64,
        /// Share of the lines that are no longer bought.
        volume_lost: f64,
    },
    /// A kind of customer (`social_shoppers`) that was not there before signs up.
    NewArchetype {
        /// First day of sign-ups; they spread evenly up to the shop's horizon.
        from: Date,
        /// Share among all customer numbers.
        share: f64,
    },
}

/// The default story: one change before each of the five month-ends up to `horizon`.
pub fn story(horizon: Date) -> Vec<Planted> {
    let night = |months: i32| horizon.saturating_sub(Span::new().months(months));
    vec![
        Planted::DataGap { on: night(4).saturating_sub(9.days()) },
        Planted::Campaign {
            on: night(4).saturating_add(5.days()),
            archetypes: ["bargain_hunters", "seasonal_gifters", "lapsed"].map(str::to_owned).to_vec(),
            lift: 0.15,
        },
        Planted::ChannelOutage { channel: "app".into(), from: night(3).saturating_add(8.days()), days: 10, lost: 0.8 },
        Planted::PriceRise {
            category: "Groceries".into(),
            archetype: "weekend_families".into(),
            from: night(2).saturating_add(1.days()),
            rise: 0.18,
            volume_lost: 0.08,
        },
        Planted::NewArchetype { from: night(1).saturating_add(1.days()), share: 0.05 },
    ]
}

/// What a change is, without its size.
pub(crate) fn describe(change: &Planted) -> Value {
    match change {
        Planted::DataGap { on } => json!({"kind": "data_gap", "on": on.to_string()}),
        Planted::Campaign { on, archetypes, lift } => json!({
            "kind": "campaign", "on": on.to_string(), "archetypes": archetypes, "lift": lift,
            "campaign_code": crate::campaigns::code(epoch_day(*on)),
        }),
        Planted::ChannelOutage { channel, from, days, lost } => json!({
            "kind": "channel_outage", "channel": channel, "from": from.to_string(), "days": days, "lost": lost,
        }),
        Planted::PriceRise { category, archetype, from, rise, volume_lost } => json!({
            "kind": "price_rise", "category": category, "archetype": archetype, "from": from.to_string(),
            "rise": rise, "volume_lost": volume_lost,
        }),
        Planted::NewArchetype { from, share } => json!({
            "kind": "new_archetype", "archetype": ARCHETYPE[NEWCOMER].name, "from": from.to_string(), "share": share,
        }),
    }
}

/// The first of the month-ends counted back from the horizon (or forward from it) that sees the change.
pub(crate) fn first_night(change: &Planted, horizon: Date) -> Date {
    let from = match change {
        Planted::DataGap { on } | Planted::Campaign { on, .. } => *on,
        Planted::ChannelOutage { from, .. } | Planted::PriceRise { from, .. } | Planted::NewArchetype { from, .. } => {
            *from
        }
    };
    let month = |months: i32| horizon.saturating_add(Span::new().months(months));
    let mut months =
        from.since((jiff::Unit::Month, horizon)).map_or(0, |span| span.get_years() as i32 * 12 + span.get_months()) - 1;
    while month(months) <= from {
        months += 1;
    }
    month(months)
}
