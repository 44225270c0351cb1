//! What customers do besides buying: visits, newsletters, support, social media, surveys, and the contacts of campaigns.

use crate::GeneratorError;
use crate::archetype::{ARCHETYPE, CHANNEL};
use crate::campaigns::WINDOW;
use crate::csv::Break;
use crate::customer::Profile;
use crate::dirt::{Fates, Kind, row_hash};
use crate::layout::Entity;
use crate::names::REMARK;
use crate::orders::Placed;
use crate::part::{Part, World};
use crate::random::{self, Purpose, below, chance, geometric, uniform};
use crate::row::FAR_FUTURE;
use crate::write::Table;

const DAY: i64 = 86_400;
/// Psychographic scales of three items each: latent traits in the order of `Archetype::traits`.
const SCALES: [[&str; 3]; 3] = [
    ["price_compare", "price_wait_for_sale", "price_coupons"],
    ["novelty_new_brands", "novelty_trends", "novelty_try_first"],
    ["family_plan_together", "family_stock_up", "family_weekend"],
];
/// Share of customers who answer the questionnaire, of orders rated, of support cases rated.
const ANSWER: f64 = 0.25;
const RATE_ORDER: f64 = 0.05;
const RATE_SUPPORT: f64 = 0.35;

/// A row of the interaction file.
struct Event {
    at: i64,
    kind: &'static str,
    medium: &'static str,
    hits: i32,
}

/// Answers of one person to one question.
struct Answer {
    at: i64,
    question: &'static str,
    rating: i32,
    remark: Option<&'static str>,
}

impl Part {
    /// Campaign contacts of a customer, with the orders that they cause.
    pub(crate) fn contacts(&mut self, world: &World, who: &Profile) -> Result<(), GeneratorError> {
        if !who.consent_marketing {
            return Ok(());
        }
        let mut contacts = Vec::new();
        for campaign in world.campaigns.iter().filter(|c| c.day > who.signup && c.day < world.calendar.end) {
            let active = campaign.day < who.churn;
            let Some(contact) = campaign.contact(world.shop.seed, who.number, who.archetype, active) else {
                continue;
            };
            if let Some(day) = contact.extra_order {
                self.campaign_order(world, who, campaign.ordinal, day, campaign.plant)?;
            }
            contacts.push((campaign, contact));
        }
        let end = i64::from(world.calendar.end) * DAY;
        for (campaign, contact) in contacts {
            let until = contact.at + i64::from(WINDOW) * DAY;
            let within = self.placed.iter().filter(|order| order.at > contact.at && order.at <= until);
            let converted = within.min_by_key(|order| (order.at, order.index)).copied();
            let hash = row_hash(world.shop.seed, who.number, (3 << 60) | campaign.ordinal);
            let fate = world.fates.contact.of(hash);
            let copies = self.count(Entity::CampaignContacts, fate);
            for _ in 0..copies {
                let table = &mut self.contacts;
                table.text(Some(&campaign.code));
                customer(table, &self.customer_id, fate, hash);
                table.time(Some(contact.at));
                table.text(Some(campaign.medium));
                table.text(Some(if contact.treated { "treated" } else { "holdout" }));
                table.money(Some(if contact.treated { campaign.cost } else { 0 }));
                table.time(contact.responded_at.filter(|at| *at < end));
                table.time(converted.map(|order| order.at));
                table.money(converted.map(|order| (order.amount + 50) / 100));
                table.end_row(Break::None)?;
            }
        }
        Ok(())
    }

