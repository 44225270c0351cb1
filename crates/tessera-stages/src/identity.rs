//! Identity: which accounts are one person.
//!
//! Reads the accounts and what their customers say. Writes `identity` and `accounts` (to which customer an account belongs),
//! `golden_records` (what a person of several accounts is), `identity_pairs` (who was found to be one, or to look like it, and why),
//! `identity_model` (by which weights) and `identity_report`.
//!
//! Accounts are brought into one shape (`fields`), compared within blocks (`pairs`), weighed by parameters that are learned once and then
//! stand in the snapshot (`model`), and put together (`people`). A pair that was weighed on an earlier night keeps its weight as long as neither account
//! changed and the parameters stand: a night compares the accounts that are new or say something else with those of their blocks. What
//! it goes on from are published tables, so that a night that reads all sources anew gives the same; in which blocks everybody is, it keeps, and
//! finds out again where that is not there.
//!
//! Keys persist: a person keeps the key that the parent night gave (`tessera_algo::persons`).

mod fields;
mod golden;
mod live;
mod model;
mod pairs;
mod people;
mod report;

use datafusion::prelude::DataFrame;
use futures::FutureExt;

use self::{fields::Plan, live::Live, model::Model, pairs::Compared};
use crate::{Night, Outcome, Output, Stage, StageError, StageFuture, rows};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "identity",
    purpose: "finds which accounts are one person",
    sources: false,
    reads: &["account_ids", "clean_customers", "clean_transactions"],
    reads_previous: &[
        "identity",
        "identity_pairs",
        "identity_model",
        "clean_customers",
        "golden_records",
        "golden_ledger",
    ],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &[
        "identity",
        "accounts",
        "golden_records",
        "golden_ledger",
        "identity_pairs",
        "identity_model",
        "identity_report",
    ],
    settings: &["identity"],
    decides: None,
    run,
};

/// Of so many accounts, those of their blocks are looked for; of more, all are compared.
const FEW: u64 = 4_000;

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    identity(night).boxed()
}

async fn identity(night: &Night<'_>) -> Result<Outcome, StageError> {
    let mut outcome = Outcome::default();
    let settings = &night.project.identity;
    let plan = Plan::of(night).await?;
    let before = Before::of(night);
    let accounts = rows::count(night, night.input("clean_customers")?).await?;
    let mut model = None;
    let mut live = None;
    let mut pairs = Vec::new();
    let mut compared = Compared::default();
    let mut of_nobody = 0;
    if settings.enabled && plan.compares() && accounts > 1 {
        let known = match before {
            Some(before) => Model::read(night, &plan, before.model, accounts).await?,
            None => None,
        };
        // Under other rules all pairs are told anew, by the weights that are known.
        let told = known.as_ref().is_some_and(|known| known.tells(&plan, night));
        let known = known.map(|known| known.telling(&plan, night));
        let changed = match (before, &known) {
            (Some(before), Some(_)) if told => Some(changed(night, before.customers).await?),
            _ => None,
        };
        let few = changed.as_ref().is_some_and(|c| c.count <= FEW);
        if changed.as_ref().is_none_or(|c| c.count > 0) {
            let fields = plan.fields(night, changed.as_ref(), few, &mut outcome).await?;
            let blocks = plan.blocks(night, &fields).await?;
            let learned = match known {
                Some(known) => known,
                None => Model::learn(night, &plan, &fields, &blocks, accounts).await?,
            };
            pairs = pairs::compare(night, &plan, &blocks, &learned).await?;
            compared = blocks.counts;
            model = Some(learned);
        } else {
            plan.hold(night, &mut outcome);
            model = known;
        }
        if let (Some(before), Some(changed)) = (before, &changed) {
            live = Live::of(night, before, changed, &pairs).await?;
            pairs.extend(match &live {
                Some(live) => live.kept(night, before, changed).await?,
                None => pairs::kept(night, before.pairs, changed).await?,
            });
        }
        of_nobody = pairs::decide(night, &mut pairs).await?;
        if let Some(model) = &model {
            pairs::complete(night, &plan, model, &mut pairs).await?;
        }
    } else if settings.enabled {
        of_nobody = pairs::decide(night, &mut pairs).await?;
    } else if let Some(before) = before {
        // The weights stand; by which rules pairs were told does not, since none were.
        model = Model::read(night, &plan, before.model, accounts).await?.map(Model::untold);
    }
    let resolved = people::resolve(night, before, pairs, live).await?;
    let found = resolved.leave(night, before, &mut outcome).await?;
    let written = model::table(night, model.as_ref(), &plan)?;
    outcome.outputs.push(Output::table(night, "identity_model", written)?);
    let told = report::table(night, &resolved, &found, &compared, model.as_ref(), &plan, of_nobody).await?;
    outcome.outputs.push(Output::table(night, "identity_report", told)?);
    Ok(outcome)
}

