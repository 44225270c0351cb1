//! What becomes of a row: typed, repaired, and judged by every rule that looks at it alone, once; then by those that ask for
//! other rows.

use datafusion::prelude::{DataFrame, Expr};
use tessera_contract::{Entity, project::AfterAsOf};
use tessera_engine::formula::{self, quote};

use super::{
    Mapping, Step,
    accounts::People,
    arrivals, asks_who_is_known,
    mapping::Mapped,
    steps,
    waterfall::{self, Compare},
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

    /// Types, repairs and judges rows of the source by the steps that look at a row alone.
    ///
    /// Beside the canonical columns that the source gives stand `_locator`, `_defect` and `_record`, as in the source; `after`, whether
    /// the row happened at or after the instant of the night; `later`, whether it therefore waits; `repaired`, the bits of the
    /// rules that repaired it; `mask`, those of the steps that it fails; and for each step that compares rows a hash of what
    /// it compares.
    pub(super) async fn judged(&self, night: &Night<'_>, source: &DataFrame) -> Result<DataFrame, StageError> {
        let Self { entity, mapping, steps, .. } = self;
        let mut columns: Vec<String> = ["_locator", "_defect", "_record"].map(str::to_owned).into();
        let mut typed = columns.clone();
        for m in &mapping.columns {
            let name = quote(&m.column.name);
            typed.push(format!("{} AS {name}", m.expression));
            columns.push(name);
            if let Some(unparsable) = &m.unparsable {
                let name = quote(&format!("unparsable_{}", m.column.name));
                typed.push(format!("coalesce({unparsable}, false) AS {name}"));
                columns.push(name);
            }
            if let Some(lossy) = &m.lossy {
                let name = quote(&waterfall::lossy(&m.column.name));
                typed.push(format!("coalesce({lossy}, false) AS {name}"));
                columns.push(name);
            }
        }
        let mut query = format!("SELECT {} FROM source", typed.join(", "));
        for m in mapping.columns.iter().filter(|m| m.absent.is_some()) {
            let (name, absent) = (quote(&m.column.name), m.absent.as_deref().unwrap_or("NULL"));
            let others: Vec<_> = columns.iter().filter(|c| **c != name).cloned().collect();
            query = format!("SELECT {}, {absent} AS {name} FROM ({query})", others.join(", "));
        }
        let unrepaired = query.clone();
        for step in steps.iter().filter(|s| s.repairs()) {
            let Some(target) = step.rule.as_ref().and_then(|r| r.column.as_deref()).map(quote) else { continue };
            let kept: Vec<_> = columns.iter().filter(|c| **c != target).cloned().collect();
            let flag = quote(&format!("repaired {}", step.name));
            let new = &step.expression;
            query = format!(
                "SELECT {}, ({new}) AS {target}, coalesce(({new}) IS DISTINCT FROM {target}, false) AS {flag} FROM ({query})",
                kept.join(", ")
            );
            columns.push(flag);
        }
        let computed: String =
            entity.computed().iter().map(|c| format!(", {} AS {}", c.expression, quote(c.name))).collect();
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
        for prefer in self.steps.iter().filter_map(|s| s.rule.as_ref()?.prefer.as_ref()) {
            asked.extend(formula::names(prefer)?);
        }
        let mut columns: Vec<String> =
            ["_locator", "_defect", "_record", "repaired", "after"].map(str::to_owned).into();
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
