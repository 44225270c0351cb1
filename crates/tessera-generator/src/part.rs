//! One part of the shop: a run of customer numbers and the files that belong to it. Parts share nothing that changes, so threads may
//! write them in any order.

use std::fmt::Write as _;
use std::path::Path;

use crate::archetype::ARCHETYPE;
use crate::assortment::Assortment;
use crate::calendar::Calendar;
use crate::campaigns::Campaign;
use crate::csv::Break;
use crate::customer::{ACQUISITION, Census, LIKENESSES, Likeness, Profile};
use crate::dirt::{Counts, Kind, row_hash};
use crate::effects::{Effect, Effects};
use crate::engagement::AllFates;
use crate::layout::{ENTITIES, Entity, LAYOUT};
use crate::names::COUNTRY;
use crate::orders::{Placed, Sale};
use crate::person::{People, Person};
use crate::random::{self, Weights};
use crate::story::Story;
use crate::write::Table;
use crate::{GeneratorError, Shop};

/// What all parts read.
pub(crate) struct World<'a> {
    pub shop: &'a Shop,
    pub out: &'a Path,
    pub calendar: &'a Calendar,
    pub story: &'a Story,
    pub census: Census<'a>,
    pub people: People,
    pub assortment: Assortment,
    pub campaigns: Vec<Campaign>,
    pub fates: AllFates,
    pub depths: Weights,
    /// First days of the months.
    pub months: Vec<i32>,
    /// Factor on every rate of orders.
    pub scale: f64,
}

/// What a part adds to the summary.
pub(crate) struct Done {
    pub customers: u64,
    pub rows: [u64; ENTITIES],
    pub files: u64,
    pub dirt: Counts,
    pub effects: Effects,
}

/// The re-sent transactions of a part: a file that exists when there are any.
pub(crate) struct Resent {
    name: String,
    table: Option<Table>,
}

impl Resent {
    pub(crate) fn get(&mut self, world: &World) -> Result<&mut Table, GeneratorError> {
        let table = match self.table.take() {
            Some(table) => table,
            None => Table::create(world.out, &LAYOUT[Entity::Transactions as usize], &self.name, world.shop.format)?,
        };
        Ok(self.table.insert(table))
    }
}

/// A part being written, and the customer at hand.
pub(crate) struct Part {
    customers: Table,
    pub transactions: Table,
    pub resent: Resent,
    pub interactions: Table,
    pub contacts: Table,
    pub surveys: Table,
    truth: Table,
    pub dirt: Counts,
    pub effects: Effects,
    pub customer_id: String,
    pub order_id: String,
    pub order_index: u64,
    pub placed: Vec<Placed>,
    pub sales: Vec<Sale>,
}

/// The id of a customer number in the shop's systems.
fn customer_id(number: u64) -> String {
    format!("C{number:07}")
}

impl Part {
    /// Writes the files of customers `numbers` as part `index`; `tick` hears of customers done.
    pub(crate) fn write(
        world: &World,
        index: u64,
        numbers: std::ops::Range<u64>,
        mut tick: impl FnMut(u64, u64),
    ) -> Result<Done, GeneratorError> {
        let name = format!("part-{index:05}");
        let table = |entity: Entity| Table::create(world.out, &LAYOUT[entity as usize], &name, world.shop.format);
        let mut part = Self {
            customers: table(Entity::Customers)?,
            transactions: table(Entity::Transactions)?,
            resent: Resent { name: format!("{name}-resent"), table: None },
            interactions: table(Entity::Interactions)?,
            contacts: table(Entity::CampaignContacts)?,
            surveys: table(Entity::SurveyResponses)?,
            truth: table(Entity::Truth)?,
            dirt: Counts::default(),
            effects: Effects::new(world.shop.planted.len()),
            customer_id: String::new(),
            order_id: String::new(),
            order_index: 0,
            placed: Vec::new(),
            sales: Vec::new(),
        };
        let (mut customers, mut seen, mut reported) = (0, 0, 0);
        for number in numbers {
            let who = world.census.profile(number);
            seen += 1;
            if who.signup < world.calendar.end {
                customers += 1;
                part.customer(world, &who)?;
            }
            if seen == 1000 {
                let rows = part.transactions.rows();
                tick(seen, rows - reported);
                (seen, reported) = (0, rows);
            }
        }
        tick(seen, part.transactions.rows() - reported);
        part.close(customers)
    }

