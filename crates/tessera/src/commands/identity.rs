//! `identity`: who is who, why, and what people decide of it. All of it is personal.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::Write,
    path::Path,
};

use anyhow::{Context as _, Result};
use tessera_contract::project::matching::Decided;
use tessera_engine::{Secret, formula::text};

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
            tables.review(rows, format).await
        }
        Identity::Report { as_of, snapshot, format } => {
            let tables = Tables::open(context, as_of, snapshot).await?;
            show::rows(tables.0.sql("SELECT metric, scope, value, told FROM identity_report").await?, format).await
        }
        Identity::Decide { id, other, verdict } => decide(context, &id, &other, verdict).await,
        Identity::Evaluate { truth, as_of, snapshot, format } => {
            Tables::open(context, as_of, snapshot).await?.evaluate(&truth, format).await
        }
    }
}

/// The tables of one night.
struct Tables(query::Tables);

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
        let tables = query::Tables::open(context, &scope, true).await?;
        if !tables.has("identity_pairs") {
            return Err(Usage("the night is of a program that did not resolve persons yet".to_owned()).into());
        }
        Ok(Self(tables))
    }

    /// Pairs for people to look at, the likeliest first, with what both sides say.
    async fn review(&self, rows: usize, format: Rows) -> Result<()> {
        let limit = if rows == 0 { String::new() } else { format!(" LIMIT {rows}") };
        let asked = "p.decision IN ('review', 'held')";
        let query = format!(
            "SELECT l.customer_id, {} AS says, r.customer_id AS other_customer_id, {} AS other_says, p.decision, \
             round(p.weight, 1) AS bits, p.reason FROM identity_pairs AS p JOIN identity AS l ON p.left_key = l.account_key \
             JOIN identity AS r ON p.right_key = r.account_key JOIN clean_customers AS c ON p.left_key = c.account_key \
             JOIN clean_customers AS d ON p.right_key = d.account_key WHERE {asked} \
             ORDER BY p.weight DESC NULLS LAST, l.customer_id, r.customer_id{limit}",
            says("c"),
            says("d"),
        );
        show::rows(self.0.sql(&query).await?, format).await?;
        let counts = self.0.collect(&format!("SELECT count(*) AS n FROM identity_pairs AS p WHERE {asked}")).await?;
        let all = counts.first().map(|batch| texts(batch, 0)).transpose()?.and_then(|n| n.into_iter().next().flatten());
        let all: usize = all.and_then(|n| n.parse().ok()).unwrap_or(0);
        if rows > 0 && all > rows {
            eprintln!("{rows} of {all} pairs; --rows 0 shows all");
        }
        Ok(())
    }

    /// Which accounts are one person with that of an id, why, who nearly was, and what they say together.
    async fn explain(&self, id: &str) -> Result<()> {
        let id = text(id);
        let mine = format!(
            "(SELECT * FROM identity WHERE customer_key IN (SELECT customer_key FROM identity \
             WHERE customer_id = {id} OR account_key = {id} OR customer_key = {id}))"
        );
        let accounts = self
            .0
            .collect(&format!(
                "SELECT i.customer_key, i.customer_id, i.account_key, {} AS says, i.event, i.since, i.evidence, \
                 round(i.weight, 1) AS bits FROM {mine} AS i LEFT JOIN clean_customers AS c ON i.account_key = c.account_key \
                 ORDER BY i.since, i.customer_id",
                says("c")
            ))
            .await?;
        if accounts.iter().all(|batch| batch.num_rows() == 0) {
            let problem = "nobody has this id: it is a customer_id of the sources, an account_key or a customer_key";
            return Err(Usage(format!("{id}: {problem}")).into());
        }
        let header = ["customer_key", "customer_id", "account_key", "says", "event", "since", "evidence", "bits"];
        println!("The accounts of one person\n{}", show::table(&accounts, &header)?);
        // Seen from this person's side.
        let told = "decision, weight, reason, contradiction, levels";
        let pairs = self
            .0
            .collect(&format!(
                "SELECT l.customer_id, r.customer_id AS other, {} AS other_says, p.decision, round(p.weight, 1) AS bits, p.reason, \
                 p.contradiction, p.levels FROM (SELECT {told}, left_key, right_key FROM identity_pairs WHERE left_key IN (SELECT account_key FROM {mine}) \
                 UNION ALL SELECT {told}, right_key, left_key FROM identity_pairs \
                 WHERE right_key IN (SELECT account_key FROM {mine}) AND left_key NOT IN (SELECT account_key FROM {mine})) AS p \
                 JOIN identity AS l ON p.left_key = l.account_key \
                 JOIN identity AS r ON p.right_key = r.account_key LEFT JOIN clean_customers AS c ON p.right_key = c.account_key \
                 ORDER BY p.decision <> 'same', p.weight DESC NULLS LAST, 1, 2",
                says("c")
            ))
            .await?;
        if pairs.iter().any(|batch| batch.num_rows() > 0) {
            let header =
                ["customer_id", "other", "other_says", "decision", "bits", "reason", "contradiction", "levels"];
            println!("\nAccounts two by two\n{}", show::table(&pairs, &header)?);
        }
        self.golden(&mine).await
    }

    /// What the accounts say together, and which of them says it.
    async fn golden(&self, mine: &str) -> Result<()> {
        let query =
            format!("SELECT g.* FROM golden_records AS g WHERE g.customer_key IN (SELECT customer_key FROM {mine})");
        let golden = self.0.collect(&query).await?;
        let Some(golden) = golden.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
        let query = format!(
            "SELECT i.customer_id, c.* FROM clean_customers AS c JOIN {mine} AS i ON c.account_key = i.account_key ORDER BY 1"
        );
        let said = self.0.collect(&query).await?;
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
        let file = truth.display();
        let mut truth: HashMap<String, String> = HashMap::new();
        for [id, person] in rows.into_iter().filter(|[_, person]| !person.is_empty()) {
            if let Some(other) = truth.insert(id.clone(), person.clone())
                && other != person
            {
                return Err(Usage(format!("{file}: `{id}` is both `{other}` and `{person}`")).into());
            }
        }
        let batches = self.0.collect("SELECT customer_id, customer_key FROM identity").await?;
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
        // Of nothing there is no share.
        let share = |of: f64, all: u64| if all == 0 { "NULL".to_owned() } else { format!("{:?}", of / all as f64) };
        let (precision, recall) = (share(right as f64, made), share(right as f64, real));
        let f1 = share(2.0 * right as f64, made + real);
        let query = format!(
            "SELECT {known} AS accounts, {} AS persons, {} AS customers, {real} AS true_pairs, {made} AS found_pairs, {right} AS right_pairs, \
             CAST({precision} AS DOUBLE) AS precision, CAST({recall} AS DOUBLE) AS recall, CAST({f1} AS DOUBLE) AS f1",
            persons.len(),
            customers.len(),
        );
        show::rows(self.0.sql(&query).await?, format).await
    }
}

