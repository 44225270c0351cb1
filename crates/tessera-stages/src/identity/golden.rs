//! What a person of several accounts is: what these say together, and whose value in which column that is.

use std::collections::BTreeSet;

use datafusion::prelude::DataFrame;
use tessera_engine::formula::{quote, text};

use super::{Changed, fields, pairs};
use crate::{Night, Outcome, StageError, blame};

/// The name under which it is kept by which rules golden records were made.
const GOLDEN: &str = "golden";

/// What persons of several accounts are, and whose values that are: of those of whom nothing changed, what the parent night said. `moved` are the
/// accounts whose person is another, or has more or fewer accounts.
pub(super) async fn golden(
    night: &Night<'_>,
    rows: &DataFrame,
    changed: Option<&Changed>,
    moved: &BTreeSet<String>,
    outcome: &mut Outcome,
) -> Result<(DataFrame, DataFrame), StageError> {
    let stamp = golden_stamp(night)?;
    let previous = |name: &str| night.previous.get(name);
    let stood = night.kept.get(GOLDEN).is_some_and(|kept| kept.stamp == stamp);
    let known = match (changed, previous("golden_records"), previous("golden_ledger"), stood) {
        (Some(changed), Some(records), Some(ledger), true) => Some((changed, records, ledger)),
        _ => None,
    };
    if night.folders.is_some() {
        outcome.stamps.insert(GOLDEN.to_owned(), stamp);
    }
    let Some((changed, records, before)) = known else {
        let members = scratch(night, members(night, rows).await?, "members").await?;
        let golden = scratch(night, together(night, &members).await?, "golden").await?;
        let ledger = ledger(night, &members, &golden).await?;
        return Ok((golden, ledger));
    };
    // Whoever has an account that is new in it, gone, or says something else.
    let moved = pairs::keyed(night, moved).await?;
    let query = "SELECT DISTINCT r.customer_key FROM r JOIN \
                 (SELECT account_key FROM moved UNION SELECT account_key FROM changed) AS m \
                 ON r.account_key = m.account_key WHERE r.accounts > 1";
    let anew = night.over(query, &[("r", rows), ("moved", &moved), ("changed", &changed.frame)]).await?;
    let anew = scratch(night, anew, "anew").await?;
    let query = "SELECT r.* FROM r JOIN anew AS a ON r.customer_key = a.customer_key";
    let theirs = night.over(query, &[("r", rows), ("anew", &anew)]).await?;
    let members = scratch(night, members(night, &theirs).await?, "members").await?;
    let made = scratch(night, together(night, &members).await?, "golden").await?;
    let ledger = ledger(night, &members, &made).await?;
    let query = "SELECT DISTINCT r.customer_key FROM r LEFT ANTI JOIN anew AS a \
                 ON r.customer_key = a.customer_key WHERE r.accounts > 1";
    let stay = scratch(night, night.over(query, &[("r", rows), ("anew", &anew)]).await?, "stay").await?;
    let of = async |before: &DataFrame, made: &DataFrame| {
        let columns: Vec<_> = made.schema().fields().iter().map(|f| quote(f.name())).collect();
        let kept: Vec<_> = columns.iter().map(|column| format!("b.{column}")).collect();
        let query = format!(
            "SELECT {} FROM stay AS s JOIN before AS b ON s.customer_key = b.customer_key UNION ALL SELECT {} FROM made",
            kept.join(", "),
            columns.join(", ")
        );
        night.over(&query, &[("stay", &stay), ("before", before), ("made", made)]).await
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

/// The rows, written once.
async fn scratch(night: &Night<'_>, frame: DataFrame, name: &str) -> Result<DataFrame, StageError> {
    match night.folders {
        Some(_) => Ok(night.engine.materialise(frame, name).await?),
        None => Ok(frame),
    }
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
        "SELECT r.customer_key, r.accounts, c.account_key{columns} FROM r JOIN clean AS c ON r.account_key = c.account_key \
         WHERE r.accounts > 1"
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
    let entries = said.iter().map(|(name, sql)| (format!("identity.golden.{name}"), sql.clone())).collect();
    let query = |expression: &str| format!("SELECT {expression} FROM members");
    Err(blame(night, entries, query, &[("members", members)]).await.unwrap_or(error))
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
    let mut told = night.over(&query, &[("members", members), ("golden", golden), ("differ", &differ)]).await?;
    if night.folders.is_some() {
        told = night.engine.materialise(told, "golden_ledger").await?;
    }
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
