//! Who is who tonight: the persons that the pairs make, the keys that they keep, and what is left of it in tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray},
    prelude::DataFrame,
};
use tessera_algo::{
    fellegi_sunter,
    persons::{self, Account, Held},
};

use super::{
    Changed, golden,
    pairs::{self, BIT, Pair},
};
use crate::{Night, Outcome, Output, StageError, rows};

/// An account's row of `identity`, but for the owner's id.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    customer: String,
    event: String,
    evidence: String,
    weight: Option<f64>,
    /// Days since 1970.
    since: i64,
    customer_since: i64,
    accounts: i64,
}

/// A pair, what was decided of it, and why.
type Told = (Pair, &'static str, String);

/// What was found.
pub(super) struct Resolved {
    /// The pairs with what was decided of each, and why.
    pub pairs: Vec<Told>,
    /// The accounts whose row is not that of an account alone, or not what it was.
    rows: BTreeMap<String, Row>,
    /// Whether a row of the parent night changes or goes.
    anew: bool,
    /// The accounts whose person is another, or has more or fewer accounts.
    moved: BTreeSet<String>,
    /// Accounts tonight.
    pub accounts: u64,
    /// The parent night's accounts that are not in tonight's.
    born: DataFrame,
}

/// Puts accounts together.
pub(super) async fn resolve(
    night: &Night<'_>,
    before: Option<&DataFrame>,
    pairs: Vec<Pair>,
) -> Result<Resolved, StageError> {
    let (least, review) = pairs::bounds(night);
    let (keys, links) = pairs::links(&pairs, least);
    let (of, held) = persons::persons(keys.len(), &links, night.project.identity.largest_person as usize);
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    of.iter().enumerate().for_each(|(account, person)| groups.entry(*person).or_default().push(account));

    let ids = night.given("account_ids")?;
    let accounts = rows::count(night, &ids.frame).await?;
    let born = match (before, &ids.added) {
        (None, _) => ids.frame.clone(),
        (Some(_), Some(added)) => added.clone(),
        (Some(before), None) => {
            let query =
                "SELECT a.* FROM account_ids AS a LEFT ANTI JOIN previous AS p ON a.account_key = p.account_key";
            let born = night.over(query, &[("account_ids", &ids.frame), ("previous", before)]).await?;
            night.engine.materialise(born, "born").await?
        }
    };
    // Those whose row may be another than that of an account alone: tonight's persons, and those of the parent night.
    let mut involved: BTreeSet<String> = BTreeSet::new();
    for members in groups.values().filter(|m| m.len() > 1) {
        involved.extend(members.iter().map(|at| keys[*at].to_owned()));
    }
    let mut then: BTreeMap<String, Row> = BTreeMap::new();
    let mut anew = false;
    if let Some(before) = before {
        then = earlier(night, before, &ids.frame, &involved).await?;
        let count = rows::count(night, before).await? + rows::count(night, &born).await?;
        anew = count != accounts;
    }
    involved.extend(then.keys().cloned());
    // An account that comes back does not take the key that somebody else has by now.
    if before.is_some() {
        let taken: BTreeSet<String> = then.values().map(|row| row.customer.clone()).collect();
        let query = "SELECT t.account_key FROM t JOIN born AS b ON t.account_key = b.account_key";
        let taken = pairs::keyed(night, &taken).await?;
        let back = rows::collect(night.over(query, &[("t", &taken), ("born", &born)]).await?).await?;
        involved.extend(rows::texts(&back, "account_key")?.into_iter().flatten());
    }

    let number: BTreeMap<&str, usize> = keys.iter().enumerate().map(|(n, key)| (*key, n)).collect();
    let mut persons: Vec<Vec<usize>> = Vec::new();
    let mut all: Vec<Account> = Vec::new();
    let mut place: BTreeMap<usize, usize> = BTreeMap::new();
    for key in &involved {
        let before = then
            .get(key)
            .map(|row| persons::Before { key: row.customer.clone(), since: format!("{:08}", row.customer_since) });
        all.push(Account { key: key.clone(), before, activity: 0 });
        let at = all.len() - 1;
        match number.get(key.as_str()) {
            Some(n) => match place.get(&of[*n]) {
                Some(person) => persons[*person].push(at),
                None => {
                    place.insert(of[*n], persons.len());
                    persons.push(vec![at]);
                }
            },
            None => persons.push(vec![at]),
        }
    }
    count_activity(night, &persons, &mut all).await?;
    let kept = persons::keep_keys(&persons, &all);
    let given = persons::keys(&persons, &all, &kept);
    let given = make_keys(night, &persons, &all, given).await?;

    let strongest = strongest(&pairs, &number, &of, least);
    let tonight = i64::from(night.as_of.days());
    let mut made: BTreeMap<String, Row> = BTreeMap::new();
    let mut moved = BTreeSet::new();
    for ((members, key), kept) in persons.iter().zip(given).zip(&kept) {
        let customer_since = kept.as_ref().and_then(|k| k.since.parse().ok()).unwrap_or(tonight);
        let size = i64::try_from(members.len()).unwrap_or(i64::MAX);
        for at in members {
            let account = &all[*at].key;
            let was = then.get(account);
            let row = |event: &str, evidence: String, weight: Option<f64>, since: i64| Row {
                customer: key.clone(),
                event: event.to_owned(),
                evidence,
                weight,
                since,
                customer_since,
                accounts: size,
            };
            let row = match was {
                Some(was) if was.customer == key => Row { customer_since, accounts: size, ..was.clone() },
                Some(_) if kept.is_none() => row("split_from", "no longer the same person".into(), None, tonight),
                None if kept.is_none() && (*account == key || size == 1) => {
                    row("born", "declared id".into(), None, tonight)
                }
                _ => {
                    let pair = strongest.get(account.as_str());
                    let weight = pair.filter(|p| p.weight > i64::MIN).map(|p| p.weight as f64 / BIT);
                    row("merged_into", pair.map_or_else(|| "declared id".into(), |p| evidence(p)), weight, tonight)
                }
            };
            anew |= was.is_some_and(|was| *was != row);
            if was.is_none_or(|was| (&was.customer, was.accounts) != (&row.customer, row.accounts)) {
                moved.insert(account.clone());
            }
            made.insert(account.clone(), row);
        }
    }
    let mut told = Vec::new();
    for ((pair, link), held) in pairs.into_iter().zip(&links).zip(held) {
        let same = of[link.a] == of[link.b];
        let (decision, reason) = verdict(&pair, same, held, least, review);
        told.push((pair, decision, reason));
    }
    Ok(Resolved { pairs: told, rows: made, anew, moved, accounts, born })
}

/// What is said of a pair: the decision and its reason.
fn verdict(pair: &Pair, same: bool, held: Option<Held>, least: i64, review: i64) -> (&'static str, String) {
    let people =
        |same: bool| if same { "people decided that they are the same" } else { "people decided that they are not" };
    match (pair.decided, same, held) {
        (Some(decided), _, None) => (if same { "same" } else { "different" }, people(decided).to_owned()),
        (_, true, _) if pair.joins(least) => ("same", evidence(pair)),
        (_, true, _) => ("same", "both are the same as others".to_owned()),
        (_, false, Some(Held::Contradiction)) => {
            let against = pair.contradiction.clone();
            ("held", against.unwrap_or_else(|| "accounts of theirs cannot be one person".to_owned()))
        }
        (_, false, Some(Held::Bridge)) => ("held", "it alone would join two groups of accounts".to_owned()),
        (_, false, Some(Held::TooLarge)) => ("held", "it would be a person of too many accounts".to_owned()),
        (_, false, None) if pair.joins(least) => ("held", pair.contradiction.clone().unwrap_or_default()),
        (_, false, None) if pair.weight >= review => {
            ("review", pair.contradiction.clone().unwrap_or_else(|| "alike, but not enough".to_owned()))
        }
        (_, false, None) => ("different", pair.contradiction.clone().unwrap_or_else(|| "not alike enough".to_owned())),
    }
}

/// Why two accounts are one person.
fn evidence(pair: &Pair) -> String {
    let agreeing: Vec<String> = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&pair.levels)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, level)| match level.as_str()? {
            "different" => None,
            "exact" => Some(name.replace('_', " ")),
            level => Some(format!("{} {level}", name.replace('_', " "))),
        })
        .collect();
    match (&pair.decided, &pair.rule, agreeing.is_empty()) {
        (Some(true), ..) => "decided by people".to_owned(),
        (_, Some(rule), _) => rule.clone(),
        (_, None, false) => format!("agree in {}", agreeing.join(", ")),
        (_, None, true) => "weight".to_owned(),
    }
}

