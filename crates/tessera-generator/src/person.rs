//! The person behind a customer number, as the customer file shows it: name, address, e-mail, phone, birth, income. A second account
//! is the same person typed again.

use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

use crate::archetype::ARCHETYPE;
use crate::calendar::{civil, epoch_day};
use crate::customer::{Likeness, Profile};
use crate::names::{COUNTRY, DOMAIN, EDUCATION, FAMILY, JOB, MEN, STREET, WOMEN};
use crate::random::{self, Purpose, Weights, below, chance, uniform};

/// What the customer file says about a person. Empty strings stand for nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Person {
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    /// Significant digits, without country and trunk prefix.
    pub phone: String,
    pub birth: i32,
    pub sex: Option<&'static str>,
    /// Cents a year.
    pub income: i64,
    pub education: Option<&'static str>,
    pub job: Option<&'static str>,
    pub street: String,
    pub zip: String,
    pub country: usize,
    pub city: usize,
}

/// Draws persons: the weights that all share.
pub(crate) struct People {
    seed: u64,
    first: i32,
    countries: Weights,
    educations: Weights,
}

impl People {
    /// `first` is the first day of the data, which ages refer to.
    pub(crate) fn new(seed: u64, first: i32) -> Self {
        let weights = |of: &dyn Fn(usize) -> f64, n: usize| Weights::new(&(0..n).map(of).collect::<Vec<_>>());
        Self {
            seed,
            first,
            countries: weights(&|i| COUNTRY[i].weight, COUNTRY.len()),
            educations: weights(&|i| EDUCATION[i].1, EDUCATION.len()),
        }
    }

    /// The person behind a profile.
    pub(crate) fn person(&self, profile: &Profile) -> Person {
        match profile.duplicate_of {
            None => match profile.looks_like {
                None => self.original(profile.number, profile.archetype),
                Some((other, archetype, how)) => {
                    alike(self.original(profile.number, profile.archetype), &self.original(other, archetype), how)
                }
            },
            Some(original) => {
                let mut rng = random::stream(self.seed, Purpose::Retyped, profile.number);
                retyped(self.original(original, profile.archetype), profile.number, &mut rng)
            }
        }
    }

    /// The same person some time later: moved, or with another phone number.
    pub(crate) fn changed(&self, person: &Person, number: u64) -> Person {
        let mut rng = random::stream(self.seed, Purpose::Retyped, number ^ (1 << 62));
        let mut later = person.clone();
        if chance(&mut rng, 0.6) {
            later.city = below(&mut rng, COUNTRY[later.country].cities.len());
            later.street = street(&mut rng);
            later.zip = zip(&later, &mut rng);
        } else {
            later.phone = phone(number ^ (1 << 40), &mut rng);
        }
        later
    }

    fn original(&self, number: u64, archetype: usize) -> Person {
        let kind = &ARCHETYPE[archetype];
        let mut rng = random::stream(self.seed, Purpose::Person, number);
        let woman = chance(&mut rng, kind.women);
        let names = if woman { &WOMEN } else { &MEN };
        // Squaring makes some names common and others rare, as names are.
        let (a, b) = (uniform(&mut rng), uniform(&mut rng));
        let first_name = names[(a * a * names.len() as f64) as usize];
        let last_name = FAMILY[(b * b * FAMILY.len() as f64) as usize];
        let age: f64 = StandardNormal.sample(&mut rng);
        let age = (kind.age + 9.0 * age).clamp(18.0, 92.0);
        let birth = self.first - (age * 365.25) as i32 - below(&mut rng, 365) as i32;
        let sex = match uniform(&mut rng) {
            u if u < 0.03 => None,
            u if u < 0.045 => Some("x"),
            _ if woman => Some("f"),
            _ => Some("m"),
        };
        let country = self.countries.draw(&mut rng);
        let education = self.educations.draw(&mut rng);
        let luck: f64 = StandardNormal.sample(&mut rng);
        let factor = kind.income * EDUCATION[education].2 * COUNTRY[country].income;
        let income = (34_000.0 * factor * (0.28 * luck).exp()).min(900_000.0);
        let mut person = Person {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            email: String::new(),
            phone: String::new(),
            birth,
            sex,
            income: (income * 100.0).round() as i64,
            education: (!chance(&mut rng, 0.04)).then_some(EDUCATION[education].0),
            job: Some(JOB[below(&mut rng, JOB.len())]),
            street: street(&mut rng),
            zip: String::new(),
            country,
            city: 0,
        };
        if chance(&mut rng, 0.06) {
            person.job = None;
        }
        person.city = (uniform(&mut rng).powi(2) * 4.0) as usize;
        person.zip = zip(&person, &mut rng);
        let (has_email, has_phone) = (chance(&mut rng, 0.97), chance(&mut rng, 0.84));
        let domain = DOMAIN[below(&mut rng, DOMAIN.len())];
        if has_email {
            let (first, last) = (plain(first_name), plain(last_name));
            person.email = match below(&mut rng, 3) {
                0 => format!("{first}.{last}{}@{domain}", base36(number)),
                1 => format!("{last}{}@{domain}", base36(number)),
                _ => format!("{first}{}{}@{domain}", civil(birth).0, base36(number)),
            };
        }
        if has_phone {
            person.phone = phone(number, &mut rng);
        }
        person
    }
}

