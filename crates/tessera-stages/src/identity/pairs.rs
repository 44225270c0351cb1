//! Accounts two by two: who is compared, at which levels they are, and what that weighs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, RecordBatch, StringArray},
    prelude::DataFrame,
};
use tessera_algo::{
    fellegi_sunter::{self, Pattern, level},
    persons::{self, Link},
};

use super::{Changed, Plan, fields::Blocks, model::Model};
use crate::{Night, StageError, blame, rows};

/// Millionths of a bit in a bit.
pub(super) const BIT: f64 = 1e6;

/// Two accounts, and what was found of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    /// The smaller key.
    pub left: String,
    pub right: String,
    /// In millionths of a bit.
    pub weight: i64,
    pub rule: Option<String>,
    pub contradiction: Option<String>,
    /// Comparison → level, as JSON.
    pub levels: String,
    /// What people decided.
    pub decided: Option<bool>,
}

/// What was compared, by block: blocks, pairs, blocks that were cut and the accounts in them.
#[derive(Debug, Default)]
pub(super) struct Compared(pub Vec<(String, [u64; 4])>);

impl Compared {
    pub(super) fn add(&mut self, name: &str, blocks: u64, pairs: u64, cut: u64, accounts: u64) {
        self.0.push((name.to_owned(), [blocks, pairs, cut, accounts]));
    }

    /// Pairs to compare; one that is in several blocks counts in each.
    pub(super) fn pairs(&self) -> u64 {
        self.0.iter().map(|(_, counts)| counts[1]).sum()
    }
}

impl Pair {
    /// Whether it makes two accounts one, from that weight on, if nothing speaks against it.
    pub(super) fn joins(&self, least: i64) -> bool {
        self.decided.unwrap_or(self.weight >= least || self.rule.is_some())
    }

    /// Whether they cannot be one.
    pub(super) fn parts(&self) -> bool {
        self.decided.map_or(self.contradiction.is_some(), |same| !same)
    }
}

/// The weight from which on two accounts are one, and that from which on people look at them.
pub(super) fn bounds(night: &Night<'_>) -> (i64, i64) {
    let settings = &night.project.identity;
    let of = |probability| (fellegi_sunter::weight(probability) * BIT).round() as i64;
    (of(settings.match_probability), of(settings.review_probability))
}

/// SQL of the levels of a pair `l`, `r`.
pub(super) fn levels(plan: &Plan<'_>) -> String {
    let code = plan.comparisons.iter().enumerate().map(|(at, (_, comparison))| {
        let levels: String = comparison.levels.iter().map(|level| format!(", ({})", level.when)).collect();
        format!("match_level(({}){levels}) * {}", comparison.unknown, 1_i64 << (4 * at))
    });
    code.collect::<Vec<_>>().join(" + ")
}

/// SQL of a bit for each condition that holds.
fn bits<'a>(conditions: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> =
        conditions.enumerate().map(|(at, when)| format!("CASE WHEN {when} THEN {} ELSE 0 END", 1_i64 << at)).collect();
    if all.is_empty() { "0".to_owned() } else { all.join(" + ") }
}

/// SQL of whether a pair contradicts in anything that could be told of a family.
pub(super) fn contradict(plan: &Plan<'_>) -> String {
    let of = plan.contradictions.iter().filter(|(_, c)| c.unless_replaced.is_some());
    bits(of.map(|(_, c)| c.when.as_str()))
}

/// SQL from `l` and `r` on of the pairs of a block that were in none before it.
pub(super) fn of_block(at: usize, which: &str) -> String {
    let earlier: String = (0..at).map(|b| format!(" AND (l._b{b} = r._b{b}) IS NOT TRUE")).collect();
    format!(
        "FROM f AS l JOIN f AS r ON l._b{at} = r._b{at} \
         WHERE l._changed{which} AND l._id <> r._id AND (NOT r._changed OR l._id < r._id){earlier}"
    )
}

/// SQL of what is told of the pairs `l`, `r` of a query from its FROM on.
fn told(plan: &Plan<'_>, model: &Model, from: &str) -> String {
    let held = model.contradictions(plan).into_iter().filter(|(_, _, holds)| *holds);
    let carried: String = model.terms.keys().map(|at| format!(", l._t{at} AS _t{at}")).collect();
    let terms: String = model.terms.keys().map(|at| format!(", {at}, _t{at}")).collect();
    format!(
        "SELECT \"left\", \"right\", levels, rules, against, match_weight(levels, '{}'{terms}) + {} AS weight FROM \
         (SELECT l.account_key AS \"left\", r.account_key AS \"right\", {} AS levels, {} AS rules, {} AS against{carried} {from})",
        model.weights(),
        model.prior,
        levels(plan),
        bits(plan.rules.iter().map(|(_, rule)| rule.when.as_str())),
        bits(held.map(|(_, contradiction, _)| contradiction.when.as_str())),
    )
}

