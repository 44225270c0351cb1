//! What the shop spends on marketing: a row a day and acquisition channel, about the cost of the customers who sign up that way.

use rand_distr::{Distribution, StandardNormal};

use crate::GeneratorError;
use crate::archetype::ARCHETYPE;
use crate::csv::Break;
use crate::customer::ACQUISITION;
use crate::layout::{Entity, LAYOUT};
use crate::part::World;
use crate::random::{self, Purpose};
use crate::write::Table;

/// Writes the cost file; returns its number of rows.
pub(crate) fn write(world: &World) -> Result<u64, GeneratorError> {
    let calendar = world.calendar;
    let mut table =
        Table::create(world.out, &LAYOUT[Entity::MarketingCosts as usize], "part-00000", world.shop.format)?;
    // Customers of old were paid for before the data starts.
    let total: f64 = ARCHETYPE.iter().map(|kind| kind.share).sum();
    let new: f64 = ARCHETYPE.iter().map(|kind| kind.share * (1.0 - kind.old)).sum();
    let a_day = new / total * world.shop.customers as f64 / f64::from((calendar.horizon - calendar.first).max(1));
    for day in calendar.first..calendar.end {
        let mut rng = random::stream(world.shop.seed, Purpose::Costs, day as u64);
        for (channel, share, cost) in ACQUISITION {
            let noise: f64 = StandardNormal.sample(&mut rng);
            // Nobody pays for customers who come by themselves.
            if cost > 0.0 {
                let cents = 100.0 * a_day * share * cost * (0.2 * noise).exp();
                table.day(Some(day));
                table.text(Some(channel));
                table.money(Some(cents.round() as i64));
                table.end_row(Break::None)?;
            }
        }
    }
    table.close()
}
