//! What a person of several accounts is: what these say together, and whose value in which column that is.

use std::collections::BTreeSet;

use datafusion::prelude::DataFrame;
use tessera_engine::formula::{quote, text};

use super::{fields, pairs};
use crate::{Night, Outcome, StageError, blame};

/// The name under which it is kept by which rules golden records were made.
const GOLDEN: &str = "golden";

/// What persons of several accounts are, and whose values that are. `before` is the parent night's `identity`, and the accounts that may be
/// somebody else, of whom alone the `rows` are; of all others, what the parent night said. `were` are the customers that those were.
pub(super) async fn golden(
    night: &Night<'_>,
    rows: &DataFrame,
    before: Option<(&DataFrame, &DataFrame)>,
    were: &BTreeSet<String>,
    outcome: &mut Outcome,
) -> Result<(DataFrame, DataFrame), StageError> {
    let stamp = golden_stamp(night)?;
    let previous = |name: &str| night.previous.get(name);
    let stood = night.kept.get(GOLDEN).is_some_and(|kept| kept.stamp == stamp);
    let known = match (before, previous("golden_records"), previous("golden_ledger"), stood) {
        (Some(_), Some(records), Some(ledger), true) => Some((records, ledger)),
        _ => None,
    };
    if night.folders.is_some() {
        outcome.stamps.insert(GOLDEN.to_owned(), stamp);
    }
    let of = "SELECT account_key, customer_key, accounts FROM r WHERE accounts > 1";
    let mut several = night.over(of, &[("r", rows)]).await?;
    if let (None, Some((before, live))) = (known, before) {
        let query = format!(
            "{of} UNION ALL SELECT p.account_key, p.customer_key, p.accounts FROM p \
             LEFT ANTI JOIN live ON p.account_key = live.account_key WHERE p.accounts > 1"
        );
        several = night.over(&query, &[("r", rows), ("p", before), ("live", live)]).await?;
    }
    let members = night.materialised(members(night, &several).await?, "members").await?;
    let made = night.materialised(together(night, &members).await?, "golden").await?;
    let ledger = ledger(night, &members, &made).await?;
    let Some((records, before)) = known else { return Ok((made, ledger)) };
    let query = "SELECT customer_key FROM r UNION SELECT account_key AS customer_key FROM were";
    let were = pairs::keyed(night, were.iter().map(String::as_str))?;
    let touched = night.materialised(night.over(query, &[("r", rows), ("were", &were)]).await?, "touched").await?;
    let of = async |before: &DataFrame, made: &DataFrame| {
        let columns: Vec<_> = made.schema().fields().iter().map(|f| quote(f.name())).collect();
        let kept: Vec<_> = columns.iter().map(|column| format!("b.{column}")).collect();
        let query = format!(
            "SELECT {} FROM before AS b LEFT ANTI JOIN touched AS t ON b.customer_key = t.customer_key UNION ALL SELECT {} FROM made",
            kept.join(", "),
            columns.join(", ")
        );
        night.over(&query, &[("touched", &touched), ("before", before), ("made", made)]).await
    };
    Ok((of(records, &made).await?, of(before, &ledger).await?))
}

/// Plans `golden_records` over no row.
pub(super) async fn plan(night: &Night<'_>) -> Result<(), StageError> {
    let nobody = "SELECT account_key, account_key AS customer_key, 1 AS accounts FROM clean WHERE false";
    let nobody = night.over(nobody, &[("clean", night.input("clean_customers")?)]).await?;
    let members = members(night, &nobody).await?;
    ledger(night, &members, &together(night, &members).await?).await.map(drop)
}

/// What golden records depend on beside the accounts.
fn golden_stamp(night: &Night<'_>) -> Result<String, StageError> {
    let names = said_by(night.input("clean_customers")?);
    Ok(fields::stamp(night, &format!("{:?} {names:?}", night.project.identity.golden)))
}

/// The columns of customers that persons have.
fn said_by(clean: &DataFrame) -> Vec<String> {
    let passed = |name: &str| ["account_key", "repaired_by", "repaired_from", "warned_by"].contains(&name);
    clean.schema().fields().iter().map(|f| f.name().clone()).filter(|n| !passed(n)).collect()
}

