//! What is wrong with the data, on purpose: how often, in which entity, and how often it happened. A row's fate is a hash of its
//! identity, so the same row is damaged in the same way wherever the data ends and however it is cut into files.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::random::{self, Purpose};

/// Rates of damage, as fractions of rows. Those of the first group are exclusive: a row suffers at most one of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dirt {
    /// The row stands twice in its file.
    pub duplicate_row: f64,
    /// The row stands again in the part's `-resent` file (transactions).
    pub duplicate_elsewhere: f64,
    /// The customer number is empty.
    pub missing_customer: f64,
    /// The customer number (`L…`, of a shop system long gone) is in no customer file.
    pub orphan_customer: f64,
    /// The price of a purchase is zero or negative.
    pub non_positive_price: f64,
    /// The quantity of a purchase is zero.
    pub zero_quantity: f64,
    /// The date cannot be read (CSV) or is missing (Parquet).
    pub unreadable_date: f64,
    /// The date lies in the year 2099.
    pub far_future: f64,
    /// A million pieces, a price of 99,999,999.99, a score of 99, an income of 999,999,999.99, a birth in 1893.
    pub absurd_number: f64,
    /// The line lacks its last two fields, or has two too many (CSV).
    pub ragged_line: f64,
    /// The line contains bytes that are not UTF-8 (CSV).
    pub invalid_utf8: f64,

    /// The country is none (`U$`, `N/A`, …).
    pub malformed_country: f64,
    /// The country is in lower case or has a blank behind it.
    pub lower_case_country: f64,
    /// The e-mail address has capitals and blanks.
    pub messy_email: f64,
    /// The phone number is not in international form (`0171/234 56-78`, `0049 …`).
    pub messy_phone: f64,
    /// The income is empty.
    pub missing_income: f64,
    /// The customer is sent again later, with changes, under the same number.
    pub resent_customer: f64,
    /// The number is a second account of somebody who has one already, with typing mistakes.
    pub duplicate_person: f64,
    /// The number is of somebody else who looks like a customer before: a twin, a child of the same name, with the family's e-mail address, with a
    /// shared telephone or a number that was somebody's before.
    pub lookalike_person: f64,
}

impl Default for Dirt {
    fn default() -> Self {
        Self {
            duplicate_row: 0.004,
            duplicate_elsewhere: 0.003,
            missing_customer: 0.006,
            orphan_customer: 0.003,
            non_positive_price: 0.003,
            zero_quantity: 0.001,
            unreadable_date: 0.0008,
            far_future: 0.0003,
            absurd_number: 0.00002,
            ragged_line: 0.00001,
            invalid_utf8: 0.00001,
            malformed_country: 0.003,
            lower_case_country: 0.02,
            messy_email: 0.06,
            messy_phone: 0.35,
            missing_income: 0.05,
            resent_customer: 0.04,
            duplicate_person: 0.02,
            lookalike_person: 0.01,
        }
    }
}

impl Dirt {
    /// A spotless shop.
    pub fn none() -> Self {
        Self {
            duplicate_row: 0.0,
            duplicate_elsewhere: 0.0,
            missing_customer: 0.0,
            orphan_customer: 0.0,
            non_positive_price: 0.0,
            zero_quantity: 0.0,
            unreadable_date: 0.0,
            far_future: 0.0,
            absurd_number: 0.0,
            ragged_line: 0.0,
            invalid_utf8: 0.0,
            malformed_country: 0.0,
            lower_case_country: 0.0,
            messy_email: 0.0,
            messy_phone: 0.0,
            missing_income: 0.0,
            resent_customer: 0.0,
            duplicate_person: 0.0,
            lookalike_person: 0.0,
        }
    }

    /// The rate of a kind.
    pub(crate) fn rate(&self, kind: Kind) -> f64 {
        (KINDS[kind as usize].2)(self)
    }
}

/// Looks a rate up.
type Rate = fn(&Dirt) -> f64;

