//! What a night has to say, in one value: the page, the plain text and a server read nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    QUERIES,
    read::{FactsError, Reader, Row},
    rows::{
        Backtest, Candidate, Cause, Check, Checks, Cohort, Drift, Gate, Input, Item, Kpi, Ledger, Lineage, Move, Name,
        NameBefore, Parameter, Past, Profile, Run, Term,
    },
};

/// The night that is told of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Night {
    /// Its date, as YYYY-MM-DD.
    pub as_of: String,
    /// The snapshot.
    pub snapshot_id: String,
    /// The project's name.
    pub project: String,
    /// The project's currency, such as EUR.
    pub currency: String,
    /// The project's time zone.
    pub timezone: String,
    /// How many people a figure has to be of (`privacy.k`).
    pub k: u32,
}

/// Whether an entry of the glossary is a KPI or a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A figure of many customers.
    Kpi,
    /// A figure of each customer.
    Feature,
}

/// What a name means, out of the catalogue. The order of the entries is the order of the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// KPI or feature.
    pub kind: EntryKind,
    /// Its name in the catalogue.
    pub name: String,
    /// Its unit: `share`, `currency per order`, `customers` …
    pub unit: String,
    /// What it means, in a sentence.
    pub description: String,
    /// Whether it is a KPI of what the business is after.
    pub headline: bool,
}

/// Answers by the name of the query, each a list of rows.
pub type Answers = BTreeMap<String, Vec<Map<String, Value>>>;

/// What a night has to say. An answer that was not handed over is one of a table that is not there.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub(crate) night: Night,
    pub(crate) catalogue: Vec<Entry>,
    pub(crate) kpis: Vec<Kpi>,
    pub(crate) waterfall: Vec<Term>,
    pub(crate) moves: Vec<Move>,
    pub(crate) causes: Vec<Cause>,
    pub(crate) names: Vec<Name>,
    pub(crate) names_before: Vec<NameBefore>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) drift: Vec<Drift>,
    pub(crate) lineage: Vec<Lineage>,
    pub(crate) ledger: Vec<Ledger>,
    pub(crate) checks: Vec<Check>,
    pub(crate) check_states: Vec<Checks>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) value_model: Vec<Parameter>,
    pub(crate) backtest: Vec<Backtest>,
    pub(crate) items: Vec<Item>,
    pub(crate) cohorts: Vec<Cohort>,
    pub(crate) history: Vec<Past>,
    pub(crate) nights: Vec<Run>,
    /// Where a KPI of a segment stands in `kpis`, and where its past stands in `history`, by night.
    places: BTreeMap<Option<i64>, BTreeMap<String, Places>>,
    /// The segments, the largest first.
    segments: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Places {
    kpi: Option<usize>,
    past: Vec<usize>,
}

impl Facts {
    /// Reads the answers to [`QUERIES`].
    pub fn new(night: Night, catalogue: Vec<Entry>, answers: &Answers) -> Result<Self, FactsError> {
        if !is_date(&night.as_of) {
            return Err(FactsError::Date(night.as_of));
        }
        if let Some(name) = answers.keys().find(|name| QUERIES.iter().all(|query| query.name != name.as_str())) {
            return Err(FactsError::NoQuery(name.chars().take(60).collect()));
        }
        let mut facts = Self {
            kpis: read(answers)?,
            waterfall: read(answers)?,
            moves: read(answers)?,
            causes: read(answers)?,
            names: read(answers)?,
            names_before: read(answers)?,
            profiles: read(answers)?,
            gates: read(answers)?,
            drift: read(answers)?,
            lineage: read(answers)?,
            ledger: read(answers)?,
            checks: read(answers)?,
            check_states: read(answers)?,
            inputs: read(answers)?,
            candidates: read(answers)?,
            value_model: read(answers)?,
            backtest: read(answers)?,
            items: read(answers)?,
            cohorts: read(answers)?,
            history: read(answers)?,
            nights: read(answers)?,
            places: BTreeMap::new(),
            segments: vec![],
            night,
            catalogue,
        };
        facts.find_places();
        facts.find_segments();
        Ok(facts)
    }

