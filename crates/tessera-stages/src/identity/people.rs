//! Who is who tonight: the persons that the pairs make, the keys that they keep, and what is left of it in tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray},
    prelude::DataFrame,
};
use tessera_algo::{
    fellegi_sunter,
    persons::{self, Account, Held, Link},
};

use tessera_engine::{formula::quote, write::Route};

use super::{
    Before, golden,
    live::Live,
    pairs::{self, BIT, Pair},
};
use crate::{Night, Outcome, Output, StageError, rows};

/// An account's row of `identity`, but for the owner's id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub customer: String,
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
    /// The accounts whose row is not that of an account alone, or not what it was, by their keys.
    rows: Vec<(String, Row)>,
    /// Whether a row of the parent night changes or goes.
    anew: bool,
    /// Who may be somebody else; the rows are of these alone. Absent, everybody.
    live: Option<Vec<String>>,
    /// The customers that these were.
    were: BTreeSet<String>,
    /// Accounts tonight.
    pub accounts: u64,
    /// The parent night's accounts that are not in tonight's.
    born: DataFrame,
}

/// Puts accounts together.
pub(super) async fn resolve(
    night: &Night<'_>,
    before: Option<Before<'_>>,
    pairs: Vec<Pair>,
    live: Option<Live>,
) -> Result<Resolved, StageError> {
    let before = before.map(|before| before.identity);
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
    let together = groups.values().filter(|m| m.len() > 1).flatten();
    let mut involved: Vec<String> = together.map(|at| keys[*at].to_owned()).collect();
    let mut then: HashMap<String, Row> = HashMap::new();
    let mut anew = false;
    let (mut mine, mut were) = (None, BTreeSet::new());
    if let Some(before) = before {
        then = match live {
            Some(live) => {
                (mine, were) = (Some(live.accounts), live.customers);
                live.then
            }
            None => earlier(night, before, &involved).await?,
        };
        let count = rows::count(night, before).await? + rows::count(night, &born).await?;
        anew = count != accounts;
    }
    involved.extend(then.keys().cloned());
    // An account that comes back does not take the key that somebody else has by now.
    if before.is_some() {
        let query = "SELECT t.account_key FROM t JOIN born AS b ON t.account_key = b.account_key";
        let taken = pairs::keyed(night, then.values().map(|row| row.customer.as_str()))?;
        let back = rows::collect(night.over(query, &[("t", &taken), ("born", &born)]).await?).await?;
        involved.extend(rows::texts(&back, "account_key")?.into_iter().flatten());
    }

    let involved = pairs::sorted(involved.into_iter());
    let mut persons: Vec<Vec<usize>> = Vec::new();
    let mut all: Vec<Account> = Vec::new();
    let mut place: Vec<Option<usize>> = vec![None; keys.len()];
    for key in &involved {
        let before = then
            .get(key)
            .map(|row| persons::Before { key: row.customer.clone(), since: format!("{:08}", row.customer_since) });
        all.push(Account { key: key.clone(), before, activity: 0 });
        let at = all.len() - 1;
        match keys.binary_search(&key.as_str()).ok().map(|n| &mut place[of[n]]) {
            Some(Some(person)) => persons[*person].push(at),
            Some(free) => {
                *free = Some(persons.len());
                persons.push(vec![at]);
            }
            None => persons.push(vec![at]),
        }
    }
    count_activity(night, &persons, &mut all).await?;
    let kept = persons::keep_keys(&persons, &all);
    let given = persons::keys(&persons, &all, &kept);
    let given = make_keys(night, &persons, &all, given, before.zip(mine.as_deref())).await?;

    let strongest = strongest(&pairs, &links, &of, least);
    let tonight = i64::from(night.as_of.days());
    let mut made: Vec<(String, Row)> = Vec::with_capacity(all.len());
    let mut said = Evidence::default();
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
                    let number = keys.binary_search(&account.as_str()).ok();
                    let pair = number.and_then(|n| strongest[n]);
                    let weight = pair.filter(|p| p.weight > i64::MIN).map(|p| p.weight as f64 / BIT);
                    row("merged_into", pair.map_or_else(|| "declared id".into(), |p| said.of(p)), weight, tonight)
                }
            };
            anew |= was.is_some_and(|was| *was != row);
            made.push((account.clone(), row));
        }
    }
    made.sort_by(|a, b| a.0.cmp(&b.0));
    let mut told = Vec::with_capacity(pairs.len());
    for ((pair, link), held) in pairs.into_iter().zip(&links).zip(held) {
        let same = of[link.a] == of[link.b];
        let (decision, reason) = verdict(&pair, same, held, (least, review), &mut said);
        told.push((pair, decision, reason));
    }
    Ok(Resolved { pairs: told, rows: made, anew, live: mine, were, accounts, born })
}

