//! Orders, their lines and returns. A customer's orders arrive at a constant rate in the operational time of the customer's kind,
//! drawn forward from the first one; every order is drawn whole before the story (outage, price rise, gap) has its say.

use rand_distr::{Distribution, Gamma};
use rand_pcg::Pcg64;

use crate::GeneratorError;
use crate::archetype::ARCHETYPE;
use crate::customer::Profile;
use crate::dirt::{Kind, row_hash};
use crate::effects::Effect;
use crate::layout::Entity;
use crate::part::{Part, World};
use crate::random::{self, Purpose, Weights, below, chance, geometric, uniform};
use crate::row::Row;

/// Orders per customer number; numbers from here on belong to campaigns.
const MOST: u64 = 9000;
/// Depths of discount in percent, with weights.
const DEPTH: [(i32, f64); 6] = [(5, 0.15), (10, 0.30), (15, 0.20), (20, 0.20), (30, 0.10), (50, 0.05)];

/// An order as placed, in the eyes of what comes after it: visits, surveys, campaigns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub index: u64,
    /// Seconds since 1970-01-01.
    pub at: i64,
    pub channel: usize,
    /// Ten-thousandths of a currency unit.
    pub amount: i64,
    pub returned_at: Option<i64>,
}

/// A line of an order before the story has its say.
pub(crate) struct Sale {
    product: usize,
    quantity: i32,
    discount: i32,
    /// When pieces come back, and how many.
    back: Option<(i64, i32)>,
}

/// The weights of discount depths.
pub(crate) fn depths() -> Weights {
    Weights::new(&DEPTH.map(|depth| depth.1))
}

impl Part {
    /// Everything that a customer buys of own accord before the end.
    pub(crate) fn orders(&mut self, world: &World, who: &Profile) -> Result<(), GeneratorError> {
        self.placed.clear();
        let kind = &ARCHETYPE[who.archetype];
        let calendar = world.calendar;
        let rate = who.rate * world.scale;
        let mut rng = random::stream(world.shop.seed, Purpose::Orders, who.number);
        let first_gap = uniform(&mut rng);
        if rate <= 0.0 && !kind.one_off {
            return Ok(());
        }
        let Ok(gaps) = Gamma::new(kind.regularity, 1.0 / (kind.regularity * rate.max(1e-5))) else {
            return Ok(());
        };
        let mut time = calendar.operational(who.archetype, who.signup);
        // New customers sign up in order to buy; old ones are somewhere between two orders when the data starts.
        time +=
            if who.signup >= calendar.first { 2.0 * first_gap * first_gap } else { first_gap * gaps.sample(&mut rng) };
        let leaves = who.churn.min(calendar.end);
        for index in 0..MOST.min(u64::from(who.one_off_orders)) {
            let Some(day) = calendar.day_at(who.archetype, time).filter(|day| *day < leaves) else {
                break;
            };
            self.order(world, who, &mut rng, index, day.max(who.signup), world.story.origin(who.archetype))?;
            time += gaps.sample(&mut rng);
        }
        Ok(())
    }

    /// The order that a campaign caused.
    pub(crate) fn campaign_order(
        &mut self,
        world: &World,
        who: &Profile,
        ordinal: u64,
        day: i32,
        plant: Option<usize>,
    ) -> Result<(), GeneratorError> {
        if day >= world.calendar.end {
            return Ok(());
        }
        let mut rng = random::stream(world.shop.seed, Purpose::CampaignOrder, who.number << 12 | ordinal);
        let plant = plant.or(world.story.origin(who.archetype));
        self.order(world, who, &mut rng, MOST + ordinal, day, plant)
    }

