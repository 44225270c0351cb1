//! How well accounts were resolved, in figures.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Float64Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::fellegi_sunter;

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
    compared: &Compared,
    model: Option<&Model>,
    plan: &Plan<'_>,
) -> Result<DataFrame, StageError> {
    let mut all: Vec<(&str, Option<String>, f64, String)> = Vec::new();
    let sizes = resolved.sizes();
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
    for (size, n) in &sizes {
        all.push((
            "customers_by_accounts",
            Some(size.to_string()),
            *n as f64,
            format!("{n} customers have {size} accounts"),
        ));
    }
    let (least, review) = pairs::bounds(night);
    let mut decisions: BTreeMap<&str, u64> = ["same", "held", "review", "different"].map(|name| (name, 0)).into();
    let mut bands: BTreeMap<i64, u64> = BTreeMap::new();
    let (mut wrong, mut by_rule) = (0.0, BTreeMap::<String, u64>::new());
    for (pair, decision, _) in &resolved.pairs {
        *decisions.entry(decision).or_default() += 1;
        if pair.weight > i64::MIN {
            *bands.entry(pair.weight.div_euclid(5 * BIT as i64) * 5).or_default() += 1;
        }
        if *decision == "same" {
            match &pair.rule {
                Some(rule) => *by_rule.entry(rule.clone()).or_default() += 1,
                None if pair.weight >= review => wrong += 1.0 - fellegi_sunter::probability(pair.weight as f64 / BIT),
                None => {}
            }
        }
    }
    for (decision, n) in &decisions {
        all.push(("pairs", Some((*decision).to_owned()), *n as f64, format!("{n} pairs: {decision}")));
    }
    for (band, n) in &bands {
        let told = format!("{n} pairs weigh {band} to {} bits; {:.1} are a match", band + 5, least as f64 / BIT);
        all.push(("pairs_by_weight", Some(band.to_string()), *n as f64, told));
    }
    for (rule, n) in by_rule {
        let told = format!("{n} pairs are the same person by {rule}");
        all.push(("pairs_by_rule", Some(rule), n as f64, told));
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
