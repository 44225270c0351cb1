//! What an account says, in the shape in which it is compared, and in which blocks it is.

use std::collections::BTreeSet;

use datafusion::prelude::DataFrame;
use tessera_contract::{
    Entity,
    project::matching::{Comparison, Contradiction, Sure},
};
use tessera_engine::formula::{self, quote, text};

use super::{Changed, pairs::Compared};
use crate::{Night, Outcome, StageError, blame, in_short, rows};

/// What of `[identity]` takes part: what is made of columns that somebody gives.
pub(super) struct Plan<'a> {
    /// Names and expressions; of a field that nobody gives, none.
    fields: Vec<(&'a str, Option<String>)>,
    /// Names and expressions.
    pub blocks: Vec<(&'a str, &'a str)>,
    pub comparisons: Vec<(&'a str, &'a Comparison)>,
    pub rules: Vec<(&'a str, &'a Sure)>,
    pub contradictions: Vec<(&'a str, &'a Contradiction)>,
}

/// The accounts with their blocks, and what of these is too large.
pub(super) struct Blocks {
    pub counts: Compared,
    /// The accounts: `_id`, `account_key`, `_changed`, the fields, and `_b0`, `_b1` …, null where the block is cut.
    pub frame: DataFrame,
}

/// The name under which it is kept in which blocks accounts are.
const KEPT: &str = "blocks";

impl<'a> Plan<'a> {
    pub(super) async fn of(night: &'a Night<'a>) -> Result<Self, StageError> {
        let settings = &night.project.identity;
        let absent = night.availability.absent(Entity::Customers);
        let customers = night.input("clean_customers")?.schema();
        let mut fields = Vec::new();
        for (name, field) in &settings.fields {
            let names = names(&field.expression, &format!("identity.fields.{name}.expression"))?;
            let known: Vec<_> = names.iter().filter(|n| customers.has_column_with_unqualified_name(n)).collect();
            let given = field.enabled && (known.is_empty() || known.iter().any(|n| !absent.contains(&n.as_str())));
            let place = format!("identity.fields.{name}.expression");
            let expression = formula::with_word(&field.expression, "default_country", &text(&settings.country))
                .map_err(|e| StageError::Expression { place, problem: in_short(&e) })?;
            fields.push((name.as_str(), given.then_some(expression)));
        }
        let of = |text: &str, place: String| {
            let names = names(text, &place)?;
            let mine: Vec<bool> = fields.iter().filter(|(f, _)| names.contains(*f)).map(|(_, e)| e.is_some()).collect();
            Ok::<_, StageError>((mine.iter().all(|given| *given) && !mine.is_empty(), mine.contains(&true)))
        };
        let mut plan = Self {
            fields: fields.clone(),
            blocks: Vec::new(),
            comparisons: Vec::new(),
            rules: Vec::new(),
            contradictions: Vec::new(),
        };
        for (name, block) in settings.blocks.iter().filter(|(_, b)| b.enabled) {
            if of(&block.expression, format!("identity.blocks.{name}.expression"))?.0 {
                plan.blocks.push((name, &block.expression));
            }
        }
        for (name, comparison) in settings.comparisons.iter().filter(|(_, c)| c.enabled) {
            if of(&comparison.unknown, format!("identity.comparisons.{name}.unknown"))?.1 {
                plan.comparisons.push((name, comparison));
            }
        }
        for (name, rule) in settings.rules.iter().filter(|(_, r)| r.enabled) {
            if of(&rule.when, format!("identity.rules.{name}.when"))?.1 {
                plan.rules.push((name, rule));
            }
        }
        for (name, contradiction) in settings.contradictions.iter().filter(|(_, c)| c.enabled) {
            if of(&contradiction.when, format!("identity.contradictions.{name}.when"))?.1 {
                plan.contradictions.push((name, contradiction));
            }
        }
        Ok(plan)
    }

    /// Whether there is anything to compare accounts by.
    pub(super) fn compares(&self) -> bool {
        !self.blocks.is_empty() && !self.comparisons.is_empty()
    }

