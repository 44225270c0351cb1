//! Ingest: sources → clean rows, quarantine, accounts, and a count of every file.
//!
//! Reads the sources of the project file. Writes `clean_<entity>` for each entity, `quarantine` (every row that did not
//! stay, with all the rules it failed and the one at which it left), `account_ids` and `inputs` (rows and money of
//! every file, counted apart from the cleaning so that the ledger proves something).
//!
//! A row is cleaned once. Where the parent night has read a source, only the files that it did not know are read, and these
//! *arrivals* go the way that all rows go, with two things of the parent night beside them:
//!
//! - the rows that *wait*, kept as they stand in the source: those of customers whom nobody knew, and those at or after the
//!   instant of the night. They are arrivals again every night, until what they wait for has come.
//! - the *seen* rows: a hash and the event time of every row that was there when repeats were looked for, so that a repeat is found without reading the rows. Equal
//!   rows have equal times, so that only the times of tonight's arrivals are looked up.
//!
//! What the parent night had of clean and set-aside rows stays. Where that does not suffice ([`reads_all`],
//! [`StageError::ReadAll`]), the source is read as a whole, and the answer is the same: what a rule says of a row never
//! depends on the night on which it came. Therefore rules that ask for other rows (who is known, what repeats) are asked only
//! of rows that no rule before them turned away. Customers are always judged as a whole, since the row of a customer that
//! counts is chosen among all; but where their files are those of the parent night, what it found stays, and only the rows that
//! waited are judged, with those that they rival (`again`).
//!
//! To add a rule, add an entry under `[quality.rules]`. To add an entity, add it to the contract.

mod accounts;
mod again;
mod arrivals;
pub mod guess;
mod inputs;
mod judge;
pub mod looks;
mod mapping;
mod preview;
mod rivals;
mod routes;
mod waterfall;

use datafusion::{
    arrow::record_batch::RecordBatch,
    logical_expr::{ident, not},
    prelude::{DataFrame, lit},
};
use futures::FutureExt;
use tessera_contract::Entity;
use tessera_engine::write::{Lifetime, Route};

use self::{
    accounts::People,
    again::{again, verdicts},
    arrivals::{arrivals, keeps_waiting, seen, waiting},
    judge::Judge,
    rivals::{CONTESTED, Census, census},
    routes::NAMED,
};
pub use self::{
    arrivals::reads_all,
    mapping::{Mapping, map},
    preview::{Preview, Understood, preview},
    waterfall::{Step, steps},
};
use crate::{Availability, Night, Outcome, Output, Source, Stage, StageError, StageFuture};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "ingest",
    purpose: "reads the sources, sets aside what breaks a rule, and counts every row and every amount",
    sources: true,
    reads: &[],
    reads_previous: &[
        "inputs",
        "account_ids",
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
    ],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &[
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "clean_marketing_costs",
        "quarantine",
        "account_ids",
        "inputs",
    ],
    settings: &["project.timezone", "sources", "files", "quality.rules", "quality.events_after_as_of"],
    decides: None,
    run,
};

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    ingest(night).boxed()
}

/// See the module.
async fn ingest(night: &Night<'_>) -> Result<Outcome, StageError> {
    let mut outcome = Outcome::default();
    let mut files = Vec::new();
    let mut given = Availability::default();
    let source = |entity| night.sources.iter().find(|s| s.entity == entity);
    let customers = source(Entity::Customers);
    // The customers first, or, where nobody gives them, what names them.
    let naming = customers.or_else(|| source(Entity::Transactions));
    let naming = naming.ok_or_else(|| StageError::Data("no source of transactions is given".into()))?;
    let (judge, people) = match again(night, naming).await? {
        Some(again) => {
            let people = match again.leave(night, naming, &mut outcome).await? {
                Some(named) => accounts::people(night, naming.entity, Some(named), true, &mut outcome).await?,
                None => accounts::those_of_the_parent(night, &mut outcome).await?,
            };
            files.push(again.files);
            (again.judge, people)
        }
        None => {
            let cleaned = clean(night, naming, None, &mut outcome).await?;
            files.push(inputs::inputs(night, naming, &cleaned.judge.mapping, cleaned.files).await?);
            let goes_on = naming.before.is_some();
            (cleaned.judge, accounts::people(night, naming.entity, cleaned.named, goes_on, &mut outcome).await?)
        }
    };
    given.entities.insert(naming.entity.name().to_owned(), judge.given());
    for entity in Entity::ALL.into_iter().filter(|entity| *entity != naming.entity) {
        let Some(source) = source(entity) else {
            if entity != Entity::Customers {
                let table = night.table(&entity.clean_table())?;
                let empty = night.engine.none(table.file_schema())?;
                outcome.outputs.push(Output::table(night, &table.name, empty)?);
            }
            continue;
        };
        let cleaned = clean(night, source, Some(&people), &mut outcome).await?;
        if cleaned.judge.asks && source.before.is_some() {
            people.gone_are_nobodys(night, &cleaned.judge).await?;
        }
        given.entities.insert(entity.name().to_owned(), cleaned.judge.given());
        files.push(inputs::inputs(night, source, &cleaned.judge.mapping, cleaned.files).await?);
    }
    let all = files.into_iter().try_fold(None, |all: Option<DataFrame>, one| match all {
        Some(all) => all.union(one).map(Some),
        None => Ok(Some(one)),
    })?;
    if let Some(all) = all {
        outcome.outputs.push(Output::table(night, "inputs", all)?);
    }
    outcome.availability = Some(given);
    Ok(outcome)
}