/// Of each account the strongest pair that makes it one with others.
fn strongest<'a>(
    pairs: &'a [Pair],
    number: &BTreeMap<&str, usize>,
    of: &[usize],
    least: i64,
) -> BTreeMap<&'a str, &'a Pair> {
    let mut all: BTreeMap<&str, &Pair> = BTreeMap::new();
    for pair in pairs.iter().filter(|p| p.joins(least)) {
        if of[number[pair.left.as_str()]] != of[number[pair.right.as_str()]] {
            continue;
        }
        for account in [pair.left.as_str(), pair.right.as_str()] {
            let best = all.entry(account).or_insert(pair);
            if (pair.weight, &best.left, &best.right) > (best.weight, &pair.left, &pair.right) {
                *best = pair;
            }
        }
    }
    all
}

/// The parent night's rows of accounts that are not alone, or that are `involved` tonight, as far as they are still there.
async fn earlier(
    night: &Night<'_>,
    before: &DataFrame,
    ids: &DataFrame,
    involved: &BTreeSet<String>,
) -> Result<BTreeMap<String, Row>, StageError> {
    let involved = pairs::keyed(night, involved).await?;
    let query = "SELECT p.account_key, p.customer_key, p.event, p.evidence, p.weight, arrow_cast(p.since, 'Int32') AS since, \
                 arrow_cast(p.customer_since, 'Int32') AS customer_since, p.accounts FROM \
                 (SELECT * FROM previous WHERE accounts > 1 OR customer_key <> account_key \
                 UNION ALL SELECT p.* FROM involved AS i JOIN previous AS p ON p.account_key = i.account_key \
                 WHERE p.accounts = 1 AND p.customer_key = p.account_key) AS p \
                 JOIN account_ids AS a ON p.account_key = a.account_key";
    let tables = [("previous", before), ("account_ids", ids), ("involved", &involved)];
    let batch = rows::collect(night.over(query, &tables).await?).await?;
    let text = |name: &str| rows::texts(&batch, name);
    let (keys, customers, events, evidence) =
        (text("account_key")?, text("customer_key")?, text("event")?, text("evidence")?);
    let integer = |name: &str| rows::integers(&batch, name);
    let (since, customer_since, accounts) = (integer("since")?, integer("customer_since")?, integer("accounts")?);
    let weights = rows::floats(&batch, "weight")?;
    let mut all = BTreeMap::new();
    for at in 0..keys.len() {
        let row = Row {
            customer: customers[at].clone().unwrap_or_default(),
            event: events[at].clone().unwrap_or_default(),
            evidence: evidence[at].clone().unwrap_or_default(),
            weight: weights[at],
            since: since[at].unwrap_or(0),
            customer_since: customer_since[at].unwrap_or(0),
            accounts: accounts[at].unwrap_or(1),
        };
        all.insert(keys[at].clone().unwrap_or_default(), row);
    }
    Ok(all)
}