/// What the parent night knew.
#[derive(Clone, Copy)]
struct Before<'a> {
    identity: &'a DataFrame,
    pairs: &'a DataFrame,
    model: &'a DataFrame,
    customers: &'a DataFrame,
}

impl<'a> Before<'a> {
    fn of(night: &'a Night<'a>) -> Option<Self> {
        let table = |name: &str| night.previous.get(name);
        Some(Self {
            identity: table("identity")?,
            pairs: table("identity_pairs")?,
            model: table("identity_model")?,
            customers: table("clean_customers")?,
        })
    }
}

/// The accounts that are new or say something else than on the parent night, and those that are no more (`account_key`).
struct Changed {
    frame: DataFrame,
    count: u64,
    gone: DataFrame,
}

async fn changed(night: &Night<'_>, before: &DataFrame) -> Result<Changed, StageError> {
    let customers = night.given("clean_customers")?;
    if let Some(added) = &customers.added {
        let frame = night.over("SELECT account_key FROM added", &[("added", added)]).await?;
        let gone = night.over("SELECT account_key FROM added WHERE false", &[("added", added)]).await?;
        return Ok(Changed { count: rows::count(night, &frame).await?, frame, gone });
    }
    let lists = |name: &str| ["repaired_by", "repaired_from", "warned_by"].contains(&name);
    let names = customers.frame.schema().fields().iter().map(|f| f.name().as_str()).filter(|n| !lists(n));
    let columns: Vec<_> = names.filter(|n| *n != "account_key").map(tessera_engine::formula::quote).collect();
    let said = |table: &str| format!("(SELECT account_key, row_hash({}) AS said FROM {table})", columns.join(", "));
    let tables = [("now", &customers.frame), ("then", before)];
    // One pass over both: who is in one alone, or says something else.
    let query = format!(
        "SELECT coalesce(n.account_key, t.account_key) AS account_key, n.account_key IS NULL AS gone \
         FROM {} AS n FULL JOIN {} AS t ON n.account_key = t.account_key \
         WHERE n.account_key IS NULL OR t.account_key IS NULL OR n.said <> t.said",
        said("now"),
        said("\"then\"")
    );
    let differ = night.engine.materialise(night.over(&query, &tables).await?, "differ").await?;
    let of = async |gone: &str| {
        let query = format!("SELECT account_key FROM differ WHERE {gone}");
        night.over(&query, &[("differ", &differ)]).await
    };
    let frame = of("NOT gone").await?;
    Ok(Changed { count: rows::count(night, &frame).await?, frame, gone: of("gone").await? })
}

/// The entries of `[identity]`, planned over no row: the first that cannot be is told with its place.
pub(crate) async fn plan(night: &Night<'_>) -> Result<(), StageError> {
    let country = &night.project.identity.country;
    if !country.is_empty() && !tessera_engine::functions::is_country(country) {
        let problem = format!("no country is called `{country}` in ISO 3166-1; telephone numbers are read by it");
        return Err(StageError::Expression { place: "identity.country".to_owned(), problem });
    }
    let plan = Plan::of(night).await?;
    let fields = plan.fields(night, None, false, &mut Outcome::default()).await?;
    pairs::plan(night, &plan, &fields).await?;
    golden::plan(night).await
}

#[cfg(test)]
mod tests;
