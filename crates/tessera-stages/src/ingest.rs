//! Ingest: sources → clean rows, quarantine, identity, and a count of every file.
//!
//! Reads the sources of the project file. Writes `clean_<entity>` for each entity, `quarantine` (every row that did not
//! stay, with all the rules it failed and the one at which it left), `identity` and `inputs` (rows and money of every
//! file, counted apart from the cleaning so that the ledger proves something).
//!
//! To add a rule, add an entry under `[quality.rules]`. To add an entity, add it to the contract.

mod duplicates;
mod mapping;
mod routes;
mod waterfall;

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Int64Array, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_contract::{Entity, Severity, project::AfterAsOf};
use tessera_engine::{formula::quote, session::conform, source::ROW_BITS};

use self::mapping::RAW;
pub use self::{
    mapping::{Mapping, map},
    waterfall::{Step, steps},
};
use crate::{Night, Output, Source, Stage, StageError, StageFuture, blame, rows};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "ingest",
    purpose: "reads the sources, sets aside what breaks a rule, and counts every row and every amount",
    sources: true,
    reads: &[],
    writes: &[
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "clean_marketing_costs",
        "quarantine",
        "identity",
        "inputs",
    ],
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
async fn ingest(night: &Night<'_>) -> Result<Vec<Output>, StageError> {
    let mut outputs = Vec::new();
    let mut inputs = Vec::new();
    let customers = night.sources.iter().find(|s| s.entity == Entity::Customers);
    let mut ready = None;
    let people = match customers {
        Some(source) => {
            let cleaned = clean(night, source, None).await?;
            let query = "SELECT customer_id, customer_key(customer_id) AS customer_key FROM \
                         (SELECT DISTINCT customer_id FROM cleaned WHERE leaving = 0)";
            let people = night.over(query, &[("cleaned", &cleaned.rows)]).await?;
            let people = night.engine.materialise(people, "people").await?;
            inputs.push(cleaned.files(night, source).await?);
            outputs.push(cleaned.with_keys(night, &people).await?.output(night, false).await?);
            people
        }
        None => {
            let source = night.sources.iter().find(|s| s.entity == Entity::Transactions);
            let source = source.ok_or_else(|| StageError::Data("no source of transactions is given".into()))?;
            let cleaned = clean(night, source, None).await?;
            let query = "SELECT customer_id, customer_key(customer_id) AS customer_key FROM \
                         (SELECT DISTINCT customer_id FROM cleaned WHERE leaving = 0 AND customer_id IS NOT NULL)";
            let people = night.over(query, &[("cleaned", &cleaned.rows)]).await?;
            let people = night.engine.materialise(people, "people").await?;
            outputs.push(Output::table(night, "clean_customers", people.clone())?);
            ready = Some(cleaned);
            people
        }
    };
    for entity in Entity::ALL.into_iter().filter(|e| *e != Entity::Customers) {
        match night.sources.iter().find(|s| s.entity == entity) {
            Some(source) => {
                let known = (customers.is_some() && entity.has_customer()).then_some(&people);
                let mut cleaned = match ready.take_if(|r: &mut Cleaned| r.entity == entity) {
                    Some(cleaned) => cleaned,
                    None => clean(night, source, known).await?,
                };
                if known.is_none() && entity.has_customer() {
                    cleaned = cleaned.with_keys(night, &people).await?;
                }
                inputs.push(cleaned.files(night, source).await?);
                outputs.push(cleaned.output(night, known.is_some()).await?);
            }
            None => {
                let table = night.table(&entity.clean_table())?;
                let empty = night.engine.none(table.file_schema())?;
                outputs.push(Output::table(night, &table.name, empty)?);
            }
        }
    }
    let born =
        night.over("SELECT *, 'born' AS event, 'declared id' AS evidence FROM people", &[("people", &people)]).await?;
    outputs.push(Output::table(night, "identity", born)?);
    let mut all: Option<DataFrame> = None;
    for one in inputs {
        all = Some(match all {
            Some(all) => all.union(one)?,
            None => one,
        });
    }
    if let Some(all) = all {
        outputs.push(Output::table(night, "inputs", all)?);
    }
    Ok(outputs)
}