    /// Visits, newsletters, support and social media of a customer, month by month, and ratings of orders.
    pub(crate) fn engagement(&mut self, world: &World, who: &Profile) -> Result<(), GeneratorError> {
        let placed = std::mem::take(&mut self.placed);
        for order in &placed {
            self.around(world, who, order)?;
        }
        self.placed = placed;
        let kind = &ARCHETYPE[who.archetype];
        let mut rng = random::stream(world.shop.seed, Purpose::Engagement, who.number);
        let months = world.months.iter().enumerate().filter(|(_, first)| **first >= who.signup);
        for (month, first) in months.take_while(|(_, first)| **first < world.calendar.end) {
            let active = *first < who.churn;
            let fade = if active { 1.0 } else { 0.12 };
            let mut row = ((month as u64) << 8) | (1 << 61);
            let mut next = || {
                row += 1;
                row
            };
            let (visits, posts) =
                (geometric(&mut rng, kind.visits * fade, 60), geometric(&mut rng, kind.social * fade, 30));
            for n in 0..visits + posts {
                let at = (i64::from(*first) + below(&mut rng, 28) as i64) * DAY + (uniform(&mut rng) * 86_399.0) as i64;
                let hits = 1 + geometric(&mut rng, 2.0, 30) as i32;
                let medium =
                    CHANNEL[usize::from(chance(&mut rng, kind.channels[1] / (kind.channels[0] + kind.channels[1])))];
                let (kind, medium) = if n < visits { ("visit", medium) } else { ("social", "social") };
                self.event(world, who, next(), &Event { at, kind, medium, hits })?;
            }
            let sent = (i64::from(*first) + 4) * DAY + 7 * 3600 + (uniform(&mut rng) * 7200.0) as i64;
            let (opens, clicks) = (chance(&mut rng, kind.open * fade), chance(&mut rng, kind.click));
            let wait = (-(1.0 - uniform(&mut rng)).ln() * 8.0 * 3600.0) as i64 + 30;
            if who.consent_marketing {
                let mail = |at: i64, kind: &'static str| Event { at, kind, medium: "email", hits: 1 };
                self.event(world, who, next(), &mail(sent, "email_sent"))?;
                if opens {
                    self.event(world, who, next(), &mail(sent + wait, "email_open"))?;
                }
                if opens && clicks {
                    self.event(world, who, next(), &mail(sent + wait + 45, "email_click"))?;
                }
            }
        }
        self.questionnaire(world, who)
    }

    /// The visit before an order, the support case and the rating after it.
    fn around(&mut self, world: &World, who: &Profile, order: &Placed) -> Result<(), GeneratorError> {
        let u = |which: u64| {
            random::unit(random::hash(world.shop.seed, Purpose::Survey, who.number, (order.index << 8) | which))
        };
        let row = |which: u64| (1 << 62) | (order.index << 4) | which;
        if order.channel < 2 {
            let hits = 2 + (u(0) * u(0) * 25.0) as i32;
            let event = Event {
                at: order.at - 60 - (u(1) * 1800.0) as i64,
                kind: "visit",
                medium: CHANNEL[order.channel],
                hits,
            };
            self.event(world, who, row(0), &event)?;
        }
        let helped = order.returned_at.filter(|_| u(2) < 0.4).or((u(3) < 0.012).then_some(order.at + 3 * DAY));
        if let Some(at) = helped {
            let medium = if u(4) < 0.5 { "phone" } else { "email" };
            self.event(world, who, row(1), &Event { at, kind: "support", medium, hits: 1 })?;
            if u(5) < RATE_SUPPORT {
                let rating =
                    (ARCHETYPE[who.archetype].nps / 2.2 + 2.4 * (u(6) + u(7) - 1.0)).round().clamp(1.0, 5.0) as i32;
                let answer = Answer { at: at + DAY, question: "csat", rating, remark: remark(rating + rating, u(8)) };
                self.answer(world, who, row(2), &answer)?;
            }
        }
        if u(9) < RATE_ORDER {
            let rating = (ARCHETYPE[who.archetype].nps + 4.0 * (u(10) + u(11) - 1.0)).round().clamp(0.0, 10.0) as i32;
            let answer = Answer { at: order.at + 5 * DAY, question: "nps", rating, remark: remark(rating, u(12)) };
            self.answer(world, who, row(3), &answer)?;
        }
        Ok(())
    }