/// What is said of a pair: the decision and its reason.
fn verdict(
    pair: &Pair,
    same: bool,
    held: Option<Held>,
    (least, review): (i64, i64),
    said: &mut Evidence,
) -> (&'static str, String) {
    let people =
        |same: bool| if same { "people decided that they are the same" } else { "people decided that they are not" };
    match (pair.decided, same, held) {
        (Some(true), false, _) => {
            ("held", "people decided that they are the same, and of accounts of theirs that they are not".to_owned())
        }
        (Some(decided), _, None) => (if same { "same" } else { "different" }, people(decided).to_owned()),
        (_, true, _) if pair.joins(least) => ("same", said.of(pair)),
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

/// Why two accounts are one person, by what speaks for it: pairs are many, and what is said of them is little.
#[derive(Default)]
struct Evidence(HashMap<(Option<bool>, Option<String>, String), String>);

impl Evidence {
    fn of(&mut self, pair: &Pair) -> String {
        let of = (pair.decided, pair.rule.clone(), pair.levels.clone());
        self.0.entry(of).or_insert_with(|| evidence(pair)).clone()
    }
}

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
fn strongest<'a>(pairs: &'a [Pair], links: &[Link], of: &[usize], least: i64) -> Vec<Option<&'a Pair>> {
    let mut all: Vec<Option<&Pair>> = vec![None; of.len()];
    for (pair, link) in pairs.iter().zip(links).filter(|(pair, _)| pair.joins(least)) {
        if of[link.a] != of[link.b] {
            continue;
        }
        for account in [link.a, link.b] {
            let best = all[account].get_or_insert(pair);
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
    involved: &[String],
) -> Result<HashMap<String, Row>, StageError> {
    let involved = pairs::keyed(night, involved.iter().map(String::as_str))?;
    let query = "SELECT * FROM previous WHERE accounts > 1 OR customer_key <> account_key \
                 UNION ALL SELECT p.* FROM involved AS i JOIN previous AS p ON p.account_key = i.account_key \
                 WHERE p.accounts = 1 AND p.customer_key = p.account_key";
    let rows = night.over(query, &[("previous", before), ("involved", &involved)]).await?;
    Ok(rows_of(night, &rows).await?.0)
}

/// The parent night's rows of all accounts whose customer is that of one of these accounts, or has the key of one: of those that are still there,
/// and of those that are not.
pub(super) async fn earlier_of(
    night: &Night<'_>,
    before: &DataFrame,
    accounts: &[&str],
) -> Result<(HashMap<String, Row>, HashMap<String, Row>), StageError> {
    let mine = pairs::keyed(night, accounts.iter().copied())?;
    let query = "SELECT p.customer_key FROM mine JOIN previous AS p ON p.account_key = mine.account_key \
                 UNION SELECT account_key AS customer_key FROM mine";
    let customers = night.over(query, &[("mine", &mine), ("previous", before)]).await?;
    let customers = night.engine.materialise(customers, "customers").await?;
    let query = "SELECT p.* FROM customers AS c JOIN previous AS p ON p.customer_key = c.customer_key";
    let rows = night.over(query, &[("customers", &customers), ("previous", before)]).await?;
    rows_of(night, &rows).await
}

/// Rows of the parent night's `identity`, by account: of accounts that are still there, and of others.
async fn rows_of(
    night: &Night<'_>,
    rows: &DataFrame,
) -> Result<(HashMap<String, Row>, HashMap<String, Row>), StageError> {
    let query = "SELECT p.account_key, p.customer_key, p.event, p.evidence, p.weight, arrow_cast(p.since, 'Int32') AS since, \
                 arrow_cast(p.customer_since, 'Int32') AS customer_since, p.accounts, \
                 CASE WHEN a.account_key IS NULL THEN 0 ELSE 1 END AS there \
                 FROM p LEFT JOIN account_ids AS a ON p.account_key = a.account_key";
    let tables = [("p", rows), ("account_ids", night.input("account_ids")?)];
    let batch = rows::collect(night.over(query, &tables).await?).await?;
    let text = |name: &str| rows::texts(&batch, name);
    let (keys, customers, events, evidence) =
        (text("account_key")?, text("customer_key")?, text("event")?, text("evidence")?);
    let integer = |name: &str| rows::integers(&batch, name);
    let (since, customer_since, accounts) = (integer("since")?, integer("customer_since")?, integer("accounts")?);
    let (weights, there) = (rows::floats(&batch, "weight")?, integer("there")?);
    let (mut all, mut gone) = (HashMap::with_capacity(keys.len()), HashMap::new());
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
        let of = if there[at] == Some(1) { &mut all } else { &mut gone };
        of.insert(keys[at].clone().unwrap_or_default(), row);
    }
    Ok((all, gone))
}

/// Counts what was done with accounts whose customer's key is asked for by several persons.
async fn count_activity(night: &Night<'_>, persons: &[Vec<usize>], all: &mut [Account]) -> Result<(), StageError> {
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(all.len());
    let mut split: BTreeSet<&str> = BTreeSet::new();
    for (person, members) in persons.iter().enumerate() {
        for before in members.iter().filter_map(|at| all[*at].before.as_ref()) {
            if *first.entry(&before.key).or_insert(person) != person {
                split.insert(&before.key);
            }
        }
    }
    if split.is_empty() {
        return Ok(());
    }
    let of = |a: &&Account| a.before.as_ref().is_some_and(|b| split.contains(b.key.as_str()));
    let whom = pairs::keyed(night, all.iter().filter(of).map(|a| a.key.as_str()))?;
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
    before: Option<(&DataFrame, &[String])>,
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
        let made = rows::texts(&batch, "k")?;
        // Of those who stay what they were nobody asked; they have keys too.
        if let Some((before, live)) = before {
            let asked = pairs::keyed(night, made.iter().flatten().map(String::as_str))?;
            let query = "SELECT p.account_key, p.customer_key FROM asked AS a JOIN p ON p.customer_key = a.account_key";
            let batch = rows::collect(night.over(query, &[("asked", &asked), ("p", before)]).await?).await?;
            let theirs = rows::texts(&batch, "account_key")?.into_iter().zip(rows::texts(&batch, "customer_key")?);
            let stay =
                theirs.filter(|(account, _)| account.as_ref().is_some_and(|key| live.binary_search(key).is_err()));
            taken.extend(stay.filter_map(|(_, key)| key));
        }
        for (at, key) in open.into_iter().zip(made) {
            keys[at] = key.filter(|key| taken.insert(key.clone()));
        }
    }
    Ok(keys.into_iter().flatten().collect())
}