/// Somebody else who shares with another person what tells people apart.
fn alike(mut person: Person, other: &Person, how: Likeness) -> Person {
    let home = |person: &mut Person| {
        (person.country, person.city) = (other.country, other.city);
        (person.street, person.zip) = (other.street.clone(), other.zip.clone());
    };
    let names = if WOMEN.contains(&person.first_name.as_str()) { &WOMEN } else { &MEN };
    let at = names.iter().position(|name| *name == person.first_name).unwrap_or(0);
    let unlike = |name: &&&str| {
        let (a, b) = (plain(name), plain(&other.first_name));
        a[..2] != b[..2] && !a.contains(&b) && !b.contains(&a)
    };
    let own = names.iter().cycle().skip(at).take(names.len()).find(unlike).copied().unwrap_or("Xaver");
    match how {
        Likeness::Namesake => {
            person.first_name.clone_from(&other.first_name);
            person.sex = other.sex;
            // Born when the other was 19 to 33.
            person.birth = other.birth + 7_000 + (person.birth.rem_euclid(5_000));
        }
        _ => own.clone_into(&mut person.first_name),
    }
    match how {
        Likeness::Twin => {
            home(&mut person);
            (person.birth, person.last_name) = (other.birth, other.last_name.clone());
        }
        Likeness::Namesake => {
            home(&mut person);
            (person.last_name, person.phone) = (other.last_name.clone(), other.phone.clone());
        }
        Likeness::FamilyEmail => {
            home(&mut person);
            (person.last_name, person.email) = (other.last_name.clone(), other.email.clone());
        }
        Likeness::SharedPhone => {
            home(&mut person);
            person.phone.clone_from(&other.phone);
        }
        Likeness::RecycledPhone => {
            person.country = other.country;
            person.phone.clone_from(&other.phone);
        }
    }
    person
}

/// A person typed in again: some fields left out, some mistyped, some changed.
fn retyped(mut person: Person, number: u64, rng: &mut Pcg64) -> Person {
    if chance(rng, 0.35) {
        person.first_name = typo(&person.first_name, rng);
    }
    if chance(rng, 0.35) {
        person.last_name = typo(&person.last_name, rng);
    }
    match uniform(rng) {
        u if u < 0.55 => {}
        u if u < 0.75 => person.email = person.email.replacen('@', ".private@", 1),
        _ => person.email.clear(),
    }
    match uniform(rng) {
        u if u < 0.55 => {}
        u if u < 0.75 => person.phone = phone(number ^ (1 << 41), rng),
        _ => person.phone.clear(),
    }
    if chance(rng, 0.08) {
        // Day and month swapped where that is a date, else a day off.
        let (y, m, d) = civil(person.birth);
        let swapped = jiff::civil::Date::new(y as i16, d as i8, m as i8);
        person.birth = swapped.map_or(person.birth + 1, epoch_day);
    }
    if chance(rng, 0.3) {
        person.street = street(rng);
        person.zip = zip(&person, rng);
    }
    person
}

/// One slip of the fingers: a letter lost, doubled or swapped with the next.
fn typo(name: &str, rng: &mut Pcg64) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    let at = 1 + below(rng, letters.len().saturating_sub(2));
    match below(rng, 3) {
        0 if letters.len() > 3 => {
            letters.remove(at);
        }
        1 if at + 1 < letters.len() => letters.swap(at, at + 1),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}

fn street(rng: &mut Pcg64) -> String {
    let name = STREET[below(rng, STREET.len())];
    format!("{name} {}", 1 + below(rng, 180))
}

fn zip(person: &Person, rng: &mut Pcg64) -> String {
    let prefix = COUNTRY[person.country].cities[person.city].2;
    format!("{prefix}{:03}", below(rng, 1000))
}

fn phone(number: u64, rng: &mut Pcg64) -> String {
    // Odd multipliers are bijections modulo a power of ten's coprime part: few people share a number by accident.
    format!("1{:02}{:07}", 50 + below(rng, 30), number.wrapping_mul(7_654_321).wrapping_add(2_345_678) % 10_000_000)
}

/// Lower-case ASCII letters of a name.
fn plain(name: &str) -> String {
    let fold = |c: char| match c {
        'é' | 'è' | 'É' => 'e',
        'ü' => 'u',
        'í' => 'i',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).filter(char::is_ascii_lowercase).collect()
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}
