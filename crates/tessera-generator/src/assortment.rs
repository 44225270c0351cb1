//! What the shop sells: products by category, dearest last, each with a list price and a unit cost in cents.

use rand_distr::{Distribution, StandardNormal};

use crate::archetype::{CATEGORIES, CATEGORY, Tier};
use crate::random::{self, Purpose};

/// Products per category.
const PRODUCTS: usize = 120;

#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub sku: String,
    pub category: usize,
    /// List price and unit cost in cents.
    pub price: i64,
    pub cost: i64,
}

pub(crate) struct Assortment(Vec<Product>);

impl Assortment {
    pub(crate) fn new(seed: u64) -> Self {
        let mut products = Vec::with_capacity(CATEGORIES * PRODUCTS);
        for (category, (_, prefix, median)) in CATEGORY.iter().enumerate() {
            let mut rng = random::stream(seed, Purpose::Assortment, category as u64);
            let mut prices: Vec<i64> = (0..PRODUCTS)
                .map(|_| {
                    let z: f64 = StandardNormal.sample(&mut rng);
                    // Shops end their prices on a nine.
                    let dimes = (median * (0.55 * z).exp() * 10.0).round() as i64;
                    (dimes * 10 - 1).max(49)
                })
                .collect();
            prices.sort_unstable();
            products.extend(prices.into_iter().enumerate().map(|(i, price)| {
                let share = 0.35 + 0.35 * random::uniform(&mut rng);
                let cost = (price as f64 * share).round() as i64;
                Product { sku: format!("{prefix}-{:04}", 1000 + i), category, price, cost }
            }));
        }
        Self(products)
    }

    pub(crate) fn product(&self, index: usize) -> &Product {
        &self.0[index]
    }

    /// A product of a category: `u` in [0, 1) leans to the cheap or the dear end as the tier says.
    pub(crate) fn pick(&self, category: usize, tier: Tier, u: f64) -> usize {
        let place = match tier {
            Tier::Low => u * u,
            Tier::Middle => u,
            Tier::High => 1.0 - (1.0 - u) * (1.0 - u),
        };
        category * PRODUCTS + ((place * PRODUCTS as f64) as usize).min(PRODUCTS - 1)
    }
}