impl Resolved {
    /// Of how many accounts customers are, and how many there are of each.
    pub(super) async fn sizes(&self, night: &Night<'_>) -> Result<BTreeMap<i64, u64>, StageError> {
        let mut sizes: BTreeMap<i64, u64> = BTreeMap::new();
        self.rows
            .iter()
            .map(|(_, r)| r)
            .filter(|r| r.accounts > 1)
            .for_each(|r| *sizes.entry(r.accounts).or_default() += 1);
        if let (Some(live), Some(before)) = (&self.live, night.previous.get("identity")) {
            let query = "SELECT p.accounts, count(*) AS n FROM p LEFT ANTI JOIN live ON p.account_key = live.account_key \
                         WHERE p.accounts > 1 GROUP BY p.accounts";
            let live = pairs::keyed(night, live.iter().map(String::as_str))?;
            let batch = rows::collect(night.over(query, &[("p", before), ("live", &live)]).await?).await?;
            for (size, n) in rows::integers(&batch, "accounts")?.into_iter().zip(rows::integers(&batch, "n")?) {
                *sizes.entry(size.unwrap_or(1)).or_default() += n.unwrap_or(0).unsigned_abs();
            }
        }
        let together: u64 = sizes.values().sum();
        sizes.iter_mut().for_each(|(size, n)| *n /= size.unsigned_abs());
        sizes.insert(1, self.accounts.saturating_sub(together));
        Ok(sizes)
    }

