//! `identity`: who is who, why, and what people decide of it. All of it is personal.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::Write,
    path::Path,
};

use anyhow::{Context as _, Result};
use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_contract::project::matching::Decided;
use tessera_engine::{
    Engine, Secret,
    formula::{Words, text},
};

use super::query;
use crate::{
    chain::texts,
    cli::{Identity, Rows, Verdict},
    context::{Context, resolve},
    errors::Usage,
    reader::Scope,
    show,
};

/// Does what was asked.
pub async fn run(context: &Context, command: Identity) -> Result<()> {
    match command {
        Identity::Explain { id, as_of, snapshot } => Tables::open(context, as_of, snapshot).await?.explain(&id).await,
        Identity::Review { as_of, snapshot, rows, format } => {
            let tables = Tables::open(context, as_of, snapshot).await?;
            let limit = if rows == 0 { String::new() } else { format!(" LIMIT {rows}") };
            let frame = tables
                .sql(&format!(
                    "SELECT l.customer_id, r.customer_id AS other_customer_id, p.decision, round(p.weight, 1) AS bits, p.reason, \
                     p.contradiction, p.levels FROM identity_pairs AS p JOIN identity AS l ON p.left_key = l.account_key \
                     JOIN identity AS r ON p.right_key = r.account_key WHERE p.decision IN ('review', 'held') \
                     ORDER BY p.weight DESC NULLS LAST, l.customer_id, r.customer_id{limit}"
                ))
                .await?;
            show::rows(frame, format).await
        }
        Identity::Report { as_of, snapshot, format } => {
            let tables = Tables::open(context, as_of, snapshot).await?;
            show::rows(tables.sql("SELECT metric, scope, value, told FROM identity_report").await?, format).await
        }
        Identity::Decide { id, other, verdict } => decide(context, &id, &other, verdict),
        Identity::Evaluate { truth, as_of, snapshot, format } => {
            Tables::open(context, as_of, snapshot).await?.evaluate(&truth, format).await
        }
    }
}

/// The tables of one night.
struct Tables {
    engine: Engine,
    frames: Vec<(String, DataFrame)>,
}

impl Tables {
    async fn open(context: &Context, as_of: Option<String>, snapshot: Option<String>) -> Result<Self> {
        let scope = match (as_of, snapshot) {
            (Some(as_of), _) => Scope::Night(context.night(&as_of)?.to_string()),
            (None, Some(id)) => Scope::Snapshot(id),
            // Of every night there would be pairs.
            (None, None) => match context.lake.registry().history().await?.newest() {
                Some(newest) => Scope::Snapshot(newest.snapshot_id.clone()),
                None => {
                    let problem = "no night is published; of one that was held, name it: --snapshot ID, as `tessera snapshots list` has it";
                    return Err(Usage(problem.to_owned()).into());
                }
            },
        };
        let (engine, frames) = query::all(context, &scope).await?;
        if !frames.iter().any(|(name, _)| name == "identity_pairs") {
            return Err(Usage("the night is of a program that did not resolve persons yet".to_owned()).into());
        }
        Ok(Self { engine, frames })
    }

    async fn sql(&self, query: &str) -> Result<DataFrame> {
        let named: Vec<_> = self.frames.iter().map(|(name, frame)| (name.as_str(), frame)).collect();
        Ok(self.engine.sql(query, &named, &Words::none()).await?)
    }

