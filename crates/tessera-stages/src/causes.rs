//! Causes: why a KPI is another one than on an earlier night, in terms that add up to the change exactly.
//!
//! Reads two nights' people, as [`crate::figures`] puts them together, and what both nights tell of their KPIs. Writes `kpi_changes`. A KPI is a
//! sum, or a ratio of two, of values per customer; so its change is what customers add who came, left or moved, what their accounts
//! make of them now, what is known of the earlier night only now, and what those who stayed do otherwise. Terms of few people are told
//! together, where nothing that is told gives them away (see [`crate::suppress::lines`]).
//!
//! Everything of a night is compared with the last published one before it, with that of its date a year before and with the declared
//! baseline. No KPI is named here: its sums and the factors of one are entries of the catalogue.
//!
//! Where a change happened is searched over cells ([`grids`]): people, or the rows that a KPI adds up, by every combination of the values of the
//! dimensions of `[causes]`. Only these cells reach the process; the search over them ([`tessera_algo::localise`]) knows no table, and
//! what it finds is told in `causes`.

mod days;
mod first;
mod found;
mod grids;
mod hidden;
mod memory;
mod people;
mod restated;
mod table;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::DataFrame;
use futures::FutureExt;
use jiff::civil::Date;
use tessera_contract::{AsOf, Kpi, Whose};

use self::{
    memory::Memory,
    people::Between,
    table::{Changes, Row},
};
use crate::{Night, Outcome, Output, Stage, StageError, StageFuture, kpis, rows};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "causes",
    purpose: "takes the change of every KPI since earlier nights apart, in terms that add up to it",
    sources: false,
    reads: &[
        "quality",
        "features",
        "prospects",
        "segments",
        "segment_moves",
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "accounts",
        "golden_records",
        "customer_value",
        "kpis",
    ],
    reads_previous: &[],
    reads_neighbours: &[],
    reads_history: &[
        "features",
        "prospects",
        "segments",
        "segment_lineage",
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "accounts",
        "golden_records",
        "customer_value",
        "kpis",
        "quality",
        "cause_episodes",
    ],
    writes: &["kpi_changes", "causes", "cause_episodes"],
    settings: &["kpis", "comparison", "causes", "features", "segmentation.population", "privacy"],
    decides: None,
    run,
};

/// The comparison with the night four weeks before: of places only, for what no single night shows.
const MONTH: &str = "month_ago";

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    causes(night).boxed()
}

async fn causes(night: &Night<'_>) -> Result<Outcome, StageError> {
    let k = i64::try_from(night.project.privacy.k).unwrap_or(i64::MAX);
    let now = Told::of(night, night.input("kpis")?).await?;
    let (mut table, mut found) = (Vec::new(), Vec::new());
    for (versus, (date, tables)) in compared(night) {
        // Of a night before segments had a lineage, an id says nothing.
        let Some(told) = tables.get("kpis").filter(|_| tables.contains_key("segment_lineage")) else { continue };
        let then = Told::of(night, told).await?;
        let (both, others): (Vec<_>, Vec<_>) =
            night.project.enabled_kpis().partition(|(name, _)| now.tells(name) && then.tells(name));
        let sums = Sums::of(both.iter().map(|(_, kpi)| *kpi));
        let as_of = AsOf::new(*date, &night.project.project.timezone).map_err(|e| StageError::Data(e.to_string()))?;
        let between = Between::of(night, as_of, tables, versus == "previous", &sums.list).await?;
        let mut changes = Vec::new();
        Changes::new(versus, as_of, [&then, &now], &sums, &between, k).add(&both, &mut changes)?;
        if versus == MONTH {
            // Terms of more pairs of nights would tell more of few people, and places are what is asked for.
            changes.retain(|row| row.state == table::REDEFINED);
        }
        found::causes(night, (versus, as_of), tables, [&then, &now], (&both, &sums), (&changes, &between), &mut found)
            .await?;
        if versus == MONTH {
            continue;
        }
        table.append(&mut changes);
        table.extend(others.into_iter().map(|(name, _)| Row {
            kpi: name.to_owned(),
            versus,
            days: as_of.days(),
            state: "not_available",
            ..Row::default()
        }));
    }
    let mut memory = Memory::of(night).await?;
    memory.add(night.as_of, night.history.first().map(|(date, _)| *date), &mut found);
    memory.emerging(&mut found);
    let tables = [
        ("kpi_changes", table::frame(night, &table)?),
        ("causes", found::frame(night, &found)?),
        ("cause_episodes", memory.frame(night)?),
    ];
    let outputs = tables.into_iter().map(|(name, frame)| Output::table(night, name, frame));
    Ok(outputs.collect::<Result<Vec<_>, _>>()?.into())
}