    /// Of each comparison, whether a block is made of the fields that are equal at its first level.
    pub(super) fn made_of(&self, block: usize) -> Result<Vec<bool>, StageError> {
        let (name, expression) = self.blocks[block];
        let of = names(expression, &format!("identity.blocks.{name}.expression"))?;
        let mine = |name: &&str| of.contains(*name);
        let fields: Vec<&str> = self.fields.iter().map(|(name, _)| *name).filter(mine).collect();
        let made_of = self.comparisons.iter().map(|(name, comparison)| {
            let first = comparison.levels.first().map(|level| level.when.as_str()).unwrap_or_default();
            let named = names(first, &format!("identity.comparisons.{name}.levels"))?;
            Ok(fields.iter().any(|field| named.contains(*field)))
        });
        made_of.collect()
    }

    /// What learned parameters are of.
    pub(super) fn definition(&self, night: &Night<'_>) -> String {
        let settings = &night.project.identity;
        let shapes: Vec<_> = self.comparisons.iter().map(|(name, c)| format!("{name} {c:?}")).collect();
        let said = (&self.fields, &self.blocks, shapes, &settings.nobody, settings.largest_block);
        stamp(night, &format!("{said:?}"))
    }

    /// What is told of a pair beside its weight.
    pub(super) fn verdicts(&self, night: &Night<'_>) -> String {
        let settings = &night.project.identity;
        let bounds = (settings.match_probability, settings.review_probability, settings.largest_person);
        stamp(night, &format!("{:?} {:?} {bounds:?}", self.rules, self.contradictions))
    }

    /// SQL of the fields and blocks of `clean`; `also` are columns that pass through.
    fn select(&self, night: &Night<'_>, also: &str, salt: u32) -> String {
        let settings = &night.project.identity;
        let nobody = |mailbox: bool| {
            let of = settings.nobody.iter().filter(|n| n.ends_with('@') == mailbox).map(|n| text(&n.to_lowercase()));
            let of: Vec<_> = of.collect();
            if of.is_empty() { "''".to_owned() } else { of.join(", ") }
        };
        let (values, mailboxes) = (nobody(false), nobody(true));
        let (mut said, mut fields, mut blocks) = (String::new(), String::new(), String::new());
        for (name, expression) in &self.fields {
            let name = quote(name);
            let Some(expression) = expression else {
                said.push_str(&format!(", CAST(NULL AS VARCHAR) AS {name}"));
                fields.push_str(&format!(", {name}"));
                continue;
            };
            said.push_str(&format!(", CAST({expression} AS VARCHAR) AS {name}"));
            fields.push_str(&format!(
                ", CASE WHEN lower({name}) IN ({values}) OR (strpos({name}, '@') > 0 AND concat(split_part({name}, '@', 1), '@') IN ({mailboxes})) \
                 THEN NULL ELSE {name} END AS {name}"
            ));
        }
        for (at, (name, expression)) in self.blocks.iter().enumerate() {
            let block = text(name);
            blocks.push_str(&format!(
                ", CASE WHEN ({expression}) IS NOT NULL THEN row_hash({block}, ({expression})) END AS _b{at}"
            ));
        }
        let salt = if salt == 0 { String::new() } else { format!(", {salt}") };
        format!(
            "SELECT *{blocks} FROM (SELECT row_hash(account_key{salt}) AS _id, account_key{also}{fields} \
             FROM (SELECT account_key{also}{said} FROM clean))"
        )
    }

    async fn planned(
        &self,
        night: &Night<'_>,
        also: &str,
        salt: u32,
        clean: &DataFrame,
    ) -> Result<DataFrame, StageError> {
        let error = match night.over(&self.select(night, also, salt), &[("clean", clean)]).await {
            Ok(frame) => return Ok(frame),
            Err(error) => error,
        };
        let entries = self
            .fields
            .iter()
            .filter_map(|(name, expression)| Some((format!("identity.fields.{name}.expression"), expression.clone()?)));
        let query = |expression: &str| format!("SELECT {expression} FROM clean");
        if let Some(error) = blame(night, entries.collect(), query, &[("clean", clean)]).await {
            return Err(error);
        }
        let names: Vec<_> =
            self.fields.iter().map(|(name, _)| format!("CAST('' AS VARCHAR) AS {}", quote(name))).collect();
        let query = |expression: &str| format!("SELECT {expression} FROM (SELECT {})", names.join(", "));
        let entries = self.blocks.iter().map(|(n, e)| (format!("identity.blocks.{n}.expression"), (*e).to_owned()));
        Err(blame(night, entries.collect(), query, &[]).await.unwrap_or(error))
    }