/// The rows of a source with the mask of the steps they fail.
struct Cleaned {
    entity: Entity,
    mapping: Mapping,
    steps: Vec<Step>,
    repairs: Vec<String>,
    /// Canonical columns, the owner's under [`RAW`], `_locator`, `_defect`, `money`, `mask`, `repaired` and `leaving`:
    /// the mask's bits at which a row leaves. Rows after the as-of instant are not among them if they are set aside.
    rows: DataFrame,
    /// The same before any check, with the rows after the as-of instant.
    all: DataFrame,
    /// What the ledger starts with: `_locator`, `money`, `after`, of the source as it is.
    counted: DataFrame,
}

/// Plans what can be planned of the sources without reading a row.
///
/// # Errors
/// When a column cannot be mapped, or a rule does not fit the columns.
pub(crate) async fn plan(night: &Night<'_>) -> Result<(), StageError> {
    let nobody = night.over("SELECT '' AS customer_id, '' AS customer_key WHERE false", &[]).await?;
    let customers = night.sources.iter().any(|s| s.entity == Entity::Customers);
    for source in night.sources {
        let known = customers && source.entity != Entity::Customers && source.entity.has_customer();
        let mapping = map(night, source).await?;
        let steps = steps(night.project, source.entity, &mapping, known)?;
        let judged = judge(night, source.entity, mapping, steps, &source.rows).await?;
        if known {
            judged.with_keys(night, &nobody).await?;
        }
    }
    Ok(())
}

