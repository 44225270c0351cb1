//! Who a customer number is to the shop: kind, sign-up, churn, rate of orders and personal habits. All of it follows from the seed
//! and the number, so the original of a second account can be looked up without having been generated before.

use rand_distr::{Distribution, StandardNormal};

use crate::archetype::{ARCHETYPE, NEWCOMER};
use crate::calendar::Calendar;
use crate::dirt::Dirt;
use crate::random::{self, Purpose, Weights, chance, uniform};
use crate::story::Story;

/// Acquisition channels with weight and median cost in currency units.
pub(crate) const ACQUISITION: [(&str, f64, f64); 6] = [
    ("organic", 0.28, 0.0),
    ("paid_search", 0.24, 26.0),
    ("social_ads", 0.18, 17.0),
    ("referral", 0.12, 9.0),
    ("affiliate", 0.08, 21.0),
    ("store", 0.10, 5.0),
];

/// In what two people look like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// Born on one day at one address.
    Twin,
    /// The name, the address and the telephone of the father or mother.
    Namesake,
    /// The family's e-mail address.
    FamilyEmail,
    /// One telephone at one address.
    SharedPhone,
    /// A number that was somebody's before.
    RecycledPhone,
}

/// All of them, with what the truth calls them.
pub(crate) const LIKENESSES: [(Likeness, &str); 5] = [
    (Likeness::Twin, "twin"),
    (Likeness::Namesake, "namesake"),
    (Likeness::FamilyEmail, "family_email"),
    (Likeness::SharedPhone, "shared_phone"),
    (Likeness::RecycledPhone, "recycled_phone"),
];

/// The habits of one customer number.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub number: u64,
    /// The number under which the same person signed up before.
    pub duplicate_of: Option<u64>,
    /// A customer before who is somebody else and looks like it: the number, the kind, and in what.
    pub looks_like: Option<(u64, usize, Likeness)>,
    pub archetype: usize,
    /// Day of sign-up, and first day without any purchase (`i32::MAX`: stays).
    pub signup: i32,
    pub churn: i32,
    /// Orders per day of operational time, before the shop-wide scaling.
    pub rate: f64,
    pub discount: f64,
    pub favourite: usize,
    pub channel: usize,
    pub one_off_orders: u32,
    pub acquisition: usize,
    /// Cents.
    pub acquisition_cost: i64,
    pub consent_marketing: bool,
    pub consent_profiling: bool,
}

/// Draws profiles: the weights that all customers share.
pub(crate) struct Census<'a> {
    seed: u64,
    duplicates: f64,
    lookalikes: f64,
    calendar: &'a Calendar,
    story: &'a Story,
    kinds: Weights,
    categories: Vec<Weights>,
    channels: Vec<Weights>,
    acquisition: Weights,
}

impl<'a> Census<'a> {
    pub(crate) fn new(seed: u64, dirt: &Dirt, calendar: &'a Calendar, story: &'a Story) -> Self {
        let shares: Vec<f64> = ARCHETYPE.iter().map(|kind| kind.share).collect();
        let costs: Vec<f64> = ACQUISITION.iter().map(|channel| channel.1).collect();
        Self {
            seed,
            duplicates: dirt.duplicate_person,
            lookalikes: dirt.lookalike_person,
            calendar,
            story,
            kinds: Weights::new(&shares),
            categories: ARCHETYPE.iter().map(|kind| Weights::new(&kind.categories)).collect(),
            channels: ARCHETYPE.iter().map(|kind| Weights::new(&kind.channels)).collect(),
            acquisition: Weights::new(&costs),
        }
    }

    pub(crate) fn categories(&self, kind: usize) -> &Weights {
        &self.categories[kind]
    }

    pub(crate) fn channels(&self, kind: usize) -> &Weights {
        &self.channels[kind]
    }

    /// The profile of a customer number.
    pub(crate) fn profile(&self, number: u64) -> Profile {
        let Some(original) = self.duplicate_of(number) else {
            let looks_like = self.looks_like(number);
            return Profile { looks_like, ..self.person(number) };
        };
        // The second account of a person: same tastes, opened later, used less.
        let first = self.person(original);
        let own = self.person(number);
        let mut rng = random::stream(self.seed, Purpose::Duplicate, number);
        let until = self.calendar.horizon.min(first.churn);
        let room = f64::from((until - first.signup).max(1) - 1);
        Profile {
            number,
            duplicate_of: Some(original),
            signup: first.signup + (uniform(&mut rng) * room) as i32,
            rate: first.rate * 0.5,
            acquisition: own.acquisition,
            acquisition_cost: own.acquisition_cost,
            channel: own.channel,
            ..first
        }
    }

    fn duplicate_of(&self, number: u64) -> Option<u64> {
        if !self.marked(number, Purpose::Duplicate, self.duplicates) {
            return None;
        }
        let original = self.earlier(number, Purpose::Duplicate);
        let is_one = self.marked(original, Purpose::Duplicate, self.duplicates)
            || self.marked(original, Purpose::Lookalike, self.lookalikes);
        (!is_one).then_some(original)
    }