    /// The accounts of a frame of customers, with fields and blocks.
    pub(super) async fn fields_of(&self, night: &Night<'_>, clean: &DataFrame) -> Result<DataFrame, StageError> {
        self.planned(night, "", 0, clean).await
    }

    /// The accounts with fields and blocks, and whether they `changed`: all of them, or, where `few` did, those that share a block with one
    /// of these. In which blocks everybody is, is kept for the next night.
    pub(super) async fn fields(
        &self,
        night: &Night<'_>,
        changed: Option<&Changed>,
        few: bool,
        outcome: &mut Outcome,
    ) -> Result<DataFrame, StageError> {
        let mut clean = night.input("clean_customers")?.clone();
        if night.folders.is_none() {
            let clean = night.over("SELECT *, true AS _changed FROM clean", &[("clean", &clean)]).await?;
            return self.planned(night, ", _changed", 0, &clean).await;
        }
        let mut few_fields = None;
        match changed {
            None => clean = night.over("SELECT *, true AS _changed FROM clean", &[("clean", &clean)]).await?,
            Some(changed) => {
                let marked = night.over("SELECT account_key, true AS changed FROM c", &[("c", &changed.frame)]).await?;
                if few {
                    let query = "SELECT c.* FROM m JOIN clean AS c ON c.account_key = m.account_key";
                    let theirs = night.over(query, &[("m", &marked), ("clean", &clean)]).await?;
                    let theirs = night.engine.materialise(self.fields_of(night, &theirs).await?, "theirs").await?;
                    let near = self.near(night, &theirs, changed).await?;
                    let query = "SELECT c.* FROM near JOIN clean AS c ON c.account_key = near.account_key";
                    clean = night.over(query, &[("near", &near), ("clean", &clean)]).await?;
                    few_fields = Some(theirs);
                }
                let all = night.engine.look_up(clean, "account_key", (marked, changed.count), "_hit").await?;
                let query = "SELECT * EXCEPT (_hit), _hit IS NOT NULL AS _changed FROM a";
                clean = night.over(query, &[("a", &all)]).await?;
            }
        }
        for salt in 0.. {
            let frame = self.planned(night, ", _changed", salt, &clean).await?;
            let frame = night.engine.materialise(frame, &format!("fields{salt}")).await?;
            let query = "SELECT count(*) AS accounts, count(DISTINCT _id) AS ids FROM f";
            let batch = rows::collect(night.over(query, &[("f", &frame)]).await?).await?;
            if rows::integers(&batch, "accounts")? == rows::integers(&batch, "ids")? || salt == 3 {
                self.keep(night, few_fields.as_ref().unwrap_or(&frame), few_fields.is_some(), outcome).await?;
                return Ok(frame);
            }
        }
        unreachable!("the loop returns")
    }

    /// What is kept of everybody holds for the next night too.
    pub(super) fn hold(&self, night: &Night<'_>, outcome: &mut Outcome) {
        if night.kept.contains_key(KEPT) {
            outcome.stamps.insert(KEPT.to_owned(), self.definition(night));
            outcome.stays(KEPT, "");
        }
    }

    /// Keeps in which blocks accounts are, beside what is kept of the others, if these are `more`.
    async fn keep(
        &self,
        night: &Night<'_>,
        fields: &DataFrame,
        more: bool,
        outcome: &mut Outcome,
    ) -> Result<(), StageError> {
        let columns: String = (0..self.blocks.len()).map(|at| format!(", _b{at}")).collect();
        let mut rows = night.over(&format!("SELECT account_key{columns} FROM f"), &[("f", fields)]).await?;
        if more {
            let people = rows::count(night, night.input("clean_customers")?).await?;
            if self.kept(night).is_some()
                && night.kept.get(KEPT).is_some_and(|kept| kept.rows < people / 2 * 3 + 10_000)
            {
                outcome.stays(KEPT, "");
            } else {
                let all = self.fields_of(night, night.input("clean_customers")?).await?;
                rows = night.over(&format!("SELECT account_key{columns} FROM f"), &[("f", &all)]).await?;
            }
        }
        outcome.stamps.insert(KEPT.to_owned(), self.definition(night));
        night.keep(outcome, KEPT, rows).await.map(drop)
    }

    /// In which blocks the accounts were that the parent night knew; also those of which they are no more.
    fn kept(&self, night: &Night<'_>) -> Option<DataFrame> {
        let kept = night.kept.get(KEPT).filter(|kept| kept.stamp == self.definition(night));
        kept.map(|kept| kept.frame.clone())
    }