/// Counts what was done with accounts whose customer's key is asked for by several persons.
async fn count_activity(night: &Night<'_>, persons: &[Vec<usize>], all: &mut [Account]) -> Result<(), StageError> {
    let mut by_key: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (person, members) in persons.iter().enumerate() {
        for before in members.iter().filter_map(|at| all[*at].before.as_ref()) {
            by_key.entry(&before.key).or_default().insert(person);
        }
    }
    let split: BTreeSet<&str> = by_key.into_iter().filter(|(_, of)| of.len() > 1).map(|(key, _)| key).collect();
    let of = |a: &&Account| a.before.as_ref().is_some_and(|b| split.contains(b.key.as_str()));
    let whom: BTreeSet<String> = all.iter().filter(of).map(|a| a.key.clone()).collect();
    if whom.is_empty() {
        return Ok(());
    }
    let whom = pairs::keyed(night, &whom).await?;
    let query = "SELECT w.account_key, count(*) AS n FROM w JOIN clean AS c ON w.account_key = c.account_key GROUP BY w.account_key";
    let lines = night.input("clean_transactions")?;
    let batch = rows::collect(night.over(query, &[("w", &whom), ("clean", lines)]).await?).await?;
    let counts: BTreeMap<Option<String>, Option<i64>> =
        rows::texts(&batch, "account_key")?.into_iter().zip(rows::integers(&batch, "n")?).collect();
    for account in all {
        let n = counts.get(&Some(account.key.clone())).copied().flatten();
        account.activity = n.unwrap_or(0).unsigned_abs();
    }
    Ok(())
}