/// The night four weeks before one: so many of each day of the week lie between them.
#[must_use]
pub fn month_before(as_of: AsOf) -> Option<Date> {
    as_of.date().checked_sub(jiff::Span::new().days(28)).ok()
}

/// An earlier night with its tables.
type Earlier = (Date, BTreeMap<String, DataFrame>);

/// The nights that this one is compared with.
fn compared<'a>(night: &'a Night<'_>) -> impl Iterator<Item = (&'static str, &'a Earlier)> {
    let dated = |date: Option<Date>| night.history.iter().find(|(earlier, _)| Some(*earlier) == date);
    let [year, baseline] = kpis::compared(night.project, night.as_of).map(dated);
    let month = dated(month_before(night.as_of));
    let mut all: Vec<(&'static str, &Earlier)> = Vec::new();
    for (versus, earlier) in
        [("previous", night.history.first()), ("year_ago", year), ("baseline", baseline), (MONTH, month)]
    {
        // Two nights are compared once: told twice, in other terms, they would tell more.
        if let Some(earlier) = earlier.filter(|(date, _)| all.iter().all(|(_, (other, _))| other != date)) {
            all.push((versus, earlier));
        }
    }
    all.into_iter()
}

/// What is added up of people for the KPIs: every sum once.
struct Sums {
    list: Vec<String>,
    everybody: Vec<bool>,
}

impl Sums {
    fn of<'a>(kpis: impl Iterator<Item = &'a Kpi>) -> Self {
        let mut all = BTreeSet::new();
        for kpi in kpis {
            all.extend(of_kpi(kpi).into_iter().map(|sum| (sum, kpi.population == Whose::Everybody)));
        }
        let (list, everybody) = all.into_iter().unzip();
        Self { list, everybody }
    }

    /// The numerator of a KPI, and its denominator if it is a ratio.
    fn told_of(&self, kpi: &Kpi) -> Vec<usize> {
        let sums = of_kpi(kpi).into_iter().take(1 + usize::from(kpi.denominator.is_some()));
        sums.filter_map(|sum| self.place(&sum, kpi)).collect()
    }

    fn place(&self, sum: &str, kpi: &Kpi) -> Option<usize> {
        let everybody = kpi.population == Whose::Everybody;
        (0..self.list.len()).find(|at| self.list[*at] == sum && self.everybody[*at] == everybody)
    }
}

/// What is added up for a KPI: its numerator, its denominator if it is a ratio, and the sums of its factors.
fn of_kpi(kpi: &Kpi) -> Vec<String> {
    let [numerator, denominator] = kpis::added(kpi);
    let factors = kpi.factors.iter().filter_map(|factor| factor.of.as_deref()).map(|of| kpis::whose(kpi, of));
    let denominator = kpi.denominator.is_some().then_some(denominator);
    [numerator].into_iter().chain(denominator).chain(factors).collect()
}

/// What a night tells of a KPI.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Figure {
    numerator: i128,
    denominator: i128,
    value: Option<f64>,
}

/// What a night tells of its KPIs.
struct Told {
    figures: BTreeMap<(String, Option<i64>), Option<Figure>>,
    segments: BTreeSet<i64>,
}

impl Told {
    async fn of(night: &Night<'_>, kpis: &DataFrame) -> Result<Self, StageError> {
        let query = "SELECT segment_id, kpi, value, numerator, denominator FROM kpis WHERE state NOT IN ('not_available', 'not_identifiable')";
        let batch = rows::collect(night.over(query, &[("kpis", kpis)]).await?).await?;
        let (segments, names) = (rows::integers(&batch, "segment_id")?, rows::texts(&batch, "kpi")?);
        let (x, y) = (rows::money(&batch, "numerator")?, rows::money(&batch, "denominator")?);
        let value = rows::floats(&batch, "value")?;
        let mut told = Self { figures: BTreeMap::new(), segments: segments.iter().flatten().copied().collect() };
        for row in 0..batch.num_rows() {
            let figure = x[row].map(|x| Figure { numerator: x, denominator: y[row].unwrap_or(0), value: value[row] });
            told.figures.insert((names[row].clone().unwrap_or_default(), segments[row]), figure);
        }
        Ok(told)
    }

    /// Whether the night has the KPI.
    fn tells(&self, kpi: &str) -> bool {
        self.figures.contains_key(&(kpi.to_owned(), None))
    }

    /// What it says of it, if that is not hidden; of a segment that is not there, nothing is added up.
    fn figure(&self, kpi: &str, segment: Option<i64>) -> Option<Figure> {
        match segment {
            Some(id) if !self.segments.contains(&id) => Some(Figure::default()),
            _ => self.figures.get(&(kpi.to_owned(), segment)).copied().flatten(),
        }
    }
}

#[cfg(test)]
mod tests;