    /// Draws one order, lets the story change it, writes what is left. `origin` is the planted change without which there would be none.
    fn order(
        &mut self,
        world: &World,
        who: &Profile,
        rng: &mut Pcg64,
        index: u64,
        day: i32,
        origin: Option<usize>,
    ) -> Result<(), GeneratorError> {
        let kind = &ARCHETYPE[who.archetype];
        let channel = if chance(rng, 0.6) { who.channel } else { world.census.channels(who.archetype).draw(rng) };
        let second = 8.0 * 3600.0 + 0.5 * (uniform(rng) + uniform(rng)) * 14.0 * 3600.0;
        let at = i64::from(day) * 86_400 + second as i64;
        let mut sales = std::mem::take(&mut self.sales);
        sales.clear();
        for _ in 0..=geometric(rng, kind.lines, 40) {
            sales.push(sale(world, who, rng, at));
        }
        let hash = random::hash(world.shop.seed, Purpose::Planted, who.number, index);
        let outage = world.story.outage(channel, day);
        let lost = outage.filter(|o| random::unit(hash) < o.lost);
        let channel = if outage.is_some() && lost.is_none() { 0 } else { channel };

        self.set_order_id(who.number, index);
        let order_id = std::mem::take(&mut self.order_id);
        let mut placed = Placed { index, at, channel, amount: 0, returned_at: None };
        let (mut kept, mut given_up) = (false, None);
        for (i, sale) in sales.iter().enumerate() {
            let product = world.assortment.product(sale.product);
            let sold = Row {
                order: &order_id,
                line: i as i32 + 1,
                at,
                sku: &product.sku,
                category: product.category,
                quantity: sale.quantity,
                price: product.price,
                discount: sale.discount,
                cost: product.cost,
                channel,
                is_return: false,
            };
            let back = sale.back.map(|(at, pieces)| Row {
                line: sold.line + 100,
                at,
                quantity: -pieces,
                is_return: true,
                ..sold
            });
            let rise = world.story.rise(product.category, who.archetype, day);
            let stays = rise.is_none_or(|r| random::unit(random::mix(hash ^ sold.line as u64)) >= r.volume_lost);
            if stays {
                // Known even if it lies past the end: what follows from it must not depend on where that is.
                placed.returned_at = sale.back.map(|(at, _)| at).or(placed.returned_at);
            }
            for mut row in std::iter::once(sold).chain(back) {
                if row.day() >= world.calendar.end {
                    continue;
                }
                if let Some(plant) = origin {
                    self.effects.add(plant, row.day(), row.effect());
                }
                if let Some(rise) = rise {
                    let before = row.effect();
                    row.price = rise.price(row.price);
                    let change = if stays {
                        Effect { lines: 0, revenue: row.amount() - before.revenue, ..before }
                    } else {
                        Effect { lines: -1, revenue: -before.revenue, ..before }
                    };
                    self.effects.add(rise.plant, row.day(), change);
                }
                if !stays {
                    given_up = rise.map(|r| r.plant);
                    continue;
                }
                kept |= !row.is_return;
                let hidden = lost.map(|o| o.plant).or_else(|| world.story.gap(row.day()));
                if let Some(plant) = hidden {
                    let effect = row.effect();
                    self.effects.add(plant, row.day(), Effect { lines: -1, revenue: -effect.revenue, ..effect });
                }
                if lost.is_none() && !row.is_return {
                    placed.amount += row.amount();
                }
                if hidden.is_none() {
                    self.write_row(world, who.number, &row)?;
                }
            }
        }
        if let Some(plant) = origin {
            self.effects.add(plant, day, Effect { orders: 1, ..Effect::default() });
        }
        // The first change that took the whole order away answers for it.
        let taken = if kept { lost.map(|o| o.plant).or_else(|| world.story.gap(day)) } else { given_up };
        if let Some(plant) = taken {
            self.effects.add(plant, day, Effect { orders: -1, ..Effect::default() });
        }
        if kept && lost.is_none() {
            self.placed.push(placed);
        }
        self.sales = sales;
        self.order_id = order_id;
        Ok(())
    }

    fn write_row(&mut self, world: &World, number: u64, row: &Row) -> Result<(), GeneratorError> {
        let fates = if row.is_return { &world.fates.returned } else { &world.fates.purchase };
        let hash = row_hash(world.shop.seed, number, self.order_index << 16 | row.line as u64);
        let fate = fates.of(hash);
        let detail = random::mix(hash);
        row.put(&mut self.transactions, &self.customer_id, fate, detail)?;
        if let Some(kind) = fate {
            self.dirt.add(Entity::Transactions, kind);
            match kind {
                Kind::DuplicateRow => row.put(&mut self.transactions, &self.customer_id, None, detail)?,
                Kind::DuplicateElsewhere => {
                    let table = self.resent.get(world)?;
                    row.put(table, &self.customer_id, None, detail)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn sale(world: &World, who: &Profile, rng: &mut Pcg64, at: i64) -> Sale {
    let kind = &ARCHETYPE[who.archetype];
    let own = chance(rng, kind.loyalty);
    let drawn = world.census.categories(who.archetype).draw(rng);
    let category = if own { who.favourite } else { drawn };
    let product = world.assortment.pick(category, kind.tier, uniform(rng));
    let quantity = 1 + geometric(rng, kind.pieces, 30) as i32;
    let (one, other) = (world.depths.draw(rng), world.depths.draw(rng));
    // Who buys mostly at a discount looks out for the deep ones.
    let depth = if kind.discount > 0.5 { one.max(other) } else { one.min(other) };
    let discount = if chance(rng, who.discount) { DEPTH[depth].0 } else { 0 };
    let back = chance(rng, kind.returns).then(|| {
        let days = 2.0 + (-9.0 * (1.0 - uniform(rng)).ln()).min(58.0);
        let pieces = if chance(rng, 0.75) { quantity } else { 1 + below(rng, quantity as usize) as i32 };
        (at + (days * 86_400.0) as i64, pieces)
    });
    Sale { product, quantity, discount, back }
}