/// Whether rules may ask if the customer of a row is a clean one: only where customers are given.
#[must_use]
pub fn asks_who_is_known(sources: &[Source], entity: Entity) -> bool {
    let given = sources.iter().any(|s| s.entity == Entity::Customers);
    given && entity.has_customer() && entity != Entity::Customers
}

/// Plans what can be planned of the sources without reading a row.
///
/// # Errors
/// When a column cannot be mapped, or a rule does not fit the columns.
pub(crate) async fn plan(night: &Night<'_>) -> Result<Availability, StageError> {
    let nobody = night.over("SELECT '' AS customer_id, '' AS account_key WHERE false", &[]).await?;
    let nobody = People::of(night, nobody).await?;
    let mut given = Availability::default();
    for source in night.sources {
        let judge = Judge::of(night, source).await?;
        let judged = judge.judged(night, &arrivals(night, source, &judge.mapping).await?).await?;
        Census::of_nothing().decide(night, &judge, &judge.keyed(night, judged, Some(&nobody)).await?).await?;
        given.entities.insert(source.entity.name().to_owned(), judge.given());
    }
    Ok(given)
}

/// A source whose rows are where they belong.
struct Cleaned {
    judge: Judge,
    /// Rows and money by file.
    files: RecordBatch,
    /// Whom the clean rows name, where the source names the customers.
    named: Option<DataFrame>,
}

/// Reads a source twice: to count it and find what repeats, and to send each of its rows where it belongs. `people` are the
/// customers; without them, it is the source that names them.
async fn clean(
    night: &Night<'_>,
    source: &Source,
    people: Option<&People>,
    outcome: &mut Outcome,
) -> Result<Cleaned, StageError> {
    let entity = source.entity;
    let judge = Judge::of(night, source).await?;
    let merges = routes::repeats(&judge)?.is_some();
    let mut before = None;
    if source.before.is_some() {
        for feed in &source.feeds {
            let kept = night.kept.get(&waiting(entity, feed.name.as_deref()));
            kept.filter(|kept| kept.stamp == judge.stamp).ok_or_else(|| StageError::ReadAll {
                entity,
                why: "their columns, their rules or the program changed since the parent night".into(),
            })?;
        }
        before = night.kept.get(&seen(entity)).map(|seen| &seen.frame);
        outcome.stays(&entity.clean_table(), "");
        outcome.stays("quarantine", entity.name());
        if merges {
            outcome.stays(&seen(entity), "");
        }
    }
    outcome.stamps.insert(verdicts(entity), judge.stamp.clone());
    for feed in source.feeds.iter().filter(|_| keeps_waiting(night.project, entity)) {
        outcome.stamps.insert(waiting(entity, feed.name.as_deref()), judge.stamp.clone());
    }
    if merges && reads_all(night.project, entity).is_none() {
        outcome.stamps.insert(seen(entity), judge.stamp.clone());
    }

    let mut rows = arrivals(night, source, &judge.mapping).await?;
    for (feed, rows) in source.feeds.iter().zip(&mut rows).filter(|(feed, _)| feed.computed) {
        let name = format!("{entity}_{}_query", feed.name.as_deref().unwrap_or_default());
        *rows = night.engine.materialise(rows.clone(), &name).await?;
    }
    let judged = judge.judged(night, &rows).await?;
    let census = census(night, &judge, source, &judged, before).await?;
    let naming = people.is_none();
    let keyed = judge.keyed(night, census.mark(night, &judge, judged).await?, people).await?;
    let alone = judge.verdict(night, &keyed).await?;
    let mut routes = routes::routes(night, source, &judge, &alone, naming).await?;
    if !census.finds_rivals() {
        let mut frames = night.write(outcome, Output { frame: alone, routes }).await?;
        return Ok(Cleaned { judge, files: census.files, named: frames.remove(NAMED) });
    }
    let alone_only = |route: Route| {
        let filter = route.filter.map(|filter| not(ident(CONTESTED)).and(filter));
        Route { filter, ..route }
    };
    // What they fail of what asks for other rows is found out among themselves.
    let own = waterfall::bits(&judge.steps, |step| !step.asks_known);
    let columns = keyed.schema().fields().iter().map(|f| match f.name().as_str() {
        "mask" => (ident("mask") & lit(own)).alias("mask"),
        name => ident(name).alias(name),
    });
    let contested = Route::other(CONTESTED, columns.collect(), Lifetime::Scratch);
    let contested = Route { filter: Some(ident(CONTESTED)), ..contested };
    let first = routes.clone().into_iter().map(alone_only).chain([contested]).collect();
    let mut frames = night.write(outcome, Output { frame: alone, routes: first }).await?;
    let contested = frames.remove(CONTESTED);
    let contested = contested.ok_or_else(|| StageError::Data(format!("no row of {entity} was contested")))?;
    let decided = census.decide(night, &judge, &contested).await?;
    // They are few, and would be many small files.
    routes.iter_mut().for_each(|route| route.buckets = None);
    let mut more = night.write(outcome, Output { frame: decided, routes }).await?;
    let named = match (frames.remove(NAMED), more.remove(NAMED)) {
        (Some(named), Some(more)) => Some(named.union(more)?),
        _ => None,
    };
    Ok(Cleaned { judge, files: census.files, named })
}

#[cfg(test)]
mod tests;
