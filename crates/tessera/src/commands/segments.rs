//! `segments export`: the segments for use elsewhere, in people's units.

use anyhow::Result;
use serde_json::json;

use super::query::Tables;
use crate::{
    chain::{floats, texts},
    cli::RulesAs,
    context::Context,
    errors::Usage,
    reader::Scope,
    show,
};

/// Prints the rules of a night.
pub async fn export(context: &Context, form: RulesAs, as_of: Option<String>, snapshot: Option<String>) -> Result<()> {
    let history = context.lake.registry().history().await?;
    let record = match (&as_of, &snapshot) {
        (Some(date), _) => history.of_night(&context.night(date)?.to_string()),
        (None, Some(id)) => history.get(id),
        (None, None) => history.newest(),
    };
    let record = record.ok_or_else(|| {
        Usage("there is no such night; `tessera snapshots list` shows which are published".to_owned())
    })?;
    let tables = Tables::open(context, &Scope::Snapshot(record.snapshot_id.clone()), false).await?;
    if !tables.has("segment_rules") {
        return Err(Usage("that night is of a program that made no rules yet".to_owned()).into());
    }
    let query = "SELECT CAST(r.segment_id AS VARCHAR) AS id, n.segment_name, r.\"condition\", CAST(r.customers AS DOUBLE) AS fit, CAST(r.members AS DOUBLE) AS own, \
                 r.\"precision\", r.recall, r.elsewhere, r.\"sql\" FROM segment_rules AS r \
                 LEFT JOIN (SELECT DISTINCT segment_id, segment_name FROM model) AS n ON n.segment_id = r.segment_id \
                 ORDER BY r.segment_id, r.customers DESC, r.\"rule\"";
    let mut rules = Vec::new();
    for batch in tables.collect(query).await? {
        let text = |at: usize| texts(&batch, at);
        let (ids, names, conditions, sql) = (text(0)?, text(1)?, text(2)?, text(8)?);
        let numbers = (3..8).map(|at| floats(&batch, at)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let number = |at: usize| numbers[at][row];
            rules.push(Rule {
                segment: ids[row].clone().unwrap_or_default(),
                name: names[row].clone().unwrap_or_default(),
                condition: conditions[row].clone().unwrap_or_default(),
                customers: number(0).unwrap_or(0.0),
                members: number(1).unwrap_or(0.0),
                precision: number(2),
                recall: number(3),
                elsewhere: number(4).unwrap_or(0.0),
                sql: sql[row].clone().unwrap_or_default(),
            });
        }
    }
    let Some(first) = rules.first() else {
        return Err(
            Usage("the segments of that night are of sensitive features only, which no rule tells".to_owned()).into()
        );
    };
    let night = &record.content.as_of;
    match form {
        RulesAs::Sql => {
            println!(
                "-- Segments of the night of {night} (snapshot {}) by a small tree over `features`.",
                record.snapshot_id
            );
            println!(
                "-- It places {:.1} % of the customers in another segment than the model does.",
                100.0 * first.elsewhere
            );
            println!("SELECT customer_key, {} AS segment_id FROM features", first.sql);
        }
        RulesAs::Rules => {
            let mut table = show::plain();
            table.add_row(["segment", "rule", "customers", "of them its members", "of its members"].map(str::to_owned));
            let percent =
                |share: Option<f64>| share.map_or("none".to_owned(), |share| format!("{:.1} %", 100.0 * share));
            for rule in &rules {
                table.add_row([
                    format!("{} {}", rule.segment, show::printable(&rule.name)),
                    show::printable(&rule.condition).into_owned(),
                    show::in_unit(rule.customers, "customers"),
                    percent(rule.precision),
                    percent(rule.recall),
                ]);
            }
            println!(
                "night of {night}; the rules place {:.1} % of the customers elsewhere\n{table}",
                100.0 * first.elsewhere
            );
        }
        RulesAs::Json => {
            let each = rules.iter().map(|rule| {
                json!({
                    "segment_id": rule.segment.parse::<i64>().ok(), "segment_name": rule.name, "condition": rule.condition,
                    "customers": rule.customers, "members": rule.members, "precision": rule.precision, "recall": rule.recall,
                })
            });
            let told = json!({
                "as_of": night, "snapshot_id": record.snapshot_id, "elsewhere": first.elsewhere, "sql": first.sql,
                "rules": each.collect::<Vec<_>>(),
            });
            println!("{told}");
        }
    }
    Ok(())
}

struct Rule {
    segment: String,
    name: String,
    condition: String,
    customers: f64,
    members: f64,
    precision: Option<f64>,
    recall: Option<f64>,
    elsewhere: f64,
    sql: String,
}