/// The pairs of accounts that changed with those of their blocks: those that look like one person.
pub(super) async fn compare(
    night: &Night<'_>,
    plan: &Plan<'_>,
    blocks: &Blocks,
    model: &Model,
) -> Result<Vec<Pair>, StageError> {
    let frame = model.with_terms(night, plan, blocks.frame.clone()).await?;
    let (_, review) = bounds(night);
    let mut pairs = Vec::new();
    for (at, (_, counts)) in blocks.counts.0.iter().enumerate().filter(|(_, (_, counts))| counts[1] > 0) {
        tracing::debug!(pairs = counts[1], "comparing the accounts of the block {}", plan.blocks[at].0);
        let told = told(plan, model, &of_block(at, ""));
        let query = format!("SELECT * FROM ({told}) WHERE weight >= {review} OR rules > 0");
        let batch = rows::collect(night.over(&query, &[("f", &frame)]).await?).await?;
        pairs.extend(read(plan, model, &batch)?);
    }
    Ok(pairs)
}

/// Plans the comparisons over no row.
pub(super) async fn plan(night: &Night<'_>, plan: &Plan<'_>, fields: &DataFrame) -> Result<(), StageError> {
    let mut entries = Vec::new();
    for (name, comparison) in &plan.comparisons {
        entries.push((format!("identity.comparisons.{name}.unknown"), comparison.unknown.clone()));
        for level in &comparison.levels {
            entries.push((format!("identity.comparisons.{name}.levels"), level.when.clone()));
        }
    }
    entries.extend(plan.rules.iter().map(|(n, r)| (format!("identity.rules.{n}.when"), r.when.clone())));
    let against = plan.contradictions.iter();
    entries.extend(against.map(|(n, c)| (format!("identity.contradictions.{n}.when"), c.when.clone())));
    let query =
        |expression: &str| format!("SELECT CASE WHEN {expression} THEN 1 END FROM f AS l JOIN f AS r ON l._id = r._id");
    match blame(night, entries, query, &[("f", fields)]).await {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn read(plan: &Plan<'_>, model: &Model, batch: &RecordBatch) -> Result<Vec<Pair>, StageError> {
    let (lefts, rights) = (rows::texts(batch, "left")?, rows::texts(batch, "right")?);
    let (levels, weights) = (rows::integers(batch, "levels")?, rows::integers(batch, "weight")?);
    let (rules, against) = (rows::integers(batch, "rules")?, rows::integers(batch, "against")?);
    let held: Vec<_> = model.contradictions(plan).into_iter().filter(|(_, _, holds)| *holds).collect();
    let mut pairs = Vec::with_capacity(lefts.len());
    for at in 0..lefts.len() {
        let (a, b) = (lefts[at].clone().unwrap_or_default(), rights[at].clone().unwrap_or_default());
        let (left, right) = if a < b { (a, b) } else { (b, a) };
        let set = |bits: Option<i64>, n: usize| bits.unwrap_or(0) >> n & 1 == 1;
        let rule =
            plan.rules.iter().enumerate().find(|(n, _)| set(rules[at], *n)).map(|(_, (_, r))| r.description.clone());
        let speaks: Vec<_> = held
            .iter()
            .enumerate()
            .filter(|(n, _)| set(against[at], *n))
            .map(|(_, (_, c, _))| c.description.as_str())
            .collect();
        pairs.push(Pair {
            left,
            right,
            weight: weights[at].unwrap_or(0),
            rule,
            contradiction: (!speaks.is_empty()).then(|| speaks.join(", ")),
            levels: named(plan, levels[at].unwrap_or(0).cast_unsigned()),
            decided: None,
        });
    }
    Ok(pairs)
}

/// The levels of a pattern as JSON.
fn named(plan: &Plan<'_>, pattern: Pattern) -> String {
    let mut all = serde_json::Map::new();
    for (at, (name, comparison)) in plan.comparisons.iter().enumerate() {
        let level = match level(pattern, at).checked_sub(1) {
            None => continue,
            Some(at) => comparison.levels.get(at).map_or("different", |level| level.name.as_str()),
        };
        all.insert((*name).to_owned(), level.into());
    }
    serde_json::Value::Object(all).to_string()
}

/// The pairs that were found on an earlier night, of accounts that are what they were.
pub(super) async fn kept(night: &Night<'_>, before: &DataFrame, changed: &Changed) -> Result<Vec<Pair>, StageError> {
    let query = "SELECT p.left_key, p.right_key, p.weight, p.rule, p.contradiction, p.levels FROM pairs AS p \
                 LEFT ANTI JOIN (SELECT account_key FROM changed UNION ALL SELECT account_key FROM gone) AS l ON p.left_key = l.account_key \
                 LEFT ANTI JOIN (SELECT account_key FROM changed UNION ALL SELECT account_key FROM gone) AS r ON p.right_key = r.account_key";
    let tables = [("pairs", before), ("changed", &changed.frame), ("gone", &changed.gone)];
    let batch = rows::collect(night.over(query, &tables).await?).await?;
    let text = |name: &str| rows::texts(&batch, name);
    let (lefts, rights, levels) = (text("left_key")?, text("right_key")?, text("levels")?);
    let (rules, against, weights) = (text("rule")?, text("contradiction")?, rows::floats(&batch, "weight")?);
    let all = (0..lefts.len()).filter_map(|at| {
        Some(Pair {
            left: lefts[at].clone()?,
            right: rights[at].clone()?,
            // A pair that people put together was never weighed.
            weight: weights[at].map(|bits| (bits * BIT).round() as i64)?,
            rule: rules[at].clone(),
            contradiction: against[at].clone(),
            levels: levels[at].clone().unwrap_or_default(),
            decided: None,
        })
    });
    Ok(all.collect())
}

/// Puts what people decided beside what was found. Of how many decisions an account is not there.
pub(super) async fn decide(night: &Night<'_>, pairs: &mut Vec<Pair>) -> Result<u64, StageError> {
    let decided = &night.project.identity.decided;
    if decided.is_empty() {
        return Ok(0);
    }
    let mut of_nobody = 0;
    let known = keyed(night, decided.iter().flat_map(|d| [d.one.as_str(), d.other.as_str()]))?;
    let query = "SELECT k.account_key FROM k JOIN account_ids AS a ON k.account_key = a.account_key";
    let there = night.over(query, &[("k", &known), ("account_ids", night.input("account_ids")?)]).await?;
    let there: BTreeSet<String> =
        rows::texts(&rows::collect(there).await?, "account_key")?.into_iter().flatten().collect();
    let mut at: BTreeMap<(String, String), usize> =
        pairs.iter().enumerate().map(|(n, p)| ((p.left.clone(), p.right.clone()), n)).collect();
    for decision in decided {
        let (left, right) =
            (decision.one.clone().min(decision.other.clone()), decision.one.clone().max(decision.other.clone()));
        if !there.contains(&left) || !there.contains(&right) || left == right {
            of_nobody += 1;
            continue;
        }
        let n = *at.entry((left.clone(), right.clone())).or_insert_with(|| {
            let (weight, levels) = (i64::MIN, String::new());
            pairs.push(Pair { left, right, weight, rule: None, contradiction: None, levels, decided: None });
            pairs.len() - 1
        });
        pairs[n].decided = Some(decision.same);
    }
    Ok(of_nobody)
}

/// A frame of account keys, each once.
pub(super) fn keyed<'k>(night: &Night<'_>, keys: impl Iterator<Item = &'k str>) -> Result<DataFrame, StageError> {
    let array: ArrayRef = Arc::new(sorted(keys).into_iter().map(Some).collect::<StringArray>());
    rows::frame(night.engine, vec![("account_key", array)])
}

/// In order, each once: of many that are mostly in order already, faster than a tree.
pub(super) fn sorted<T: Ord>(of: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = of.collect();
    all.sort();
    all.dedup();
    all
}

/// Accounts by number, and the links between them. What people decided to be one is not parted by what speaks against it.
pub(super) fn links(pairs: &[Pair], least: i64) -> (Vec<&str>, Vec<Link>) {
    let keys = sorted(pairs.iter().flat_map(|p| [p.left.as_str(), p.right.as_str()]));
    let number = |key: &str| keys.binary_search(&key).unwrap_or_default();
    let mut links: Vec<Link> = pairs
        .iter()
        .map(|pair| Link {
            a: number(&pair.left),
            b: number(&pair.right),
            weight: if pair.decided == Some(true) { i64::MAX } else { pair.weight },
            joins: pair.joins(least),
            parts: pair.parts(),
        })
        .collect();
    if pairs.iter().any(|pair| pair.decided == Some(true)) {
        let decided: Vec<Link> =
            pairs.iter().zip(&links).map(|(pair, link)| Link { joins: pair.decided == Some(true), ..*link }).collect();
        let of = persons::components(keys.len(), &decided);
        for (pair, link) in pairs.iter().zip(&mut links) {
            link.parts &= pair.decided == Some(false) || of[link.a] != of[link.b];
        }
    }
    (keys, links)
}

/// Compares whoever hangs together, so that contradictions and bridges are seen, and drops what looks like nothing and hangs together with
/// nobody.
pub(super) async fn complete(
    night: &Night<'_>,
    plan: &Plan<'_>,
    model: &Model,
    pairs: &mut Vec<Pair>,
) -> Result<(), StageError> {
    let (least, review) = bounds(night);
    let largest = night.project.identity.largest_person as usize;
    let sort = |pairs: &mut Vec<Pair>| {
        pairs.sort_by(|a, b| (&a.left, &a.right).cmp(&(&b.left, &b.right)));
        pairs.dedup_by(|a, b| (&a.left, &a.right) == (&b.left, &b.right));
    };
    sort(pairs);
    // Of a crowd only those who would be one person are compared, which may part them into others.
    for _ in 0..ROUNDS {
        let missing = missing(pairs, least, largest);
        if missing.is_empty() || night.folders.is_none() {
            break;
        }
        let found = among(night, plan, model, &missing).await?;
        pairs.extend(found);
        sort(pairs);
    }
    let (keys, links) = links(pairs, least);
    let of = persons::components(keys.len(), &links);
    let together: Vec<bool> = links.iter().map(|l| of[l.a] == of[l.b]).collect();
    let mut together = together.into_iter();
    pairs.retain(|pair| {
        let near = together.next().unwrap_or(false);
        near || pair.weight >= review || pair.rule.is_some() || pair.decided.is_some()
    });
    Ok(())
}

/// How often the crowd is looked at again.
const ROUNDS: usize = 6;

/// The pairs that nobody compared among accounts that hang together.
fn missing(pairs: &[Pair], least: i64, largest: usize) -> Vec<(String, String)> {
    let (keys, links) = links(pairs, least);
    let mut of = persons::components(keys.len(), &links);
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    of.iter().for_each(|group| *sizes.entry(*group).or_default() += 1);
    if sizes.values().any(|size| *size > largest * 4) {
        let (persons, _) = persons::persons(keys.len(), &links, largest);
        for (group, person) in of.iter_mut().zip(persons) {
            if sizes[group] > largest * 4 {
                *group = person;
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    of.iter().enumerate().for_each(|(account, group)| groups.entry(*group).or_default().push(account));
    let known: HashSet<(usize, usize)> = links.iter().map(|l| (l.a.min(l.b), l.a.max(l.b))).collect();
    let mut missing = Vec::new();
    for members in groups.values().filter(|m| m.len() > 2) {
        for (n, a) in members.iter().enumerate() {
            for b in members[n + 1..].iter().filter(|b| !known.contains(&(*a.min(b), *a.max(b)))) {
                missing.push((keys[*a].to_owned(), keys[*b].to_owned()));
            }
        }
    }
    missing
}

/// What is told of given pairs.
async fn among(
    night: &Night<'_>,
    plan: &Plan<'_>,
    model: &Model,
    asked: &[(String, String)],
) -> Result<Vec<Pair>, StageError> {
    let whom = keyed(night, asked.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]))?;
    let clean = night.input("clean_customers")?;
    let query = "SELECT c.* FROM whom JOIN clean AS c ON c.account_key = whom.account_key";
    let clean = night.over(query, &[("whom", &whom), ("clean", clean)]).await?;
    let frame = night.engine.materialise(plan.fields_of(night, &clean).await?, "whom").await?;
    let frame = model.with_terms(night, plan, frame).await?;
    let side = |of: &dyn Fn(&(String, String)) -> &str| {
        Arc::new(asked.iter().map(|pair| Some(of(pair))).collect::<StringArray>()) as ArrayRef
    };
    let sides = vec![("left", side(&|p| p.0.as_str())), ("right", side(&|p| p.1.as_str()))];
    let asked = night.engine.materialise(rows::frame(night.engine, sides)?, "asked").await?;
    let from =
        "FROM asked JOIN f AS l ON asked.\"left\" = l.account_key JOIN f AS r ON asked.\"right\" = r.account_key";
    let query = told(plan, model, from);
    let batch = rows::collect(night.over(&query, &[("asked", &asked), ("f", &frame)]).await?).await?;
    read(plan, model, &batch)
}
