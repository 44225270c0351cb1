//! Ingest: sources → clean rows, quarantine, identity, and a count of every file.
//!
//! Reads the sources of the project file. Writes `clean_<entity>` for each entity, `quarantine` (every row that did not
//! stay, with all the rules it failed and the one at which it left), `identity` and `inputs` (rows and money of every
//! file, counted apart from the cleaning so that the ledger proves something).
//!
//! To add a rule, add an entry under `[quality.rules]`. To add an entity, add it to the contract.

mod duplicates;
mod mapping;
mod waterfall;

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Int64Array, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_contract::{Column, Entity, Severity, Table, project::AfterAsOf};
use tessera_engine::{
    formula::{quote, text},
    session::conform,
    write::Route,
};

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

/// A locator is the number of the file, then the number of the row in so many bits.
const ROW_BITS: u32 = 40;

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
            outputs.push(cleaned.output(night, Some(&people)).await?);
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
                let cleaned = match ready.take_if(|r: &mut Cleaned| r.entity == entity) {
                    Some(cleaned) => cleaned,
                    None => clean(night, source, known).await?,
                };
                inputs.push(cleaned.files(night, source).await?);
                outputs.push(cleaned.output(night, entity.has_customer().then_some(&people)).await?);
            }
            None => {
                let table = night.table(&entity.clean_table())?;
                let empty = night.engine.read(table.file_schema(), &[])?;
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
    steps: Vec<Step>,
    repairs: Vec<String>,
    /// Canonical columns, the owner's under [`RAW`], `_locator`, `_defect`, `money`, `mask`, `repaired` and `leaving`:
    /// the mask's bits at which a row leaves. Rows after the as-of instant are not among them if they are set aside.
    rows: DataFrame,
    /// The same before any rule: `_locator`, `money`, `after`.
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
        judge(night, source, &mapping, known.then_some(&nobody)).await?;
    }
    Ok(())
}

/// Maps, repairs and judges a source, and finds its repeats.
async fn clean(night: &Night<'_>, source: &Source, known: Option<&DataFrame>) -> Result<Cleaned, StageError> {
    let mapping = map(night, source).await?;
    let mut judged = judge(night, source, &mapping, known).await?;
    if source.text && duplicates::reads_again(&judged.steps) {
        judged.rows = night.engine.materialise(judged.rows, &format!("{}_judged", judged.entity)).await?;
    }
    let marked = duplicates::mark(night, judged.entity, &mapping, &judged.steps, judged.rows).await?;
    let leave = waterfall::bits(&judged.steps, |s| s.turns_away());
    let rows = night.over(&format!("SELECT *, mask & {leave} AS leaving FROM marked"), &[("marked", &marked)]).await?;
    Ok(Cleaned { rows, ..judged })
}