    fn find_places(&mut self) {
        for (i, row) in self.kpis.iter().enumerate() {
            let places = self.places.entry(row.segment).or_default().entry(row.kpi.clone()).or_default();
            places.kpi.get_or_insert(i);
        }
        let mut nights: Vec<usize> = (0..self.history.len()).collect();
        nights.sort_by_key(|i| &self.history[*i].as_of);
        for i in nights {
            let row = &self.history[i];
            self.places.entry(row.segment).or_default().entry(row.kpi.clone()).or_default().past.push(i);
        }
    }

    fn find_segments(&mut self) {
        let size = |id: i64| self.kpi("customers", Some(id)).and_then(|row| Some(row.value.as_ref()?.value));
        let ids = self.kpis.iter().filter_map(|row| row.segment).chain(self.names.iter().map(|row| row.segment));
        let ids: BTreeSet<i64> = ids.collect();
        let mut sized: Vec<(i64, f64)> = ids.into_iter().map(|id| (id, size(id).unwrap_or(-1.0))).collect();
        sized.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        self.segments = sized.into_iter().map(|(id, _)| id).collect();
    }

    /// A KPI of a segment, or of everybody.
    pub(crate) fn kpi(&self, name: &str, segment: Option<i64>) -> Option<&Kpi> {
        Some(&self.kpis[self.places.get(&segment)?.get(name)?.kpi?])
    }

    /// The unit of a KPI or feature.
    pub(crate) fn unit(&self, kind: EntryKind, name: &str) -> &str {
        self.catalogue.iter().find(|entry| entry.kind == kind && entry.name == name).map_or("", |entry| &entry.unit)
    }

    /// The KPIs of everybody, in the order of the catalogue; what it does not know comes last.
    pub(crate) fn of_everybody(&self) -> Vec<&Kpi> {
        let place = |row: &&Kpi| self.catalogue.iter().position(|e| e.kind == EntryKind::Kpi && e.name == row.kpi);
        let mut rows: Vec<&Kpi> = self.kpis.iter().filter(|row| row.segment.is_none()).collect();
        rows.sort_by_key(|row| (place(row).unwrap_or(usize::MAX), row.kpi.clone()));
        rows
    }

    /// The segments of the night, the largest first.
    pub(crate) fn segments(&self) -> Vec<i64> {
        self.segments.clone()
    }

    /// A KPI over the nights, the oldest first.
    pub(crate) fn past(&self, kpi: &str, segment: Option<i64>) -> Vec<&Past> {
        let places = self.places.get(&segment).and_then(|of| of.get(kpi));
        places.map(|places| places.past.iter().map(|i| &self.history[*i]).collect()).unwrap_or_default()
    }

    /// The date of the night that tonight is held against.
    pub(crate) fn since(&self) -> Option<&str> {
        let told = self.waterfall.iter().find_map(|row| row.since.as_deref());
        let found = self.causes.iter().find_map(|row| row.since.as_deref());
        let before =
            || self.history.iter().map(|row| row.as_of.as_str()).filter(|date| *date < self.night.as_of.as_str());
        told.or(found).or_else(|| before().max())
    }
}

fn read<R: Row>(answers: &Answers) -> Result<Vec<R>, FactsError> {
    let rows = answers.get(R::QUERY).map(Vec::as_slice).unwrap_or_default();
    rows.iter().enumerate().map(|(i, columns)| R::read(&Reader { query: R::QUERY, row: i + 1, columns })).collect()
}

fn is_date(text: &str) -> bool {
    let digit = |range: std::ops::Range<usize>| text.as_bytes()[range].iter().all(u8::is_ascii_digit);
    text.len() == 10
        && text.is_ascii()
        && digit(0..4)
        && digit(5..7)
        && digit(8..10)
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[7] == b'-'
}
