//! Campaigns: one a month to a changing audience, and those that are planted. Every contact is in the treated or in the holdout
//! group; an order within two weeks counts as conversion in either, and a treated customer may place an extra one because of it.

use crate::archetype::ARCHETYPE;
use crate::calendar::{Calendar, civil};
use crate::random::{self, Purpose};
use crate::story::Story;

/// Days after the contact within which an order counts as conversion.
pub(crate) const WINDOW: i32 = 14;
/// Share of an audience that is not contacted, to compare with.
const HOLDOUT: f64 = 0.2;
/// Media with the cost of a contact in cents.
const MEDIUM: [(&str, i64); 3] = [("email", 2), ("sms", 9), ("post", 85)];
/// Extra orders that an ordinary campaign causes.
const ORDINARY_LIFT: f64 = 0.01;

/// One campaign.
pub(crate) struct Campaign {
    pub code: String,
    /// Stable number: orders that it causes are numbered by it.
    pub ordinal: u64,
    pub day: i32,
    pub medium: &'static str,
    pub cost: i64,
    /// Share of each kind of customer that is in the audience.
    reach: [f64; ARCHETYPE.len()],
    lift: f64,
    /// The planted change that this campaign is.
    pub plant: Option<usize>,
}

/// The code that a campaign on a day has.
pub(crate) fn code(day: i32) -> String {
    let (y, m, d) = civil(day);
    format!("K{:02}{m:02}{d:02}", y % 100)
}

/// Every campaign of the shop, before its end or not, in order of number.
pub(crate) fn schedule(seed: u64, calendar: &Calendar, story: &Story) -> Vec<Campaign> {
    let monthly = calendar.months().enumerate().map(|(month, first)| {
        let pick = random::hash(seed, Purpose::Campaign, month as u64, 0);
        let (medium, cost) = MEDIUM[(pick % 3) as usize];
        // Each month another third of the kinds is asked more often.
        let reach = std::array::from_fn(|kind| if (kind as u64 + pick).is_multiple_of(3) { 0.22 } else { 0.06 });
        let day = first + 9;
        Campaign { code: code(day), ordinal: month as u64, day, medium, cost, reach, lift: ORDINARY_LIFT, plant: None }
    });
    let planted = story.pushes.iter().enumerate().map(|(i, push)| Campaign {
        code: code(push.on),
        ordinal: 900 + i as u64,
        day: push.on,
        medium: MEDIUM[0].0,
        cost: MEDIUM[0].1,
        reach: std::array::from_fn(|kind| if push.archetypes.contains(&kind) { 0.8 } else { 0.0 }),
        lift: push.lift,
        plant: Some(push.plant),
    });
    monthly.chain(planted).collect()
}

/// What a campaign does with one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    /// Seconds since 1970-01-01.
    pub at: i64,
    pub treated: bool,
    pub responded_at: Option<i64>,
    /// Day of the extra order that the contact causes.
    pub extra_order: Option<i32>,
}

impl Campaign {
    /// The contact with a customer who has signed up before it, if the audience includes the customer.
    pub(crate) fn contact(&self, seed: u64, number: u64, archetype: usize, active: bool) -> Option<Contact> {
        let u =
            |which: u64| random::unit(random::hash(seed, Purpose::Campaign, number, (self.ordinal << 8) | (which + 1)));
        if u(0) >= self.reach[archetype] {
            return None;
        }
        let treated = u(1) >= HOLDOUT;
        let at = i64::from(self.day) * 86_400 + 8 * 3600 + (u(2) * 3600.0) as i64;
        let response = ARCHETYPE[archetype].response * if active { 1.0 } else { 0.1 } + self.lift;
        // Waiting times are exponential, cut at the end of the window.
        let responds = treated && u(3) < response;
        let responded_at = responds.then(|| at + (-(1.0 - u(4)).ln() * 86_400.0).min(12.0 * 86_400.0) as i64 + 60);
        let extra = treated && u(5) < self.lift;
        let extra_order = extra.then(|| self.day + 1 + (-(1.0 - u(6)).ln() * 3.5).min(f64::from(WINDOW) - 2.0) as i32);
        Some(Contact { at, treated, responded_at, extra_order })
    }
}
