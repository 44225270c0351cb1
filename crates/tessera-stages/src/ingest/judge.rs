//! What becomes of a row: typed, repaired, and judged by every rule that looks at it alone, once; then by those that ask for
//! other rows.

use datafusion::{
    common::ScalarValue,
    prelude::{DataFrame, Expr, lit},
};
use tessera_contract::{Entity, entity::Computed, project::AfterAsOf};
use tessera_engine::formula::{self, quote};

use super::{
    Mapping, Step,
    accounts::People,
    arrivals, asks_who_is_known,
    mapping::Mapped,
    steps,
    waterfall::{self, Compare, lossy, unparsable},
};
use crate::{Given, Night, Source, StageError, availability, blame};

/// How the rows of a source are judged.
pub(super) struct Judge {
    pub entity: Entity,
    pub mapping: Mapping,
    pub steps: Vec<Step>,
    /// The names of the rules that repair, in their order.
    pub repairs: Vec<String>,
    /// Whether rules may ask who the clean customers are.
    pub asks: bool,
    /// What the mapping, the rules and the code that made this have in common with another night's.
    pub stamp: String,
}

/// The column of what a value was before a rule repaired it.
pub(super) fn old(rule: &str) -> String {
    format!("old {rule}")
}

/// The lowest bit of those at which a row leaves: the step of the waterfall at which it does. DataFusion's simplifier takes a minus
/// for a bitwise not, and makes `x & -x` a 0.
pub(super) const FIRST: &str = "(leaving & (0 - leaving))";

impl Judge {
    /// The judge of a source's rows, of which only the columns are looked at.
    pub(super) async fn of(night: &Night<'_>, source: &Source) -> Result<Self, StageError> {
        let (entity, asks) = (source.entity, asks_who_is_known(night.sources, source.entity));
        let mapping = super::map(night, entity, &arrivals::any(night, source)?).await?;
        let steps = steps(night.project, entity, &mapping, asks)?;
        let stamp = arrivals::stamp(night, entity, &mapping, &steps);
        let repairs = steps.iter().filter(|s| s.repairs()).map(|s| s.name.clone()).collect();
        Ok(Self { entity, mapping, steps, repairs, asks, stamp })
    }