/// SQL of what an account says of its person, in a line.
fn says(clean: &str) -> String {
    let together = |columns: &[&str]| {
        let of: Vec<_> = columns.iter().map(|column| format!("{clean}.{column}")).collect();
        format!("nullif(concat_ws(' ', {}), '')", of.join(", "))
    };
    format!(
        "concat_ws(', ', {}, CAST({clean}.birth_date AS VARCHAR), {clean}.email, {clean}.phone, {clean}.address, {})",
        together(&["first_name", "last_name"]),
        together(&["postal_code", "city"])
    )
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
        *place = header.iter().position(|known| known == name).ok_or_else(|| {
            let has: Vec<_> = header.iter().collect();
            usage(format!("needs the columns {}; its header is {}", columns.join(", "), has.join(", ")))
        })?;
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
        let same = match decision.to_lowercase().as_str() {
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
async fn decide(context: &Context, id: &str, other: &str, verdict: Verdict) -> Result<()> {
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
    // An id that nobody has yet may come.
    if let Ok(tables) = Tables::open(context, None, None).await {
        for id in [id, other] {
            let query = format!("SELECT customer_id FROM identity WHERE customer_id = {}", text(id));
            if let Ok(found) = tables.0.collect(&query).await
                && found.iter().all(|batch| batch.num_rows() == 0)
            {
                eprintln!("{id} is no customer_id of the newest night; until it comes, nothing follows from it");
            }
        }
    }
    Ok(())
}
