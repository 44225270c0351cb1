//! From a shop to its files: check the settings, cut the customers into parts, let threads write them, sum up.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::assortment::Assortment;
use crate::calendar::Calendar;
use crate::customer::Census;
use crate::dirt::{Counts, Fates, KINDS, Kind};
use crate::effects::Effects;
use crate::engagement::AllFates;
use crate::layout::{ENTITIES, Entity, LAYOUT};
use crate::part::{Done, Part, World};
use crate::person::People;
use crate::planted::Planted;
use crate::story::Story;
use crate::{Dirt, Format, GeneratorError, Progress, Shop, Summary, campaigns, costs, orders};

/// What a thread tells the one that waits.
enum Message {
    Tick { customers: u64, transactions: u64 },
    Part(u64, Box<Result<Done, GeneratorError>>),
}

/// Writes a shop's files below `out`, which may exist but must not hold any such files yet.
///
/// # Errors
/// When a setting makes no sense, a folder holds files already, or a file cannot be written.
pub fn generate(shop: &Shop, out: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Summary, GeneratorError> {
    // A part is a file per folder: enough parts for several threads, none of a size that memory would notice.
    let size = shop.customers.div_ceil(8).clamp(1000, 50_000);
    generate_in_parts(shop, out, size, progress)
}

pub(crate) fn generate_in_parts(
    shop: &Shop,
    out: &Path,
    size: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, GeneratorError> {
    check(shop)?;
    let story = Story::new(&shop.planted)?;
    make_room(out)?;
    let calendar = Calendar::new(shop.start, shop.end, shop.horizon);
    let census = Census::new(shop.seed, &shop.dirt, &calendar, &story);
    let world = World {
        shop,
        out,
        calendar: &calendar,
        story: &story,
        scale: census.scale(shop.orders_per_customer),
        census,
        people: People::new(shop.seed, calendar.first),
        assortment: Assortment::new(shop.seed),
        campaigns: campaigns::schedule(shop.seed, &calendar, &story),
        fates: fates(&shop.dirt, shop.format),
        depths: orders::depths(),
        months: calendar.months().collect(),
    };
    let parts = write_parts(&world, size, progress)?;

    let mut rows = [0; ENTITIES];
    let (mut customers, mut files) = (0, 1);
    let (mut dirt, mut effects) = (Counts::default(), Effects::new(shop.planted.len()));
    for part in parts {
        customers += part.customers;
        files += part.files;
        rows.iter_mut().zip(part.rows).for_each(|(sum, n)| *sum += n);
        dirt.merge(&part.dirt);
        effects.merge(part.effects);
    }
    rows[Entity::MarketingCosts as usize] = costs::write(&world)?;
    let summary = Summary {
        customers,
        rows: LAYOUT.iter().map(|layout| layout.name).zip(rows).collect(),
        files,
        dirt: dirt.to_json(),
        planted: effects.to_json(&shop.planted, shop.horizon),
    };
    write_json(out, "dirt", &summary.dirt)?;
    let planted = json!({
        "seed": shop.seed,
        "start": shop.start.to_string(),
        "end": shop.end.to_string(),
        "planted": summary.planted,
    });
    write_json(out, "planted", &planted)?;
    Ok(summary)
}

/// Writes all parts on the shop's threads; the parts come back in order.
fn write_parts(world: &World, size: u64, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Done>, GeneratorError> {
    let customers = world.shop.customers;
    let parts = customers.div_ceil(size);
    let range = |part: u64| -> Range<u64> { part * size..((part + 1) * size).min(customers) };
    let next = AtomicU64::new(0);
    let (tell, hear) = mpsc::channel();
    let mut results = std::thread::scope(|scope| {
        for _ in 0..(world.shop.threads.max(1) as u64).min(parts) {
            let (tell, next) = (tell.clone(), &next);
            scope.spawn(move || {
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    if part >= parts {
                        break;
                    }
                    // Nobody listens any more only when the waiting thread is gone: then nothing is left to tell.
                    let tick = |customers, transactions| drop(tell.send(Message::Tick { customers, transactions }));
                    let done = Part::write(world, part, range(part), tick);
                    if done.is_err() {
                        next.store(parts, Ordering::Relaxed);
                    }
                    if tell.send(Message::Part(part, Box::new(done))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(tell);
        let mut results = Vec::new();
        let mut so_far = Progress { customers_done: 0, customers, transactions: 0 };
        for message in hear {
            match message {
                Message::Tick { customers, transactions } => {
                    so_far.customers_done += customers;
                    so_far.transactions += transactions;
                    progress(so_far);
                }
                Message::Part(part, done) => results.push((part, *done)),
            }
        }
        results
    });
    results.sort_by_key(|(part, _)| *part);
    results.into_iter().map(|(_, done)| done).collect()
}

fn fates(dirt: &Dirt, format: Format) -> AllFates {
    let fates = |kinds: &[Kind]| Fates::new(dirt, kinds, format == Format::Csv);
    AllFates {
        purchase: fates(Kind::PURCHASE),
        returned: fates(Kind::RETURN),
        event: fates(Kind::EVENT),
        contact: fates(Kind::CONTACT),
        survey: fates(Kind::SURVEY),
        customer: fates(Kind::CUSTOMER),
    }
}

fn check(shop: &Shop) -> Result<(), GeneratorError> {
    let fail = |field, reason: &str| Err(GeneratorError::Invalid { field, reason: reason.to_owned() });
    if shop.customers == 0 {
        return fail("customers", "at least one is needed");
    }
    if shop.customers > 1 << 40 {
        return fail("customers", "more than there are people");
    }
    if shop.end <= shop.start {
        return fail("end", "it must lie after the start");
    }
    if shop.horizon <= shop.start {
        return fail("horizon", "it must lie after the start");
    }
    if !(0.0..=1000.0).contains(&shop.orders_per_customer) {
        return fail("orders_per_customer", "it must lie between 0 and 1000");
    }
    let mut sum = 0.0;
    for (kind, name, rate) in KINDS {
        let rate = rate(&shop.dirt);
        if !(0.0..=1.0).contains(&rate) {
            return Err(GeneratorError::Invalid { field: "dirt", reason: format!("{name} must lie between 0 and 1") });
        }
        sum += if Kind::PURCHASE.contains(&kind) { rate } else { 0.0 };
    }
    if sum > 1.0 {
        return fail("dirt", "the exclusive rates add up to more than 1");
    }
    for change in &shop.planted {
        let shares: &[f64] = match change {
            Planted::DataGap { .. } => &[],
            Planted::Campaign { lift, .. } => &[*lift],
            Planted::ChannelOutage { lost, .. } => &[*lost],
            Planted::PriceRise { volume_lost, rise, .. } => &[*volume_lost, *rise / 100.0],
            Planted::NewArchetype { share, .. } => &[*share],
        };
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            return fail("planted", "shares must lie between 0 and 1");
        }
    }
    Ok(())
}

/// Fails when a folder that is about to be written has something in it.
fn make_room(out: &Path) -> Result<(), GeneratorError> {
    for layout in LAYOUT {
        let path = out.join(layout.name);
        std::fs::create_dir_all(&path).map_err(GeneratorError::io(&path))?;
        let mut entries = std::fs::read_dir(&path).map_err(GeneratorError::io(&path))?;
        if entries.next().is_some() {
            return Err(GeneratorError::NotEmpty { path });
        }
    }
    Ok(())
}

fn write_json(out: &Path, name: &str, value: &Value) -> Result<(), GeneratorError> {
    let path = out.join("truth").join(format!("{name}.json"));
    std::fs::write(&path, format!("{value:#}\n")).map_err(GeneratorError::io(&path))
}