    async fn collect(&self, query: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.sql(query).await?.collect().await?)
    }

    /// Which accounts are one person with that of an id, why, who nearly was, and what they say together.
    async fn explain(&self, id: &str) -> Result<()> {
        let id = text(id);
        let mine = format!(
            "(SELECT * FROM identity WHERE customer_key IN (SELECT customer_key FROM identity \
             WHERE customer_id = {id} OR account_key = {id} OR customer_key = {id}))"
        );
        let accounts = self
            .collect(&format!(
                "SELECT customer_key, customer_id, account_key, event, since, evidence, round(weight, 1) AS bits FROM {mine} \
                 ORDER BY since, customer_id"
            ))
            .await?;
        if accounts.iter().all(|batch| batch.num_rows() == 0) {
            let problem = "nobody has this id: it is a customer_id of the sources, an account_key or a customer_key";
            return Err(Usage(format!("{id}: {problem}")).into());
        }
        let header = ["customer_key", "customer_id", "account_key", "event", "since", "evidence", "bits"];
        println!("The accounts of one person\n{}", show::table(&accounts, &header)?);
        let pairs = self
            .collect(&format!(
                "SELECT l.customer_id, r.customer_id AS other, p.decision, round(p.weight, 1) AS bits, p.reason, p.contradiction, p.levels \
                 FROM identity_pairs AS p JOIN identity AS l ON p.left_key = l.account_key JOIN identity AS r ON p.right_key = r.account_key \
                 WHERE p.left_key IN (SELECT account_key FROM {mine}) OR p.right_key IN (SELECT account_key FROM {mine}) \
                 ORDER BY p.decision <> 'same', p.weight DESC NULLS LAST, 1, 2"
            ))
            .await?;
        if pairs.iter().any(|batch| batch.num_rows() > 0) {
            let header = ["customer_id", "other", "decision", "bits", "reason", "contradiction", "levels"];
            println!("\nAccounts two by two\n{}", show::table(&pairs, &header)?);
        }
        self.golden(&mine).await
    }

    /// What the accounts say together, and which of them says it.
    async fn golden(&self, mine: &str) -> Result<()> {
        let query =
            format!("SELECT g.* FROM golden_records AS g WHERE g.customer_key IN (SELECT customer_key FROM {mine})");
        let golden = self.collect(&query).await?;
        let Some(golden) = golden.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
        let query = format!(
            "SELECT i.customer_id, c.* FROM clean_customers AS c JOIN {mine} AS i ON c.account_key = i.account_key ORDER BY 1"
        );
        let said = self.collect(&query).await?;
        let mut table = show::plain();
        table.set_header(["column", "value", "said by"]);
        for (at, field) in golden.schema().fields().iter().enumerate() {
            if ["as_of", "customer_key", "accounts"].contains(&field.name().as_str()) {
                continue;
            }
            let Some(value) = texts(golden, at)?.into_iter().next().flatten() else { continue };
            let mut by = Vec::new();
            for batch in &said {
                let Ok(column) = batch.schema().index_of(field.name()) else { continue };
                let ids = texts(batch, 0)?.into_iter().zip(texts(batch, column)?);
                by.extend(ids.filter(|(_, said)| said.as_ref() == Some(&value)).filter_map(|(id, _)| id));
            }
            let by = if by.is_empty() { "all together".to_owned() } else { by.join(", ") };
            table.add_row([field.name().as_str(), &show::printable(&value), &show::printable(&by)]);
        }
        println!("\nWhat they say together\n{table}");
        Ok(())
    }

    /// Precision and recall over pairs of accounts, held against a file that knows the persons.
    async fn evaluate(&self, truth: &Path, format: Rows) -> Result<()> {
        let rows = records(truth, ["customer_id", "person"])?;
        let truth: HashMap<String, String> = rows.into_iter().map(|[id, person]| (id, person)).collect();
        let batches = self.collect("SELECT customer_id, customer_key FROM identity").await?;
        let mut persons: HashMap<&str, u64> = HashMap::new();
        let mut both: HashMap<(&str, String), u64> = HashMap::new();
        let mut customers: HashMap<String, u64> = HashMap::new();
        let mut known = 0_u64;
        for batch in &batches {
            for (id, customer) in texts(batch, 0)?.into_iter().zip(texts(batch, 1)?) {
                let (Some(id), Some(customer)) = (id, customer) else { continue };
                let Some((_, person)) = truth.get_key_value(&id) else { continue };
                known += 1;
                *persons.entry(person).or_default() += 1;
                *customers.entry(customer.clone()).or_default() += 1;
                *both.entry((person, customer)).or_default() += 1;
            }
        }
        if known == 0 {
            return Err(Usage("none of the ids of the truth is a customer_id of the night".to_owned()).into());
        }
        let pairs = |n: &u64| n * n.saturating_sub(1) / 2;
        let (real, made): (u64, u64) = (persons.values().map(pairs).sum(), customers.values().map(pairs).sum());
        let right: u64 = both.values().map(pairs).sum();
        let share = |of: u64, all: u64| if all == 0 { 1.0 } else { of as f64 / all as f64 };
        let (precision, recall) = (share(right, made), share(right, real));
        let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        let query = format!(
            "SELECT {known} AS accounts, {} AS persons, {} AS customers, {real} AS true_pairs, {made} AS found_pairs, {right} AS right_pairs, \
             CAST({precision:?} AS DOUBLE) AS precision, CAST({recall:?} AS DOUBLE) AS recall, CAST({f1:?} AS DOUBLE) AS f1",
            persons.len(),
            customers.len(),
        );
        show::rows(self.sql(&query).await?, format).await
    }
}