    /// The psychographic questionnaire, answered by some a few weeks after they signed up (or after the data starts).
    fn questionnaire(&mut self, world: &World, who: &Profile) -> Result<(), GeneratorError> {
        let mut rng = random::stream(world.shop.seed, Purpose::Survey, who.number);
        if !chance(&mut rng, ANSWER) {
            return Ok(());
        }
        let day = who.signup.max(world.calendar.first) + 5 + below(&mut rng, 60) as i32;
        let at = i64::from(day) * DAY + 9 * 3600 + below(&mut rng, 36_000) as i64;
        for (scale, (items, mean)) in SCALES.iter().zip(ARCHETYPE[who.archetype].traits).enumerate() {
            let latent = mean + 1.4 * (uniform(&mut rng) + uniform(&mut rng) - 1.0);
            for (i, question) in items.iter().enumerate() {
                let rating = (latent + 1.5 * (uniform(&mut rng) - 0.5)).round().clamp(1.0, 5.0) as i32;
                let answer = Answer { at: at + (scale * 3 + i) as i64 * 11, question, rating, remark: None };
                self.answer(world, who, (1 << 63) | (scale * 3 + i) as u64, &answer)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, world: &World, who: &Profile, row: u64, event: &Event) -> Result<(), GeneratorError> {
        if !within(world, event.at) {
            return Ok(());
        }
        let hash = row_hash(world.shop.seed, who.number, row);
        let fate = world.fates.event.of(hash);
        for _ in 0..self.count(Entity::Interactions, fate) {
            let table = &mut self.interactions;
            customer(table, &self.customer_id, fate, hash);
            time(table, event.at, fate, hash);
            table.text(Some(event.kind));
            table.text(Some(event.medium));
            table.whole(Some(event.hits));
            table.end_row(Break::None)?;
        }
        Ok(())
    }

    fn answer(&mut self, world: &World, who: &Profile, row: u64, answer: &Answer) -> Result<(), GeneratorError> {
        if !within(world, answer.at) {
            return Ok(());
        }
        let hash = row_hash(world.shop.seed, who.number, row);
        let fate = world.fates.survey.of(hash);
        for _ in 0..self.count(Entity::SurveyResponses, fate) {
            let table = &mut self.surveys;
            customer(table, &self.customer_id, fate, hash);
            time(table, answer.at, fate, hash);
            table.text(Some(answer.question));
            table.whole(Some(if fate == Some(Kind::AbsurdNumber) { 99 } else { answer.rating }));
            table.text(answer.remark);
            table.end_row(Break::None)?;
        }
        Ok(())
    }

    /// Counts the damage of a row and says how often to write it.
    pub(crate) fn count(&mut self, entity: Entity, fate: Option<Kind>) -> u8 {
        let Some(kind) = fate else {
            return 1;
        };
        self.dirt.add(entity, kind);
        if kind == Kind::DuplicateRow { 2 } else { 1 }
    }
}

fn within(world: &World, at: i64) -> bool {
    let day = at.div_euclid(DAY);
    day >= i64::from(world.calendar.first) && day < i64::from(world.calendar.end)
}

fn remark(rating: i32, u: f64) -> Option<&'static str> {
    (u < 0.3).then(|| REMARK[(rating.clamp(0, 10) / 2) as usize])
}

fn customer(table: &mut Table, id: &str, fate: Option<Kind>, hash: u64) {
    match fate {
        Some(Kind::MissingCustomer) => table.text(None),
        Some(Kind::OrphanCustomer) => table.text(Some(&format!("L{:06}", hash % 400_000))),
        _ => table.text(Some(id)),
    }
}

fn time(table: &mut Table, at: i64, fate: Option<Kind>, hash: u64) {
    match fate {
        Some(Kind::UnreadableDate) => table.unreadable(hash),
        Some(Kind::FarFuture) => table.time(Some(FAR_FUTURE)),
        _ => table.time(Some(at)),
    }
}

/// The fates of every sort of row.
pub(crate) struct AllFates {
    pub purchase: Fates,
    pub returned: Fates,
    pub event: Fates,
    pub contact: Fates,
    pub survey: Fates,
    pub customer: Fates,
}