/// The rows of a source with the mask of the checks they fail; `leaving` is not there yet.
async fn judge(
    night: &Night<'_>,
    source: &Source,
    mapping: &Mapping,
    known: Option<&DataFrame>,
) -> Result<Cleaned, StageError> {
    let entity = source.entity;
    let steps = steps(night.project, entity, mapping, known.is_some())?;

    let mut typed = vec!["_locator".to_owned(), "_defect".to_owned()];
    typed.extend(mapping.raw.iter().map(|r| format!("{} AS {}", quote(r), quote(&format!("{RAW}{r}")))));
    let mut columns = vec!["_locator".to_owned(), "_defect".to_owned()];
    columns.extend(mapping.raw.iter().map(|r| quote(&format!("{RAW}{r}"))));
    for m in &mapping.columns {
        let name = quote(&m.column.name);
        typed.push(format!("{} AS {name}", expression(entity, mapping, m)));
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
    let all = match night.over(&query, &[("source", &source.rows)]).await {
        Ok(all) => all,
        Err(error) => {
            let alone = |expression: &str| format!("SELECT ({expression}) FROM ({unrepaired})");
            let rules = places(&steps, |s| s.severity == Severity::Repair);
            return Err(blame(night, error, rules, alone, &[("source", &source.rows)]).await);
        }
    };

    let aside = night.project.quality.events_after_as_of == AfterAsOf::SetAside;
    let after = if aside { "after" } else { "false" };
    let counted = night.over(&format!("SELECT _locator, money, {after} AS after FROM rows"), &[("rows", &all)]).await?;

    let (join, key, columns) = match known {
        Some(_) => (
            "people RIGHT JOIN rows ON people.customer_id = rows.customer_id",
            ", people.customer_key IS NOT NULL AS customer_known, people.customer_key",
            "rows.*",
        ),
        None => ("rows", "", "rows.*"),
    };
    let checks: Vec<_> = steps
        .iter()
        .enumerate()
        .filter(|(_, s)| {
            s.skipped.is_none() && matches!(s.severity, Severity::Quarantine | Severity::Fail | Severity::Warn)
        })
        .map(|(bit, s)| format!("CASE WHEN ({}) THEN 0 ELSE {} END", s.expression, 1_i64 << bit))
        .collect();
    let filter = if aside { "WHERE NOT after" } else { "" };
    let query = format!(
        "SELECT *, arrow_cast({}, 'Int64') AS mask FROM (SELECT {columns}{key} FROM {join}) {filter}",
        checks.join(" + ")
    );
    let mut tables = vec![("rows", &all)];
    tables.extend(known.map(|k| ("people", k)));
    let rows = match night.over(&query, &tables).await {
        Ok(rows) => rows,
        Err(error) => {
            let alone = |expression: &str| {
                format!("SELECT CASE WHEN ({expression}) THEN 0 END FROM (SELECT {columns}{key} FROM {join})")
            };
            return Err(blame(night, error, places(&steps, |s| s.severity != Severity::Repair), alone, &tables).await);
        }
    };
    Ok(Cleaned { entity, steps, repairs, rows, counted })
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

    /// The clean rows to their table, the others to the quarantine, in one pass.
    async fn output(&self, night: &Night<'_>, people: Option<&DataFrame>) -> Result<Output, StageError> {
        let clean = night.table(&self.entity.clean_table())?;
        let frame = match people {
            // A join has brought the key already.
            Some(_) if self.rows.schema().has_column_with_unqualified_name("customer_key") => self.rows.clone(),
            Some(people) => {
                let query = "SELECT rows.*, coalesce(people.customer_key, customer_key(rows.customer_id)) AS customer_key \
                             FROM people RIGHT JOIN rows ON people.customer_id = rows.customer_id";
                night.over(query, &[("rows", &self.rows), ("people", people)]).await?
            }
            None => self.rows.clone(),
        };
        let names = |which: &dyn Fn(&Step) -> bool| -> String {
            self.steps.iter().map(|s| format!(", {}", text(if which(s) { &s.name } else { "" }))).collect()
        };
        let warned = waterfall::bits(&self.steps, |s| s.severity == Severity::Warn);
        let repairs: String = self.repairs.iter().map(|n| format!(", {}", text(n))).collect();
        let clean_columns = |c: &Column| match c.name.as_str() {
            "repaired_by" => format!("rule_names(repaired{repairs})"),
            "warned_by" => format!("rule_names(mask & {warned}{})", names(&|s| s.severity == Severity::Warn)),
            "quantity" if self.entity == Entity::Transactions => "abs(quantity)".to_owned(),
            name => quote(name),
        };
        let files: String = {
            let source = night.sources.iter().find(|s| s.entity == self.entity);
            let urls = source.map(|s| s.files.as_slice()).unwrap_or_default();
            match urls.len() {
                1 => text(&urls[0].url),
                _ => {
                    let cases: String =
                        urls.iter().enumerate().map(|(i, f)| format!(" WHEN {i} THEN {}", text(&f.url))).collect();
                    format!("CASE _locator >> {ROW_BITS}{cases} END")
                }
            }
        };
        let everything = names(&|_| true);
        // The lowest bit. DataFusion's simplifier takes a minus for a bitwise not, and makes `x & -x` a 0.
        let first = "leaving & (0 - leaving)";
        let merge = waterfall::bits(&self.steps, |s| s.severity == Severity::Merge);
        let supersede = waterfall::bits(&self.steps, |s| s.severity == Severity::Supersede);
        let raw: Vec<String> = self
            .rows
            .schema()
            .fields()
            .iter()
            .filter_map(|f| f.name().strip_prefix(RAW).map(|n| format!("{}, {}", text(n), quote(f.name()))))
            .collect();
        let quarantine_columns = |c: &Column| match c.name.as_str() {
            "source" => text(self.entity.name()),
            "file" => files.clone(),
            "row" => format!("_locator & {}", (1_i64 << ROW_BITS) - 1),
            "disposition" => format!(
                "CASE WHEN ({first}) & {merge} <> 0 THEN 'merged' WHEN ({first}) & {supersede} <> 0 THEN 'superseded' \
                 ELSE 'quarantined' END"
            ),
            "rule" => format!("array_element(rule_names({first}{everything}), 1)"),
            "rules" => format!("rule_names(mask{everything})"),
            "defect" => "_defect".to_owned(),
            "record" => format!("row_json({})", raw.join(", ")),
            _ => "money".to_owned(),
        };
        let route = |table: &Table, filter: &str, columns: &dyn Fn(&Column) -> String| -> Result<Route, StageError> {
            let schema = frame.schema();
            let parse = |sql: &str| night.engine.session().parse_sql_expr(sql, schema);
            let columns = table
                .columns
                .iter()
                .map(|c| Ok(tessera_engine::session::as_column(parse(&columns(c))?, c)))
                .collect::<Result<Vec<_>, StageError>>()?;
            Ok(Route { filter: Some(parse(filter)?), columns, ..Route::all(&table.name, table) })
        };
        let routes = vec![
            route(&clean, "leaving = 0", &clean_columns)?,
            route(&night.table("quarantine")?, "leaving <> 0", &quarantine_columns)?,
        ];
        Ok(Output { frame, routes })
    }
}