/// What the accounts say whose person has several.
async fn members(night: &Night<'_>, rows: &DataFrame) -> Result<DataFrame, StageError> {
    let clean = night.input("clean_customers")?;
    let columns: String = said_by(clean).iter().map(|name| format!(", c.{0} AS {0}", quote(name))).collect();
    let query = format!(
        "SELECT r.customer_key, r.accounts, c.account_key{columns} FROM r JOIN clean AS c ON r.account_key = c.account_key"
    );
    night.over(&query, &[("r", rows), ("clean", clean)]).await
}

/// What the accounts of a person say together.
async fn together(night: &Night<'_>, members: &DataFrame) -> Result<DataFrame, StageError> {
    let said = &night.project.identity.golden;
    let clean = night.input("clean_customers")?;
    let names = said_by(clean);
    if let Some(unknown) = said.keys().find(|name| !names.contains(name)) {
        return Err(StageError::Expression {
            place: format!("identity.golden.{unknown}"),
            problem: format!("customers have no column `{unknown}`"),
        });
    }
    let columns: String = names
        .iter()
        .map(|name| {
            let column = quote(name);
            let last = format!(
                "last_value({column} ORDER BY signup_at NULLS FIRST, account_key) FILTER (WHERE {column} IS NOT NULL)"
            );
            format!(", {} AS {column}", said.get(name).map_or(last.as_str(), String::as_str))
        })
        .collect();
    let query = format!("SELECT customer_key, accounts{columns} FROM members GROUP BY customer_key, accounts");
    let error = match night.over(&query, &[("members", members)]).await {
        Ok(frame) => return Ok(frame),
        Err(error) => error,
    };
    for (name, sql) in said {
        let place = format!("identity.golden.{name}");
        let query = |expression: &str| format!("SELECT {expression} FROM members");
        if let Some(error) = blame(night, vec![(place.clone(), sql.clone())], query, &[("members", members)]).await {
            return Err(error);
        }
        let query = format!("SELECT customer_key, {sql} AS value FROM members GROUP BY customer_key");
        if night.over(&query, &[("members", members)]).await.is_err() {
            let problem = format!("`{sql}` is no aggregate over the accounts of a person, such as max({name})");
            return Err(StageError::Expression { place, problem });
        }
    }
    Err(error)
}

/// Of the columns in which accounts of a person differ, whose value the person has.
async fn ledger(night: &Night<'_>, members: &DataFrame, golden: &DataFrame) -> Result<DataFrame, StageError> {
    let names = said_by(night.input("clean_customers")?);
    let value = |of: &str, name: &str| format!("CAST({of}.{} AS VARCHAR)", quote(name));
    let differ: String = names
        .iter()
        .enumerate()
        .map(|(at, name)| format!(", min({0}) <> max({0}) AS d{at}", value("m", name)))
        .collect();
    let query = format!("SELECT m.customer_key AS customer{differ} FROM members AS m GROUP BY m.customer_key");
    let differ = night.over(&query, &[("members", members)]).await?;
    let told: String = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let (mine, theirs) = (value("m", name), value("g", name));
            format!(
                ", CASE WHEN d{at} THEN coalesce({mine} = {theirs}, false) END AS w{at}, {mine} IS NOT NULL AS k{at}"
            )
        })
        .collect();
    let query = format!(
        "SELECT m.customer_key, m.account_key{told} FROM members AS m JOIN golden AS g ON m.customer_key = g.customer_key \
         JOIN differ AS d ON m.customer_key = d.customer"
    );
    let told = night.over(&query, &[("members", members), ("golden", golden), ("differ", &differ)]).await?;
    let told = night.materialised(told, "golden_ledger").await?;
    let columns: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            format!(
                "SELECT customer_key, {} AS \"column\", account_key, w{at} AS won FROM told WHERE w{at} IS NOT NULL AND k{at}",
                text(name)
            )
        })
        .collect();
    night.over(&columns.join(" UNION ALL "), &[("told", &told)]).await
}
