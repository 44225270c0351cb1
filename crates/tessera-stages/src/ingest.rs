//! Ingest: sources → clean rows, quarantine, accounts, and a count of every file.
//!
//! Reads the sources of the project file. Writes `clean_<entity>` for each entity, `quarantine` (every row that did not
//! stay, with all the rules it failed and the one at which it left), `identity`, `accounts` and `inputs` (rows and money of
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
//! depends on the night on which it came. (Customers are always judged as a whole, since the row of a customer that counts is
//! chosen among all; where their files are those of the parent night and no verdict depends on the night, what it left stays.) Therefore rules that ask for other rows (who is known, what repeats) are asked
//! only of rows that no rule before them turned away.
//!
//! To add a rule, add an entry under `[quality.rules]`. To add an entity, add it to the contract.

mod accounts;
mod arrivals;
mod duplicates;
mod mapping;
mod routes;
mod waterfall;

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_contract::{Entity, Severity, project::AfterAsOf};
use tessera_engine::{
    columns::conform,
    formula::{quote, text},
    source::ROW_BITS,
};

use self::arrivals::{arrivals, seen, stamp, stay, unchanged, verdicts, waiting};
use self::mapping::RAW;
pub use self::{
    arrivals::reads_all,
    mapping::{Mapping, map},
    waterfall::{Step, steps},
};
use crate::{
    Availability, Given, Night, Outcome, Output, Source, Stage, StageError, StageFuture, availability, blame, rows,
};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "ingest",
    purpose: "reads the sources, sets aside what breaks a rule, and counts every row and every amount",
    sources: true,
    reads: &[],
    reads_previous: &[
        "inputs",
        "identity",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
    ],
    writes: &[
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "clean_marketing_costs",
        "quarantine",
        "identity",
        "accounts",
        "inputs",
    ],
    settings: &["project", "sources", "quality"],
    run,
};

/// Beside a source's columns: the bits of the steps at which a row lost against another.
const LOST: &str = "tessera.lost";
/// Beside a source's columns: the key of the row's customer, if the customer is a clean one.
const KEY: &str = "tessera.key";

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    ingest(night).boxed()
}