/// The keys of persons, those of whom nobody's account key is free made of the smallest one.
async fn make_keys(
    night: &Night<'_>,
    persons: &[Vec<usize>],
    all: &[Account],
    given: Vec<Option<String>>,
) -> Result<Vec<String>, StageError> {
    let mut taken: BTreeSet<String> = given.iter().flatten().cloned().collect();
    let mut keys = given;
    for n in 1.. {
        let open: Vec<usize> = (0..keys.len()).filter(|at| keys[*at].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let first = |at: &usize| persons[*at].iter().map(|member| all[*member].key.as_str()).min().unwrap_or_default();
        let of: ArrayRef = Arc::new(open.iter().map(|at| Some(format!("{} {n}", first(at)))).collect::<StringArray>());
        let at: ArrayRef = Arc::new((0..open.len() as i64).map(Some).collect::<Int64Array>());
        let asked = rows::frame(night.engine, vec![("place", at), ("of", of)])?;
        let query = "SELECT customer_key(of) AS k FROM asked ORDER BY place";
        let batch = rows::collect(night.over(query, &[("asked", &asked)]).await?).await?;
        for (at, key) in open.into_iter().zip(rows::texts(&batch, "k")?) {
            keys[at] = key.filter(|key| taken.insert(key.clone()));
        }
    }
    Ok(keys.into_iter().flatten().collect())
}

impl Resolved {
    /// How many customers there are, how many of them have several accounts, and by size how many.
    pub(super) fn sizes(&self) -> BTreeMap<i64, u64> {
        let mut sizes: BTreeMap<i64, u64> = BTreeMap::new();
        self.rows.values().filter(|r| r.accounts > 1).for_each(|r| *sizes.entry(r.accounts).or_default() += 1);
        let together: u64 = sizes.values().sum();
        sizes.iter_mut().for_each(|(size, n)| *n /= size.unsigned_abs());
        sizes.insert(1, self.accounts.saturating_sub(together));
        sizes
    }

    /// Leaves the tables.
    pub(super) async fn leave(
        &self,
        night: &Night<'_>,
        before: Option<&DataFrame>,
        changed: Option<&Changed>,
        outcome: &mut Outcome,
    ) -> Result<(), StageError> {
        let ids = night.input("account_ids")?;
        let (base, stays) = match before {
            Some(_) if !self.anew => (&self.born, true),
            _ => (ids, false),
        };
        let rows = self.rows(night)?;
        let tonight = i64::from(night.as_of.days());
        let previous = match before {
            Some(before) if !stays => Some(before),
            _ => None,
        };
        let or_before = |name: &str, alone: &str| match previous {
            Some(_) => format!("coalesce(r.{name}, p.{name}, {alone})"),
            None => format!("coalesce(r.{name}, {alone})"),
        };
        let weight = match previous {
            Some(_) => "CASE WHEN r.account_key IS NOT NULL THEN r.weight ELSE p.weight END",
            None => "r.weight",
        };
        let night_of = format!("arrow_cast(CAST({tonight} AS INT), 'Date32')");
        let query = format!(
            "SELECT a.customer_id, a.account_key, {} AS customer_key, {} AS event, {} AS evidence, {weight} AS weight, {} AS since, \
             {} AS customer_since, {} AS accounts FROM a LEFT JOIN r ON a.account_key = r.account_key{}",
            or_before("customer_key", "a.account_key"),
            or_before("event", "'born'"),
            or_before("evidence", "'declared id'"),
            or_before("since", &night_of),
            or_before("customer_since", &night_of),
            or_before("accounts", "1"),
            if previous.is_some() { " LEFT JOIN p ON a.account_key = p.account_key" } else { "" },
        );
        let frame = night.over(&query, &[("a", base), ("r", &rows), ("p", previous.unwrap_or(base))]).await?;
        for table in ["identity", "accounts"] {
            if stays {
                outcome.stays(table, "");
            }
            outcome.outputs.push(Output::table(night, table, frame.clone())?);
        }
        let (golden, ledger) = golden::golden(night, &rows, changed, &self.moved, outcome).await?;
        outcome.outputs.push(Output::table(night, "golden_records", golden)?);
        outcome.outputs.push(Output::table(night, "golden_ledger", ledger)?);
        outcome.outputs.push(Output::table(night, "identity_pairs", self.pairs(night)?)?);
        Ok(())
    }

    /// The accounts that are not alone, or not what they were.
    fn rows(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let texts = |of: &dyn Fn(&String, &Row) -> String| {
            Arc::new(self.rows.iter().map(|(k, r)| Some(of(k, r))).collect::<StringArray>()) as ArrayRef
        };
        let dates = |of: &dyn Fn(&Row) -> i64| {
            let days = self.rows.values().map(|r| i32::try_from(of(r)).ok());
            Arc::new(days.collect::<Date32Array>()) as ArrayRef
        };
        rows::frame(
            night.engine,
            vec![
                ("account_key", texts(&|k, _| k.clone())),
                ("customer_key", texts(&|_, r| r.customer.clone())),
                ("event", texts(&|_, r| r.event.clone())),
                ("evidence", texts(&|_, r| r.evidence.clone())),
                ("weight", Arc::new(self.rows.values().map(|r| r.weight).collect::<Float64Array>())),
                ("since", dates(&|r| r.since)),
                ("customer_since", dates(&|r| r.customer_since)),
                ("accounts", Arc::new(self.rows.values().map(|r| Some(r.accounts)).collect::<Int64Array>())),
            ],
        )
    }

    fn pairs(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let texts = |of: &dyn Fn(&Told) -> Option<String>| {
            Arc::new(self.pairs.iter().map(of).collect::<StringArray>()) as ArrayRef
        };
        let bits = |pair: &Pair| (pair.weight > i64::MIN).then_some(pair.weight as f64 / BIT);
        let weights: Float64Array = self.pairs.iter().map(|(p, ..)| bits(p)).collect();
        let probabilities: Float64Array =
            self.pairs.iter().map(|(p, ..)| bits(p).map(fellegi_sunter::probability)).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("left_key", texts(&|(p, ..)| Some(p.left.clone())), true),
            ("right_key", texts(&|(p, ..)| Some(p.right.clone())), true),
            ("weight", Arc::new(weights) as ArrayRef, true),
            ("probability", Arc::new(probabilities) as ArrayRef, true),
            ("rule", texts(&|(p, ..)| p.rule.clone()), true),
            ("contradiction", texts(&|(p, ..)| p.contradiction.clone()), true),
            ("levels", texts(&|(p, ..)| (!p.levels.is_empty()).then(|| p.levels.clone())), true),
            ("decision", texts(&|(_, decision, _)| Some((*decision).to_owned())), true),
            ("reason", texts(&|(.., reason)| Some(reason.clone())), true),
        ])?;
        Ok(night.engine.session().read_batch(batch)?)
    }
}