/// Kinds of damage in the order of [`Kind`], with name and rate.
pub(crate) const KINDS: [(Kind, &str, Rate); 19] = [
    (Kind::DuplicateRow, "duplicate_row", |dirt| dirt.duplicate_row),
    (Kind::DuplicateElsewhere, "duplicate_elsewhere", |dirt| dirt.duplicate_elsewhere),
    (Kind::MissingCustomer, "missing_customer", |dirt| dirt.missing_customer),
    (Kind::OrphanCustomer, "orphan_customer", |dirt| dirt.orphan_customer),
    (Kind::NonPositivePrice, "non_positive_price", |dirt| dirt.non_positive_price),
    (Kind::ZeroQuantity, "zero_quantity", |dirt| dirt.zero_quantity),
    (Kind::UnreadableDate, "unreadable_date", |dirt| dirt.unreadable_date),
    (Kind::FarFuture, "far_future", |dirt| dirt.far_future),
    (Kind::AbsurdNumber, "absurd_number", |dirt| dirt.absurd_number),
    (Kind::RaggedLine, "ragged_line", |dirt| dirt.ragged_line),
    (Kind::InvalidUtf8, "invalid_utf8", |dirt| dirt.invalid_utf8),
    (Kind::MalformedCountry, "malformed_country", |dirt| dirt.malformed_country),
    (Kind::LowerCaseCountry, "lower_case_country", |dirt| dirt.lower_case_country),
    (Kind::MessyEmail, "messy_email", |dirt| dirt.messy_email),
    (Kind::MessyPhone, "messy_phone", |dirt| dirt.messy_phone),
    (Kind::MissingIncome, "missing_income", |dirt| dirt.missing_income),
    (Kind::ResentCustomer, "resent_customer", |dirt| dirt.resent_customer),
    (Kind::DuplicatePerson, "duplicate_person", |dirt| dirt.duplicate_person),
    (Kind::LookalikePerson, "lookalike_person", |dirt| dirt.lookalike_person),
];

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    DuplicateRow,
    DuplicateElsewhere,
    MissingCustomer,
    OrphanCustomer,
    NonPositivePrice,
    ZeroQuantity,
    UnreadableDate,
    FarFuture,
    AbsurdNumber,
    RaggedLine,
    InvalidUtf8,
    MalformedCountry,
    LowerCaseCountry,
    MessyEmail,
    MessyPhone,
    MissingIncome,
    ResentCustomer,
    DuplicatePerson,
    LookalikePerson,
}

impl Kind {
    pub(crate) const PURCHASE: &[Self] = &[
        Self::DuplicateRow,
        Self::DuplicateElsewhere,
        Self::MissingCustomer,
        Self::OrphanCustomer,
        Self::NonPositivePrice,
        Self::ZeroQuantity,
        Self::UnreadableDate,
        Self::FarFuture,
        Self::AbsurdNumber,
        Self::RaggedLine,
        Self::InvalidUtf8,
    ];
    pub(crate) const RETURN: &[Self] = &[
        Self::DuplicateRow,
        Self::DuplicateElsewhere,
        Self::MissingCustomer,
        Self::OrphanCustomer,
        Self::UnreadableDate,
    ];
    pub(crate) const EVENT: &[Self] =
        &[Self::DuplicateRow, Self::MissingCustomer, Self::OrphanCustomer, Self::UnreadableDate, Self::FarFuture];
    pub(crate) const CONTACT: &[Self] = &[Self::DuplicateRow, Self::MissingCustomer, Self::OrphanCustomer];
    pub(crate) const SURVEY: &[Self] =
        &[Self::DuplicateRow, Self::MissingCustomer, Self::OrphanCustomer, Self::UnreadableDate, Self::AbsurdNumber];
    pub(crate) const CUSTOMER: &[Self] = &[Self::DuplicateRow, Self::AbsurdNumber, Self::UnreadableDate];
    /// Kinds that only a text file can have.
    const TEXT_ONLY: &[Self] = &[Self::RaggedLine, Self::InvalidUtf8];
}

/// Draws the fate of rows of one sort: at most one of the kinds.
#[derive(Debug)]
pub(crate) struct Fates(Vec<(Kind, f64)>);

impl Fates {
    pub(crate) fn new(dirt: &Dirt, kinds: &[Kind], text: bool) -> Self {
        let mut sum = 0.0;
        let possible = kinds.iter().filter(|kind| text || !Kind::TEXT_ONLY.contains(kind));
        let limits = possible.map(|&kind| {
            sum += dirt.rate(kind);
            (kind, sum)
        });
        Self(limits.collect())
    }

    /// The fate of a row that hashes to `hash`, most often none.
    pub(crate) fn of(&self, hash: u64) -> Option<Kind> {
        let u = random::unit(hash);
        let (_, any) = self.0.last()?;
        if u >= *any {
            return None;
        }
        self.0.iter().find(|(_, limit)| u < *limit).map(|(kind, _)| *kind)
    }
}

/// A hash for the damage of one row: the customer, and what tells the row from the customer's others.
pub(crate) fn row_hash(seed: u64, number: u64, row: u64) -> u64 {
    random::hash(seed, Purpose::Dirt, number, row)
}

/// Rows damaged, by entity and kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts([[u64; KINDS.len()]; crate::layout::ENTITIES]);

impl Counts {
    pub(crate) fn add(&mut self, entity: crate::layout::Entity, kind: Kind) {
        self.0[entity as usize][kind as usize] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *mine += theirs;
        }
    }

    /// `{entity: {kind: rows}}`, kinds that happened.
    pub(crate) fn to_json(&self) -> Value {
        let entity = |counts: &[u64]| {
            let happened = KINDS.iter().zip(counts).filter(|(_, n)| **n > 0);
            let entries = happened.map(|(kind, n)| (kind.1.to_owned(), Value::from(*n)));
            Value::Object(entries.collect())
        };
        let all = crate::layout::LAYOUT.iter().zip(&self.0);
        Value::Object(all.map(|(layout, counts)| (layout.name.to_owned(), entity(counts))).collect::<Map<_, _>>())
    }
}