/// Maps, repairs and judges a source, and finds its repeats. `known` are the clean customers, if rules may ask for them.
async fn clean(night: &Night<'_>, source: &Source, known: Option<&DataFrame>) -> Result<Cleaned, StageError> {
    let entity = source.entity;
    let mapping = map(night, source).await?;
    let steps = steps(night.project, entity, &mapping, known.is_some())?;
    let comparing: Vec<usize> = (0..steps.len()).filter(|i| steps[*i].compares()).collect();
    let mut rows = source.rows.clone();
    if source.text && !comparing.is_empty() {
        // Parsed once, for all the passes.
        rows = night.engine.materialise(rows, &format!("{entity}_source")).await?;
    }
    let asks = steps.iter().position(|s| s.asks_known && s.skipped.is_none());

    // Rows are joined as they stand in the source and judged anew: so joins move few columns.
    let mut judged = judge(night, entity, mapping, steps, &rows).await?;
    let counted = judged.counted.clone();
    let mut lost: Option<DataFrame> = None;
    for bit in comparing {
        let early = known.filter(|_| asks.is_some_and(|first| first < bit));
        if let Some(known) = early {
            judged = judged.with_keys(night, known).await?;
        }
        let losers = duplicates::losers(night, &judged, bit).await?;
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
    Ok(Cleaned { counted, ..judged })
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
        typed.push(format!("{0} AS customer_key, {0} IS NOT NULL AS customer_known", quote(KEY)));
        columns.push("customer_key, customer_known".to_owned());
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
    let event = entity.after();
    query = format!(
        "SELECT *, coalesce(arrow_cast({money}, 'Decimal128(38, 6)'), arrow_cast(0, 'Decimal128(38, 6)')) AS money, \
         arrow_cast({repaired}, 'Int64') AS repaired, coalesce({event}, false) AS after FROM ({query})"
    );
    let all = match night.over(&query, &[("source", source)]).await {
        Ok(all) => all,
        Err(error) => {
            let alone = |expression: &str| format!("SELECT ({expression}) FROM ({unrepaired})");
            let rules = places(&steps, |s| s.severity == Severity::Repair);
            return Err(blame(night, rules, alone, &[("source", source)]).await.unwrap_or(error));
        }
    };

    let aside = night.project.quality.events_after_as_of == AfterAsOf::SetAside;
    let after = if aside { "after" } else { "false" };
    let counted = night.over(&format!("SELECT _locator, money, {after} AS after FROM rows"), &[("rows", &all)]).await?;

    let filter = if aside { "WHERE NOT after" } else { "" };
    let asked = |s: &Step| key || !s.asks_known;
    let mask = format!("{} + {}", if lost { quote(LOST) } else { "0".to_owned() }, checks(&steps, asked));
    let leave = waterfall::bits(&steps, |s| s.turns_away());
    let query = format!("SELECT *, mask & {leave} AS leaving FROM (SELECT *, {mask} AS mask FROM rows {filter})");
    let rows = match night.over(&query, &[("rows", &all)]).await {
        Ok(rows) => rows,
        Err(error) => {
            let alone = |expression: &str| format!("SELECT CASE WHEN ({expression}) THEN 0 END FROM rows");
            let rules = places(&steps, |s| s.severity != Severity::Repair && asked(s));
            return Err(blame(night, rules, alone, &[("rows", &all)]).await.unwrap_or(error));
        }
    };
    Ok(Cleaned { entity, mapping, steps, repairs, rows, all, counted })
}

/// The bits of the checks that a row fails.
fn checks(steps: &[Step], which: impl Fn(&Step) -> bool) -> String {
    let checked = |s: &Step| matches!(s.severity, Severity::Quarantine | Severity::Fail | Severity::Warn);
    let failed: String = steps
        .iter()
        .enumerate()
        .filter(|(_, s)| s.skipped.is_none() && checked(s) && which(s))
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
        // What happens to a row later is not known to the night.
        (_, name) if entity.later_times().contains(&name) => {
            format!("CASE WHEN ({0}) < as_of THEN ({0}) END", m.expression)
        }
        (Entity::CampaignContacts, "converted_amount") => {
            format!("CASE WHEN ({}) < as_of THEN ({}) END", of("converted_at").unwrap_or("NULL"), m.expression)
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
        if has("customer_key") {
            columns.push(format!("customer_key AS {}", quote(KEY)));
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
            "SELECT {kept}people.customer_key AS {} FROM people RIGHT JOIN source \
             ON people.customer_id = source.\"tessera.customer\"",
            quote(KEY)
        );
        let joined = night.over(&query, &[("source", &source), ("people", people)]).await?;
        let judged = judge(night, self.entity, self.mapping, self.steps, &joined).await?;
        Ok(Self { counted: self.counted, ..judged })
    }

    /// Rows and money of every file, before any rule.
    async fn files(&self, night: &Night<'_>, source: &Source) -> Result<DataFrame, StageError> {
        let query = format!(
            "SELECT _locator >> {ROW_BITS} AS file, count(*) AS rows, sum(money) AS amount, \
             count(*) FILTER (WHERE after) AS rows_after, sum(money) FILTER (WHERE after) AS amount_after \
             FROM counted GROUP BY 1 ORDER BY 1"
        );
        let counts = rows::collect(night.over(&query, &[("counted", &self.counted)]).await?).await?;
        let files = rows::integers(&counts, "file")?;
        let at: Vec<Option<usize>> = (0..source.files.len())
            .map(|i| files.iter().position(|f| f.and_then(|f| usize::try_from(f).ok()) == Some(i)))
            .collect();
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
        let frame = rows::frame(
            night.engine,
            vec![
                ("source", texts(&|_| Some(self.entity.name().to_owned()))),
                ("file", texts(&|f| Some(f.url.clone()))),
                ("etag", texts(&|f| f.etag.clone())),
                ("bytes", Arc::new(source.files.iter().map(|f| i64::try_from(f.bytes).ok()).collect::<Int64Array>())),
                ("rows", integers("rows")?),
                ("amount", money("amount")?),
                ("rows_after_as_of", integers("rows_after")?),
                ("amount_after_as_of", money("amount_after")?),
            ],
        )?;
        Ok(conform(frame, &night.table("inputs")?)?)
    }
}