    /// The steps that compare rows, in their order.
    pub(super) fn compares(&self) -> Result<Vec<Compare<'_>>, StageError> {
        waterfall::compares(&self.steps, &self.mapping)
    }

    /// The rows of each feed, typed, as one: `_locator`, `_defect`, the records, the canonical columns, and of each what of it could
    /// not be read.
    pub(super) async fn typed(&self, night: &Night<'_>, arrivals: &[DataFrame]) -> Result<DataFrame, StageError> {
        let flag = |name: &str, sql: Option<&String>| match sql {
            Some(sql) => format!("coalesce({sql}, false) AS {}", quote(name)),
            None => format!("false AS {}", quote(name)),
        };
        let mut all: Option<DataFrame> = None;
        for (feed, rows) in self.mapping.feeds.iter().zip(arrivals) {
            let record = quote(&feed.record_column());
            let (mut values, mut flags) = (vec![format!("_locator, _defect, _record AS {record}")], Vec::new());
            for (m, any) in feed.columns.iter().zip(&self.mapping.columns) {
                values.push(format!("{} AS {}", m.expression, quote(&m.column.name)));
                if any.unparsable.is_some() {
                    flags.push(flag(&unparsable(&m.column.name), m.unparsable.as_ref()));
                }
                if any.lossy.is_some() {
                    flags.push(flag(&lossy(&m.column.name), m.lossy.as_ref()));
                }
            }
            let mut query = format!("SELECT {} FROM source", [values, flags].concat().join(", "));
            let columns = self.typed_columns(&[record]);
            for m in feed.columns.iter().filter(|m| m.absent.is_some()) {
                let (name, absent) = (quote(&m.column.name), m.absent.as_deref().unwrap_or("NULL"));
                let others: Vec<_> =
                    columns.iter().map(|c| if *c == name { format!("{absent} AS {c}") } else { c.clone() }).collect();
                query = format!("SELECT {} FROM ({query})", others.join(", "));
            }
            let mut frame = night.over(&query, &[("source", rows)]).await?;
            for other in self.mapping.feeds.iter().filter(|other| other.feed != feed.feed) {
                frame = frame.with_column(&other.record_column(), lit(ScalarValue::try_from(&other.record)?))?;
            }
            let columns = self.typed_columns(&self.mapping.records()).join(", ");
            let frame = night.over(&format!("SELECT {columns} FROM feed"), &[("feed", &frame)]).await?;
            all = Some(match all {
                Some(all) => all.union(frame)?,
                None => frame,
            });
        }
        all.ok_or_else(|| StageError::Data(format!("{} have no source", self.entity)))
    }

    /// The columns of typed rows, as SQL.
    fn typed_columns(&self, records: &[String]) -> Vec<String> {
        let columns = &self.mapping.columns;
        let mut all = vec!["_locator".to_owned(), "_defect".to_owned()];
        all.extend_from_slice(records);
        all.extend(columns.iter().map(|m| quote(&m.column.name)));
        for m in columns {
            all.extend(m.unparsable.is_some().then(|| quote(&unparsable(&m.column.name))));
            all.extend(m.lossy.is_some().then(|| quote(&lossy(&m.column.name))));
        }
        all
    }

    /// Types, repairs and judges rows of the feeds by the steps that look at a row alone.
    ///
    /// Beside the canonical columns that the source gives stand `_locator`, `_defect` and the records, as in the source; `after`, whether
    /// the row happened at or after the instant of the night; `later`, whether it therefore waits; `repaired`, the bits of the
    /// rules that repaired it; `mask`, those of the steps that it fails; and for each step that compares rows a hash of what
    /// it compares.
    pub(super) async fn judged(&self, night: &Night<'_>, arrivals: &[DataFrame]) -> Result<DataFrame, StageError> {
        let Self { entity, mapping, steps, .. } = self;
        let source = &self.typed(night, arrivals).await?;
        let mut columns = self.typed_columns(&mapping.records());
        let mut query = format!("SELECT {} FROM source", columns.join(", "));
        let unrepaired = query.clone();
        for step in steps.iter().filter(|s| s.repairs()) {
            let Some(target) = step.rule.as_ref().and_then(|r| r.column.as_deref()).map(quote) else { continue };
            let kept: Vec<_> = columns.iter().filter(|c| **c != target).cloned().collect();
            let flag = quote(&format!("repaired {}", step.name));
            let (new, old) = (&step.expression, quote(&old(&step.name)));
            let changes = format!("coalesce(({new}) IS DISTINCT FROM {target}, false)");
            // The owner's id of a customer stands in no clean table.
            let was = match target == quote("customer_id") {
                true => "arrow_cast(NULL, 'Utf8')".to_owned(),
                false => format!("CASE WHEN {changes} THEN CAST({target} AS VARCHAR) END"),
            };
            query = format!(
                "SELECT {}, ({new}) AS {target}, {changes} AS {flag}, {was} AS {old} FROM ({query})",
                kept.join(", ")
            );
            columns.extend([flag, old]);
        }
        let computed = |c: &Computed| {
            let given = c.given.filter(|(column, _)| mapping.has(column)).map(|(_, expression)| expression);
            format!(", {} AS {}", given.unwrap_or(c.expression), quote(c.name))
        };
        let computed: String = entity.computed().iter().map(computed).collect();
        query = format!("SELECT *{computed} FROM ({query})");
        let repaired: String = self
            .repairs
            .iter()
            .enumerate()
            .map(|(bit, name)| {
                format!(" + CASE WHEN {} THEN {} ELSE 0 END", quote(&format!("repaired {name}")), 1_i64 << bit)
            })
            .collect();
        query = format!(
            "SELECT *, arrow_cast(0{repaired}, 'Int64') AS repaired, coalesce({}, false) AS after FROM ({query})",
            entity.after()
        );
        let all = match night.over(&query, &[("source", source)]).await {
            Ok(all) => all,
            Err(error) => {
                let alone = |expression: &str| format!("SELECT ({expression}) FROM ({unrepaired})");
                let rules = self.places(Step::repairs);
                return Err(blame(night, rules, alone, &[("source", source)]).await.unwrap_or(error));
            }
        };

        let later = match night.project.quality.events_after_as_of {
            AfterAsOf::SetAside => "after",
            AfterAsOf::Keep => "false",
        };
        let takes_part = |s: &Step| s.skipped.is_none() && s.checks() && !s.asks_known;
        let checks =
            steps.iter().map(|s| if takes_part(s) { format!("({})", s.expression) } else { "true".to_owned() });
        let failed = format!("failed({})", checks.collect::<Vec<_>>().join(", "));
        let hashes: String = self
            .compares()?
            .iter()
            .map(|c| format!(", row_hash({}) AS {}", c.hashed.join(", "), quote(&c.hash)))
            .collect();
        let query =
            format!("SELECT {}, {later} AS later, {failed} AS mask{hashes} FROM rows", self.carried()?.join(", "));
        match night.over(&query, &[("rows", &all)]).await {
            Ok(judged) => Ok(judged),
            Err(error) => Err(self.blamed(night, &all, |s| !s.asks_known).await.unwrap_or(error)),
        }
    }

    /// The columns of a typed row that anybody asks for once it is judged, as SQL.
    fn carried(&self) -> Result<Vec<String>, StageError> {
        let mut asked = formula::names(self.entity.after())?;
        asked.insert(self.entity.event_time().to_owned());
        asked.extend(formula::names(self.entity.amount().unwrap_or("NULL"))?);
        for prefer in self.steps.iter().filter_map(|s| s.rule.as_ref()?.prefer.as_ref()) {
            asked.extend(formula::names(prefer)?);
        }
        let mut columns: Vec<String> = ["_locator", "_defect", "repaired", "after"].map(str::to_owned).into();
        columns.extend(self.repairs.iter().map(|name| quote(&old(name))));
        columns.extend(self.mapping.records());
        let given = |m: &&Mapped| m.available || asked.contains(&m.column.name);
        columns.extend(self.mapping.columns.iter().filter(given).map(|m| quote(&m.column.name)));
        columns.extend(self.entity.computed().iter().map(|c| quote(c.name)));
        Ok(columns)
    }

    /// The same rows with the key of their customer, which is null where nobody knows them; of a source that names the customers, with
    /// that of everybody whom it names.
    pub(super) async fn keyed(
        &self,
        night: &Night<'_>,
        judged: DataFrame,
        people: Option<&People>,
    ) -> Result<DataFrame, StageError> {
        if !self.entity.has_customer() {
            return Ok(judged);
        }
        let Some(people) = people else {
            let query = "SELECT *, customer_key(customer_id) AS account_key FROM judged";
            return night.over(query, &[("judged", &judged)]).await;
        };
        let table = (people.frame.clone(), people.count);
        Ok(night.engine.look_up(judged, "customer_id", table, "account_key").await?)
    }

    /// What becomes of judged rows that no other row rivals: `mask` in full, `leaving`, the bits of it at which a row leaves, and
    /// `waits`: it is later, or leaves only because nobody knows its customer yet.
    pub(super) async fn verdict(&self, night: &Night<'_>, rows: &DataFrame) -> Result<DataFrame, StageError> {
        self.in_turn(night, rows, &|_, query, _| query).await
    }

    /// The steps that ask for other rows, in their order, and then what becomes of the rows. `compare` makes of a query of rows that
    /// reached a step that compares the query of the same rows, those that lose there with its bit in their mask.
    pub(super) async fn in_turn(
        &self,
        night: &Night<'_>,
        rows: &DataFrame,
        compare: &(dyn Fn(&Compare<'_>, String, &str) -> String + Sync),
    ) -> Result<DataFrame, StageError> {
        let has = |name: &str| rows.schema().has_column_with_unqualified_name(name);
        let others: String = rows
            .schema()
            .fields()
            .iter()
            .filter(|f| f.name() != "mask")
            .map(|f| format!("{}, ", quote(f.name())))
            .collect();
        let known = if has("account_key") { "account_key IS NOT NULL AS customer_known, " } else { "" };
        let mut query = format!("SELECT {others}{known}mask FROM rows");
        let others = if known.is_empty() { others } else { format!("{others}customer_known, ") };
        let compares = self.compares()?;
        for (bit, step) in self.steps.iter().enumerate().filter(|(_, s)| s.skipped.is_none()) {
            if step.asks_known && step.checks() && has("account_key") {
                // Of a row that left before, nobody asks whose it is: the answer may be another one on another night.
                let before = waterfall::bits(&self.steps[..bit], |s| s.turns_away() && !s.asks_known);
                let fails = fails(step, bit);
                query = format!(
                    "SELECT {others}mask + CASE WHEN mask & {before} = 0 THEN {fails} ELSE 0 END AS mask FROM ({query})"
                );
            } else if let Some(step) = compares.iter().find(|c| c.bit == bit) {
                query = compare(step, query, &others);
            }
        }
        let leave = waterfall::bits(&self.steps, Step::turns_away);
        let asking = waterfall::bits(&self.steps, |s| s.asks_known && s.turns_away());
        let query = format!(
            "SELECT *, later OR {FIRST} & {asking} <> 0 AS waits FROM (SELECT *, mask & {leave} AS leaving FROM ({query}))"
        );
        match night.over(&query, &[("rows", rows)]).await {
            Ok(rows) => {
                // By an alias, a column is no longer one of the table `rows`: expressions over one result fit every other.
                let columns: Vec<_> = rows.schema().columns();
                Ok(rows
                    .select(columns.into_iter().map(|c| Expr::Column(c.clone()).alias(c.name)).collect::<Vec<_>>())?)
            }
            Err(error) => {
                let rows = match has("account_key") {
                    true => night.over("SELECT *, true AS customer_known FROM rows", &[("rows", rows)]).await?,
                    false => rows.clone(),
                };
                Err(self.blamed(night, &rows, |s| s.asks_known).await.unwrap_or(error))
            }
        }
    }

    /// The first check among those that `which` accepts that does not fit the rows.
    async fn blamed(&self, night: &Night<'_>, rows: &DataFrame, which: impl Fn(&Step) -> bool) -> Option<StageError> {
        let alone = |expression: &str| format!("SELECT CASE WHEN ({expression}) THEN 0 END FROM rows");
        blame(night, self.places(|s| s.checks() && which(s)), alone, &[("rows", rows)]).await
    }

    /// The rules that take part, with the path of their expression.
    fn places(&self, which: impl Fn(&Step) -> bool) -> Vec<(String, String)> {
        let asked = |s: &&Step| s.rule.is_some() && s.skipped.is_none() && !s.expression.is_empty() && which(s);
        let place = |s: &Step| (format!("quality.rules.{}.expression", s.name), s.expression.clone());
        self.steps.iter().filter(asked).map(place).collect()
    }

    /// What the source gives, for the stages that follow.
    pub(super) fn given(&self) -> Given {
        let columns = self.mapping.columns.iter().filter(|m| m.available).map(|m| m.column.name.clone());
        let rules = self.steps.iter().filter(|s| s.skipped.is_none());
        Given {
            columns: columns.collect(),
            rules: rules.map(|s| availability::Rule { name: s.name.clone(), severity: s.severity }).collect(),
        }
    }
}

/// SQL of the bit of a check, if a row fails it.
fn fails(step: &Step, bit: usize) -> String {
    format!("CASE WHEN ({}) THEN 0 ELSE {} END", step.expression, 1_i64 << bit)
}