    /// The keys of the accounts that changed, and of those that share a block with one; others may be among them.
    async fn near(&self, night: &Night<'_>, theirs: &DataFrame, changed: &Changed) -> Result<DataFrame, StageError> {
        let mut all = match self.kept(night) {
            Some(kept) => kept,
            None => self.fields_of(night, night.input("clean_customers")?).await?,
        };
        let mut shared = Vec::new();
        for at in 0..self.blocks.len() {
            let query = format!("SELECT _b{at}, true AS _near FROM t WHERE _b{at} IS NOT NULL GROUP BY _b{at}");
            let blocks =
                night.engine.materialise(night.over(&query, &[("t", theirs)]).await?, &format!("near{at}")).await?;
            let name = format!("_near{at}");
            all = night.engine.look_up(all, &format!("_b{at}"), (blocks, changed.count), &name).await?;
            shared.push(format!("{name} IS NOT NULL"));
        }
        let query =
            format!("SELECT account_key FROM a WHERE {} UNION SELECT account_key FROM changed", shared.join(" OR "));
        let near = night.over(&query, &[("a", &all), ("changed", &changed.frame)]).await?;
        night.engine.materialise(near, "near").await.map_err(Into::into)
    }

    /// The accounts with the blocks that are too large taken out, and how many these are.
    pub(super) async fn blocks(&self, night: &Night<'_>, fields: &DataFrame) -> Result<Blocks, StageError> {
        let largest = night.project.identity.largest_block;
        let mut frame = fields.clone();
        let mut counts = Compared::default();
        for (at, (name, _)) in self.blocks.iter().enumerate() {
            // Of a block without an account that changed nothing is asked.
            let query = format!(
                "SELECT _b{at} AS block, count(*) AS n, count(*) FILTER (WHERE _changed) AS c FROM f WHERE _b{at} IS NOT NULL GROUP BY _b{at} \
                 HAVING count(*) > 1 AND count(*) FILTER (WHERE _changed) > 0"
            );
            let sizes = night.over(&query, &[("f", fields)]).await?;
            let sizes = night.engine.materialise(sizes, &format!("sizes{at}")).await?;
            let query = format!(
                "SELECT count(*) FILTER (WHERE n <= {largest}) AS blocks, sum(n * c - c * (c + 1) / 2) FILTER (WHERE n <= {largest}) AS pairs, \
                 count(*) FILTER (WHERE n > {largest}) AS cut, sum(n) FILTER (WHERE n > {largest}) AS accounts FROM s"
            );
            let batch = rows::collect(night.over(&query, &[("s", &sizes)]).await?).await?;
            let one = |name: &str| {
                Ok::<_, StageError>(
                    rows::integers(&batch, name)?.first().copied().flatten().unwrap_or(0).unsigned_abs(),
                )
            };
            let cut = one("cut")?;
            counts.add(name, one("blocks")?, one("pairs")?, cut, one("accounts")?);
            if cut > 0 {
                let query = format!("SELECT block, true AS cut FROM s WHERE n > {largest}");
                let cuts =
                    night.engine.materialise(night.over(&query, &[("s", &sizes)]).await?, &format!("cut{at}")).await?;
                let column = format!("_b{at}");
                frame = night.engine.look_up(frame, &column, (cuts, cut), "_cut").await?;
                let query =
                    format!("SELECT * EXCEPT (_b{at}, _cut), CASE WHEN _cut IS NULL THEN _b{at} END AS _b{at} FROM f");
                frame = night.over(&query, &[("f", &frame)]).await?;
            }
        }
        Ok(Blocks { counts, frame })
    }
}

/// A hash of catalogue expressions as they are asked tonight.
pub(super) fn stamp(night: &Night<'_>, said: &str) -> String {
    let tonight = if said.contains("as_of") { night.as_of.to_string() } else { String::new() };
    formula::stamp(&format!("{said} {tonight} {}", night.project.project.timezone))
}

/// The names in an expression.
fn names(expression: &str, place: &str) -> Result<BTreeSet<String>, StageError> {
    formula::names(expression).map_err(|e| StageError::Expression {
        place: place.to_owned(),
        problem: format!("`{expression}`: {}", in_short(&e)),
    })
}