    /// Leaves the tables; gives the pairs.
    pub(super) async fn leave(
        &self,
        night: &Night<'_>,
        before: Option<Before<'_>>,
        outcome: &mut Outcome,
    ) -> Result<DataFrame, StageError> {
        let (before, known) = (before.map(|before| before.identity), before.map(|before| before.pairs));
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
        if stays {
            outcome.stays("identity", "");
            outcome.stays("accounts", "");
        }
        // The columns of `accounts` are among those of `identity`: both are written in one pass.
        let mut both = Output::table(night, "identity", frame)?;
        both.routes.push(Route::all("accounts", &night.table("accounts")?));
        outcome.outputs.push(both);
        let live = match &self.live {
            Some(live) => Some(pairs::keyed(night, live.iter().map(String::as_str))?),
            None => None,
        };
        let before = before.zip(live.as_ref());
        let (golden, ledger) = golden::golden(night, &rows, before, &self.were, outcome).await?;
        outcome.outputs.push(Output::table(night, "golden_records", golden)?);
        outcome.outputs.push(Output::table(night, "golden_ledger", ledger)?);
        let mut pairs = self.pairs(night)?;
        if let Some((known, live)) = known.zip(live.as_ref()) {
            let columns: Vec<_> = pairs.schema().fields().iter().map(|f| format!("p.{}", quote(f.name()))).collect();
            let query = format!(
                "SELECT {} FROM pairs AS p UNION ALL SELECT {} FROM known AS p LEFT ANTI JOIN live ON p.left_key = live.account_key",
                columns.join(", "),
                columns.join(", ")
            );
            pairs = night.over(&query, &[("pairs", &pairs), ("known", known), ("live", live)]).await?;
        }
        outcome.outputs.push(Output::table(night, "identity_pairs", pairs.clone())?);
        Ok(pairs)
    }

    /// The accounts that are not alone, or not what they were.
    fn rows(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let texts = |of: &dyn Fn(&String, &Row) -> String| {
            Arc::new(self.rows.iter().map(|(k, r)| Some(of(k, r))).collect::<StringArray>()) as ArrayRef
        };
        let dates = |of: &dyn Fn(&Row) -> i64| {
            let days = self.rows.iter().map(|(_, r)| i32::try_from(of(r)).ok());
            Arc::new(days.collect::<Date32Array>()) as ArrayRef
        };
        rows::frame(
            night.engine,
            vec![
                ("account_key", texts(&|k, _| k.clone())),
                ("customer_key", texts(&|_, r| r.customer.clone())),
                ("event", texts(&|_, r| r.event.clone())),
                ("evidence", texts(&|_, r| r.evidence.clone())),
                ("weight", Arc::new(self.rows.iter().map(|(_, r)| r.weight).collect::<Float64Array>())),
                ("since", dates(&|r| r.since)),
                ("customer_since", dates(&|r| r.customer_since)),
                ("accounts", Arc::new(self.rows.iter().map(|(_, r)| Some(r.accounts)).collect::<Int64Array>())),
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