/// The rows of a CSV file in some of its columns.
fn records<const N: usize>(file: &Path, columns: [&str; N]) -> Result<Vec<[String; N]>> {
    let shown = file.display();
    let usage = |problem: String| Usage(format!("{shown}: {problem}"));
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file).map_err(|e| usage(e.to_string()))?;
    let header = reader.headers().map_err(|e| usage(e.to_string()))?.clone();
    let mut at = [0; N];
    for (place, name) in at.iter_mut().zip(columns) {
        *place = header
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| usage(format!("has no column `{name}`; its header is {}", columns.join(","))))?;
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| usage(e.to_string()))?;
        rows.push(at.map(|at| record.get(at).unwrap_or_default().to_owned()));
    }
    Ok(rows)
}

const DECISIONS: [&str; 3] = ["customer_id", "other_customer_id", "decision"];

/// What people decided, by account key; the last word of two accounts counts.
pub fn decisions(folder: &Path, file: &str, secret: &Secret) -> Result<Vec<Decided>> {
    let file = resolve(folder, file);
    let mut all: BTreeMap<(String, String), bool> = BTreeMap::new();
    for [id, other, decision] in records(Path::new(&file), DECISIONS)? {
        let same = match decision.as_str() {
            "same" => true,
            "different" => false,
            _ => return Err(Usage(format!("{file}: a decision is `same` or `different`, not `{decision}`")).into()),
        };
        let keys: BTreeSet<String> = [&id, &other].map(|id| secret.key(id)).into();
        let mut keys = keys.into_iter();
        let (Some(one), Some(other)) = (keys.next(), keys.next()) else {
            return Err(Usage(format!("{file}: `{id}` stands on both sides of a decision")).into());
        };
        all.insert((one, other), same);
    }
    Ok(all.into_iter().map(|((one, other), same)| Decided { one, other, same }).collect())
}

/// Adds a decision to the project's file.
fn decide(context: &Context, id: &str, other: &str, verdict: Verdict) -> Result<()> {
    let file = &context.project.identity.decisions;
    if file.is_empty() {
        let problem = "the project names no file of decisions; write `decisions = \"decisions.csv\"` below [identity]";
        return Err(Usage(problem.to_owned()).into());
    }
    if id == other {
        return Err(Usage(format!("`{id}` is on both sides")).into());
    }
    let file = resolve(&context.folder, file);
    let word = match verdict {
        Verdict::Same => "same",
        Verdict::Different => "different",
    };
    let quoted = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let broken = || format!("{file} cannot be written");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let mut out = fs::OpenOptions::new().create(true).append(true).open(&file).with_context(broken)?;
    if before.is_empty() {
        writeln!(out, "{}", DECISIONS.join(",")).with_context(broken)?;
    } else if !before.ends_with('\n') {
        writeln!(out).with_context(broken)?;
    }
    writeln!(out, "{},{},{word}", quoted(id), quoted(other)).with_context(broken)?;
    eprintln!("{file}: {id} and {other} are {word}; the next night honours it");
    Ok(())
}