    fn customer(&mut self, world: &World, who: &Profile) -> Result<(), GeneratorError> {
        self.customer_id.clear();
        self.customer_id.push_str(&customer_id(who.number));
        self.master_data(world, who)?;
        if let Some(plant) = world.story.origin(who.archetype) {
            self.effects.add(plant, who.signup, Effect { customers: 1, ..Effect::default() });
        }
        self.orders(world, who)?;
        self.contacts(world, who)?;
        self.engagement(world, who)
    }

    pub(crate) fn set_order_id(&mut self, number: u64, index: u64) {
        self.order_index = index;
        self.order_id.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.order_id, "S{number:07}{index:04}");
    }

    /// The customer's rows in the customer file and in the truth.
    fn master_data(&mut self, world: &World, who: &Profile) -> Result<(), GeneratorError> {
        let person = world.people.person(who);
        let created = i64::from(who.signup) * 86_400 + 36_000;
        self.person_row(world, who, &person, 0, created)?;
        if who.duplicate_of.is_some() {
            self.dirt.add(Entity::Customers, Kind::DuplicatePerson);
        }
        if who.looks_like.is_some() {
            self.dirt.add(Entity::Customers, Kind::LookalikePerson);
        }
        let hash = row_hash(world.shop.seed, who.number, 1 << 59);
        let changed = who.signup.max(world.calendar.first) + 20 + (random::mix(hash) % 500) as i32;
        if random::unit(hash) < world.shop.dirt.rate(Kind::ResentCustomer) && changed < world.calendar.end {
            self.dirt.add(Entity::Customers, Kind::ResentCustomer);
            let later = world.people.changed(&person, who.number);
            self.person_row(world, who, &later, 1, i64::from(changed) * 86_400 + 54_000)?;
        }
        self.truth.text(Some(&self.customer_id));
        self.truth.text(Some(ARCHETYPE[who.archetype].name));
        self.truth.day(Some(who.signup));
        self.truth.day((who.churn < i32::MAX).then_some(who.churn));
        self.truth.text(who.duplicate_of.map(customer_id).as_deref());
        self.truth.text(who.looks_like.map(|(other, ..)| customer_id(other)).as_deref());
        let because = |how: Likeness| LIKENESSES.iter().find(|(likeness, _)| *likeness == how).map(|(_, name)| *name);
        self.truth.text(who.looks_like.and_then(|(.., how)| because(how)));
        self.truth.end_row(Break::None)
    }

    fn person_row(
        &mut self,
        world: &World,
        who: &Profile,
        person: &Person,
        version: u64,
        updated: i64,
    ) -> Result<(), GeneratorError> {
        let base = (1 << 58) | (version << 8);
        let hash = |which: u64| row_hash(world.shop.seed, who.number, base | which);
        let fate = world.fates.customer.of(hash(0));
        let copies = self.count(Entity::Customers, fate);
        let mut spoilt = |kind: Kind, possible: bool| {
            let hit = possible && random::unit(hash(1 + kind as u64)) < world.shop.dirt.rate(kind);
            if hit {
                (0..copies).for_each(|_| self.dirt.add(Entity::Customers, kind));
            }
            hit
        };
        let country = &COUNTRY[person.country];
        let malformed = spoilt(Kind::MalformedCountry, true);
        let lower = spoilt(Kind::LowerCaseCountry, !malformed);
        let messy_email = spoilt(Kind::MessyEmail, !person.email.is_empty());
        let messy_phone = spoilt(Kind::MessyPhone, !person.phone.is_empty());
        let no_income = spoilt(Kind::MissingIncome, fate != Some(Kind::AbsurdNumber));
        let code = match (malformed, lower, hash(40)) {
            (true, _, h) => ["", "U$", "N/A", "1A", "??", "Germny"][(h % 6) as usize].to_owned(),
            (_, true, h) if h & 1 == 0 => country.code.to_lowercase(),
            (_, true, _) => format!("{} ", country.code),
            _ => country.code.to_owned(),
        };
        let email = if messy_email { messy(&person.email, hash(41)) } else { person.email.clone() };
        let phone = written(&person.phone, person, messy_phone.then(|| hash(42)));
        let absurd_birth = fate == Some(Kind::AbsurdNumber) && hash(43) & 1 == 0;
        let absurd_income = fate == Some(Kind::AbsurdNumber) && !absurd_birth;
        let (city, state, _) = country.cities[person.city];
        let full = |text: &str| !text.is_empty();
        for _ in 0..copies {
            let table = &mut self.customers;
            table.text(Some(&self.customer_id));
            table.text(full(&email).then_some(&email));
            table.text(full(&phone).then_some(&phone));
            table.text(Some(&person.first_name));
            table.text(Some(&person.last_name));
            match fate {
                Some(Kind::UnreadableDate) => table.unreadable(hash(44)),
                // 1893-06-15.
                _ if absurd_birth => table.day(Some(-27_958)),
                _ => table.day(Some(person.birth)),
            }
            table.text(person.sex);
            table.money(if absurd_income { Some(99_999_999_999) } else { (!no_income).then_some(person.income) });
            table.text(person.education);
            table.text(person.job);
            table.text(Some(&person.street));
            table.text(Some(&person.zip));
            table.text(Some(city));
            table.text(Some(state));
            table.text(full(&code).then_some(&code));
            table.day(Some(who.signup));
            table.text(Some(ACQUISITION[who.acquisition].0));
            table.money(Some(who.acquisition_cost));
            table.flag(Some(who.consent_marketing));
            table.flag(Some(who.consent_profiling));
            table.time(Some(updated));
            table.end_row(Break::None)?;
        }
        Ok(())
    }

    fn close(self, customers: u64) -> Result<Done, GeneratorError> {
        let mut rows = [0; ENTITIES];
        let mut files = 0;
        let all = [
            (Entity::Customers, Some(self.customers)),
            (Entity::Transactions, Some(self.transactions)),
            (Entity::Transactions, self.resent.table),
            (Entity::Interactions, Some(self.interactions)),
            (Entity::CampaignContacts, Some(self.contacts)),
            (Entity::SurveyResponses, Some(self.surveys)),
            (Entity::Truth, Some(self.truth)),
        ];
        for (entity, table) in all {
            if let Some(table) = table {
                rows[entity as usize] += table.close()?;
                files += 1;
            }
        }
        Ok(Done { customers, rows, files, dirt: self.dirt, effects: self.effects })
    }
}

/// An address with capitals and blanks.
fn messy(email: &str, hash: u64) -> String {
    match hash % 4 {
        0 => email.to_uppercase(),
        1 => format!("  {email}"),
        2 => format!("{email} "),
        _ => {
            let mut letters = email.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        }
    }
}

/// A phone number in E.164, or in one of the other ways in which people write them.
fn written(digits: &str, person: &Person, mess: Option<u64>) -> String {
    if digits.is_empty() {
        return String::new();
    }
    let country = &COUNTRY[person.country];
    let (calling, trunk) = (country.calling, if country.trunk { "0" } else { "" });
    let (area, rest) = digits.split_at(3);
    match mess.map(|hash| hash % 5) {
        None => format!("+{calling}{digits}"),
        Some(0) => format!("00{calling} {area} {rest}"),
        Some(1) => format!("{trunk}{area}/{rest}"),
        Some(2) => format!("({trunk}{area}) {}-{}", &rest[..3], &rest[3..]),
        Some(3) => format!("+{calling} {area} {} {}", &rest[..3], &rest[3..]),
        Some(_) => format!("{trunk}{area}.{rest}"),
    }
}
