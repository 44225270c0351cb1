//! How well accounts were resolved, in figures.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Float64Array, StringArray},
    prelude::DataFrame,
};

use super::{
    Plan,
    model::Model,
    pairs::{self, BIT, Compared},
    people::Resolved,
};
use crate::{Night, StageError, rows};

/// The figures as rows of `identity_report`.
pub(super) async fn table(
    night: &Night<'_>,
    resolved: &Resolved,
    found: &DataFrame,
    compared: &Compared,
    model: Option<&Model>,
    plan: &Plan<'_>,
    of_nobody: u64,
) -> Result<DataFrame, StageError> {
    let mut all: Vec<(&str, Option<String>, f64, String)> = Vec::new();
    let sizes = resolved.sizes(night).await?;
    let customers: u64 = sizes.values().sum();
    let several: u64 = sizes.iter().filter(|(size, _)| **size > 1).map(|(_, n)| n).sum();
    let merged = resolved.accounts.saturating_sub(customers);
    all.push(("accounts", None, resolved.accounts as f64, format!("{} accounts", resolved.accounts)));
    all.push(("customers", None, customers as f64, format!("{customers} customers")));
    all.push((
        "merged_accounts",
        None,
        merged as f64,
        format!("{merged} accounts are of somebody who has another; {several} customers have several"),
    ));
    if merged > 0 {
        tracing::info!("{} accounts are {customers} customers", resolved.accounts);
    }
    for (size, n) in &sizes {
        all.push((
            "customers_by_accounts",
            Some(size.to_string()),
            *n as f64,
            format!("{n} customers have {size} accounts"),
        ));
    }
    let mut decided: BTreeMap<&str, u64> = ["same", "different", "contradicted"].map(|name| (name, 0)).into();
    for (pair, decision, _) in &resolved.pairs {
        match pair.decided {
            Some(same) if same != (*decision == "same") => *decided.entry("contradicted").or_default() += 1,
            Some(true) => *decided.entry("same").or_default() += 1,
            Some(false) => *decided.entry("different").or_default() += 1,
            None => {}
        }
    }
    let (least, review) = pairs::bounds(night);
    let mut decisions: BTreeMap<String, u64> =
        ["same", "held", "review", "different"].map(|name| (name.to_owned(), 0)).into();
    let mut bands: BTreeMap<i64, u64> = BTreeMap::new();
    let (mut wrong, mut by_rule) = (0, BTreeMap::<String, u64>::new());
    // Probabilities are added up in millionths, so that no order matters.
    let query = format!(
        "SELECT decision, rule, CAST(floor(weight / 5) AS BIGINT) * 5 AS band, count(*) AS n, \
         sum(CASE WHEN weight >= {:?} THEN CAST(round((1 - probability) * 1000000) AS BIGINT) ELSE 0 END) AS wrong \
         FROM pairs GROUP BY decision, rule, 3 ORDER BY decision, rule, band",
        review as f64 / BIT
    );
    let counts = rows::collect(night.over(&query, &[("pairs", found)]).await?).await?;
    let (of, rules) = (rows::texts(&counts, "decision")?, rows::texts(&counts, "rule")?);
    let (of_bands, ns) = (rows::integers(&counts, "band")?, rows::integers(&counts, "n")?);
    let wrongs = rows::integers(&counts, "wrong")?;
    for at in 0..of.len() {
        let (decision, n) = (of[at].clone().unwrap_or_default(), ns[at].unwrap_or(0).unsigned_abs());
        if let Some(band) = of_bands[at] {
            *bands.entry(band).or_default() += n;
        }
        match &rules[at] {
            Some(rule) if decision == "same" => *by_rule.entry(rule.clone()).or_default() += n,
            None if decision == "same" => wrong += wrongs[at].unwrap_or(0),
            _ => {}
        }
        *decisions.entry(decision).or_default() += n;
    }
    let wrong = wrong as f64 / 1e6;
    for (decision, n) in &decisions {
        all.push(("pairs", Some(decision.clone()), *n as f64, format!("{n} pairs: {decision}")));
    }
    for (band, n) in &bands {
        let told = format!("{n} pairs weigh {band} to {} bits; {:.1} are a match", band + 5, least as f64 / BIT);
        all.push(("pairs_by_weight", Some(band.to_string()), *n as f64, told));
    }
    for (rule, n) in by_rule {
        let told = format!("{n} pairs are the same person by {rule}");
        all.push(("pairs_by_rule", Some(rule), n as f64, told));
    }
    if !night.project.identity.decided.is_empty() {
        decided.insert("of nobody", of_nobody);
        for (what, n) in decided {
            let told = match what {
                "contradicted" => format!("{n} decisions of people contradict others and were not followed"),
                "of nobody" => format!("{n} decisions of people are of accounts that are not there"),
                _ => format!("{n} pairs of accounts are {what} by decision of people"),
            };
            if n > 0 && ["contradicted", "of nobody"].contains(&what) {
                tracing::warn!("{told} (identity.decisions)");
            }
            all.push(("decisions", Some(what.to_owned()), n as f64, told));
        }
    }
    let told = format!("of the pairs that are one person by their weight, {wrong:.1} are expected not to be");
    all.push(("expected_false_matches", None, wrong, told));
    if let Some(model) = model {
        for (name, _, holds) in model.contradictions(plan) {
            let told = match holds {
                true => format!("accounts of a contradicting {name} are never one person"),
                false => format!("{name} of one person differs so often here that it contradicts nothing"),
            };
            all.push(("contradiction_holds", Some(name.to_owned()), f64::from(u8::from(holds)), told));
        }
    }
    for (block, [_, _, cut, accounts]) in compared.0.iter().filter(|(_, counts)| counts[2] > 0) {
        let told = format!(
            "{cut} blocks of {block} have more than {} accounts and were cut: {accounts} accounts were compared by other blocks alone",
            night.project.identity.largest_block
        );
        tracing::info!("{told}");
        all.push(("blocks_cut", Some(block.clone()), *cut as f64, told));
    }
    let metrics: ArrayRef = Arc::new(all.iter().map(|r| Some(r.0)).collect::<StringArray>());
    let scopes: ArrayRef = Arc::new(all.iter().map(|r| r.1.clone()).collect::<StringArray>());
    let values: ArrayRef = Arc::new(all.iter().map(|r| Some(r.2)).collect::<Float64Array>());
    let told: ArrayRef = Arc::new(all.iter().map(|r| Some(r.3.clone())).collect::<StringArray>());
    rows::frame(night.engine, vec![("metric", metrics), ("scope", scopes), ("value", values), ("told", told)])
}