    /// Whom somebody else looks like: nobody who looks like another.
    fn looks_like(&self, number: u64) -> Option<(u64, usize, Likeness)> {
        if !self.marked(number, Purpose::Lookalike, self.lookalikes) {
            return None;
        }
        let other = self.earlier(number, Purpose::Lookalike);
        let of_another = self.marked(other, Purpose::Duplicate, self.duplicates)
            || self.marked(other, Purpose::Lookalike, self.lookalikes);
        let which = random::hash(self.seed, Purpose::Lookalike, number, 3) % LIKENESSES.len() as u64;
        (!of_another).then(|| (other, self.person(other).archetype, LIKENESSES[which as usize].0))
    }

    fn marked(&self, number: u64, purpose: Purpose, share: f64) -> bool {
        number > 0 && random::unit(random::hash(self.seed, purpose, number, 1)) < share
    }

    /// One of the thousand numbers before.
    fn earlier(&self, number: u64, purpose: Purpose) -> u64 {
        number - 1 - random::hash(self.seed, purpose, number, 2) % number.min(1000)
    }

    fn person(&self, number: u64) -> Profile {
        let Calendar { first, horizon, .. } = *self.calendar;
        let mut rng = random::stream(self.seed, Purpose::Behaviour, number);
        let newcomer = self.story.newcomer_from(random::unit(random::hash(self.seed, Purpose::Newcomer, number, 0)));
        let drawn = self.kinds.draw(&mut rng);
        let archetype = if newcomer.is_some() { NEWCOMER } else { drawn };
        let kind = &ARCHETYPE[archetype];
        let (old, when) = (chance(&mut rng, kind.old), uniform(&mut rng));
        let span = |from: i32, to: i32, u: f64| from + (u * f64::from((to - from).max(1))) as i32;
        let signup = match newcomer {
            Some(from) => span(from, horizon, when),
            None if old => first - 1 - (when * 1500.0) as i32,
            None => span(first, horizon, when.powf(0.85)),
        };
        let (leaves, left) = (chance(&mut rng, kind.churn), uniform(&mut rng));
        let earliest = signup.max(first) + 30;
        let churn = if !leaves {
            i32::MAX
        } else if kind.churn >= 1.0 {
            // Long gone by the time that the story begins.
            span(horizon - 540, horizon - 210, left).max(earliest)
        } else {
            span(earliest, horizon.max(earliest + 1), left)
        };
        let body: f64 = StandardNormal.sample(&mut rng);
        let tail = if chance(&mut rng, 0.02) { 1.0 / (1.0 - uniform(&mut rng)).powf(0.6) } else { 1.0 };
        let personal = (0.35 * body - 0.06).exp() * tail.min(12.0);
        let taste: f64 = StandardNormal.sample(&mut rng);
        let odds = kind.discount / (1.0 - kind.discount) * (0.35 * taste).exp();
        let acquisition = self.acquisition.draw(&mut rng);
        let dear: f64 = StandardNormal.sample(&mut rng);
        let cost = ACQUISITION[acquisition].2 * (0.3 * dear).exp();
        Profile {
            number,
            duplicate_of: None,
            looks_like: None,
            archetype,
            signup,
            churn,
            rate: kind.orders / 365.25 * personal,
            discount: odds / (1.0 + odds),
            favourite: self.categories[archetype].draw(&mut rng),
            channel: self.channels[archetype].draw(&mut rng),
            one_off_orders: if kind.one_off { 1 + u32::from(chance(&mut rng, 0.12)) } else { u32::MAX },
            acquisition,
            acquisition_cost: (cost * 100.0).round() as i64,
            consent_marketing: chance(&mut rng, 0.76),
            consent_profiling: chance(&mut rng, 0.95),
        }
    }

    /// The factor on every rate that makes the mean number of orders per customer come out as wanted by the horizon.
    pub(crate) fn scale(&self, orders_per_customer: f64) -> f64 {
        // Looked up on numbers of its own, so that it depends on nobody's file.
        const SAMPLE: u64 = 8192;
        let (mut fixed, mut free) = (0.0, 0.0);
        for number in 0..SAMPLE {
            let who = self.person(mix_in(number));
            if ARCHETYPE[who.archetype].one_off {
                fixed += f64::from(who.one_off_orders);
            } else {
                let from = self.calendar.operational(who.archetype, who.signup);
                let to = self.calendar.operational(who.archetype, who.churn.min(self.calendar.horizon));
                free += who.rate * (to - from).max(0.0);
                // The order for which somebody signs up.
                fixed += f64::from(u8::from(who.signup >= self.calendar.first));
            }
        }
        let wanted = orders_per_customer * SAMPLE as f64 - fixed;
        if free > 0.0 { (wanted / free).max(0.0) } else { 1.0 }
    }
}

fn mix_in(number: u64) -> u64 {
    random::mix(number) | (1 << 63)
}