/// See the module.
async fn ingest(night: &Night<'_>) -> Result<Outcome, StageError> {
    let mut outcome = Outcome::default();
    let mut inputs = Vec::new();
    let mut given = Availability::default();
    let source = |entity| night.sources.iter().find(|s| s.entity == entity);
    let customers = source(Entity::Customers);
    // The customers first, or, where nobody gives them, what names them.
    let naming = customers.or_else(|| source(Entity::Transactions));
    let naming = naming.ok_or_else(|| StageError::Data("no source of transactions is given".into()))?;
    let (people, mut first) = match unchanged(night, naming).await? {
        Some((judged, counted)) => {
            given.entities.insert(naming.entity.name().to_owned(), judged.given());
            inputs.push(counted);
            stay(naming.entity, &mut outcome);
            outcome.stamps.insert(verdicts(naming.entity), judged.stamp);
            (accounts::those_of_the_parent(night, &mut outcome).await?, None)
        }
        None => {
            let first = clean(night, naming, None).await?;
            (accounts::people(night, &first, customers.is_some(), &mut outcome).await?, Some(first))
        }
    };
    for entity in Entity::ALL {
        if given.entities.contains_key(entity.name()) {
            continue;
        }
        let Some(source) = source(entity) else {
            if entity != Entity::Customers {
                let table = night.table(&entity.clean_table())?;
                let empty = night.engine.none(table.file_schema())?;
                outcome.outputs.push(Output::table(night, &table.name, empty)?);
            }
            continue;
        };
        let known = asks_who_is_known(night.sources, entity);
        let mut cleaned = match first.take_if(|c: &mut Cleaned| c.entity == entity) {
            Some(cleaned) => cleaned,
            None => clean(night, source, known.then_some(&people.frame)).await?,
        };
        if !known && entity.has_customer() {
            cleaned = cleaned.with_keys(night, &people.frame).await?;
        }
        if known && source.before.is_some() {
            people.gone_are_nobodys(night, &cleaned).await?;
        }
        given.entities.insert(entity.name().to_owned(), cleaned.given());
        inputs.push(cleaned.files(night, source).await?);
        cleaned.leave(night, source, known, &mut outcome).await?;
    }
    let mut all: Option<DataFrame> = None;
    for one in inputs {
        all = Some(match all {
            Some(all) => all.union(one)?,
            None => one,
        });
    }
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

/// The rows of a source with the mask of the steps they fail.
struct Cleaned {
    entity: Entity,
    mapping: Mapping,
    steps: Vec<Step>,
    repairs: Vec<String>,
    /// Canonical columns, the owner's under [`RAW`], `_locator`, `_defect`, `money`, `later` (the night does not know the row
    /// yet), `mask`, `repaired`, `leaving`: the mask's bits at which a row leaves, and `waits`: it is later, or leaves only
    /// because nobody knows its customer yet.
    rows: DataFrame,
    /// The same before any check.
    all: DataFrame,
    /// What the ledger starts with: `_locator`, `money`, `later`, of the source as it is.
    counted: DataFrame,
    /// What the mapping, the rules and the code that made this have in common with another night's.
    stamp: String,
}

/// Plans what can be planned of the sources without reading a row.
///
/// # Errors
/// When a column cannot be mapped, or a rule does not fit the columns.
pub(crate) async fn plan(night: &Night<'_>) -> Result<Availability, StageError> {
    let nobody = night.over("SELECT '' AS customer_id, '' AS account_key WHERE false", &[]).await?;
    let mut given = Availability::default();
    for source in night.sources {
        let rows = &arrivals(night, source).await?;
        let known = asks_who_is_known(night.sources, source.entity);
        let mapping = map(night, source.entity, rows).await?;
        let steps = steps(night.project, source.entity, &mapping, known)?;
        let mut judged = judge(night, source.entity, mapping, steps, rows).await?;
        if known {
            judged = judged.with_keys(night, &nobody).await?;
        }
        given.entities.insert(source.entity.name().to_owned(), judged.given());
    }
    Ok(given)
}

/// Maps, repairs and judges a source, and finds its repeats. `known` are the clean customers, if rules may ask for them.
async fn clean(night: &Night<'_>, source: &Source, known: Option<&DataFrame>) -> Result<Cleaned, StageError> {
    let entity = source.entity;
    let mut rows = arrivals(night, source).await?;
    let mapping = map(night, entity, &rows).await?;
    let steps = steps(night.project, entity, &mapping, asks_who_is_known(night.sources, entity))?;
    let comparing: Vec<usize> = (0..steps.len()).filter(|i| steps[*i].compares()).collect();
    let asks = steps.iter().position(|s| s.asks_known && s.skipped.is_none());
    let stamp = stamp(night, entity, &mapping, &steps);
    let seen = match source.before {
        Some(_) => {
            let kept = night.kept.get(&waiting(entity)).filter(|kept| kept.stamp == stamp);
            kept.ok_or_else(|| StageError::ReadAll {
                entity,
                why: "their columns, their rules or the program changed since the parent night".into(),
            })?;
            night.kept.get(&seen(entity))
        }
        None => None,
    };
    if source.text && !comparing.is_empty() {
        // Parsed once, for all the passes.
        rows = night.engine.materialise(rows, &format!("{entity}_source")).await?;
    }

    // Rows are joined as they stand in the source and judged anew: so joins move few columns.
    let mut judged = judge(night, entity, mapping, steps, &rows).await?;
    let counted = judged.counted.clone();
    let mut lost: Option<DataFrame> = None;
    for bit in comparing {
        let early = known.filter(|_| asks.is_some_and(|first| first < bit));
        if let Some(known) = early {
            judged = judged.with_keys(night, known).await?;
        }
        let first = source.before.unwrap_or(0) << ROW_BITS;
        let losers = duplicates::losers(night, &judged, bit, seen.map(|s| (&s.frame, first))).await?;
        let all = match lost {
            Some(before) => before.union(losers)?,
            None => losers,
        };
        let query = format!(
            "SELECT source.*, coalesce(lost.bit, 0) AS {} FROM lost RIGHT JOIN source ON lost.locator = source._locator",
            quote(LOST)
        );
        let joined = night.over(&query, &[("lost", &all), ("source", &rows)]).await?;
        judged = judge(night, entity, judged.mapping, judged.steps, &joined).await?;
        lost = Some(all);
    }
    if let Some(known) = known {
        judged = judged.with_keys(night, known).await?;
    }
    Ok(Cleaned { counted, stamp, ..judged })
}

/// Types, repairs and judges the rows of a source. Beside the source's columns there may be [`LOST`] and [`KEY`].
async fn judge(
    night: &Night<'_>,
    entity: Entity,
    mapping: Mapping,
    steps: Vec<Step>,
    source: &DataFrame,
) -> Result<Cleaned, StageError> {
    let has = |name: &str| source.schema().has_column_with_unqualified_name(name);
    let (lost, key) = (has(LOST), has(KEY));

    let mut typed = vec!["_locator".to_owned(), "_defect".to_owned()];
    typed.extend(mapping.raw.iter().map(|r| format!("{} AS {}", quote(r), quote(&format!("{RAW}{r}")))));
    let mut columns = vec!["_locator".to_owned(), "_defect".to_owned()];
    columns.extend(mapping.raw.iter().map(|r| quote(&format!("{RAW}{r}"))));
    if lost {
        typed.push(quote(LOST));
        columns.push(quote(LOST));
    }
    if key {
        typed.push(format!("{0} AS account_key, {0} IS NOT NULL AS customer_known", quote(KEY)));
        columns.push("account_key, customer_known".to_owned());
    }
    for m in &mapping.columns {
        let name = quote(&m.column.name);
        typed.push(format!("{} AS {name}", expression(entity, &mapping, m)));
        columns.push(name);
        if let Some(unparsable) = &m.unparsable {
            let name = quote(&format!("unparsable_{}", m.column.name));
            typed.push(format!("coalesce({unparsable}, false) AS {name}"));
            columns.push(name);
        }
    }
    let mut query = format!("SELECT {} FROM source", typed.join(", "));
    let unrepaired = query.clone();
    let mut repairs = Vec::new();
    for step in steps.iter().filter(|s| s.severity == Severity::Repair && s.skipped.is_none()) {
        let Some(target) = step.rule.as_ref().and_then(|r| r.column.as_deref()).map(quote) else { continue };
        let kept: Vec<_> = columns.iter().filter(|c| **c != target).cloned().collect();
        let flag = quote(&format!("repaired {}", step.name));
        let new = &step.expression;
        query = format!(
            "SELECT {}, ({new}) AS {target}, coalesce(({new}) IS DISTINCT FROM {target}, false) AS {flag} FROM ({query})",
            kept.join(", ")
        );
        columns.push(flag);
        repairs.push(step.name.clone());
    }
    if entity == Entity::Transactions {
        query = format!(
            "SELECT *, line_gross(quantity, unit_price) AS gross, line_net(quantity, unit_price, discount) AS amount FROM ({query})"
        );
    }
    let money = entity.amount().unwrap_or("NULL");
    let repaired: Vec<_> = repairs
        .iter()
        .enumerate()
        .map(|(bit, name)| format!("CASE WHEN {} THEN {} ELSE 0 END", quote(&format!("repaired {name}")), 1_i64 << bit))
        .collect();
    let repaired = if repaired.is_empty() { "0".to_owned() } else { repaired.join(" + ") };
    let aside = night.project.quality.events_after_as_of == AfterAsOf::SetAside;
    let later = if aside { format!("coalesce({}, false)", entity.after()) } else { "false".to_owned() };
    query = format!(
        "SELECT *, coalesce(arrow_cast({money}, 'Decimal128(38, 6)'), arrow_cast(0, 'Decimal128(38, 6)')) AS money, \
         arrow_cast({repaired}, 'Int64') AS repaired, {later} AS later FROM ({query})"
    );
    let all = match night.over(&query, &[("source", source)]).await {
        Ok(all) => all,
        Err(error) => {
            let alone = |expression: &str| format!("SELECT ({expression}) FROM ({unrepaired})");
            let rules = places(&steps, |s| s.severity == Severity::Repair);
            return Err(blame(night, rules, alone, &[("source", source)]).await.unwrap_or(error));
        }
    };

    let counted = night.over("SELECT _locator, money, later FROM rows", &[("rows", &all)]).await?;

    let lost = if lost { quote(LOST) } else { "0".to_owned() };
    let leave = waterfall::bits(&steps, Step::turns_away);
    let asking = waterfall::bits(&steps, |s| s.asks_known && s.turns_away());
    let mut query = format!("SELECT *, {lost} + {} AS mask FROM rows", checks(&steps, |s| !s.asks_known));
    if key {
        // Of a row that left before, nobody asks whose it is: the answer may be another one on another night.
        let asked: String = steps
            .iter()
            .enumerate()
            .filter(|(_, s)| s.asks_known && s.skipped.is_none() && s.checks())
            .map(|(bit, s)| {
                let before = waterfall::bits(&steps[..bit], |s| s.turns_away() && !s.asks_known);
                let fails = format!("CASE WHEN ({}) THEN 0 ELSE {} END", s.expression, 1_i64 << bit);
                format!(" + CASE WHEN mask & {before} = 0 THEN {fails} ELSE 0 END")
            })
            .collect();
        let known = all.schema().fields().iter().map(|f| quote(f.name())).collect::<Vec<_>>().join(", ");
        query = format!("SELECT {known}, mask{asked} AS mask FROM ({query})");
    }
    // The lowest bit. DataFusion's simplifier takes a minus for a bitwise not, and makes `x & -x` a 0.
    let first = "leaving & (0 - leaving)";
    query = format!(
        "SELECT *, later OR ({first}) & {asking} <> 0 AS waits FROM (SELECT *, mask & {leave} AS leaving FROM ({query}))"
    );
    let rows = match night.over(&query, &[("rows", &all)]).await {
        Ok(rows) => rows,
        Err(error) => {
            let alone = |expression: &str| format!("SELECT CASE WHEN ({expression}) THEN 0 END FROM rows");
            let rules = places(&steps, |s| s.severity != Severity::Repair && (key || !s.asks_known));
            return Err(blame(night, rules, alone, &[("rows", &all)]).await.unwrap_or(error));
        }
    };
    Ok(Cleaned { entity, mapping, steps, repairs, rows, all, counted, stamp: String::new() })
}

/// The bits of the checks that a row fails.
fn checks(steps: &[Step], which: impl Fn(&Step) -> bool) -> String {
    let failed: String = steps
        .iter()
        .enumerate()
        .filter(|(_, s)| s.skipped.is_none() && s.checks() && which(s))
        .map(|(bit, s)| format!(" + CASE WHEN ({}) THEN 0 ELSE {} END", s.expression, 1_i64 << bit))
        .collect();
    format!("arrow_cast(0{failed}, 'Int64')")
}

/// The rules that take part, with the path of their expression.
fn places(steps: &[Step], which: impl Fn(&Step) -> bool) -> Vec<(String, String)> {
    let asked = |s: &&Step| s.rule.is_some() && s.skipped.is_none() && !s.expression.is_empty() && which(s);
    steps.iter().filter(asked).map(|s| (format!("quality.rules.{}.expression", s.name), s.expression.clone())).collect()
}

/// The expression of a canonical column, with what the engine derives where the source says nothing.
fn expression(entity: Entity, mapping: &Mapping, m: &mapping::Mapped) -> String {
    let of = |name: &str| mapping.columns.iter().find(|m| m.column.name == name).map(|m| m.expression.as_str());
    match (entity, m.column.name.as_str()) {
        (Entity::Transactions, "is_return") if m.available => format!("coalesce({}, false)", m.expression),
        (Entity::Transactions, "is_return") => {
            format!("coalesce(({}) < 0, false)", of("quantity").unwrap_or("NULL"))
        }
        _ => m.expression.clone(),
    }
}

impl Cleaned {
    /// SQL of the columns that make a source of [`Cleaned::all`] again, to be joined and judged anew.
    fn as_source(&self) -> String {
        let raw = self.mapping.raw.iter().map(|r| format!("{} AS {}", quote(&format!("{RAW}{r}")), quote(r)));
        let mut columns: Vec<String> = raw.chain(["_locator".to_owned(), "_defect".to_owned()]).collect();
        let has = |name: &str| self.all.schema().has_column_with_unqualified_name(name);
        if has(LOST) {
            columns.push(quote(LOST));
        }
        if has("account_key") {
            columns.push(format!("account_key AS {}", quote(KEY)));
        }
        columns.join(", ")
    }

    /// The same rows with the key of their customer, and judged by the checks that ask who is known.
    async fn with_keys(self, night: &Night<'_>, people: &DataFrame) -> Result<Self, StageError> {
        let query = format!("SELECT {}, customer_id AS \"tessera.customer\" FROM rows", self.as_source());
        let source = night.over(&query, &[("rows", &self.all)]).await?;
        let kept = source.schema().fields().iter().map(|f| f.name()).filter(|n| *n != "tessera.customer" && *n != KEY);
        let kept: String = kept.map(|n| format!("source.{}, ", quote(n))).collect();
        let query = format!(
            "SELECT {kept}people.account_key AS {} FROM people RIGHT JOIN source \
             ON people.customer_id = source.\"tessera.customer\"",
            quote(KEY)
        );
        let joined = night.over(&query, &[("source", &source), ("people", people)]).await?;
        let judged = judge(night, self.entity, self.mapping, self.steps, &joined).await?;
        Ok(Self { counted: self.counted, stamp: self.stamp, ..judged })
    }

    /// What the source gives, for the stages that follow.
    fn given(&self) -> Given {
        let columns = self.mapping.columns.iter().filter(|m| m.available).map(|m| m.column.name.as_str());
        // The engine derives returns from the quantity's sign.
        let derived = (self.entity == Entity::Transactions && !self.mapping.has("is_return")).then_some("is_return");
        let rules = self.steps.iter().filter(|s| s.skipped.is_none());
        Given {
            columns: columns.chain(derived).map(str::to_owned).collect(),
            rules: rules.map(|s| availability::Rule { name: s.name.clone(), severity: s.severity }).collect(),
        }
    }

    /// Rows and money of every file that the night knows, before any rule: those read tonight, and those that the parent
    /// night counted.
    async fn files(&self, night: &Night<'_>, source: &Source) -> Result<DataFrame, StageError> {
        let query = format!(
            "SELECT _locator >> {ROW_BITS} AS file, count(*) AS rows, sum(money) AS amount, \
             count(*) FILTER (WHERE later) AS rows_later, sum(money) FILTER (WHERE later) AS amount_later \
             FROM counted GROUP BY 1 ORDER BY 1"
        );
        let counts = rows::collect(night.over(&query, &[("counted", &self.counted)]).await?).await?;
        let before = source.before.unwrap_or(0);
        let ids: Vec<i64> = (before..).take(source.files.len()).collect();
        let files = rows::integers(&counts, "file")?;
        let at: Vec<Option<usize>> = ids.iter().map(|id| files.iter().position(|f| *f == Some(*id))).collect();
        let integers = |name: &str| -> Result<ArrayRef, StageError> {
            let values = rows::integers(&counts, name)?;
            Ok(Arc::new(at.iter().map(|i| Some(i.and_then(|i| values[i]).unwrap_or(0))).collect::<Int64Array>()))
        };
        let money = |name: &str| -> Result<ArrayRef, StageError> {
            let values = rows::money(&counts, name)?;
            rows::money_array(at.iter().map(|i| Some(i.and_then(|i| values[i]).unwrap_or(0))).collect())
        };
        let texts = |get: &dyn Fn(&crate::SourceFile) -> Option<String>| -> ArrayRef {
            Arc::new(source.files.iter().map(get).collect::<StringArray>())
        };
        let tonight: Date32Array = ids.iter().map(|_| Some(night.as_of.days())).collect();
        let frame = rows::frame(
            night.engine,
            vec![
                ("source", texts(&|_| Some(self.entity.name().to_owned()))),
                ("file_id", Arc::new(ids.iter().copied().map(Some).collect::<Int64Array>())),
                ("file", texts(&|f| Some(f.url.clone()))),
                ("etag", texts(&|f| f.etag.clone())),
                ("bytes", Arc::new(source.files.iter().map(|f| i64::try_from(f.bytes).ok()).collect::<Int64Array>())),
                ("rows", integers("rows")?),
                ("amount", money("amount")?),
                ("rows_after_as_of", integers("rows_later")?),
                ("amount_after_as_of", money("amount_later")?),
                ("first_seen", Arc::new(tonight)),
            ],
        )?;
        let table = night.table("inputs")?;
        let frame = conform(frame, &table)?;
        let (Some(before), Some(previous)) = (source.before, night.previous.get("inputs")) else { return Ok(frame) };
        // What was after that night may be before this one.
        let query = format!(
            "SELECT p.source, p.file_id, p.file, p.etag, p.bytes, p.rows, p.amount, coalesce(c.rows_later, 0) AS \
             rows_after_as_of, coalesce(c.amount_later, 0) AS amount_after_as_of, p.first_seen \
             FROM previous AS p LEFT JOIN counts AS c ON p.file_id = c.file \
             WHERE p.source = {} AND p.file_id < {before}",
            text(self.entity.name())
        );
        let counts = night.engine.session().read_batch(counts)?;
        let known = night.over(&query, &[("previous", previous), ("counts", &counts)]).await?;
        let known = rows::collect(known).await?;
        let known = conform(night.engine.session().read_batch(known)?, &table)?;
        Ok(known.union(frame)?)
    }
}

#[cfg(test)]
mod tests;
